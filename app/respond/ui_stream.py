"""The AI SDK's UI message stream, version 1, as bytes: what `useChat` reads a turn from. Pure.

A `UiStream` is one turn's stream. Its methods may be called in any order: each returns the bytes that are legal at that
point, and none when nothing is. So a caller that is late, or calls twice, cannot make a stream that a client chokes on.

    what was sent so far | start            | text         | stage, queue | finish                  | fail, abort
    ---------------------|------------------|--------------|--------------|-------------------------|----------------------
    nothing              | start start-step | S text-start | S data       | S finish-step finish D  | S error D
                         |                  | text-delta   |              |                         |
    start, no text       | -                | text-start   | data         | finish-step finish D    | error D
                         |                  | text-delta   |              |                         |
    start, text is open  | -                | text-delta   | data         | text-end finish-step    | text-end error D
                         |                  |              |              | finish D                |
    the end              | -                | -            | -            | -                       | -

`S` is start and start-step, which go out by themselves where they were forgotten; `D` is `[DONE]`; `-` is no byte. An
empty text is no byte either. `fail` with metadata has a message-metadata before its error: a part after an error would
be lost. `ping` is a comment and fits anywhere before the end.

Only the fields of the protocol's first clients are sent (no `finishReason`, no reason of an abort): ai before 5.0.217
and 6.0.231 gives a whole stream up for one key that it does not know. What is ours is in metadata and in `data-*`.
A client takes a stream that ends without an error for a success, so an interrupted turn must be told by `fail` or
`abort`; on `abort` it just ends, as its user wanted.
"""

import json
from collections.abc import Mapping
from typing import Any

from app.errors import Fault
from app.respond.chat_body import chat_body
from app.respond.language import Language
from app.respond.problem import problem_headers
from app.turn import TurnOutcome
from telemetry.stage_clock import StageClock
from telemetry.turn_trace import StageState

HEADERS: Mapping[str, str] = {
    "content-type": "text/event-stream",
    "cache-control": "no-cache",
    "x-vercel-ai-ui-message-stream": "v1",
    "x-accel-buffering": "no",  # nginx would collect the pieces
}
PING = b": ping\n\n"
DONE = b"data: [DONE]\n\n"
TEXT_ID = "text"
"""A turn has one text, so one id within its message is enough."""
_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode
_encode_ascii = json.JSONEncoder(allow_nan=False, separators=(",", ":")).encode


class UiStream:
    """One turn's stream; the table above is its rules.

    Args:
        message_id: the assistant message's id, which is the turn's.
        metadata: what the message carries from its start on; later metadata is merged into it by the client.

    Metadata that JSON cannot say (NaN, a foreign type) raises `ValueError` or `TypeError`, and nothing is sent then.
    """

    def __init__(self, message_id: str, metadata: Mapping[str, Any]) -> None:
        self._opening = _part(type="start", messageId=message_id, messageMetadata=metadata) + _part(type="start-step")
        self._text_is_open = False
        self.ended = False
        """Whether the stream is complete."""

    def start(self) -> bytes:
        """Begin the message and its only step."""
        opening, self._opening = self._opening, b""
        return opening

    def text(self, delta: str) -> bytes:
        """Let the text grow."""
        if not delta or self.ended:
            return b""
        opening = self.start()
        if not self._text_is_open:
            self._text_is_open = True
            opening += _part(type="text-start", id=TEXT_ID)
        return opening + _part(type="text-delta", id=TEXT_ID, delta=delta)

    def stage(self, stage: str, state: StageState, at_s: float, seconds: float | None = None) -> bytes:
        """Show live that a stage runs, begun `at_s` seconds after the turn, or how long it took; no client keeps it."""
        data: dict[str, Any] = {"stage": stage, "state": state, "at": at_s} | (
            {} if seconds is None else {"seconds": seconds}
        )
        return self._shown("data-stage", data)

    def queue(self, position: int, estimated_wait_s: float | None) -> bytes:
        """Show live where in the model's queue the turn is (1 is next); no client keeps it."""
        return self._shown("data-queue", {"position": position, "estimated_wait": estimated_wait_s})

    def finish(self, metadata: Mapping[str, Any]) -> bytes:
        """End an answered turn."""
        return self._end(_part(type="finish-step") + _part(type="finish", messageMetadata=metadata))

    def fail(self, sentence: str, metadata: Mapping[str, Any] | None = None) -> bytes:
        """End a turn that failed; `sentence` is shown to the user, and `metadata` joins the message's."""
        told = b"" if metadata is None else _part(type="message-metadata", messageMetadata=metadata)
        return self._end(told + _part(type="error", errorText=sentence))

    def abort(self) -> bytes:
        """End a turn that its user stopped."""
        return self._end(_part(type="abort"))

    def ping(self) -> bytes:
        """Return a comment, which keeps proxies from closing a quiet connection."""
        return b"" if self.ended else PING

    def _shown(self, kind: str, data: Mapping[str, Any]) -> bytes:
        if self.ended:
            return b""
        part = _part(type=kind, data=data, transient=True)
        return self.start() + part

    def _end(self, parts: bytes) -> bytes:
        if self.ended:
            return b""
        closing = _part(type="text-end", id=TEXT_ID) if self._text_is_open else b""
        opening, self.ended = self.start(), True
        return opening + closing + parts + DONE


def _part(**fields: Any) -> bytes:
    """Return one part. Half a surrogate pair, which UTF-8 has not, is spelled as JSON can: the client joins them."""
    try:
        return f"data: {_encode(fields)}\n\n".encode()
    except UnicodeEncodeError:
        return f"data: {_encode_ascii(fields)}\n\n".encode()


def start_metadata(conversation_id: object, turn_id: object, trace_id: str) -> dict[str, Any]:
    """Return what a message carries from its start on; of a turn that was stopped early nobody knows the first id."""
    known = {} if conversation_id is None else {"conversation_id": str(conversation_id)}
    return {**known, "turn_id": str(turn_id), "trace_id": trace_id}


def finish_metadata(
    outcome: TurnOutcome, clock: StageClock, trace_id: str, language: Language, now_ns: int
) -> dict[str, Any]:
    """Return what an answered message carries: all of the JSON reply but its text, and when that began to come."""
    body = chat_body(outcome, clock, trace_id, language, now_ns)
    del body["response"]
    body["performance_metrics"] |= clock.first_token()
    return body


def failure_metadata(fault: Fault, clock: StageClock) -> dict[str, Any]:
    """Return what a failed message carries: what a front end needs to decide whether to offer another try."""
    error = {
        "code": fault.code,
        "stage": fault.stage,
        "retryable": fault.retryable,
        "retry_after": fault.retry_after_s,
    }
    return {
        "error": {key: value for key, value in error.items() if value is not None},
        "performance_metrics": clock.performance_metrics() | clock.first_token(),
    }


def refusal(fault: Fault, language: Language) -> tuple[str, dict[str, str]]:
    """Return the plain text and the headers of what was refused before its stream began; the edge adds the ids.

    The AI SDK shows the body as it is, and reads nothing else of it.
    """
    text = "\n".join([fault_sentence(fault, language), *fault.fields])
    return text, problem_headers(fault) | {"content-type": "text/plain; charset=utf-8"}


def fault_sentence(fault: Fault, language: Language) -> str:
    """Return what a user may be shown of a fault."""
    return fault.kind.japanese if language == "ja" else fault.kind.detail
