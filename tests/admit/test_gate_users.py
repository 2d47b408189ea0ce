"""Users before the gate: a busy one waits behind itself, a full line is shared, and each turn is told its place."""

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked

from app.admit.gate import TOLD_PLACES
from app.errors import OverloadFault
from tests.admit.hall import Hall


async def arrive(nursery: trio.Nursery, hall: Hall, turns: str, hold_s: float) -> None:
    """Let turns of the named users come, one after the other in no time; each is called by its user and a number."""
    for number, user in enumerate(turns):
        nursery.start_soon(hall.turn, f"{user}{number}", hold_s, 0.0, float("inf"), user)
        await wait_all_tasks_blocked()


def place_of(hall: Hall, name: str) -> int:
    """Return the place that a turn was told last."""
    return hall.told[name].places[-1][1]


async def test_a_busy_user_waits_behind_itself(autojump_clock: MockClock) -> None:
    """With four slots, two of which one user has, the two of others go at once, though five of that user's wait."""
    hall = Hall(slots=4, queue_timeout_s=60)
    async with trio.open_nursery() as nursery:
        await arrive(nursery, hall, "aaaaaaabc", hold_s=1.0)
        assert sorted(hall.inside) == ["a0", "a1", "b7", "c8"]
        now = hall.gate.statistics()
        assert (now.borrowed, now.waiting, now.users, now.users_at_cap) == (4, 5, 3, 1)
    assert hall.most_of_one_user == 2
    assert trio.current_time() == pytest.approx(4.0)
    assert hall.empty()


async def test_a_busy_user_is_not_passed_for_good(autojump_clock: MockClock) -> None:
    """As soon as one of its calls ends, its next turn stands where it came, before those that came later."""
    hall = Hall(slots=2, queue_timeout_s=60, per_user_max=1)
    async with trio.open_nursery() as nursery:
        await arrive(nursery, hall, "aabccc", hold_s=1.0)
        assert sorted(hall.inside) == ["a0", "b2"]
    assert hall.starts == {"a0": 0.0, "b2": 0.0, "a1": 1.0, "c3": 1.0, "c4": 2.0, "c5": 3.0}


async def test_places_tell_who_goes_before(autojump_clock: MockClock) -> None:
    """Newcomers are told the places before turns that came earlier, but wait behind their own user's calls."""
    hall = Hall(slots=3, queue_timeout_s=60)
    async with trio.open_nursery() as nursery:
        await arrive(nursery, hall, "xaaaaaby", hold_s=3.0)
        assert sorted(hall.inside) == ["a1", "a2", "x0"]
        assert [place_of(hall, name) for name in ("b6", "a3", "a4", "y7", "a5")] == [1, 2, 3, 4, 5]
        nursery.cancel_scope.cancel()
    assert hall.empty()


@settings(max_examples=60, deadline=None)
@given(
    slots=st.integers(1, 4),
    per_user_max=st.integers(1, 3),
    users=st.lists(st.sampled_from("aaabcd"), min_size=1, max_size=14).map("".join),
)
def test_the_order_is_the_one_that_was_told(slots: int, per_user_max: int, users: str) -> None:
    """With calls of the same length, turns begin in the order of the places they were told at the start."""

    async def scene() -> None:
        hall = Hall(slots, queue_timeout_s=1000, per_user_max=per_user_max)
        async with trio.open_nursery() as nursery:
            for number, user in enumerate(users):  # a millisecond apart, so that no two calls end together
                nursery.start_soon(hall.turn, f"{user}{number}", 10.0, 0.001 * number, float("inf"), user)
            await trio.sleep(0.001 * len(users))
            told = {name: place_of(hall, name) for name, turn in hall.told.items() if turn.places}
            assert sorted(told.values()) == list(range(1, len(told) + 1))
            begun = len(hall.order)
        assert hall.order[begun:] == sorted(told, key=told.__getitem__)
        assert hall.empty()
        assert hall.most <= slots
        assert hall.most_of_one_user <= per_user_max

    trio.run(scene, clock=MockClock(autojump_threshold=0))


async def test_the_estimate_is_the_wait(autojump_clock: MockClock) -> None:
    """With calls of two seconds in three slots, what a turn is told when it comes is right within a call's third."""
    hall = Hall(slots=3, queue_timeout_s=60)
    await hall.turn("before", 2.0)
    async with trio.open_nursery() as nursery:
        for number in range(15):
            nursery.start_soon(hall.turn, str(number), 2.0, 0.66 * number if number < 3 else 1.4 + 0.1 * number)
    for number in range(3, 15):
        at, _place, estimated_s = hall.told[str(number)].places[0]
        assert hall.starts[str(number)] - at == pytest.approx(estimated_s, abs=0.67 + 0.05)


