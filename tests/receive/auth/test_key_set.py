"""What is read out of a published key set, and what is not."""

import json
from typing import Any

import pytest

from app.receive.auth.key_set import MAX_KEYS, WrongKeySetError, parse_key_set
from tests.receive.auth.signing import SECRET, published, segment, signer

EC = signer().jwk()
RSA = signer("RS256").jwk()
OKP = signer("EdDSA").jwk()


def algorithms(*jwks: dict[str, Any], secret: str | None = SECRET) -> list[str]:
    return [key.algorithm for key in parse_key_set(published(*jwks), secret).keys]


def test_each_key_is_for_the_algorithm_of_its_kind() -> None:
    """Also where the key does not name one, nor its use."""
    bare = [signer(name).jwk(alg=None, use=None, key_ops=None) for name in ("ES256", "RS256", "EdDSA")]
    assert algorithms(*bare) == algorithms(EC, RSA, OKP) == ["ES256", "RS256", "EdDSA"]


def test_an_empty_list_means_the_legacy_secret() -> None:
    """And nothing at all where there is no secret."""
    assert algorithms() == ["HS256"]
    assert algorithms(secret=None) == []


UNUSABLE: dict[str, Any] = {
    "for encryption": signer().jwk(use="enc"),
    "for encryption, by its operations": signer().jwk(key_ops=["encrypt"]),
    "operations that are no list": signer().jwk(key_ops="verify"),
    "a secret": {"kty": "oct", "k": segment(b"x" * 40), "alg": "HS256", "kid": "x"},
    "a secret without an algorithm": {"kty": "oct", "k": segment(b"x" * 40)},
    "an EC key that says HS256": signer().jwk(alg="HS256"),
    "an RSA key that says none": signer("RS256").jwk(alg="none"),
    "an RSA key that says ES256": signer("RS256").jwk(alg="ES256"),
    "an algorithm that is a list": signer().jwk(alg=["ES256"]),
    "another curve": signer().jwk(crv="P-384", alg=None),
    "a curve that is a list": signer().jwk(crv=["P-256"]),
    "no kind": signer().jwk(kty=None),
    "a kind that is a list": signer().jwk(kty=["EC"]),
    "a kid that is a number": signer().jwk(kid=7),
    "a point off the curve": signer().jwk(x=segment(b"\1" * 32)),
    "half a point": signer().jwk(y=None),
    "a point that is a number": signer().jwk(x=7),
    "an RSA key of 512 bits": signer("RS256").jwk(n=segment(b"\xc1" * 64)),
    "an RSA key without a modulus": signer("RS256").jwk(n=""),
    "an exponent that is even": signer("RS256").jwk(e=segment(b"\2")),
    "an Ed25519 key that is too short": signer("EdDSA").jwk(x=segment(b"x")),
    "nothing": {},
    "null": None,
    "a text": "key",
    "a list": [EC],
}


@pytest.mark.parametrize("jwk", UNUSABLE.values(), ids=UNUSABLE)
def test_a_key_that_is_not_for_us_is_left_out(jwk: Any) -> None:
    """The others count; and a list of nothing else is not empty, so the secret does not come back."""
    assert algorithms(jwk, EC) == ["ES256"]
    assert algorithms(jwk) == []


def test_a_private_key_that_is_published_is_read_as_its_public_half() -> None:
    """What should not be there is not looked at."""
    leaked = EC | {"d": segment(b"\1" * 32)}
    (key,) = parse_key_set(published(leaked)).keys
    assert not hasattr(key.material.key, "private_numbers")


@pytest.mark.parametrize(
    "body",
    [b"", b"<html>502</html>", b"{", b"\xff\xfe", b"[" * 100_000, b"null", b"[]", b'"keys"', b"7", b"{}",
     b'{"keys": null}', b'{"keys": {}}', b'{"keys": "x"}', b'{"error": "x"}'],
    ids=lambda body: body[:20].decode("latin-1"),
)  # fmt: skip
def test_what_is_no_key_set_is_told(body: bytes) -> None:
    """It is never taken for an empty list, which would bring the legacy secret back."""
    with pytest.raises(WrongKeySetError):
        parse_key_set(body, SECRET)


def test_a_set_is_bounded() -> None:
    """No more keys are tried than a project could mean."""
    many = [signer().jwk(kid=str(number)) for number in range(MAX_KEYS + 5)]
    assert len(parse_key_set(json.dumps({"keys": many}).encode()).keys) == MAX_KEYS
