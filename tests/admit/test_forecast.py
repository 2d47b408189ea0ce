"""Where turns are in line, and how long they are to wait, against a slow and plain playing-through."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.admit import forecast as played_fast
from app.admit.forecast import AT_ONCE, Place, last_of


def forecast(waiting: list[str], running: list[str], total: int, per_user_max: int) -> list[Place]:
    """Return the places in the order of coming."""
    going = list(played_fast.forecast(waiting, running, total, per_user_max))
    numbers = [place.number for _index, place in going]
    assert numbers == sorted(numbers), "in the order of going"
    return [place for _index, place in sorted(going)]


def played(waiting: list[str], running: list[str], total: int, per_user_max: int) -> list[tuple[int, float]]:
    """Return number and wait of each turn: calls end one after the other, and who may go is looked for from the start.

    The time from one end to the next is the mean service time divided by the calls in flight.
    """
    calls, left, found, passed, number = list(running), list(range(len(waiting))), {}, 0.0, 0
    while left:
        ready = [turn for turn in left if Counter(calls)[waiting[turn]] < per_user_max]
        if ready and len(calls) < total:
            number += passed > 0
            found[ready[0]] = (number, passed)
            left.remove(ready[0])
            calls.append(waiting[ready[0]])
        else:
            passed += 1 / len(calls)
            del calls[0]
    return [found[turn] for turn in range(len(waiting))]


@st.composite
def lines(draw: st.DrawFn) -> tuple[list[str], list[str], int, int]:
    """Draw a line, calls in flight (after a cut more than slots), slots, and calls of one user at most."""
    per_user_max = draw(st.integers(1, 3))
    users = st.sampled_from("abcdefgh")
    running = [user for user, count in Counter(draw(st.lists(users, max_size=14))).items() for _ in range(count)]
    allowed = [user for index, user in enumerate(running) if running[:index].count(user) < per_user_max]
    return draw(st.lists(users, max_size=12)), draw(st.permutations(allowed)), draw(st.integers(1, 12)), per_user_max


@given(lines())
def test_it_is_what_would_happen(line: tuple[list[str], list[str], int, int]) -> None:
    """Number and wait are those of the plain playing-through, with crowding users or without, after a cut too."""
    waiting, running, total, per_user_max = line
    expected = played(waiting, running, total, per_user_max)
    places = forecast(waiting, running, total, per_user_max)
    assert [place.number for place in places] == [number for number, _ in expected]
    assert [place.wait for place in places] == pytest.approx([wait for _, wait in expected])
    first = min((wait for number, wait in expected if number), default=0.0)
    assert all(0 <= place.wait - place.behind <= first + 1e-9 for place in places)
    if waiting:
        assert last_of(waiting, running, total, per_user_max) == places[-1]


@pytest.mark.parametrize("total", [1, 4, 30])
def test_without_crowding_it_is_the_plain_rule(total: int) -> None:
    """The nth waits n mean service times divided by the slots, and all but the first part of that for others."""
    running = [f"r{number}" for number in range(total)]
    places = forecast([f"w{number}" for number in range(5)], running, total, 2)
    assert [place.number for place in places] == [1, 2, 3, 4, 5]
    assert [place.wait for place in places] == pytest.approx([number / total for number in range(1, 6)])
    assert [place.behind for place in places] == pytest.approx([number / total for number in range(5)])


def test_who_finds_a_slot_need_not_wait() -> None:
    """As many as there are free slots have no place, and the next is the first."""
    assert [place.number for place in forecast(["a", "b", "c"], ["d"], 3, 2)] == [0, 0, 1]
    assert forecast(["a"], [], 1, 1) == [AT_ONCE]


def test_a_busy_user_waits_behind_itself() -> None:
    """Ten turns of a user with two calls are passed by a newcomer: it is first, or goes at once."""
    many, calls = ["busy"] * 10, ["busy", "busy", "other"]
    assert forecast([*many, "new"], calls, 3, 2)[-1].number == 3, "two of the busy user's calls end first"
    assert forecast([*many, "new"], calls, 4, 2)[-1] == AT_ONCE
    assert forecast([*many, "new"], ["other", "busy", "busy"], 3, 2)[-1].number == 1
    assert [place.number for place in forecast(many, calls, 4, 2)] == list(range(1, 11))
    assert forecast(many, ["busy", "busy"], 10, 2)[-1].wait == pytest.approx(5.0), "ten, two at a time"


def test_after_a_cut_the_calls_in_flight_end_first() -> None:
    """With six calls for two slots, four must end before the line moves, which they do faster than two would."""
    (place,) = forecast(["new"], list("abcdef"), 2, 2)
    assert place.number == 1
    assert place.wait == pytest.approx(1 / 6 + 1 / 5 + 1 / 4 + 1 / 3 + 1 / 2)
