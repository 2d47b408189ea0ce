"""An outbox in memory, and a database that can be told what to refuse: for the delivery on virtual time."""

import uuid
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import pairwise

import pytest
import trio

from app.clients.ports import LogRow, RowKey
from app.errors import DatabaseFault
from app.save.outbox_delivery import OutboxDelivery, OutboxStore
from app.save.outbox_index import OutboxIndex
from app.save.outbox_rules import DeliveryRules
from app.save.outbox_values import OutboxEntry, OutboxError, OutboxStatistics
from tests.save.outbox_rows import turn_rows
from tests.standins import MemoryDatabase


@dataclass
class MemoryOutbox:
    """`OutboxStore` without a file: what was settled is gone at once, unless `fails` says otherwise."""

    paused: str | None = None
    fails: list[OutboxError] = field(default_factory=list)
    index: OutboxIndex = field(default_factory=OutboxIndex)
    work: trio.lowlevel.ParkingLot = field(default_factory=trio.lowlevel.ParkingLot)
    nudge: trio.Event = field(default_factory=trio.Event)
    last: int = 0

    def put(self, *rows: LogRow, title: str | None = None, stands: bool = False) -> None:
        for row in rows:
            self.last += 1
            self.index.add(
                [OutboxEntry(id=self.last, position=self.last, row=row, title=title, size=100, stands=stands)]
            )
        self.work.unpark_all()

    async def wait_for_work(self) -> None:
        while not self.index.waiting:
            await self.work.park()

    async def wait_for_nudge(self) -> None:
        await self.nudge.wait()
        self.nudge = trio.Event()

    def batch(self, max_rows: int, max_bytes: int, last: Collection[uuid.UUID] = ()) -> tuple[OutboxEntry, ...]:
        return self.index.batch(max_rows, max_bytes, last)

    def holds(self, conversation_id: uuid.UUID) -> bool:
        return self.index.holds(conversation_id)

    def resolve(self, conversation_id: uuid.UUID) -> uuid.UUID:
        return self.index.resolve(conversation_id)

    async def map_conversation(self, loser: uuid.UUID, winner: uuid.UUID) -> None:
        await self._write()
        self.index.map_conversation(loser, winner)

    async def settle(
        self,
        *,
        delivered: Collection[int] = (),
        set_aside: Mapping[uuid.UUID, str] | None = None,
        attempted: Collection[int] = (),
    ) -> None:
        await self._write()
        self.index.remove(delivered)
        self.index.set_aside(set_aside or {})
        self.index.count_attempts(attempted)

    async def _write(self) -> None:
        await trio.lowlevel.checkpoint()
        if self.fails:
            raise self.fails.pop(0)

    def statistics(self) -> OutboxStatistics:
        waiting = self.index.waiting
        return OutboxStatistics(
            waiting=waiting, set_aside=len(self.index) - waiting, oldest_age_s=0.0, bytes=0, paused=self.paused
        )


def fault(error_type: str, retry_after_s: float | None = None) -> DatabaseFault:
    """Return what the database's client raises for such an error."""
    return DatabaseFault("database_unavailable", "", error_type=error_type, retry_after_s=retry_after_s)


Verdict = Callable[[Sequence[LogRow]], Exception | None]


@dataclass
class JudgingDatabase(MemoryDatabase):
    """A database that refuses what `verdict` says, and keeps what it was sent and when, refused or not."""

    verdict: Verdict = lambda rows: None
    making: Callable[[uuid.UUID], Exception | None] = lambda conversation_id: None
    sent: list[list[str]] = field(default_factory=list)
    at: list[float] = field(default_factory=list)
    made: list[tuple[str, str]] = field(default_factory=list)

    async def ensure_conversation(
        self, user_id: str, page_id: str, conversation_id: uuid.UUID, title: str
    ) -> uuid.UUID:
        self.made.append((page_id, title))
        if error := self.making(conversation_id):
            raise error
        return await super().ensure_conversation(user_id, page_id, conversation_id, title)

    async def write_rows(self, rows: Sequence[LogRow]) -> Collection[RowKey]:
        self.sent.append([row.message for row in rows])
        self.at.append(trio.current_time())
        await trio.lowlevel.checkpoint()
        if error := self.verdict(rows):
            raise error
        return await super().write_rows(rows)

    def stored_names(self) -> list[str]:
        return [row.message for row in self.rows.values()]


def refusing(error_type: str, *bad: str) -> Verdict:
    """Return the verdict of a database that refuses every request with one of these messages in it."""
    return lambda rows: fault(error_type) if any(row.message in bad for row in rows) else None


def holds_protocol(outbox: MemoryOutbox) -> OutboxStore:
    """Have the type checker agree that the stand-in is one."""
    return outbox


def highest(low: float, high: float) -> float:
    return high


RULES = DeliveryRules(max_rows=6)


@asynccontextmanager
async def delivering(
    outbox: MemoryOutbox, database: MemoryDatabase, told: list[tuple[str, int]] | None = None
) -> AsyncIterator[None]:
    """Run the delivery meanwhile, with the longest of all jitters."""
    heard = (lambda outcome, entries: told.append((outcome, entries))) if told is not None else (lambda *_: None)
    delivery = OutboxDelivery(outbox, database, RULES, told=heard, jitter=highest)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(delivery.run)
        yield
        nursery.cancel_scope.cancel()


def filled(*turns: int, conversation: int = 0) -> MemoryOutbox:
    outbox = MemoryOutbox()
    for turn in turns:
        outbox.put(*turn_rows(turn, conversation))
    return outbox


def both(*turns: int) -> list[str]:
    return [f"{who} {turn}" for turn in turns for who in ("user", "assistant")]


def reasons(outbox: MemoryOutbox) -> dict[str, str | None]:
    return {entry.row.message: entry.reason for entry in outbox.index.entries(99)}


def lines(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str | None]]:
    records = [record for record in caplog.records if record.name.startswith("app.save")]
    return [(record.getMessage(), record.__dict__.get("reason")) for record in records]


def waits(database: JudgingDatabase) -> list[float]:
    """Return the seconds between the requests."""
    return [later - earlier for earlier, later in pairwise(database.at)]
