"""What the outbox holds, what it tells of itself, and how it fails. Pure."""

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from app.clients.ports import LogRow

MAX_WINNERS: Final = 10_000
"""Of conversations that lost the race for their page, each some 100 bytes; the oldest are forgotten."""


class OutboxError(Exception):
    """The outbox cannot do what was asked of it: nothing was kept.

    Args:
        reason: from a bounded set, for telemetry: `full`, `closed`, `in_use`, `not_ours`, `unopenable`, `unreadable`,
            or SQLite's own name for what went wrong, such as `sqlite_full` and `sqlite_ioerr_fsync`.
        note: a sentence for an operator.
    """

    def __init__(self, reason: str, note: str = "") -> None:
        super().__init__(note or reason)
        self.reason = reason


@dataclass(frozen=True, slots=True, kw_only=True)
class OutboxEntry:
    """A row on its way to the database.

    `position` is when it was queued, in microseconds since the epoch, but later than whatever the same process queued
    before: entries are delivered in its order. `title` is that of a conversation that still has to be made, else None.
    `stands`: the conversation was found in the database, so that its id leads to no other. `size` is what the row takes
    as it is stored, in bytes. `reason` is why it was set aside, None while it waits.
    """

    id: int
    position: int
    row: LogRow
    title: str | None
    size: int
    stands: bool = False
    attempts: int = 0
    reason: str | None = None

    @property
    def queued_at(self) -> datetime:
        """When the row was queued."""
        return datetime.fromtimestamp(self.position / 1e6, UTC)

    def conversation(self, resolve: Callable[[uuid.UUID], uuid.UUID]) -> uuid.UUID:
        """Return the id of the conversation that the row goes to; `resolve` leads from losers to winners."""
        return self.row.conversation_id if self.stands else resolve(self.row.conversation_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class OutboxStatistics:
    """The outbox now.

    Attributes:
        waiting: entries that are to be delivered.
        set_aside: entries that the database refuses; somebody has to retry or delete them.
        oldest_age_s: since the oldest waiting entry was queued; 0.0 when none waits.
        bytes: what the rows of all entries take, without SQLite's own overhead.
        paused: why the database refuses deliveries altogether, as its error type; None while it does not.
    """

    waiting: int
    set_aside: int
    oldest_age_s: float
    bytes: int
    paused: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class OutboxLimits:
    """How large the outbox may grow before the door refuses turns.

    `reserve_*` come on top, for the rows of turns that already run: two for each of the turns that may wait and work
    at once by default (64 + 10), with room to spare. All entries are held in memory too, so a bound is a bound on that.
    """

    max_entries: int = 10_000
    max_bytes: int = 64 << 20
    reserve_entries: int = 256
    reserve_bytes: int = 4 << 20
    min_free_bytes: int = 16 << 20
    """Of the disk: SQLite's log grows to some 4 MiB before it is written back, and needs as much again for that."""
    distrust_s: float = 5.0
    """How long a failed write keeps new turns away."""
