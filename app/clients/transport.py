"""An httpx transport on Trio streams: HTTP/1.1, pooled, at the same cost however many connections are open.

Why not httpx's own: httpcore's pool polls every idle socket at every request, so that a call costs 0.77 ms of CPU, and
more with each open connection. This one costs about a third of that (bench/RESULTS.md).

A request holds one of `max_connections` places from its first step until its response has been read or closed. Idle
connections are a stack per origin, the warmest on top. The kernel is asked about that one alone, whether the server has
closed it or said something unasked: one `poll`, a microsecond; under TLS, its buffers are asked as well. (Not asking
for the first 50 ms was tried: a second answer to one request was then taken for the next one's.) If the server closes
in just that moment, the request is sent once more on a new connection, provided that nothing of it was sent, or that
sending it twice does no harm (RFC 9110, 9.2.2).

Whatever ends a request early, a cancellation too, closes its connection: only a response that was read to its end gives
it back.
"""

import ssl
import time
from collections import deque
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

import httpx
import trio

from app.clients.connection import RECEIVE_BYTES, Connection, Origin
from app.clients.http1 import RequestBody, ResponseReader, WrongRequestError, WrongResponseError, encode_head

SEND_AT_ONCE_BYTES = 1 << 16
"""A larger body is sent while the answer is awaited, since a server may refuse it before it has read it all."""
REFUSAL_BODY_S = 1.0
"""How long the body of an answer that ends an upload under TLS is read on; what has not come by then is lost."""
KEEP_ALIVE_S = 15.0
"""Less than most servers and proxies keep an idle connection (nginx 75, AWS's load balancers 60, PostgREST 30); one
that was closed sooner (uvicorn 5) is noticed by asking."""
IDEMPOTENT = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"})


