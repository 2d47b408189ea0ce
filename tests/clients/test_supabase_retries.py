"""The database's error table, row by row: what is sent again, what its breaker is told, and bounds of an answer."""

import json
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from math import inf
from typing import Any

import httpx
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from app.bootstrap.upstreams import Breakers
from app.clients.breaker import Breaker, State
from app.clients.ports import Database
from app.clients.supabase import MAX_ANSWER_BYTES, SupabaseDatabase
from app.clients.transport import TrioTransport
from app.errors import DatabaseFault
from tests.clients.asking import served
from tests.clients.scripts import SILENT, Script, Step, breaks, fields_of
from tests.clients.test_supabase_wire import CALLS, READS, ROW, URL

Call = Callable[[SupabaseDatabase], Awaitable[object]]
ROWS = Step(pieces=(b"[]",))
MADE = Step(201, pieces=(json.dumps([{"id": str(uuid.uuid4())}]).encode(),))
PAGE = b"<html>upstream timed out</html>"


def refuses(status: int, code: str | None = None, body: bytes | None = None) -> Step:
    error = json.dumps({"code": code, "message": "no", "details": None, "hint": None}).encode()
    return Step(status, pieces=(error if body is None else body,))


# What comes -> how often it is asked in all, and whether that is the host's failure, good news of it, or neither.
BAD, GOOD, NEITHER = True, False, None
TABLE: dict[str, tuple[Step, int, bool | None]] = {
    "connect error": (breaks(httpx.ConnectError("refused")), 3, BAD),
    "read error": (breaks(httpx.ReadError("reset")), 3, BAD),
    "no proper response": (breaks(httpx.RemoteProtocolError("nonsense")), 3, BAD),
    "read error in the body": (Step(pieces=(b"[{",), end=httpx.ReadError("reset")), 3, BAD),
    "PGRST000": (refuses(503, "PGRST000"), 3, BAD),
    "PGRST001": (refuses(503, "PGRST001"), 3, BAD),
    "PGRST002": (refuses(503, "PGRST002"), 3, BAD),
    "PGRST003": (refuses(504, "PGRST003"), 1, NEITHER),
    "PGRST301": (refuses(401, "PGRST301"), 1, GOOD),
    "PGRST302": (refuses(401, "PGRST302"), 1, GOOD),
    "PGRST303": (refuses(401, "PGRST303"), 1, GOOD),
    "57014": (refuses(500, "57014"), 1, GOOD),
    "40001": (refuses(500, "40001"), 3, GOOD),
    "40P01": (refuses(500, "40P01"), 3, GOOD),
    "23503": (refuses(409, "23503"), 1, GOOD),
    "42501": (refuses(403, "42501"), 1, GOOD),
    "42P01": (refuses(404, "42P01"), 1, GOOD),
    **{code: (refuses(404, code), 1, GOOD) for code in ("PGRST200", "PGRST202", "PGRST204", "PGRST205")},
    **{f"gateway {status}": (refuses(status, body=PAGE), 3, BAD) for status in (502, 503, 504)},
    **{f"gateway {status}, nothing": (refuses(status, body=b""), 3, BAD) for status in (502, 503, 504)},
    "gateway 401": (refuses(401, body=b""), 1, GOOD),
    "gateway 429": (refuses(429, body=PAGE), 1, GOOD),
    "500": (refuses(500, body=PAGE), 1, GOOD),
    "a page with status 200": (Step(pieces=(PAGE,)), 1, GOOD),
}


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize(("step", "asked", "_verdict"), TABLE.values(), ids=TABLE)
async def test_each_row_of_the_error_table(
    name: str, step: Step, asked: int, _verdict: bool | None, autojump_clock: MockClock
) -> None:
    """Whatever the request: all reads, and writes that a repetition does not change, are sent again alike."""
    script = Script([step])
    with pytest.raises(DatabaseFault):
        await CALLS[name](database(script))
    assert len(script.requests) == asked
    first, *again = script.requests
    assert all((other.url, other.content) == (first.url, first.content) for other in again)


