"""What `python -m app whatif` says, held to what the server then does: `python -m bench.whatif` (some 9 minutes).

1. Validation. A load of bursts is driven at the real server, with more slots than it needs, and recorded by `TURN_LOG`.
   From that log alone the p95 wait at three pool sizes is predicted. Then the same load is driven at each of the sizes,
   and what those servers' own logs have is compared: within 10 % or 50 ms. The scripted model takes as long as each
   message says, so both see the same service times; each turn is another user's.
2. Time. A log of a million turns at 20 sizes, through the command: under 20 s on two idle cores. Wall and CPU time.

`--only time` or `--only validation` does one of them, `--quick` shorter.
"""

import argparse
import json
import math
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import trio

from app.ops.whatif.advice import seconds
from app.ops.whatif.figures import Figures, figures_at
from app.ops.whatif.replay import GateRules
from app.ops.whatif.sweep import log_files, read_files
from app.ops.whatif.turns import Trace, as_trace
from tests.server.process import running

ROOT = Path(__file__).parent.parent
SIZES, AMPLE = (6, 8, 10), 200
QUIET, BUSY = 0.8, 6.0
"""Arrivals a second."""
PERIOD_S, BURST_S = 30.0, 8.0
TIMEOUT_S, MOST_WAIT = 10, 64
SHARE, ABSOLUTE_S = 0.10, 0.05
"""How far off a prediction may be: whichever is more."""
MILLION, SWEEP = 1_000_000, "4..80:4"


@dataclass(frozen=True)
class Turn:
    """When a turn is sent, seconds from the start, and how long its model call takes."""

    at: float
    service_s: float


def load(seconds: float, seed: int) -> list[Turn]:
    """Return a load with a burst at the beginning of every period; calls of some 2.5 s, log-normal."""
    draw, at, turns = random.Random(seed), 0.0, list[Turn]()
    while True:
        at += draw.expovariate(BUSY if at % PERIOD_S < BURST_S else QUIET)
        if at >= seconds:
            return turns
        turns.append(Turn(at, min(10.0, draw.lognormvariate(0.8, 0.5))))


@dataclass(frozen=True)
class Driven:
    """What came of a load at a pool size."""

    trace: Trace
    answered: int
    refused: int
    wrong: int

    @property
    def p95_s(self) -> float:
        return self.trace.recorded_p95_s if self.trace.recorded_p95_s is not None else math.nan


def drive(turns: Sequence[Turn], pool: int) -> Driven:
    """Run the server with so many slots, drive the load at it, and read its log."""
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "turns.jsonl"
        settings = {
            "OPENAI_API_POOL_SIZE": str(pool),
            "LLM_QUEUE_TIMEOUT": str(TIMEOUT_S),
            "LLM_QUEUE_MAX": str(MOST_WAIT),
            "TURN_LOG": str(log),
            "LOG_LEVEL": "error",
        }
        with listening(Path(folder) / "data", **settings) as url:
            statuses = trio.run(_drive, url, turns)
        trace = as_trace(read_files(log_files(log), 1, lambda done, of: None))
    good, refused = statuses.count(200), statuses.count(503)
    return Driven(trace, good, refused, len(statuses) - good - refused)


@contextmanager
def listening(data: Path, **settings: str) -> Iterator[str]:
    """Run the server until the block ends; yield its URL."""
    with running(data, **{**settings, "LOG_LEVEL": "info"}) as server:
        yield server.url


async def _drive(url: str, turns: Sequence[Turn]) -> list[int]:
    statuses: list[int] = []
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=50, keepalive_expiry=3)
    async with httpx.AsyncClient(base_url=url, timeout=60, trust_env=False, limits=limits) as client:
        start = trio.current_time() + 0.5

        async def ask(number: int, turn: Turn) -> None:
            await trio.sleep_until(start + turn.at)
            message = f"Tell me more. [[fault: slow first={turn.service_s:.3f} each=0]]"
            headers = {"authorization": f"Bearer user-{number}"}
            response = await client.post("/chat", json={"message": message}, headers=headers)
            statuses.append(response.status_code)

        async with trio.open_nursery() as nursery:
            for number, turn in enumerate(turns):
                nursery.start_soon(ask, number, turn)
    return statuses


