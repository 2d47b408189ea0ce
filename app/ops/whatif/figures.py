"""What came of a replay, in figures.

Quantiles are by nearest rank. The shown ones are of the turns that were let in; a target is judged over all turns, one
that was refused counting as never let in: else a gate that refuses enough would meet any.
"""

import math
import random
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from operator import mul
from typing import Literal

from app.ops.whatif.erlang import wait_quantile_s
from app.ops.whatif.replay import PREDICTED, QUEUE_FULL, TIMED_OUT, GateRules, Replayed, replay

BLOCKS, BLOCK_AT_LEAST_S, BLOCKS_AT_LEAST = 40, 60.0, 8
"""Blocks must be longer than one burst lasts on, and there must be some to choose from."""
RESAMPLES = 200
GRID = 400
"""Candidates for a resample's p95: every 0.25 %."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What is wanted: at most `limit`, of a quantile of the wait in seconds, or of the refused share."""

    text: str
    kind: Literal["wait", "refused"]
    share: float
    limit: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """One size. Waits in seconds, of those let in; None where nobody was.

    `p95_interval` holds 95 % of block-bootstrap resamples, None where the log is too short for it. `cost_s` is the mean
    over all turns, a refused one counting as the deadline. `busy` is the share of slots in use. `erlang_p95_s` is None
    where the queue would grow without end. `meets`: every target; `surely`: at the interval's upper end too.
    """

    size: int
    turns: int
    p50_s: float | None
    p95_s: float | None
    p99_s: float | None
    p95_interval: tuple[float, float] | None
    queue_full: int
    predicted_wait: int
    queue_timeout: int
    longest_queue: int
    busy: float
    cost_s: float
    erlang_p95_s: float | None
    meets: bool
    surely: bool

    @property
    def refused(self) -> int:
        """Turns that were refused, for any reason."""
        return self.queue_full + self.predicted_wait + self.queue_timeout

    @property
    def refused_share(self) -> float:
        """The same, of all."""
        return self.refused / self.turns


def figures_at(
    size: int,
    arrivals: Sequence[float],
    services: Sequence[float],
    rules: GateRules,
    targets: Sequence[Target],
    rate: float,
) -> Figures:
    """Replay the turns at a size and return what came of it. `rate` is in arrivals per second, for Erlang's line."""
    replayed = replay(arrivals, services, size, rules)
    blocks = _blocks(arrivals, replayed.waits)
    return _figures(size, arrivals, services, rules, targets, rate, replayed, blocks)


def _figures(
    size: int,
    arrivals: Sequence[float],
    services: Sequence[float],
    rules: GateRules,
    targets: Sequence[Target],
    rate: float,
    replayed: Replayed,
    blocks: list[list[float]],
) -> Figures:
    waits, turns = replayed.waits, len(replayed.waits)
    ordered = sorted(chain.from_iterable(blocks))
    refused = dict.fromkeys((QUEUE_FULL, PREDICTED, TIMED_OUT), 0)
    held_s = wanted_s = math.fsum(services)
    if len(ordered) < turns:  # else there is nothing to look for
        refused = {reason: waits.count(reason) for reason in refused}
        held_s = math.fsum(service for wait, service in zip(waits, services, strict=True) if wait >= 0)
    span_s = max(arrivals[-1] - arrivals[0], 1e-9)
    erlang_s = wait_quantile_s(rate, wanted_s / turns, size, 0.95)
    interval = _interval(blocks, ordered, 0.95)
    meets = all(_judged(target, ordered, turns) <= target.limit for target in targets)
    return Figures(
        size=size,
        turns=turns,
        p50_s=quantile(ordered, 0.5),
        p95_s=quantile(ordered, 0.95),
        p99_s=quantile(ordered, 0.99),
        p95_interval=interval,
        queue_full=refused[QUEUE_FULL],
        predicted_wait=refused[PREDICTED],
        queue_timeout=refused[TIMED_OUT],
        longest_queue=replayed.longest_queue,
        busy=min(1.0, held_s / (size * span_s)),
        cost_s=(math.fsum(ordered) + sum(refused.values()) * rules.queue_timeout_s) / turns,
        erlang_p95_s=erlang_s if erlang_s < math.inf else None,
        meets=meets,
        surely=meets and _holds(targets, interval),
    )


def quantile(ordered: Sequence[float], share: float, of: int | None = None) -> float | None:
    """Return the value at a share of the sorted values, by nearest rank; None without values.

    Args:
        ordered: the values, sorted.
        share: 0.95 for p95.
        of: how many there are, where those that are missing at the end are infinite.
    """
    count = len(ordered) if of is None else of
    if not count:
        return None
    rank = max(1, math.ceil(share * count - 1e-9))
    return ordered[rank - 1] if rank <= len(ordered) else math.inf


def _judged(target: Target, ordered: Sequence[float], turns: int) -> float:
    if target.kind == "refused":
        return 1 - len(ordered) / turns
    reached = quantile(ordered, target.share, turns)
    return math.inf if reached is None else reached


def _holds(targets: Sequence[Target], interval: tuple[float, float] | None) -> bool:
    limits = [target.limit for target in targets if (target.kind, target.share) == ("wait", 0.95)]
    return interval is None or all(interval[1] <= limit for limit in limits)


def _blocks(arrivals: Sequence[float], waits: Sequence[float]) -> list[list[float]]:
    """Return the waits of those let in, sorted, by equal pieces of the time."""
    first, last = arrivals[0], arrivals[-1]
    count = max(1, min(BLOCKS, int((last - first) / BLOCK_AT_LEAST_S)))
    cuts = [bisect_left(arrivals, first + (last - first) * number / count) for number in range(count)]
    blocks = [sorted(waits[start:end]) for start, end in zip(cuts, [*cuts[1:], len(waits)], strict=True)]
    return [block[bisect_left(block, 0.0) :] for block in blocks]


def _interval(blocks: list[list[float]], ordered: Sequence[float], share: float) -> tuple[float, float] | None:
    """Return where 95 % of the resamples' quantiles lie; a resample is as many blocks, drawn with replacement.

    Source: H. R. Kuensch, "The Jackknife and the Bootstrap for General Stationary Observations" (1989); blocks that do
    not overlap, as E. Carlstein (1986) has them.
    """
    if len(blocks) < BLOCKS_AT_LEAST or not ordered:
        return None
    last = len(ordered) - 1
    grid = sorted({ordered[round(last * number / GRID)] for number in range(GRID + 1)})
    within = [[bisect_right(block, value) for block in blocks] for value in grid]
    draw = random.Random(len(blocks))  # noqa: S311 - no secret
    sizes, found = [len(block) for block in blocks], []
    for _ in range(RESAMPLES):
        times = [0] * len(blocks)
        for chosen in draw.choices(range(len(blocks)), k=len(blocks)):
            times[chosen] += 1
        found.append(_reaches(share * sum(map(mul, times, sizes)), within, times))
    found.sort()
    low, high = (min(found[round(end * (RESAMPLES - 1))], len(grid) - 1) for end in (0.025, 0.975))
    return grid[low], grid[high]


def _reaches(wanted: float, within: list[list[int]], times: list[int]) -> int:
    """Return the first candidate that so many turns of a resample waited at most."""
    return bisect_left(within, wanted, key=lambda counts: sum(map(mul, times, counts)))
