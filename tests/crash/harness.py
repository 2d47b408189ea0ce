"""Clients ask, the database fails, servers are killed: whatever was promised must be there at the end.

    python -m tests.crash.harness SEED... [--servers 2] [--cold]      the same seeds again, with their findings

A run: servers on one faulty database and one `DATA_DIR`, with the scripted model. Clients ask over real sockets, for
JSON or for streams, and write down what they received whole; some ask again under the same key, of any server, until
they have that, and some of these leave early. The weather at the database changes; servers are killed with SIGKILL,
also in the moment in which a client has read the last byte of an answer, and started again. Then all faults are lifted.
Each client has one more turn, which must be answered and kept; the outboxes empty; the servers are killed once more.
The rows that the database's file holds then are judged (`verdict`), and what the outboxes' files have set aside.
"""

import argparse
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import httpx
import trio

from tests.crash.clients import Clients
from tests.crash.left_over import set_aside
from tests.crash.plan import Kill, Plan, make_plan
from tests.crash.posting import post_json
from tests.crash.servers import NotDeliveredError, Server, Start, cold, until_delivered, warm
from tests.crash.verdict import Asked, Finding, Received, Row, verdict
from tests.server.database_faults import Weather
from tests.server.faulty_database import FaultyDatabase, open_faulty_database
from tests.server.process import WAIT_S
from tests.server.rows import stored

DEADLINES = {"DB_FETCH_TIMEOUT": "0.3", "DB_SAVE_TIMEOUT": "0.25"}
"""Short, so that a run of a second sees many of them pass."""
AT_ONCE_AT_MOST = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a run came to. `oddities` are answers and log lines for which no fault of the database is a reason."""

    plan: Plan
    findings: tuple[Finding, ...]
    oddities: tuple[str, ...]
    asked: tuple[Asked, ...]
    met: Counter[str]
    hits: Counter[str]
    kills: int
    seconds: float
    logs: str

    @property
    def good(self) -> bool:
        """Whether the promise was kept."""
        return not self.findings and not self.oddities

    @property
    def figures(self) -> Counter[str]:
        """The run in numbers, which add up over runs."""
        saved = Counter(f"saved {each.received.saved}" for each in self.asked if each.received)
        in_mode = Counter({f"{what} under {self.plan.settings['SAVE_MODE']}": count for what, count in saved.items()})
        return self.met + saved + in_mode + Counter(asked=len(self.asked), kills=self.kills, faults=self.hits.total())

    def report(self) -> str:
        """Return what to read when it is not good; the seed comes first."""
        found = [f"{finding.kind}: turn {finding.turn_id}: {finding.what}" for finding in self.findings]
        return "\n".join([f"seed {self.plan.seed}: {dict(self.figures)}", *found, *self.oddities, str(self.plan)])


class _Due:
    """The next kill of a server, which waits for its answers."""

    def __init__(self, kill: Kill) -> None:
        self._kill = kill
        self._answers = 0
        self.reached = trio.Event()

    def counts(self, received: Received) -> bool:
        """Count an answer if it is one that counts; return whether it is the last one before the kill."""
        self._answers += self._kill.saved in (None, received.saved)
        if self._kill.answers is None or self._answers < self._kill.answers:
            return False
        self.reached.set()
        return True


class Run:
    """The run of a plan: its actors are tasks of one nursery."""

    def __init__(
        self, plan: Plan, database: FaultyDatabase, servers: Sequence[Server], http: httpx.AsyncClient
    ) -> None:
        self.kills = 0
        self._plan = plan
        self._database = database
        self._servers = servers
        self._http = http
        self._due: dict[int, _Due] = {}
        self.clients = Clients(plan, servers, http, self._note_answer)
        self.oddities = self.clients.oddities

    async def act(self) -> None:
        """Let everything happen that is planned."""
        until = trio.current_time() + self._plan.span_s
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._change_weather)
            for server in self._servers:
                kills = [kill for kill in self._plan.kills if kill.server == server.number]
                nursery.start_soon(self._kill_server, server, kills)
            for client in self._plan.clients:
                nursery.start_soon(self.clients.act, client, until)

    async def end_well(self) -> None:
        """Lift all faults, have every client's last turn kept, and wait for what is not delivered yet."""
        await self._database.become(Weather())
        await self._deliver()
        with trio.move_on_after(WAIT_S) as waiting:
            async with trio.open_nursery() as nursery:
                for client in self._plan.clients:
                    nursery.start_soon(self.clients.last_turn, client)
        if waiting.cancelled_caught:
            waiting_for = self.clients.waiting_for
            self.oddities.append(f"all is well, and yet after {WAIT_S} s some wait for an answer: {waiting_for}")
        await self._deliver()

    async def _deliver(self) -> None:
        try:
            for server in self._servers:
                await until_delivered(self._http, server.url)
        except NotDeliveredError as exc:
            self.oddities.append(f"not delivered: {exc}")

    async def _change_weather(self) -> None:
        for lasting_s, weather in self._plan.weather:
            await self._database.become(weather)
            await trio.sleep(lasting_s)

    async def _kill_server(self, server: Server, kills: list[Kill]) -> None:
        start = trio.current_time()
        for kill in sorted(kills, key=lambda kill: kill.after_s):
            due = self._due[server.number] = _Due(kill)
            with trio.move_on_at(start + kill.after_s):
                await due.reached.wait()
            del self._due[server.number]
            server.kill()
            self.kills += 1
            await server.ended()
            await trio.sleep(kill.down_s)
            await server.start()

    def _note_answer(self, received: Received) -> None:
        """Note that a client holds an answer, and kill at once who is to be killed for it."""
        for number, due in self._due.items():
            if due.counts(received):
                self._servers[number].kill()