async def test_a_new_size_is_told_to_all_who_wait(autojump_clock: MockClock) -> None:
    """After a resize who steps forward is told the new place, and who does not the new estimate."""
    hall = Hall(slots=1, queue_timeout_s=60)
    async with trio.open_nursery() as nursery:
        await arrive(nursery, hall, "abcd", hold_s=5.0)
        assert hall.told["d3"].places == [(0.0, 3, 3.0)]
        hall.gate.resize(2, "manual")
        await wait_all_tasks_blocked()
        assert hall.told["d3"].places[1:] == [(0.0, 2, 1.0)]
        hall.gate.resize(1, "manual")
        await wait_all_tasks_blocked()
        assert hall.told["d3"].places[2:] == [(0.0, 2, 2.5)], "two calls for one slot: the first to end lets nobody in"
        nursery.cancel_scope.cancel()


async def test_only_news_is_told(autojump_clock: MockClock) -> None:
    """Far back in a long line, steps forward are not told; near its head each is, once."""
    hall = Hall(slots=1, queue_timeout_s=10_000, queue_max=1000)
    async with trio.open_nursery() as nursery:
        for number in range(TOLD_PLACES + 30):
            nursery.start_soon(hall.turn, str(number), 1.0, 0.001 * number)
    last = [place for _at, place, _wait in hall.told[str(TOLD_PLACES + 29)].places]
    assert last == [TOLD_PLACES + 29, *range(TOLD_PLACES, 0, -1)]
    assert not hall.told["0"].places


async def test_a_full_line_refuses_before_it_lets_in(autojump_clock: MockClock) -> None:
    """One more than may wait is 503 at once, is not let in, and is to come back when the line is through."""
    hall = Hall(slots=1, queue_timeout_s=60, queue_max=2)
    async with trio.open_nursery() as nursery:
        await arrive(nursery, hall, "abcd", hold_s=5.0)
        fault = hall.refused["d3"]
        assert (fault.code, fault.error_type, fault.stage, fault.kind.status) == (
            "overloaded", "queue_full", "llm.queue", 503
        )  # fmt: skip
        assert fault.retry_after_s == 3.0
        assert (hall.told["c2"].begun, hall.told["d3"].begun) == (True, False)
        with pytest.raises(OverloadFault) as caught:
            hall.gate.check()
        assert caught.value.error_type == "queue_full"
    assert hall.gate.statistics().shed == {"queue_full": 2, "predicted_wait": 0, "queue_timeout": 0}
    assert hall.waits() == {"admitted": 3, "shed": 1}
    assert hall.seen.spans.open == {}


async def test_nobody_may_wait(autojump_clock: MockClock) -> None:
    """With a line of no places who finds a slot is served, and everybody else is refused at once."""
    hall = Hall(slots=1, queue_max=0)
    async with trio.open_nursery() as nursery:
        await arrive(nursery, hall, "ab", hold_s=1.0)
    assert (hall.order, list(hall.refused)) == (["a0"], ["b1"])


async def test_no_user_fills_the_line(autojump_clock: MockClock) -> None:
    """Who fills the line gives places up, the newest first, to others that have fewer in it, until all have as many."""
    hall = Hall(slots=1, queue_timeout_s=60, queue_max=4)
    async with trio.open_nursery() as nursery:
        await arrive(nursery, hall, "aaaaaa", hold_s=1.0)
        assert list(hall.refused) == ["a5"], "the line is full of its own turns"
        hall.gate.check()  # so the door lets others pass
        assert (hall.told["a4"].begun, hall.told["a5"].begun) == (True, False)
        await arrive(nursery, hall, "bcdefb", hold_s=1.0)
        assert list(hall.refused) == ["a5", "a4", "a3", "a2", "e3", "f4", "b5"]
        assert {fault.error_type for fault in hall.refused.values()} == {"queue_full"}
        assert hall.gate.statistics().waiting == 4
    assert hall.order == ["a0", "a1", "b0", "c1", "d2"]
    assert hall.waits() == {"admitted": 5, "shed": 7}
    assert hall.empty()


