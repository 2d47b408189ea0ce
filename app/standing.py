"""Which turns of a conversation stand, and which turn the id of a message leads to. Pure.

A turn that takes the place of another (`context_data.regenerates` of its rows names that one) stands where the other
stood: that one, and what came after it, is left out, as a front end cuts its own list of messages.
"""

import uuid
from collections.abc import Iterable, Sequence

from app.clients.ports import LogRow, RowKey
from app.turn import Grounding, StoredMessage, is_whole

QUESTION_SUFFIX = ":user"
MESSAGE_ID = "message_id"
"""Where a question's row keeps the AI SDK's id of it, in its `context_data`."""
REGENERATES = "regenerates"
"""Where the rows of a turn keep which one it takes the place of, in their `context_data`."""


def standing(rows: Iterable[StoredMessage]) -> list[StoredMessage]:
    """Return the rows of the turns that no later one replaced, of `rows` that come oldest first.

    A turn that was replaced by one beyond these rows, or replaces such a one, hides nothing. A row that was stored late
    (the answer of a turn that was stopped to be asked again) is left out with its turn.
    """
    kept: list[StoredMessage] = []
    gone: set[str] = set()
    for row in rows:
        old = row.context_data.get(REGENERATES)
        if old and old != row.turn_id:
            cut = kept[_first(kept, str(old)) :]
            kept = kept[: len(kept) - len(cut)] + [other for other in cut if other.turn_id == row.turn_id]
            gone |= {str(old), *(other.turn_id for other in cut if other.turn_id)} - {row.turn_id or ""}
        if row.turn_id not in gone:
            kept.append(row)
    return kept


def history(grounding: Grounding) -> Sequence[StoredMessage]:
    """Return what stands of a turn's conversation, as far as the turn that this one takes the place of."""
    rows = standing(grounding.conversation.messages)
    return rows if grounding.regenerates is None else before(rows, grounding.regenerates)


def before(rows: Sequence[StoredMessage], turn_id: str) -> Sequence[StoredMessage]:
    """Return the rows that come before a turn's first; all of them, where it has none."""
    return rows[: _first(rows, turn_id)]


def turn_of(message_id: str) -> uuid.UUID | None:
    """Return the turn that the id of an answer, or of a question that the SDK did not name, is made of; else None.

    There need not be such a turn: a front end may make UUIDs of its own for its questions.
    """
    name = message_id.removesuffix(QUESTION_SUFFIX)
    try:
        turn_id = uuid.UUID(name)
    except ValueError:
        return None
    return turn_id if str(turn_id) == name else None


def turn_named(rows: Sequence[StoredMessage], message_id: str) -> str | None:
    """Return the turn that a front end means by a message's id, if it is among `rows`, which come oldest first.

    An id that several questions had (an edited message keeps its own) means the newest. Of a turn that was replaced
    meanwhile, from another tab, the one that stands in its place is meant.
    """
    made_of = turn_of(message_id)
    known = {row.turn_id for row in rows}
    found = str(made_of) if made_of and str(made_of) in known else _asked_as(rows, message_id)
    later = {str(row.context_data[REGENERATES]): row.turn_id for row in rows if row.context_data.get(REGENERATES)}
    seen = set()
    while found in later and found not in seen:
        seen.add(found)
        found = later[found]
    return found


def _asked_as(rows: Sequence[StoredMessage], message_id: str) -> str | None:
    named = (row for row in reversed(rows) if row.sender == "user" and row.context_data.get(MESSAGE_ID) == message_id)
    return next((row.turn_id for row in named), None)


def _first(rows: Sequence[StoredMessage], turn_id: str) -> int:
    return next((i for i, row in enumerate(rows) if row.turn_id == turn_id), len(rows))


def one_of_each_key(rows: Iterable[LogRow]) -> list[LogRow]:
    """Return of the rows of each key the one that stands: the first, unless another goes over it."""
    best: dict[RowKey, LogRow] = {}
    for row in rows:
        if row.key not in best or goes_over(row, best[row.key]):
            best[row.key] = row
    return list(best.values())


def goes_over(row: LogRow, other: LogRow | StoredMessage) -> bool:
    """Return whether a row takes the place that another row of its key has.

    A whole answer takes that of one cut short, and a question that of the same one, asked later.
    """
    if row.sender == "user":
        return row.message == other.message and row.created_at < other.created_at
    return is_whole(row.message, row.context_data) and not is_whole(other.message, other.context_data)


def is_superseded(row: LogRow, standing: LogRow | StoredMessage) -> bool:
    """Return whether a row says what the one in its place does not: a whole answer, or a question."""
    if row.message == standing.message:
        return False
    return row.sender == "user" or is_whole(row.message, row.context_data)
