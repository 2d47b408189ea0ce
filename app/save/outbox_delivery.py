"""Delivers what is in the outbox: oldest first, in bulk, for ever.

Rules:

* Writing a row that is there changes nothing, so whatever may or may not have been written is written again. A row
  leaves the outbox only when the database has said that it has it.
* A batch is one request and one transaction. When what is wrong may be a row (`outbox_rules`), its rows are sent one by
  one, in the same order; the whole turn of a bad one is set aside, and the rest goes on.
* A conversation that is still to be made is made before the first of its rows is written. When somebody else has made
  one for that page, all of its rows, those that are queued later too, go under the id that stands.
* A conversation is stuck that again and again cannot be made, or a row of which is not taken, though the database
  answers and nobody can say that the row is bad. Its rows wait; at the next time it comes behind all others, which so
  get their turn, however many are stuck.
* When the database is away, waits grow from attempt to attempt; when it refuses us, somebody has to act: `paused` says
  so, the log too, once per change, and attempts are rare. The breaker is the one that turns use, and is obeyed.
"""

import logging
import random
import uuid
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Protocol, TypeVar

import trio

from app.clients.ports import Database, LogRow
from app.errors import DatabaseFault
from app.save.one_answer import what_stands
from app.save.outbox_rules import DeliveryRules, Judgement, is_answer, judge, wait_s
from app.save.outbox_values import OutboxEntry, OutboxError, OutboxStatistics
from app.standing import is_superseded, one_of_each_key
from app.turn import StoredMessage
from telemetry.replay_trace import ReplayOutcome, ReplayTelemetry, ReplayTrace

log = logging.getLogger(__name__)

T = TypeVar("T")
LOOKED_THROUGH = 200
"""Of a conversation's newest messages, when a key is taken: is it by the row itself?"""
PATIENCE = 5
"""So many rounds in a row may achieve nothing before `deliver_file` gives up.

That takes some three seconds while the database fails, and some twelve while it is away: its breaker opens, and is
waited for once."""
SUPERSEDED = "superseded"
"""The reason of a turn that another process answered too, and whose answer the database does not have."""
OF_THE_ROW: frozenset[Judgement] = frozenset({"row", "duplicate", "smaller"})
"""What waiting does not mend, once it is about one row or conversation alone."""
UNFORESEEN = "internal"
"""The reason of what must not happen: a fault of ours, as telemetry calls it."""


class OutboxStore(Protocol):
    """What the delivery asks of an outbox (`outbox_file.Outbox` is one)."""

    paused: str | None

    async def wait_for_work(self) -> None:
        """Wait until an entry is to be delivered."""

    async def wait_for_nudge(self) -> None:
        """Wait until a failed delivery is wanted again at once."""

    def batch(self, max_rows: int, max_bytes: int, last: Collection[uuid.UUID] = ()) -> tuple[OutboxEntry, ...]:
        """Return what is to be delivered next, oldest first, the conversations in `last` behind all others."""

    def holds(self, conversation_id: uuid.UUID) -> bool:
        """Return whether a row waits for the conversation that stands under this id."""

    def resolve(self, conversation_id: uuid.UUID) -> uuid.UUID:
        """Return the id under which the conversation stands."""

    async def map_conversation(self, loser: uuid.UUID, winner: uuid.UUID) -> None:
        """Know a conversation by the id that stands, for good."""

    async def settle(
        self,
        *,
        delivered: Collection[int] = (),
        set_aside: Mapping[uuid.UUID, str] | None = None,
        attempted: Collection[int] = (),
    ) -> None:
        """Keep what became of a delivery."""

    def statistics(self) -> OutboxStatistics:
        """Return how the outbox is now."""


class _Obstacle(Exception):
    """A delivery failed, for `reason`, an error type."""

    def __init__(self, judgement: Judgement, reason: str, retry_after_s: float = 0.0) -> None:
        super().__init__(reason)
        self.judgement = judgement
        self.reason = reason
        self.retry_after_s = retry_after_s


@dataclass
class _Round:
    """What became of a batch, so far. Of a turn that is refused all is set aside, of a superseded one what is left."""

    trace: ReplayTrace
    delivered: set[int] = field(default_factory=set)
    refused: dict[uuid.UUID, str] = field(default_factory=dict)
    stuck: dict[uuid.UUID, _Obstacle] = field(default_factory=dict)
    """Conversations whose rows wait, and why."""
    superseded: dict[uuid.UUID, str] = field(default_factory=dict)