async def test_a_wait_that_would_be_too_long_is_refused_at_once(autojump_clock: MockClock) -> None:
    """With calls of four seconds in two slots, and ten seconds, six may wait; the next is told how long."""
    hall = Hall(slots=2, queue_timeout_s=10.0)
    await hall.turn("before", 4.0)
    async with trio.open_nursery() as nursery:
        await arrive(nursery, hall, "abcdefghi", hold_s=4.0)
        fault = hall.refused["i8"]
        assert (fault.code, fault.error_type, fault.stage) == ("overloaded", "predicted_wait", "llm.queue")
        assert fault.retry_after_s == pytest.approx(7 * 4.0 / 2)
        assert not hall.told["i8"].begun
        with pytest.raises(OverloadFault) as caught:
            hall.gate.check()
        assert (caught.value.error_type, caught.value.retry_after_s) == ("predicted_wait", fault.retry_after_s)
        begun = trio.current_time()
    assert trio.current_time() - begun == pytest.approx(12.0)
    assert {name: fault.error_type for name, fault in hall.refused.items()} == {
        "i8": "predicted_wait", "g6": "queue_timeout", "h7": "queue_timeout"
    }  # fmt: skip


async def test_the_prediction_is_a_users_own(autojump_clock: MockClock) -> None:
    """Who has more turns than its own two calls can do in time is refused; there are slots for everybody else."""
    hall = Hall(slots=10, queue_timeout_s=10.0)
    await hall.turn("before", 4.0)
    async with trio.open_nursery() as nursery:
        await arrive(nursery, hall, "a" * 12, hold_s=4.0)
        assert sorted(hall.inside) == ["a0", "a1"]
        assert list(hall.refused) == ["a8", "a9", "a10", "a11"]
        assert {fault.error_type for fault in hall.refused.values()} == {"predicted_wait"}
        assert {fault.retry_after_s for fault in hall.refused.values()} == {14.0}
        hall.gate.check()
        await arrive(nursery, hall, "bcd", hold_s=4.0)
        assert {"b0", "c1", "d2"} <= set(hall.inside)
    assert hall.empty()


async def test_an_empty_line_is_never_too_long(autojump_clock: MockClock) -> None:
    """However long calls take, who would be next is let in: so a slow hour cannot shut the gate for good."""
    hall = Hall(slots=1, queue_timeout_s=1.0)
    await hall.turn("before", 4000.0)
    async with trio.open_nursery() as nursery:
        await arrive(nursery, hall, "ab", hold_s=0.5)
    assert hall.order == ["before", "a0", "b1"]


async def test_all_that_happens_at_once_is_told_once(autojump_clock: MockClock) -> None:
    """Of forty in line thirty leave in one instant: each of the others hears of one place, where it then is."""
    hall = Hall(slots=1, queue_timeout_s=1000)
    async with trio.open_nursery() as nursery:
        for number in range(41):
            leave_s = 5.0 if 0 < number <= 30 else float("inf")
            nursery.start_soon(hall.turn, str(number), 100.0, 0.01 * number, leave_s - 0.01 * number)
        await trio.sleep(6.0)
        for number in range(31, 41):
            assert [place for _at, place, _wait in hall.told[str(number)].places] == [number, number - 30]
        nursery.cancel_scope.cancel()
    assert hall.empty()


async def test_a_full_line_costs_no_playing_through(autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who comes new to a full line is refused by a count, however long the line, and told how long it takes."""
    hall = Hall(slots=2, queue_timeout_s=1000, queue_max=20)
    async with trio.open_nursery() as nursery:
        await arrive(nursery, hall, "abcdefghijklmnopqrstuv", hold_s=5.0)
        monkeypatch.setattr("app.admit.line.last_of", None)
        with pytest.raises(OverloadFault) as caught:
            hall.gate.check()
        assert (caught.value.error_type, caught.value.retry_after_s) == ("queue_full", 21 / 2)
        monkeypatch.undo()
        nursery.cancel_scope.cancel()


async def test_who_fills_the_line_itself_is_told_its_own_wait(autojump_clock: MockClock) -> None:
    """With three slots, of which it may have two, the user whose turns fill the line is told how long these take."""
    hall = Hall(slots=3, queue_timeout_s=1000, queue_max=10)
    async with trio.open_nursery() as nursery:
        await arrive(nursery, hall, "b" + "a" * 13, hold_s=5.0)
        fault = hall.refused["a13"]
        assert fault.error_type == "queue_full"
        assert fault.retry_after_s == pytest.approx(1 / 3 + 11 / 2)
        nursery.cancel_scope.cancel()
