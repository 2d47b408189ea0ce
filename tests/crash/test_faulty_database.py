"""The faulty database itself: each fault does what its name says, and our client takes it for what it is."""

import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest
import trio

from app.clients import supabase
from app.clients.breaker import Breaker
from app.clients.ports import LogRow
from app.clients.supabase import SupabaseDatabase
from app.clients.transport import TrioTransport
from app.errors import DatabaseFault
from tests.crash.posting import post_json
from tests.server.database_faults import FAULTS, REFUSALS, Door, Weather
from tests.server.faulty_database import WAIT_S, FaultyDatabase, faulty_database, open_faulty_database
from tests.server.rows import stored

USER = {"id": "ada"}
SOON_S = 0.2
"""For what never comes."""


@pytest.fixture
async def host(tmp_path: Path) -> AsyncIterator[FaultyDatabase]:
    async with open_faulty_database(tmp_path / "supabase.sqlite3", seed=1) as host:
        yield host


@asynccontextmanager
async def calling(host: FaultyDatabase) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(
        base_url=f"{host.url}/rest/v1/", timeout=WAIT_S, trust_env=False, verify=False
    ) as client:
        yield client


async def asked(host: FaultyDatabase, within_s: float = WAIT_S) -> str:
    """Insert a user and return how that ended for its caller: a status, `cut`, `refused` or `nothing`."""
    async with calling(host) as client:
        with trio.move_on_after(within_s):
            try:
                return str((await post_json(client, "users?select=id", USER)).status_code)
            except httpx.ConnectError:
                return "refused"
            except (httpx.RemoteProtocolError, httpx.ReadError):
                return "cut"
    return "nothing"


def users(folder: Path) -> int:
    """Return how many users the file has besides the one that it comes with."""
    return len(stored(folder, "users")) - 1


@pytest.mark.parametrize(
    ("fault", "ended", "applied"),
    [
        ("slow", "201", 1),
        ("dropped", "cut", 0),
        ("unheard", "nothing", 0),
        ("silent", "nothing", 1),
        ("cut", "cut", 1),
        ("torn", "cut", 1),
        ("gateway_timeout", "504", 1),
        ("late", "cut", 1),
        ("twice", "409", 1),
        *((name, str(course.instead.status_code), 0) for name, course in REFUSALS.items() if course.instead),
    ],
)
async def test_a_fault_does_what_it_says(
    host: FaultyDatabase, tmp_path: Path, fault: str, ended: str, applied: int
) -> None:
    """Whether the row is in, and what its caller hears, are two things; afterwards all is well again."""
    await host.become(Weather(writes={fault: 1.0}, slow_s=0.01, late_s=0.01))
    assert await asked(host, SOON_S if ended == "nothing" else WAIT_S) == ended
    async with calling(host) as client:
        assert (await client.get("/users")).status_code == 200, "only writes were to fail"
        await host.become(Weather())
        assert (await client.get("/users")).status_code == 200
    await host.drained()
    assert users(tmp_path) == applied
    assert host.hits == {fault: 1}


def test_every_fault_is_tried() -> None:
    """The table of the test above leaves none out."""
    (table,) = (mark.args[1] for mark in test_a_fault_does_what_it_says.pytestmark)  # type: ignore[attr-defined]
    assert sorted(name for name, _, _ in table) == sorted(FAULTS)


@pytest.mark.parametrize(("door", "ended"), [("refused", "refused"), ("closed", "cut")])
async def test_a_host_that_is_down_comes_back_where_it_was(
    host: FaultyDatabase, tmp_path: Path, door: Door, ended: str
) -> None:
    """What was open is cut, nothing gets in, and the same URL serves again afterwards, as often as that is wanted."""
    async with calling(host) as client:
        for turn in range(3):
            assert (await client.get("/users")).status_code == 200
            await host.become(Weather(door=door))
            await host.become(Weather(door=door))
            with pytest.raises(httpx.TransportError):
                await client.get("/users")
            assert await asked(host) == ended
            assert users(tmp_path) == 0, turn
            await host.become(Weather())
    assert await asked(host) == "201"


async def test_who_waits_for_nothing_is_cut_when_the_weather_changes(host: FaultyDatabase) -> None:
    """The row is in, and its caller learns that it will not hear of it."""
    await host.become(Weather(writes={"silent": 1.0}))
    async with calling(host) as client, trio.open_nursery() as nursery:

        async def ask() -> None:
            with pytest.raises((httpx.RemoteProtocolError, httpx.ReadError)):
                await post_json(client, "users", USER)

        nursery.start_soon(ask)
        with trio.fail_after(WAIT_S):
            while not (await client.get("/users?id=eq.ada")).json():
                await trio.lowlevel.checkpoint()
        await host.become(Weather())


