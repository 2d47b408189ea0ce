"""Who signs tokens in tests: right ones, and such as no library would make."""

import base64
import hashlib
import hmac
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import get_default_algorithms

from app.receive.auth.key_set import KeySet, parse_key_set
from app.receive.auth.tokens import TokenRules

NOW = 1_800_000_000.0
ISSUER = "https://project.test/auth/v1"
RULES = TokenRules(audience="authenticated", issuer=ISSUER)
SECRET = "a legacy secret of a project, made for tests"


def segment(data: bytes) -> str:
    """Return bytes as a part of a token."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def as_json(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def claims(now: float = NOW, **changes: Any) -> dict[str, Any]:
    """Return a signed-in user's claims as Supabase Auth makes them; a change to None leaves one out."""
    usual = {
        "iss": ISSUER,
        "sub": "6f2f8b0e-1111-4000-8000-000000000001",
        "aud": "authenticated",
        "exp": int(now) + 3600,
        "iat": int(now),
        "email": "ann@example.test",
        "role": "authenticated",
        "user_metadata": {"admin": True},
    }
    return {name: value for name, value in (usual | changes).items() if value is not None}


def assembled(header: bytes, payload: bytes, signature: bytes) -> str:
    return f"{segment(header)}.{segment(payload)}.{segment(signature)}"


def hmac_token(secret: bytes, header: Mapping[str, Any], payload: Mapping[str, Any]) -> str:
    """Return a token that an HMAC signs, whatever the secret and whatever the header says."""
    text = f"{segment(as_json(header))}.{segment(as_json(payload))}"
    return f"{text}.{segment(hmac.digest(secret, text.encode(), hashlib.sha256))}"


@dataclass(frozen=True)
class Signer:
    """A key pair of the project's."""

    algorithm: str
    kid: str
    private: Any

    def jwk(self, **changes: Any) -> dict[str, Any]:
        """Return the public key as it is published; a change to None leaves a member out."""
        known = get_default_algorithms()[self.algorithm].to_jwk(self.private.public_key(), as_dict=True)
        known = {name: value for name, value in known.items() if name != "key_ops"}
        members = known | {"kid": self.kid, "alg": self.algorithm, "use": "sig", "key_ops": ["verify"], "ext": True}
        return {name: value for name, value in (members | changes).items() if value is not None}

    def raw(self, header: bytes, payload: bytes) -> str:
        """Return a token of these very bytes, rightly signed."""
        text = f"{segment(header)}.{segment(payload)}"
        signature = get_default_algorithms()[self.algorithm].sign(text.encode(), self.private)
        return f"{text}.{segment(signature)}"

    def token(self, payload: Mapping[str, Any] | None = None, **header: Any) -> str:
        """Return a token; a header of None is left out."""
        members = {"alg": self.algorithm, "kid": self.kid, "typ": "JWT", **header}
        members = {name: value for name, value in members.items() if value is not None}
        return self.raw(as_json(members), as_json(claims() if payload is None else payload))

    def public_texts(self) -> Sequence[bytes]:
        """Return every spelling of the public key that somebody may take for a secret."""
        public = self.private.public_key()
        raw = [public.public_bytes(Encoding.Raw, PublicFormat.Raw)] if self.algorithm == "EdDSA" else []
        pem = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        der = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        jwk = self.jwk()
        return [pem, pem.strip(), der, as_json(jwk), json.dumps(jwk).encode(), as_json({"keys": [jwk]}), *raw]


@cache
def signer(algorithm: str = "ES256", kid: str = "first") -> Signer:
    """Return the one pair of this name."""
    match algorithm:
        case "ES256":
            private: Any = ec.generate_private_key(ec.SECP256R1())
        case "RS256":
            private = rsa.generate_private_key(65537, 2048)
        case _:
            private = ed25519.Ed25519PrivateKey.generate()
    return Signer(algorithm, kid, private)


def published(*jwks: Mapping[str, Any]) -> bytes:
    """Return a published key set."""
    return json.dumps({"keys": list(jwks)}).encode()


def key_set(*signers: Signer, secret: str | None = None) -> KeySet:
    return parse_key_set(published(*(each.jwk() for each in signers)), secret)
