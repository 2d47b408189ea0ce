"""The server's turn nursery. A turn is a task in it, with a cancel scope of its own; a handler only follows its turn.

The handler's task dies with its connection. The turn's task need not: it is told, by its scope, and what it must still
do (its shielded saves) it does in its own time, which the drain waits for.
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from uuid import UUID

import trio

from app.chat_turn import ChatTurn
from app.edge.observe import REQUEST
from app.edge.turn_feed import TurnEnd
from app.edge.turn_table import RunningTurn, TurnTable
from app.errors import CallerFault, Contained, Fault, InternalFault, OverloadFault
from app.turn import Feature, Plan, TurnOutcome, TurnRequest
from telemetry import names
from telemetry.turn_trace import TurnTelemetry, TurnTrace

log = logging.getLogger(__name__)


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
        self._running: dict[UUID, RunningTurn] = {}
        self._one_less = trio.lowlevel.ParkingLot()
        self.table = TurnTable()

    def in_flight(self) -> int:
        """Return how many turns run now; safe to call from any thread."""
        return len(self._nursery.child_tasks)

    def end(self) -> None:
        """Cancel every turn that runs; those who follow one are told `draining`, after its saves."""
        for turn in self._running.values():
            turn.cut("draining")

    async def over(self) -> None:
        """Return as soon as no turn runs."""
        while self._running:
            await self._one_less.park()

    async def follow(self, request: TurnRequest, trace_id: str) -> TurnEnd:
        """Run a turn and return how it ended. Cancelling the caller: the client left.

        Raises:
            CallerFault: `turn_in_progress`: the same turn runs already.
            OverloadFault: `draining`: the server ended before the turn could.
        """
        turn = self._started(request, trace_id)
        try:
            await turn.feed.until_over()
        finally:
            turn.leave()
        if turn.feed.end is None:
            raise OverloadFault("draining", "cut off by the end of the drain")
        return turn.feed.end

    def begin(self, request: TurnRequest, trace_id: str) -> RunningTurn:
        """Run a turn that tells its followers of itself, and can be found; its caller calls `leave` in the end.

        Raises:
            CallerFault: `turn_in_progress`: the same turn runs already.
        """
        turn = self._started(request, trace_id, told=True)
        self.table.add(turn)
        return turn

    def _started(self, request: TurnRequest, trace_id: str, *, told: bool = False) -> RunningTurn:
        if request.turn_id in self._running:
            raise CallerFault("turn_in_progress")
        turn = RunningTurn(replace(request, plan=self._plan(request.feature, request.user_id)), trace_id)
        _tell_edge(turn.request.plan)
        self._running[request.turn_id] = turn
        self._nursery.start_soon(self._run, turn, told)
        return turn

    async def _run(self, turn: RunningTurn, told: bool) -> None:
        try:
            trace = self._telemetry.turn(
                turn_id=str(turn.request.turn_id),
                user_id=turn.request.user_id,
                trace_id=turn.trace_id,
                surface="stream" if told else turn.request.surface,
                plan=turn.request.plan,
                watcher=turn.feed if told else None,
            )
            turn.watched(trace)
            result: TurnOutcome | Fault | None = None
            with turn.scope:
                result = await self._turn(turn.request, trace, turn.feed.text if told else None)
            _tell_edge(trace.plan)
            turn.feed.finish(TurnEnd(result or _cut_off(turn), trace.clock))
        finally:
            turn.feed.close()  # without an end, when the server ended first
            del self._running[turn.request.turn_id]
            self._one_less.unpark_all()
            if told:
                self.table.end(turn)

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


def _tell_edge(plan: str) -> None:
    """Let the span of the request that asked for the turn say its plan; in tests there may be none."""
    if (facts := REQUEST.get(None)) is not None:
        facts.plan = plan


def _logged_fault(error: Exception, trace: TurnTrace) -> Fault:
    if isinstance(error, Fault):
        _log_fault(error, trace)
        return error
    log.error("turn.failed", exc_info=error, extra={"turn_id": trace.turn_id})
    return InternalFault("internal_error", type(error).__name__)


def _cut_off(turn: RunningTurn) -> Fault:
    if turn.cut_by == "draining":
        return OverloadFault("draining", "ended by the drain")
    return CallerFault("stopped", turn.cut_by or "")


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
    if outcome.replayed is not None:
        trace.outcome, trace.details["replayed"] = "ok", True
        return  # counted when it was answered
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