class TrioTransport(httpx.AsyncBaseTransport):
    """Send requests over connections of its own.

    Args:
        max_connections: open at once, over all origins; None for any number.
        ssl_context: for https; the system's trust when not given.
        keep_alive_s: how long an idle connection is kept.
    """

    def __init__(
        self,
        *,
        max_connections: int | None = None,
        ssl_context: ssl.SSLContext | None = None,
        keep_alive_s: float = KEEP_ALIVE_S,
    ) -> None:
        self._max = max_connections
        self._places = trio.Semaphore(max_connections) if max_connections else None
        self._ssl_context = ssl_context
        self._keep_alive_s = keep_alive_s
        self._idle: dict[Origin, deque[Connection]] = {}
        self._open = 0
        self._closed = False

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Return the response once its head is there; its body streams.

        Raises:
            httpx.PoolTimeout, ConnectTimeout, WriteTimeout, ReadTimeout: as httpx's own transport does.
            httpx.ConnectError: no connection, or no trusted one.
            httpx.WriteError, ReadError: the connection broke.
            httpx.RemoteProtocolError: the server said something that is no proper response, or too little.
            httpx.LocalProtocolError: the request cannot be written down.
            httpx.UnsupportedProtocol: neither http nor https.
        """
        call = _Call(request)
        await self._take_place(call.limits.get("pool"))
        try:
            return await self._exchange(call)
        except BaseException:
            self._leave_place()
            raise

    async def aclose(self) -> None:
        """Close the idle connections; those in use are closed when their responses are."""
        self._closed = True
        for idle in self._idle.values():
            for connection in idle:
                self._discard(connection)
        self._idle.clear()
        await trio.lowlevel.checkpoint()

    def statistics(self) -> tuple[int, int]:
        """Return how many connections are open, and how many of them are idle. Safe to call from any thread."""
        return self._open, sum(map(len, list(self._idle.values())))

    @property
    def waiting(self) -> int:
        """How many requests wait for a place."""
        return self._places.statistics().tasks_waiting if self._places else 0

    async def _take_place(self, timeout_s: float | None) -> None:
        if self._places is None:
            return
        try:
            self._places.acquire_nowait()
        except trio.WouldBlock:
            with _within(timeout_s, httpx.PoolTimeout("no connection came free")):
                await self._places.acquire()

    def _leave_place(self) -> None:
        if self._places is not None:
            self._places.release()

    async def _exchange(self, call: "_Call") -> httpx.Response:
        connection = self._warmest(call.origin)
        if connection is not None:
            try:
                return await self._ask(connection, call)
            except _Stale:
                pass  # the server had closed it; nothing was lost
        return await self._ask(await self._connect(call), call)

    async def _ask(self, connection: "Connection", call: "_Call") -> httpx.Response:
        try:
            reader = await call.on(connection)
        except BaseException:
            self._discard(connection)
            raise
        assert reader.head is not None
        return httpx.Response(
            reader.head.status,
            headers=reader.head.headers,
            stream=_Body(self, connection, reader, call.limits.get("read")),
            request=call.request,
            extensions={
                "http_version": f"HTTP/{reader.head.version}".encode(),
                "reason_phrase": reader.head.reason,
            },
        )

    async def _connect(self, call: "_Call") -> "Connection":
        self._forget_expired()
        self._make_room()
        self._open += 1
        try:
            with _within(call.limits.get("connect"), httpx.ConnectTimeout("no connection in time")):
                return await Connection.open(call.origin, self._context(call.origin))
        except BaseException:
            self._open -= 1
            raise

    def _context(self, origin: Origin) -> ssl.SSLContext | None:
        if origin[0] == "http":
            return None
        if self._ssl_context is None:
            self._ssl_context = ssl.create_default_context()
        return self._ssl_context

    def _warmest(self, origin: Origin) -> "Connection | None":
        """Return the idle connection that was used last, if there is one that still holds."""
        idle = self._idle.get(origin)
        while idle:
            connection = idle.pop()
            idle_s = time.monotonic() - connection.idle_since
            if idle_s < self._keep_alive_s and connection.is_quiet():
                return connection
            self._discard(connection)
        return None

    def _make_room(self) -> None:
        """Close the coldest idle connection of some origin, if one more would be too many."""
        if self._max is not None and self._open >= self._max:
            for idle in self._idle.values():
                if idle:
                    self._discard(idle.popleft())
                    return

    def done(self, connection: "Connection", *, reusable: bool) -> None:
        """Take a connection back whose response was read, or given up."""
        self._leave_place()
        if not reusable or self._closed:
            self._discard(connection)
            return
        connection.idle_since = now = time.monotonic()
        connection.used = True
        idle = self._idle.setdefault(connection.origin, deque())
        idle.append(connection)
        self._forget_expired_of(idle, now)

    def _forget_expired(self) -> None:
        """Close what has been idle for too long: at an origin that is never asked again, nothing else would."""
        now = time.monotonic()
        for idle in self._idle.values():
            self._forget_expired_of(idle, now)
        self._idle = {origin: idle for origin, idle in self._idle.items() if idle}

    def _forget_expired_of(self, idle: "deque[Connection]", now: float) -> None:
        while idle and now - idle[0].idle_since > self._keep_alive_s:
            self._discard(idle.popleft())

    def _discard(self, connection: "Connection") -> None:
        self._open -= 1
        connection.close()


class _Stale(Exception):
    """The server had closed an idle connection; the request can be sent on another one."""


class _Call:
    """One request: sent on a connection, perhaps on a second one."""

    def __init__(self, request: httpx.Request) -> None:
        self.request = request
        self.limits: dict[str, float | None] = request.extensions.get("timeout", {})
        self.origin = _origin(request.url)
        self._content: bytes | None = None
        self._upload_error: httpx.WriteError | None = None
        headers = request.headers.raw
        with _legally():
            self._head = encode_head(request.method, request.url.raw_path, headers)
            self._body = RequestBody(headers)
            if isinstance(request.stream, httpx.ByteStream):
                self._content = self._body.piece(b"".join(request.stream)) + self._body.end()

    async def on(self, connection: Connection) -> ResponseReader:
        """Send the request and return the reader that knows the response's head.

        Raises:
            _Stale: the server had closed the idle connection, and the request may be sent again.
        """
        connection.touched = False
        reader = ResponseReader(self.request.method)
        try:
            if self._content is not None and len(self._content) <= SEND_AT_ONCE_BYTES:
                await self._send(connection, self._head + self._content)
                await self._read_head(connection, reader)
            else:
                await self._send_beside_reading(connection, reader)
        except httpx.TransportError as exc:
            if connection.used and reader.silent and self._again(connection, exc):
                self._upload_error = None
                raise _Stale from exc
            raise (self._upload_error or exc) from exc.__cause__
        if self._upload_error is not None:
            reader.is_last = True  # what was not sent of this request would be missing from the next
        return reader

    def _again(self, connection: Connection, error: httpx.TransportError) -> bool:
        """Return whether the request may be sent on another connection: it was not slow, and it did no harm."""
        if isinstance(error, httpx.TimeoutException):
            return False
        harmless = self.request.method in IDEMPOTENT and self._content is not None
        return harmless or not connection.touched

    async def _send(self, connection: Connection, data: bytes) -> bool:
        """Send, and return whether more can be sent: a broken connection may still have an answer on it to be read."""
        try:
            with _within(self.limits.get("write"), httpx.WriteTimeout("the server takes nothing")):
                await connection.send(data)
        except httpx.WriteError as exc:
            self._upload_error = exc
        return self._upload_error is None

    async def _read_head(self, connection: Connection, reader: ResponseReader) -> None:
        while reader.head is None:
            await read_on(connection, reader, self.limits.get("read"))

    async def _send_beside_reading(self, connection: Connection, reader: ResponseReader) -> None:
        """Send a long body while an answer may come. One that is an error ends the sending."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._heed_refusal, connection, reader, nursery.cancel_scope)
                await self._upload(connection)
                nursery.cancel_scope.cancel()
        except BaseExceptionGroup as group:
            raise _foremost(group) from None
        await self._read_head(connection, reader)

    async def _heed_refusal(self, connection: Connection, reader: ResponseReader, sending: trio.CancelScope) -> None:
        while reader.head is None:
            await read_on(connection, reader, None)
        if reader.head.status >= 400:
            reader.is_last = True  # the rest of the body would be taken for the next request
            with trio.move_on_after(REFUSAL_BODY_S):
                while connection.secure and not reader.complete and reader.unread < RECEIVE_BYTES:
                    await read_on(connection, reader, None)  # cut off in sending, TLS reads no more
            sending.cancel()

    async def _upload(self, connection: Connection) -> None:
        if not await self._send(connection, self._head):
            return  # before the stream is asked: it may be needed for another connection
        if self._content is not None:
            await self._send(connection, self._content)
            return
        assert isinstance(self.request.stream, httpx.AsyncByteStream)
        with _legally():
            async for data in self.request.stream:
                if (piece := self._body.piece(data)) and not await self._send(connection, piece):
                    return
            if end := self._body.end():
                await self._send(connection, end)


