"""Bodies of POST /chat: each wrong one has its code, and names its fields."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import CallerFault
from app.receive.payload import PayloadRules, read_chat, read_json
from app.turn import TurnRequest

RULES = PayloadRules(max_message_chars=2000)


def parse(body: bytes | dict[str, object]) -> TurnRequest:
    return read_chat(read_json(body if isinstance(body, bytes) else json.dumps(body).encode()), "u1", RULES)


def refusal(body: bytes | dict[str, object]) -> CallerFault:
    with pytest.raises(CallerFault) as caught:
        parse(body)
    return caught.value


@pytest.mark.parametrize(
    "body", [b"", b"{", b"\xff\xfe", b"[" * 200_000, b"{'message': 1}", b'{"message": 1' + b"1" * 5000 + b"}"]
)
def test_what_is_not_json_is_bad_json(body: bytes) -> None:
    """Text that is no JSON, not UTF-8, nested without end, or has absurd numbers is 400 `bad_json`."""
    assert (refusal(body).code, refusal(body).kind.status) == ("bad_json", 400)


@pytest.mark.parametrize("body", [b"[]", b"null", b"5", b'"text"', b"{}"])
def test_json_of_the_wrong_shape_is_invalid(body: bytes) -> None:
    """JSON that is no object, or has no message, is 422."""
    assert (refusal(body).code, refusal(body).kind.status) == ("invalid_request", 422)


WRONG: list[tuple[str, object]] = [
    ("message", 5),
    ("message", None),
    ("message", ["a"]),
    ("conversation_id", "not-a-uuid"),
    ("conversation_id", 7),
    ("conversation_id", ""),
    ("project_id", True),
    ("project_id", 1.5),
    ("project_id", []),
    ("page_id", 3),
    ("page_id", "p" * 256),
    ("context", {}),
    ("message", "nul \x00"),
    ("message", "lone \ud800"),
    ("context", "nul \x00"),
    ("page_id", "\udfff"),
]


@pytest.mark.parametrize(("field", "value"), WRONG)
def test_a_wrong_field_is_named(field: str, value: object) -> None:
    """Each wrong field is 422 and named, without what was sent."""
    fault = refusal({"message": "hello", field: value})
    assert fault.code == "invalid_request"
    (sentence,) = fault.fields
    assert sentence.startswith(f"{field}: ")
    assert not isinstance(value, str) or len(value) < 3 or value not in sentence


@pytest.mark.parametrize(
    ("field", "value", "told"),
    [
        ("page_id", "p" * 256, "string should have at most 255 characters"),
        ("project_id", "p" * 256, "input should be a valid integer, or string should have at most 255 characters"),
        ("context", "c" * 20_001, "string should have at most 20000 characters"),
        ("page_id", "lone \ud800", "must not contain a lone surrogate"),
        ("context", "nul \0" + "c" * 20_001, "must not contain NUL"),
    ],
)
def test_a_text_of_bounded_length_is_told_what_is_wrong(field: str, value: str, told: str) -> None:
    """Lengths are told in characters, and what no text may hold comes before its length."""
    assert refusal({"message": "hello", field: value}).fields == (f"{field}: {told}",)


def test_all_wrong_fields_are_named_at_once() -> None:
    """One reply names every wrong field."""
    fields = refusal({"message": 1, "project_id": [], "page_id": 2, "context": 3}).fields
    assert [field.partition(":")[0] for field in fields] == ["message", "project_id", "page_id", "context"]


def test_length_counts_characters_after_trimming() -> None:
    """2000 characters pass whatever their bytes, and blanks around them do not count; one more is 400."""
    assert len(parse({"message": " " + "👍" * 2000 + "\n"}).message) == 2000
    assert refusal({"message": "あ" * 2001}).code == "message_too_long"
    assert refusal({"message": " \n\t　"}).code == "message_empty"


def test_fields_are_taken_as_documented() -> None:
    """Ids and page come through; unknown fields are ignored; absent ones have their defaults."""
    full = parse(
        {
            "message": "hi",
            "conversation_id": "C0FFEE00-0000-4000-8000-000000000001",
            "project_id": 12,
            "page_id": "project-3",
            "context": " page ",
            "user_id": "someone-else",
        }
    )
    assert str(full.conversation_id) == "c0ffee00-0000-4000-8000-000000000001"
    assert (full.project_id, full.page_id, full.context, full.user_id) == ("12", "project-3", "page", "u1")
    bare = parse({"message": "hi", "conversation_id": None, "page_id": ""})
    assert (bare.conversation_id, bare.project_id, bare.page_id, bare.context) == (None, None, "general", "")


@pytest.mark.parametrize(
    "message", ["data: [DONE]\n\ndata: {}", "'; DROP TABLE chat_logs; --", "<script>alert(1)</script>"]
)
def test_text_that_looks_like_code_is_text(message: str) -> None:
    """SSE framing, SQL and HTML are messages like any other."""
    assert parse({"message": message}).message == message


@given(st.binary(max_size=300))
def test_no_body_raises_anything_else(body: bytes) -> None:
    """Whatever bytes come, the answer is a turn or a caller's fault."""
    try:
        assert parse(body).message
    except CallerFault as fault:
        assert fault.kind.status in (400, 422)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)


@given(
    st.fixed_dictionaries(
        {}, optional=dict.fromkeys(("message", "conversation_id", "project_id", "page_id", "context"), json_values)
    )
)
def test_no_json_raises_anything_else(body: dict[str, object]) -> None:
    """Whatever JSON comes, the answer is a turn or a caller's fault."""
    try:
        assert parse(body).message.strip()
    except CallerFault as fault:
        assert fault.kind.status in (400, 422)
