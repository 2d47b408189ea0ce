"""Bodies of responses, however they are framed: a caller reads what was sent, as it comes, and no more."""

import gzip
import zlib

import httpx
import pytest
import trio

from tests.clients.transport.conftest import Make, Serve
from tests.clients.transport.servers import OK, Peer, Seen, answers

HEAD = b"HTTP/1.1 200 OK\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
SQUEEZED = gzip.compress(b"squeezed " * 50)
DEFLATED = zlib.compress(b"squeezed " * 50)

# name: response, status, body, whether the connection serves the next request too
RESPONSES: dict[str, tuple[bytes, int, bytes, bool]] = {
    "length": (HEAD + b"Content-Length: 5\r\n\r\nhello", 200, b"hello", True),
    "length 0": (HEAD + b"Content-Length: 0\r\n\r\n", 200, b"", True),
    "chunked": (CHUNKED + b"3\r\nhel\r\n2;why=not\r\nlo\r\n0\r\n\r\n", 200, b"hello", True),
    "chunked, trailers": (CHUNKED + b"5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n", 200, b"hello", True),
    "chunked, empty": (CHUNKED + b"0\r\n\r\n", 200, b"", True),
    "gzip": (HEAD + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(SQUEEZED) + SQUEEZED, 200,
             b"squeezed " * 50, True),
    "deflate, chunked": (HEAD + b"Content-Encoding: deflate\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n"
                         % (len(DEFLATED), DEFLATED), 200, b"squeezed " * 50, True),
    "said to be the last": (HEAD + b"Connection: close\r\nContent-Length: 5\r\n\r\nhello", 200, b"hello", False),
    "HTTP/1.0": (b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello", 200, b"hello", False),
    "no reason phrase": (b"HTTP/1.1 503 \r\nContent-Length: 4\r\n\r\nbusy", 503, b"busy", True),
    "204": (b"HTTP/1.1 204 No Content\r\n\r\n", 204, b"", True),
    "304": (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 500\r\n\r\n", 304, b"", True),
    "100 first": (b"HTTP/1.1 100 Continue\r\n\r\n" + OK, 200, b"ok", True),
    "103 twice": (b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" * 2 + OK, 200, b"ok", True),
}  # fmt: skip


@pytest.mark.parametrize("cut", [0, 1])
@pytest.mark.parametrize("name", RESPONSES)
async def test_a_response_is_read_as_it_was_sent(name: str, cut: int, make: Make, serve: Serve) -> None:
    """In one segment or in many; and the next request is answered rightly, on the same connection where that may be."""
    reply, status, body, kept = RESPONSES[name]
    site = await serve(answers(reply, cut=cut))
    async with make.client() as client:
        for _ in range(3):
            response = await client.get(site.url)
            assert (response.status_code, response.content) == (status, body)
            assert "link" not in response.headers
            assert "x-sum" not in response.headers
    assert site.connections == (1 if kept else 3)


@pytest.mark.parametrize("framing", [b"Content-Length: 500", b"Transfer-Encoding: chunked", b"X-None: 1"])
async def test_an_answer_to_head_has_no_body(framing: bytes, make: Make, serve: Serve) -> None:
    """Whatever its headers announce; and the connection serves the next request.

    Ours gives up one that announces chunks: llhttp would not notice the beginning of a wrong one.
    """
    site = await serve(answers(HEAD + framing + b"\r\n\r\n"))
    async with make.client() as client:
        for _ in range(2):
            assert (await client.head(site.url)).content == b""
    assert site.connections == (make.either(2, 1) if b"chunked" in framing else 1)


async def test_a_body_may_end_with_the_connection(make: Make, serve: Serve) -> None:
    """Without a length and without chunks: complete when the server closes; the next request connects anew."""

    async def handle(peer: Peer) -> None:
        await peer.request()
        await peer.send(HEAD + b"\r\nhel")
        await peer.send(b"lo")
        await peer.end()

    site = await serve(handle)
    async with make.client() as client:
        for _ in range(2):
            assert (await client.get(site.url)).content == b"hello"
    assert site.connections == 2


@pytest.mark.parametrize("head", [HEAD + b"Content-Length: 9\r\n\r\n", CHUNKED, HEAD + b"\r\n"])
async def test_each_piece_arrives_before_the_next_is_sent(head: bytes, make: Make, serve: Serve) -> None:
    """A stream is passed on as it comes: the server says the next word only once the last one was read."""
    heard = trio.Event()

    async def handle(peer: Peer) -> None:
        nonlocal heard
        await peer.request()
        await peer.send(head)
        for word in (b"one", b"two", b"six"):
            await peer.send(b"3\r\n%b\r\n" % word if head is CHUNKED else word)
            await heard.wait()
            heard = trio.Event()
        await peer.send(b"0\r\n\r\n" if head is CHUNKED else b"")
        await peer.end()

    site = await serve(handle)
    words: list[bytes] = []
    async with make.client() as client, client.stream("GET", site.url) as response:
        async for piece in response.aiter_raw():
            words.append(piece)
            heard.set()
    assert words == [b"one", b"two", b"six"]


async def test_a_reader_that_waits_makes_the_server_wait(make: Make, serve: Serve) -> None:
    """Nothing is read ahead of the caller: only what the kernel's buffers hold can be sent."""
    sent, total = 0, 64 << 20
    stuck = trio.Event()

    async def handle(peer: Peer) -> None:
        nonlocal sent
        await peer.request()
        await peer.send(HEAD + b"Content-Length: %d\r\n\r\n" % total)
        while sent < total:
            with trio.move_on_after(0.25) as scope:
                sent += await peer.raw.socket.send(bytes(1 << 20))
            if scope.cancelled_caught:
                stuck.set()
                return

    site = await serve(handle)
    async with make.client() as client, client.stream("GET", site.url) as response:
        assert response.status_code == 200
        await stuck.wait()
    assert sent < total / 2


async def read_into(words: list[bytes], response: httpx.Response) -> None:
    async for piece in response.aiter_raw():
        words.append(piece)


@pytest.mark.parametrize("reply", [HEAD + b"Content-Length: 9\r\n\r\nhello", CHUNKED + b"5\r\nhello\r\n"])
async def test_a_body_that_ends_too_early_is_an_error(reply: bytes, make: Make, serve: Serve) -> None:
    """What came is passed on, then RemoteProtocolError: half an answer is never taken for a whole one."""

    async def handle(peer: Peer) -> None:
        await peer.request()
        await peer.send(reply)
        await peer.end()

    site = await serve(handle)
    words: list[bytes] = []
    async with make.client() as client, client.stream("GET", site.url) as response:
        with pytest.raises(httpx.RemoteProtocolError):
            await read_into(words, response)
    assert b"".join(words) == b"hello"


@pytest.mark.filterwarnings("ignore:Async generator:ResourceWarning")  # httpx's own, around the one that was left
async def test_a_response_that_is_left_early_gives_its_place_back(make: Make, serve: Serve) -> None:
    """Closing one that was not read to its end closes its connection: the rest of the body is nobody's answer."""
    seen: list[Seen] = []
    site = await serve(answers(HEAD + b"Content-Length: 400000\r\n\r\n" + b"x" * 400_000, OK, seen=seen))
    async with make.client(max_connections=1, timeout=httpx.Timeout(None, pool=10)) as client:
        for _ in range(3):
            async with client.stream("GET", site.url) as response:
                async for _piece in response.aiter_raw():
                    break
            await site.until_open(0)
    assert site.connections == len(seen) == 3


async def test_the_reason_and_the_version_are_passed_on(make: Make, serve: Serve) -> None:
    """As httpx's extensions; headers keep their order and their repetitions."""
    site = await serve(answers(b"HTTP/1.1 200 Fine  by me\r\nA: 1\r\nContent-Length: 0\r\na: 2\r\nB: \xe9\r\n\r\n"))
    async with make.client() as client:
        response = await client.get(site.url)
    assert (response.reason_phrase, response.http_version) == ("Fine  by me", "HTTP/1.1")
    assert response.headers.get_list("a") == ["1", "2"]
    assert [name.lower() for name, _value in response.headers.raw] == [b"a", b"content-length", b"a", b"b"]
