"""Conversations as a list shows them, and places in an order of rows from which a page goes on. Pure.

Both lists are in the order (time, id), newest first. A place is between two rows of it, so that what arrives above it
changes nothing below: no row of an older page is lost or shown twice.
"""

import unicodedata
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from app.turn import Sender, StoredMessage

TITLE_CHARS = 40
"""Of a new conversation's first message, as its title."""
RowId = int | uuid.UUID


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """What comes before it is older than `at`, or of that very time with a smaller id.

    Args:
        at: the time.
        id: of the row behind the place; without one nothing of that very time comes before it.
        after_ties: everything that is stored with that very time comes before it.
    """

    at: datetime
    id: RowId | None = None
    after_ties: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageName:
    """A message as a client knows it: by its row's `id`, or by its turn and sender, or by either (a bare UUID)."""

    id: RowId | None = None
    turn_id: uuid.UUID | None = None
    sender: Sender = "assistant"


Before = Place | MessageName


@dataclass(frozen=True, slots=True, kw_only=True)
class ConversationHead:
    """A conversation without its messages. `updated_at` is the time of its newest message, or of its making.

    `is_stored` is false of one whose first messages still wait for the database.
    """

    id: uuid.UUID
    title: str | None
    page_id: str | None
    created_at: datetime
    updated_at: datetime
    is_active: bool = True
    is_stored: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class MessagePage:
    """Messages of a conversation, oldest first; `next_before` leads to the older ones, None where there are none."""

    conversation_id: uuid.UUID
    messages: Sequence[StoredMessage]
    next_before: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadPage:
    """Conversations, newest activity first; `next_before` leads to those after them, None where there are none."""

    heads: Sequence[ConversationHead]
    next_before: str | None = None


def title_of(message: str) -> str:
    """Return the title of a conversation that begins with `message`."""
    return " ".join(message.split())[:TITLE_CHARS]


def is_before(head: ConversationHead, place: Place) -> bool:
    """Return whether a conversation comes after `place` in the list, which shows the newest first."""
    if head.updated_at != place.at:
        return head.updated_at < place.at
    return isinstance(place.id, uuid.UUID) and head.id < place.id


def contains(text: str | None, wanted: str) -> bool:
    """Return whether a text has `wanted` in it, whatever the case of either."""
    return wanted.casefold() in (text or "").casefold()


def has_controls(text: str) -> bool:
    """Return whether there are control characters or line ends in a text that is one line."""
    return any(unicodedata.category(char) in ("Cc", "Zl", "Zp") for char in text)


def iso_time(at: datetime) -> str:
    """Return a time as lists and places have it: UTC, to the microsecond, with `Z`."""
    return at.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
