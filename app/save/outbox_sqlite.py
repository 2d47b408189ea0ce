"""The outbox's tables and everything that is said to them; each function runs on one connection, in one transaction.

A row is stored as the bytes of its JSON, which take what a text of SQLite refuses, such as half a surrogate pair.

A row is known by its key and its time: a turn that is asked for again has rows of the same keys, which are others.

What cannot be read (a file may be damaged, or edited by hand) is left out of what is read, and stays in the file.
"""

import contextlib
import json
import os
import sqlite3
import uuid
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Final, Literal, TypeVar, get_args

from app.clients.ports import LogRow
from app.save.outbox_values import MAX_WINNERS, OutboxEntry, OutboxError
from app.sqlite_wal import switch_to_wal
from app.turn import Sender

Sync = Literal["full", "normal"]
T = TypeVar("T")

BUSY_TIMEOUT_S: Final = 2.0
"""Nobody else writes to the file; a person who looks into it with a tool may hold it for a moment."""
APPLICATION_ID: Final = 0x6E636F62  # "ncob", by which a file is known as an outbox
VERSION: Final = 1

SCHEMA: Final = (
    """CREATE TABLE entries (
         id INTEGER PRIMARY KEY AUTOINCREMENT,
         position INTEGER NOT NULL,
         turn_id TEXT NOT NULL,
         sender TEXT NOT NULL,
         created_at TEXT NOT NULL,
         row BLOB NOT NULL,
         attempts INTEGER NOT NULL DEFAULT 0,
         reason TEXT,
         UNIQUE (turn_id, sender, created_at)
       )""",
    "CREATE TABLE winners (loser TEXT PRIMARY KEY, winner TEXT NOT NULL)",
    f"PRAGMA application_id = {APPLICATION_ID}",
    f"PRAGMA user_version = {VERSION}",
)

_INSERT: Final = (
    "INSERT INTO entries (position, turn_id, sender, created_at, row, attempts, reason) VALUES (?, ?, ?, ?, ?, ?, ?)"
    " ON CONFLICT (turn_id, sender, created_at) DO NOTHING"
)


_SENDERS: Final = get_args(Sender)
_SELECT: Final = "SELECT id, position, turn_id, sender, row, attempts, reason FROM entries "
UNREADABLE: Final = (ValueError, LookupError, TypeError, AttributeError, RecursionError)
"""What reading a damaged row may raise: no UTF-8, no JSON, no id, nothing of a name, another type, too deep."""


@dataclass(frozen=True, slots=True)
class Packed:
    """An entry on its way into the file, its row as it is stored."""

    entry: OutboxEntry
    row: bytes


Winners = dict[uuid.UUID, uuid.UUID]
"""The conversations that stand, by those that lost their page to them."""


@dataclass(frozen=True, slots=True)
class Contents:
    """What is in a file; `unreadable` is how many entries and winners are, beside these, that cannot be read."""

    entries: list[OutboxEntry]
    winners: Winners
    unreadable: int


def pack(row: LogRow, title: str | None, position: int, *, stands: bool = False) -> Packed:
    """Return the row as an entry that has no id yet.

    Raises:
        ValueError: its context is nothing that JSON can say.
    """
    fields = {
        "user_id": row.user_id,
        "page": row.page,
        "conversation_id": str(row.conversation_id),
        "message": row.message,
        "context_data": dict(row.context_data),
        "created_at": row.created_at.isoformat(),
        "title": title,
        "stands": stands,
    }
    # No NaN: PostgREST would refuse the whole request, and take all deliveries down with it.
    data = json.dumps(fields, ensure_ascii=False, allow_nan=False).encode("utf-8", "surrogatepass")
    return Packed(OutboxEntry(id=0, position=position, row=row, title=title, size=len(data), stands=stands), data)


def connect(path: Path, sync: Sync) -> sqlite3.Connection:
    """Open the outbox at `path`, made when missing, in WAL mode; what a commit waits for is `sync`.

    A new file is for nobody else to read; SQLite makes what stands beside it alike.

    Raises:
        OutboxError: `not_ours`: it is another program's, which is left as it is, or of a newer version.
        OSError: it cannot be made.
        sqlite3.Error: it cannot be opened, or is damaged.
    """
    with contextlib.suppress(FileExistsError):
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    connection = sqlite3.connect(path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False)
    try:
        _prepare(connection)
        switch_to_wal(connection, BUSY_TIMEOUT_S)
        connection.execute(f"PRAGMA synchronous = {sync}")
    except BaseException:
        connection.close()
        raise
    return connection


