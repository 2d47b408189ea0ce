"""Heavier bursts: the busy minutes get busier, the rest gives way, and the services stay those that were recorded."""

import random
from collections import Counter

import pytest

from app.ops.whatif.burst import BESIDE_S, burstier, busiest_minutes


def arrivals_of(*per_minute: int) -> list[float]:
    """Return so many arrivals in each minute, at random."""
    draw = random.Random(3)
    return sorted(60 * minute + 60 * draw.random() for minute, count in enumerate(per_minute) for _ in range(count))


def per_minute(arrivals: list[float]) -> Counter[int]:
    return Counter(int(at // 60) for at in arrivals)


def test_the_busiest_quarter_is_found() -> None:
    """Of eight minutes the two with most arrivals, also where others are empty; of one minute, that."""
    assert busiest_minutes(arrivals_of(5, 90, 5, 0, 0, 5, 80, 5)) == {1, 6}
    assert busiest_minutes(arrivals_of(3)) == {0}


@pytest.mark.parametrize("factor", [1.5, 2.0, 3.0])
def test_busy_minutes_are_so_many_times_as_busy(factor: float) -> None:
    """The quarter has its factor, and all together are as many as before, within what chance allows."""
    before = arrivals_of(1000, 200, 2000, 1000, 600, 400, 2000, 1000, 800, 1000, 1000, 2000)
    after, _services = burstier(before, [1.0] * len(before), factor)
    counts = per_minute(after)
    for minute in (2, 6, 11):
        assert counts[minute] == pytest.approx(2000 * factor, rel=0.06)
    expected = max(len(before), 6000 * factor)
    assert len(after) == pytest.approx(expected, rel=0.06)


def test_the_others_are_thinned_alike() -> None:
    """A minute with twice as many as another still has about twice as many."""
    counts = per_minute(burstier(before := arrivals_of(4000, 1000, 2000, 1000), [1.0] * len(before), 1.5)[0])
    assert counts[2] == pytest.approx(2 * counts[1], rel=0.25)
    assert counts[1] == pytest.approx(500, rel=0.2)


def test_turns_stay_themselves() -> None:
    """Each arrival of the result is one that was recorded, or within half a second of one, with its service time."""
    before = arrivals_of(30, 50, 30, 30)
    recorded = {at: float(number) for number, at in enumerate(before)}
    after, services = burstier(before, [recorded[at] for at in before], 3.0)
    assert after == sorted(after)
    by_service = {service: at for at, service in recorded.items()}
    assert all(abs(by_service[service] - at) <= BESIDE_S for at, service in zip(after, services, strict=True))


def test_the_same_question_has_the_same_answer() -> None:
    """Drawing is seeded."""
    before = arrivals_of(30, 50, 30, 30)
    assert burstier(before, [1.0] * len(before), 2.0) == burstier(before, [1.0] * len(before), 2.0)
