"""Conversations as JSON. Pure."""

from collections.abc import Sequence
from typing import Any

from app.conversations import ConversationHead, iso_time


def conversation_body(head: ConversationHead) -> dict[str, Any]:
    """Return a conversation without its messages."""
    return {
        "id": str(head.id),
        "title": head.title,
        "page_id": head.page_id,
        "created_at": iso_time(head.created_at),
        "updated_at": iso_time(head.updated_at),
    }


def conversations_body(heads: Sequence[ConversationHead]) -> list[dict[str, Any]]:
    """Return conversations in their order."""
    return [conversation_body(head) for head in heads]
