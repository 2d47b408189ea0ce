"""Servers that say exactly the given bytes, on loopback sockets in the test's own Trio loop; h11 reads for them."""

import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from itertools import cycle

import h11
import trio

WAIT_S = 20.0
"""Far beyond anything that is waited for: a test that reaches it has found a fault."""
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@dataclass(frozen=True, slots=True)
class Seen:
    """A request as h11 understood it."""

    method: str
    target: str
    headers: list[tuple[str, str]]
    body: bytes


class Peer:
    """A client's connection, on the server's side."""

    def __init__(self, number: int, raw: trio.SocketStream, stream: trio.abc.Stream) -> None:
        self.number = number
        self.raw = raw
        self.stream = stream
        self._rest = b""

    async def request(self, *, with_body: bool = True, at_head: bytes = b"") -> Seen | None:
        """Read a request, or its head only; None when the client closes instead. `at_head` is said before the body."""
        reader, head, body = h11.Connection(h11.SERVER), None, b""
        if self._rest:
            reader.receive_data(self._rest)
        while True:
            event = reader.next_event()
            if event is h11.NEED_DATA:
                data = bytes(await self.stream.receive_some(1 << 16))
                if not data:
                    return None
                reader.receive_data(data)
            elif isinstance(event, h11.Request):
                head = event
                await self.send(at_head)
            elif isinstance(event, h11.Data):
                body += bytes(event.data)
            if head is not None and (isinstance(event, h11.EndOfMessage) or not with_body):
                self._rest = reader.trailing_data[0]
                headers = [(name.decode(), value.decode()) for name, value in head.headers]
                return Seen(head.method.decode(), head.target.decode(), headers, body)

    async def send(self, data: bytes, *, cut: int = 0) -> None:
        """Send; in segments of `cut` bytes, each of its own."""
        for start in range(0, len(data), cut or len(data) or 1):
            await self.stream.send_all(data[start : start + (cut or len(data))])

    async def end(self) -> None:
        """Say that nothing more comes, and wait until the client closes."""
        self.finish()
        await self.closed()

    def finish(self) -> None:
        """Say that nothing more comes."""
        with suppress(OSError):  # the client may have closed already
            self.raw.socket.shutdown(socket.SHUT_WR)

    async def closed(self) -> None:
        """Wait until the client closes."""
        with suppress(trio.BrokenResourceError):
            while await self.raw.receive_some(1 << 16):
                pass

    def reset(self) -> None:
        """Close so that the client's next step fails."""
        self.raw.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.raw.socket.close()


Handler = Callable[[Peer], Awaitable[None]]


@dataclass
class Site:
    """A server that runs; `connections` counts those that were ever made."""

    url: str
    connections: int = 0
    open_now: int = 0
    changed: trio.Condition = field(default_factory=trio.Condition)

    async def until_open(self, number: int) -> None:
        """Wait until so many connections are open."""
        async with self.changed:
            while self.open_now != number:
                await self.changed.wait()


async def start(
    nursery: trio.Nursery,
    handler: Handler,
    *,
    tls: ssl.SSLContext | None = None,
    host: str = "127.0.0.1",
    port: int = 0,
) -> Site:
    """Serve every connection with `handler` until the nursery ends."""
    (listener,) = await trio.open_tcp_listeners(0, host=host)
    port = listener.socket.getsockname()[1]
    site = Site(f"{'https' if tls else 'http'}://{f'[{host}]' if ':' in host else host}:{port}")

    @asynccontextmanager
    async def counted() -> AsyncIterator[int]:
        site.connections += 1
        number = site.connections
        await note(1)
        try:
            yield number
        finally:
            with trio.CancelScope(shield=True):
                await note(-1)

    async def note(step: int) -> None:
        async with site.changed:
            site.open_now += step
            site.changed.notify_all()

    async def serve(raw: trio.SocketStream) -> None:
        async with counted() as number, raw:
            stream: trio.abc.Stream = raw
            with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                if tls is not None:
                    stream = secure = trio.SSLStream(raw, tls, server_side=True, https_compatible=True)
                    await secure.do_handshake()
                await handler(Peer(number, raw, stream))

    nursery.start_soon(trio.serve_listeners, serve, [listener])
    return site


def answers(*replies: bytes, seen: list[Seen] | None = None, cut: int = 0) -> Handler:
    """Answer every request of a connection with the next of the replies, over and over; then wait for the next."""

    async def handle(peer: Peer) -> None:
        for reply in cycle(replies):
            request = await peer.request()
            if request is None:
                return
            if seen is not None:
                seen.append(request)
            await peer.send(reply, cut=cut)

    return handle


def first(hostile: Handler, *, then: bytes = OK) -> Handler:
    """Treat the first connection so; every later one is answered properly."""

    async def handle(peer: Peer) -> None:
        await (hostile if peer.number == 1 else answers(then))(peer)

    return handle
