"""Rows of PostgREST's answers and requests, to and from our values. Pure."""

import json
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from app.clients.ports import LogRow
from app.conversations import ConversationHead
from app.errors import DatabaseFault
from app.turn import StoredMessage


def rows_of(answer: bytes) -> list[dict[str, Any]]:
    """Return the rows of an answer; an empty one has none.

    Raises:
        DatabaseFault: it is no list in JSON.
    """
    if not answer:
        return []
    try:
        rows = json.loads(answer)
    except (ValueError, RecursionError) as exc:
        raise DatabaseFault("database_unavailable", "the answer is not JSON", error_type="not_json") from exc
    if not isinstance(rows, list):
        raise DatabaseFault("database_unavailable", "the answer is not a list of rows", error_type="not_json")
    return rows


@contextmanager
def promised() -> Iterator[None]:
    """Tell a row that is not as the select asked for it from a fault of ours."""
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError) as exc:
        raise DatabaseFault("database_unavailable", "a row is not as it was asked for", error_type="bad_row") from exc


def message_of(row: Mapping[str, Any]) -> StoredMessage:
    """Return a row of `chat_logs` as it was read; within `promised`."""
    context = row["context_data"]
    return StoredMessage(
        sender="user" if row["sender"] == "user" else "assistant",
        message=text_of(row["message"]),
        created_at=time_of(row["created_at"]),
        turn_id=row["turn_id"],
        context_data=context if isinstance(context, dict) else {},
        id=row["id"],
    )


def head_of(row: Mapping[str, Any]) -> ConversationHead:
    """Return a row of `chat_conversations` as it was read; within `promised`."""
    return ConversationHead(
        id=uuid.UUID(row["id"]),
        title=None if row["title"] is None else text_of(row["title"]),
        page_id=None if row["page_id"] is None else text_of(row["page_id"]),
        created_at=time_of(row["created_at"]),
        updated_at=time_of(row["updated_at"]),
        is_active=bool(row["is_active"]),
    )


def text_of(value: Any) -> str:
    """Return a column of text, empty when it is null."""
    if value is not None and not isinstance(value, str):
        raise TypeError("not a text")
    return value or ""


def id_of(value: Any) -> str:
    """Return a column of ids as text, whatever its type."""
    if isinstance(value, bool) or not isinstance(value, str | int) or value == "":
        raise TypeError("not an id")
    return str(value)


def time_of(text: str) -> datetime:
    """Return a stored time; older deployments' columns have no zone, and hold UTC."""
    time = datetime.fromisoformat(text)
    return time if time.tzinfo else time.replace(tzinfo=UTC)


def json_of(value: Any) -> bytes:
    """Return a request's body."""
    return json.dumps(value, ensure_ascii=False).encode()


def columns_of(row: LogRow) -> dict[str, Any]:
    """Return the columns of a row that is to be written."""
    return {
        "turn_id": str(row.turn_id),
        "sender": row.sender,
        "user_id": row.user_id,
        "page": row.page,
        "conversation_id": str(row.conversation_id),
        "message": row.message,
        "context_data": row.context_data,
        "created_at": row.created_at.isoformat(),
    }
