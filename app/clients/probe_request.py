"""One request of a doctor's: sent once, read in bounds, timed; and the transport that notes hosts' clocks."""

import time
from dataclasses import dataclass

import httpx
import trio

from app.clients.probing import HostAnswer, NoteClock

MAX_BYTES = 4 << 20
"""The longest list of models that is known (a broker's) has 600 kB."""


@dataclass(frozen=True, slots=True)
class Sent:
    """What came of a request: what is told of it, and its body, empty where it did not come whole."""

    answer: HostAnswer
    body: bytes = b""


async def send(transport: httpx.AsyncBaseTransport, request: httpx.Request) -> Sent:
    """Send a request once and return what came, a failure too; its caller's deadline is its only one."""
    started, host = trio.current_time(), host_of(request.url)
    try:
        response = await transport.handle_async_request(request)
        try:
            body = await _bounded(response)
        finally:
            await response.aclose()
    except httpx.HTTPError as exc:
        return Sent(HostAnswer(host=host, code=type(exc).__name__, seconds=trio.current_time() - started))
    return Sent(HostAnswer(host=host, status=response.status_code, seconds=trio.current_time() - started), body)


def host_of(url: httpx.URL) -> str:
    """Return who is at a URL, without a user, a password or a path."""
    return f"{url.host}:{url.port}" if url.port else url.host


async def _bounded(response: httpx.Response) -> bytes:
    body = bytearray()
    with trio.CancelScope() as reading:
        async for piece in response.aiter_bytes():
            body += piece
            if len(body) > MAX_BYTES:
                reading.cancel()
    return bytes(body) if len(body) <= MAX_BYTES else b""


class ClockTransport(httpx.AsyncBaseTransport):
    """Sends with `inner`, and tells `note` of each answer, whatever that is about."""

    def __init__(self, inner: httpx.AsyncBaseTransport, note: NoteClock) -> None:
        self._inner = inner
        self._note = note

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Return the response of `inner`; it raises what that raises."""
        asked_at, started = time.time(), time.perf_counter()
        response = await self._inner.handle_async_request(request)
        self._note(host_of(request.url), response.headers, asked_at, time.perf_counter() - started)
        return response

    async def aclose(self) -> None:
        """Close the transport below."""
        await self._inner.aclose()
