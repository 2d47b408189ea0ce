"""Both plans at equal pool, side by side: `python -m bench.rollout` (about 8 minutes; `--quick` about one).

1. Response time: the database at 50, 100, 200 and 300 ms a request, the model at 1.45 s +- 30 %, pool 10, six users who
   ask one message after the other on a page with a project. Medians; what the concurrent plan saves.
2. Users served: the most users, each asking again as soon as answered, for whom p95 stays under 5 s, at pools 10, 20
   and 30, the database at 100 ms.

The server is the real one, in a process of its own, as are the hosts it asks (bench/upstreams.py).
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles
from typing import IO

import httpx
import trio

ROOT = Path(__file__).parent.parent
DATABASE_S = (0.05, 0.1, 0.2, 0.3)
MODEL_S, SPREAD = 1.45, 0.3
PLANS = {"sequential": "false", "concurrent": "true"}
POOLS = (10, 20, 30)
LIMIT_S = 5.0


@dataclass(frozen=True)
class Times:
    """Seconds of the turns that were answered, and how many were not."""

    seconds: list[float]
    refused: int

    @property
    def p95(self) -> float:
        return quantiles(self.seconds, n=20)[-1] if len(self.seconds) > 1 else float("inf")


@contextmanager
def server(plan: str, pool: int, database_s: float) -> Iterator[str]:
    """Run upstreams and server; yield the server's URL."""
    upstream_command = [sys.executable, "-m", "bench.upstreams", "--database", str(database_s)]
    upstream_command += ["--model", str(MODEL_S), "--spread", str(SPREAD)]
    with tempfile.TemporaryDirectory() as folder, _process(upstream_command, {}) as upstreams:
        urls = json.loads(_line(upstreams.stdout))
        environment = {
            "BIND": "127.0.0.1:0",
            "DATA_DIR": folder,
            "SUPABASE_URL": urls["database"],
            "SUPABASE_KEY": "bench",
            "AUTH_MODE": "dev",
            "OPENAI_BASE_URL": urls["model"] + "/v1",
            "USE_OPTIMIZED_CHAT": PLANS[plan],
            "OPENAI_API_POOL_SIZE": str(pool),
            "SUPABASE_MAX_CONNECTIONS": "200",
            "LLM_QUEUE_TIMEOUT": "30",
            "LLM_QUEUE_MAX": "1000",
            "ENABLE_CHAT_RATE_LIMIT": "false",
            "LOG_LEVEL": "info",
        }
        with _process([sys.executable, "-m", "app", "serve"], environment) as served:
            while (line := json.loads(_line(served.stderr)))["event"] != "server.listening":
                pass
            _drain(served)
            yield line["url"]


@contextmanager
def _process(command: list[str], environment: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env={**os.environ, **environment},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE if environment else None,
    )
    try:
        yield process
    finally:
        process.terminate()
        process.wait()
        for pipe in (process.stdin, process.stdout, process.stderr):
            if pipe:
                pipe.close()


def _line(pipe: IO[bytes] | None) -> bytes:
    assert pipe is not None
    line = pipe.readline()
    if not line:
        raise SystemExit("a process of the benchmark ended early")
    return line


def _drain(process: subprocess.Popen[bytes]) -> None:
    """Read the server's log away, so that it never waits for us."""
    import threading

    for pipe in (process.stderr, process.stdout):
        threading.Thread(target=lambda pipe=pipe: [None for _ in pipe], daemon=True).start()


async def load(url: str, users: int, seconds: float) -> Times:
    """Let `users` ask one message after the other for `seconds`; the first answer of each is warm-up."""
    times, refused = [], 0
    end = time.monotonic() + seconds

    async def ask_on(user: int, client: httpx.AsyncClient) -> None:
        nonlocal refused
        first = True
        while time.monotonic() < end:
            start = time.perf_counter()
            response = await client.post(
                "/chat",
                json={"message": "What is a hypothesis?", "page_id": "project-1"},
                headers={"authorization": f"Bearer bench-{user}"},
            )
            if response.status_code != 200:
                refused += 1
                await trio.sleep(0.2)
            elif not first:
                times.append(time.perf_counter() - start)
            first = False

    limits = httpx.Limits(max_connections=users, max_keepalive_connections=users)
    async with (
        httpx.AsyncClient(base_url=url, timeout=60, limits=limits, trust_env=False) as client,
        trio.open_nursery() as nursery,
    ):
        for user in range(users):
            nursery.start_soon(ask_on, user, client)
    return Times(times, refused)


def measured(plan: str, pool: int, database_s: float, users: int, seconds: float) -> Times:
    """Start everything, load it, end it."""
    with server(plan, pool, database_s) as url:
        return trio.run(load, url, users, seconds)


def response_times(seconds: float) -> Iterator[str]:
    """Yield the first table's lines."""
    yield "| database | sequential | concurrent | saved | saved |"
    yield "|---|---|---|---|---|"
    for database_s in DATABASE_S:
        found = {plan: median(measured(plan, 10, database_s, 6, seconds).seconds) for plan in PLANS}
        saved = found["sequential"] - found["concurrent"]
        yield (
            f"| {database_s * 1e3:.0f} ms | {found['sequential']:.2f} s | {found['concurrent']:.2f} s "
            f"| {saved:.2f} s | {saved / found['sequential']:.0%} |"
        )


def users_served(plan: str, pool: int, seconds: float) -> tuple[int, float]:
    """Return the most users with p95 under the limit, found by bisection to a quarter of the pool, and that p95."""
    low, high, best = pool, 5 * pool, float("nan")
    while high - low > pool // 4:
        users = (low + high) // 2
        times = measured(plan, pool, 0.1, users, seconds)
        if times.p95 < LIMIT_S and not times.refused:
            low, best = users, times.p95
        else:
            high = users
    return low, best


def users_table(seconds: float) -> Iterator[str]:
    """Yield the second table's lines."""
    yield "| pool | sequential | concurrent | ratio |"
    yield "|---|---|---|---|"
    for pool in POOLS:
        found = {plan: users_served(plan, pool, seconds) for plan in PLANS}
        cells = " | ".join(f"{users} users (p95 {p95:.2f} s)" for users, p95 in found.values())
        yield f"| {pool} | {cells} | {found['concurrent'][0] / found['sequential'][0]:.2f} |"


def main() -> None:
    """Measure, and print Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="short runs, to see that it works")
    quick = parser.parse_args().quick
    for line in response_times(6 if quick else 16):
        print(line, flush=True)
    print()
    for line in users_table(6 if quick else 20) if not quick else ():
        print(line, flush=True)


if __name__ == "__main__":
    main()
