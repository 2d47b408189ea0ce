"""A model host no two of whose answers are alike, so that a repeat shows; it holds and refuses on demand.

The nth time that it is asked a question it says `Answer n to <question>.`, the first half of it before it is held.
"""

import json
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import trio

from app.clients.in_process import AsgiApp, Message
from tests.server.neighbours import model_host
from tests.server.process import WAIT_S

Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Which = tuple[str, int]
"""A question, and the how manieth time it is asked, from 1."""
USAGE = {"prompt_tokens": 11, "completion_tokens": 3, "total_tokens": 14}


class AnsweringModel:
    """The host's app, which runs in a thread of the host's; all but that is for the test. `url` is the host's."""

    url = ""

    def __init__(self) -> None:
        self.holds: set[Which] = set()
        """Which answers stop half-way until they are let go."""
        self.refuses: set[Which] = set()
        """Which questions get a 400, which nobody asks again by himself."""
        self._prompts: dict[str, list[list[dict[str, str]]]] = {}
        self._free: dict[Which, trio.Event] = {}
        self._changed = threading.Condition()
        self._token: trio.lowlevel.TrioToken | None = None

    def asked(self, question: str) -> int:
        """Return how often a question was asked."""
        return len(self._prompts.get(question, ()))

    def prompt(self, question: str, nth: int = 1) -> list[str]:
        """Return what was told besides the instructions when it was asked."""
        return [said["content"] for said in self._prompts[question][nth - 1][1:]]

    def wait_for(self, question: str, nth: int = 1) -> None:
        """Wait until a question was asked so often."""
        with self._changed:
            assert self._changed.wait_for(lambda: self.asked(question) >= nth, WAIT_S), (question, self._prompts)

    def let_go(self, question: str, nth: int = 1) -> None:
        """Let an answer that is held go on."""
        assert self._token is not None
        trio.from_thread.run_sync(self._free[question, nth].set, trio_token=self._token)

    async def app(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            raise RuntimeError("no lifespan")
        which = self._note(json.loads(await _body(receive))["messages"])
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_leave_with_client, receive, nursery.cancel_scope)
            await self._answer(which, send)
            nursery.cancel_scope.cancel()

    def _note(self, messages: list[dict[str, str]]) -> Which:
        self._token = trio.lowlevel.current_trio_token()
        question = messages[-1]["content"]
        with self._changed:
            self._prompts.setdefault(question, []).append(messages)
            which = question, len(self._prompts[question])
            self._free[which] = trio.Event()
            self._changed.notify_all()
        return which

    async def _answer(self, which: Which, send: Send) -> None:
        if which in self.refuses:
            await _start(send, 400, b"application/json")
            await _send(send, json.dumps({"error": {"message": "No.", "type": "invalid_request_error"}}), more=False)
            return
        await _start(send, 200, b"text/event-stream")
        await _send(send, _chunk({"role": "assistant", "content": half(which)}))
        if which in self.holds:
            await self._free[which].wait()
        await _send(send, _chunk({"content": f"to {which[0]}."}))
        await _send(send, _chunk({}, "stop"))
        await _send(send, _event({"choices": [], "usage": USAGE}) + "data: [DONE]\n\n", more=False)


def half(which: Which) -> str:
    """Return what is said of an answer before it is held."""
    return f"Answer {which[1]} "


def whole(question: str, nth: int = 1) -> str:
    """Return an answer."""
    return f"{half((question, nth))}to {question}."


async def _body(receive: Receive) -> bytes:
    body, more = b"", True
    while more:
        message = await receive()
        body, more = body + message.get("body", b""), message.get("more_body", False)
    return body


async def _leave_with_client(receive: Receive, answer: trio.CancelScope) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    answer.cancel()


async def _start(send: Send, status: int, kind: bytes) -> None:
    await send({"type": "http.response.start", "status": status, "headers": [(b"content-type", kind)]})


async def _send(send: Send, text: str, *, more: bool = True) -> None:
    await send({"type": "http.response.body", "body": text.encode(), "more_body": more})


def _chunk(delta: dict[str, str], finish: str | None = None) -> str:
    return _event({"choices": [{"index": 0, "delta": delta, "finish_reason": finish}], "usage": None})


def _event(fields: dict[str, Any]) -> str:
    head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "answering"}
    return f"data: {json.dumps(head | fields)}\n\n"


@contextmanager
def answering_model() -> Iterator[AnsweringModel]:
    """Serve it; `OPENAI_BASE_URL` is its URL."""
    model = AnsweringModel()

    def instead(_app: AsgiApp) -> AsgiApp:
        return model.app

    with model_host(instead) as neighbour:
        model.url = f"{neighbour.url}/v1"
        yield model
