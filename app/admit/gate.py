"""The gate: at most so many model calls at once, and a bounded wait for a place among them.

A slot is held while the model is asked, never during a fetch or a save. It is a `trio.CapacityLimiter`: whoever leaves
the `async with`, by an answer, a fault or a cancellation, has given the slot back.
"""

from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from itertools import islice

import trio

from app.deadlines import stage_deadline
from app.errors import OverloadFault, StageTimeout
from telemetry import names
from telemetry.turn_trace import TurnTrace

TOLD_PLACES = 100
"""So far back turns are told of each step forward; with thousands behind, each step would cost them all."""


@dataclass(frozen=True, slots=True)
class GateStatistics:
    """`total` slots, `borrowed` by calls now, `waiting` turns."""

    total: float
    borrowed: int
    waiting: int


class Gate:
    """The limiter in front of the model.

    Args:
        slots: model calls at once.
        queue_timeout_s: seconds a turn waits for a slot before it is refused.
    """

    def __init__(self, slots: int, queue_timeout_s: float) -> None:
        self._limiter = trio.CapacityLimiter(slots)
        self._queue_timeout_s = queue_timeout_s
        self._mean_hold_s = 1.0
        self._freed = trio.lowlevel.ParkingLot()
        self._spare: list[trio.CancelScope] = []
        self._line: dict[TurnTrace, int] = {}  # who waits, first come first, and the place each was told last

    def statistics(self) -> GateStatistics:
        """Return the gate's state now; safe to call from any thread."""
        state = self._limiter.statistics()
        return GateStatistics(state.total_tokens, state.borrowed_tokens, state.tasks_waiting)

    @asynccontextmanager
    async def slot(self, trace: TurnTrace) -> AsyncIterator[None]:
        """Hold a slot while inside; wait for it first, as stage `llm.queue`.

        Raises:
            OverloadFault: `overloaded`, with `Retry-After`: no slot came free in time.
        """
        async with AsyncExitStack() as held:
            held.callback(self._freed.unpark_all)  # called last, when the slot is free
            await self._wait(trace, held)
            start = trio.current_time()
            try:
                yield
            finally:
                self._mean_hold_s += 0.1 * (trio.current_time() - start - self._mean_hold_s)

    @asynccontextmanager
    async def spare_slot(self) -> AsyncIterator[None]:
        """Hold a slot that no turn wants, however long it takes to find one. A turn that wants it cancels the body.

        A freed slot is handed to the longest waiting turn first; only one that is left over is taken here.
        """
        while True:
            try:
                self._limiter.acquire_nowait()
                break
            except trio.WouldBlock:
                await self._freed.park()
        try:
            with trio.CancelScope() as scope:
                self._spare.append(scope)
                yield
        finally:
            if scope in self._spare:
                self._spare.remove(scope)
            self._limiter.release()
            self._freed.unpark_all()

    async def _wait(self, trace: TurnTrace, held: AsyncExitStack) -> None:
        state, how = self.statistics(), "abandoned"
        queue = trace.stage(
            names.LLM_QUEUE,
            {
                names.LIMITER_TOTAL: state.total,
                names.LIMITER_WAITING: state.waiting,
                names.QUEUE_POSITION: state.waiting + 1 if state.borrowed >= state.total else 0,
            },
        )
        try:
            with queue, stage_deadline(names.LLM_QUEUE, self._queue_timeout_s):
                trace.let_in()
                if self._spare and not self._limiter.available_tokens:
                    self._spare.pop().cancel()
                with self._in_line(trace):
                    await held.enter_async_context(self._limiter)
                how = "admitted"
        except StageTimeout as exc:
            how = "shed"
            raise self._refusal() from exc
        finally:
            labels = {names.OUTCOME: how}
            wait_s = trace.clock.seconds(names.LLM_QUEUE)
            trace.instruments.limiter_wait.record(wait_s, labels, context=trace.context)

    @contextmanager
    def _in_line(self, trace: TurnTrace) -> Iterator[None]:
        """Tell those who wait where they are, as often as that changes. Who need not wait is told nothing."""
        if self._limiter.available_tokens > 0:
            yield
            return
        self._line[trace] = place = len(self._line) + 1
        self._tell_place(trace, place)
        try:
            yield
        finally:
            del self._line[trace]
            for now, (other, told) in enumerate(islice(self._line.items(), TOLD_PLACES), 1):
                if now != told:
                    self._line[other] = now
                    self._tell_place(other, now)

    def _tell_place(self, trace: TurnTrace, place: int) -> None:
        if trace.watcher is not None:
            trace.watcher.queue(place, round(place * self._mean_hold_s / self._limiter.total_tokens, 1))

    def _refusal(self) -> OverloadFault:
        state = self.statistics()
        wait_s = max(1.0, state.waiting * self._mean_hold_s / state.total)
        return OverloadFault("overloaded", "no slot in time", stage=names.LLM_QUEUE, retry_after_s=wait_s)
