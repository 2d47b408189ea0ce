"""Bodies of requests, as h11 reads them on the other side; and answers that come before a request's end."""

import ssl
from collections.abc import AsyncIterator
from functools import partial

import h11
import httpx
import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from app.clients.transport import TrioTransport
from tests.clients.transport.conftest import Make, Serve
from tests.clients.transport.servers import OK, Peer, Seen, answers

# httpx wraps each stream in a generator that nobody closes when a request ends before its stream does
pytestmark = pytest.mark.filterwarnings("ignore:Async generator:ResourceWarning")

BIG = bytes(range(256)) * 8192
"""2 MiB: more than is sent in one go."""
REFUSAL = b"HTTP/1.1 413 Too Much\r\nContent-Length: 4\r\n\r\nmuch"


async def pieces(*data: bytes) -> AsyncIterator[bytes]:
    for piece in data:
        yield piece


async def test_every_kind_of_body_arrives(make: Make, serve: Serve) -> None:
    """None, short, long, streamed with and without a length, and a form with a file; all on one connection."""
    seen: list[Seen] = []
    site = await serve(answers(OK, seen=seen))
    async with make.client() as client:
        await client.get(f"{site.url}/a%20b?q=1&q=%E5%B7%9D")
        await client.post(site.url, content=b"short")
        await client.post(site.url, content=b"")
        await client.put(site.url, content=BIG)
        await client.post(site.url, content=pieces(b"one", b"", b"two", BIG))
        await client.post(site.url, content=pieces(b"one", b"two"), headers={"content-length": "6"})
        await client.post(site.url, files={"file": b"contents"})
    assert site.connections == 1
    assert seen[0].target == "/a%20b?q=1&q=%E5%B7%9D"
    assert [request.body for request in seen[:6]] == [b"", b"short", b"", BIG, b"onetwo" + BIG, b"onetwo"]
    assert b"contents" in seen[6].body


@pytest.mark.parametrize("framing", ["length", "chunked"])
async def test_the_next_piece_is_asked_for_when_there_is_room(framing: str, make: Make, serve: Serve) -> None:
    """A server that does not read makes the caller's stream wait, long before it is at its end."""
    asked, stuck, count = 0, trio.Event(), 1024
    headers = {"content-length": str(count << 16)} if framing == "length" else {}

    async def endless() -> AsyncIterator[bytes]:
        nonlocal asked
        while asked < count:
            asked += 1
            yield bytes(1 << 16)

    async def handle(peer: Peer) -> None:
        await peer.request(with_body=False)
        before = -1
        while before != asked:
            before = asked
            await trio.sleep(0.25)
        stuck.set()
        await peer.closed()

    site = await serve(handle)
    async with make.client() as client, trio.open_nursery() as nursery:
        nursery.start_soon(partial(client.post, site.url, content=endless(), headers=headers))
        await stuck.wait()
        assert asked < count / 2
        nursery.cancel_scope.cancel()


WRONG: dict[str, tuple[dict[str, str], list[bytes]]] = {
    "more than announced": ({"content-length": "5"}, [b"one", b"two"]),
    "less than announced": ({"content-length": "7"}, [b"one", b"two"]),
}


@pytest.mark.parametrize("streamed", [True, False])
@pytest.mark.parametrize("name", WRONG)
async def test_a_body_other_than_announced_is_refused_here(name: str, streamed: bool, make: Make, serve: Serve) -> None:
    """A LocalProtocolError, and the half-written request's connection is closed, so that the next one is right."""
    headers, data = WRONG[name]
    seen: list[Seen] = []
    site = await serve(answers(OK, seen=seen))
    async with make.client(max_connections=1) as client:
        with pytest.raises(make.either(httpx.LocalProtocolError, h11.LocalProtocolError)):  # httpcore does not map it
            await client.post(site.url, headers=headers, content=pieces(*data) if streamed else b"".join(data))
        assert (await client.get(f"{site.url}/next")).content == b"ok"
    assert [request.target for request in seen] == ["/next"]


