"""Which tokens are trusted: one by one, on the rules of RFC 7515, 7519 and 8725."""

import json
from collections.abc import Mapping
from typing import Any

import pytest

from app.receive.auth.key_set import KeySet, legacy_key_set
from app.receive.auth.tokens import MAX_TOKEN_CHARS, SKEW_S, TokenRefusal, TokenRules, bearer, mint, verify
from tests.receive.auth.signing import (
    ISSUER,
    NOW,
    RULES,
    SECRET,
    Signer,
    as_json,
    assembled,
    claims,
    hmac_token,
    key_set,
    segment,
    signer,
)

ANN = claims()["sub"]
ALGORITHMS = ["ES256", "RS256", "EdDSA"]
HS256 = {"alg": "HS256", "typ": "JWT"}


def reason(token: str, keys: KeySet | None = None, rules: TokenRules = RULES, now: float = NOW) -> str:
    """Return why a token is refused."""
    with pytest.raises(TokenRefusal) as caught:
        verify(token, keys or key_set(signer()), rules, now)
    return caught.value.reason


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_token_of_the_projects_is_its_users(algorithm: str) -> None:
    """Each of the three kinds of keys verifies; the subject is the user, and nothing that users can edit counts."""
    verified = verify(signer(algorithm).token(), key_set(signer(algorithm)), RULES, NOW)
    assert (verified.subject, verified.expires) == (ANN, NOW + 3600)


@pytest.mark.parametrize("kid", [None, "first", "any"])
def test_a_legacy_token_is_its_users(kid: str | None) -> None:
    """The secret has no `kid`; Supabase writes one into such tokens all the same."""
    token = hmac_token(SECRET.encode(), HS256 | ({"kid": kid} if kid else {}), claims())
    assert verify(token, legacy_key_set(SECRET), RULES, NOW).subject == ANN


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("said", ["none", "None", "NONE", "nOnE", "", None, 0, ["none"], {"none": 1}, "HS1", " none"])
def test_a_token_without_a_signature_is_refused(algorithm: str, said: Any) -> None:
    """Whatever spelling of `none`, with no signature, any signature, or the right one."""
    header = as_json({"alg": said, "kid": "first"})
    for token in (
        assembled(header, as_json(claims()), b""),
        assembled(header, as_json(claims()), b"signature"),
        signer(algorithm).raw(header, as_json(claims())),
    ):
        assert reason(token, key_set(signer(algorithm))) == "algorithm"


def test_a_signature_that_is_missing_is_refused() -> None:
    """The right header does not make up for it; nor does a legacy secret."""
    header, payload, _ = signer().token().split(".")
    assert reason(f"{header}.{payload}.") == "signature"
    legacy = assembled(as_json(HS256), as_json(claims()), b"")
    assert reason(legacy, legacy_key_set(SECRET)) == "signature"


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("kid", ["first", None, "other"])
def test_a_public_key_is_no_secret(algorithm: str, kid: str | None) -> None:
    """HMACs made with the published key, in whatever spelling, find no key that is for HMACs."""
    for text in signer(algorithm).public_texts():
        header = HS256 | ({"kid": kid} if kid else {})
        refused = reason(hmac_token(text, header, claims()), key_set(signer(algorithm), secret=SECRET))
        assert refused == ("unknown_key" if kid == "other" else "algorithm")


@pytest.mark.parametrize("said", [name for name in ALGORITHMS if name != "ES256"] + ["ES384", "RS512", "PS256"])
def test_the_header_does_not_choose_the_algorithm(said: str) -> None:
    """A key verifies by the algorithm that it is for; a token that names another one is refused."""
    token = signer().raw(as_json({"alg": said, "kid": "first"}), as_json(claims()))
    assert reason(token) == "algorithm"


def test_the_legacy_secret_is_left_behind_by_a_published_key() -> None:
    """Where keys are published, a token that the old secret signs is refused: it may be known to others."""
    token = hmac_token(SECRET.encode(), HS256, claims())
    assert verify(token, key_set(secret=SECRET), RULES, NOW).subject == ANN
    assert reason(token, key_set(signer(), secret=SECRET)) == "algorithm"


def test_no_keys_and_no_secret_verify_nothing() -> None:
    """An empty set without a secret does not become an empty secret."""
    for secret in (b"", b"None", b"null"):
        assert reason(hmac_token(secret, HS256, claims()), key_set()) == "unknown_key"
        assert reason(hmac_token(secret, HS256 | {"kid": "x"}, claims()), key_set()) == "unknown_key"


