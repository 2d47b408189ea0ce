"""Each phase has a time of its own, and an error of httpx's; whatever was begun is closed."""

import socket
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

import httpx
import pytest
import trio

from tests.clients.transport.conftest import Make, Serve
from tests.clients.transport.servers import OK, Handler, Peer, answers, first

SOON = 0.2
pytestmark = pytest.mark.filterwarnings("ignore:Async generator:ResourceWarning")  # httpx's own, around streams


def only(**limits: float) -> httpx.Timeout:
    """Return limits where every phase but those named may last for ever."""
    return httpx.Timeout(**{"connect": None, "read": None, "write": None, "pool": None, **limits})


async def silent(peer: Peer) -> None:
    """Read, and say nothing."""
    await peer.closed()


async def begun(peer: Peer) -> None:
    """Answer with half a head, then nothing."""
    await peer.request()
    await peer.send(b"HTTP/1.1 200 OK\r\nContent-")
    await peer.closed()


@pytest.mark.parametrize("hostile", [silent, begun])
async def test_a_server_that_says_nothing_is_a_read_timeout(hostile: Handler, make: Make, serve: Serve) -> None:
    """Its connection is closed, and the next request is right."""
    site = await serve(first(hostile))
    async with make.client(timeout=only(read=SOON, pool=5), max_connections=1) as client:
        with pytest.raises(httpx.ReadTimeout):
            await client.get(site.url)
        await site.until_open(0)
        assert (await client.get(site.url)).content == b"ok"


async def test_a_body_that_stops_is_a_read_timeout(make: Make, serve: Serve) -> None:
    """Between two pieces of it, too; what came before was passed on."""

    async def stops(peer: Peer) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf")
        await peer.closed()

    site = await serve(first(stops))
    async with make.client(timeout=only(read=SOON, pool=5), max_connections=1) as client:
        async with client.stream("GET", site.url) as response:
            body = response.aiter_raw()
            assert await anext(body) == b"half"
            with pytest.raises(httpx.ReadTimeout):
                await anext(body)
        await site.until_open(0)
        assert (await client.get(site.url)).content == b"ok"


async def test_the_read_time_is_that_between_two_pieces(make: Make, serve: Serve) -> None:
    """A trickle that lasts longer as a whole is no timeout: the caller's deadline is what bounds it."""

    async def trickle(peer: Peer) -> None:
        while await peer.request():
            for byte in OK:
                await peer.send(bytes([byte]))
                await trio.sleep(0.006)

    site = await serve(trickle)
    async with make.client(timeout=only(read=5)) as client:
        began = trio.current_time()
        assert (await client.get(site.url)).content == b"ok"
        assert trio.current_time() - began > 0.006 * len(OK)
        with trio.move_on_after(SOON) as scope:
            await client.get(site.url)
        assert scope.cancelled_caught
        await site.until_open(0)


async def endless() -> AsyncIterator[bytes]:
    while True:
        yield bytes(1 << 20)


@pytest.mark.parametrize("streamed", [True, False])
async def test_a_server_that_takes_nothing_is_a_write_timeout(streamed: bool, make: Make, serve: Serve) -> None:
    """Once the kernel's buffers are full; the connection is closed."""

    async def deaf(_peer: Peer) -> None:
        await trio.sleep_forever()

    site = await serve(first(deaf))
    async with make.client(timeout=only(write=SOON, pool=5), max_connections=1) as client:
        with pytest.raises(httpx.WriteTimeout):
            await client.post(site.url, content=endless() if streamed else bytes(64 << 20))
        assert (await client.get(site.url)).content == b"ok"


async def test_no_free_connection_is_a_pool_timeout(make: Make, serve: Serve) -> None:
    """While another response is read; when that is closed, the next request gets its place."""

    async def halves(peer: Peer) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf")
        await peer.closed()

    site = await serve(first(halves))
    async with make.client(timeout=only(pool=SOON), max_connections=1) as client:
        async with client.stream("GET", site.url):
            with pytest.raises(httpx.PoolTimeout):
                await client.get(site.url)
        assert (await client.get(site.url)).content == b"ok"


@contextmanager
def full_house() -> Iterator[str]:
    """Listen, and let nobody in: with a full backlog, the kernel drops what wants to connect."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        guests = [socket.socket() for _ in range(4)]
        try:
            for guest in guests:
                guest.setblocking(False)
                guest.connect_ex(listener.getsockname())
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            for guest in guests:
                guest.close()


async def test_an_address_that_does_not_answer_is_a_connect_timeout(make: Make, serve: Serve) -> None:
    """And it leaves no place taken."""
    site = await serve(answers(OK))
    with full_house() as url:
        async with make.client(timeout=only(connect=SOON, pool=5), max_connections=1) as client:
            for _ in range(2):
                with pytest.raises(httpx.ConnectTimeout):
                    await client.get(url)
            assert (await client.get(site.url)).content == b"ok"


async def test_a_handshake_that_stops_is_a_connect_timeout(make: Make, serve: Serve, trusting: ssl.SSLContext) -> None:
    """TLS belongs to connecting; the half-open connection is closed."""
    site = await serve(silent)
    async with make.client(timeout=only(connect=SOON), ssl_context=trusting) as client:
        with pytest.raises(httpx.ConnectTimeout):
            await client.get(site.url.replace("http:", "https:"))
        await site.until_open(0)


async def test_a_caller_that_reads_slowly_is_not_cut_off(make: Make, serve: Serve) -> None:
    """The read time runs only while something is waited for."""
    site = await serve(answers(b"HTTP/1.1 200 OK\r\nContent-Length: 300000\r\n\r\n" + bytes(300_000)))
    async with make.client(timeout=only(read=SOON)) as client, client.stream("GET", site.url) as response:
        length = 0
        async for piece in response.aiter_raw():
            if not length:
                await trio.sleep(2 * SOON)
            length += len(piece)
    assert length == 300_000
