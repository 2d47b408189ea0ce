"""The gate: so many calls at once, in order of arrival, and every slot comes back. Virtual time."""

from functools import partial

import pytest
import trio
import trio.lowlevel
from trio.testing import MockClock, wait_all_tasks_blocked

from app.admit.gate import Gate
from app.admit.gate_statistics import GateStatistics, LimiterChange
from app.errors import ModelFault
from tests.admit.hall import WAIT, Hall
from tests.standins import after, failing


async def test_never_more_calls_than_slots(autojump_clock: MockClock) -> None:
    """Of ten turns that come at once, three are inside at a time, and all get in."""
    hall = Hall(slots=3)
    async with trio.open_nursery() as nursery:
        for number in range(10):
            nursery.start_soon(hall.turn, str(number), 1.0)
    assert (hall.most, len(hall.order)) == (3, 10)
    assert trio.current_time() == pytest.approx(4.0)


async def test_whoever_came_first_goes_first(autojump_clock: MockClock) -> None:
    """Slots are given in the order of arrival."""
    hall = Hall(slots=1)
    async with trio.open_nursery() as nursery:
        for number in reversed(range(6)):
            nursery.start_soon(hall.turn, str(number), 1.0, 0.01 * number)
    assert hall.order == ["0", "1", "2", "3", "4", "5"]


async def test_a_waiter_that_leaves_makes_room(autojump_clock: MockClock) -> None:
    """A client that leaves the queue is not given a slot; the one behind it is, as soon as it would have been."""
    hall = Hall(slots=1)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(hall.turn, "holder", 2.0)
        nursery.start_soon(hall.turn, "leaver", 5.0, 0.1, 1.0)
        nursery.start_soon(hall.turn, "next", 1.0, 0.2)
    assert hall.order == ["holder", "next"]
    assert trio.current_time() == pytest.approx(3.0)
    assert hall.waits() == {"admitted": 2, "abandoned": 1}


async def test_statistics_tell_who_holds_and_who_waits(autojump_clock: MockClock) -> None:
    """Total, borrowed, waiting and the oldest wait are those of the moment."""
    hall = Hall(slots=2)

    def now() -> tuple[int, int, int, float]:
        seen = hall.gate.statistics()
        return seen.total, seen.borrowed, seen.waiting, round(seen.oldest_wait_s, 6)

    assert now() == (2, 0, 0, 0.0)
    async with trio.open_nursery() as nursery:
        for number in range(5):
            nursery.start_soon(hall.turn, str(number), 1.0, 0.01 * number)
        await trio.sleep(0.5)
        assert now() == (2, 2, 3, 0.48)
        await trio.sleep(2.0)
        assert now() == (2, 1, 0, 0.0)
    assert now() == (2, 0, 0, 0.0)


async def test_statistics_tell_how_it_went(autojump_clock: MockClock) -> None:
    """Counts since the start, and quantiles and the mean of the last minute, which a minute later are gone."""
    hall = Hall(slots=2, queue_timeout_s=5.0)
    async with trio.open_nursery() as nursery:
        for number in range(4):
            nursery.start_soon(hall.turn, str(number), 4.0, 0.001 * number)
        nursery.start_soon(hall.turn, "leaver", 1.0, 0.1, 1.0)
        nursery.start_soon(hall.turn, "late", 1.0, 0.2)
    now = hall.gate.statistics()
    assert (now.admitted, now.abandoned, now.shed) == (
        4, 1, {"queue_full": 0, "predicted_wait": 0, "queue_timeout": 1}
    )  # fmt: skip
    assert now.mean_service_s == pytest.approx(4.0)
    assert now.wait_p50_s == 0.0
    assert [now.wait_p95_s, now.service_p50_s, now.service_p95_s] == pytest.approx([4.0] * 3, rel=0.03)
    await trio.sleep(70)
    later = hall.gate.statistics()
    assert (later.wait_p50_s, later.wait_p95_s, later.service_p50_s, later.service_p95_s) == (None,) * 4
    assert (later.admitted, later.mean_service_s) == (4, 1.0)


async def test_any_thread_may_ask_for_statistics() -> None:
    """A thread that asks all the time beside turns that come and go gets figures, and disturbs nobody."""
    hall = Hall(slots=3, queue_timeout_s=60)
    asked: list[GateStatistics] = []

    def ask() -> None:
        asked.extend(hall.gate.statistics() for _ in range(1500))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.to_thread.run_sync, ask)
        for number in range(300):
            nursery.start_soon(hall.turn, str(number), 0.0001, 0.0005 * number, 0.01)
    assert {now.total for now in asked} == {3}
    assert hall.empty()