CLAIMS: dict[str, tuple[dict[str, Any], str]] = {
    "another audience": ({"aud": "anon"}, "audience"),
    "no audience": ({"aud": None}, "audience"),
    "an empty list of audiences": ({"aud": []}, "audience"),
    "others' audiences": ({"aud": ["anon", "service"]}, "audience"),
    "an audience that only contains it": ({"aud": "unauthenticated"}, "audience"),
    "an audience of another type": ({"aud": {"authenticated": True}}, "audience"),
    "audiences of another type": ({"aud": ["authenticated", 1]}, "audience"),
    "another issuer": ({"iss": "https://project.test.evil/auth/v1"}, "issuer"),
    "an issuer with a slash": ({"iss": f"{ISSUER}/"}, "issuer"),
    "a list of issuers": ({"iss": [ISSUER]}, "issuer"),
    "no issuer": ({"iss": None}, "issuer"),
    "no expiry": ({"exp": None}, "no_expiry"),
    "an expiry that is a text": ({"exp": str(NOW + 60)}, "malformed"),
    "an expiry that is true": ({"exp": True}, "malformed"),
    "a start that is a list": ({"nbf": [0]}, "malformed"),
    "no subject": ({"sub": None}, "subject"),
    "an empty subject": ({"sub": ""}, "subject"),
    "a subject that is a number": ({"sub": 7}, "subject"),
    "a subject that is a list": ({"sub": [ANN]}, "subject"),
    "a subject with a space": ({"sub": "a b"}, "subject"),
    "a subject with a NUL": ({"sub": "a\0"}, "subject"),
    "a subject with a line's end": ({"sub": f"{ANN}\n"}, "subject"),
    "a subject that is no ASCII": ({"sub": "アン"}, "subject"),
    "a subject with half a surrogate": ({"sub": "\ud800"}, "subject"),
    "a subject that is too long": ({"sub": "a" * 256}, "subject"),
}


@pytest.mark.parametrize(("changes", "why"), CLAIMS.values(), ids=CLAIMS)
def test_claims_that_are_not_ours_are_refused(changes: Mapping[str, Any], why: str) -> None:
    """Rightly signed, but not for us, not from the project, or nobody's."""
    assert reason(signer().token(claims(**changes))) == why


@pytest.mark.parametrize("audience", ["authenticated", ["authenticated"], ["anon", "authenticated"]])
def test_our_audience_may_be_one_of_a_list(audience: Any) -> None:
    """RFC 7519, 4.1.3 allows both."""
    assert verify(signer().token(claims(aud=audience)), key_set(signer()), RULES, NOW).subject == ANN


def test_without_a_project_any_issuer_will_do() -> None:
    """A bare secret has no URL to compare with; the audience still counts."""
    rules = TokenRules(audience="authenticated")
    for issuer in (None, "supabase", ISSUER):
        token = hmac_token(SECRET.encode(), HS256, claims(iss=issuer))
        assert verify(token, legacy_key_set(SECRET), rules, NOW).subject == ANN
    wrong = hmac_token(SECRET.encode(), HS256, claims(aud="x"))
    assert reason(wrong, legacy_key_set(SECRET), rules) == "audience"


@pytest.mark.parametrize(
    ("times", "why"),
    [
        ({"exp": NOW - 29}, None),
        ({"exp": NOW - 31}, "expired"),
        ({"exp": NOW - SKEW_S}, "expired"),
        ({"exp": 0}, "expired"),
        ({"exp": -(10**300)}, "expired"),
        ({"exp": 10**300}, None),
        ({"exp": 10**400}, None),
        ({"exp": -(10**400)}, "expired"),
        ({"nbf": 10**400}, "not_yet_valid"),
        ({"nbf": -(10**400)}, None),
        ({"iat": 10**400}, "issued_in_future"),
        ({"iat": -(10**400)}, None),
        ({"nbf": NOW + 29}, None),
        ({"nbf": NOW + 31}, "not_yet_valid"),
        ({"iat": NOW + 29}, None),
        ({"iat": NOW + 31}, "issued_in_future"),
        ({"iat": None}, None),
        ({"iat": NOW + 29.5, "nbf": NOW - 0.5, "exp": NOW - 29.5}, None),
    ],
)
def test_clocks_may_differ_by_thirty_seconds(times: Mapping[str, Any], why: str | None) -> None:
    """On either side, 29 seconds pass and 31 do not."""
    token = signer().token(claims(**times))
    if why:
        assert reason(token) == why
    else:
        assert verify(token, key_set(signer()), RULES, NOW).subject == ANN


