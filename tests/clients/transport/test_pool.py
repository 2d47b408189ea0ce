"""The pool's inside: which connection is taken, how many there are, when they end, and what that costs a request."""

import sys
from collections import Counter
from contextlib import AsyncExitStack
from types import FrameType
from typing import Any

import httpx
import pytest
import trio

from app.clients.transport import TrioTransport
from tests.clients.transport.conftest import Serve
from tests.clients.transport.servers import OK, Handler, Peer, answers


def client_of(transport: TrioTransport, **limits: float) -> httpx.AsyncClient:
    timeout = httpx.Timeout(**{"connect": None, "read": None, "write": None, "pool": None, **limits})
    return httpx.AsyncClient(transport=transport, timeout=timeout, trust_env=False)


def numbered() -> Handler:
    """Answer each request with the number of its connection, and so long that no one read is enough."""

    async def handle(peer: Peer) -> None:
        while await peer.request():
            body = b"%100000d" % peer.number
            await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))

    return handle


def gated(gate: trio.Event, begun: Counter[str]) -> Handler:
    """Answer only once the gate is open."""

    async def handle(peer: Peer) -> None:
        while await peer.request():
            begun["requests"] += 1
            await gate.wait()
            await peer.send(OK)

    return handle


async def open_at_once(client: httpx.AsyncClient, url: str, number: int) -> None:
    """Have so many connections open to a `numbered` server, then idle."""
    async with AsyncExitStack() as stack:
        for _ in range(number):
            response = await stack.enter_async_context(client.stream("GET", url))
            stack.push_async_callback(response.aread)


class Clock:
    """The pool's clock, as far ahead as a test wants it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr("app.clients.transport.time.monotonic", lambda: self.now)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


async def test_the_warmest_connection_is_taken(serve: Serve) -> None:
    """The one whose response was read last, over and over; the others stay idle."""
    transport = TrioTransport()
    site = await serve(numbered())
    async with client_of(transport) as client, AsyncExitStack() as stack:
        responses = [await stack.enter_async_context(client.stream("GET", site.url)) for _ in range(4)]
        assert transport.statistics() == (4, 0)
        for index in (3, 0, 2, 1):
            assert await responses[index].aread() == b"%100000d" % (index + 1)
        assert transport.statistics() == (4, 4)
        assert [int((await client.get(site.url)).text) for _ in range(5)] == [2] * 5
        assert transport.statistics() == (4, 4)
    assert site.connections == 4


async def test_there_are_never_more_than_allowed(serve: Serve) -> None:
    """Over all origins: an idle connection to one makes room for the other, and requests beyond wait, in order."""
    gate, begun = trio.Event(), Counter[str]()
    transport = TrioTransport(max_connections=3)
    idle, busy = await serve(numbered()), await serve(gated(gate, begun))
    done: list[int] = []
    async with client_of(transport) as client:
        await open_at_once(client, idle.url, 3)
        assert transport.statistics() == (3, 3)

        async def ask(number: int) -> None:
            await client.get(busy.url)
            done.append(number)

        async with trio.open_nursery() as nursery:
            for number in range(8):
                nursery.start_soon(ask, number)
                await trio.testing.wait_all_tasks_blocked(0.02)
            assert transport.statistics() == (3, 0)
            assert begun["requests"] == 3
            await idle.until_open(0)
            gate.set()
        assert transport.statistics() == (3, 3)
    assert busy.connections == 3
    assert sorted(done[:3]) == [0, 1, 2]
    assert sorted(done) == list(range(8))


async def test_a_place_is_waited_for_in_order(serve: Serve) -> None:
    """First come, first served: whoever asks again goes to the end."""
    gate, begun = trio.Event(), Counter[str]()
    transport = TrioTransport(max_connections=1)
    site = await serve(gated(gate, begun))
    order: list[int] = []
    async with client_of(transport) as client, trio.open_nursery() as nursery:

        async def ask(number: int) -> None:
            for turn in (0, 10):
                await client.get(site.url)
                order.append(number + turn)

        for number in range(3):
            nursery.start_soon(ask, number)
            await trio.testing.wait_all_tasks_blocked(0.02)
        gate.set()
    assert order == [0, 1, 2, 10, 11, 12]


async def test_an_idle_connection_expires(serve: Serve, clock: Clock) -> None:
    """After `keep_alive_s`, also when that is shorter than the time within which the kernel is not asked."""
    for keep_alive_s in (15.0, 0.01):
        transport = TrioTransport(keep_alive_s=keep_alive_s)
        site = await serve(answers(OK))
        async with client_of(transport) as client:
            await client.get(site.url)
            clock.now += keep_alive_s * 0.9
            await client.get(site.url)
            assert site.connections == 1
            clock.now += keep_alive_s * 1.1
            await client.get(site.url)
            assert site.connections == 2
            assert transport.statistics() == (1, 1)


async def test_the_cold_ones_expire_under_the_warm_one(serve: Serve, clock: Clock) -> None:
    """A burst's connections end though the warmest is always busy."""
    transport = TrioTransport(keep_alive_s=10)
    site = await serve(numbered())
    async with client_of(transport) as client:
        await open_at_once(client, site.url, 20)
        assert transport.statistics() == (20, 20)
        for _ in range(6):
            clock.now += 2
            await client.get(site.url)
        assert transport.statistics() == (1, 1)
        await site.until_open(1)


