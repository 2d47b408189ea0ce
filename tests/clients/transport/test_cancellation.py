"""A request that is cancelled at any of its steps closes or returns its connection, and spoils nothing for the next.

Every step is tried: an instrument of Trio's counts how often the request's task runs, and cancels it at the chosen one,
either while it sleeps or between its waking and its going on (when what it waited for has already happened).
"""

import random
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from itertools import product
from typing import Literal

import httpx
import pytest
import trio

from app.clients.transport import TrioTransport
from tests.clients.transport.conftest import Make, Serve
from tests.clients.transport.servers import Peer

pytestmark = pytest.mark.filterwarnings("ignore:Async generator:ResourceWarning")  # httpx's own, around streams
MOST_STEPS = 400


async def mirror(peer: Peer) -> None:
    """Answer with what was asked, in pieces, so that an answer to something else is noticed."""
    while request := await peer.request():
        body = f"{request.method} {request.target} {len(request.body)}".encode()
        await peer.send(b"HTTP/1.1 200 OK\r\nTransfer-")
        await trio.lowlevel.checkpoint()
        await peer.send(b"Encoding: chunked\r\n\r\n5\r\n" + body[:5])
        await trio.lowlevel.checkpoint()
        await peer.send(b"\r\n%x\r\n%b\r\n0" % (len(body) - 5, body[5:]))
        await trio.lowlevel.checkpoint()
        await peer.send(b"\r\n\r\n")


async def pieces() -> AsyncIterator[bytes]:
    for _ in range(3):
        await trio.lowlevel.checkpoint()
        yield b"abc"


async def get(client: httpx.AsyncClient, url: str) -> str:
    return (await client.get(f"{url}/get")).text


async def post(client: httpx.AsyncClient, url: str) -> str:
    return (await client.post(f"{url}/post", content=b"abc")).text


async def stream_up(client: httpx.AsyncClient, url: str) -> str:
    return (await client.post(f"{url}/up", content=pieces())).text


async def send_much(client: httpx.AsyncClient, url: str) -> str:
    return (await client.put(f"{url}/much", content=bytes(1 << 18))).text


async def stream_down(client: httpx.AsyncClient, url: str) -> str:
    async with client.stream("GET", f"{url}/down") as response:
        return b"".join([piece async for piece in response.aiter_raw()]).decode()


Ask = Callable[[httpx.AsyncClient, str], Awaitable[str]]
REQUESTS: dict[Ask, str] = {
    get: "GET /get 0",
    post: "POST /post 3",
    stream_up: "POST /up 9",
    send_much: "PUT /much 262144",
    stream_down: "GET /down 0",
}
# httpx's own not under TLS: httpcore leaves the socket open when a handshake is cancelled (it closes it on errors only)
STATES = [
    *product(["ours"], ["cold", "warm", "secure"], ["asleep", "awoken"]),
    *product(["httpx"], ["cold", "warm"], ["asleep"]),
]
When = Literal["asleep", "awoken"]


class CancelAtStep(trio.abc.Instrument):
    """Cancels `scope` at the given step of the task that makes this."""

    def __init__(self, scope: trio.CancelScope, step: int, when: When) -> None:
        self._task = trio.lowlevel.current_task()
        self._scope = scope
        self._left = step
        self._when = when

    def _count(self, task: trio.lowlevel.Task, when: When) -> None:
        if task is self._task and when == self._when:
            self._left -= 1
            if self._left == 0:
                self._scope.cancel()

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        self._count(task, "asleep")

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self._count(task, "awoken")


async def ask_until(step: int, when: When, ask: Awaitable[str]) -> str | None:
    """Ask, and cancel at that step; return the answer if it came before."""
    with trio.CancelScope() as scope:
        instrument = CancelAtStep(scope, step, when)
        trio.lowlevel.add_instrument(instrument)
        try:
            return await ask
        finally:
            trio.lowlevel.remove_instrument(instrument)
    return None


