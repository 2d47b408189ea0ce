"""One client's connection: Hypercorn's, with guards for the process, for bystanders and for whoever waits for its end.

| guard | stands for (Hypercorn 0.18, Trio worker) |
|---|---|
| `run` catches everything | any exception but OSError in one connection ended the worker |
| `_send` has a deadline | a send was shielded without one: a client that stopped reading held its turn for ever |
| the reader goes on while a request is answered | see app/edge/http1.py; what waits is bounded by `MAX_AHEAD_BYTES` |
| `_close` lingers | unread input made the kernel reset the connection, which could take the answer with it |
| the keep-alive timer is the reader's deadline | it was a task, made anew for every request, and outlived the client |

A client that shuts down its sending side has left, as if it had closed: browsers and HTTP libraries do not do that
while they wait, and a proxy does it when its own client is gone.
"""

import logging
import os
import socket
import struct
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from math import inf
from typing import Literal

import trio
from hypercorn.config import Config
from hypercorn.events import Closed, Event, RawData, Updated
from hypercorn.trio.task_group import TaskGroup
from hypercorn.trio.tcp_server import MAX_RECV, TCPServer
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import AppWrapper, ConnectionState
from hypercorn.utils import parse_socket_addr

from app.edge.http1 import Ends, Http1
from app.errors import Contained

log = logging.getLogger(__name__)

MAX_AHEAD_BYTES = 1 << 16
"""What a client may send ahead of its answer. Browsers send nothing; more than this is no honest pipelining."""
SEND_PIECE_BYTES = 1 << 16
"""Each piece has the send deadline to itself, so a client on a slow line is kept: 6.5 kB/s at the default 10 s.

Of one on a fast line that reads slowly, TCP tells in steps (measured: 120 to 560 KB, the more it buffers), so that has
to read 60 kB/s.
"""
LINGER_S, LAST_LINGER_S = 2.0, 0.5
"""After the last byte, for the client to read it and close (nginx: lingering_timeout, 5 s); less in the drain."""

