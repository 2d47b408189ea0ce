"""A token, verified: whose it is, and until when. Pure.

PyJWT checks the signature, with a key that is bound to its algorithm; the rest is decided here, by RFC 7515, 7519 and
8725. A token says nothing about how it is to be verified: of its header, `alg` must be what the key is for, `kid` is a
look-up among our own keys, `crit` is refused, and the rest (`jku`, `jwk`, `x5u`, `x5c`) is not read.
"""

import base64
import binascii
import json
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NoReturn, get_args

import jwt
from jwt.exceptions import PyJWTError

from app.receive.auth.key_set import LEGACY_ALGORITHM, KeyMismatchError, KeySet

MAX_TOKEN_CHARS = 8192
"""Supabase's are about 1 kB; whoever adds claims of their own stays within what proxies take as a header."""
SKEW_S = 30.0
"""Clocks may differ by so much; PostgREST allows the same."""
SUBJECT = re.compile(r"[\x21-\x7e]{1,255}")
"""OpenID Connect Core 1.0, 2: at most 255 ASCII characters."""

Reason = Literal[
    "missing", "scheme", "too_long", "malformed", "crit", "algorithm", "unknown_key", "signature", "no_expiry",
    "expired", "not_yet_valid", "issued_in_future", "issuer", "audience", "subject", "unknown_user",
]  # fmt: skip
"""Why somebody is not let in. For the log; never sent."""
REASONS: Sequence[Reason] = get_args(Reason)

_COMPACT = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*")
_ALGORITHMS = ("ES256", "RS256", "EdDSA", LEGACY_ALGORITHM)
_SIGNATURES = jwt.PyJWS(algorithms=_ALGORITHMS)


class TokenRefusal(Exception):
    """Somebody is not let in. `newer_keys`: a key set newer than the one that was asked may change that."""

    def __init__(self, reason: Reason, *, newer_keys: bool = False) -> None:
        super().__init__(reason)
        self.reason: Reason = reason
        self.newer_keys = newer_keys


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRules:
    """What a token must say. `issuer` is None where there is none to compare with: a bare secret has no URL."""

    audience: str
    issuer: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """Whose a token is, and until when: seconds since 1970, its own word, without skew."""

    subject: str
    expires: float


def bearer(authorization: str) -> str:
    """Return the token of an `Authorization` header, unread.

    Raises:
        TokenRefusal: there is none, or one that is too long to be read.
    """
    scheme, _, rest = authorization.partition(" ")
    token = rest.strip(" ")
    if not authorization or not token:
        raise TokenRefusal("missing")
    if scheme.lower() != "bearer":
        raise TokenRefusal("scheme")
    if len(token) > MAX_TOKEN_CHARS:
        raise TokenRefusal("too_long")
    return token


def verify(token: str, keys: KeySet, rules: TokenRules, now: float) -> Verified:
    """Return whose a token is.

    Args:
        token: in compact form, of at most `MAX_TOKEN_CHARS`.
        keys: those of them that may have signed it decide how it is verified.
        rules: whom it must be from, and for.
        now: seconds since 1970.

    Raises:
        TokenRefusal: it is not to be trusted.
    """
    if len(token) > MAX_TOKEN_CHARS:
        raise TokenRefusal("too_long")
    if not _COMPACT.fullmatch(token):
        raise TokenRefusal("malformed")
    header = _json_object(_decoded(token.partition(".")[0]))
    claims = _json_object(_signed(token, header, keys))
    _check_times(claims, now)
    if rules.issuer is not None and claims.get("iss") != rules.issuer:
        raise TokenRefusal("issuer")
    if not _is_for(claims.get("aud"), rules.audience):
        raise TokenRefusal("audience")
    subject = claims.get("sub")
    if not isinstance(subject, str) or not SUBJECT.fullmatch(subject):
        raise TokenRefusal("subject")
    return Verified(subject=subject, expires=float(min(claims["exp"], 2**53)))


def mint(subject: str, secret: str, rules: TokenRules, *, now: float, valid_s: float) -> str:
    """Return a token for a user as Supabase Auth made them with the legacy secret.

    Raises:
        ValueError: no token can be for such a user.
    """
    if not SUBJECT.fullmatch(subject):
        raise ValueError("must be 1 to 255 ASCII characters without a space")
    claims = {"sub": subject, "aud": rules.audience, "role": "authenticated", "iat": int(now)}
    claims["exp"] = math.ceil(now + valid_s)
    if rules.issuer is not None:
        claims["iss"] = rules.issuer
    return jwt.encode(claims, secret, LEGACY_ALGORITHM)


def _signed(token: str, header: dict[str, Any], keys: KeySet) -> bytes:
    """Return the payload of a token whose signature is that of one of our keys."""
    kid, algorithm = header.get("kid"), header.get("alg")
    if "crit" in header:
        raise TokenRefusal("crit")
    if not isinstance(kid, str | None):
        raise TokenRefusal("malformed")
    if algorithm not in _ALGORITHMS:
        raise TokenRefusal("algorithm")
    try:
        fitting = keys.fitting(kid, algorithm)
    except KeyMismatchError as mismatch:
        reason: Reason = "unknown_key" if mismatch.unknown else "algorithm"
        raise TokenRefusal(reason, newer_keys=mismatch.unknown) from None
    for key in fitting:
        try:
            payload: bytes = _SIGNATURES.decode(token, key.material, [key.algorithm])
        except (PyJWTError, ValueError, RecursionError):
            continue
        return payload
    raise TokenRefusal("signature")


def _decoded(segment: str) -> bytes:
    try:
        return base64.b64decode(segment + "=" * (-len(segment) % 4), altchars=b"-_", validate=True)
    except binascii.Error:
        raise TokenRefusal("malformed") from None


def _json_object(text: bytes) -> dict[str, Any]:
    try:
        value = json.loads(text.decode(), object_pairs_hook=_unique, parse_constant=_refuse)
    except (ValueError, RecursionError):
        raise TokenRefusal("malformed") from None
    if not isinstance(value, dict):
        raise TokenRefusal("malformed")
    return value


def _unique(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object no key of which comes twice: of two readers, each could believe another one (RFC 8725, 2.4)."""
    listed = list(pairs)
    found = dict(listed)
    if len(found) != len(listed):
        raise ValueError("a key comes twice")
    return found


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON")


def _check_times(claims: dict[str, Any], now: float) -> None:
    times = {name: claims[name] for name in ("exp", "nbf", "iat") if name in claims}
    if not all(isinstance(time, int | float) and not isinstance(time, bool) for time in times.values()):
        raise TokenRefusal("malformed")
    if "exp" not in times:
        raise TokenRefusal("no_expiry")
    if now - SKEW_S >= times["exp"]:  # compared, not added to: a number may be too large for a float
        raise TokenRefusal("expired")
    if times.get("nbf", now) > now + SKEW_S:
        raise TokenRefusal("not_yet_valid")
    if times.get("iat", now) > now + SKEW_S:
        raise TokenRefusal("issued_in_future")


def _is_for(audience: Any, wanted: str) -> bool:
    if isinstance(audience, list):
        return all(isinstance(one, str) for one in audience) and wanted in audience
    return isinstance(audience, str) and audience == wanted
