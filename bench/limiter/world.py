"""One run: users before the server's own gate, retries, pacer and limit, and a simulated host behind them."""

import logging
import random
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import trio
from opentelemetry.metrics import NoOpMeter
from opentelemetry.trace import NoOpTracer
from trio.testing import MockClock

from app.admit.adaptive import AdaptiveLimit, LimitBounds
from app.admit.gate import Gate
from app.admit.pacer import Pacer, Reservation
from app.admit.silent_queue import SilentQueue
from app.admit.steered_model import Change, Limit, SteeredModel, Steering
from app.clients.breaker import Breaker
from app.clients.ports import RateLimits
from app.clients.resilient import ResilientModel
from app.clients.retry import RetryBudget, backoff_s
from app.errors import Fault
from bench.limiter.hosts import LOOK_S, Host, SlotHost, draw_request
from telemetry.active_users import ActiveUsers
from telemetry.metrics import build_instruments
from telemetry.stage_clock import StageClock
from telemetry.turn_trace import TurnTelemetry

START, LARGEST = 10, 64
PATIENT_S = 1e6
TRACE_ID = "0" * 32

Arrivals = Callable[[int], list[float]]
"""When turns come, by seed; empty where so many users ask again and again."""


class Deaf(Pacer):
    """A pacer that hears nothing of quotas: the server without one."""

    def learn(self, now: float, reservation: Reservation, limits: RateLimits) -> None:
        pass

    def explains(self, now: float, reservation: Reservation, limits: RateLimits | None) -> bool:
        return False


@dataclass(frozen=True, kw_only=True)
class Controller:
    """What is tried: a limit, with or without the pacer and the guard."""

    name: str
    limit: Callable[[], Limit]
    paced: bool = False
    guarded: bool = False


OURS = Controller(
    name="adaptive", limit=lambda: AdaptiveLimit(START, LimitBounds(minimum=1, maximum=LARGEST)), paced=True
)


@dataclass
class Run:
    """What became of a run. `timeline` has, for each second, the limit and the calls that the host works on."""

    host: Host
    timeline: list[tuple[float, int, int]] = field(default_factory=list)
    limits: list[tuple[float, int]] = field(default_factory=list)
    waits_s: list[float] = field(default_factory=list)

    @property
    def goodput(self) -> int:
        return len(self.host.seen.finished)

    @property
    def refused(self) -> float:
        """Share of the host's answers that were 429."""
        seen = self.host.seen
        return len(seen.refused) / max(1, len(seen.refused) + seen.accepted)

    def finished_between(self, start: float, end: float) -> int:
        return sum(start <= time < end for time in self.host.seen.finished)


class World:
    """Everything of one run."""

    def __init__(self, host: Host, controller: Controller | None, seed: int) -> None:
        self.run = Run(host)
        self._draw = random.Random(f"world {seed}")
        self.limit = controller.limit() if controller else None
        total = self.limit.total if self.limit else 10_000
        self._gate = Gate(total, PATIENT_S, queue_max=10_000)
        self.steering = Steering(
            self._resize,
            self.limit,
            SilentQueue() if controller and controller.guarded else None,
            Pacer if controller and controller.paced else Deaf,
        )
        host.on_end = getattr(self.limit, "finished", None)
        budget = RetryBudget(trio.current_time)
        steered = SteeredModel(host, self.steering)
        self._model = ResilientModel(steered, Breaker("model", failures=10), budget=budget, wait_s=self._backoff)
        self._telemetry = TurnTelemetry(
            tracer=NoOpTracer(),
            instruments=build_instruments(NoOpMeter("bench")),
            user_key=b"key",
            active_users=ActiveUsers(lambda: 0.0),
            new_clock=lambda: StageClock(lambda: round(trio.current_time() * 1e9), lambda: 0),
        )

    def _backoff(self, retry: int) -> float:
        return backoff_s(retry, self._draw.uniform)

    def _resize(self, total: int, reason: Change) -> None:
        self.run.limits.append((trio.current_time(), total))
        self._gate.resize(total, reason)

    async def watch(self) -> None:
        """Keep the limit of each second, and how many calls the host works on."""
        while True:
            limit = self.limit.total if self.limit else 0
            self.run.timeline.append((trio.current_time(), limit, self.run.host.busy))
            await trio.sleep(1)

    async def follow(self, capacity: Callable[[float], float]) -> None:
        """Be the oracle: the limit is always what the host takes."""
        while True:
            self._resize(max(1, int(capacity(trio.current_time()))), "grow")
            await trio.sleep(LOOK_S)

    async def user(self, number: int) -> None:
        """Ask again and again."""
        await trio.sleep(0.01 * number)
        while True:
            await self.turn(f"u{number}")

    async def turn(self, user_id: str) -> None:
        """Ask until there is an answer; whoever is refused comes back when told to."""
        request = draw_request(self._draw)
        came = trio.current_time()
        while True:
            try:
                trace = self._telemetry.turn(turn_id="t", user_id=user_id, trace_id=TRACE_ID, surface="chat")
                with trace:
                    async with self._gate.slot(trace):
                        await self._model.answer(request, lambda text: None)
                        break
            except Fault as fault:
                await trio.sleep((fault.retry_after_s or 1.0) * self._draw.uniform(1.0, 1.5))
        self.run.waits_s.append(trio.current_time() - came)


def simulate(
    make_host: Callable[[], Host],
    controller: Controller | None,
    *,
    seed: int,
    seconds: float,
    users: int = 90,
    arrivals: list[float] | None = None,
) -> Run:
    """Run for so many virtual seconds and return what became of it; without a controller, nothing holds calls back."""

    async def main() -> Run:
        world = World(make_host(), controller, seed)
        with trio.move_on_after(seconds):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(world.watch)
                if controller is None and isinstance(world.run.host, SlotHost):
                    nursery.start_soon(world.follow, world.run.host.capacity)
                for number in range(users if arrivals is None else 0):
                    nursery.start_soon(world.user, number)
                for number, time in enumerate(arrivals or ()):
                    await trio.sleep_until(world_start + time)
                    nursery.start_soon(world.turn, f"u{number}")
                await trio.sleep_forever()
        return world.run

    world_start = 0.0
    with _repeatable(seed), _quietly("app.clients.resilient"):
        return trio.run(main, clock=MockClock(autojump_threshold=0))


@contextmanager
def _repeatable(seed: int) -> Iterator[None]:
    """Let Trio order its tasks by the seed inside, as Hypothesis makes it do."""
    trio_run = sys.modules["trio._core._run"]
    name = "_ALLOW_DETERMINISTIC_SCHEDULING"
    before = getattr(trio_run, name)
    setattr(trio_run, name, True)
    trio_run._r.seed(seed)
    try:
        yield
    finally:
        setattr(trio_run, name, before)


@contextmanager
def _quietly(name: str) -> Iterator[None]:
    """Have a logger pass on errors alone inside: each refusal is a warning."""
    logger = logging.getLogger(name)
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)
