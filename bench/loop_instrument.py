"""What measuring the loop costs a turn: `python -m bench.loop_instrument` (some 4 minutes).

1. The ratio. One server, with a database's and a model's host in a process of their own, answers short batches of
   turns; its loop is watched in every second one (telemetry/trio_instrument.py), of each pair of batches now in the
   first and now in the second. What is compared is the loop's CPU time, pair by pair, so that what slows both does not
   count: a batch takes a quarter of a second. The loop's own thread reads its CPU time as the batches change.
2. The price, which a busy machine blurs less: what a turn of the loop and what a task cost more with the instrument
   than without, times how many of both the batches had.

One user at a time is the worst case: a loop that serves many handles several of them in each of its turns.

What is wanted is a price under 2 % of a turn; where it is not, the command fails. The ratio is for the eye.
"""

import argparse
import http.client
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from itertools import repeat
from pathlib import Path
from statistics import median, quantiles
from typing import Literal, TypeVar

import trio
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from quart import Blueprint

from app import bootstrap
from app.settings import load_settings
from telemetry import names
from telemetry.logs import log_to
from telemetry.trio_instrument import LoopWatch
from tests.server.process import ServerProcess, running

ROOT = Path(__file__).parent.parent
BODY = json.dumps({"message": "What is a hypothesis? [[fault: slow first=0 each=0]]"})
WANTED = 0.02
"""The price's share of a turn is under this."""
WARM_UP, BATCH, ROUND = 192, 32, 20_000
"""Turns, of the chat and of the loop. The history of a user is at its longest after ten."""
AnyInstrument = TypeVar("AnyInstrument", bound=trio.abc.Instrument)
Watched = Literal["watched", "counted", "not"]


@contextmanager
def upstreams() -> Iterator[dict[str, str]]:
    """Run a database's and a model's host, which take no time of their own accord."""
    pipe = subprocess.PIPE
    started = subprocess.Popen([sys.executable, "-m", "bench.upstreams"], cwd=ROOT, stdin=pipe, stdout=pipe)
    assert started.stdin
    assert started.stdout
    try:
        urls = json.loads(started.stdout.readline())
        yield {"SUPABASE_URL": urls["database"], "SUPABASE_KEY": "k", "OPENAI_BASE_URL": urls["model"] + "/v1"}
    finally:
        started.stdin.close()
        started.wait(20)
        started.stdout.close()


@dataclass(frozen=True)
class Spent:
    """What a batch took: seconds for which the loop's thread had a core; turns of the loop and tasks, if counted."""

    cpu_s: float
    loop_turns: int
    tasks: int


@dataclass(frozen=True)
class Price:
    """What one of each costs more with the instrument than without."""

    loop_turn_s: float
    task_s: float


