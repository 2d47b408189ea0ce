"""Stored messages as the JSON list of `GET /chat/history`. Pure."""

from collections.abc import Sequence
from datetime import UTC
from typing import Any

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
        "created_at": row.created_at.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z"),
        "turn_id": row.turn_id,
    }
