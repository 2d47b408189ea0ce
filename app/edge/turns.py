"""The server's turn nursery. A turn is a task in it, with a cancel scope of its own; a handler only follows its turn.

The handler's task dies with its connection. The turn's task need not: it is told, by its scope, and what it must still
do (its shielded saves) it does in its own time, which the drain waits for.
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import trio

from app.chat_turn import ChatTurn
from app.errors import Fault, InternalFault, OverloadFault
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

    def in_flight(self) -> int:
        """Return how many turns run now; safe to call from any thread."""
        return len(self._nursery.child_tasks)

    async def follow(self, request: TurnRequest, trace_id: str) -> TurnEnd:
        """Run a turn and return how it ended. Cancelling the caller (the client left) cancels the turn.

        Raises:
            OverloadFault: `draining`: the turn was cancelled because the server ends.
        """
        request = replace(request, plan=self._plan(request.feature, request.user_id))
        scope = trio.CancelScope()
        sender, receiver = trio.open_memory_channel[TurnEnd](1)
        self._nursery.start_soon(self._run, request, trace_id, scope, sender)
        try:
            return await receiver.receive()
        except trio.EndOfChannel:
            raise OverloadFault("draining", "cancelled by the end of the drain") from None
        finally:
            scope.cancel()  # nothing is left to cancel when the turn has ended

    async def _run(
        self, request: TurnRequest, trace_id: str, scope: trio.CancelScope, sender: trio.MemorySendChannel[TurnEnd]
    ) -> None:
        with scope, sender:
            trace = self._telemetry.turn(
                turn_id=str(request.turn_id),
                user_id=request.user_id,
                trace_id=trace_id,
                surface=request.surface,
                plan=request.plan,
            )
            result = await self._turn(request, trace)
            sender.send_nowait(TurnEnd(result, trace.clock))

    async def _turn(self, request: TurnRequest, trace: TurnTrace) -> TurnOutcome | Fault:
        """The turn's boundary: whatever a turn can raise becomes a fault here, and is logged once."""
        try:
            with trace:
                outcome = await self._chat_turns[request.feature].run(request, trace)
                _tell(trace, outcome)
                return outcome
        except Fault as fault:
            _log_fault(fault, trace)
            return fault
        except Exception as exc:  # the turn's boundary
            log.exception("turn.failed", extra={"turn_id": trace.turn_id})
            return InternalFault("internal_error", type(exc).__name__)
        except BaseExceptionGroup as group:
            cancelled, errors = group.split(trio.Cancelled)
            if errors is not None:  # came together with a cancellation
                log.error("turn.failed", exc_info=errors, extra={"turn_id": trace.turn_id})
            if cancelled is None or (errors is not None and errors.split(Exception)[1] is not None):
                raise
            raise cancelled from None  # the logged errors, going on, would end the nursery and every turn in it


def _tell(trace: TurnTrace, outcome: TurnOutcome) -> None:
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
        extra={
            "turn_id": trace.turn_id,
            **facts,
        },
    )