async def test_the_mean_service_time_is_soon_right(autojump_clock: MockClock) -> None:
    """The first call's time replaces the guess; after ten, each one moves the mean by a tenth."""
    hall = Hall(slots=1)
    assert hall.gate.statistics().mean_service_s == 1.0
    for number, (hold_s, mean_s) in enumerate([(8.0, 8.0), (4.0, 6.0), (6.0, 6.0), *[(6.0, 6.0)] * 17, (16.0, 7.0)]):
        await hall.turn(str(number), hold_s)
        assert hall.gate.statistics().mean_service_s == pytest.approx(mean_s)


async def test_no_slot_in_time_is_refused_with_a_time_to_come_back(autojump_clock: MockClock) -> None:
    """After the queue's timeout a turn is `overloaded`, at stage `llm.queue`, and is to wait as the call has."""
    hall = Hall(slots=1, queue_timeout_s=3.0)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(hall.turn, "holder", 10.0)
        nursery.start_soon(hall.turn, "late", 1.0, 0.5)
    fault = hall.refused["late"]
    assert (fault.code, fault.stage, fault.kind.status) == ("overloaded", "llm.queue", 503)
    assert fault.retry_after_s == 3.5
    assert hall.order == ["holder"]
    assert hall.waits() == {"admitted": 1, "shed": 1}


async def test_the_time_to_come_back_is_the_lines(autojump_clock: MockClock) -> None:
    """With twenty in line for one slot, and answers of ten seconds, Retry-After is what the whole line takes."""
    hall = Hall(slots=1, queue_timeout_s=35.0)
    async with trio.open_nursery() as nursery:
        for number in range(24):
            nursery.start_soon(hall.turn, str(number), 10.0, 0.01 * number)
    assert len(hall.order) == 4
    waits = [fault.retry_after_s for fault in hall.refused.values()]
    assert waits == pytest.approx([10.0 * behind for behind in range(20, 0, -1)])
    assert {fault.error_type for fault in hall.refused.values()} == {"queue_timeout"}


async def test_a_turn_admitted_at_once_waited_nothing(autojump_clock: MockClock) -> None:
    """A free slot is a wait of zero, recorded as admitted; the span of the queue has the gate's state at entry."""
    hall = Hall(slots=4)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(hall.turn, "one", 1.0)
    (point,) = hall.seen.points(WAIT)
    assert (point.count, point.sum, dict(point.attributes or {})) == (1, 0.0, {"outcome": "admitted"})
    attributes = hall.seen.spans.named("llm.queue").attributes or {}
    assert (attributes["limiter.total"], attributes["limiter.waiting"]) == (4, 0)


async def test_the_wait_that_is_recorded_is_the_wait(autojump_clock: MockClock) -> None:
    """The histogram's sum is the time in line, of those who got in, who were refused and who left."""
    hall = Hall(slots=1, queue_timeout_s=3.0)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(hall.turn, "holder", 10.0)
        nursery.start_soon(hall.turn, "late", 1.0, 1.0)
        nursery.start_soon(hall.turn, "leaver", 1.0, 1.0, 2.0)
    sums = {str((point.attributes or {})["outcome"]): point.sum for point in hall.seen.points(WAIT)}
    assert sums == pytest.approx({"admitted": 0.0, "shed": 3.0, "abandoned": 2.0})


@pytest.mark.parametrize(
    "error", [KeyError("bug"), ModelFault("model_error"), ExceptionGroup("two", [KeyError("bug")])]
)
async def test_the_slot_comes_back_however_the_call_ends(error: Exception, autojump_clock: MockClock) -> None:
    """An error inside gives the slot back and comes out as it is."""
    hall = Hall(slots=1)
    with pytest.raises(type(error)) as caught:
        await hall.hold("one", failing(error))
    assert caught.value is error
    assert hall.empty()


async def test_the_slot_of_a_cancelled_call_comes_back_at_once(autojump_clock: MockClock) -> None:
    """Cancelling the call frees the slot, and whoever waited has it in the same instant."""
    hall = Hall(slots=1)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(hall.turn, "cancelled", 100.0, 0.0, 1.0)
        nursery.start_soon(hall.turn, "next", 1.0, 0.1)
    assert hall.order == ["cancelled", "next"]
    assert trio.current_time() == pytest.approx(2.0)


async def test_a_deadline_that_passes_with_the_grant_does_not_refuse(autojump_clock: MockClock) -> None:
    """A slot that comes free in the very instant of the deadline is the turn's, or the next one's; it is never lost."""
    for _ in range(20):  # which of the two comes first is drawn by Trio
        hall, begun = Hall(slots=1, queue_timeout_s=3.0), trio.current_time()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(hall.turn, "holder", 3.0)
            await wait_all_tasks_blocked()
            nursery.start_soon(hall.turn, "late", 1.0)
            await wait_all_tasks_blocked()
            nursery.start_soon(hall.turn, "next", 1.0, 1.5)
        assert hall.empty()
        assert set(hall.order) | set(hall.refused) == {"holder", "late", "next"}
        assert hall.starts["next"] - begun == (4.0 if "late" in hall.order else 3.0)


