"""Stored messages as the AI SDK's `UIMessage[]`, to start `useChat` with. Pure.

Ids: an answer's is its turn's id, as in the stream that it came in. A question's is the id under which the SDK sent it,
where its row has kept that (`context_data.message_id`), else `<turn id>:user`. So what a front end that starts from the
history sends to regenerate or edit a message leads back to its turn, as what it sent before did: see app/standing.py.
"""

from collections.abc import Iterator, Sequence
from datetime import UTC
from itertools import count
from typing import Any

from app.standing import MESSAGE_ID, QUESTION_SUFFIX, standing
from app.turn import StoredMessage

_KEPT = ("trace_id", "performance_metrics", "token_usage", "finish")


def ui_messages(rows: Sequence[StoredMessage], conversation_id: object) -> list[dict[str, Any]]:
    """Return the messages that a user of the SDK has on their screen.

    A regenerated turn hides the one that it replaced and what came after that, as the SDK cuts its own list. A turn
    that was replaced by one beyond these rows, or replaces such a one, hides nothing.

    Args:
        rows: oldest first.
        conversation_id: theirs.
    """
    taken: set[str] = set()
    return [_message(row, str(conversation_id), taken) for row in standing(rows)]


def _names(row: StoredMessage) -> Iterator[str]:
    """Yield ids for a message, the best first, without end. Rows of an older back end have their time alone."""
    sent_as = row.context_data.get(MESSAGE_ID)
    if row.sender == "user" and isinstance(sent_as, str) and sent_as:
        yield sent_as
    if row.turn_id is not None:
        yield row.turn_id + (QUESTION_SUFFIX if row.sender == "user" else "")
    plain = f"{row.created_at.astimezone(UTC).isoformat()}:{row.sender}"
    yield plain
    yield from (f"{plain}:{n}" for n in count(2))


def _message(row: StoredMessage, conversation_id: str, taken: set[str]) -> dict[str, Any]:
    message_id = next(name for name in _names(row) if name not in taken)
    taken.add(message_id)
    metadata = {
        "conversation_id": conversation_id,
        "turn_id": row.turn_id,
        "created_at": row.created_at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        **{key: row.context_data.get(key) for key in _KEPT},
    }
    return {
        "id": message_id,
        "role": row.sender,
        "metadata": {key: value for key, value in metadata.items() if value is not None},
        "parts": [{"type": "text", "text": row.message}],
    }
