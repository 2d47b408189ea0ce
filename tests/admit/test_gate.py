"""The gate: so many calls at once, in order of arrival, and every slot comes back. Virtual time."""

from functools import partial

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked

from app.admit.gate import Gate, GateStatistics
from app.errors import ModelFault, OverloadFault
from tests.standins import TRACE_ID, Before, Watched, failing, question, watched

WAIT = "llm.limiter.wait.duration"


class Hall:
    """Turns in front of one gate. `inside` is who holds a slot now, `order` who ever got one."""

    def __init__(self, slots: int, queue_timeout_s: float = 10.0) -> None:
        self.gate = Gate(slots, queue_timeout_s)
        self.seen: Watched = watched()
        self.inside: set[str] = set()
        self.order: list[str] = []
        self.most = 0
        self.refused: dict[str, OverloadFault] = {}

    async def turn(self, name: str, hold_s: float, arrive_s: float = 0.0, leave_s: float = float("inf")) -> None:
        """Arrive, ask for a slot, hold it; the client leaves `leave_s` after it came."""
        await trio.sleep(arrive_s)
        with trio.move_on_after(leave_s):
            try:
                await self.hold(name, partial(trio.sleep, hold_s))
            except OverloadFault as fault:
                self.refused[name] = fault

    async def hold(self, name: str, work: Before) -> None:
        """Hold a slot while `work` is done."""
        turn = question()
        telemetry = self.seen.telemetry
        with telemetry.turn(turn_id=str(turn.turn_id), user_id="u", trace_id=TRACE_ID, surface="chat") as trace:
            async with self.gate.slot(trace):
                self.inside.add(name)
                self.order.append(name)
                self.most = max(self.most, len(self.inside))
                try:
                    await work()
                finally:
                    self.inside.remove(name)

    def waits(self) -> dict[str, int]:
        """Return how many waits were recorded, by how they ended."""
        return {str((point.attributes or {})["outcome"]): point.count for point in self.seen.points(WAIT)}


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
    """Total, borrowed and waiting are those of the moment."""
    hall = Hall(slots=2)
    assert hall.gate.statistics() == GateStatistics(total=2, borrowed=0, waiting=0)
    async with trio.open_nursery() as nursery:
        for number in range(5):
            nursery.start_soon(hall.turn, str(number), 1.0)
        await trio.sleep(0.5)
        assert hall.gate.statistics() == GateStatistics(total=2, borrowed=2, waiting=3)
        await trio.sleep(2.0)
        assert hall.gate.statistics() == GateStatistics(total=2, borrowed=1, waiting=0)
    assert hall.gate.statistics() == GateStatistics(total=2, borrowed=0, waiting=0)


async def test_no_slot_in_time_is_refused_with_a_time_to_come_back(autojump_clock: MockClock) -> None:
    """After the queue's timeout a turn is `overloaded`, at stage `llm.queue`, with at least a second to wait."""
    hall = Hall(slots=1, queue_timeout_s=3.0)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(hall.turn, "holder", 10.0)
        nursery.start_soon(hall.turn, "late", 1.0, 0.5)
    fault = hall.refused["late"]
    assert (fault.code, fault.stage, fault.kind.status) == ("overloaded", "llm.queue", 503)
    assert fault.retry_after_s == 1.0
    assert hall.order == ["holder"]
    assert hall.waits() == {"admitted": 1, "shed": 1}


async def test_the_time_to_come_back_grows_with_queue_and_answers(autojump_clock: MockClock) -> None:
    """With twenty in line for one slot, and answers of some ten seconds, Retry-After is minutes, not a second."""
    hall = Hall(slots=1, queue_timeout_s=35.0)
    async with trio.open_nursery() as nursery:
        for number in range(24):
            nursery.start_soon(hall.turn, str(number), 10.0, 0.01 * number)
    assert len(hall.order) == 4
    waits = [fault.retry_after_s or 0.0 for fault in hall.refused.values()]
    assert min(waits) >= 1.0
    assert max(waits) > 30.0
    assert waits == sorted(waits, reverse=True), "the line gets shorter as turns are refused"


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
    assert hall.gate.statistics().borrowed == 0


async def test_the_slot_of_a_cancelled_call_comes_back_at_once(autojump_clock: MockClock) -> None:
    """Cancelling the call frees the slot, and whoever waited has it in the same instant."""
    hall = Hall(slots=1)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(hall.turn, "cancelled", 100.0, 0.0, 1.0)
        nursery.start_soon(hall.turn, "next", 1.0, 0.1)
    assert hall.order == ["cancelled", "next"]
    assert trio.current_time() == pytest.approx(2.0)


MOMENT = st.integers(0, 60).map(lambda tenths: tenths / 10)
TURN = st.tuples(MOMENT, MOMENT, MOMENT | st.just(float("inf")))


@settings(max_examples=150, deadline=None)
@given(slots=st.integers(1, 3), timeout_s=st.sampled_from([0.1, 1.0, 5.0]), turns=st.lists(TURN, max_size=12))
def test_whatever_happens_every_slot_comes_back(
    slots: int, timeout_s: float, turns: list[tuple[float, float, float]]
) -> None:
    """Arrivals, answers and departures in any order: the bound holds, nobody stays, each turn has one recorded wait."""

    async def chaos() -> None:
        hall = Hall(slots, timeout_s)
        async with trio.open_nursery() as nursery:
            for number, (arrive_s, hold_s, leave_s) in enumerate(turns):
                nursery.start_soon(hall.turn, str(number), hold_s, arrive_s, leave_s)
        await wait_all_tasks_blocked()
        assert hall.most <= slots
        assert hall.gate.statistics() == GateStatistics(total=slots, borrowed=0, waiting=0)
        counts = hall.waits()
        assert sum(counts.values()) == len(turns)
        assert counts.get("admitted", 0) >= len(hall.order) == len(set(hall.order))
        assert counts.get("shed", 0) == len(hall.refused)
        assert hall.seen.spans.open == {}

    trio.run(chaos, clock=MockClock(autojump_threshold=0))
