"""A connection to an origin, plain or secure: Trio's streams, with httpx's errors."""

import select
import ssl
from typing import Self

import httpx
import trio

RECEIVE_BYTES = 1 << 16

Origin = tuple[str, str, int]
"""Scheme, host, port."""


class Connection:
    """A stream to an origin. `touched`: something of the present request was sent on it."""

    __slots__ = ("_socket", "_stream", "idle_since", "origin", "secure", "touched", "used")

    def __init__(self, origin: Origin, raw: trio.SocketStream, stream: trio.abc.Stream) -> None:
        self.origin = origin
        self.idle_since = 0.0
        self.used = False
        self.touched = False
        self._socket = raw.socket
        self._stream = stream
        self.secure = stream is not raw

    @classmethod
    async def open(cls, origin: Origin, context: ssl.SSLContext | None) -> Self:
        """Connect, to whichever address answers first (RFC 8305, by Trio); with a context, securely.

        Raises:
            httpx.ConnectError: that failed.
        """
        _scheme, host, port = origin
        try:
            raw = await trio.open_tcp_stream(host, port)
        except (OSError, UnicodeError) as exc:  # the latter for a name that cannot be one
            raise httpx.ConnectError(str(exc) or type(exc).__name__) from exc
        if context is None:
            return cls(origin, raw, raw)
        try:
            stream = trio.SSLStream(raw, context, server_hostname=host, https_compatible=True)
            await stream.do_handshake()
        except (trio.BrokenResourceError, ssl.CertificateError, ValueError) as exc:
            raw.socket.close()
            raise httpx.ConnectError(str(exc.__cause__ or exc)) from exc
        except BaseException:
            raw.socket.close()
            raise
        return cls(origin, raw, stream)

    async def send(self, data: bytes) -> None:
        """Send it all.

        Raises:
            httpx.WriteError: the connection broke.
        """
        try:
            if not self.secure and not self.touched:
                data = data[await self._socket.send(data) :]
            self.touched = True
            if data:
                await self._stream.send_all(data)
        except (OSError, trio.BrokenResourceError, trio.ClosedResourceError) as exc:
            raise httpx.WriteError(str(exc.__cause__ or exc)) from exc

    async def receive(self) -> bytes:
        """Return what came; nothing at the end.

        Raises:
            httpx.ReadError: the connection broke.
        """
        try:
            return bytes(await self._stream.receive_some(RECEIVE_BYTES))
        except (trio.BrokenResourceError, trio.ClosedResourceError) as exc:
            raise httpx.ReadError(str(exc.__cause__ or exc)) from exc

    def is_quiet(self) -> bool:
        """Return whether the server has neither closed nor said anything; under TLS, neither in what was received."""
        if isinstance(self._stream, trio.SSLStream):
            received = self._stream._incoming.pending
            if received or self._stream.pending():
                return False
        look = select.poll()
        look.register(self._socket.fileno(), select.POLLIN)
        return not look.poll(0)

    def close(self) -> None:
        """Close at once; an idle or broken-off connection has nothing to say good-bye for."""
        self._socket.close()