def database(script: Script, breaker: Breaker | None = None, **options: Any) -> SupabaseDatabase:
    return SupabaseDatabase(script, URL, "sb_secret_x", breaker or Breaker("database", failures=99), **options)


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("code", ["PGRST000", "40001", "http_503"])
async def test_what_passes_is_not_noticed(
    name: str, code: str, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """Two refusals and then the rows: the caller gets them after short waits; the log has a line for each."""
    script = Script([refuses(503, code), refuses(503, code), ROWS if name in READS else MADE])
    await CALLS[name](database(script))
    assert len(script.requests) == 3
    first, second = script.waits
    assert 0.075 <= first <= 0.1
    assert 0.15 <= second <= 0.2
    error = "http_503" if code == "http_503" else code
    assert [line["error"] for line in fields_of(caplog.records, "database.retry")] == [error, error]


async def sent(call: Call) -> httpx.Request:
    script = Script([MADE])
    await call(database(script))
    (request,) = script.requests
    return request


def test_every_write_is_one_that_may_be_repeated() -> None:
    """The rule stands on it: each insert names its key and leaves what is there; an update names the row as it was."""
    writes = {name: call for name, call in CALLS.items() if name not in READS}
    assert len(writes) == 4
    update = trio.run(sent, writes.pop("replace_row"))
    assert (update.method, update.url.params["created_at"] != "") == ("PATCH", True)
    for call in writes.values():
        request = trio.run(sent, call)
        assert (request.method, request.url.params["on_conflict"] != "") == ("POST", True)
        assert "resolution=ignore-duplicates" in request.headers["prefer"]


async def test_a_duplicate_of_our_own_key_is_saved_already(autojump_clock: MockClock) -> None:
    """A write whose answer was lost is sent again, and PostgREST ignores what is there: nothing fails."""
    script = Script([breaks(httpx.ReadError("reset")), Step(201)])
    await database(script).write_rows([ROW])
    assert len(script.requests) == 2


@pytest.mark.parametrize(("deadline_s", "asked"), [(0.05, 1), (0.15, 2), (5.0, 3)])
async def test_no_retry_begins_after_the_deadline(deadline_s: float, asked: int, autojump_clock: MockClock) -> None:
    """The fault is told while there is still time to tell it."""
    script = Script([refuses(503)])
    with trio.fail_after(deadline_s), pytest.raises(DatabaseFault):
        await database(script).user_exists("ann")
    assert len(script.requests) == asked


@pytest.mark.parametrize(("step", "_asked", "verdict"), TABLE.values(), ids=TABLE)
async def test_what_counts_as_the_databases_failure(
    step: Step, _asked: int, verdict: bool | None, autojump_clock: MockClock
) -> None:
    """What is broken or cannot reach its database does; a proper refusal is a sign of life, a full pool neither."""
    script, breaker = Script([step]), Breaker("database", failures=1)
    with pytest.raises(DatabaseFault):
        await database(script, breaker).user_exists("ann")
    assert breaker.state == ("open" if verdict is BAD else "closed")
    half_open = Breaker("database", failures=1)
    with half_open.call() as failing:
        failing.bad()
    await trio.sleep(10)
    with pytest.raises(DatabaseFault):
        await database(Script([step]), half_open).user_exists("ann")
    assert half_open.state == ("closed" if verdict is GOOD else "open")


async def test_an_open_breaker_spares_the_database(autojump_clock: MockClock) -> None:
    """Nothing is sent while it is open; then one request finds out, and the others follow."""
    script, breaker = Script([refuses(503)] * 3 + [ROWS]), Breaker("database", failures=3, open_s=5)
    client = database(script, breaker)
    with pytest.raises(DatabaseFault):
        await client.user_exists("ann")
    assert breaker.state == "open"
    before = trio.current_time()
    with pytest.raises(DatabaseFault) as caught:
        await client.write_rows([ROW])
    assert (caught.value.code, caught.value.error_type) == ("database_unavailable", "breaker_open")
    assert caught.value.retry_after_s == pytest.approx(5)
    assert (len(script.requests), trio.current_time()) == (3, before)
    await trio.sleep(5)
    assert not await client.user_exists("ann")
    await client.latest_project("ann")
    assert (len(script.requests), breaker.state) == (5, "closed")


async def test_a_breaker_that_opens_ends_the_retries(autojump_clock: MockClock) -> None:
    """The second failure opens it, so that there is no third."""
    script = Script([refuses(503)])
    with pytest.raises(DatabaseFault) as caught:
        await database(script, Breaker("database", failures=2)).user_exists("ann")
    assert (len(script.requests), caught.value.error_type) == (2, "http_503")
    assert trio.current_time() <= 0.1, "nothing is waited for that will be refused"


async def test_one_turn_that_meets_a_restart_does_not_open_it(autojump_clock: MockClock) -> None:
    """Two reads side by side, with all their retries, while the database is away: the server's breaker stays closed."""
    script, breaker = Script([breaks(httpx.ConnectError("refused"))] * 6 + [ROWS]), Breakers().database
    client = database(script, breaker)

    async def read() -> None:
        with pytest.raises(DatabaseFault):
            await client.user_exists("ann")

    async with trio.open_nursery() as turn:
        turn.start_soon(read)
        turn.start_soon(read)
    assert trio.current_time() <= 0.3
    assert (len(script.requests), breaker.state) == (6, "closed")
    assert not await client.user_exists("ann")


@pytest.mark.parametrize(
    ("seconds", "silent_s", "state"),
    [(1.4, 1.5, "closed"), (1.5, 1.5, "open"), (0.4, 0.5, "closed"), (0.5, 0.5, "open")],
)
async def test_a_silence_counts_whoever_ends_it(
    seconds: float, silent_s: float, state: State, autojump_clock: MockClock
) -> None:
    """A deadline that ends a request which was long enough says that the host has failed."""
    breaker = Breaker("database", failures=1)
    with trio.move_on_after(seconds):
        await database(Script([SILENT]), breaker, silent_s=silent_s).user_exists("ann")
    assert breaker.state == state


@dataclass
class Narrow(Script):
    """A script that takes `places` requests at once, as a pool does; the others wait."""

    places: int = 1
    _free: trio.Semaphore = field(init=False)

    def __post_init__(self) -> None:
        self._free = trio.Semaphore(self.places)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        async with self._free:
            return await super().handle_async_request(request)


async def overcrowd(client: Database) -> int:
    """Have four callers who would stay for 2.9 s ask at once, and return how many got their rows."""
    served = 0

    async def ask() -> None:
        nonlocal served
        with trio.move_on_after(2.9):
            await client.user_exists("ann")
            served += 1

    async with trio.open_nursery() as callers:
        for _ in range(4):
            callers.start_soon(ask)
    return served


SLOW_ROWS = replace(ROWS, wait_s=1.0)


async def test_waiting_for_a_place_says_nothing_of_the_host(autojump_clock: MockClock) -> None:
    """A host that answers after a second is well, however long the others wait for their turn; all places come back."""
    script, breaker = Narrow([SLOW_ROWS]), Breaker("database", failures=1)
    client = database(script, breaker, max_connections=1, silent_s=1.5)
    assert await overcrowd(client) == 2
    assert (len(script.requests), breaker.state) == (3, "closed")
    with trio.fail_after(1.1):
        await client.user_exists("ann")


async def test_nobody_queues_for_a_host_that_is_left_alone(autojump_clock: MockClock) -> None:
    """With every place taken by a request that hangs and the breaker open, the next one is refused at once."""
    script, breaker = Script([Step(wait_s=inf)]), Breaker("database", failures=1)
    client = database(script, breaker, max_connections=1)
    async with trio.open_nursery() as hanging:
        hanging.start_soon(client.user_exists, "ann")
        await wait_all_tasks_blocked()
        with breaker.call() as verdict:
            verdict.bad()
        with trio.fail_after(0), pytest.raises(DatabaseFault) as caught:
            await client.user_exists("bob")
        hanging.cancel_scope.cancel()
    assert (caught.value.error_type, len(script.requests)) == ("breaker_open", 1)


async def test_an_answer_without_end_is_left(autojump_clock: MockClock) -> None:
    """Over 16 MiB it is given up: not asked for again, for it would be no smaller, and no failure of the host's."""
    piece = b" " * (1 << 20)
    script, breaker = Script([Step(pieces=(piece,) * 40, end=None)]), Breaker("database", failures=1)
    with trio.fail_after(60), pytest.raises(DatabaseFault) as caught:
        await database(script, breaker).latest_project("ann")
    assert caught.value.error_type == "too_large"
    assert (len(script.requests), breaker.state) == (1, "closed")


async def test_an_answer_of_the_most_bytes_is_read(autojump_clock: MockClock) -> None:
    """The bound itself is within it."""
    script = Script([Step(pieces=(b"[]", b" " * (MAX_ANSWER_BYTES - 2)))])
    assert await database(script).latest_project("ann") is None


async def test_a_bounded_number_of_connections_is_open() -> None:
    """Forty requests at once go over the four connections that the client may hold, over real sockets."""
    peers, at_once, most = set[object](), 0, 0

    async def app(scope: dict[str, Any], _receive: object, send: Callable[[dict[str, Any]], Awaitable[None]]) -> None:
        nonlocal at_once, most
        if scope["type"] != "http":
            raise RuntimeError("no lifespan")
        peers.add(scope["client"])
        at_once += 1
        most = max(most, at_once)
        await trio.sleep(0.01)
        at_once -= 1
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"[]"})

    async with served(app) as url, TrioTransport(max_connections=4) as transport:
        supabase = SupabaseDatabase(transport, url.removesuffix("/v1"), "sb_secret_x")
        async with trio.open_nursery() as requests:
            for _ in range(40):
                requests.start_soon(supabase.user_exists, "ann")
    assert 1 < most <= 4
    assert len(peers) == 4