async def test_the_connections_of_an_origin_that_is_asked_no_more_expire(serve: Serve, clock: Clock) -> None:
    """Once a connection is made anywhere: a server that has moved to another port leaves nothing open."""
    transport = TrioTransport(keep_alive_s=10)
    left, next_one = await serve(numbered()), await serve(answers(OK))
    async with client_of(transport) as client:
        await open_at_once(client, left.url, 5)
        clock.now += 9
        await client.get(next_one.url)
        assert transport.statistics() == (6, 6)
        clock.now += 11
        await client.get(next_one.url)
        assert transport.statistics() == (1, 1)
        await left.until_open(0)
    assert next_one.connections == 2


async def test_closing_closes_the_idle_ones_and_those_in_use_when_they_end(serve: Serve) -> None:
    """`aclose()` leaves a response that is being read to its reader."""
    transport = TrioTransport()
    site = await serve(numbered())
    client = client_of(transport)
    await open_at_once(client, site.url, 3)
    async with client.stream("GET", site.url) as response:
        assert transport.statistics() == (3, 2)
        await transport.aclose()
        assert transport.statistics() == (1, 0)
        assert int(await response.aread()) == 1
    assert transport.statistics() == (0, 0)
    await site.until_open(0)
    await client.aclose()


async def lines_of(client: httpx.AsyncClient, url: str) -> Counter[str]:
    """Count how often each line of the transport's files is executed by a request."""
    lines: Counter[str] = Counter()

    def note(frame: FrameType, event: str, _argument: object) -> Any:
        if not frame.f_code.co_filename.endswith(("clients/transport.py", "clients/connection.py", "clients/http1.py")):
            return None
        if event == "line":
            lines[f"{frame.f_code.co_name}:{frame.f_lineno}"] += 1
        return note

    before = sys.gettrace()
    sys.settrace(note)
    try:
        await client.get(url)
    finally:
        sys.settrace(before)
    return lines


async def test_a_request_costs_the_same_however_many_are_idle(serve: Serve) -> None:
    """The same lines as often with one idle connection as with two hundred; the kernel is asked about one."""
    counts = []
    for number in (1, 200):
        transport = TrioTransport()
        many, one = await serve(numbered()), await serve(answers(OK))
        async with client_of(transport) as client:
            await open_at_once(client, many.url, number)
            await client.get(one.url)
            counts.append(await lines_of(client, one.url))
            assert transport.statistics() == (number + 1, number + 1)
            reads = await lines_of(client, many.url)
            assert max(count for line, count in reads.items() if "is_quiet" in line) == 1
            assert transport.statistics() == (number + 1, number + 1)
    assert counts[0] == counts[1]
    assert sum(counts[0].values()) > 50
