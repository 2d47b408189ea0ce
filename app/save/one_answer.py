"""One key, one answer: what becomes of a row whose place is taken already.

A turn whose id was made of a key may be asked for again, also of another process, while or after it was answered or cut
short. Its rows have one place each, and whoever comes first has it; but a whole answer takes the place of one that was
cut short. The two may meet in any order: an answer that was cut short may be stored after the request that repeats it
has begun, or be delivered from an outbox long after the whole one.

Rejected: one upsert that merges. It cannot tell whole from cut short, and the last writer would have the place.
"""

from datetime import datetime

from app.clients.ports import Database, LogRow
from app.errors import DatabaseFault
from app.standing import goes_over
from app.turn import EarlierTurn, StoredMessage


async def stands(database: Database, row: LogRow) -> bool:
    """Return whether a row whose place was taken is there all the same: as it is, or over one that was cut short.

    Raises:
        DatabaseFault: it could not be read or written, or what is there cannot be replaced.
    """
    tried: datetime | None = None
    while True:
        found = _in_its_place(row, await database.turn(row.user_id, row.turn_id))
        if found is None:
            return False  # it was removed this moment
        if not goes_over(row, found):
            return found.message == row.message
        if found.created_at == tried:  # nobody else did: a database that takes rows and changes none
            raise DatabaseFault("database_unavailable", "an answer cannot be replaced", error_type="not_replaced")
        if await database.replace_answer(row, found.created_at):
            return True
        tried = found.created_at


def _in_its_place(row: LogRow, turn: EarlierTurn | None) -> StoredMessage | None:
    if turn is None:
        return None
    return turn.question if row.sender == "user" else turn.answer