@pytest.mark.parametrize(("kind", "state", "when"), STATES)
@pytest.mark.parametrize("ask", REQUESTS, ids=lambda ask: ask.__name__)
async def test_a_request_can_be_cancelled_at_every_step(
    ask: Ask, kind: str, state: str, when: When, serve: Serve, server_tls: ssl.SSLContext, trusting: ssl.SSLContext
) -> None:
    """On a new connection, on a used one, and under TLS: the next request has the only place, and the right answer."""
    make = Make(kind)
    site = await serve(mirror, tls=server_tls if state == "secure" else None)
    cancelled = 0
    for step in range(1, MOST_STEPS):
        transport = make.transport(max_connections=1, ssl_context=trusting)
        limits = httpx.Timeout(None, pool=5)
        async with httpx.AsyncClient(transport=transport, timeout=limits, trust_env=False) as client:
            if state == "warm":
                await get(client, site.url)
            answer = await ask_until(step, when, ask(client, site.url))
            assert answer in (None, REQUESTS[ask])
            if isinstance(transport, TrioTransport):
                open_now, idle = transport.statistics()
                assert open_now == idle <= 1
            for other in (get, ask):
                assert await other(client, site.url) == REQUESTS[other]
            if isinstance(transport, TrioTransport):
                assert transport.statistics() == (1, 1)
        await site.until_open(0)
        if answer is not None:
            break
        cancelled += 1
    assert 3 <= cancelled < MOST_STEPS - 1


async def at_random(rounds: int, seed: int, serve: Serve) -> int:
    """Let twelve callers share three places, each cancelled at a random step; return how many were."""
    rolls = random.Random(seed)
    site, transport, cancelled = await serve(mirror), TrioTransport(max_connections=3), 0
    asks = list(REQUESTS)

    async def caller() -> None:
        nonlocal cancelled
        for _ in range(rounds):
            ask, when = rolls.choice(asks), rolls.choice(["asleep", "awoken"])
            answer = await ask_until(rolls.randrange(1, 25), when, ask(client, site.url))  # type: ignore[arg-type]
            assert answer in (None, REQUESTS[ask])
            cancelled += answer is None
            open_now, idle = transport.statistics()
            assert 0 <= idle <= open_now <= 3

    async with httpx.AsyncClient(transport=transport, timeout=httpx.Timeout(None, pool=15)) as client:
        async with trio.open_nursery() as nursery:
            for _ in range(12):
                nursery.start_soon(caller)
        open_now, idle = transport.statistics()
        assert open_now == idle
        await site.until_open(open_now)
        async with trio.open_nursery() as nursery:
            for _ in range(3):  # no place was lost: all three can be held at once
                nursery.start_soon(stream_down, client, site.url)
        for ask, expected in REQUESTS.items():
            assert await ask(client, site.url) == expected
    await site.until_open(0)
    return cancelled


async def test_many_callers_cancelled_at_random_leave_nothing_behind(serve: Serve) -> None:
    """No answer is another's, and in the end every connection is idle and no socket is left open."""
    assert await at_random(25, 5, serve) > 50


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(100))
async def test_many_more_callers_cancelled_at_random(seed: int, serve: Serve) -> None:
    """The same with the full count."""
    assert await at_random(50, seed, serve) > 100


async def half(peer: Peer) -> None:
    """Answer with the half of what is announced."""
    await peer.request()
    await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf")
    await peer.closed()


async def test_a_cancelled_read_gives_the_place_back_by_itself(serve: Serve) -> None:
    """Whether or not the response is closed after that."""
    transport = TrioTransport(max_connections=1)
    site = await serve(half)
    for _ in range(2):
        response = await transport.handle_async_request(httpx.Request("GET", site.url))
        assert isinstance(response.stream, httpx.AsyncByteStream)
        body = aiter(response.stream)
        assert await anext(body) == b"half"
        with trio.move_on_after(0.05) as scope:
            await anext(body)
        assert scope.cancelled_caught
        assert transport.statistics() == (0, 0)


async def test_closing_a_response_wakes_its_reader_with_an_error(serve: Serve) -> None:
    """From another task; the place is given back once, not twice."""

    transport = TrioTransport(max_connections=1)
    site = await serve(half)
    response = await transport.handle_async_request(httpx.Request("GET", site.url))
    assert isinstance(response.stream, httpx.AsyncByteStream)
    body = aiter(response.stream)
    assert await anext(body) == b"half"
    failed = trio.Event()

    async def read_on() -> None:
        with pytest.raises(httpx.ReadError):
            await anext(body)
        failed.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read_on)
        await trio.testing.wait_all_tasks_blocked()
        await response.stream.aclose()
        await failed.wait()
    assert transport.statistics() == (0, 0)
    request = httpx.Request("GET", site.url, extensions={"timeout": {"pool": 0.1}})
    again = await transport.handle_async_request(request)
    with pytest.raises(httpx.PoolTimeout):
        await transport.handle_async_request(request)
    await again.aclose()
