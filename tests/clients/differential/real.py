"""The same scripts over real sockets, through httpx's client: what it shows must be what the bulk saw in memory."""

import socket

import httpx
import trio

from tests.clients.differential.lockstep import Played
from tests.clients.differential.peers import Seen
from tests.clients.differential.script import Answer, Case

BODY = b'{"a":1}'


def fits(case: Case, played: Played) -> bool:
    """Return whether timing has no say in the case: no resets, nothing unasked, and httpx's needed no bringing along.

    What is unasked is noticed by httpx's if it comes in a piece of its own, and taken for the next answer if not.
    """
    plain = all(answer.ending != "reset" and not answer.deaf for answer in case.answers)
    alike = all(exchange.kept[0] == exchange.kept[1] for exchange in played.exchanges)
    asked = not any(exchange.left or exchange.unread for exchange in played.exchanges)
    whole = len(played.exchanges) == len(case.methods) and not any(exchange.again for exchange in played.exchanges)
    return plain and alike and asked and whole


class Site:
    """A server on loopback that gives the answers of a case in order, whatever connection is asked.

    It closes where a transport would wait for more than the script has.
    """

    def __init__(self, case: Case, played: Played) -> None:
        self._answers = list(case.answers)
        self._exhausted = played.exhausted
        self._number = 0
        self.said = [trio.Event() for _ in case.answers]
        """Set when all of an answer has been sent, and the connection closed if that belongs to it."""

    async def serve(self, stream: trio.SocketStream) -> None:
        while await _request(stream) and self._number < len(self._answers):
            number, self._number = self._number, self._number + 1
            answer = self._answers[number]
            await _say(stream, answer)
            if answer.ending == "eof" or number in self._exhausted:
                stream.socket.close()
            self.said[number].set()


async def _request(stream: trio.SocketStream) -> bool:
    """Read a request and return whether one came."""
    data = b""
    while b"\r\n\r\n" not in data or (data.startswith(b"POST") and not data.endswith(BODY)):
        try:
            more = await stream.receive_some()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return False
        if not more:
            return False
        data += more
    return True


async def _say(stream: trio.SocketStream, answer: Answer) -> None:
    for piece in answer.pieces:
        try:
            await stream.send_all(piece)
        except trio.BrokenResourceError:
            return


async def ask_all(transport: httpx.AsyncBaseTransport, case: Case, played: Played) -> list[Seen]:
    """Serve the case on a port of its own and return what a client on `transport` sees of it."""
    async with trio.open_nursery() as nursery:
        listener = (await trio.open_tcp_listeners(0, host="127.0.0.1"))[0]
        listener.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        site = Site(case, played)
        nursery.start_soon(trio.serve_listeners, site.serve, [listener])
        url = f"http://127.0.0.1:{listener.socket.getsockname()[1]}/"
        async with httpx.AsyncClient(transport=transport, timeout=20) as client:
            seen = []
            for method, said in zip(case.methods, site.said, strict=True):
                seen.append(await _ask(client, method, url))
                with trio.fail_after(20):
                    await said.wait()
                client.cookies.clear()  # one that is not ASCII would be a UnicodeEncodeError at the next request
        nursery.cancel_scope.cancel()
    return seen


async def _ask(client: httpx.AsyncClient, method: str, url: str) -> Seen:
    body = BODY if method == "POST" else None
    try:
        async with client.stream(method, url, content=body) as response:
            pieces = [piece async for piece in response.aiter_raw()]
    except httpx.TransportError as exc:
        return Seen(fault=type(exc).__name__)
    return Seen(
        response.status_code,
        response.extensions["reason_phrase"],
        tuple(response.headers.raw),
        response.extensions["http_version"],
        b"".join(pieces),
    )
