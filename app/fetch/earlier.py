"""A turn that is asked for again: what there is of it, and its answer given again.

A turn whose id was made of a key is looked for by that id, in the outbox first (see history.py on the order) and in the
database. Only a whole answer is given again; what was cut short is asked again under the same id.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from app.clients.ports import Database, LogRow
from app.errors import CallerFault
from app.fetch.history import OnTheWay, message_of
from app.turn import (
    AGENT_FIELDS,
    Draft,
    EarlierTurn,
    Project,
    TokenUsage,
    TurnOutcome,
    TurnRequest,
    is_whole,
)
from telemetry import names
from telemetry.turn_trace import TurnTrace


class EarlierFetch:
    """Finds what there is already of a turn. `outbox` holds what is on its way to the database; None: there is none."""

    def __init__(self, database: Database, outbox: OnTheWay | None = None) -> None:
        self._database = database
        self._outbox = outbox

    async def __call__(self, request: TurnRequest, trace: TurnTrace) -> EarlierTurn | None:
        """Return what there is, or None.

        Raises:
            CallerFault: `idempotency_mismatch`: its key was used for another message.
            DatabaseFault: it could not be read.
        """
        waiting = self._outbox.undelivered(request.user_id) if self._outbox else ()
        with trace.stage(names.FETCH_EARLIER):
            stored = await self._database.turn(request.user_id, request.turn_id)
        earlier = merged(stored, [row for row in waiting if row.turn_id == request.turn_id])
        if earlier and earlier.question and earlier.question.message != request.message:
            raise CallerFault("idempotency_mismatch", "another message", stage=names.DB_FETCH)
        return earlier


def merged(stored: EarlierTurn | None, waiting: Sequence[LogRow]) -> EarlierTurn | None:
    """Return what there is of a turn: what is stored, with the rows that are on their way there.

    Of two answers the whole one counts. `saved` is the outbox as long as a row of what counts is there alone.
    """
    found = stored
    for row in waiting:
        found = found or EarlierTurn(conversation_id=row.conversation_id, question=None, answer=None)
        if row.sender == "user" and found.question is None:
            found = replace(found, question=message_of(row), saved="outbox")
        elif row.sender == "assistant" and _counts(row, found):
            found = replace(found, answer=message_of(row), saved="outbox")
    return found


def _counts(row: LogRow, found: EarlierTurn) -> bool:
    """Return whether an answer that waits counts, and not the one that is stored."""
    return found.answer is None or (found.whole_answer is None and is_whole(row.message, row.context_data))


@dataclass(frozen=True, slots=True)
class _StoredAgent:
    """What the agent added to an answer, as it was stored."""

    fields: Mapping[str, Any]

    def as_reply(self) -> dict[str, Any]:
        return dict(self.fields)


def given_again(request: TurnRequest, earlier: EarlierTurn) -> TurnOutcome:
    """Return the outcome of a turn that was answered before: all that the row of its whole answer tells of it."""
    answer = earlier.whole_answer
    assert answer is not None
    context = answer.context_data
    usage = context.get("token_usage")
    project_id = context.get("project_id")
    warnings = context.get("warnings") or ()
    return TurnOutcome(
        turn_id=request.turn_id,
        conversation_id=earlier.conversation_id,
        draft=Draft(
            model=context.get("model") or "",
            parts=[answer.message],
            finish=context["finish"],
            usage=TokenUsage(**usage) if usage else None,
            agent=_StoredAgent({name: context.get(name) for name in AGENT_FIELDS}) if _is_agents(context) else None,
            fallback=context.get("fallback_used"),
        ),
        project=None if project_id is None else Project(id=project_id),
        history_count=context.get("history_count") or 0,
        warnings=(*warnings, *(("save_deferred",) if earlier.saved == "outbox" else ())),
        saved=earlier.saved,
        plan=request.plan,
        replayed={name: context.get(name) for name in ("trace_id", "performance_metrics")},
    )


def _is_agents(context: Mapping[str, Any]) -> bool:
    return AGENT_FIELDS[0] in context
