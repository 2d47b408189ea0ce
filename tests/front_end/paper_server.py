"""A chat server of paper for the AI SDK: our parts of its wire over real HTTP, and nothing behind them.

A question says what becomes of it: `[[refuse 503]]` before its stream, `[[fail]]` in the middle of it; `[[hold]]` waits
there until somebody resumes, and `[[cut]]` does too, and its own connection ends there. Answers count what was asked.

    POST /chat   GET /chat/{id}/stream   POST /chat/{id}/stop   GET /chat/{id}/history
"""

import json
import re
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Any

import trio
from hypercorn.config import Config
from hypercorn.trio import serve

from app.errors import CallerFault, Fault, ModelFault, OverloadFault
from app.receive.payload import PayloadRules, read_json
from app.receive.ui_messages import UiRequest, read_ui
from app.respond.ui_history import ui_messages
from app.respond.ui_stream import HEADERS, PING, UiStream, fault_sentence, refusal, start_metadata
from app.standing import MESSAGE_ID, turn_of
from app.turn import StoredMessage

RULES = PayloadRules(max_message_chars=2000)
PIECES = ("One, ", "two, ", "three, ", "four, ", "五")
PACE_S = 0.01
REST_S = 10.0
TRACE_ID = "t" * 32
METRICS = {
    "performance_metrics": {"total_time": 1.5},
    "token_usage": {"total_tokens": 3},
    "warnings": [],
    "saved": "no",
}
Send = Callable[[Any], Awaitable[None]]
Receive = Callable[[], Awaitable[Any]]


@dataclass
class Turn:
    """A turn that runs: what was sent of it so far, for whoever follows."""

    stays: bool
    is_cut: bool
    sent: list[bytes] = field(default_factory=list)
    changed: trio.Event = field(default_factory=trio.Event)
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)
    resumed: trio.Event = field(default_factory=trio.Event)
    over: bool = False

    def send(self, data: bytes) -> None:
        """Let followers have more."""
        self.sent.append(data)
        self.changed.set()
        self.changed = trio.Event()

    async def more(self, read: int) -> Sequence[bytes]:
        """Return what came after so much was read; nothing more comes after nothing."""
        while len(self.sent) == read and not self.over:
            await self.changed.wait()
        return self.sent[read:]


