"""The two transports on a server in memory, and what a caller sees of an exchange."""

from collections.abc import Iterable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, cast

import httpcore
import httpx
import trio

from app.clients.connection import Connection
from app.clients.transport import TrioTransport
from tests.clients.differential.network import BrokenLineError, Line, Server

URL = "http://server.test/path"
REQUESTS = {
    "GET": httpx.Request("GET", URL),
    "HEAD": httpx.Request("HEAD", URL),
    "POST": httpx.Request("POST", URL, content=b'{"a":1}'),
}


@dataclass(frozen=True, slots=True)
class Seen:
    """What a caller sees of one exchange. A `fault` is the error's class; with a status, it came in the body."""

    status: int = 0
    reason: bytes = b""
    headers: tuple[tuple[bytes, bytes], ...] = ()
    version: bytes = b""
    body: bytes = b""
    fault: str = ""


async def ask(transport: httpx.AsyncBaseTransport, method: str) -> Seen:
    """Send a request and read the response to its end."""
    response: httpx.Response | None = None
    body: list[bytes] = []
    fault = ""
    try:
        response = await transport.handle_async_request(REQUESTS[method])
        assert isinstance(response.stream, httpx.AsyncByteStream)
        try:
            async for piece in response.stream:
                body.append(piece)
        finally:
            await response.stream.aclose()
    except httpx.TransportError as exc:
        fault = type(exc).__name__
    if response is None:
        return Seen(fault=fault)
    return Seen(
        response.status_code,
        response.extensions["reason_phrase"],
        tuple(response.headers.raw),
        response.extensions["http_version"],
        b"".join(body),
        fault,
    )


class Ours:
    """Our transport, with lines in memory for sockets."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.transport = TrioTransport()

    async def ask(self, method: str) -> Seen:
        _connect_to.server = self.server
        return await ask(self.transport, method)


class _Socket:
    """What our transport uses of a Trio socket and of a Trio stream."""

    def __init__(self, line: Line, short_sends: bool) -> None:
        self._line = line
        self._short_sends = short_sends

    async def send(self, data: bytes) -> int:
        try:
            self._line.write(data)
        except BrokenLineError as exc:
            raise BrokenPipeError(str(exc)) from None
        return len(data) // 2 if self._short_sends else len(data)

    async def send_all(self, data: bytes) -> None:
        try:
            self._line.write(data)
        except BrokenLineError as exc:
            raise trio.BrokenResourceError(str(exc)) from None

    async def receive_some(self, max_bytes: int) -> bytes:
        try:
            return self._line.read()
        except BrokenLineError as exc:
            raise trio.BrokenResourceError(str(exc)) from None

    def close(self) -> None:
        self._line.close()

    @property
    def quiet(self) -> bool:
        return not self._line.readable


class _InMemory(Connection):
    """Our connection over a line; only opening it and looking at it are not the real ones."""

    @classmethod
    async def open(cls, origin: tuple[str, str, int], context: object) -> "_InMemory":
        server = _connect_to.server
        socket = _Socket(server.connect(), server.case.short_sends)
        raw = cast(trio.SocketStream, SimpleNamespace(socket=socket))
        connection = cls(origin, raw, raw)
        connection._stream = cast(trio.abc.Stream, socket)
        return connection

    def is_quiet(self) -> bool:
        return cast(_Socket, self._socket).quiet


class _ConnectTo:
    server: Server


_connect_to = _ConnectTo()
IN_MEMORY = _InMemory


class Theirs:
    """httpx's own transport, with its documented network backend in memory."""

    _shell = httpx.AsyncHTTPTransport(trust_env=False)

    def __init__(self, server: Server) -> None:
        self.server = server
        self.pool = httpcore.AsyncConnectionPool(network_backend=_Backend(server))

    async def ask(self, method: str) -> Seen:
        self._shell._pool = self.pool
        return await ask(self._shell, method)

    @property
    def leftovers(self) -> bytes:
        """What the parser holds of bytes that came after the response: it would take them for the next one."""
        return b"".join(
            connection._connection._h11_state.trailing_data[0]
            for connection in cast(list[Any], self.pool.connections)
            if connection._connection is not None and not connection.is_closed()
        )

    def forget_leftovers(self) -> None:
        for connection in cast(list[Any], self.pool.connections):
            buffer = connection._connection._h11_state._receive_buffer
            buffer._extract(len(buffer))

    async def close(self) -> None:
        """Close the connection that would be used again."""
        for connection in self.pool.connections:
            await connection.aclose()


class _Backend(httpcore.AsyncNetworkBackend):
    def __init__(self, server: Server) -> None:
        self._server = server

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[object] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        return _Stream(self._server.connect())


class _Stream(httpcore.AsyncNetworkStream):
    def __init__(self, line: Line) -> None:
        self._line = line

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        try:
            return self._line.read()
        except BrokenLineError as exc:
            raise httpcore.ReadError(str(exc)) from None

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        try:
            self._line.write(buffer)
        except BrokenLineError as exc:
            raise httpcore.WriteError(str(exc)) from None

    async def aclose(self) -> None:
        self._line.close()

    def get_extra_info(self, info: str) -> Any:
        return self._line.readable if info == "is_readable" else None