Drop = Literal["send_timeout", "sent_ahead", "failed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionRules:
    """`send_timeout_s`: longest wait for a client to take a piece of its answer.

    `closing`: whether answers should be the last of their connections. `refused` and `dropped` are told why.
    """

    send_timeout_s: float
    closing: Callable[[], bool]
    refused: Callable[[str], None]
    dropped: Callable[[Drop], None]


class Connection(TCPServer):
    """Serves `stream` to its end."""

    protocol: Http1  # type: ignore[assignment]  # in place of the wrapper that would switch to h2

    def __init__(
        self,
        app: AppWrapper,
        config: Config,
        context: WorkerContext,
        stream: trio.SocketStream,
        rules: ConnectionRules,
    ) -> None:
        super().__init__(app, config, context, ConnectionState({}), stream)  # type: ignore[arg-type]  # typed for TLS only
        self._socket = stream
        self._rules = rules
        self._reading = trio.CancelScope()
        self._idle = True
        self._ending = False

    async def run(self) -> None:
        """Serve until either side ends it. Whatever goes wrong in this connection stays in it."""
        try:
            with Contained(self._failed), suppress(OSError):  # OSError: it left before it could be asked who it is
                await self._serve()
        finally:
            self._socket.socket.close()

    async def _serve(self) -> None:
        ends = Ends(
            client=parse_socket_addr(self._socket.socket.family, self._socket.socket.getpeername()),
            server=parse_socket_addr(self._socket.socket.family, self._socket.socket.getsockname()),
        )
        async with TaskGroup() as self._task_group:
            self.protocol = Http1(
                self.app, self.config, self.context, self._task_group, ends, self.protocol_send,
                closing=self._rules.closing, refused=self._rules.refused,
            )  # fmt: skip
            self._set_idle(True)
            watching = trio.CancelScope()
            self._task_group.spawn(self._watch_for_the_end, watching)
            await self._read_data()
            self._ending = True
            watching.cancel()

    async def _read_data(self) -> None:
        """Read for as long as the client sends, whether or not a request is being answered: so its leaving is seen."""
        with self._reading:
            while data := await self._receive():
                if not self._ending:
                    await self.protocol.handle(RawData(data))
                    if self.protocol.bytes_ahead() > MAX_AHEAD_BYTES:
                        self._drop("sent_ahead")
        await self.protocol.handle(Closed())

    async def _receive(self) -> bytes:
        """Return what came; nothing when the client has left or the connection was closed."""
        try:
            return bytes(await self._socket.receive_some(MAX_RECV))
        except (trio.ClosedResourceError, trio.BrokenResourceError):
            return b""

    async def protocol_send(self, event: Event) -> None:
        """Do what the protocol wants done with the connection."""
        if isinstance(event, RawData):
            if event.data:  # the end of an answer whose length was told has none; a lock costs more than asking
                await self._send(event.data)
        elif isinstance(event, Closed):
            await self._close()
            await self.protocol.handle(event)
        elif isinstance(event, Updated) and not self._ending:  # a connection that ends waits for no next request
            self._set_idle(event.idle)

    def _set_idle(self, idle: bool) -> None:
        """Note whether a request is under way; while none is, the reader waits for so long and no longer."""
        self._idle = idle
        self._reading.deadline = trio.current_time() + self.config.keep_alive_timeout if idle else inf

    async def _watch_for_the_end(self, watching: trio.CancelScope) -> None:
        """When the server ends: close if idle; if this connection is being closed, hardly wait for its client."""
        with watching:
            await self.context.terminated.wait()
            if self._ending:
                self._linger_for(LAST_LINGER_S)
            elif self._idle:
                self._reading.cancel()

    async def _send(self, data: bytes) -> None:
        """Send, in the order of asking. A send that is cut off leaves the connection unusable: it is closed."""
        if not self.send_lock.locked() and trio.current_effective_deadline() > -inf:  # who is cancelled says no more
            data = self._send_at_once(data)
            if not data:
                return
        async with self.send_lock:
            try:
                for start in range(0, len(data), SEND_PIECE_BYTES):
                    with trio.fail_after(self._rules.send_timeout_s):
                        await self._socket.send_all(data[start : start + SEND_PIECE_BYTES])
                return
            except trio.TooSlowError:
                self._drop("send_timeout")
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                pass
            except trio.Cancelled:
                self._socket.socket.close()
                raise
        await self.protocol.handle(Closed())

    def _send_at_once(self, data: bytes) -> bytes:
        """Send what the kernel takes without waiting, and return the rest.

        That is all of it, nearly always: a lock, a deadline and a checkpoint for each token of a stream are spared, an
        eighth of its CPU. What goes wrong comes again where the rest is sent.
        """
        try:
            sent = os.write(self._socket.socket.fileno(), data)
        except OSError:  # full, or closed by either side
            return data
        return data[sent:]

    def _drop(self, why: Drop) -> None:
        """Close at once; what the client has not taken is forgotten, in the kernel too."""
        self._rules.dropped(why)
        log.info("connection.dropped", extra={"reason": why})
        self._ending = True
        if self._socket.socket.fileno() != -1:
            self._socket.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self._socket.socket.close()

    async def _close(self) -> None:
        """Say that nothing more will come; the reader closes when the client has, or after `LINGER_S`."""
        self._ending = True
        async with self.send_lock:  # what was to be sent before goes first
            try:
                self._socket.socket.shutdown(socket.SHUT_WR)
            except OSError:
                self._socket.socket.close()
        self._reading.deadline = inf
        self._linger_for(LAST_LINGER_S if self.context.terminated.is_set() else LINGER_S)

    def _linger_for(self, seconds: float) -> None:
        self._reading.deadline = min(self._reading.deadline, trio.current_time() + seconds)

    def _failed(self, error: Exception) -> None:
        self._rules.dropped("failed")
        log.error("connection.failed", exc_info=error)
