"""The keys that may have signed a token, each with the one algorithm that it is for. Pure.

A key set is a JWK Set (RFC 7517), as Supabase Auth publishes it, or a project's legacy secret. The algorithm is decided
here, by a key's own kind, and never by a token: a token signed with a public key as the secret of an HMAC finds no key
that is for HMACs, because a published set never yields one.
"""

import base64
import json
from dataclasses import dataclass
from typing import Any

from jwt import PyJWK
from jwt.exceptions import PyJWTError

MAX_KEYS = 16
"""A project publishes two or three. A token without `kid` is tried with each key of its algorithm."""
LEGACY_ALGORITHM = "HS256"
_ALGORITHMS = {("EC", "P-256"): "ES256", ("RSA", None): "RS256", ("OKP", "Ed25519"): "EdDSA"}
_PUBLIC_MEMBERS = ("kty", "crv", "x", "y", "n", "e")


class WrongKeySetError(ValueError):
    """What should be a key set is none; the text is a bounded word."""


class KeyMismatchError(Exception):
    """No key fits a token. `unknown`: a newer key set may have one."""

    def __init__(self, *, unknown: bool) -> None:
        super().__init__("unknown_key" if unknown else "algorithm")
        self.unknown = unknown


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyKey:
    """A key, bound to its algorithm. Without `kid` it may be any token's, as the legacy secret is."""

    kid: str | None
    material: PyJWK

    @property
    def algorithm(self) -> str:
        """What it is for."""
        return self.material.algorithm_name


@dataclass(frozen=True, slots=True, kw_only=True)
class KeySet:
    """Keys, and the text they were read from, by which a set is known again."""

    keys: tuple[VerifyKey, ...]
    source: bytes = b""

    def fitting(self, kid: str | None, algorithm: str) -> tuple[VerifyKey, ...]:
        """Return the keys that a token with this `kid` may be signed with, if it says so with the right algorithm.

        Raises:
            KeyMismatchError: there is none.
        """
        named = self.keys if kid is None else tuple(key for key in self.keys if key.kid == kid)
        if not named:
            named = tuple(key for key in self.keys if key.kid is None and key.algorithm == algorithm)
            if not named:
                raise KeyMismatchError(unknown=True)
        fitting = tuple(key for key in named if key.algorithm == algorithm)
        if not fitting:
            raise KeyMismatchError(unknown=False)
        return fitting


def legacy_key_set(secret: str | None) -> KeySet:
    """Return the set of a project's legacy secret; without a secret, one that verifies nothing."""
    if not secret:
        return KeySet(keys=())
    encoded = base64.urlsafe_b64encode(secret.encode()).rstrip(b"=").decode()
    material = PyJWK({"kty": "oct", "k": encoded}, LEGACY_ALGORITHM)
    return KeySet(keys=(VerifyKey(kid=None, material=material),))


def parse_key_set(body: bytes, secret: str | None = None) -> KeySet:
    """Return the keys of a JWK Set that we can use, in its order; of an empty list, the legacy secret's set.

    Keys for encryption, of other kinds, too short or broken are left out. A list of nothing but such keys is not empty:
    who publishes keys has left the secret behind.

    Raises:
        WrongKeySetError: it is no JWK Set.
    """
    try:
        keys = json.loads(body)["keys"]
    except (ValueError, RecursionError) as exc:
        raise WrongKeySetError("not_json") from exc
    except (KeyError, TypeError, IndexError) as exc:
        raise WrongKeySetError("no_keys_member") from exc
    if not isinstance(keys, list):
        raise WrongKeySetError("no_keys_member")
    if not keys:
        return KeySet(keys=legacy_key_set(secret).keys, source=body)
    usable = filter(None, map(_usable, keys[:MAX_KEYS]))
    return KeySet(keys=tuple(usable), source=body)


def _usable(jwk: Any) -> VerifyKey | None:
    if not isinstance(jwk, dict) or not _for_signatures(jwk):
        return None
    kid, algorithm = jwk.get("kid"), _algorithm(jwk)
    if algorithm is None or not isinstance(kid, str | None):
        return None
    try:
        public = {name: jwk[name] for name in _PUBLIC_MEMBERS if name in jwk}
        material = PyJWK(public, algorithm)
        return None if material.Algorithm.check_key_length(material.key) else VerifyKey(kid=kid, material=material)
    except (PyJWTError, ValueError, TypeError, AttributeError, OverflowError):  # whatever a broken number leads to
        return None


def _for_signatures(jwk: dict[str, Any]) -> bool:
    operations = jwk.get("key_ops", ["verify"])
    return jwk.get("use", "sig") == "sig" and isinstance(operations, list) and "verify" in operations


def _algorithm(jwk: dict[str, Any]) -> str | None:
    kind, curve = jwk.get("kty"), jwk.get("crv")
    if not isinstance(kind, str) or not isinstance(curve, str | None):
        return None
    algorithm = _ALGORITHMS.get((kind, curve))
    return algorithm if jwk.get("alg", algorithm) == algorithm else None
