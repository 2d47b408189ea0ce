"""The predicted wait, against what really happens: after a night, after failures, at the start. Virtual time."""

from collections import Counter
from collections.abc import Awaitable, Callable
from functools import partial

import pytest
import trio
from trio.testing import MockClock

from app.admit.gate_statistics import FIRST_MEAN_S, KNOWN_FOR_S
from app.errors import ModelFault, OverloadFault
from tests.admit.hall import Hall
from tests.standins import TRACE_ID, failing


async def calls(hall: Hall, name: str, count: int, hold_s: float, every_s: float) -> None:
    """Let turns of as many users come, and wait until all are gone."""
    async with trio.open_nursery() as nursery:
        for number in range(count):
            nursery.start_soon(hall.turn, f"{name}{number}", hold_s, every_s * number)


def refusals(hall: Hall, name: str) -> Counter[str]:
    """Return why turns of this name were refused."""
    return Counter(fault.error_type for turn, fault in hall.refused.items() if turn.startswith(name))


def mean_s(hall: Hall) -> float:
    """Return how long a call is expected to take."""
    return round(hall.gate.statistics().mean_service_s, 6)


async def test_the_night_says_nothing_of_the_morning(autojump_clock: MockClock) -> None:
    """Calls of 40 s, eight hours of nothing, and forty calls of 2 s at ten slots: nobody is refused."""
    hall = Hall(10, 10.0)
    await calls(hall, "night", 60, 40.0, 5.0)
    assert mean_s(hall) == 40.0
    await trio.sleep(KNOWN_FOR_S + 1)
    assert mean_s(hall) == FIRST_MEAN_S
    await trio.sleep(8 * 3600)
    begun = trio.current_time()
    await calls(hall, "morning", 40, 2.0, 0.01)
    assert not refusals(hall, "morning")
    assert max(hall.starts.values()) - begun == pytest.approx(6.0, abs=0.5)
    assert mean_s(hall) == pytest.approx(2.0), "the night has no part in it"


Ends = Callable[[Hall, str], Awaitable[None]]


async def fails(hall: Hall, name: str) -> None:
    with pytest.raises(ModelFault):
        await hall.hold(name, failing(ModelFault("model_error")))


async def leaves(hall: Hall, name: str) -> None:
    await hall.turn(name, 100.0, leave_s=0.1)


async def falls_back(hall: Hall, name: str) -> None:
    with hall.seen.telemetry.turn(turn_id=name, user_id=name, trace_id=TRACE_ID, surface="agent") as trace:
        async with hall.gate.slot(trace):
            trace.fall_back("heuristic")


@pytest.mark.parametrize("ends", [fails, leaves, falls_back])
async def test_a_failure_is_no_service(ends: Ends, autojump_clock: MockClock) -> None:
    """After fifty calls that failed at once calls of 4 s are expected still: of a burst, few wait in vain."""
    hall = Hall(10, 10.0)
    await calls(hall, "before", 60, 4.0, 0.5)
    for number in range(50):
        await ends(hall, f"bad{number}")
    assert mean_s(hall) == 4.0
    assert hall.empty()
    await calls(hall, "burst", 80, 4.0, 0.01)
    assert refusals(hall, "burst") == {"predicted_wait": 44, "queue_timeout": 6}
    told = [fault.retry_after_s for fault in hall.refused.values() if fault.error_type == "predicted_wait"]
    assert told == pytest.approx([10.8] * 44), (
        "27 in line at 10 slots; the last call began after 8 s and ended after 12"
    )


async def test_a_failure_that_took_longer_counts(autojump_clock: MockClock) -> None:
    """A call that fails after 20 s has held its slot as long, and says that calls take long."""
    hall = Hall(1)
    await hall.turn("before", 4.0)
    with pytest.raises(ModelFault):
        await hall.hold("late", partial(fails_after, 20.0))
    assert mean_s(hall) == 12.0


async def fails_after(seconds: float) -> None:
    await trio.sleep(seconds)
    raise ModelFault("model_error")


async def test_calls_in_flight_tell_before_any_has_ended(autojump_clock: MockClock) -> None:
    """At the start, calls of 20 s in ten slots and two turns a second: who comes after 11 s is refused at once.

    All that is known by then is how long the ten have lasted. Nobody is told to come back before a slot comes free.
    """
    hall = Hall(10, 10.0)
    await calls(hall, "t", 40, 20.0, 0.49)
    assert refusals(hall, "t") == {"predicted_wait": 14, "queue_timeout": 11}
    assert sorted(hall.starts.values())[10] == 20.0
    assert all(hall.ended_at[turn] + (fault.retry_after_s or 0.0) >= 20.0 for turn, fault in hall.refused.items())


async def test_who_waited_in_vain_is_told_by_what_the_calls_have_lasted(autojump_clock: MockClock) -> None:
    """Of a whole class at the start, nothing being known, many wait in vain: but who must come back learns it right."""
    hall = Hall(10, 10.0)
    await calls(hall, "t", 74, 20.0, 0.01)
    assert refusals(hall, "t") == {"queue_timeout": 64}
    first = hall.refused["t10"].retry_after_s
    assert first == pytest.approx(64 / 10 * 10.0, rel=0.01), "64 places of a tenth of a call that lasts 10 s by now"


async def test_one_call_that_hangs_holds_up_nobody_else(autojump_clock: MockClock) -> None:
    """With one of ten calls 300 s old, calls of 2 s are expected still, and nine slots serve a burst of forty."""
    hall = Hall(10, 10.0)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(hall.turn, "hangs", 1000.0)
        await trio.sleep(300)
        await calls(hall, "before", 20, 2.0, 0.5)
        nursery.start_soon(calls, hall, "burst", 40, 2.0, 0.01)
        await trio.sleep(1.5)
        assert mean_s(hall) == 2.0
        await trio.sleep(10)
        nursery.cancel_scope.cancel()
    assert not hall.refused
    assert sum(name.startswith("burst") for name in hall.order) == 40


async def test_calls_longer_than_the_memory_are_seen_by_their_age(autojump_clock: MockClock) -> None:
    """With calls of 90 s none ends for a minute, again and again; what is expected is a minute at least."""
    hall = Hall(2, 1000.0)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(calls, hall, "long", 8, 90.0, 0.0)
        await trio.sleep(60.5)
        for _ in range(25):
            assert 60 <= mean_s(hall) <= 90
            await trio.sleep(10)


async def test_who_is_refused_and_comes_back_then_is_served(autojump_clock: MockClock) -> None:
    """A turn that is refused by its predicted wait, and comes back after Retry-After, finds a slot soon."""
    hall = Hall(4, 10.0)
    await calls(hall, "before", 8, 5.0, 1.0)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(calls, hall, "burst", 30, 5.0, 0.01)
        await trio.sleep(1.0)
        with pytest.raises(OverloadFault) as caught:
            hall.gate.check()
        await trio.sleep(caught.value.retry_after_s or 0.0)
        came = trio.current_time()
        await hall.turn("again", 5.0)
        assert hall.starts["again"] - came <= 5.0
