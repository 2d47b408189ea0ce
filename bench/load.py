"""The load generator, a process of its own: `python -m bench.load '{"url": ..., ...}'` prints one JSON object.

Raw sockets, requests built beforehand. An answer counts only with status 200, complete, and with the mark that ends
every model answer; anything else is an error. The server's CPU time is read, from the OS, when the warm-up has ended
and when the last answer is there. With a `rate`, turns arrive as a Poisson process and are timed from their arrival,
whether or not a connection is free; without, each of `active` users asks again as soon as answered.
"""

import asyncio
import gc
import json
import random
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from itertools import cycle
from typing import cast
from urllib.parse import urlsplit

import uvloop  # type: ignore[import-not-found]  # in .venv-bench

from bench import bodies, system

FRESH_S = 4.0
"""Servers close a connection that was idle for 5 s."""
MAX_ERRORS = 100
Done = Callable[["Connection", bool], None]


@dataclass(frozen=True)
class Plan:
    """What to do. `held` connections are open besides, each with a request whose last bytes never come."""

    url: str
    pids: tuple[int, ...] = ()
    kind: str = "turn"
    page: str = "general"
    connections: int = 16
    held: int = 0
    users: int = 64
    warmup: int = 200
    seconds: float = 3.0
    turns: int = 0
    rate: float = 0.0
    seed: int = 1

    @property
    def warm_ups(self) -> int:
        """How many turns the warm-up has."""
        return max(self.warmup, self.connections) if self.warmup else 0


@dataclass
class Result:
    """What came of it: milliseconds, and the server's CPU seconds and resident megabytes."""

    turns: int
    errors: int
    seconds: float
    cpu_s: float
    rss_mb: float
    p50: float
    p90: float
    p99: float
    first_error: str = ""
    cpu_end_s: float = 0.0
    """What the server had used at the end since its start."""


class Connection(asyncio.Protocol):
    """A connection with at most one request in flight."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._expected = -1  # bytes in all; 0: chunked
        self._done: Done | None = None
        self.started = 0.0
        self.problem = ""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def send(self, request: bytes, started: float, done: Done) -> None:
        self.started, self._done, self._expected = started, done, -1
        self._buffer.clear()
        self.transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if self._expected < 0:
            self._read_head()
        if self._expected > 0:
            if len(self._buffer) >= self._expected:
                self._finish()
        elif self._expected == 0 and self._buffer.endswith(b"0\r\n\r\n"):
            self._finish()

    def _read_head(self) -> None:
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        head = self._buffer[:end].lower()
        self._expected = 0
        if (start := head.find(b"content-length:")) >= 0:
            self._expected = end + 4 + int(head[start + 15 :].split(b"\r\n", 1)[0])

    def _finish(self) -> None:
        good = self._buffer.startswith(b"HTTP/1.1 200 ") and bodies.MARK in self._buffer
        if not good:
            self.problem = self._buffer[:600].decode(errors="replace")
        done, self._done = self._done, None
        if done:
            done(self, good)

    def connection_lost(self, exc: Exception | None) -> None:
        done, self._done = self._done, None
        if done:
            self.problem = f"closed: {exc}"
            done(self, False)


@dataclass
class Tally:
    """Latencies in seconds, and what went wrong."""

    seconds: list[float] = field(default_factory=list)
    errors: int = 0
    first_error: str = ""

    def note(self, connection: Connection, good: bool) -> None:
        if good:
            self.seconds.append(time.perf_counter() - connection.started)
        else:
            self.errors += 1
            self.first_error = self.first_error or connection.problem


async def closed_loop(connections: list[Connection], requests: Iterator[bytes], more: Callable[[int], bool]) -> Tally:
    """Keep a turn in flight on every connection while `more(started)`; wait for the last."""
    tally, finished = Tally(), asyncio.Event()
    started = flying = 0

    def start(connection: Connection) -> None:
        nonlocal started, flying
        started, flying = started + 1, flying + 1
        connection.send(next(requests), time.perf_counter(), done)

    def done(connection: Connection, good: bool) -> None:
        nonlocal flying
        flying -= 1
        tally.note(connection, good)
        if good and more(started):
            start(connection)
        elif not flying:
            finished.set()

    for connection in connections:
        start(connection)
    await finished.wait()
    return tally


class Arrivals:
    """Turns that arrive as a Poisson process: on an idle connection, on a new one up to the plan's number, or later."""

    def __init__(self, connections: list[Connection], requests: Iterator[bytes], plan: Plan) -> None:
        self._plan, self._requests = plan, requests
        self._idle = [(time.perf_counter(), connection) for connection in connections]
        self._open, self._opening = len(connections), 0
        self._waiting: deque[float] = deque()
        self._tasks: set[asyncio.Task[None]] = set()
        self._tally, self._finished = Tally(), asyncio.Event()
        draws, at = random.Random(plan.seed), 0.0
        self._arrivals: deque[float] = deque()
        while (at := at + draws.expovariate(plan.rate)) < plan.seconds:
            self._arrivals.append(time.perf_counter() + at)
        self._left = len(self._arrivals)

    async def run(self) -> Tally:
        """Wait for the last answer."""
        self._arrive()
        await self._finished.wait()
        return self._tally

    def _arrive(self) -> None:
        now = time.perf_counter()
        while self._arrivals and self._arrivals[0] <= now:
            self._waiting.append(self._arrivals.popleft())
        self._start_waiting()
        if self._arrivals:
            asyncio.get_running_loop().call_later(max(0.0, self._arrivals[0] - now), self._arrive)

    def _start_waiting(self) -> None:
        while self._waiting and (connection := self._take()):
            connection.send(next(self._requests), self._waiting.popleft(), self._done)
        while self._opening < len(self._waiting) and self._open < self._plan.connections:
            self._open, self._opening = self._open + 1, self._opening + 1
            task = asyncio.get_running_loop().create_task(self._open_one())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def _take(self) -> Connection | None:
        """Return the connection that was used last; one that the server may be about to close is closed."""
        while self._idle:
            since, connection = self._idle.pop()
            if time.perf_counter() - since < FRESH_S and not connection.transport.is_closing():
                return connection
            connection.transport.abort()
            self._open -= 1
        return None

    async def _open_one(self) -> None:
        connection = await connect(self._plan.url)
        self._opening -= 1
        self._idle.append((time.perf_counter(), connection))
        self._start_waiting()

    def _done(self, connection: Connection, good: bool) -> None:
        self._left -= 1
        self._tally.note(connection, good)
        self._idle.append((time.perf_counter(), connection))
        self._start_waiting()
        if not self._left or self._tally.errors >= MAX_ERRORS:
            self._finished.set()


