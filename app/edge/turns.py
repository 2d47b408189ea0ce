"""The server's turn nursery. A turn is a task in it, with a cancel scope of its own; a handler only follows its turn.

The handler's task dies with its connection. The turn's task need not: it is told, by its scope, and what it must still
do (its shielded saves) it does in its own time, which the drain waits for.
"""

import logging
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial

import trio

from app.chat_turn import ChatTurn
from app.errors import Contained, Fault, InternalFault, OverloadFault
from app.turn import Feature, Plan, TurnOutcome, TurnRequest
from telemetry import names
from telemetry.stage_clock import StageClock
from telemetry.turn_trace import TurnTelemetry, TurnTrace

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class TurnEnd:
    """How a turn ended, and its readings."""

    result: TurnOutcome | Fault
    clock: StageClock


class Turns:
    """Runs turns in `nursery`, which its owner waits for.

    Args:
        nursery: outlives every request.
        chat_turns: who answers, by feature.
        telemetry: of the turns.
        plan: decides a turn's plan, from its feature and user.
    """

    def __init__(
        self,
        nursery: trio.Nursery,
        chat_turns: Mapping[Feature, ChatTurn],
        telemetry: TurnTelemetry,
        plan: Callable[[Feature, str], Plan] = lambda feature, user_id: "concurrent",
    ) -> None:
        self._nursery = nursery
        self._chat_turns = chat_turns
        self._telemetry = telemetry
        self._plan = plan
        self._running: dict[trio.CancelScope, TurnTrace] = {}

    def in_flight(self) -> int:
        """Return how many turns run now; safe to call from any thread."""
        return len(self._nursery.child_tasks)

    def end(self) -> None:
        """Cancel every turn that runs; those who follow one are told `draining`, after its saves."""
        for scope, trace in self._running.items():
            trace.cancelled_by = "draining"
            scope.cancel()

    async def follow(self, request: TurnRequest, trace_id: str) -> TurnEnd:
        """Run a turn and return how it ended. Cancelling the caller (the client left) cancels the turn.

        Raises:
            OverloadFault: `draining`: the server ended before the turn could.
        """
        sender, receiver = trio.open_memory_channel[str | TurnEnd](1)
        with self._begun(request, trace_id, sender):
            async for event in receiver:
                if isinstance(event, TurnEnd):
                    return event
        raise OverloadFault("draining", "cut off by the end of the drain")

    @contextmanager
    def following(self, request: TurnRequest, trace_id: str) -> Iterator[trio.MemoryReceiveChannel[str | TurnEnd]]:
        """Run a turn; yield a channel of its answer's pieces as they come, and last, of how it ended.

        Leaving early cancels the turn. Nobody waits for a slow reader of the channel: what it has not taken yet is a
        part of the answer, which is kept in memory anyway. The channel may end without an end: the server ended first.
        """
        sender, receiver = trio.open_memory_channel[str | TurnEnd](math.inf)
        with self._begun(request, trace_id, sender, partial(_tell, sender)):
            yield receiver

    @contextmanager
    def _begun(
        self,
        request: TurnRequest,
        trace_id: str,
        sender: trio.MemorySendChannel[str | TurnEnd],
        on_text: Callable[[str], None] | None = None,
    ) -> Iterator[None]:
        request = replace(request, plan=self._plan(request.feature, request.user_id))
        scope = trio.CancelScope()
        self._nursery.start_soon(self._run, request, trace_id, scope, sender, on_text)
        try:
            yield
        finally:
            scope.cancel()  # nothing is left to cancel when the turn has ended

    async def _run(
        self,
        request: TurnRequest,
        trace_id: str,
        scope: trio.CancelScope,
        sender: trio.MemorySendChannel[str | TurnEnd],
        on_text: Callable[[str], None] | None,
    ) -> None:
        with sender:
            trace = self._telemetry.turn(
                turn_id=str(request.turn_id),
                user_id=request.user_id,
                trace_id=trace_id,
                surface=request.surface,
                plan=request.plan,
            )
            result: TurnOutcome | Fault = OverloadFault("draining", "ended by the drain")
            self._running[scope] = trace
            try:
                with scope:
                    result = await self._turn(request, trace, on_text)
            finally:
                del self._running[scope]
            _tell(sender, TurnEnd(result, trace.clock))

    async def _turn(
        self, request: TurnRequest, trace: TurnTrace, on_text: Callable[[str], None] | None
    ) -> TurnOutcome | Fault:
        """The turn's boundary: whatever a turn can raise becomes a fault here, and is logged once."""
        faults: list[Fault] = []
        with Contained(lambda error: faults.append(_logged_fault(error, trace))), trace:
            outcome = await self._chat_turns[request.feature].run(request, trace, on_text)
            _describe(trace, outcome)
            return outcome
        return faults[0]


def _logged_fault(error: Exception, trace: TurnTrace) -> Fault:
    if isinstance(error, Fault):
        _log_fault(error, trace)
        return error
    log.error("turn.failed", exc_info=error, extra={"turn_id": trace.turn_id})
    return InternalFault("internal_error", type(error).__name__)


def _tell(sender: trio.MemorySendChannel[str | TurnEnd], event: str | TurnEnd) -> None:
    """Pass an event on, unless nobody is there to take it any more."""
    with suppress(trio.BrokenResourceError):
        sender.send_nowait(event)


def _describe(trace: TurnTrace, outcome: TurnOutcome) -> None:
    trace.outcome = "degraded" if outcome.warnings else "ok"
    trace.details |= {
        "model": outcome.draft.model,
        "finish": outcome.draft.finish,
        "saved": outcome.saved,
        "history_count": outcome.history_count,
        "warnings": list(outcome.warnings),
    }
    if outcome.draft.usage is not None:
        trace.details |= outcome.draft.usage.as_reply()
    for code in outcome.warnings:
        trace.instruments.warnings.add(1, {names.KIND: code})


def _log_fault(fault: Fault, trace: TurnTrace) -> None:
    level = logging.INFO if fault.kind.blame == "caller" else logging.WARNING
    facts = {"code": fault.code, "stage": fault.stage, "error": fault.error_type, "note": fault.note}
    log.log(
        level,
        "turn.refused" if fault.outcome in {"refused", "shed"} else "turn.failed",
        extra={"turn_id": trace.turn_id, **facts},
    )
