"""The outbox's tables and everything that is said to them; each function runs on one connection, in one transaction.

A row is stored as the bytes of its JSON, which take what a text of SQLite refuses, such as half a surrogate pair.

A row is known by its key and its time: a turn that is asked for again has rows of the same keys, which are others.
"""

import json
import sqlite3
import time
import uuid
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Final, Literal

from app.clients.ports import LogRow
from app.save.outbox_values import MAX_WINNERS, OutboxEntry, OutboxError

Sync = Literal["full", "normal"]

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


@dataclass(frozen=True, slots=True)
class Packed:
    """An entry on its way into the file, its row as it is stored."""

    entry: OutboxEntry
    row: bytes


Contents = tuple[list[OutboxEntry], dict[uuid.UUID, uuid.UUID]]
"""Entries, and winners by loser."""


def pack(row: LogRow, title: str | None, position: int) -> Packed:
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
    }
    # No NaN: PostgREST would refuse the whole request, and take all deliveries down with it.
    data = json.dumps(fields, ensure_ascii=False, allow_nan=False).encode("utf-8", "surrogatepass")
    return Packed(OutboxEntry(id=0, position=position, row=row, title=title, size=len(data)), data)


def connect(path: Path, sync: Sync) -> sqlite3.Connection:
    """Open the outbox at `path`, made when missing, in WAL mode; what a commit waits for is `sync`.

    Raises:
        OutboxError: `not_ours`: it is another program's, which is left as it is, or of a newer version.
        sqlite3.Error: it cannot be opened, or is damaged.
    """
    connection = sqlite3.connect(path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False)
    try:
        _prepare(connection)
        _switch_to_wal(connection)
        connection.execute(f"PRAGMA synchronous = {sync}")
    except BaseException:
        connection.close()
        raise
    return connection


def _switch_to_wal(connection: sqlite3.Connection) -> None:
    """Make the file a WAL one; the switch is refused at once, without the busy timeout, while somebody reads."""
    give_up = time.monotonic() + BUSY_TIMEOUT_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as exc:
            if exc.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > give_up:
                raise
        time.sleep(0.005)


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
    rows = connection.execute("SELECT id, position, turn_id, sender, row, attempts, reason FROM entries ORDER BY id")
    winners = connection.execute("SELECT loser, winner FROM winners ORDER BY rowid")
    return [_entry(*row) for row in rows], {uuid.UUID(loser): uuid.UUID(winner) for loser, winner in winners}


def _entry(
    id_: int, position: int, turn_id: str, sender: Any, data: bytes, attempts: int, reason: str | None
) -> OutboxEntry:
    fields = json.loads(data.decode("utf-8", "surrogatepass"))
    row = LogRow(
        turn_id=uuid.UUID(turn_id),
        sender=sender,
        user_id=fields["user_id"],
        page=fields["page"],
        conversation_id=uuid.UUID(fields["conversation_id"]),
        message=fields["message"],
        context_data=fields["context_data"],
        created_at=datetime.fromisoformat(fields["created_at"]),
    )
    title = fields["title"]
    return OutboxEntry(
        id=id_, position=position, row=row, title=title, size=len(data), attempts=attempts, reason=reason
    )


def insert(connection: sqlite3.Connection, packed: Iterable[Packed]) -> list[OutboxEntry]:
    """Insert entries, and return those whose key was not there yet, with their ids.

    A turn of which something was set aside stays together: what is queued of it later is set aside too.
    """
    inserted = []
    for each in packed:
        row = each.entry.row
        reason = _reason_of_turn(connection, row.turn_id)
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
    connection.execute("DELETE FROM winners WHERE rowid <= (SELECT max(rowid) FROM winners) - ?", (MAX_WINNERS,))


@dataclass(frozen=True, slots=True)
class Luggage:
    """What a file holds, as it is stored, on its way to another one."""

    entries: list[tuple[Any, ...]]
    winners: list[tuple[Any, ...]]


def take_out(connection: sqlite3.Connection) -> Luggage:
    """Return what the file holds, which stays there."""
    entries = connection.execute(
        "SELECT position, turn_id, sender, created_at, row, attempts, reason FROM entries ORDER BY id"
    )
    winners = connection.execute("SELECT loser, winner FROM winners ORDER BY rowid")
    return Luggage(entries.fetchall(), winners.fetchall())


def put_in(connection: sqlite3.Connection, luggage: Luggage) -> int:
    """Insert what the file does not hold yet, and return how many entries these were.

    They keep their places in the order of delivery. They are on the disk when it returns, whatever `synchronous` says:
    writing the log back syncs it first.
    """
    with transaction(connection):
        inserted = connection.executemany(_INSERT, luggage.entries).rowcount
        connection.executemany("INSERT OR IGNORE INTO winners (loser, winner) VALUES (?, ?)", luggage.winners)
    connection.execute("PRAGMA wal_checkpoint(FULL)")
    return max(inserted, 0)
