"""The gate's rules, replayed: recorded arrivals and service times in, the wait of each turn out.

As `app/admit/gate.py` has them, with everybody a user of their own: whoever finds a slot takes it; the others wait,
first come first served, unless too many do already, or those would take too long; who has waited to the deadline is
refused.

First come, first served makes it a single pass: when a turn arrives, all that can go before it has arrived, so its own
start is known there and then, also when it lies in the future. `busy` is a heap of when each slot comes free; a turn
that waits takes the earliest, and what would be its start beyond the deadline is its refusal instead.

The mean service time is the gate's own, moved by each call that ended before now. A call that ends is taken off the
heap by the turn that follows it in its slot, and the slots are taken up in the order in which they come free; so
whenever somebody has to wait, all calls that have ended by then were taken off, in order.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from heapq import heappush, heapreplace
from itertools import chain, repeat

QUEUE_FULL, PREDICTED, TIMED_OUT = -1.0, -2.0, -3.0
"""In place of a wait: why the turn was refused."""
FIRST_MEAN_S, LEAST_WEIGHT = 1.0, 0.1
"""The gate's mean service time, before the first call has ended, and how far each call moves it; the first ten are
averaged.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class GateRules:
    """How many may wait, and how many seconds at most."""

    queue_max: int
    queue_timeout_s: float


@dataclass(frozen=True, slots=True)
class Replayed:
    """A wait in seconds, or a reason of refusal, for each turn; and the most that waited at once."""

    waits: list[float]
    longest_queue: int


def replay(arrivals: Sequence[float], services: Sequence[float], size: int, rules: GateRules) -> Replayed:
    """Return what would have become of each turn with `size` slots.

    Args:
        arrivals: seconds, in order.
        services: seconds that each would hold its slot.
        size: slots.
        rules: of the queue.
    """
    busy: list[tuple[float, float]] = []
    queue: deque[tuple[float, float]] = deque()  # of who waits, when it starts, and the call that ends for it
    doomed: deque[float] = deque()  # when those who wait in vain give up
    waits: list[float] = []
    note, timeout_s, queue_max = waits.append, rules.queue_timeout_s, rules.queue_max
    free, mean_s, longest = size, FIRST_MEAN_S, 0
    weights = chain([1 / number for number in range(1, round(1 / LEAST_WEIGHT))], repeat(LEAST_WEIGHT))
    for now, service in zip(arrivals, services, strict=True):
        if free:
            free -= 1
            heappush(busy, (now + service, service))
            note(0.0)
            continue
        while queue and queue[0][0] <= now:
            mean_s += next(weights) * (queue.popleft()[1] - mean_s)
        start, ended = busy[0]
        if start <= now:
            mean_s += next(weights) * (ended - mean_s)
            heapreplace(busy, (now + service, service))
            note(0.0)
            continue
        while doomed and doomed[0] <= now:
            doomed.popleft()
        waiting = len(queue) + len(doomed)
        if waiting >= queue_max:
            note(QUEUE_FULL)
        elif waiting * mean_s > timeout_s * size:
            note(PREDICTED)
        else:
            longest = max(longest, waiting + 1)
            if start - now > timeout_s:
                doomed.append(now + timeout_s)
                note(TIMED_OUT)
            else:
                heapreplace(busy, (start + service, service))
                queue.append((start, ended))
                note(start - now)
    return Replayed(waits, longest)
