"""Stored messages as the JSON list of `GET /chat/history`. Pure."""

from collections.abc import Sequence
from typing import Any

from app.conversations import iso_time
from app.turn import StoredMessage


def history_body(rows: Sequence[StoredMessage]) -> list[dict[str, Any]]:
    """Return every row, in their order; those that a regenerated turn replaced too, unlike `ui_history.ui_messages`."""
    return [_message(row) for row in rows]


def _message(row: StoredMessage) -> dict[str, Any]:
    return {
        "id": row.id,
        "sender": row.sender,
        "message": row.message,
        "context_data": dict(row.context_data),
        "created_at": iso_time(row.created_at),
        "turn_id": row.turn_id,
    }
