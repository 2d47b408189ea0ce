"""`before` of a list: from the text of a query to a place, or to the name of a message. Pure.

`<time>~<id>` is what `x-next-before` gives. A time alone leaves out everything of that very time: where rows share it,
some of which were shown, only the former goes on without a gap.
"""

import re
import uuid
from datetime import UTC, datetime
from typing import Any

from app.conversations import Before, MessageName, Place
from app.turn import Sender

MAX_BEFORE_CHARS = 100
_TIME = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d(:\d\d(\.\d{1,6})?)?([Zz]|[+ -]\d\d:?\d\d)?", re.ASCII)
_COUNTED = re.compile(r"[0-9]{1,18}", re.ASCII)
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII | re.IGNORECASE)
_SENDERS: dict[str, Sender] = {":user": "user", ":assistant": "assistant"}


def message_before(value: Any) -> Before:
    """Return where a page of messages is to end.

    A message's name is its row's id, or, as the AI SDK's list has it, its turn's id, with `:user` for the question.

    Raises:
        ValueError: it is neither a time nor such a name.
    """
    text = str(value)[: MAX_BEFORE_CHARS + 1]
    found = _place(text, counted=True) or _message(text)
    if found is None:
        raise ValueError("must be a time, a message's id, or what x-next-before gave")
    return found


def conversation_before(value: Any) -> Place:
    """Return the place after which the list of conversations is to go on.

    Raises:
        ValueError: it is no such place.
    """
    found = _place(str(value)[: MAX_BEFORE_CHARS + 1], counted=False)
    if found is None:
        raise ValueError("must be a time, or what x-next-before gave")
    return found


def uuid_of(text: str) -> uuid.UUID | None:
    """Return the UUID that a text is, in its usual spelling and no other; else None."""
    return uuid.UUID(text) if _UUID.fullmatch(text) else None


def _place(text: str, *, counted: bool) -> Place | None:
    time, separator, id_ = text.partition("~")
    at, row_id = _moment(time), uuid_of(id_) or (int(id_) if counted and _COUNTED.fullmatch(id_) else None)
    if at is None or (separator and row_id is None):
        return None
    return Place(at=at, id=row_id)


def _moment(text: str) -> datetime | None:
    """Return a time. One without a zone is UTC, and a `+` may be the space that a query makes of it."""
    if not _TIME.fullmatch(text):
        return None
    try:
        moment = datetime.fromisoformat(text[:10] + "T" + text[11:].upper().replace(" ", "+"))
        return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        return None


def _message(text: str) -> MessageName | None:
    if _COUNTED.fullmatch(text):
        return MessageName(id=int(text))
    if alone := uuid_of(text):
        return MessageName(id=alone, turn_id=alone)
    name, separator, sender = text.partition(":")
    turn_id, known = uuid_of(name), _SENDERS.get(separator + sender)
    return MessageName(turn_id=turn_id, sender=known) if turn_id and known else None
