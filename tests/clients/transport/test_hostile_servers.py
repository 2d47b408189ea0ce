"""Servers that break the rules: an error of httpx's, at once and in bounded memory, and the next request is right.

Each row says what httpx's own transport (httpcore with h11) makes of the same; where that differs, the reason is there.
"""

import httpx
import pytest
import trio

from app.clients.transport import TrioTransport
from tests.clients.transport.conftest import Make, Serve
from tests.clients.transport.servers import OK, Handler, Peer, answers, first

HEAD = b"HTTP/1.1 200 OK\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
Outcome = type[httpx.HTTPError] | bytes
"""An error, or the body of the response."""
WRONG = httpx.RemoteProtocolError
SAME = WRONG

# name: what is said after the request, what ours makes of it, what httpx's makes of it
REPLIES: dict[str, tuple[bytes, Outcome, Outcome]] = {
    "nothing": (b"", WRONG, SAME),
    "half a head": (b"HTTP/1.1 200 OK\r\nContent-Le", WRONG, SAME),
    "another protocol": (b"SSH-2.0-OpenSSH_9.2p1\r\n", WRONG, SAME),
    "a request": (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", WRONG, SAME),
    "HTTP/2": (b"HTTP/2 200\r\nContent-Length: 2\r\n\r\nok", WRONG, SAME),
    "a header without a colon": (HEAD + b"Content-Length\r\n\r\n", WRONG, SAME),
    "a space before the colon": (HEAD + b"Content-Length : 2\r\n\r\nok", WRONG, SAME),
    "NUL in a header": (HEAD + b"A: \0\r\nContent-Length: 2\r\n\r\nok", WRONG, SAME),
    "two lengths": (HEAD + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\noks", WRONG, SAME),
    "two lengths in one line": (HEAD + b"Content-Length: 2, 3\r\n\r\noks", WRONG, SAME),
    "a signed length": (HEAD + b"Content-Length: +2\r\n\r\nok", WRONG, SAME),
    "a length beyond 64 bits": (HEAD + b"Content-Length: 36893488147419103234\r\n\r\nok", WRONG, SAME),
    "a signed chunk": (CHUNKED + b"-2\r\nok\r\n0\r\n\r\n", WRONG, SAME),
    "a chunk beyond 64 bits": (CHUNKED + b"f" * 17 + b"\r\nok\r\n0\r\n\r\n", WRONG, SAME),
    "a chunk that is longer than it says": (CHUNKED + b"2\r\nokay\r\n0\r\n\r\n", WRONG, SAME),
    "chunks without an end": (CHUNKED + b"2\r\nok\r\n", WRONG, SAME),
    "fewer bytes than announced": (HEAD + b"Content-Length: 9\r\n\r\nok", WRONG, SAME),
    "a giant header": (HEAD + b"A: " + b"x" * 200_000 + b"\r\nContent-Length: 2\r\n\r\nok", WRONG, SAME),
    "a giant name": (HEAD + b"x" * 200_000 + b": 1\r\nContent-Length: 2\r\n\r\nok", WRONG, SAME),
    "a giant reason": (b"HTTP/1.1 200 " + b"x" * 200_000 + b"\r\nContent-Length: 2\r\n\r\nok", WRONG, SAME),
    "a giant chunk extension": (CHUNKED + b"2;" + b"x" * 200_000 + b"\r\nok\r\n0\r\n\r\n", WRONG, SAME),
    "giant trailers": (CHUNKED + b"0\r\n" + b"A: %b\r\n" % (b"x" * 999) * 200 + b"\r\n", WRONG, SAME),
    # h11 takes equal lengths for one; no server that we know repeats them
    "the same length twice": (HEAD + b"Content-Length: 2\r\nContent-Length: 2\r\n\r\nok", WRONG, b"ok"),
    # h11 lets the chunks decide, as RFC 9112 allows a reader that is no proxy; here nothing is guessed
    "both framings": (CHUNKED[:-2] + b"Content-Length: 2\r\n\r\n2\r\nok\r\n0\r\n\r\n", WRONG, b"ok"),
    # h11 takes a bare LF for a line's end, and joins lines that are folded
    "bare LF": (b"HTTP/1.1 200 OK\nContent-Length: 2\n\nok", WRONG, b"ok"),
    "a folded header": (HEAD + b"A: x\r\n y\r\nContent-Length: 2\r\n\r\nok", WRONG, b"ok"),
    # h11 has no bound for the number
    "a thousand headers": (HEAD + b"A: b\r\n" * 1000 + b"Content-Length: 2\r\n\r\nok", WRONG, b"ok"),
    "another protocol unasked": (b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",
                                 WRONG, SAME),
    "an unknown coding": (HEAD + b"Transfer-Encoding: x-own\r\n\r\nok", WRONG, SAME),
}  # fmt: skip


def saying(reply: bytes, said: trio.Event) -> Handler:
    async def handle(peer: Peer) -> None:
        try:
            await peer.request()
            await peer.send(reply)
            peer.finish()
        finally:
            said.set()
        await peer.closed()

    return handle


@pytest.mark.parametrize("name", REPLIES)
async def test_a_wrong_answer_is_an_error(name: str, make: Make, serve: Serve) -> None:
    """Or what the row says; its connection ends, and the next request is right."""
    reply, ours, httpxs = REPLIES[name]
    expected = make.either(ours, httpxs)
    said = trio.Event()
    site = await serve(first(saying(reply, said)))
    async with make.client(max_connections=1, timeout=httpx.Timeout(None, pool=5)) as client:
        if isinstance(expected, bytes):
            assert (await client.get(site.url)).content == expected
        else:
            with pytest.raises(expected):
                await client.get(site.url)
        await said.wait()
        assert (await client.get(site.url)).content == b"ok"
    assert site.connections == 2


async def resets(peer: Peer) -> None:
    await peer.request()
    peer.reset()


async def resets_in_the_body(peer: Peer) -> None:
    await peer.request()
    await peer.send(HEAD + b"Content-Length: 9\r\n\r\nok")
    await trio.sleep(0.05)
    peer.reset()


@pytest.mark.parametrize("hostile", [resets, resets_in_the_body])
async def test_a_broken_connection_is_a_read_error(hostile: Handler, make: Make, serve: Serve) -> None:
    """Before the answer or in the middle of it."""
    site = await serve(first(hostile))
    async with make.client(max_connections=1, timeout=httpx.Timeout(None, pool=5)) as client:
        with pytest.raises(httpx.ReadError):
            await client.get(site.url)
        assert (await client.get(site.url)).content == b"ok"


GARBAGE = [b"X", OK, b"HTTP/1.1 500 Wrong\r\nContent-Length: 5\r\n\r\nwrong", b"H", b"\0", b"0\r\n\r\n"]


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("garbage", GARBAGE)
async def test_what_follows_an_answer_answers_nothing(method: str, garbage: bytes, serve: Serve) -> None:
    """A connection with more on it than was asked for is not used again.

    Ours only: httpcore keeps what is left over, and takes it for the next request's answer.
    """
    answer = OK if method == "GET" else HEAD + b"Content-Length: 2\r\n\r\n"
    right = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nright"
    site = await serve(first(answers(answer + garbage), then=right))
    async with Make("ours").client() as client:
        assert (await client.request(method, site.url)).content == (b"ok" if method == "GET" else b"")
        assert (await client.get(site.url)).content == b"right"
    assert site.connections == 2


async def test_an_answer_to_no_request_is_noticed(make: Make, serve: Serve) -> None:
    """What comes on an idle connection ends it."""
    said = trio.Event()

    async def talkative(peer: Peer) -> None:
        await peer.request()
        await peer.send(OK)
        await asked.wait()
        await peer.send(b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 5\r\n\r\nwrong")
        said.set()
        await peer.closed()

    asked = trio.Event()
    site = await serve(first(talkative))
    async with make.client() as client:
        await client.get(site.url)
        asked.set()
        await said.wait()
        response = await client.get(site.url)
        assert (response.status_code, response.content) == (200, b"ok")
    assert site.connections == 2


async def endless_hints(peer: Peer) -> None:
    await peer.request()
    while True:
        await peer.send(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" * 9)


async def endless_head(peer: Peer) -> None:
    await peer.request()
    await peer.send(HEAD)
    while True:
        await peer.send(b"A: b\r\n" * 20)


async def endless_chunk_line(peer: Peer) -> None:
    await peer.request()
    await peer.send(CHUNKED + b"2\r\nok\r\n0" + b"0" * 9 + b";")
    while True:
        await peer.send(b"a=b;" * 99)


@pytest.mark.parametrize("hostile", [endless_hints, endless_head, endless_chunk_line])
async def test_what_never_gets_to_the_point_is_cut_off(hostile: Handler, serve: Serve) -> None:
    """Interim answers, headers or a chunk's extensions without end. Ours only: httpcore reads hints for ever."""
    transport = TrioTransport(max_connections=1)
    site = await serve(first(hostile))
    async with httpx.AsyncClient(transport=transport, timeout=None) as client:
        with pytest.raises(httpx.RemoteProtocolError):
            await client.get(site.url)
        assert transport.statistics() == (0, 0)
        assert (await client.get(site.url)).content == b"ok"


async def test_an_answer_before_the_request_is_read_is_an_answer(make: Make, serve: Serve) -> None:
    """A server may speak at once, say to refuse whomever it is; it is heard."""

    async def eager(peer: Peer) -> None:
        await peer.send(b"HTTP/1.1 503 Full\r\nConnection: close\r\nContent-Length: 4\r\n\r\nfull")
        await peer.end()

    site = await serve(first(eager))
    async with make.client() as client:
        response = await client.post(site.url, content=b"x" * 1000)
        assert (response.status_code, response.content) == (503, b"full")
        assert (await client.get(site.url)).content == b"ok"
