"""Asking the model client: hosts that answer with given bytes, in process, and hosts on a real socket."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pytest
import trio
from hypercorn.config import Config
from hypercorn.trio import serve

from app.clients.in_process import AsgiApp, InProcessTransport, Message
from app.clients.openai import OpenAIModel
from app.clients.ports import ModelEnd, ModelRequest
from app.deadlines import stage_nursery
from app.errors import Fault
from app.turn import PromptMessage

URL = "http://model.test/v1"


def asked(question: str, **fields: Any) -> ModelRequest:
    messages = (PromptMessage("system", "You are a tutor."), PromptMessage("user", question))
    return ModelRequest(messages=messages, **{"model": "some-model", "max_tokens": 40, **fields})


@dataclass
class Canned:
    """A host that answers every request with the same pieces; it keeps what it was sent, and counts what it sends."""

    pieces: Iterable[bytes] = ()
    status: int = 200
    headers: Sequence[tuple[bytes, bytes]] = ()
    complete: bool = True
    requests: list[tuple[Message, bytes]] = field(default_factory=list)
    sent: int = 0

    async def __call__(
        self, scope: Message, receive: Callable[[], Awaitable[Message]], send: Callable[[Message], Awaitable[None]]
    ) -> None:
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message["body"], message["more_body"]
        self.requests.append((scope, body))
        await send({"type": "http.response.start", "status": self.status, "headers": list(self.headers)})
        for piece in self.pieces:
            await send({"type": "http.response.body", "body": piece, "more_body": True})
            self.sent += len(piece)
        if self.complete:
            await send({"type": "http.response.body", "body": b""})


def event(fields: object) -> bytes:
    return b"data: " + json.dumps(fields).encode() + b"\n\n"


def delta(content: object, **fields: object) -> bytes:
    return event({"choices": [{"delta": {"content": content}}], **fields})


FINISH = event({"choices": [{"delta": {}, "finish_reason": "stop"}]})
DONE = b"data: [DONE]\n\n"


def in_process(app: AsgiApp, nursery: trio.Nursery) -> InProcessTransport:
    """Return a transport whose one host is `app`."""
    return InProcessTransport(app, nursery)


async def answer(app: AsgiApp, request: ModelRequest, said: list[str] | None = None, **model: Any) -> ModelEnd:
    """Ask `app` in process and return how it ended; what it said goes to `said`."""

    def on_text(text: str) -> None:
        if said is not None:
            said.append(text)

    async with stage_nursery() as nursery, in_process(app, nursery) as transport:
        options = {"base_url": URL, "key": "", "name": "some-model", **model}
        return await OpenAIModel(transport, **options).answer(request, on_text)
    raise AssertionError("unreachable")


async def fault_of(app: AsgiApp, question: str = "Why?", said: list[str] | None = None) -> Fault:
    """Ask, and return the fault that ends the answer."""
    with pytest.raises(Fault) as caught:
        await answer(app, asked(question), said)
    return caught.value


@asynccontextmanager
async def served(app: Any) -> AsyncIterator[str]:
    """Serve `app` on a free loopback port; yields its base URL."""
    config, stop = Config(), trio.Event()
    config.bind, config.graceful_timeout = ["127.0.0.1:0"], 0.2
    async with trio.open_nursery() as nursery:
        start: Any = partial(serve, app, config, shutdown_trigger=stop.wait)
        (url,) = await nursery.start(start)
        try:
            yield f"{url}/v1"
        finally:
            stop.set()
