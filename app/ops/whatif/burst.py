"""The same turns, come in heavier bursts.

`--burst 2x` makes the busiest quarter of the minutes twice as busy, for as long as they were, and thins the others by
so much that the total stays what it was: the mean does not change, only how uneven the load is. A busy minute's extra
turns are copies of its own, half a second beside them at the most, so that a burst within the minute is one afterwards
too. Where the quarter alone comes to more than the total, the other minutes are empty and the total grows.
"""

import random
from collections import Counter
from collections.abc import Sequence

MINUTE_S = 60.0
BUSY_SHARE = 0.25
"""LIMITER's own measurement has bursts in one minute of four."""
BESIDE_S = 0.5


def burstier(
    arrivals: Sequence[float], services: Sequence[float], factor: float, seed: int = 0
) -> tuple[list[float], list[float]]:
    """Return arrivals and service times, by arrival, with the busiest minutes `factor` times as busy."""
    draw = random.Random(seed)  # noqa: S311 - no secret
    busy = busiest_minutes(arrivals)
    in_busy = sum(int(at // MINUTE_S) in busy for at in arrivals)
    others = len(arrivals) - in_busy
    kept = max(0.0, (len(arrivals) - factor * in_busy) / others) if others else 0.0
    turns: list[tuple[float, float]] = []
    for at, service in zip(arrivals, services, strict=True):
        if int(at // MINUTE_S) not in busy:
            if draw.random() < kept:
                turns.append((at, service))
            continue
        copies = int(factor) + (draw.random() < factor % 1)
        turns.append((at, service))
        turns += [(max(0.0, at + draw.uniform(-BESIDE_S, BESIDE_S)), service) for _ in range(copies - 1)]
    turns.sort()
    return [at for at, _service in turns], [service for _at, service in turns]


def busiest_minutes(arrivals: Sequence[float]) -> frozenset[int]:
    """Return a quarter of the span's minutes, by number: those with most arrivals; the earlier where they are alike."""
    counts = Counter(int(at // MINUTE_S) for at in arrivals)
    minutes = int(arrivals[-1] // MINUTE_S) + 1
    chosen = sorted(counts, key=lambda minute: (-counts[minute], minute))[: max(1, round(BUSY_SHARE * minutes))]
    return frozenset(chosen)