class _Body(httpx.AsyncByteStream):
    """The body of a response. Read to its end, or closed, it gives the connection back, or up."""

    def __init__(
        self, pool: TrioTransport, connection: Connection, reader: ResponseReader, timeout_s: float | None
    ) -> None:
        self._pool = pool
        self._connection = connection
        self._reader = reader
        self._timeout_s = timeout_s
        self._held = True
        if reader.complete:
            self._let_go()

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        """Return the next piece.

        Raises:
            httpx.ReadTimeout, ReadError, RemoteProtocolError: the rest does not come, or is not right.
        """
        while True:
            if piece := self._reader.take():
                return piece
            if not self._held:
                raise StopAsyncIteration
            try:
                await read_on(self._connection, self._reader, self._timeout_s)
            except BaseException:
                self._let_go()
                raise
            if self._reader.complete:
                self._let_go()

    async def aclose(self) -> None:
        """Close; before the end, that ends the connection too. Nothing is waited for, not even a checkpoint."""
        self._let_go()

    def _let_go(self) -> None:
        if self._held:
            self._held = False
            self._pool.done(self._connection, reusable=self._reader.reusable)


async def read_on(connection: Connection, reader: ResponseReader, timeout_s: float | None) -> None:
    """Read once from the connection into the reader.

    Raises:
        httpx.ReadTimeout, ReadError: nothing came, or the connection broke.
        httpx.RemoteProtocolError: what came is not right, or ended too early.
    """
    with _within(timeout_s, httpx.ReadTimeout("the server says nothing")):
        data = await connection.receive()
    try:
        if data:
            reader.feed(data)
        else:
            reader.end()
    except WrongResponseError as exc:
        raise httpx.RemoteProtocolError(str(exc)) from exc


@contextmanager
def _within(seconds: float | None, late: httpx.TimeoutException) -> Iterator[None]:
    if seconds is None:
        yield
        return
    with trio.move_on_after(seconds) as scope:
        yield
    if scope.cancelled_caught:
        raise late


@contextmanager
def _legally() -> Iterator[None]:
    try:
        yield
    except WrongRequestError as exc:
        raise httpx.LocalProtocolError(str(exc)) from exc


def _origin(url: httpx.URL) -> Origin:
    if url.scheme not in ("http", "https") or not url.host:
        raise httpx.UnsupportedProtocol(f"not a URL of http or https: {url.scheme}://")
    return url.scheme, url.raw_host.decode("ascii"), url.port or (443 if url.scheme == "https" else 80)


def _foremost(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """Return the one error that explains a group; a cancellation only if there is nothing else."""
    _cancelled, errors = group.split(trio.Cancelled)
    leaf: BaseException = errors if errors is not None else group
    while isinstance(leaf, BaseExceptionGroup):
        leaf = leaf.exceptions[0]
    return leaf
