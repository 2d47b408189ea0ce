"""The save stage: the question's row while the model works, the answer's row after, both safe from cancellation.

Once the question was handed over, exactly one answer row follows, with whatever text there is and how it ended. Rows
are inserts keyed by `(turn_id, sender)`, so what may or may not have been written is simply written again.
"""

import logging
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import trio

from app.clients.ports import Database, LogRow
from app.deadlines import shielded
from app.errors import Fault, StageTimeout
from app.turn import Draft, Grounding, Prompt, Saved, Sender, Shortfall, TurnRequest
from telemetry import names
from telemetry.turn_trace import StageTrace, TurnTrace, classify

log = logging.getLogger(__name__)

Unplaced = Callable[[UUID], LogRow]
"""A row that waits for its conversation's id: another request may have made the conversation first."""
TITLE_CHARS = 40
"""Of a new conversation's first message, as its title."""


class Save:
    """Makes the record of a turn; each of its saves may take `timeout_s` seconds."""

    def __init__(self, database: Database, timeout_s: float) -> None:
        self.database = database
        self.timeout_s = timeout_s

    def record(self, request: TurnRequest, trace: TurnTrace) -> "TurnRecord":
        """Return the record of a turn; nothing is written until its question is handed over."""
        return TurnRecord(self, request, trace)


class TurnRecord:
    """The two rows of one turn on their way to the database."""

    conversation_id: UUID
    prompt: Prompt | None = None
    """What the model was given, once that is known."""

    def __init__(self, save: Save, request: TurnRequest, trace: TurnTrace) -> None:
        self._database = save.database
        self._timeout_s = save.timeout_s
        self._request = request
        self._trace = trace
        self._owed = False
        self._question_written = False

    def place(self, grounding: Grounding) -> None:
        """Tell the record which conversation it belongs to, and when the turn was admitted."""
        self._grounding = grounding
        self._conversation_made = not grounding.conversation.is_new
        self.conversation_id = grounding.conversation.id

    @property
    def owed(self) -> bool:
        """Whether the turn's rows are owed: the question was handed over."""
        return self._owed

    def owe(self) -> None:
        """Take the question over; whatever happens from here on, its row and the answer's will be written."""
        self._owed = True

    def hand_over_question(self, nursery: trio.Nursery) -> None:
        """Take the question over and write its row in `nursery`."""
        self.owe()
        nursery.start_soon(self._save_question)

    async def _save_question(self) -> None:
        """Write the question's row, as stage `save.user`. Never raises: the answer's save tries again."""
        with self._trace.stage(names.SAVE_USER, under_turn=self._request.plan == "concurrent") as stage:
            await self._attempt(stage, [self._question])

    async def save_answer(self, draft: Draft) -> Saved:
        """Write what is not written yet, as stage `db_save`, and return where both rows are. Never raises.

        The stage begins where the speaker ended. A turn whose question was not handed over owes nothing.
        """
        if not self._owed:
            return "no"
        readings = self._trace.clock.readings
        spoken = readings.get(names.AGENT) or readings.get(names.LLM)
        with self._trace.stage(
            names.DB_SAVE, {names.SAVE_MODE: "await"}, start_ns=spoken.end_ns if spoken else None
        ) as stage:
            if self._request.plan == "sequential":
                await self._save_question()
            rows = [self._question] if not self._question_written else []
            safe = await self._attempt(stage, [*rows, self._answer(draft)])
            stage.set({names.SAVE_DEFERRED: False})
        return "database" if safe else "no"

    async def _attempt(self, stage: StageTrace, rows: list[Unplaced]) -> bool:
        error: BaseException | None = None
        with shielded(self._timeout_s) as scope:
            try:
                await self._write(rows)
            except Fault as fault:
                error = fault
            except Exception as exc:  # noqa: BLE001 - the save: whatever goes wrong, the student gets their answer
                error = exc
        if scope.cancelled_caught:
            error = StageTimeout(stage.name, self._timeout_s)
        if error is not None:
            self._report(stage, error)
        return error is None

    async def _write(self, rows: list[Unplaced]) -> None:
        if not self._conversation_made:
            await self._make_conversation()
        await self._database.write_rows([row(self.conversation_id) for row in rows])
        self._question_written = True

    async def _make_conversation(self) -> None:
        request = self._request
        title = " ".join(request.message.split())[:TITLE_CHARS]
        self.conversation_id = await self._database.ensure_conversation(
            request.user_id, request.page_id, self.conversation_id, title
        )
        self._conversation_made = True
        self._trace.identify(str(self.conversation_id))

    def _question(self, conversation_id: UUID) -> LogRow:
        context = {"trace_id": self._trace.trace_id}
        return self._row("user", conversation_id, self._request.message, context, self._grounding.admitted_at)

    def _answer(self, draft: Draft) -> Unplaced:
        text, context, ended_at = draft.text, self._context(draft), self._ended_at()
        return lambda conversation_id: self._row("assistant", conversation_id, text, context, ended_at)

    def _row(self, sender: Sender, conversation_id: UUID, text: str, context: dict[str, Any], at: datetime) -> LogRow:
        return LogRow(
            turn_id=self._request.turn_id,
            sender=sender,
            user_id=self._request.user_id,
            page=self._request.page_id,
            conversation_id=conversation_id,
            message=text,
            context_data=context,
            created_at=at,
        )

    def _context(self, draft: Draft) -> dict[str, Any]:
        timings = self._trace.clock.performance_metrics()
        return {
            "finish": draft.finish,
            "model": draft.model,
            "trace_id": self._trace.trace_id,
            "token_usage": draft.usage and draft.usage.as_reply(),
            "fallback_used": draft.fallback,
            "warnings": [*self._grounding.warnings, *self._shortfalls(draft)],
            "project_id": self._grounding.project.id if self._grounding.project else None,
            "history_count": self.prompt.history_count if self.prompt else 0,
            **(draft.agent.as_reply() if draft.agent else {}),
            "performance_metrics": {key: timings[key] for key in timings if key not in _KNOWN_ONLY_AFTER},
        }

    def _shortfalls(self, draft: Draft) -> Iterator[Shortfall]:
        yield from self.prompt.warnings if self.prompt else ()
        if draft.fallback:
            yield "fallback"

    def _ended_at(self) -> datetime:
        now = datetime.fromtimestamp(self._trace.clock.wall(self._trace.clock.now()) // 1000 / 1e6, UTC)
        return max(now, self._grounding.admitted_at + timedelta(milliseconds=1))

    def _report(self, stage: StageTrace, error: BaseException) -> None:
        stage.fail(error)
        facts = {"stage": stage.name, "turn_id": self._trace.turn_id, "error": classify(error)[1]}
        unexpected = error if not isinstance(error, Fault) else None
        if stage.name == names.SAVE_USER:
            log.warning("save.user.failed", extra=facts, exc_info=unexpected)
        else:
            log.error("save.failed", extra=facts, exc_info=unexpected)


_KNOWN_ONLY_AFTER = ("db_save_time", "total_time")
