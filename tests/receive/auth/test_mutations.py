"""A token that was changed in whatever way is refused, by a bounded reason and by nothing else."""

import base64
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.receive.auth.key_set import WrongKeySetError, legacy_key_set, parse_key_set
from app.receive.auth.tokens import REASONS, TokenRefusal, bearer, verify
from tests.receive.auth.signing import NOW, RULES, SECRET, as_json, claims, hmac_token, key_set, segment, signer

KEYS = {name: key_set(signer(name)) for name in ("ES256", "RS256", "EdDSA")} | {"HS256": legacy_key_set(SECRET)}
TOKENS = {name: signer(name).token() for name in ("ES256", "RS256", "EdDSA")} | {
    "HS256": hmac_token(SECRET.encode(), {"alg": "HS256", "typ": "JWT"}, claims())
}
JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)
EXAMPLES = 60
"""Of each property in a normal run; `make soak` has the long one."""
ALPHABET = st.sampled_from("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.=+/ \n\0é")


def refused(token: str, algorithm: str) -> None:
    with pytest.raises(TokenRefusal) as caught:
        verify(bearer(f"Bearer {token}"), KEYS[algorithm], RULES, NOW)
    assert caught.value.reason in REASONS


@st.composite
def edited(draw: st.DrawFn) -> tuple[str, str]:
    """Characters put in, taken out, put in place of others, or whole stretches moved."""
    algorithm = draw(st.sampled_from(sorted(TOKENS)))
    token = TOKENS[algorithm]
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(token)))
        end = draw(st.integers(start, min(len(token), start + draw(st.sampled_from([1, 2, 30])))))
        token = token[:start] + draw(st.text(ALPHABET, max_size=3)) + token[end:]
    return algorithm, token


@settings(max_examples=EXAMPLES, deadline=None)
@given(edited())
def test_no_edited_token_verifies(case: tuple[str, str]) -> None:
    """Only the very characters that were signed do (spaces around a header's value are not the token's)."""
    algorithm, token = case
    if token.strip(" ") != TOKENS[algorithm]:
        refused(token, algorithm)


@pytest.mark.soak
@settings(max_examples=20_000, deadline=None)
@given(edited())
def test_of_many_edited_tokens_none_verifies(case: tuple[str, str]) -> None:
    """The same, for long."""
    algorithm, token = case
    if token.strip(" ") != TOKENS[algorithm]:
        refused(token, algorithm)


@settings(max_examples=EXAMPLES, deadline=None)
@given(st.sampled_from(sorted(TOKENS)), st.integers(0, 2), st.data())
def test_no_flipped_bit_verifies(algorithm: str, part: int, data: st.DataObject) -> None:
    """In header, claims or signature, below their encoding."""
    parts = TOKENS[algorithm].split(".")
    raw = bytearray(base64.urlsafe_b64decode(parts[part] + "=" * (-len(parts[part]) % 4)))
    bit = data.draw(st.integers(0, len(raw) * 8 - 1))
    raw[bit // 8] ^= 1 << bit % 8
    parts[part] = segment(bytes(raw))
    refused(".".join(parts), algorithm)


@settings(max_examples=EXAMPLES, deadline=None)
@given(st.sampled_from(sorted(TOKENS)), st.dictionaries(st.sampled_from(["alg", "kid", "jwk", "crit", "b64"]), JSON))
def test_no_other_header_over_an_old_signature_verifies(algorithm: str, changes: dict[str, Any]) -> None:
    """Whatever the header is made to say."""
    head, payload, signature = TOKENS[algorithm].split(".")
    changed = segment(as_json({"alg": algorithm, "kid": "first", **changes}))
    if changed != head:
        refused(f"{changed}.{payload}.{signature}", algorithm)


@settings(max_examples=EXAMPLES, deadline=None)
@given(st.dictionaries(st.sampled_from(["exp", "nbf", "iat", "iss", "aud", "sub"]), JSON))
def test_odd_claims_are_judged_and_nothing_breaks(changes: dict[str, Any]) -> None:
    """Rightly signed: either the claims are as they must be, or there is a reason."""
    token = signer().token({**claims(), **changes})
    try:
        verified = verify(token, KEYS["ES256"], RULES, NOW)
    except TokenRefusal as refusal:
        assert refusal.reason in REASONS
    else:
        assert verified.subject == {**claims(), **changes}["sub"]


@settings(max_examples=EXAMPLES, deadline=None)
@given(st.lists(st.dictionaries(st.sampled_from(["kty", "crv", "x", "y", "n", "e", "alg", "kid", "use", "key_ops"]),
    JSON | st.sampled_from(["EC", "RSA", "OKP", "P-256", "Ed25519", "AQAB", "sig", "oct"])), max_size=3))  # fmt: skip
def test_odd_key_sets_are_judged_and_nothing_breaks(jwks: list[Any]) -> None:
    """The task that fetches keys ends with what it does not expect, so nothing may be unexpected."""
    try:
        keys = parse_key_set(as_json({"keys": jwks}), None).keys
    except WrongKeySetError:
        keys = ()
    assert {key.algorithm for key in keys} <= {"ES256", "RS256", "EdDSA"}
