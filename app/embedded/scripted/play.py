"""The whole answer as a script: what is sent, when, and how it ends. Pure; `scripted_model.py` plays it.

Time is only written down here (`Wait`), so the pace of an answer can be read off and needs no clock to be tested.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from app.embedded.scripted import tutor
from app.embedded.scripted.faults import Fault
from app.embedded.scripted.request import ChatRequest, error_body

MODEL_NAME = "scripted-tutor"
CREATED = 1_735_689_600  # 2025-01-01: the same question gives the same bytes on every day

_JSON = (("content-type", "application/json"),)
_SSE = (("content-type", "text/event-stream; charset=utf-8"), ("cache-control", "no-cache"))
_DONE = b"data: [DONE]\n\n"
_GATEWAY_PAGE = b"<html><head><title>Bad gateway</title></head><body><h1>Bad gateway</h1></body></html>"


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing is sent for `seconds`; infinity never goes on."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Send:
    """A piece of the body goes out."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Stop:
    """The body is over before its time: ended as HTTP wants it, or (not `complete`) broken off."""

    complete: bool


Step = Wait | Send | Stop


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """An HTTP answer: `hold_s` seconds of nothing, status and headers, then the steps of its body."""

    hold_s: float = 0.0
    status: int = 200
    headers: tuple[tuple[str, str], ...] = _JSON
    steps: Iterator[Step]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Call:
    """What one answer is made of."""

    id: str
    pieces: tuple[str, ...]
    finish: str
    usage: Mapping[str, int]
    request: ChatRequest
    fault: Fault
    first_s: float
    each_s: float


def refusal(status: int, body: Mapping[str, Any], headers: tuple[tuple[str, str], ...] = ()) -> Reply:
    """Return an error answer in OpenAI's shape."""
    return Reply(status=status, headers=_JSON + headers, steps=iter((Send(_dumped(body)),)))


def models() -> Reply:
    """Return the answer to `GET /v1/models`."""
    model = {"id": MODEL_NAME, "object": "model", "created": CREATED, "owned_by": "embedded"}
    return Reply(steps=iter((Send(_dumped({"object": "list", "data": [model]})),)))


def completion(request: ChatRequest, fault: Fault, *, first_s: float, each_s: float) -> Reply:
    """Return the answer to `request`, with `fault` in it.

    Args:
        request: an accepted request.
        fault: of kind "none" for an answer without one.
        first_s: seconds until the first token.
        each_s: seconds before each other token.
    """
    if fault.kind == "http":
        return _http_error(fault)
    call = _call(request, fault, first_s, each_s)
    held_s = fault.for_s if fault.kind == "silent" else 0.0
    if request.stream:
        return Reply(hold_s=held_s, headers=_SSE + _request_id(call), steps=_streamed(call))
    return _whole(call, held_s)


def _call(request: ChatRequest, fault: Fault, first_s: float, each_s: float) -> _Call:
    said = tutor.tokens(tutor.answer(request.messages, request.schema))
    pieces = tuple(said[: request.max_tokens])
    asked = tutor.prompt_tokens(request.messages)
    seed = "\0".join(f"{message.role}:{message.text}" for message in request.messages)
    return _Call(
        id=hashlib.sha256(seed.encode("utf-8", "replace")).hexdigest()[:24],
        pieces=pieces,
        finish="stop" if len(pieces) == len(said) else "length",
        usage={"prompt_tokens": asked, "completion_tokens": len(pieces), "total_tokens": asked + len(pieces)},
        request=request,
        fault=fault,
        first_s=first_s if fault.first_s is None else fault.first_s,
        each_s=each_s if fault.each_s is None else fault.each_s,
    )


def _streamed(call: _Call) -> Iterator[Step]:
    strike_at = min(call.fault.after, len(call.pieces))
    for index, piece in enumerate(call.pieces):
        if index == strike_at:
            yield from _strike(call.fault)
        yield Wait(call.each_s if index else call.first_s)
        if index == 0:
            yield _chunk(call, delta={"role": "assistant", "content": ""})
        yield _chunk(call, delta={"content": piece})
    if strike_at == len(call.pieces):
        yield from _strike(call.fault)
    yield _chunk(call, delta={}, finish=call.finish)
    if call.request.include_usage and call.fault.kind != "no-usage":
        yield _event({**_head(call, "chat.completion.chunk"), "choices": [], "usage": call.usage})
    yield Send(_DONE)


def _end(fault: Fault) -> tuple[Step, ...]:
    return (Send(_DONE), Stop(complete=True)) if fault.done else (Stop(complete=True),)


def _error(fault: Fault) -> tuple[Step, ...]:
    return (_event(error_body(500, "The server had an error while answering.", code=fault.code)), Stop(complete=True))


_STRIKES: Mapping[str, Callable[[Fault], tuple[Step, ...]]] = {
    "stall": lambda fault: (Wait(fault.for_s),),
    "cut": lambda fault: (Stop(complete=False),),
    "end": _end,
    "error": _error,
    "garbage": lambda fault: (Send(b'data: {"choices": [{"delta"\n\n'),),
}


def _strike(fault: Fault) -> tuple[Step, ...]:
    return _STRIKES[fault.kind](fault) if fault.kind in _STRIKES else ()


def _whole(call: _Call, held_s: float) -> Reply:
    message = {"role": "assistant", "content": "".join(call.pieces)}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": call.finish}
    fields = {**_head(call, "chat.completion"), "choices": [choice]}
    if call.fault.kind != "no-usage":
        fields["usage"] = call.usage
    body = _dumped(fields)
    half = Send(body[: len(body) // 2])
    ways: Mapping[str, tuple[Step, ...]] = {
        "cut": (half, Stop(complete=False)),
        "end": (half, Stop(complete=True)),
        "garbage": (Send(b'{"choices": [{"message"'),),
        "error": (Send(_dumped(error_body(500, "The server had an error while answering.", code=call.fault.code))),),
    }
    paced_s = call.first_s + call.each_s * (len(call.pieces) - 1)
    stalled_s = call.fault.for_s if call.fault.kind == "stall" else 0.0
    return Reply(
        hold_s=held_s + stalled_s + paced_s,
        status=500 if call.fault.kind == "error" else 200,
        headers=_JSON + _request_id(call),
        steps=iter(ways.get(call.fault.kind, (Send(body),))),
    )


def _http_error(fault: Fault) -> Reply:
    said = error_body(fault.status, f"A fault was asked for: HTTP {fault.status}.", code=fault.code)
    if fault.body == "openai":
        return refusal(fault.status, said, fault.headers)
    if fault.body == "html":
        page = (("content-type", "text/html"), *fault.headers)
        return Reply(status=fault.status, headers=page, steps=iter((Send(_GATEWAY_PAGE),)))
    return Reply(status=fault.status, headers=fault.headers, steps=iter(()))


def _request_id(call: _Call) -> tuple[tuple[str, str], ...]:
    return (("x-request-id", f"req_{call.id}"),)


def _head(call: _Call, kind: str) -> dict[str, Any]:
    return {"id": f"chatcmpl-{call.id}", "object": kind, "created": CREATED, "model": MODEL_NAME}


def _chunk(call: _Call, *, delta: Mapping[str, str], finish: str | None = None) -> Send:
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
    fields = {**_head(call, "chat.completion.chunk"), "choices": [choice]}
    if call.request.include_usage:
        fields["usage"] = None
    return _event(fields)


def _event(fields: Mapping[str, Any]) -> Send:
    return Send(b"data: " + _dumped(fields) + b"\n\n")


def _dumped(fields: Mapping[str, Any]) -> bytes:
    return json.dumps(fields, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")