def validate(length_s: float, seed: int) -> bool:
    """Predict, measure, print the table; return whether each size is within the bounds."""
    turns = load(length_s, seed)
    recorded = drive(turns, AMPLE)
    trace, rules = recorded.trace, GateRules(queue_max=MOST_WAIT, queue_timeout_s=TIMEOUT_S)
    print(
        f"\n{len(turns)} turns in {length_s:.0f} s, {BUSY:g} a second for {BURST_S:g} s of every {PERIOD_S:g} s, else "
        f"{QUIET:g}; recorded with {AMPLE} slots: up to {trace.most_at_once} calls at once, "
        f"{trace.mean_service_s:.2f} s each (wrong: {recorded.wrong}).\n"
    )
    print("| slots | p95 wait predicted | measured | off by | from its own log | refused predicted | measured ", end="")
    print("| service time then | Erlang C p95 | |\n|---|---|---|---|---|---|---|---|---|---|")
    return all([_compare(drive(turns, size), _predicted(trace, size, rules), rules) for size in SIZES])  # noqa: C419 - every size is measured


def _predicted(trace: Trace, size: int, rules: GateRules) -> Figures:
    return figures_at(size, trace.arrivals, trace.services, rules, (), trace.rate)


def _compare(driven: Driven, predicted: Figures, rules: GateRules) -> bool:
    own = _predicted(driven.trace, predicted.size, rules)
    expected = predicted.p95_s if predicted.p95_s is not None else math.nan
    off = expected - driven.p95_s
    good = abs(off) <= max(SHARE * driven.p95_s, ABSOLUTE_S) and not driven.wrong
    erlang = "no end" if predicted.erlang_p95_s is None else f"{predicted.erlang_p95_s:.2f} s"
    error = f"{off * 1000:+.0f} ms ({off / driven.p95_s:+.1%})" if driven.p95_s > 0.001 else f"{off * 1000:+.0f} ms"
    print(
        f"| {predicted.size} | {expected:.2f} s | {driven.p95_s:.2f} s | {error} | {seconds(own.p95_s)} "
        f"| {predicted.refused} | {driven.refused} | {driven.trace.mean_service_s:.2f} s | {erlang} "
        f"| {'good' if good else 'OFF'} |",
        flush=True,
    )
    return good


def write_log(path: Path, turns: int) -> None:
    """Write a log as the server would have: bursts one minute in four, calls of four seconds."""
    draw, at = random.Random(1), 1_800_000_000.0
    tail = '"tokens_in":512,"tokens_out":128,"outcome":"ok","reason":null,"plan":"concurrent"}\n'
    with path.open("w") as file:
        for number in range(turns):
            at += draw.expovariate(11.0 if int(at // 60) % 4 == 0 else 3.0)
            service = min(40.0, draw.lognormvariate(1.2, 0.6))
            turn = f"{number:08x}-0000-4000-8000-{draw.getrandbits(48):012x}"
            file.write(f'{{"turn":"{turn}","arrived":{at:.6f},"wait_s":0.000123,"service_s":{service:.6f},{tail}')


def measure_time(turns: int) -> None:
    """Run the command over a log and print what it took."""
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "turns.jsonl"
        write_log(log, turns)
        command = [sys.executable, "-m", "app", "whatif", "--turns", str(log), "--sizes", SWEEP, "--json"]
        environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)}
        before, begin = _children_s(), time.perf_counter()
        ran = subprocess.run(command, cwd=folder, env=environment, capture_output=True, check=True)
        wall_s, cpu_s = time.perf_counter() - begin, _children_s() - before
        answer = json.loads(ran.stdout)
        print(
            f"\n{turns:,} turns ({log.stat().st_size / 1e6:.0f} MB) at {len(answer['sizes'])} sizes: {wall_s:.1f} s, "
            f"{cpu_s:.1f} CPU-seconds; load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores.\n"
            f"{answer['recommendation']}"
        )


def _children_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main() -> int:
    """Read the options, measure, print."""
    parser = argparse.ArgumentParser(prog="python -m bench.whatif", description=__doc__)
    parser.add_argument("--only", choices=["validation", "time"])
    parser.add_argument("--quick", action="store_true", help="40 s a run instead of 120, 100,000 turns")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    good = True
    if options.only != "time":
        good = validate(40.0 if options.quick else 120.0, options.seed)
    if options.only != "validation":
        measure_time(MILLION // 10 if options.quick else MILLION)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
