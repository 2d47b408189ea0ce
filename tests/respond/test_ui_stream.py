"""The AI SDK's stream: every order of calls makes a legal one, with exactly the protocol's fields."""

import json
import uuid
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import CallerFault, ModelFault, OverloadFault
from app.respond.chat_body import chat_body
from app.respond.ui_stream import (
    HEADERS,
    UiStream,
    failure_metadata,
    fault_sentence,
    finish_metadata,
    refusal,
    start_metadata,
)
from app.turn import Draft, TokenUsage, TurnOutcome
from telemetry.stage_clock import StageClock
from tests.respond.ui_wire import Read, calls, metadata, played, read_stream, utf16

START: dict[str, Any] = {"conversation_id": "c", "turn_id": "t", "trace_id": "0"}
ENDS = {"finish", "fail", "abort"}


@given(metadata, st.lists(calls(), max_size=15))
def test_any_order_of_calls_is_legal(start: dict[str, Any], made: list[tuple[str, tuple[Any, ...]]]) -> None:
    """A strict reader takes whatever the methods return, and finds in it what was told before the first end."""
    read = read_stream(played(start, made))
    names = [name for name, _ in made]
    end = next((i for i, name in enumerate(names) if name in ENDS), len(made))
    before, ended_by = made[:end], names[end : end + 1]
    assert utf16(read.text) == utf16("".join(arguments[0] for name, arguments in before if name == "text"))
    assert len(read.data) == sum(name in {"stage", "queue"} for name in names[:end])
    assert read.state == ("done" if ended_by else read.state)
    assert ("[DONE]" in read.types) == bool(ended_by)
    assert read.error == (made[end][1][0] if ended_by == ["fail"] else None)
    assert ("abort" in read.types) == (ended_by == ["abort"])
    if read.parts:
        assert read.message_id == "turn-1"


LEGAL: dict[str, tuple[list[tuple[str, tuple[Any, ...]]], str]] = {
    "answered": ([("start", ()), ("text", ("a",)), ("text", ("b",)), ("finish", ({},))],
                 "start start-step text-start text-delta text-delta text-end finish-step finish [DONE]"),
    "no text": ([("start", ()), ("finish", ({},))], "start start-step finish-step finish [DONE]"),
    "start forgotten": ([("text", ("a",))], "start start-step text-start text-delta"),
    "shown meanwhile": ([("text", ("a",)), ("stage", ("llm", "done", 0.5, 1.0)), ("text", ("b",))],
                        "start start-step text-start text-delta data-stage text-delta"),
    "failed": ([("text", ("a",)), ("fail", ("no",))],
               "start start-step text-start text-delta text-end error [DONE]"),
    "failed with facts": ([("fail", ("no", {}))], "start start-step message-metadata error [DONE]"),
    "stopped": ([("text", ("a",)), ("abort", ())], "start start-step text-start text-delta text-end abort [DONE]"),
    "told too late": ([("abort", ()), ("text", ("a",)), ("queue", (1, None)), ("fail", ("no",)), ("ping", ())],
                      "start start-step abort [DONE]"),
    "nothing": ([], ""),
    "an empty piece": ([("text", ("",))], ""),
}  # fmt: skip


@pytest.mark.parametrize("name", LEGAL)
def test_the_table_of_the_docstring(name: str) -> None:
    """Each row of calls makes exactly the parts that the table says."""
    made, types = LEGAL[name]
    assert " ".join(read_stream(played(START, made)).types) == types


def parts(*made: dict[str, Any] | str) -> bytes:
    return "".join(f"data: {part if isinstance(part, str) else json.dumps(part)}\n\n" for part in made).encode()


OPEN: list[dict[str, Any] | str] = [{"type": "start"}, {"type": "start-step"}]
TEXT: list[dict[str, Any] | str] = [{"type": "text-start", "id": "1"}, {"type": "text-delta", "id": "1", "delta": "a"}]
WRONG = {
    "a delta before its start": parts(*OPEN, TEXT[1]),
    "a key too many": parts(*OPEN, {"type": "finish-step"}, {"type": "finish", "finishReason": "stop"}),
    "an unknown type": parts(*OPEN, {"type": "stage"}),
    "a part after an error": parts(*OPEN, {"type": "error", "errorText": "no"}, {"type": "finish-step"}),
    "a text left open": parts(*OPEN, *TEXT, {"type": "finish-step"}, {"type": "finish"}),
    "an error over an open text": parts(*OPEN, *TEXT, {"type": "error", "errorText": "no"}),
    "data that is kept": parts(*OPEN, {"type": "data-queue", "data": {}, "transient": False}),
    "no start": parts({"type": "start-step"}),
    "half an event": parts(*OPEN)[:-1],
    "a number that is none": parts('{"type":"start","messageMetadata":{"a":NaN}}'),
    "something after the end": parts(*OPEN, {"type": "abort"}, "[DONE]", "[DONE]"),
}


