"""The gate's rules, replayed: recorded arrivals and service times in, the wait of each turn out.

As `app/admit/gate.py` has them, with everybody a user of their own: whoever finds a slot takes it; the others wait,
first come first served, unless too many do already, or those would take too long; who has waited to the deadline is
refused.

First come, first served makes it a single pass: when a turn arrives, all that can go before it has arrived, so its own
start is known there and then, also when it lies in the future. `busy` is a heap of when each slot comes free; a turn
that waits takes the earliest, and what would be its start beyond the deadline is its refusal instead.

The expected service time is the gate's own: the mean, moved by each call that ended before now and forgotten when none
has for a minute, or what half of the calls in flight have lasted. A call that ends is taken off the heap by the turn
that follows it in its slot, and the slots are taken up in the order in which they come free; so whenever somebody has
to wait, all calls that have ended by then were taken off, in order. As many are in flight then as there are slots, and
who follows begins last, so the middle one of their beginnings never moves back: since where it was seen last, half of
the calls have lasted at the most, and they are looked at one by one only where that would matter.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from heapq import heappush, heapreplace
from itertools import chain, repeat
from math import inf

QUEUE_FULL, PREDICTED, TIMED_OUT = -1.0, -2.0, -3.0
"""In place of a wait: why the turn was refused."""
FIRST_MEAN_S, LEAST_WEIGHT = 1.0, 0.1
"""The gate's mean service time where none is known, and how far each call moves it; the first ten are averaged."""
KNOWN_FOR_S = 60.0
"""How long the mean is known after the last call that ended."""


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
    middle, last, weights = -inf, -inf, _weights()
    for now, service in zip(arrivals, services, strict=True):
        if free:
            free -= 1
            heappush(busy, (now + service, service))
            note(0.0)
            continue
        while queue and queue[0][0] <= now:
            start, ended = queue.popleft()
            if start - last > KNOWN_FOR_S:
                weights = _weights()
            mean_s += next(weights) * (ended - mean_s)
            last = start
        start, ended = busy[0]
        if start <= now:
            if start - last > KNOWN_FOR_S:
                weights = _weights()
            mean_s += next(weights) * (ended - mean_s)
            last = start
            heapreplace(busy, (now + service, service))
            note(0.0)
            continue
        while doomed and doomed[0] <= now:
            doomed.popleft()
        waiting = len(queue) + len(doomed)
        most_s = timeout_s * size
        known_s = mean_s if now - last <= KNOWN_FOR_S else FIRST_MEAN_S
        if waiting >= queue_max:
            note(QUEUE_FULL)
        elif waiting * known_s > most_s or (
            waiting * (now - middle) > most_s and waiting * (now - (middle := _middle(now, busy, queue))) > most_s
        ):
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


def _weights() -> Iterator[float]:
    return chain([1 / number for number in range(1, round(1 / LEAST_WEIGHT))], repeat(LEAST_WEIGHT))


def _middle(now: float, busy: Iterable[tuple[float, float]], queue: Iterable[tuple[float, float]]) -> float:
    """Return when the middle one of the calls in flight began: half of them have lasted since then, or longer.

    Args:
        now: seconds.
        busy: end and length of each slot's last call, which may begin later.
        queue: the same of each call that somebody waits for.
    """
    begun = sorted(end - service for end, service in chain(busy, queue) if end - service <= now < end)
    return begun[len(begun) // 2]
