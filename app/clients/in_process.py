"""An httpx transport that calls an ASGI app in this process, streaming both ways.

`httpx.ASGITransport` collects the whole answer before it returns, so nothing streams and nothing can be cancelled
through it. Here the app runs as a task of a nursery that its owner waits for; the answer's chunks pass through a
channel without a buffer, so a reader that stops makes the app wait; and closing the response cancels the app.
"""

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from typing import Any

import httpx
import trio

log = logging.getLogger(__name__)

Message = MutableMapping[str, Any]
AsgiApp = Callable[[Message, Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]], Awaitable[None]]


class InProcessTransport(httpx.AsyncBaseTransport):
    """Send requests to `app`; its tasks live in `nursery`, which must outlive every request."""

    def __init__(self, app: AsgiApp, nursery: trio.Nursery) -> None:
        self._app = app
        self._nursery = nursery

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Return the app's response as soon as it has started; its body streams.

        Raises:
            httpx.ConnectError: the app's nursery is closed.
            httpx.RemoteProtocolError: the app failed, or returned, before its response had started.
        """
        call = _Call(self._app, request)
        try:
            self._nursery.start_soon(call.run)
        except RuntimeError as exc:
            raise httpx.ConnectError("the embedded service has stopped", request=request) from exc
        try:
            started = await call.chunks.receive()
        except trio.EndOfChannel as exc:
            raise httpx.RemoteProtocolError("the embedded service ended without a response") from exc
        except BaseException:
            call.cancel()
            raise
        headers = [(bytes(name), bytes(value)) for name, value in started["headers"]]
        return httpx.Response(started["status"], headers=headers, stream=_Body(call), request=request)


class _Call:
    """One request's run of the app."""

    def __init__(self, app: AsgiApp, request: httpx.Request) -> None:
        self._app = app
        self._request = request
        self._scope = trio.CancelScope()
        self._sender, self.chunks = trio.open_memory_channel[Message](0)
        self._upload: AsyncIterator[bytes] | None = None
        self._uploaded = False

    def cancel(self) -> None:
        """Stop the app at its next checkpoint."""
        self._scope.cancel()
        self.chunks.close()

    async def run(self) -> None:
        """Run the app; the end of the channel, complete or not, is the end of the answer."""
        with self._scope, self._sender:
            try:
                await self._app(self._asgi_scope(), self._receive, self._send)
            except trio.BrokenResourceError:
                pass  # the caller has closed the response
            except Exception:  # this connection's guard: a failing app must not end the server around it
                log.exception("embedded.failed", extra={"path": self._request.url.path})

    def _asgi_scope(self) -> Message:
        url = self._request.url
        return {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": self._request.method,
            "scheme": url.scheme,
            "path": url.path,
            "raw_path": url.raw_path.partition(b"?")[0],
            "query_string": url.query,
            "root_path": "",
            "headers": [(name.lower(), value) for name, value in self._request.headers.raw],
            "server": (url.host, url.port),
            "client": ("in-process", 0),
        }

    async def _receive(self) -> Message:
        if self._uploaded:
            await trio.sleep_forever()  # a caller that leaves cancels this task; there is no disconnect message
        if self._upload is None:
            assert isinstance(self._request.stream, httpx.AsyncByteStream)
            self._upload = self._request.stream.__aiter__()
        try:
            return {"type": "http.request", "body": await anext(self._upload), "more_body": True}
        except StopAsyncIteration:
            self._uploaded = True
            return {"type": "http.request", "body": b"", "more_body": False}

    async def _send(self, message: Message) -> None:
        await self._sender.send(message)


class _Body(httpx.AsyncByteStream):
    """The answer's body; closing it cancels the app."""

    def __init__(self, call: _Call) -> None:
        self._call = call

    async def __aiter__(self) -> AsyncIterator[bytes]:
        complete = False
        async for message in self._call.chunks:
            if message.get("body"):
                yield message["body"]
            if not message.get("more_body", False):
                complete = True
                break
        if not complete:
            raise httpx.RemoteProtocolError("the embedded service ended in the middle of its response")

    async def aclose(self) -> None:
        self._call.cancel()
        await trio.lowlevel.checkpoint()
