"""What can be told of the connections to a host, whoever holds them."""

from collections import Counter
from collections.abc import Callable
from typing import Any

import httpx
import pytest
import trio

from app.bootstrap.upstreams import open_database
from app.clients.by_plan import TransportByPlan
from app.clients.in_process import InProcessTransport
from app.clients.pools import Pools, PoolStatistics, statistics_of
from app.clients.supabase import SupabaseDatabase
from app.clients.transport import TrioTransport
from app.settings import Settings
from app.turn import CURRENT_PLAN, Plan
from telemetry.providers import build_providers
from tests.clients.transport.servers import OK, WAIT_S, Handler, Peer, start

OFF = build_providers(
    service_version="test", instance="test", traces_endpoint_set=False, metrics_endpoint_set=False, sdk_disabled=True
)


def ours(most: int) -> httpx.AsyncBaseTransport:
    return TrioTransport(max_connections=most)


def httpcores(most: int) -> httpx.AsyncBaseTransport:
    return httpx.AsyncHTTPTransport(limits=httpx.Limits(max_connections=most), trust_env=False)


def by_plan(most: int) -> httpx.AsyncBaseTransport:
    return TransportByPlan(ours(most), lambda: httpcores(most))


def gated(gate: trio.Event, begun: Counter[str]) -> Handler:
    """Answer only once the gate is open."""

    async def handle(peer: Peer) -> None:
        while await peer.request():
            begun["requests"] += 1
            await gate.wait()
            await peer.send(OK)

    return handle


async def settled(read: Callable[[], PoolStatistics], wanted: PoolStatistics) -> None:
    """Return as soon as a pool is as wanted; what is in flight cannot be waited for otherwise."""
    with trio.move_on_after(WAIT_S):
        while read() != wanted:  # noqa: ASYNC110 - a pool can only be asked
            await trio.sleep(0.005)
    assert read() == wanted


@pytest.mark.parametrize("make", [ours, httpcores, by_plan])
@pytest.mark.parametrize("plan", ["concurrent", "sequential"])
async def test_connections_and_who_waits_for_one(
    make: Callable[[int], httpx.AsyncBaseTransport], plan: Plan, nursery: trio.Nursery
) -> None:
    """Five requests at a pool of three: three connections at work and two requests waiting, then three idle."""
    gate, begun = trio.Event(), Counter[str]()
    site = await start(nursery, gated(gate, begun))
    CURRENT_PLAN.set(plan)
    pools, transport = Pools(), make(3)
    pools.add("model", transport)
    async with httpx.AsyncClient(transport=transport, timeout=None, trust_env=False) as client:
        assert pools.statistics("model") == PoolStatistics()
        async with trio.open_nursery() as asking:
            for _ in range(5):
                asking.start_soon(client.get, site.url)
            await settled(lambda: pools.statistics("model"), PoolStatistics(active=3, waiting=2))
            gate.set()
        assert pools.statistics("model") == PoolStatistics(idle=3)
    assert pools.statistics("database") == PoolStatistics(), "nobody added one"


async def test_a_turn_of_either_plan_counts(nursery: trio.Nursery) -> None:
    """What both transports of a host hold is one sum."""
    gate = trio.Event()
    gate.set()
    site = await start(nursery, gated(gate, Counter()))
    transport = by_plan(3)
    async with httpx.AsyncClient(transport=transport, timeout=None, trust_env=False) as client:
        for plan in ("concurrent", "sequential"):
            CURRENT_PLAN.set(plan)
            await client.get(site.url)
        assert statistics_of(transport) == PoolStatistics(idle=2)


@pytest.mark.parametrize("http_transport", ["trio", "httpcore"])
async def test_who_waits_before_the_database_pool_counts(
    http_transport: str, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The database's client has as many places as its pool, and those who wait for one of these wait as well."""
    monkeypatch.setenv("NO_PROXY", "*")
    site, pools = await start(nursery, gated(trio.Event(), Counter())), Pools()
    chosen: dict[str, Any] = {"supabase_url": site.url, "supabase_key": "key", "supabase_max_connections": 2}
    settings = Settings(_env_file=None, auth_mode="dev", http_transport=http_transport, **chosen)
    async with open_database(settings, nursery, OFF, pools=pools) as database:
        async with trio.open_nursery() as asking:
            for _ in range(6):
                asking.start_soon(database.project, "u1", "7")
            await settled(lambda: pools.statistics("database"), PoolStatistics(active=2, waiting=4))
            asking.cancel_scope.cancel()
        assert pools.statistics("database") == PoolStatistics()


async def test_without_a_bound_nobody_waits() -> None:
    """A pool, and a client, that take any number have no line."""
    transport = TrioTransport()
    assert transport.waiting == SupabaseDatabase(transport, "http://host.test", "key").waiting == 0


async def test_what_is_embedded_has_no_connections(nursery: trio.Nursery) -> None:
    """A call within the process needs none."""

    async def app(_scope: object, _receive: object, _send: object) -> None:
        raise AssertionError("never asked")

    assert statistics_of(InProcessTransport(app, nursery)) == PoolStatistics()