async def test_a_stream_that_fails_fails_the_request(make: Make, serve: Serve) -> None:
    """With the caller's own error; the next request is right."""

    async def failing() -> AsyncIterator[bytes]:
        yield b"one"
        raise LookupError("no more")

    seen: list[Seen] = []
    site = await serve(answers(OK, seen=seen))
    async with make.client(max_connections=1) as client:
        with pytest.raises(LookupError):
            await client.post(site.url, content=failing())
        assert (await client.get(f"{site.url}/next")).content == b"ok"
    assert [request.target for request in seen] == ["/next"]


async def hesitant() -> AsyncIterator[bytes]:
    """A stream that has a word, and then none for ever."""
    yield b"word"
    await trio.sleep_forever()


@pytest.mark.parametrize("secure", [False, True])
@pytest.mark.parametrize("late", [b"", b"h"])
async def test_a_refusal_ends_the_sending(
    secure: bool, late: bytes, serve: Serve, server_tls: ssl.SSLContext, trusting: ssl.SSLContext
) -> None:
    """A 413 in the middle of a request is its answer, at once; its connection carries no other request.

    Ours only: httpcore reads nothing before all is sent, and would wait for ever.
    """
    goes_on = trio.Event()

    async def handle(peer: Peer) -> None:
        if await peer.request(with_body=False):
            await peer.send(REFUSAL[: len(REFUSAL) - len(late)])
            await goes_on.wait()
            await peer.send(late)
            await peer.closed()

    site = await serve(handle, tls=server_tls if secure else None)
    async with Make("ours").client(ssl_context=trusting, max_connections=1) as client:
        for content in (hesitant(), bytes(32 << 20)):
            if secure:
                goes_on.set()  # the rest is read before the sending ends
            async with client.stream("POST", site.url, content=content) as response:
                assert response.status_code == 413
                goes_on.set()
                assert await response.aread() in (b"much", b"muc" + late)
            await site.until_open(0)
    assert site.connections == 2


async def test_a_refusal_whose_body_does_not_come_ends_the_sending_too(
    serve: Serve, server_tls: ssl.SSLContext, trusting: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Under TLS the body is waited for, but not for long: the status is told, and the connection is closed.

    Ours only: httpcore reads nothing before all is sent, and would wait for ever.
    """
    monkeypatch.setattr("app.clients.transport.REFUSAL_BODY_S", 0.1)

    async def handle(peer: Peer) -> None:
        if await peer.request(with_body=False):
            await peer.send(REFUSAL.removesuffix(b"much"))
            await peer.closed()

    site = await serve(handle, tls=server_tls)
    async with Make("ours").client(ssl_context=trusting, max_connections=1) as client:
        for content in (hesitant(), bytes(32 << 20)):
            with trio.fail_after(5):
                async with client.stream("POST", site.url, content=content) as response:
                    assert response.status_code == 413
            await site.until_open(0)
    assert site.connections == 2


async def test_an_early_welcome_does_not_end_the_sending(make: Make, serve: Serve) -> None:
    """A 200 that comes before the body does is the answer, but the body is still sent to its end."""
    seen: list[Seen | None] = []

    async def handle(peer: Peer) -> None:
        seen.append(await peer.request(at_head=OK))
        seen.append(await peer.request(at_head=OK))

    site = await serve(handle)
    async with make.client() as client:
        assert (await client.put(site.url, content=BIG)).content == b"ok"
        assert (await client.get(site.url)).content == b"ok"
    assert site.connections == 1
    assert [request.body for request in seen if request] == [BIG, b""]


async def test_an_answer_to_a_request_that_broke_off_is_passed_on(serve: Serve) -> None:
    """The server answers and breaks off: the answer counts, and the connection is not used again.

    Ours only: httpcore would read the answer after the sending, when the kernel has thrown it away.
    """
    broken = trio.Event()

    async def handle(peer: Peer) -> None:
        if await peer.request(with_body=False):
            await peer.send(OK)
            await wait_all_tasks_blocked(0.05)  # until it was read
            peer.reset()
            broken.set()

    async def interrupted() -> AsyncIterator[bytes]:
        yield b"one"
        await broken.wait()
        while True:
            yield b"two"

    transport = TrioTransport()
    site = await serve(handle)
    async with httpx.AsyncClient(transport=transport, timeout=None) as client:
        response = await client.put(site.url, content=interrupted())
        assert (response.status_code, response.content) == (200, b"ok")
        assert transport.statistics() == (0, 0)