@pytest.mark.parametrize("slots", [0, -1, 1.5, 2.0, True, "3", None])
async def test_slots_are_whole_and_at_least_one(slots: int) -> None:
    """Neither a new gate nor a new size takes anything else; what was in force stays."""
    with pytest.raises(ValueError, match="at least one slot"):
        Gate(slots, 1.0)
    gate = Gate(2, 1.0)
    with pytest.raises(ValueError, match="at least one slot"):
        gate.resize(slots, "manual")
    assert (gate.total, gate.changes) == (2, ())


async def test_more_slots_let_the_next_in_at_once(autojump_clock: MockClock) -> None:
    """From one slot to three: two that wait begin in that instant, in order."""
    hall = Hall(slots=1)
    async with trio.open_nursery() as nursery:
        for number in range(4):
            nursery.start_soon(hall.turn, str(number), 5.0, 0.1 * number)
        await trio.sleep(1.0)
        hall.gate.resize(3, "manual")
        assert hall.gate.inflight == 3
        await wait_all_tasks_blocked()
        assert sorted(hall.inside) == ["0", "1", "2"]
        assert (hall.starts["1"], hall.starts["2"]) == (1.0, 1.0)
    assert hall.empty()


async def test_fewer_slots_touch_no_call(autojump_clock: MockClock) -> None:
    """From four slots to two: all four calls go on to their end, and the next begins when fewer than two are left."""
    hall = Hall(slots=4)
    async with trio.open_nursery() as nursery:
        for number in range(4):
            nursery.start_soon(hall.turn, str(number), 1.0 + number)
        await trio.sleep(0.1)
        nursery.start_soon(hall.turn, "next", 1.0)
        await trio.sleep(0.1)
        hall.gate.resize(2, "cut")
        assert (hall.gate.total, hall.gate.inflight) == (2, 4)
    assert {name: hall.ended_at[name] for name in "0123"} == {"0": 1.0, "1": 2.0, "2": 3.0, "3": 4.0}
    assert hall.starts["next"] == 3.0


async def test_changes_are_kept_and_counted(autojump_clock: MockClock) -> None:
    """The last twenty are told with when, from, to, who and why; the same size again is no change but a person's."""
    times = iter(range(1000))
    gate = Gate(10, 1.0, wall=lambda: next(times))
    gate.resize(12, "manual", who="demo", why="exam week")
    gate.resize(12, "fleet")
    (change,) = gate.changes
    assert change == LimiterChange(at_s=0, before=10, after=12, reason="manual", who="demo", why="exam week")
    for total in range(20, 60):
        gate.resize(total, "fleet" if total % 2 else "manual")
    assert [change.after for change in gate.changes] == list(range(40, 60))
    assert gate.statistics().changes == {"manual": 21, "grow": 0, "cut": 0, "fleet": 20}


async def test_steps_of_the_adaptive_limit_are_told_as_one(autojump_clock: MockClock) -> None:
    """Growth by one and one and one is one change, so that it does not push out what a person did; each one counts."""
    gate = Gate(10, 1.0)
    gate.resize(8, "manual", who="demo")
    for total in (9, 10, 11, 7, 8, 9):
        gate.resize(total, "grow" if total != 7 else "cut")
    told = [(change.before, change.after, change.reason, change.times) for change in gate.changes]
    assert told == [(10, 8, "manual", 1), (8, 11, "grow", 3), (11, 7, "cut", 1), (7, 9, "grow", 2)]
    assert gate.statistics().changes == {"manual": 1, "grow": 5, "cut": 1, "fleet": 0}


@pytest.mark.parametrize("cancelled_first", [True, False])
async def test_a_cancelled_turn_passes_its_grant_on(cancelled_first: bool, autojump_clock: MockClock) -> None:
    """A turn that is given a slot and cancelled before its task runs again leaves the slot to the next, at once."""
    hall, client = Hall(slots=1), trio.CancelScope()

    async def leaves() -> None:
        with client:
            await hall.hold("leaves", after(1.0))

    async with trio.open_nursery() as nursery:
        for turn in (partial(hall.turn, "holder", 2.0), leaves, partial(hall.turn, "next", 1.0)):
            nursery.start_soon(turn)
            await wait_all_tasks_blocked()
        if cancelled_first:
            client.cancel()
        hall.gate.resize(2, "manual")
        assert hall.gate.inflight == 2
        client.cancel()
        await wait_all_tasks_blocked()
        assert sorted(hall.inside) == ["holder", "next"]
        assert hall.starts["next"] == 0.0
    assert hall.empty()
