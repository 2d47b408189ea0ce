"""Whatever happens before the gate, every slot and every place comes back. Virtual time; seeded."""

import random
from collections.abc import Awaitable, Callable
from functools import partial
from math import inf

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from app.errors import Fault, ModelFault
from tests.admit.hall import Hall
from tests.standins import after

TURNS_A_ROUND = 200


class CancelAt(trio.abc.Instrument):
    """Cancels `scope` when `task` is about to run, or has just run, for the nth time."""

    def __init__(self, scope: trio.CancelScope, step: int, *, before: bool) -> None:
        self.scope = scope
        self.task: trio.lowlevel.Task | None = None
        self.left = step
        self.before = before

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        if self.before:
            self._count(task)

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        if not self.before:
            self._count(task)

    def _count(self, task: trio.lowlevel.Task) -> None:
        if task is self.task:
            self.left -= 1
            if self.left == 0:
                self.scope.cancel()


Act = Callable[[Hall], Awaitable[object]]


async def comes_and_goes(hall: Hall) -> None:
    await hall.turn("victim", 1.0)


async def of_the_busy_user(hall: Hall) -> None:
    await hall.turn("victim", 1.0, user="holder")


async def studies(hall: Hall) -> None:
    await hall.study(1.0)


SCENES: dict[str, tuple[int, int, Act]] = {
    "a turn that finds a slot": (2, 5, comes_and_goes),
    "a turn that waits": (1, 5, comes_and_goes),
    "a turn that is refused": (1, 0, comes_and_goes),
    "a turn behind its own user's": (3, 5, of_the_busy_user),
    "a study that finds a slot": (2, 5, studies),
    "a study that waits": (1, 5, studies),
}


@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize(("slots", "queue_max", "act"), SCENES.values(), ids=SCENES)
async def test_cancelled_at_every_await(
    slots: int, queue_max: int, act: Act, before: bool, autojump_clock: MockClock
) -> None:
    """Cancelled at each step of its task, with slot, place or neither, it leaves nothing and holds up nobody."""
    for step in range(1, 100):
        hall = Hall(slots, queue_timeout_s=60, queue_max=queue_max, per_user_max=1)
        scope = trio.CancelScope()
        instrument = CancelAt(scope, step, before=before)

        async def victim(hall: Hall, scope: trio.CancelScope, instrument: CancelAt) -> None:
            instrument.task = trio.lowlevel.current_task()
            with scope:
                await act(hall)

        trio.lowlevel.add_instrument(instrument)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(hall.turn, "holder", 2.0)
            await wait_all_tasks_blocked()
            nursery.start_soon(victim, hall, scope, instrument)
            nursery.start_soon(hall.turn, "wants it", 1.0, 0.5)
            nursery.start_soon(hall.study, 1.0, 2.5)
        trio.lowlevel.remove_instrument(instrument)
        assert hall.empty()
        if queue_max:
            latest_s = 3.0 if slots == 1 else 1.0
            assert hall.starts["wants it"] - hall.starts["holder"] <= latest_s
        await hall.turn("afterwards", 0.1)
        assert "afterwards" in hall.order
        if not scope.cancel_called:
            assert step > 1, "it was cancelled at some step at least"
            return
    raise AssertionError("it never came to its end")


async def chaos(seed: int) -> None:
    """Let turns and studies of few users come, leave, fail and time out at random moments, with resizes in between."""
    draw = random.Random(seed)
    hall = Hall(
        draw.randint(1, 6),
        draw.choice([0.2, 1.0, 5.0, 60.0]),
        queue_max=draw.choice([0, 3, 20, 1000]),
        per_user_max=draw.randint(1, 3),
    )
    sizes = [hall.gate.total, *(draw.randint(1, 8) for _ in range(40))]
    ended: list[str] = []

    async def turn(number: int) -> None:
        # Moments are tenths, so that many things happen in the same instant, in the order that Trio draws.
        arrive_s, leave_s = draw.randint(0, 200) / 10, draw.choice([inf, inf, draw.randint(0, 30) / 10])
        work = draw.choice([after(draw.randint(0, 20) / 10), fails_after(draw.randint(0, 10) / 10)])
        await trio.sleep(arrive_s)
        with trio.move_on_after(leave_s):
            try:
                await hall.hold(str(number), work, draw.choice("aaabcdefgh"))
            except Fault as error:
                ended.append(type(error).__name__)
                return
        ended.append("cancelled or done")

    async def resizes() -> None:
        for size in sizes[1:]:
            await trio.sleep(draw.randint(1, 10) / 10)
            hall.gate.resize(size, "manual")
            await wait_all_tasks_blocked()
            nothing_is_left_lying(hall)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(resizes)
        for number in range(TURNS_A_ROUND):
            nursery.start_soon(turn, number)
        for _ in range(TURNS_A_ROUND // 4):
            study = partial(hall.study, draw.randint(0, 20) / 10, draw.randint(0, 200) / 10)
            nursery.start_soon(study, draw.choice([inf, draw.randint(0, 30) / 10]))
    assert hall.empty()
    assert hall.most <= max(sizes)
    assert hall.most_of_one_user <= hall.gate._line.per_user_max
    assert len(ended) == TURNS_A_ROUND
    seen = hall.gate.statistics()
    assert seen.admitted + seen.abandoned + sum(seen.shed.values()) == TURNS_A_ROUND == sum(hall.waits().values())
    assert set(ended) <= {"cancelled or done", "OverloadFault", "ModelFault"}
    line, spares = hall.gate._line, hall.gate._spares
    assert (line.waiting, line.running, line._waiting_of, line._running_of) == ({}, {}, {}, {})
    assert (spares._waiting, spares._held, spares._leaving) == ({}, {}, set())


def nothing_is_left_lying(hall: Hall) -> None:
    """Check that no slot is free that a turn or a study could have, and that no study keeps a turn waiting."""
    line, spares, limiter = hall.gate._line, hall.gate._spares, hall.gate._limiter
    assert limiter.available_tokens <= 0 or not (line.ready() or spares._waiting)
    assert not (line.ready() and spares._held)
    assert limiter.borrowed_tokens == len(line.running) + len(spares)
    assert limiter.statistics().tasks_waiting == 0


def fails_after(seconds: float) -> Callable[[], Awaitable[None]]:
    async def fail() -> None:
        await trio.sleep(seconds)
        raise ModelFault("model_error")

    return fail


@pytest.mark.parametrize("seed", range(3))
async def test_chaos_leaves_nothing(seed: int, autojump_clock: MockClock) -> None:
    """Of 200 turns and 50 studies nobody has anything in the end, and no slot lay idle while one was wanted."""
    await chaos(seed)


@pytest.mark.soak
async def test_much_chaos_leaves_nothing(autojump_clock: MockClock) -> None:
    """The same of 10,000 turns and 2,500 studies."""
    for seed in range(100, 100 + 10_000 // TURNS_A_ROUND):
        await chaos(seed)