@pytest.mark.parametrize(
    "kid",
    ["../../../../etc/passwd", "/dev/null", "' or '1'='1", "first\0", "FIRST", "http://evil.test/", "", "a" * 4000],
)
@pytest.mark.parametrize("sign", [signer, lambda: signer("ES256", "stranger")], ids=["ours", "stranger"])
def test_a_kid_is_a_look_up_and_nothing_else(kid: str, sign: Any) -> None:
    """A name that is none of our keys' finds none, even when our own key signed."""
    assert reason(sign().token(kid=kid)) == "unknown_key"


@pytest.mark.parametrize("kid", [0, 1.5, True, ["first"], {"first": 1}])
def test_a_kid_that_is_no_text_is_refused(kid: Any) -> None:
    """RFC 7515, 4.1.4: it is a string."""
    assert reason(signer().token(kid=kid)) == "malformed"


def test_a_token_without_kid_may_be_any_keys_of_its_algorithm() -> None:
    """It is tried with those, and no other."""
    keys = key_set(signer("RS256", "r"), signer("ES256", "old"), signer())
    assert verify(signer().token(kid=None), keys, RULES, NOW).subject == ANN
    assert reason(signer("ES256", "stranger").token(kid=None), keys) == "signature"
    assert reason(signer("EdDSA").token(kid=None), keys) == "algorithm"


def test_two_keys_of_one_kid_both_count() -> None:
    """A key that was made anew under its old name verifies, whichever of the two comes first."""
    old, new = signer("ES256", "old"), signer("ES256", "new")
    twins = [Signer(each.algorithm, "same", each.private) for each in (old, new)]
    for keys in (key_set(*twins), key_set(*reversed(twins))):
        for twin in twins:
            assert verify(twin.token(), keys, RULES, NOW).subject == ANN
        assert reason(Signer("ES256", "same", signer("ES256", "stranger").private).token(), keys) == "signature"
    mixed = key_set(twins[0], Signer("RS256", "same", signer("RS256").private))
    assert verify(Signer("RS256", "same", signer("RS256").private).token(), mixed, RULES, NOW).subject == ANN


@pytest.mark.parametrize(
    "header",
    [
        {"jwk": signer("ES256", "stranger").jwk()},
        {"jku": "http://127.0.0.1:9/jwks.json"},
        {"x5u": "http://127.0.0.1:9/cert.pem"},
        {"x5c": ["MIIB"]},
    ],
    ids=lambda header: next(iter(header)),
)
def test_keys_that_a_token_brings_along_are_not_read(header: Mapping[str, Any]) -> None:
    """Such a header neither lets a stranger in, nor keeps ours out."""
    stranger = Signer("ES256", "first", signer("ES256", "stranger").private)
    assert reason(stranger.token(**header)) == "signature"
    assert verify(signer().token(**header), key_set(signer()), RULES, NOW).subject == ANN


@pytest.mark.parametrize("crit", [["exp"], ["b64"], [], None, "b64", ["http://example.test/UNDEFINED"]])
def test_an_extension_that_must_be_understood_is_refused(crit: Any) -> None:
    """RFC 7515, 4.1.11: we understand none."""
    header = {"alg": "ES256", "kid": "first", "crit": crit, "exp": 1, "b64": True}
    assert reason(signer().raw(as_json(header), as_json(claims()))) == "crit"


def test_an_unencoded_payload_is_refused() -> None:
    """`b64: false` without `crit` does not change what was signed."""
    header = {"alg": "ES256", "kid": "first", "b64": False}
    assert reason(signer().raw(as_json(header), as_json(claims()))) == "signature"


GOOD = signer().token()
MALFORMED = {
    "nothing": "",
    "a word": "demo",
    "two parts": GOOD.rpartition(".")[0],
    "four parts": f"{GOOD}.x",
    "five parts, as encryption has": f"{GOOD}.x.y",
    "no header": "." + GOOD.partition(".")[2],
    "padding": f"{GOOD}=",
    "another alphabet": GOOD.replace(".", "+.", 1),
    "a line's end": f"{GOOD}\n",
    "an inner space": GOOD.replace(".", " .", 1),
    "no ASCII": f"é{GOOD}",
    "a header that is no JSON": signer().raw(b"alg", as_json(claims())),
    "a header that is a list": signer().raw(b'["alg"]', as_json(claims())),
    "a header that is no UTF-8": signer().raw(b'{"alg":"\xff"}', as_json(claims())),
    "a header with a name twice": signer().raw(b'{"alg":"none","alg":"ES256","kid":"first"}', as_json(claims())),
    "a header of brackets": signer().raw(b"[" * 4000, as_json(claims())),
    "claims that are no JSON": signer().raw(b'{"alg":"ES256","kid":"first"}', b"sub"),
    "claims that are a text": signer().raw(b'{"alg":"ES256","kid":"first"}', b'"sub"'),
    "claims that are no UTF-8": signer().raw(b'{"alg":"ES256","kid":"first"}', b'{"sub":"\xff"}'),
    "claims of brackets": signer().raw(b'{"alg":"ES256","kid":"first"}', b"[" * 3000),
    "no number": signer().raw(b'{"alg":"ES256","kid":"first"}', json.dumps(claims(exp=float("nan"))).encode()),
    "no end": signer().raw(b'{"alg":"ES256","kid":"first"}', json.dumps(claims(exp=float("inf"))).encode()),
    "a number of 5000 digits": signer().raw(b'{"alg":"ES256","kid":"first"}', b'{"exp":1' + b"0" * 5000 + b"}"),
}