@asynccontextmanager
async def _running(servers: Sequence[Server]) -> AsyncIterator[None]:
    """Start the servers; whatever happens, they are killed and gone afterwards."""
    try:
        async with trio.open_nursery() as nursery:
            for server in servers:
                nursery.start_soon(server.start)
        yield
    finally:
        with trio.move_on_after(WAIT_S, shield=True):
            for server in servers:
                server.kill()
                await server.ended()


async def run(seed: int, *, servers: int = 1, start: Start = warm) -> Outcome:
    """Run a seed to its end and judge it."""
    began = time.monotonic()
    plan = make_plan(seed, servers)
    with tempfile.TemporaryDirectory(prefix="crash-") as name:
        folder = Path(name)
        async with (
            open_faulty_database(folder / "supabase.sqlite3", seed) as database,
            httpx.AsyncClient(timeout=WAIT_S, trust_env=False, verify=False) as http,
        ):
            await _make_users(http, database.url, {client.user_id for client in plan.clients} - {"demo"})
            settings = {**DEADLINES, **plan.settings, "SUPABASE_URL": database.url, "SUPABASE_KEY": "sb_secret_x"}
            (folder / "data").mkdir()
            places = [Server(number, folder / "data", start, AUTH_MODE="dev", **settings) for number in range(servers)]
            acting = Run(plan, database, places, http)
            async with _running(places):
                await acting.act()
                await acting.end_well()
            await http.aclose()
            await database.drained()
        aside = set_aside(folder / "data")
        return Outcome(
            plan=plan,
            findings=verdict(acting.clients.asked, [Row.of(row) for row in stored(folder)], aside),
            oddities=(*acting.oddities, *(stack for place in places for stack in place.stacks())),
            asked=tuple(acting.clients.asked),
            met=acting.clients.met + Counter({"set aside": len(aside)}),
            hits=database.hits,
            kills=acting.kills,
            seconds=time.monotonic() - began,
            logs="\n".join(place.log_text for place in places),
        )


async def run_all(seeds: Sequence[int], *, servers: int = 1, start: Start = warm) -> list[Outcome]:
    """Run the seeds, two at a time, and return what they came to."""
    outcomes: list[Outcome] = []
    limit = trio.CapacityLimiter(AT_ONCE_AT_MOST)

    async def one(seed: int) -> None:
        async with limit:
            try:
                outcomes.append(await run(seed, servers=servers, start=start))
            except Exception as exc:
                exc.add_note(f"seed {seed}")
                raise

    async with trio.open_nursery() as nursery:
        for seed in seeds:
            nursery.start_soon(one, seed)
    return outcomes


async def _make_users(http: httpx.AsyncClient, url: str, users: set[str]) -> None:
    response = await post_json(http, f"{url}/rest/v1/users", [{"id": user} for user in sorted(users)])
    assert response.status_code == 201, response.text


def main() -> None:
    """Run the seeds of the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.crash.harness")
    parser.add_argument("seeds", type=int, nargs="+")
    parser.add_argument("--servers", type=int, default=1)
    parser.add_argument("--cold", action="store_true")
    arguments = parser.parse_args()
    start = cold if arguments.cold else warm
    for outcome in trio.run(partial(run_all, arguments.seeds, servers=arguments.servers, start=start)):
        told = [outcome.report(), str(dict(outcome.hits)), f"{outcome.seconds:.2f} s"]
        sys.stdout.write("\n".join([*told, "" if outcome.good else outcome.logs, ""]))


if __name__ == "__main__":
    main()