class Users:
    """Some users of a server, each on one connection."""

    def __init__(self, server: ServerProcess, number: int) -> None:
        self._server = server
        self._number = number

    def asked(self, watched: Watched, turns: int = BATCH) -> Spent:
        """Ask for `turns` answers, and return what was spent on them."""
        self._server.http.post(f"/bench/watch/{watched}")
        with ThreadPoolExecutor(self._number) as pool:
            list(pool.map(self._ask, range(self._number), repeat(turns // self._number)))
        return Spent(**self._server.http.post("/bench/watch/not").json())

    def _ask(self, user: int, turns: int) -> None:
        connection = http.client.HTTPConnection(*self._server.address, timeout=20)
        headers = {"authorization": f"Bearer bench-{user}", "content-type": "application/json"}
        for _ in range(turns):
            connection.request("POST", "/chat", BODY, headers)
            response = connection.getresponse()
            assert response.status == 200, response.read()
            response.read()
        connection.close()


def compare(pairs: int, users: int, price: Price) -> float:
    """Print what the instrument costs a turn of so many users at a time, and return the price's share of it."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        settings = {**stack.enter_context(upstreams()), "AUTH_MODE": "dev", "OTEL_SDK_DISABLED": "true"}
        house = Users(stack.enter_context(running(folder, "bench.loop_instrument", **settings)), users)
        house.asked("not", WARM_UP)
        counted = house.asked("counted", WARM_UP)
        ratios, without = list[float](), list[float]()
        for number in range(pairs):
            order: Sequence[Watched] = ("watched", "not") if number % 2 else ("not", "watched")
            spent = {watched: house.asked(watched).cpu_s for watched in order}
            ratios.append(spent["watched"] / spent["not"])
            without.append(spent["not"] / BATCH)
    low, _, high = quantiles(ratios, n=4)
    print(f"{users} at a time: {median(without) * 1000:.2f} ms of CPU a turn without the instrument")
    print(f"  with it {median(ratios):.4f} of that (quartiles {low:.4f} to {high:.4f}, {pairs} pairs)")
    loop_turns, tasks = counted.loop_turns / WARM_UP, counted.tasks / WARM_UP
    cost_s = loop_turns * price.loop_turn_s + tasks * price.task_s
    share = cost_s / median(without)
    print(f"  {loop_turns:.1f} turns of the loop, {tasks:.1f} tasks: {cost_s * 1e6:.0f} us, {share:.2%}")
    return share


async def measure_price() -> Price:
    """Return the median of some rounds, in each of which both ways are measured."""

    async def loop_turns() -> None:
        for _ in range(ROUND):
            await trio.lowlevel.checkpoint()

    async def tasks() -> None:
        for _ in range(ROUND // 100):
            async with trio.open_nursery() as nursery:
                for _ in range(100):
                    nursery.start_soon(nothing)

    async def nothing() -> None:
        pass

    return Price(await _more_s(loop_turns), await _more_s(tasks))


async def _more_s(do: Callable[[], Awaitable[None]]) -> float:
    more, record = list[float](), a_record()
    for _ in range(15):
        started = time.thread_time()
        await do()
        between = time.thread_time()
        with instrumented(LoopWatch(record)):
            await do()
        more.append((time.thread_time() - between - (between - started)) / ROUND)
    return median(more)


def a_record() -> Callable[[float], None]:
    """Return what records into a histogram like the server's."""
    meter = MeterProvider([InMemoryMetricReader()], shutdown_on_exit=False).get_meter("bench")
    bounds = list(names.LOOP_BUCKETS)
    return meter.create_histogram(names.TRIO_LOOP_LAG, explicit_bucket_boundaries_advisory=bounds).record


@contextmanager
def instrumented(instrument: AnyInstrument) -> Iterator[AnyInstrument]:
    trio.lowlevel.add_instrument(instrument)
    yield instrument
    trio.lowlevel.remove_instrument(instrument)


class Counted(trio.abc.Instrument):
    """Counts what an instrument is told of."""

    def __init__(self) -> None:
        self.loop_turns = self.tasks = 0

    def before_io_wait(self, timeout: float) -> None:
        self.loop_turns += 1

    def task_spawned(self, task: trio.lowlevel.Task) -> None:
        self.tasks += 1


def serve() -> None:
    """Serve as `python -m app serve` does, but have the loop watched as a route is told."""
    settings = load_settings()
    log_to(level=settings.log_level)
    trio.run(bootstrap.run, settings, lambda _text: None, _add_switch)


def _add_switch(parts: bootstrap.Parts) -> None:
    routes, watching = Blueprint("bench", __name__), ExitStack()
    began_s, counted, record = 0.0, Counted(), a_record()

    @routes.post("/bench/watch/<how>")
    async def watch(how: str) -> dict[str, float]:
        nonlocal began_s, counted
        spent = Spent(time.thread_time() - began_s, counted.loop_turns, counted.tasks)
        watching.close()
        if how == "watched":
            watching.enter_context(instrumented(LoopWatch(record)))
        if how == "counted":
            counted = watching.enter_context(instrumented(Counted()))
        began_s = time.thread_time()
        return asdict(spent)

    parts.quart.register_blueprint(routes)


def main() -> int:
    """Serve, when a comparison wants a server; else compare, print, and return 1 where it costs too much."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("command", nargs="?", choices=["compare", "serve"], default="compare")
    parser.add_argument("--pairs", type=int, default=200)
    options = parser.parse_args()
    if options.command == "serve":
        serve()
        return 0
    load = " ".join(f"{value:.1f}" for value in os.getloadavg())
    print(f"{os.cpu_count()} cores, load average at the start {load}")
    each = trio.run(measure_price)
    print(f"a turn of the loop costs {each.loop_turn_s * 1e6:.2f} us more, a task {each.task_s * 1e6:.2f} us")
    most = max(compare(options.pairs, users, each) for users in (1, 16))
    print(f"at most {most:.2%} of a turn; wanted: under {WANTED:.0%}")
    return int(most >= WANTED)


if __name__ == "__main__":
    sys.exit(main())
