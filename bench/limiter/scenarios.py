"""What is simulated: hosts, the oracle of each, and how turns come."""

import random
from bisect import bisect_right
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import pi, sin

from bench.limiter.hosts import Host, QuotaHost, QuotaRules, SlotHost
from bench.limiter.world import Controller, Run, simulate

MakeHost = Callable[[int, bool], Host]
"""A host, by seed; patient or not."""


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """One row of the table.

    Args:
        host: by seed, and whether it is the oracle's.
        capacity: of calls at once, by seed, where it is that which is limited.
        seconds: virtual length.
        arrivals: when turns come, by seed and length; without, ninety users ask again and again.
    """

    name: str
    host: MakeHost
    seconds: float
    capacity: Callable[[int], Callable[[float], float]] | None = None
    arrivals: Callable[[int, float], list[float]] | None = None

    def run(self, controller: Controller, seed: int, seconds: float | None = None) -> Run:
        """Run with a controller."""
        return self._simulate(controller, seed, seconds or self.seconds)

    def oracle(self, seed: int, seconds: float | None = None) -> Run:
        """Run with an oracle: a limit that is always the capacity, or a host that lets calls wait as long as needed."""
        return self._simulate(None, seed, seconds or self.seconds)

    def _simulate(self, controller: Controller | None, seed: int, seconds: float) -> Run:
        arrivals = self.arrivals(seed, seconds) if self.arrivals else None
        patient = controller is None and self.capacity is None
        return simulate(lambda: self.host(seed, patient), controller, seed=seed, seconds=seconds, arrivals=arrivals)


def steps(_seed: int) -> Callable[[float], float]:
    return lambda now: 40 if now < 450 else 12 if now < 900 else 60 if now < 1350 else 30


def wave(_seed: int) -> Callable[[float], float]:
    return lambda now: 40 + 20 * sin(2 * pi * now / 300)


def tenant(seed: int) -> Callable[[float], float]:
    """Sixty slots, of which somebody else holds up to forty, another number every forty seconds or so."""
    draw, times, free = random.Random(f"tenant {seed}"), [0.0], [60 - random.Random(seed).randint(0, 40)]
    while times[-1] < 3600:
        times.append(times[-1] + draw.expovariate(1 / 40))
        free.append(60 - draw.randint(0, 40))
    return lambda now: free[bisect_right(times, now) - 1]


OUTAGE = (300.0, 420.0)


SHORT_OUTAGE = (40.0, 70.0)


def outage(start: float, end: float) -> Callable[[int], Callable[[float], float]]:
    return lambda _seed: lambda now: 0 if start <= now < end else 40


def slots(name: str, capacity: Callable[[int], Callable[[float], float]], seconds: float) -> Scenario:
    return Scenario(
        name=name, host=lambda seed, _patient: SlotHost(seed, capacity(seed)), seconds=seconds, capacity=capacity
    )


def quota(
    name: str, rules: QuotaRules, seconds: float, arrivals: Callable[[int, float], list[float]] | None = None
) -> Scenario:
    return Scenario(
        name=name,
        host=lambda seed, patient: QuotaHost(seed, rules, patient=patient),
        seconds=seconds,
        arrivals=arrivals,
    )


def bursts(seed: int, seconds: float) -> list[float]:
    """Ten turns a second for twenty seconds of every two minutes, else one in five."""
    draw, times, now = random.Random(f"bursts {seed}"), list[float](), 0.0
    while (now := now + draw.expovariate(10 if now % 120 < 20 else 0.2)) < seconds:
        times.append(now)
    return times


PER_MINUTE = QuotaRules(requests=300, tokens=200_000)
SCENARIOS: Mapping[str, Scenario] = {
    scenario.name: scenario
    for scenario in (
        slots("step 40 > 12 > 60 > 30", steps, 1800),
        slots("sine 20 to 60", wave, 1800),
        slots("another tenant", tenant, 1800),
        slots("all 429 for two minutes", outage(*OUTAGE), 600),
        quota("per minute, steady", PER_MINUTE, 900),
        quota("per minute, bursts", QuotaRules(requests=120, tokens=100_000, counts="used"), 900, bursts),
        quota(
            "per minute, in windows",
            QuotaRules(requests=300, tokens=200_000, windows=True, counts="reserved, then used"),
            900,
        ),
        Scenario(
            name="silent queue of 40",
            host=lambda seed, _patient: SlotHost(seed, lambda now: 40, patient=True),
            seconds=900,
            capacity=lambda seed: lambda now: 40,
        ),
    )
}


def seconds_until(run: Run, after: float, calls: float) -> float | None:
    """Return how long it took, from `after`, until the host worked on so many calls; to the second.

    What it works on is the rate at which it answers, without the chance of a few answers' lengths.
    """
    return next((time - after for time, _, busy in run.timeline if time > after and busy >= calls), None)


def recovery_s(run: Run) -> float | None:
    """Return how long after 12 > 60 of the steps the host worked on 95 % of sixty calls."""
    return seconds_until(run, 900, 0.95 * 60)