class OutboxDelivery:
    """Carries entries from `store` to `database`.

    Args:
        told: of how many entries came to which outcome, after each round.
        telemetry: gives each round its trace.
        jitter: draws between two numbers.
    """

    def __init__(
        self,
        store: OutboxStore,
        database: Database,
        rules: DeliveryRules | None = None,
        *,
        told: Callable[[ReplayOutcome, int], None] = lambda outcome, entries: None,
        telemetry: ReplayTelemetry | None = None,
        jitter: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self._store = store
        self._database = database
        self._rules = rules or DeliveryRules()
        self._told = told
        self._telemetry = telemetry or ReplayTelemetry()
        self._jitter = jitter
        self._failures = 0
        self._stuck: set[uuid.UUID] = set()
        self._trouble: tuple[Judgement, str] | None = None

    async def run(self) -> None:
        """Deliver for ever."""
        while True:
            if not self._store.statistics().waiting:  # what the trouble was about may have been deleted by hand
                self._change_trouble(None)
            await self._store.wait_for_work()
            obstacle = await self._round()
            if obstacle is not None:
                with trio.move_on_after(self._wait_s(obstacle)):
                    await self._store.wait_for_nudge()

    async def empty(self, patience: int = PATIENCE) -> None:
        """Deliver until nothing waits any more.

        Raises:
            OutboxError: `undeliverable`: the database refuses us, or `patience` rounds in a row have achieved nothing.
        """
        in_vain, reason = 0, ""
        while waiting := self._store.statistics().waiting:
            obstacle = await self._round()
            in_vain = 0 if self._store.statistics().waiting < waiting else in_vain + 1
            if obstacle is None:
                continue
            if obstacle.judgement != "leave_alone" or not reason:  # what opened the breaker says more
                reason = obstacle.reason
            if obstacle.judgement == "pause" or in_vain >= patience:
                raise OutboxError("undeliverable", f"the database does not take it: {reason}")
            await trio.sleep(self._wait_s(obstacle))

    async def _round(self) -> _Obstacle | None:
        """Try to deliver a batch, in a trace of its own, and return what stood in the way."""
        self._stuck = {conversation for conversation in self._stuck if self._store.holds(conversation)}
        batch = self._store.batch(self._rules.max_rows, self._rules.max_bytes, self._stuck)
        if not batch:
            return None
        with self._telemetry.replay([entry.row for entry in batch]) as trace:
            obstacle = await self._carry(batch, _Round(trace))
            if obstacle is not None:
                trace.fail(obstacle.reason)
        return obstacle

    async def _carry(self, batch: Sequence[OutboxEntry], round_: _Round) -> _Obstacle | None:
        """Try to deliver a batch, keep what became of it, and return what stood in the way."""
        obstacle: _Obstacle | None
        try:
            await self._make_conversations(batch, round_)
            await self._send([entry for entry in batch if self._may_go(entry, round_)], round_)
        except _Obstacle as failure:
            obstacle = failure
        except OutboxError as error:
            obstacle = _Obstacle("back_off", error.reason)
        else:
            obstacle = next(iter(round_.stuck.values()), None)
        progress = bool(round_.delivered)
        try:
            await self._settle(batch, round_, attempted=obstacle is None or obstacle.judgement != "leave_alone")
        except OutboxError as error:
            obstacle, progress = _Obstacle("back_off", error.reason), False
        self._note(obstacle, progress=progress)
        return obstacle

    async def _settle(self, batch: Sequence[OutboxEntry], round_: _Round, *, attempted: bool) -> None:
        turns = round_.superseded | round_.refused
        delivered = round_.delivered - {entry.id for entry in batch if entry.row.turn_id in round_.refused}
        left = {entry.id for entry in batch} - delivered
        set_aside = {entry.id for entry in batch if entry.row.turn_id in turns} - delivered
        await self._store.settle(delivered=delivered, set_aside=turns, attempted=left if attempted else ())
        for turn_id, reason in turns.items():
            log.error("outbox.set_aside", extra={"turn_id": str(turn_id), "reason": reason})
        self._tell(round_, "delivered", delivered)
        self._tell(round_, "set_aside", set_aside)
        self._tell(round_, "failed", left - set_aside)

    def _tell(self, round_: _Round, outcome: ReplayOutcome, ids: Collection[int]) -> None:
        if ids:
            self._told(outcome, len(ids))
            round_.trace.count(outcome, len(ids))

    async def _make_conversations(self, batch: Sequence[OutboxEntry], round_: _Round) -> None:
        """Make each conversation that a row of the batch says is still to be made, also one that was made before.

        What was said in one that its user has deleted since is stored in that one. When several cannot be made and none
        could, the rest is not tried: what needs none may go all the same.
        """
        made: set[uuid.UUID] = set()
        for entry in batch:
            row, title = entry.row, entry.title
            if title is None or row.conversation_id in made or not self._may_go(entry, round_):
                continue
            try:
                await self._make_conversation(row, title)
            except _Obstacle as obstacle:
                self._judge_unmade(entry, obstacle, batch, round_)
                if not made and len(round_.stuck) >= self._rules.stubborn_conversations:
                    unmade = (entry for entry in batch if entry.title is not None)
                    round_.stuck |= {self._conversation(entry): obstacle for entry in unmade}
                    return
            else:
                made.add(row.conversation_id)

    def _judge_unmade(
        self, entry: OutboxEntry, obstacle: _Obstacle, batch: Sequence[OutboxEntry], round_: _Round
    ) -> None:
        if obstacle.judgement in OF_THE_ROW:
            round_.refused[entry.row.turn_id] = obstacle.reason
        elif self._is_stubborn(batch, obstacle):
            self._get_stuck(entry, obstacle, round_)
        else:
            raise obstacle

    async def _make_conversation(self, row: LogRow, title: str) -> None:
        standing = self._store.resolve(row.conversation_id)
        winner = await self._ask(lambda: self._database.ensure_conversation(row.user_id, row.page, standing, title))
        if winner != standing:
            await self._store.map_conversation(row.conversation_id, winner)

    async def _send(self, entries: Sequence[OutboxEntry], round_: _Round) -> None:
        if not entries:
            return
        rows = one_of_each_key(map(self._resolved, entries))
        try:
            taken = await self._ask(lambda: self._database.write_rows(rows))
        except _Obstacle as obstacle:
            if len(entries) == 1:
                await self._judge_one(entries[0], obstacle, round_)
            elif obstacle.judgement in OF_THE_ROW or self._is_stubborn(entries, obstacle):
                await self._send_one_by_one(entries, round_)
            else:
                raise
        else:
            for row in rows:
                of_key = [entry for entry in entries if entry.row.key == row.key]
                try:
                    standing = await self._what_stands(row) if row.key in taken else row
                except _Obstacle as obstacle:
                    if not _may_be_the_row(obstacle):
                        raise
                    self._get_stuck(of_key[0], obstacle, round_)
                else:
                    _note_what_stands(of_key, standing, round_)

    async def _what_stands(self, row: LogRow) -> LogRow | StoredMessage:
        return await self._ask(partial(what_stands, self._database, row))

    async def _send_one_by_one(self, entries: Sequence[OutboxEntry], round_: _Round) -> None:
        """Send what can be sent; a conversation whose row is not taken keeps the rows behind it waiting."""
        before = len(round_.stuck)
        for entry in entries:
            if not self._may_go(entry, round_):
                continue
            try:
                await self._send([entry], round_)
            except _Obstacle as obstacle:
                if not _may_be_the_row(obstacle):
                    raise
                self._get_stuck(entry, obstacle, round_)
                if len(round_.stuck) - before >= self._rules.stubborn_conversations and not round_.delivered:
                    raise

    def _get_stuck(self, entry: OutboxEntry, obstacle: _Obstacle, round_: _Round) -> None:
        conversation = self._conversation(entry)
        round_.stuck[conversation] = obstacle
        self._stuck.add(conversation)

    def _may_go(self, entry: OutboxEntry, round_: _Round) -> bool:
        return entry.row.turn_id not in round_.refused and self._conversation(entry) not in round_.stuck

    def _conversation(self, entry: OutboxEntry) -> uuid.UUID:
        return entry.conversation(self._store.resolve)

    async def _judge_one(self, entry: OutboxEntry, obstacle: _Obstacle, round_: _Round) -> None:
        if obstacle.judgement == "duplicate" and await self._is_there(self._resolved(entry)):
            round_.delivered.add(entry.id)
        elif obstacle.judgement in OF_THE_ROW:
            round_.refused[entry.row.turn_id] = obstacle.reason
        else:
            raise obstacle

    async def _is_there(self, row: LogRow) -> bool:
        """Return whether the database has the row; the key that is taken may be another than ours."""
        found = await self._ask(lambda: self._database.conversation(row.user_id, row.conversation_id, LOOKED_THROUGH))
        key = (str(row.turn_id), row.sender)
        return found is not None and any((message.turn_id, message.sender) == key for message in found.messages)

    def _is_stubborn(self, entries: Sequence[OutboxEntry], obstacle: _Obstacle) -> bool:
        attempts = max(entry.attempts for entry in entries)
        return _may_be_the_row(obstacle) and attempts >= self._rules.stubborn_attempts

    def _resolved(self, entry: OutboxEntry) -> LogRow:
        return replace(entry.row, conversation_id=self._conversation(entry))

    async def _ask(self, call: Callable[[], Awaitable[T]]) -> T:
        """Ask the database, for so long and no longer.

        Raises:
            _Obstacle: it refused, failed, or did not answer.
        """
        with trio.move_on_after(self._rules.attempt_s):
            try:
                return await call()
            except DatabaseFault as fault:
                judgement = judge(fault.error_type)
                raise _Obstacle(judgement, fault.error_type, fault.retry_after_s or 0.0) from fault
            except UnicodeEncodeError as error:  # half a surrogate pair, which the file can keep and the wire cannot
                raise _Obstacle("row", type(error).__name__) from error
            except Exception as error:  # a bug of ours must not end the delivery, and with it the server
                log.error("outbox.delivery_broke", exc_info=error)
                raise _Obstacle("back_off", UNFORESEEN) from error
        raise _Obstacle("back_off", "timeout")

    def _wait_s(self, obstacle: _Obstacle) -> float:
        rules = self._rules
        if obstacle.judgement == "leave_alone":
            return obstacle.retry_after_s * self._jitter(1.0, 1.25)
        bounds = rules.pause_s if obstacle.judgement == "pause" else rules.back_off_s
        return wait_s(bounds, self._failures, self._jitter)

    def _note(self, obstacle: _Obstacle | None, *, progress: bool) -> None:
        """Count failures in a row, and tell of each change, once. What the breaker says is no news of the database."""
        if obstacle is None:
            self._change_trouble(None)
        elif obstacle.judgement != "leave_alone":
            trouble = (obstacle.judgement, obstacle.reason if obstacle.judgement == "pause" else "")
            same = self._trouble is not None and self._trouble[0] == obstacle.judgement
            self._failures = self._failures + 1 if same and not progress else 1
            self._change_trouble(trouble, obstacle.reason)

    def _change_trouble(self, trouble: tuple[Judgement, str] | None, reason: str = "") -> None:
        if trouble == self._trouble:
            return
        self._trouble = trouble
        self._store.paused = reason if trouble and trouble[0] == "pause" else None
        if trouble is None:
            log.info("outbox.resumed")
        elif trouble[0] == "pause":
            log.error("outbox.paused", extra={"reason": reason})
        else:
            log.warning("outbox.delivery_fails", extra={"reason": reason})


def _note_what_stands(entries: Sequence[OutboxEntry], standing: LogRow | StoredMessage, round_: _Round) -> None:
    """Note of entries of one key, one of which was sent, whether what is stored says the same.

    A client may hold an answer that another one's place was taken by: it is set aside, not dropped.
    """
    for entry in entries:
        if is_superseded(entry.row, standing):
            round_.superseded[entry.row.turn_id] = SUPERSEDED
        else:
            round_.delivered.add(entry.id)


def _may_be_the_row(obstacle: _Obstacle) -> bool:
    """Return whether the database lives, and yet did not take it; or it was we who could not send it."""
    return obstacle.judgement == "back_off" and (is_answer(obstacle.reason) or obstacle.reason == UNFORESEEN)