async def test_what_is_late_is_waited_for(host: FaultyDatabase, tmp_path: Path) -> None:
    """`drained` returns when nothing more can come: clients are gone, and the last late request is applied."""
    await host.become(Weather(writes={"late": 1.0}, late_s=0.5))
    assert await asked(host) == "cut"
    assert users(tmp_path) == 0
    await host.drained()
    assert users(tmp_path) == 1


async def test_faults_come_with_their_probability_and_the_same_from_one_seed(tmp_path: Path) -> None:
    """Two hosts of one seed let the same requests fail; how many is about their share."""
    met = []
    for number in range(2):
        path = tmp_path / str(number) / "supabase.sqlite3"
        async with open_faulty_database(path, seed=5) as host, calling(host) as client:
            await host.become(Weather(reads={"bad_gateway": 0.3, "too_many": 0.2}, writes={"slow": 1.0}))
            met.append([(await client.get("/users?limit=0")).status_code for _ in range(60)])
    assert met[0] == met[1]
    assert {502: met[0].count(502), 429: met[0].count(429), 200: met[0].count(200)} == {502: 21, 429: 9, 200: 30}


@pytest.mark.parametrize("rates", [{"unknown": 0.1}, {"slow": 0.6, "cut": 0.6}])
def test_weather_that_cannot_be_is_refused(rates: dict[str, float]) -> None:
    """A fault that does not exist, and more than certainty, are mistakes of a test."""
    with pytest.raises(ValueError, match=r"no such fault|more than 1"):
        Weather(writes=rates)


@pytest.mark.parametrize(
    ("fault", "error_type"),
    [
        ("slow", None),
        ("dropped", "ReadError"),
        ("cut", "ReadError"),
        ("gateway_timeout", "http_504"),
        ("late", "ReadError"),
        ("twice", None),
        ("internal", "XX000"),
        ("statement_timeout", "57014"),
        ("internal_page", "http_500"),
        ("bad_gateway", "http_502"),
        ("unavailable", "http_503"),
        ("no_connection", "PGRST001"),
        ("schema_loading", "PGRST002"),
        ("pool_exhausted", "PGRST003"),
        ("key_rotated", "PGRST301"),
        ("key_unknown", "http_401"),
        ("forbidden", "42501"),
        ("too_many", "http_429"),
        ("stale_column", "PGRST204"),
        ("stale_table", "PGRST205"),
        ("no_route", "http_404"),
    ],
)
async def test_our_client_knows_a_fault_by_its_type(
    host: FaultyDatabase, monkeypatch: pytest.MonkeyPatch, fault: str, error_type: str | None
) -> None:
    """What decides what becomes of a row, the fault's `error_type`, is what stands in a hosted database's answer."""
    monkeypatch.setattr(supabase, "FIRST_WAIT_S", 0.001)
    await host.become(Weather(writes={fault: 1.0}, slow_s=0.01))
    row = LogRow(
        turn_id=uuid.uuid4(), sender="user", user_id="demo", page="general", conversation_id=uuid.uuid4(),
        message="Why?", context_data={}, created_at=datetime.now(UTC),
    )  # fmt: skip
    async with TrioTransport() as transport:
        database = SupabaseDatabase(transport, host.url, "sb_secret_x", Breaker("database", failures=99))
        try:
            await database.ensure_conversation("demo", "general", row.conversation_id, "Why?")
            await database.write_rows([row])
        except DatabaseFault as found:
            assert found.error_type == error_type
        else:
            assert error_type is None


def test_a_test_without_a_loop_has_the_same_host(tmp_path: Path) -> None:
    """Served from a thread, it takes its weather from the test's thread and is gone afterwards."""
    with faulty_database(tmp_path / "supabase.sqlite3") as host:
        url = f"{host.url}/rest/v1/users"
        host.become(Weather(reads={"stale_table": 1.0}))
        assert httpx.get(url, trust_env=False).json()["code"] == "PGRST205"
        host.become(Weather())
        assert httpx.get(url, trust_env=False).status_code == 200
        assert host.hits == {"stale_table": 1}
    with pytest.raises(httpx.ConnectError):
        httpx.get(url, trust_env=False)