@pytest.mark.parametrize("name", WRONG)
def test_the_reader_is_strict(name: str) -> None:
    """The judge of these tests refuses each kind of illegal stream."""
    with pytest.raises((AssertionError, KeyError)):
        read_stream(WRONG[name])


def test_a_bad_number_sends_nothing() -> None:
    """Metadata that JSON cannot say is an error of the caller's, after which the stream can still be ended."""
    stream = UiStream("t", START)
    sent = stream.text("a")
    with pytest.raises(ValueError, match="JSON"):
        stream.finish({"seconds": float("nan")})
    assert not stream.ended
    assert read_stream(sent + stream.fail("no")).error == "no"


def test_text_travels_as_it_is() -> None:
    """Japanese is not escaped, line ends are, and half a surrogate pair is spelled so that the client can join it."""
    stream = UiStream("t", {})
    assert '"delta":"質問\\n"'.encode() in stream.text("質問\n")
    assert b'"delta":"\\ud83d"' in stream.text("\ud83d")


def test_the_headers_are_the_protocols() -> None:
    """A client of version 1 and nginx are told."""
    assert HEADERS == {
        "content-type": "text/event-stream",
        "cache-control": "no-cache",
        "x-vercel-ai-ui-message-stream": "v1",
        "x-accel-buffering": "no",
    }


def outcome() -> TurnOutcome:
    usage = TokenUsage(prompt_tokens=5, completion_tokens=2, total_tokens=7)
    return TurnOutcome(
        turn_id=uuid.UUID(int=1),
        conversation_id=uuid.UUID(int=2),
        draft=Draft("m", ["Yes."], "stop", usage),
        project=None,
        history_count=4,
        warnings=("project_unavailable",),
        saved="database",
    )


def finished() -> Read:
    clock = StageClock()
    stream = UiStream("1", start_metadata(uuid.UUID(int=9), uuid.UUID(int=1), "t" * 32))
    return read_stream(stream.text("Yes.") + stream.finish(finish_metadata(outcome(), clock, "t" * 32, "en", 0)))


def test_an_answered_message_tells_what_the_json_reply_tells() -> None:
    """All of the JSON reply but its text is in the metadata; the conversation that stands in the end counts."""
    body = chat_body(outcome(), StageClock(), "t" * 32, "en", 0)
    assert finished().metadata == {key: value for key, value in body.items() if key != "response"}
    assert finished().metadata["conversation_id"] == str(uuid.UUID(int=2))


def test_a_failed_message_tells_whether_to_try_again() -> None:
    """Code, stage, retryable and the wait are there, and the timings; what nobody may be shown is not."""
    fault = ModelFault("model_busy", "key sk-secret", stage="llm", retry_after_s=3.0)
    told = failure_metadata(fault, StageClock())
    assert told["error"] == {"code": "model_busy", "stage": "llm", "retryable": True, "retry_after": 3.0}
    assert told["performance_metrics"]["total_time"] == 0.0
    assert "secret" not in str(told) + fault_sentence(fault, "en")


def test_a_refusal_is_plain_text() -> None:
    """The body is the sentence, in the reader's language, with the fields that are wrong; the rest is headers."""
    text, headers = refusal(OverloadFault("overloaded", retry_after_s=1.5), "ja")
    assert text == "ただいま混み合っています。少し待ってからもう一度お試しください。"
    assert headers == {
        "content-type": "text/plain; charset=utf-8",
        "x-error-code": "overloaded",
        "retry-after": "2",
    }
    text, headers = refusal(CallerFault("invalid_request", fields=["messages.0.parts.1: no"]), "en")
    assert text == "Some fields are not as they should be.\nmessages.0.parts.1: no"
    assert refusal(CallerFault("unauthenticated"), "en")[1]["www-authenticate"] == "Bearer"
