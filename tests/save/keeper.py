"""An outbox in memory, as the save and the history see it, and one that delivers when it is told to."""

import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from app.clients.ports import LogRow
from app.fetch.history import OnTheWay
from app.save.outbox_index import OutboxIndex
from app.save.outbox_values import OutboxEntry, OutboxError
from app.save.turn_record import Keeper
from tests.standins import Before, MemoryDatabase, at_once


@dataclass
class MemoryKeeper:
    """Keeps rows in memory. `before_put` is what each put waits for first, one step a put, and may fail by."""

    before_put: list[Before] = field(default_factory=list)
    on_put: Callable[[Sequence[LogRow]], None] = lambda rows: None
    index: OutboxIndex = field(default_factory=OutboxIndex)
    titles: list[str | None] = field(default_factory=list)
    last: int = 0

    async def put(self, rows: Sequence[LogRow], title: str | None = None, *, stands: bool = False) -> None:
        await (self.before_put.pop(0) if self.before_put else at_once)()
        for row in rows:
            self.last += 1
            reason = next((entry.reason for entry in self.index.of_turn(row.turn_id)), None)
            self.index.add(
                [
                    OutboxEntry(
                        id=self.last, position=self.last, row=row, title=title, size=100, stands=stands, reason=reason
                    )
                ]
            )
            self.titles.append(title)
        self.on_put(rows)

    def holds(self, conversation_id: uuid.UUID) -> bool:
        return self.index.holds(conversation_id)

    def undelivered(self, user_id: str) -> Sequence[LogRow]:
        return self.index.undelivered(user_id)

    def resolve(self, conversation_id: uuid.UUID) -> uuid.UUID:
        return self.index.resolve(conversation_id)

    def deliver(self, database: MemoryDatabase) -> None:
        """Bring all that waits to the database, at once."""
        for entry in self.index.batch(1000, 1 << 30):
            row = replace(entry.row, conversation_id=entry.conversation(self.resolve))
            if entry.title is not None:
                database.conversations.setdefault(row.conversation_id, (row.user_id, row.page))
            database.rows.setdefault((row.turn_id, row.sender), row)
            self.index.remove([entry.id])

    def senders(self) -> list[str]:
        """Return who said what is here, in the order in which it was put."""
        return [entry.row.sender for entry in self.index.entries(1000)]


def holds_protocols(keeper: MemoryKeeper) -> tuple[Keeper, OnTheWay]:
    """Have the type checker agree that the stand-in is both."""
    return keeper, keeper


DISK_FULL = OutboxError("sqlite_full", "the outbox cannot be written")