@pytest.mark.parametrize("token", MALFORMED.values(), ids=MALFORMED)
def test_what_is_no_token_is_refused(token: str) -> None:
    """However it is signed."""
    assert reason(token) == "malformed"


@pytest.mark.parametrize("name", ["sub", "exp", "aud", "role"])
def test_a_claim_that_comes_twice_is_refused(name: str) -> None:
    """Another reader of the same token might believe the other one; also where both say the same."""
    good = json.dumps(claims())
    for first in ('"someone-else"', json.dumps(claims()[name])):
        payload = f'{{"{name}": {first}, {good[1:]}'
        assert json.loads(payload) == claims()
        assert reason(signer().raw(as_json({"alg": "ES256", "kid": "first"}), payload.encode())) == "malformed"


def test_eight_kilobytes_pass_and_more_are_not_read() -> None:
    """A token of exactly the longest length is verified; one more character is refused whatever it says."""
    signed = signer()
    assert MAX_TOKEN_CHARS == 8192
    room = MAX_TOKEN_CHARS - len(signed.token(claims(pad="")))
    padded = next(
        token
        for size in range(room * 3 // 4 - 16, room * 3 // 4 + 1)
        for extra in ("", "x", "xx")
        if len(token := signed.token(claims(pad="x" * size), extra=extra)) == MAX_TOKEN_CHARS
    )
    assert bearer(f"Bearer {padded}") == padded
    assert verify(padded, key_set(signed), RULES, NOW).subject == ANN
    for too_long in (f"{padded}x", "x" * 10**6):
        assert reason(too_long) == "too_long"
        with pytest.raises(TokenRefusal, match="too_long"):
            bearer(f"Bearer {too_long}")


@pytest.mark.parametrize(
    ("header", "why"),
    [
        ("", "missing"),
        ("Bearer", "missing"),
        ("Bearer ", "missing"),
        ("Basic ZGVtbzpkZW1v", "scheme"),
        ("BearerX token", "scheme"),
        ("token", "missing"),
    ],
)
def test_a_header_without_a_bearer_token_is_refused(header: str, why: str) -> None:
    """There is nothing to verify."""
    with pytest.raises(TokenRefusal, match=why):
        bearer(header)


@pytest.mark.parametrize("header", ["Bearer a.b.c", "bearer a.b.c", "BEARER   a.b.c "])
def test_the_scheme_is_read_in_any_case(header: str) -> None:
    """RFC 9110, 11.1."""
    assert bearer(header) == "a.b.c"


@pytest.mark.parametrize("issuer", [None, ISSUER])
def test_a_minted_token_verifies(issuer: str | None) -> None:
    """With the secret, for the user and the time that it was made for, and the project's issuer if there is one."""
    rules = TokenRules(audience="authenticated", issuer=issuer)
    token = mint("demo", SECRET, rules, now=NOW, valid_s=90)
    verified = verify(token, legacy_key_set(SECRET), rules, NOW)
    assert (verified.subject, verified.expires) == ("demo", NOW + 90)
    assert reason(token, legacy_key_set(SECRET + "x"), rules) == "signature"


@pytest.mark.parametrize("user", ["", "a b", "アン", "a" * 256])
def test_no_token_is_minted_for_a_user_that_none_could_be_for(user: str) -> None:
    """What would be refused is not made."""
    with pytest.raises(ValueError, match="ASCII"):
        mint(user, SECRET, RULES, now=NOW, valid_s=60)


def test_the_last_character_of_a_signature_counts() -> None:
    """Base64 has several spellings of the same bytes; only one is a token, so that no other has the same hash."""
    token = signer().token()
    others = [token[:-1] + other for other in "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"]
    assert [other for other in others if _passes(other)] == [token]
    assert segment(b"x") == "eA"


def _passes(token: str) -> bool:
    try:
        verify(token, key_set(signer()), RULES, NOW)
    except TokenRefusal:
        return False
    return True