@dataclass
class PaperServer:
    """The server at `url`, one conversation per chat id."""

    url: str
    nursery: trio.Nursery
    rows: dict[str, list[StoredMessage]] = field(default_factory=dict)
    turns: dict[str, Turn] = field(default_factory=dict)
    asked: list[UiRequest] = field(default_factory=list)

    async def rest(self) -> None:
        """Wait until no turn runs."""
        with trio.fail_after(REST_S):
            while self.nursery.child_tasks:  # noqa: ASYNC110 - it can only be asked
                await trio.sleep(0.005)

    async def answer(self, method: str, path: str, body: bytes, receive: Receive, send: Send) -> None:
        """Answer one request."""
        _, _, chat_id, action = [*path.split("/"), "", ""][:4]
        turn = self.turns.get(chat_id)
        if method == "POST" and not chat_id:
            await self._chat(body, receive, send)
        elif action == "history":
            rows = self.rows.get(chat_id, [])
            await _reply(send, 200, json.dumps(ui_messages(rows, chat_id)), {"content-type": "application/json"})
        elif action == "stop" and turn:
            turn.scope.cancel()
            await _reply(send, 200)
        elif action == "stream" and turn:
            turn.is_cut = False
            turn.resumed.set()
            await self._stream(turn, receive, send)
        else:
            await _reply(send, 204)

    async def _chat(self, body: bytes, receive: Receive, send: Send) -> None:
        try:
            asked = read_ui(read_json(body), RULES)
        except CallerFault as fault:
            await _refuse(send, fault.kind.status, fault)
            return
        if refused := re.search(r"\[\[refuse (\d+)\]\]", asked.question):
            await _refuse(send, int(refused[1]), OverloadFault("overloaded", retry_after_s=1.5))
            return
        self.asked.append(asked)
        turn = Turn(stays=asked.on_disconnect == "continue", is_cut="[[cut]]" in asked.question)
        self.turns[asked.chat_id] = turn
        self.nursery.start_soon(self._run, asked, turn)
        await self._stream(turn, receive, send)

    async def _run(self, asked: UiRequest, turn: Turn) -> None:
        turn_id, text = uuid.uuid4(), ""
        rows = self.rows.setdefault(asked.chat_id, [])
        old = self._turn_named(rows, asked.replaces)
        rows.append(_row("user", asked.question, turn_id, {MESSAGE_ID: asked.question_id, "regenerates": old}))
        stream = UiStream(str(turn_id), start_metadata(asked.chat_id, turn_id, TRACE_ID))
        turn.send(stream.start() + stream.stage("db_fetch", "done", 0.0, 0.03) + stream.queue(1, 0.5))
        with turn.scope:
            for piece in (f"Answer {len(self.asked)}: ", *PIECES):
                text += piece
                turn.send(stream.text(piece) + PING)
                await trio.sleep(PACE_S)
                if piece == PIECES[1]:
                    await self._middle(asked.question, stream, turn)
            turn.send(stream.finish(METRICS))
        if turn.scope.cancelled_caught:
            turn.send(stream.abort())
        rows.append(_row("assistant", text, turn_id, {"trace_id": TRACE_ID, **METRICS}))
        turn.over = True
        if self.turns.get(asked.chat_id) is turn:
            del self.turns[asked.chat_id]
        turn.changed.set()

    async def _middle(self, question: str, stream: UiStream, turn: Turn) -> None:
        if "[[fail]]" in question:
            sentence = fault_sentence(ModelFault("model_error"), "en")
            turn.send(stream.fail(sentence, {"error": {"code": "model_error", "retryable": True}}))
        if "[[hold]]" in question or turn.is_cut:
            await turn.resumed.wait()

    def _turn_named(self, rows: list[StoredMessage], message_id: str | None) -> str | None:
        """Return the turn of a message that a front end names, the newest of those that it may mean."""
        if message_id is None:
            return None
        named = (row for row in reversed(rows) if message_id == row.context_data.get(MESSAGE_ID))
        by_turn = (row for row in reversed(rows) if str(turn_of(message_id)) == row.turn_id)
        return next((row.turn_id for row in (*by_turn, *named)), None)

    async def _stream(self, turn: Turn, receive: Receive, send: Send) -> None:
        headers = [(name.encode(), value.encode()) for name, value in HEADERS.items()]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._watch, turn, receive)
            read: list[bytes] = []
            while more := await turn.more(len(read)):
                read += more
                await send({"type": "http.response.body", "body": b"".join(more), "more_body": True})
                if turn.is_cut and any(PIECES[1].encode() in data for data in more):
                    break  # an application that ends like this has its connection closed
            else:
                await send({"type": "http.response.body", "body": b"", "more_body": False})
            nursery.cancel_scope.cancel()

    async def _watch(self, turn: Turn, receive: Receive) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        if not turn.stays:
            turn.scope.cancel()


def _row(sender: Any, text: str, turn_id: uuid.UUID, context: dict[str, Any]) -> StoredMessage:
    return StoredMessage(
        sender=sender, message=text, created_at=datetime.now(UTC), turn_id=str(turn_id), context_data=context
    )


async def _refuse(send: Send, status: int, fault: Fault) -> None:
    text, headers = refusal(fault, "en")
    await _reply(send, status, text, headers)


async def _reply(send: Send, status: int, text: str = "", headers: dict[str, str] | None = None) -> None:
    pairs = [(name.encode(), value.encode()) for name, value in (headers or {}).items()]
    await send({"type": "http.response.start", "status": status, "headers": pairs})
    await send({"type": "http.response.body", "body": text.encode(), "more_body": False})


@asynccontextmanager
async def paper_server() -> AsyncIterator[PaperServer]:
    """Serve on a free loopback port for a test's length."""
    config = Config()
    config.bind = ["127.0.0.1:0"]
    config.graceful_timeout = 0.1
    config.errorlog = None  # a cut connection is meant
    stop = trio.Event()
    async with trio.open_nursery() as turns:
        server = PaperServer("", turns)

        async def app(scope: Any, receive: Receive, send: Send) -> None:
            if scope["type"] == "http":
                await server.answer(scope["method"], scope["path"], await _body(receive), receive, send)
            else:
                await _lifespan(receive, send)

        async with trio.open_nursery() as edge:
            start: Any = partial(serve, app, config, shutdown_trigger=stop.wait)
            server.url = (await edge.start(start))[0]
            try:
                yield server
            finally:
                stop.set()
        turns.cancel_scope.cancel()


async def _body(receive: Receive) -> bytes:
    body, more = b"", True
    while more:
        event = await receive()
        body, more = body + event.get("body", b""), event.get("more_body", False)
    return body


async def _lifespan(receive: Receive, send: Send) -> None:
    for event in ("startup", "shutdown"):
        await receive()
        await send({"type": f"lifespan.{event}.complete"})
