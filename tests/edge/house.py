"""The whole server within a test's own loop: real sockets, the real parts, and what they hold can be counted."""

import socket
import struct
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import trio

from app import bootstrap
from app.clients.ports import ChatDatabase, ChatModel, Database, LogRow, ModelEnd, ModelRequest, OnText, RowKey
from app.edge.serve import DrainRules, open_listener
from app.settings import Settings
from telemetry.providers import build_providers
from tests.server.extended import add_routes
from tests.server.process import WAIT_S
from tests.server.wire import chat_head
from tests.standins import SpanCount

PATHS = ("/chat", "/chat/stream")
"""Where a turn is asked for: as one JSON body, and as a stream."""
HEALTHZ = b"GET /healthz HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n"


def ask(path: str, message: str, user: str = "demo", **headers: str) -> bytes:
    """Return a whole request for a turn."""
    body = b'{"message": "%s"}' % message.encode()
    return chat_head(len(body), user, **headers).replace(b"/chat", path.encode(), 1) + body


class WatchedModel:
    """A model that tells who is being answered, how many pieces they were given, and when each answer began and ended.

    Questions are known by their first word.
    """

    def __init__(self, model: ChatModel) -> None:
        self.name, self.host, self.provider = model.name, model.host, model.provider
        self.begun: dict[str, trio.Event] = defaultdict(trio.Event)
        self.pieces: dict[str, int] = {}
        self.ended_at: dict[str, float] = {}
        self._model = model

    async def answer(self, request: ModelRequest, on_text: OnText) -> ModelEnd:
        question = request.messages[-1].content.split()[0]
        self.pieces[question] = 0
        self.begun[question].set()

        def counted(text: str) -> None:
            on_text(text)
            self.pieces[question] += bool(text)

        try:
            return await self._model.answer(request, counted)
        finally:
            del self.pieces[question]
            self.ended_at[question] = time.perf_counter()


class HeldDatabase:
    """A database whose writes of the rows of `holds` wait until `release()`."""

    def __init__(self, database: Database) -> None:
        self.holds: frozenset[str] = frozenset()
        self.waiting = 0
        self._database = database
        self._free = trio.Event()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._database, name)

    async def write_rows(self, rows: Sequence[LogRow]) -> Collection[RowKey]:
        if {row.sender for row in rows} & self.holds:
            self.waiting += 1
            try:
                await self._free.wait()
            finally:
                self.waiting -= 1
        return await self._database.write_rows(rows)

    def release(self) -> None:
        """Let every write go on, those to come too."""
        self.holds = frozenset()
        self._free.set()
        self._free = trio.Event()


@dataclass(slots=True)
class House:
    """The server at `address`."""

    parts: bootstrap.Parts
    address: tuple[str, int]
    data_dir: Path
    database: HeldDatabase
    model: WatchedModel
    spans: SpanCount
    _services: trio.Nursery = field(repr=False)

    @asynccontextmanager
    async def client(self, receive_buffer: int | None = None) -> AsyncIterator[trio.SocketStream]:
        """Connect until the block ends."""
        connection = trio.socket.socket()
        try:
            if receive_buffer is not None:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
            await connection.connect(self.address)
            yield trio.SocketStream(connection)
        finally:
            connection.close()

    @property
    def slots(self) -> tuple[int, int]:
        """How many of the model's slots are in use, and how many turns wait for one."""
        now = self.parts.gate.statistics()
        return now.borrowed, now.waiting

    async def rest(self) -> None:
        """Wait until no turn runs, no connection is open, and no request of theirs is being served any more.

        One to the embedded database that was cancelled ends when its thread does, a moment after its turn.
        """
        turns, edge = self.parts.turns, self.parts.edge
        await until(lambda: not (turns.in_flight() or edge.connections() or self.calls()), "the server rests")

    def calls(self) -> int:
        """Return how many requests to the embedded model and database are being served."""
        return len(self._services.child_tasks)


async def until(condition: Callable[[], bool], what: str) -> None:
    """Return as soon as `condition` holds, to the millisecond; for what can only be asked."""
    with trio.move_on_after(WAIT_S):
        while not condition():  # noqa: ASYNC110 - see above
            await trio.sleep(0.001)
        return
    raise AssertionError(f"not within {WAIT_S} s: {what}")


def close(stream: trio.SocketStream) -> None:
    """Close: the server is sent a FIN, or a reset when something of its answer had not been read."""
    stream.socket.close()


def reset(stream: trio.SocketStream) -> None:
    """Reset the connection."""
    stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    stream.socket.close()


def half_close(stream: trio.SocketStream) -> None:
    """Shut the sending side down, and go on listening."""
    cast(Any, stream.socket).shutdown(socket.SHUT_WR)


LEAVINGS: dict[str, Callable[[trio.SocketStream], None]] = {"close": close, "reset": reset, "half-close": half_close}


@asynccontextmanager
async def open_house(
    data_dir: Path, *, chat: ChatModel | None = None, send_buffer: int | None = None, **settings: Any
) -> AsyncIterator[House]:
    """Open the server with these settings; `chat` speaks in place of the scripted model.

    `send_buffer` is what the kernel holds of an answer that is not taken.
    """
    given = {"enable_chat_rate_limit": False, "embedded_llm": "scripted", **settings}
    chosen = Settings(_env_file=None, bind="127.0.0.1:0", data_dir=data_dir, **given)
    spans = SpanCount()
    providers = build_providers(
        service_version="test",
        instance="test",
        traces_endpoint_set=False,
        metrics_endpoint_set=False,
        span_processors=[spans],
    )
    listener = open_listener(*chosen.address)
    if send_buffer is not None:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer)
    host, port = listener.getsockname()
    async with (
        trio.open_nursery() as services,
        bootstrap.open_database(chosen, services, providers) as stored,
        bootstrap.open_model(chosen, services, providers) as model,
    ):
        database, watched = HeldDatabase(stored), WatchedModel(chat or model.chat)
        async with trio.open_nursery() as turn_nursery:
            resources = bootstrap.Resources(database=cast(ChatDatabase, database), model=replace(model, chat=watched))
            parts = bootstrap.join(chosen, providers, resources, turn_nursery, "test")
            add_routes(parts)
            async with trio.open_nursery() as edge:
                await edge.start(parts.edge.serve, parts.app, listener, _NO_DRAIN)
                yield House(parts, (host, port), data_dir, database, watched, spans, services)
                edge.cancel_scope.cancel()
        services.cancel_scope.cancel()
    await providers.shutdown(1.0)


_NO_DRAIN = DrainRules(
    grace_s=0, timeout_s=1, last_call_s=0.5, on_drain=lambda: None, on_last_call=lambda: None
)  # a test ends the server by leaving it