async def connect(url: str) -> Connection:
    """Open a connection."""
    address = urlsplit(url)
    assert address.hostname
    assert address.port
    _, connection = await asyncio.get_running_loop().create_connection(Connection, address.hostname, address.port)
    return connection


def requests_of(plan: Plan) -> Iterator[bytes]:
    """Return the requests, one after the other, without end."""
    if path := {"turn": "/chat", "stream": "/chat/stream"}.get(plan.kind):
        return cycle([bodies.turn_request(user, plan.page, path) for user in range(plan.users)])
    return cycle([bodies.completion_request(streamed=plan.kind == "streamed")])


async def run(plan: Plan) -> Result:
    """Connect, warm up, measure; give up after a time that no server here should need."""
    async with asyncio.timeout(120 + 4 * plan.seconds + plan.turns / 5 + plan.warm_ups / 5):
        connections = [await connect(plan.url) for _ in range(plan.connections)]
        held = [await connect(plan.url) for _ in range(plan.held)]
        for connection in held:
            connection.transport.write(bodies.turn_request(0, plan.page)[:-8])
        try:
            return await _measured(plan, connections)
        finally:
            if lost := sum(connection.transport.is_closing() for connection in held):
                raise RuntimeError(f"{lost} of the {plan.held} held connections were closed")
            for connection in connections + held:
                connection.transport.abort()


async def _measured(plan: Plan, connections: list[Connection]) -> Result:
    requests = requests_of(plan)
    if plan.warm_ups:
        await closed_loop(connections, requests, lambda started: started < plan.warm_ups)
    gc.collect()
    gc.freeze()
    before, start = system.cpu_s(plan.pids), time.perf_counter()
    end = start + plan.seconds
    if plan.rate:
        tally = await Arrivals(connections, requests, plan).run()
    elif plan.turns:
        tally = await closed_loop(connections, requests, lambda started: started < plan.turns)
    else:
        tally = await closed_loop(connections, requests, lambda started: time.perf_counter() < end)
    elapsed, after = time.perf_counter() - start, system.cpu_s(plan.pids)
    found = _result(tally, elapsed, after - before, system.rss_mb(plan.pids))
    return replace(found, cpu_end_s=after)


def _result(tally: Tally, elapsed: float, cpu_s: float, rss_mb: float) -> Result:
    ordered = sorted(tally.seconds) or [float("nan")]

    def percentile(share: float) -> float:
        return 1e3 * ordered[min(len(ordered) - 1, int(share * len(ordered)))]

    return Result(
        turns=len(tally.seconds),
        errors=tally.errors,
        seconds=elapsed,
        cpu_s=cpu_s,
        rss_mb=rss_mb,
        p50=percentile(0.50),
        p90=percentile(0.90),
        p99=percentile(0.99),
        first_error=tally.first_error,
    )


def main() -> None:
    """Run the plan on the command line."""
    plan = Plan(**json.loads(sys.argv[1]))
    print(json.dumps(asdict(uvloop.run(run(plan)))))


if __name__ == "__main__":
    main()
