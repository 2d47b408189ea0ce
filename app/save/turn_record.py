"""The save stage: the question's row while the model works, the answer's row after, both safe from cancellation.

Once the question was handed over, exactly one answer row follows, with whatever text there is and how it ended. Rows
are inserts keyed by `(turn_id, sender)`, so what may or may not have been written is simply written again.

A row goes to the first of its places that takes it. Under `await` that is the database, then the outbox; but the outbox
first while a row of the same conversation waits there, so that a conversation's rows arrive in their order. Under
`outbox` it is the outbox, and the database only where that fails.
"""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, Protocol
from uuid import UUID

import trio

from app.caller_token import for_the_server
from app.clients.ports import Database, LogRow
from app.conversations import title_of
from app.deadlines import shielded
from app.errors import Fault, InternalFault, StageTimeout
from app.save.one_answer import what_stands
from app.save.outbox_values import OutboxError
from app.standing import MESSAGE_ID, REGENERATES
from app.turn import Draft, Grounding, Prompt, Saved, Sender, Shortfall, TurnRequest
from telemetry import names
from telemetry.turn_trace import StageTrace, TurnTrace, classify

log = logging.getLogger(__name__)

Unplaced = Callable[[UUID], LogRow]
"""A row that waits for its conversation's id: another request may have made the conversation first."""
Mode = Literal["await", "outbox"]
Place = Literal["database", "outbox"]


class Keeper(Protocol):
    """What the save asks of an outbox (`outbox_file.Outbox` is one)."""

    async def put(self, rows: Sequence[LogRow], title: str | None = None, *, stands: bool = False) -> None:
        """Keep rows of one turn until they are delivered; `title` is that of a conversation still to be made.

        `stands`: their conversation was found in the database; else another one may have won its page.
        """

    def holds(self, conversation_id: UUID) -> bool:
        """Return whether a row waits here for the conversation that stands under this id."""

    def undelivered(self, user_id: str) -> Sequence[LogRow]:
        """Return the user's rows that are here, those that are refused too."""

    def resolve(self, conversation_id: UUID) -> UUID:
        """Return the id under which the conversation stands."""


