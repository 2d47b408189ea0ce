"""One key, one answer: what becomes of a row whose place is taken already.

A turn whose id was made of a key may be asked for again, also of another process, while or after it was answered or cut
short. Its rows have one place each, and whoever comes first has it; but a whole answer takes the place of one that was
cut short, and the question of the request that was first that of a later one (answers are never older than their
questions). The rows may meet in any order: an answer that was cut short may be stored after the request that repeats it
has begun, or be delivered from an outbox long after the whole one.

Rejected: one upsert that merges. It cannot tell whole from cut short, and the last writer would have the place.
"""

from datetime import datetime

from app.clients.ports import Database, LogRow
from app.errors import DatabaseFault
from app.standing import goes_over
from app.turn import EarlierTurn, StoredMessage


async def what_stands(database: Database, row: LogRow) -> LogRow | StoredMessage:
    """Return what is in the place of a row whose place was taken: the row itself, where it goes over what was there.

    Raises:
        DatabaseFault: it could not be read, written or replaced.
    """
    tried: datetime | None = None
    while (found := await _in_the_place_of(database, row)) is not None:
        if not goes_over(row, found):
            return found
        if found.created_at == tried:  # nobody else did: a database that takes rows and changes none
            raise DatabaseFault("database_unavailable", "a row cannot be replaced", error_type="not_replaced")
        if await database.replace_row(row, found.created_at):
            return row
        tried = found.created_at
    return row


async def _in_the_place_of(database: Database, row: LogRow) -> StoredMessage | None:
    """Return what is in a row's place, or None when the row itself was written there after all."""
    for _ in range(2):
        if (found := _of_sender(row, await database.turn(row.user_id, row.turn_id))) is not None:
            return found
        if row.key not in await database.write_rows([row]):  # what was there is gone
            return None
    # Taken, and not to be seen: whoever answers our reads lags behind.
    raise DatabaseFault("database_unavailable", "a row cannot be read", error_type="not_readable")


def _of_sender(row: LogRow, turn: EarlierTurn | None) -> StoredMessage | None:
    if turn is None:
        return None
    return turn.question if row.sender == "user" else turn.answer
