"""The adaptive limit: a pure function of what the host accepted and refused, and when."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.admit.adaptive import CUT, MOST_GROWTH, NEWS, OUTAGE_S, PROBE_S, AdaptiveLimit, C, LimitBounds


def limit_of(total: int = 40, *, maximum: int = 64) -> AdaptiveLimit:
    return AdaptiveLimit(total, LimitBounds(minimum=1, maximum=maximum))


def grown(limit: AdaptiveLimit, start: float, end: float) -> AdaptiveLimit:
    """Accept ten calls a second, with as many in flight as may be."""
    for tenth in range(int((end - start) * 10)):
        now = start + tenth / 10
        limit.accepted(now, now - 0.3, limit.total)
    return limit


def test_before_the_first_refusal_each_answer_adds_one() -> None:
    """Ten answers at ten slots are twenty slots."""
    limit = limit_of(10)
    for number in range(10):
        limit.accepted(number, number, limit.total)
    assert limit.total == 20


def test_an_epoch_is_cut_once() -> None:
    """Of calls that were sent together the first refusal cuts, to 95 % of what was accepted; the others are old."""
    limit = limit_of(40)
    for number in range(10):
        limit.refused(1.0 + number / 100, 0.9, 39 - number)
    assert limit.total == int(CUT * 39)


def test_a_cut_is_regained_at_k_and_passed_soon_after() -> None:
    """RFC 9438: after K = cbrt((w_max - limit) / C) the limit is w_max again, and one above it cbrt(1 / C) later."""
    limit = limit_of(40)
    limit.refused(0.0, -0.1, 39)
    k_s = ((1 - CUT) * 39 / C) ** (1 / 3)
    assert grown(limit, 0.1, k_s - 1).total == 38
    assert grown(limit, k_s - 1, k_s + 0.5).total == 39
    assert grown(limit, k_s + 0.5, k_s + (1 / C) ** (1 / 3) + 0.3).total == 40


def test_two_above_where_it_was_refused_each_answer_adds_one() -> None:
    """Then the host takes more than it did, nobody knows how much, and the curve has nothing more to say."""
    limit = limit_of(40)
    limit.refused(0.0, -0.1, 39)
    now = 0.0
    while limit.total < 39 + NEWS:
        now += 0.1
        limit.accepted(now, now - 0.3, limit.total)
    assert now == pytest.approx(((1 - CUT) * 39 / C) ** (1 / 3) + (NEWS / C) ** (1 / 3), abs=0.2)
    for number in range(10):
        limit.accepted(now + number / 100, now, limit.total)
    assert limit.total == 39 + NEWS + 10


def test_answers_of_a_host_that_queues_are_no_news() -> None:
    """After a cut by the guard no answer adds one: the curve goes on above where it was, one by one."""
    limit = limit_of(40)
    limit.accepted(0.0, -0.1, 40, queued=True)
    end = (2 / C) ** (1 / 3) + (4 / C) ** (1 / 3) + 0.1
    assert grown(limit, 0.1, end).total in {43, 44}


def test_a_long_silence_does_not_end_in_a_burst() -> None:
    """An hour in which fewer calls were made has proved nothing: the first answer leads no further than the curve."""
    limit = limit_of(40)
    limit.refused(0.0, -0.1, 39)
    limit.accepted(3600.0, 3599.0, limit.total)
    assert limit.total == 39 + NEWS


def test_what_the_application_does_not_ask_for_is_not_granted() -> None:
    """With fewer calls in flight than the limit, answers do not raise it."""
    limit = limit_of(40)
    for number in range(100):
        limit.accepted(number, number, 38)
    assert limit.total == 40


def test_a_refusal_while_more_is_in_flight_than_the_limit_does_not_cut() -> None:
    """It is about the limit of before; the one in force has not been tried yet."""
    limit = limit_of(40)
    limit.refused(1.0, 0.9, 39)
    limit.refused(1.5, 1.4, 38)
    assert limit.total == int(CUT * 39)


def test_epochs_in_which_all_is_refused_cut_deeper() -> None:
    """The second in a row by 0.95 squared; an answer in between ends the row."""
    row, broken = limit_of(40), limit_of(40)
    for limit in (row, broken):
        limit.refused(1.0, 0.9, 39)
    broken.accepted(1.5, 1.2, 30)
    for limit in (row, broken):
        limit.refused(2.0, 1.9, 30)
    assert (row.total, broken.total) == (int(CUT**2 * 30), int(CUT * 30))


def test_an_outage_is_the_minimum_at_once_and_one_probe_a_second() -> None:
    """All refused for four seconds: whatever is still in flight, the limit is 1, and calls are asked to wait."""
    limit = limit_of(40)
    for number in range(3):
        limit.refused(0.1 + number, number, 39 - 10 * number)
    assert (limit.total > 15, limit.ask(2.5)) == (True, 0.0)
    limit.ended(OUTAGE_S + 0.01)
    assert limit.total == 1
    assert limit.ask(5.0) == 0.0
    assert limit.ask(5.4) == pytest.approx(PROBE_S - 0.4)
    assert limit.ask(5.0 + PROBE_S) == 0.0


def test_a_try_that_fails_under_long_calls_is_no_outage() -> None:
    """One call too many, refused three times in the slot that it held: no wonder, with as many others as there may be.

    That none of the others ends for a while, each taking long, says nothing of the host.
    """
    limit = limit_of(7)
    for number in range(3):
        limit.refused(number + 0.1, number, 6)
    assert limit.total == 5
    for number in range(6):
        limit.ended(OUTAGE_S + number)
        assert (limit.total, limit.ask(OUTAGE_S + number)) == (5, 0.0)


def test_after_an_outage_the_way_back_is_short() -> None:
    """The limit of before is remembered: the first answers lead back there in seconds, and nobody waits any more."""
    limit = limit_of(40)
    for number in range(100):
        limit.refused(number + 0.1, number, 0)
    limit.accepted(100.3, 100.0, 1)
    assert limit.ask(100.4) == 0.0
    assert grown(limit, 101, 107).total >= 30
    assert limit.total <= 45


def test_an_answer_long_after_an_outage_adds_half_as_much_again() -> None:
    """However late the first ones come, they are some ten from 1 to 40."""
    limit = limit_of(40)
    for number in range(10):
        limit.refused(number + 0.1, number, 0)
    totals = [1.0]
    for number in range(12):
        limit.accepted(3600.0 + number, 3599.0 + number, limit.total)
        totals.append(limit.total)
    assert all(more <= MOST_GROWTH * less + 1 for less, more in pairwise(totals))
    assert totals[8] < 40 <= totals[12]


def test_a_bound_that_is_taken_back_does_not_bring_back_what_it_took() -> None:
    """Forty was learnt, then at most 10 allowed, then 64: the way up is by answers again."""
    limit = limit_of(40)
    limit.bounds = LimitBounds(maximum=10)
    limit.bounds = LimitBounds(maximum=64)
    assert limit.total == 10
    limit.accepted(1.0, 0.5, 10)
    assert limit.total == 11


def test_new_bounds_hold_at_once() -> None:
    """Ops may narrow them at any time."""
    limit = limit_of(40)
    limit.bounds = LimitBounds(minimum=2, maximum=12)
    assert limit.total == 12


EVENT = st.tuples(
    st.sampled_from(["accepted", "refused", "ended", "ask", "queued"]),
    st.floats(0, 20),
    st.floats(0, 30),
    st.integers(0, 100),
)


@settings(max_examples=200, deadline=None)
@given(start=st.integers(0, 100), minimum=st.integers(1, 5), more=st.integers(0, 60), events=st.lists(EVENT))
def test_it_never_leaves_its_bounds(
    start: int, minimum: int, more: int, events: list[tuple[str, float, float, int]]
) -> None:
    """Whatever happens in whatever order, the limit is a number between them, and an answer never lowers it."""
    limit, now = AdaptiveLimit(start, LimitBounds(minimum=minimum, maximum=minimum + more)), 0.0
    for what, later, ago, inflight in events:
        now += later
        if what == "refused":
            limit.refused(now, now - ago, inflight)
        elif what == "ended":
            limit.ended(now)
        elif what == "ask":
            assert 0 <= limit.ask(now) <= PROBE_S
        else:
            before = limit.total
            limit.accepted(now, now - ago, inflight, queued=what == "queued")
            assert what == "queued" or limit.total >= before
        assert minimum <= limit.total <= minimum + more
