"""What counts as an answer, and what is odd."""

import json
from dataclasses import replace
from typing import Any

import pytest

from tests.crash.asking import OddityError, Question, is_whole, received, refused
from tests.crash.plan import WAYS, ClientPlan, Way
from tests.crash.verdict import Received

TOLD: dict[str, Any] = {"turn_id": "t", "conversation_id": "c", "saved": "outbox", "warnings": [], "replayed": None}
ANSWER = Received(turn_id="t", conversation_id="c", text="Because.", saved="outbox")
SUPERSEDED = {"saved": "no", "warnings": [{"code": "superseded", "detail": "…"}]}


def question(way: Way, *, repeats: bool = True) -> Question:
    """Return a question that is asked in that way."""
    client = ClientPlan(name="c1", user_id="ada", pages=("notes",), pause_s=0, way=way, repeats=repeats)
    return Question(client=client, number=3, page="notes", text="Why?")


def stream(*parts: dict[str, Any], end: str = "data: [DONE]\n\n") -> str:
    """Return a stream of these parts, after its text."""
    said = [{"type": "text-delta", "id": "text", "delta": delta} for delta in ("Be", "cause.")]
    return "".join(f"data: {json.dumps(part)}\n\n" for part in (*said, *parts)) + end


def finish(**fields: Any) -> dict[str, Any]:
    return {"type": "finish", "messageMetadata": TOLD | fields}


def failed(code: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the parts that end a turn which failed."""
    error = {"type": "message-metadata", "messageMetadata": {"error": {"code": code}}}
    return error, {"type": "error", "errorText": "…"}


@pytest.mark.parametrize("way", WAYS)
def test_an_answer_is_read_whatever_it_came_as(way: Way) -> None:
    """JSON and streams say the same of a turn."""

    def said(**fields: Any) -> str:
        return json.dumps(TOLD | {"response": "Because."} | fields) if way == "json" else stream(finish(**fields))

    assert received(question(way), said()) == ANSWER
    again = received(question(way), said(replayed={"trace_id": "x"}))
    assert again == replace(ANSWER, replayed=True)
    late = received(question(way), said(**SUPERSEDED))
    assert late == replace(ANSWER, superseded=True, saved="no")


@pytest.mark.parametrize("way", ["stream", "sdk"])
def test_a_stream_is_an_answer_only_with_its_finish_and_its_end(way: Way) -> None:
    """A failure that is a neighbour's is none; whatever else a stream ends with is odd, above all nothing."""
    assert received(question(way), stream(*failed("model_busy"))) is None
    for text in (
        stream(),
        stream(finish(), end=""),
        stream(finish(), end="data: [DO"),
        stream({"type": "abort"}),
        stream(*failed("internal_error")),
    ):
        with pytest.raises(OddityError):
            received(question(way), text)


def test_a_stream_is_whole_at_its_end() -> None:
    """The client that reads `[DONE]` holds the answer, whatever becomes of the connection then."""
    text = stream(finish())
    assert [is_whole(text[:length]) for length in range(len(text) + 1)] == [False] * len(text) + [True]


@pytest.mark.parametrize("way", WAYS)
def test_a_question_is_the_same_each_time(way: Way) -> None:
    """It is told by its key, which is in a header, or the message's id; one that is asked once has no such header."""
    asked = question(way)
    assert asked.body == asked.body
    assert asked.headers.get("idempotency-key") == (None if way == "sdk" else "c1-3")
    assert (way == "sdk") == ("c1-3" in json.dumps(asked.body))
    assert "idempotency-key" not in question(way, repeats=False).headers


@pytest.mark.parametrize(
    ("status", "repeats", "headers", "wait_s"),
    [
        (503, False, {"retry-after": "5"}, 5.0),
        (504, True, {}, 0.0),
        (409, True, {"retry-after": "1"}, 1.0),
        (409, True, {}, None),
        (409, False, {"retry-after": "1"}, None),
        (422, True, {}, None),
        (500, True, {}, None),
    ],
)
def test_a_refusal_is_odd_unless_there_is_a_reason(
    status: int, repeats: bool, headers: dict[str, str], wait_s: float | None
) -> None:
    """Only who repeats may be told that its turn runs, and then for how long; a mismatch is always odd."""
    asked = question("json", repeats=repeats)
    if wait_s is None:
        with pytest.raises(OddityError, match=str(status)):
            refused(asked, status, headers, "")
    else:
        assert refused(asked, status, headers, "") == wait_s
