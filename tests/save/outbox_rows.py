"""Rows for the outbox's tests, told apart by their numbers."""

import uuid
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from app.clients.ports import LogRow
from app.save.outbox_values import OutboxEntry

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)


def log_row(turn: int | uuid.UUID = 0, sender: Any = "user", conversation: int = 0, **fields: Any) -> LogRow:
    """Return a row of the turn and the conversation of these numbers."""
    turn_id = uuid.UUID(int=turn) if isinstance(turn, int) else turn
    number = turn_id.int % 1_000_000
    base: dict[str, Any] = {
        "user_id": "ann",
        "page": f"page-{conversation}",
        "conversation_id": uuid.UUID(int=conversation),
        "message": f"{sender} {number}",
        "context_data": {},
        "created_at": NOON + timedelta(seconds=number, milliseconds=sender != "user"),
    }
    return LogRow(turn_id=turn_id, sender=sender, **{**base, **fields})


def turn_rows(turn: int, conversation: int = 0, **fields: Any) -> list[LogRow]:
    """Return question and answer of a turn."""
    return [log_row(turn, sender, conversation, **fields) for sender in ("user", "assistant")]


def names(rows: Sequence[LogRow] | Sequence[OutboxEntry]) -> list[str]:
    """Return the messages of rows, which say sender and turn."""
    return [row.row.message if isinstance(row, OutboxEntry) else row.message for row in rows]
