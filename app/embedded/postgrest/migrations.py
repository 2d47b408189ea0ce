"""Brings a database file to the newest schema: each file once, each in a transaction of its own.

`PRAGMA user_version` counts the files that were applied; it is written in the file's own transaction, so a crash leaves
a file either applied and counted, or neither.
"""

import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path

from app.embedded.postgrest.errors import EmbeddedDatabaseError


def migrate(connection: sqlite3.Connection, schema: Sequence[Path]) -> None:
    """Apply the files of `schema` that were not applied yet, in order; on the newest schema it only takes the lock.

    Raises:
        EmbeddedDatabaseError: a file does not apply, or the database was made by a newer version of this program.
        sqlite3.Error: the database cannot be written.
    """
    while (applied := _apply_next(connection, schema)) < len(schema):
        pass
    if applied > len(schema):
        raise EmbeddedDatabaseError(f"the database was made by a newer version: schema {applied}, not {len(schema)}")


def _apply_next(connection: sqlite3.Connection, schema: Sequence[Path]) -> int:
    connection.execute("BEGIN IMMEDIATE")  # before looking: another process may be starting on the same file
    try:
        applied = int(connection.execute("PRAGMA user_version").fetchone()[0])
        if applied < len(schema):
            _apply(connection, schema[applied])
            applied += 1
            connection.execute(f"PRAGMA user_version = {applied}")
        connection.execute("COMMIT")
    except BaseException:
        connection.rollback()
        raise
    return applied


def _apply(connection: sqlite3.Connection, file: Path) -> None:
    try:
        for statement in statements(file.read_text(encoding="utf-8")):
            connection.execute(statement)
    except (sqlite3.OperationalError, sqlite3.IntegrityError, OSError) as exc:
        raise EmbeddedDatabaseError(f"the schema file {file.name} does not apply: {exc}") from exc


def statements(script: str) -> Iterator[str]:
    """Yield the statements of an SQL script; each must end at the end of a line, triggers at their END."""
    waiting = ""
    for line in script.splitlines(keepends=True):
        waiting += line
        if sqlite3.complete_statement(waiting):
            yield waiting
            waiting = ""
    if waiting.strip():
        yield waiting