def _prepare(connection: sqlite3.Connection) -> None:
    """Make the tables in a file that has none."""
    with transaction(connection):
        if _number(connection, "PRAGMA application_id") == APPLICATION_ID:
            if _number(connection, "PRAGMA user_version") != VERSION:
                raise OutboxError("not_ours", "it was made by a newer version")
        elif _number(connection, "SELECT count(*) FROM sqlite_schema"):
            raise OutboxError("not_ours", "it is no outbox")
        else:
            for statement in SCHEMA:
                connection.execute(statement)


def _number(connection: sqlite3.Connection, sql: str) -> int:
    return int(connection.execute(sql).fetchone()[0])


class transaction:  # noqa: N801 - it is used as a function
    """A write transaction around a block: all of it or nothing."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def __enter__(self) -> None:
        self._connection.execute("BEGIN IMMEDIATE")

    def __exit__(self, failed: type[BaseException] | None, *_: object) -> None:
        if failed is None:
            try:
                self._connection.execute("COMMIT")
            except BaseException:
                self._connection.rollback()
                raise
        else:
            self._connection.rollback()


def load(connection: sqlite3.Connection) -> Contents:
    """Return what is in the file."""
    rows = connection.execute(_SELECT + "ORDER BY id").fetchall()
    entries = [packed.entry for packed in map(_read, rows) if packed]
    winners, not_winners = _winners(connection)
    return Contents(entries, winners, len(rows) - len(entries) + not_winners)


def _winners(connection: sqlite3.Connection) -> tuple[Winners, int]:
    """Return those that can be read, and how many cannot."""
    winners, unreadable = {}, 0
    for loser, winner in connection.execute("SELECT loser, winner FROM winners ORDER BY rowid"):
        try:
            winners[uuid.UUID(loser)] = uuid.UUID(winner)
        except UNREADABLE:
            unreadable += 1
    return winners, unreadable


def _read(row: tuple[Any, ...]) -> Packed | None:
    try:
        return Packed(_entry(*row), row[4])
    except UNREADABLE:
        return None


def _entry(
    id_: int, position: int, turn_id: str, sender: Any, data: bytes, attempts: int, reason: str | None
) -> OutboxEntry:
    fields = json.loads(data.decode("utf-8", "surrogatepass"))
    row = LogRow(
        turn_id=uuid.UUID(turn_id),
        sender=_SENDERS[_SENDERS.index(sender)],
        user_id=_a(str, fields["user_id"]),
        page=_a(str, fields["page"]),
        conversation_id=uuid.UUID(fields["conversation_id"]),
        message=_a(str, fields["message"]),
        context_data=_a(dict, fields["context_data"]),
        created_at=_with_zone(datetime.fromisoformat(fields["created_at"])),
    )
    title = None if fields["title"] is None else _a(str, fields["title"])
    return OutboxEntry(
        id=id_,
        position=_a(int, position),
        row=row,
        title=title,
        size=len(data),
        stands=_a(bool, fields.get("stands", False)),
        attempts=_a(int, attempts),
        reason=None if reason is None else _a(str, reason),
    )


def _a(kind: type[T], value: Any) -> T:
    if not isinstance(value, kind):
        raise TypeError(f"{type(value)} is no {kind}")
    return value


def _with_zone(time: datetime) -> datetime:
    if time.tzinfo is None:
        raise ValueError("a time without its zone")
    return time


def insert(connection: sqlite3.Connection, packed: Iterable[Packed]) -> list[OutboxEntry]:
    """Insert entries, and return those whose key was not there yet, with their ids.

    A turn of which something was set aside stays together: what is queued of it later is set aside too.
    """
    inserted = []
    for each in packed:
        row = each.entry.row
        reason = each.entry.reason or _reason_of_turn(connection, row.turn_id)
        cursor = connection.execute(
            _INSERT,
            (
                each.entry.position,
                str(row.turn_id),
                row.sender,
                row.created_at.isoformat(),
                each.row,
                each.entry.attempts,
                reason,
            ),
        )
        if cursor.rowcount:
            assert cursor.lastrowid is not None
            inserted.append(replace(each.entry, id=cursor.lastrowid, reason=reason))
    return inserted


def _reason_of_turn(connection: sqlite3.Connection, turn_id: uuid.UUID) -> str | None:
    found = connection.execute(
        "SELECT reason FROM entries WHERE turn_id = ? AND reason IS NOT NULL LIMIT 1", (str(turn_id),)
    ).fetchone()
    return found[0] if found else None


def remove(connection: sqlite3.Connection, ids: Collection[int]) -> None:
    """Delete entries."""
    connection.executemany("DELETE FROM entries WHERE id = ?", [(id_,) for id_ in ids])


def set_aside(connection: sqlite3.Connection, turns: Mapping[uuid.UUID, str]) -> None:
    """Give all entries of these turns the reasons for which they are not to be delivered."""
    pairs = [(reason, str(turn_id)) for turn_id, reason in turns.items()]
    connection.executemany("UPDATE entries SET reason = ? WHERE turn_id = ?", pairs)


def take_back(connection: sqlite3.Connection, turn_id: uuid.UUID) -> None:
    """Let all entries of a turn be delivered again."""
    connection.execute("UPDATE entries SET reason = NULL WHERE turn_id = ?", (str(turn_id),))


def count_attempts(connection: sqlite3.Connection, ids: Collection[int]) -> None:
    """Count one more attempt for each of these entries."""
    connection.executemany("UPDATE entries SET attempts = attempts + 1 WHERE id = ?", [(id_,) for id_ in ids])


def map_conversation(connection: sqlite3.Connection, loser: uuid.UUID, winner: uuid.UUID) -> None:
    """Keep the id under which a conversation stands, which may be its own again."""
    connection.execute("DELETE FROM winners WHERE loser = ?", (str(loser),))
    if winner != loser:
        connection.execute("INSERT INTO winners (loser, winner) VALUES (?, ?)", (str(loser), str(winner)))
    _forget_oldest_winners(connection)


def _forget_oldest_winners(connection: sqlite3.Connection) -> None:
    connection.execute("DELETE FROM winners WHERE rowid <= (SELECT max(rowid) FROM winners) - ?", (MAX_WINNERS,))


@dataclass(frozen=True, slots=True)
class Luggage:
    """Some of what a file holds, on its way to another one."""

    entries: list[Packed]
    winners: Winners


def ids_and_sizes(connection: sqlite3.Connection) -> list[tuple[int, int]]:
    """Return of each entry, oldest first, its id and some measure of what its row takes: its bytes, unless damaged."""
    return connection.execute("SELECT id, length(row) FROM entries ORDER BY position, id").fetchall()


def take_out(connection: sqlite3.Connection, ids: Sequence[int]) -> Luggage:
    """Return the entries of these ids, as far as they can be read, and all winners; they stay where they are."""
    found = (connection.execute(_SELECT + "WHERE id = ?", (id_,)).fetchone() for id_ in ids)
    entries = [packed for packed in (_read(row) for row in found if row) if packed]
    return Luggage(entries, _winners(connection)[0])


def put_in(connection: sqlite3.Connection, luggage: Luggage) -> list[OutboxEntry]:
    """Insert what the file does not hold yet, and return these entries.

    They keep their places in the order of delivery. They are on the disk when it returns, whatever `synchronous` says:
    writing the log back syncs it first.
    """
    with transaction(connection):
        pairs = [(str(loser), str(winner)) for loser, winner in luggage.winners.items()]
        connection.executemany("INSERT OR IGNORE INTO winners (loser, winner) VALUES (?, ?)", pairs)
        _forget_oldest_winners(connection)
        inserted = insert(connection, luggage.entries)
    connection.execute("PRAGMA wal_checkpoint(FULL)")
    return inserted


def drop(connection: sqlite3.Connection, luggage: Luggage) -> None:
    """Delete what has arrived elsewhere."""
    remove(connection, [packed.entry.id for packed in luggage.entries])
    losers = [(str(loser),) for loser in luggage.winners]
    connection.executemany("DELETE FROM winners WHERE loser = ?", losers)


def left(connection: sqlite3.Connection) -> int:
    """Return how many entries and winners the file holds, whether or not they can be read."""
    return _number(connection, "SELECT (SELECT count(*) FROM entries) + (SELECT count(*) FROM winners)")
