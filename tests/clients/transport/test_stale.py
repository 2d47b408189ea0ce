"""A connection that the server closed while it was idle: noticed, or survived where that does no harm, once."""

from collections.abc import AsyncIterator

import httpx
import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from app.clients.connection import Connection
from app.clients.transport import TrioTransport
from tests.clients.transport.conftest import Make, Serve
from tests.clients.transport.servers import OK, Handler, Peer, Seen, answers

pytestmark = pytest.mark.filterwarnings("ignore:Async generator:ResourceWarning")  # httpx's own, around streams


def closing_after(number: int, seen: list[Seen], *, reset: bool = False) -> Handler:
    """Serve so many requests per connection, then close without having said so."""

    async def handle(peer: Peer) -> None:
        for _ in range(number):
            if not (request := await peer.request()):
                return
            seen.append(request)
            await peer.send(OK)
        if reset:
            peer.reset()

    return handle


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_closed_connection_is_noticed(method: str, make: Make, serve: Serve) -> None:
    """Before anything is sent on it, so that even a POST is safe."""
    seen: list[Seen] = []
    site = await serve(closing_after(1, seen))
    async with make.client() as client:
        for number in range(1, 4):
            assert (await client.request(method, site.url)).content == b"ok"
            await site.until_open(0)
            assert (site.connections, len(seen)) == (number, number)


class Cut:
    """A server that drops each connection on its second request, having read it or not."""

    def __init__(self, *, read: bool) -> None:
        self.read = read
        self.seen: list[Seen] = []

    async def handle(self, peer: Peer) -> None:
        if request := await peer.request():
            self.seen.append(request)
            await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        if self.read:
            if second := await peer.request():
                self.seen.append(second)
            peer.reset()
        else:
            await peer.stream.receive_some(1)
            peer.reset()


METHODS = {
    "GET": True, "HEAD": True, "OPTIONS": True, "TRACE": True, "PUT": True, "DELETE": True, "POST": False,
    "PATCH": False, "OWN": False,
}  # fmt: skip


@pytest.mark.parametrize("read", [True, False])
@pytest.mark.parametrize("method", METHODS)
async def test_a_request_that_may_be_lost_is_sent_twice_only_if_that_does_no_harm(
    method: str, read: bool, serve: Serve
) -> None:
    """RFC 9110, 9.2.2: an idempotent one is asked again on a new connection; any other is the caller's to judge."""
    transport, cut = TrioTransport(), Cut(read=read)
    site = await serve(cut.handle)
    async with httpx.AsyncClient(transport=transport, timeout=None) as client:
        await client.get(site.url)
        if METHODS[method]:
            assert (await client.request(method, site.url)).status_code == 200
            assert (site.connections, transport.statistics()) == (2, (1, 1))
        else:
            with pytest.raises((httpx.ReadError, httpx.RemoteProtocolError)):
                await client.request(method, site.url)
            assert (site.connections, transport.statistics()) == (1, (0, 0))
    again = [request for request in cut.seen if request.method == method]
    assert len(again) == (method == "GET") + read + METHODS[method]


async def test_it_is_tried_once_more_and_no_oftener(serve: Serve) -> None:
    """A server that drops every connection but the first, however it is asked."""
    transport, seen = TrioTransport(), []

    async def handle(peer: Peer) -> None:
        if request := await peer.request():
            seen.append(request)
            if peer.number == 1:
                await peer.send(OK)
                await peer.request()

    site = await serve(handle)
    async with httpx.AsyncClient(transport=transport, timeout=None) as client:
        await client.get(site.url)
        with pytest.raises(httpx.RemoteProtocolError):
            await client.get(site.url)
    assert (site.connections, len(seen), transport.statistics()) == (2, 2, (0, 0))


async def test_a_new_connection_is_not_tried_again(serve: Serve) -> None:
    """One that breaks on its first request was no stale one."""
    transport = TrioTransport()

    async def handle(peer: Peer) -> None:
        await peer.request()

    site = await serve(handle)
    async with httpx.AsyncClient(transport=transport, timeout=None) as client:
        with pytest.raises(httpx.RemoteProtocolError):
            await client.get(site.url)
    assert site.connections == 1


async def test_an_answer_that_had_begun_is_not_asked_for_again(serve: Serve) -> None:
    """The server was there, and did something."""
    seen: list[Seen] = []

    async def handle(peer: Peer) -> None:
        for reply in (OK, b"HTTP/1.1 2"):
            if request := await peer.request():
                seen.append(request)
                await peer.send(reply)

    site = await serve(handle)
    async with httpx.AsyncClient(transport=TrioTransport(), timeout=None) as client:
        await client.get(site.url)
        with pytest.raises(httpx.RemoteProtocolError):
            await client.get(site.url)
    assert len(seen) == 2


async def test_a_slow_answer_is_not_asked_for_again(serve: Serve) -> None:
    """A timeout on a used connection is a timeout."""
    seen: list[Seen] = []

    async def handle(peer: Peer) -> None:
        while request := await peer.request():
            seen.append(request)
            if len(seen) == 1:
                await peer.send(OK)

    site = await serve(handle)
    async with httpx.AsyncClient(transport=TrioTransport(), timeout=0.2) as client:
        await client.get(site.url)
        with pytest.raises(httpx.ReadTimeout):
            await client.get(site.url)
    assert len(seen) == 2


async def a_stream() -> AsyncIterator[bytes]:
    yield b"one"
    yield b"two"


@pytest.mark.parametrize("body", ["none", "short", "long", "streamed"])
async def test_a_post_of_which_nothing_was_sent_is_sent_on_a_new_connection(
    body: str, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel refused its first byte, since a reset had come; the whole body arrives, once."""
    monkeypatch.setattr(Connection, "is_quiet", lambda _connection: True)  # it came just after the asking
    seen: list[Seen] = []
    site = await serve(closing_after(1, seen, reset=True))
    expected = {"none": b"", "short": b"short", "long": bytes(1 << 20), "streamed": b"onetwo"}[body]
    content = a_stream() if body == "streamed" else expected
    async with httpx.AsyncClient(transport=TrioTransport(), timeout=None) as client:
        await client.get(site.url)
        await site.until_open(0)
        assert (await client.post(site.url, content=content)).content == b"ok"
    assert [(request.method, request.body) for request in seen] == [("GET", b""), ("POST", expected)]


async def test_a_restarted_server_costs_each_place_one_retry_at_most(serve: Serve) -> None:
    """Every idle connection is dead: all requests that may be repeated are answered."""
    alive, seen, restart = trio.Event(), list[Seen](), trio.Event()

    async def handle(peer: Peer) -> None:
        if restart.is_set():
            await answers(OK, seen=seen)(peer)
            return
        await peer.request()
        await alive.wait()
        await peer.send(OK)
        await restart.wait()
        peer.reset()

    site = await serve(handle)
    transport = TrioTransport(max_connections=10)
    async with httpx.AsyncClient(transport=transport, timeout=None) as client:
        async with trio.open_nursery() as nursery:
            for _ in range(10):
                nursery.start_soon(client.get, site.url)
            await site.until_open(10)
            alive.set()
        assert transport.statistics() == (10, 10)
        restart.set()
        await wait_all_tasks_blocked(0.05)
        async with trio.open_nursery() as nursery:
            for _ in range(30):
                nursery.start_soon(client.get, site.url)
        assert len(seen) == 30
        assert transport.statistics()[0] <= 10