class Save:
    """Makes the record of a turn; each of its saves may take `timeout_s` seconds at each of its places.

    Args:
        database: where rows belong.
        timeout_s: for a row to be written.
        outbox: takes what the database does not; None where there is none.
        mode: which of them is asked first. The sequential plan always awaits the database.
    """

    def __init__(
        self, database: Database, timeout_s: float, outbox: Keeper | None = None, mode: Mode = "await"
    ) -> None:
        self.database = database
        self.timeout_s = timeout_s
        self.outbox = outbox
        self.mode = mode

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
        self._outbox = save.outbox
        self._timeout_s = save.timeout_s
        self._mode = save.mode
        self._request = request
        self._trace = trace
        self._owed = False
        self._question_kept = False
        self._superseded = False
        self._saved: Saved = "no"

    def place(self, grounding: Grounding) -> None:
        """Tell the record which conversation it belongs to, and when the turn was admitted."""
        conversation = grounding.conversation
        self._grounding = grounding
        self._conversation_made = not conversation.is_new
        self._stands = conversation.is_stored
        self.conversation_id = self._first_id = conversation.id

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

    @property
    def mode(self) -> Mode:
        """Which place is asked first; the sequential plan is the conservative one."""
        return "await" if self._trace.plan == "sequential" or self._outbox is None else self._mode

    @property
    def shortfalls(self) -> tuple[Shortfall, ...]:
        """In what the record is less than was asked for, once the answer's save is through."""
        if self._superseded:
            return ("superseded",)
        if self._saved == "no":
            return ("save_failed",)
        return ("save_deferred",) if self._deferred else ()

    @property
    def _deferred(self) -> bool:
        return self._saved == "outbox" and self.mode == "await"

    async def _save_question(self) -> None:
        """Keep the question's row, as stage `save.user`. Never raises: the answer's save tries again."""
        with self._trace.stage(names.SAVE_USER, under_turn=self._request.plan == "concurrent") as stage:
            await self._keep(stage, [self._question])

    async def save_answer(self, draft: Draft) -> Saved:
        """Keep what is not kept yet, as stage `db_save`, and return where both rows are. Never raises.

        The stage begins where the speaker ended. A turn whose question was not handed over owes nothing.
        """
        if not self._owed:
            return "no"
        readings = self._trace.clock.readings
        spoken = readings.get(names.AGENT) or readings.get(names.LLM)
        with self._trace.stage(
            names.DB_SAVE, {names.SAVE_MODE: self.mode}, start_ns=spoken.end_ns if spoken else None
        ) as stage:
            if self._request.plan == "sequential":
                await self._save_question()
            if self._superseded:  # the question that stands under this key is another, and gets its own answer
                return self._saved
            rows = [] if self._question_kept else [self._question]
            place = await self._keep(stage, [*rows, self._answer(draft)])
            self._saved = self._where(place)
            stage.set({names.SAVE_DEFERRED: self._deferred})
        return self._saved

    def _where(self, place: Place | None) -> Saved:
        if place is None or self._superseded:
            return "no"
        return "outbox" if place == "database" and self._waits() else place

    async def _keep(self, stage: StageTrace, rows: list[Unplaced]) -> Place | None:
        """Give the rows to the first place that takes them, and return which; None when none did."""
        failures: dict[Place, BaseException] = {}
        kept: Place | None = None
        for place in self._places():
            error = await self._attempt(stage, place, rows)
            if error is None:
                self._question_kept, kept = True, place
                break
            failures[place] = error
        if failures:
            self._report(stage, failures, kept)
        return kept

    def _places(self) -> tuple[Place, ...]:
        if self._outbox is None:
            return ("database",)
        if not self._stands:
            self._move_to(self._outbox.resolve(self._first_id))
        outbox_first = self.mode == "outbox" or self._outbox.holds(self.conversation_id) or self._waits()
        return ("outbox", "database") if outbox_first else ("database", "outbox")

    def _waits(self) -> bool:
        """Return whether a row of this turn is in the outbox, be it that the database refuses it."""
        if self._outbox is None:
            return False
        turn_id = self._request.turn_id
        return any(row.turn_id == turn_id for row in self._outbox.undelivered(self._request.user_id))

    async def _attempt(self, stage: StageTrace, place: Place, rows: list[Unplaced]) -> BaseException | None:
        write = self._write if place == "database" else self._put
        with shielded(self._timeout_s), for_the_server():
            try:
                await write(rows)
            except Fault as fault:
                return fault
            except Exception as exc:  # noqa: BLE001 - the save: whatever goes wrong, the student gets their answer
                return exc
            return None
        return StageTimeout(stage.name, self._timeout_s)

    async def _write(self, rows: list[Unplaced]) -> None:
        if not self._conversation_made:
            await self._make_conversation()
        placed = [row(self.conversation_id) for row in rows]
        for part in [[row] for row in placed] if self._request.may_repeat else [placed]:
            taken = await self._database.write_rows(part)
            for row in part:
                if row.key in taken and (await what_stands(self._database, row)).message != row.message:
                    self._superseded = True
                    log.warning("save.superseded", extra={"turn_id": self._trace.turn_id, "sender": row.sender})
                    return

    async def _put(self, rows: list[Unplaced]) -> None:
        assert self._outbox is not None
        title = None if self._conversation_made else self._title
        id_ = self.conversation_id if self._stands else self._first_id  # led on by the outbox itself, once
        try:
            await self._outbox.put([row(id_) for row in rows], title, stands=self._stands)
        except OutboxError as error:
            raise InternalFault("internal_error", str(error), error_type=f"outbox_{error.reason}") from error

    @property
    def _title(self) -> str:
        return title_of(self._request.message)

    def _move_to(self, conversation_id: UUID) -> None:
        if conversation_id != self.conversation_id:
            self.conversation_id = conversation_id
            self._trace.identify(str(conversation_id))

    async def _make_conversation(self) -> None:
        request = self._request
        self.conversation_id = await self._database.ensure_conversation(
            request.user_id, request.page_id, self.conversation_id, self._title
        )
        self._conversation_made = self._stands = True
        self._trace.identify(str(self.conversation_id))

    def _question(self, conversation_id: UUID) -> LogRow:
        named = {} if self._request.message_id is None else {MESSAGE_ID: self._request.message_id}
        context = {**self._span_of_turn(), **named, **self._replaced()}
        return self._row("user", conversation_id, self._request.message, context, self._grounding.admitted_at)

    def _span_of_turn(self) -> dict[str, str]:
        """Return what leads from a row to its turn's trace, and to the span there where that is recorded."""
        span_id = self._trace.span_id
        return {names.ROW_TRACE_ID: self._trace.trace_id, **({} if span_id is None else {names.ROW_SPAN_ID: span_id})}

    def _replaced(self) -> dict[str, str]:
        return {} if self._grounding.regenerates is None else {REGENERATES: self._grounding.regenerates}

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
            **self._replaced(),
            "finish": draft.finish,
            "model": draft.model,
            **self._span_of_turn(),
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

    def _report(self, stage: StageTrace, failures: Mapping[Place, BaseException], kept: Place | None) -> None:
        """Tell which places failed, and what came of it: a turn that is kept all the same is only worth a warning."""
        error = next(iter(failures.values()))
        stage.fail(error)
        causes = {"error" if place == "database" else "outbox_error": classify(e)[1] for place, e in failures.items()}
        facts = {"stage": stage.name, "turn_id": self._trace.turn_id, **causes, "kept": kept or "no"}
        unexpected = next((each for each in failures.values() if not isinstance(each, Fault)), None)
        if kept == "outbox":
            log.warning("save.deferred", extra=facts, exc_info=unexpected)
        elif kept == "database":
            log.warning("save.outbox_failed", extra=facts, exc_info=unexpected)
        elif stage.name == names.SAVE_USER:
            log.warning("save.user.failed", extra=facts, exc_info=unexpected)
        else:
            log.error("save.failed", extra=facts, exc_info=unexpected)


_KNOWN_ONLY_AFTER = ("db_save_time", "total_time")
