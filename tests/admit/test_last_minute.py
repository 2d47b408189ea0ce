"""Quantiles of the last minute: right within two percent, and of that minute only."""

import random
import threading
from math import ceil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.admit.last_minute import ERROR, LONGEST_S, SHORTEST_S, LastMinute

SECONDS = st.floats(SHORTEST_S, LONGEST_S)


@given(st.lists(SECONDS, min_size=1, max_size=200), st.sampled_from([0.0, 0.5, 0.95, 1.0]))
def test_a_quantile_is_right_within_the_error(values: list[float], share: float) -> None:
    """It is within two percent of the value with so many before it, whatever the values are."""
    minute = LastMinute()
    for value in values:
        minute.add(7.0, value)
    (found,) = minute.quantiles(7.0, share)
    exact = sorted(values)[int(share * (len(values) - 1))]
    assert found == pytest.approx(exact, rel=ERROR * 1.001)


def test_nothing_ended() -> None:
    """Where there is nothing, there is no quantile, and not a zero."""
    assert LastMinute().quantiles(0.0, 0.5, 0.95) == [None, None]


def test_what_is_shorter_than_can_be_told_is_nothing() -> None:
    """A turn that found a slot waited zero seconds."""
    minute = LastMinute()
    minute.add(0.0, 0.0)
    minute.add(0.0, SHORTEST_S / 2)
    assert minute.quantiles(0.0, 0.5, 1.0) == [0.0, 0.0]


def test_what_is_longer_than_an_hour_is_an_hour() -> None:
    """So the number of bins has a bound."""
    minute = LastMinute()
    minute.add(0.0, 1e9)
    assert minute.quantiles(0.0, 0.5) == [pytest.approx(LONGEST_S, rel=ERROR)]


@pytest.mark.parametrize("added", [0.0, 3.0, 4.999, 5.0, 59.9])
def test_a_minute_later_it_is_forgotten(added: float) -> None:
    """What ended is looked at for a minute, and not after another five seconds; a long silence is no old news."""
    minute = LastMinute()
    minute.add(added, 2.0)
    assert minute.quantiles(added + 59.9, 0.5) == [pytest.approx(2.0, rel=ERROR)]
    assert minute.quantiles(added + 65.1, 0.5) == [None]
    assert minute.quantiles(added + 65.0 * 7, 0.5) == [None]


def test_it_stays_small() -> None:
    """A day of very different values leaves no more than a minute's bins."""
    minute, draw = LastMinute(), random.Random(7)
    for tenth in range(0, 864_000, 7):
        minute.add(tenth / 10, 10 ** draw.uniform(-6, 5))
    slices = minute._slices
    assert len(slices) == 13
    assert sum(len(counts) for _, counts in slices) <= 13 * ceil(437 + 1)


def test_any_thread_may_ask() -> None:
    """A reader beside the writer gets figures, never an error, while bins and slices come and go."""
    minute, over, draw = LastMinute(), threading.Event(), random.Random(7)
    asked: list[float | None] = []

    def ask() -> None:
        while not over.is_set():
            asked.extend(minute.quantiles(100.0, 0.5))

    reader = threading.Thread(target=ask)
    reader.start()
    try:
        for number in range(30_000):
            minute.add(40.0 + number / 500, 10 ** draw.uniform(-3, 3))
    finally:
        over.set()
        reader.join()
    assert len(asked) > 1
