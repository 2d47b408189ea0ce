"""Runs a planned reading on a connection and gives its rows as JSON objects."""

import sqlite3
from collections.abc import Iterable

from app.embedded.postgrest.column_types import Json, Stored, to_json
from app.embedded.postgrest.reading import Embedded, Reading

Row = dict[str, Json]


def read_rows(connection: sqlite3.Connection, reading: Reading, link: tuple[Stored, ...] = ()) -> list[Row]:
    """Return the rows of `reading`, embedded ones included; `link` holds the values of its link columns."""
    return [_row(connection, reading, values) for values in connection.execute(reading.sql, link + reading.params)]


def read_each(connection: sqlite3.Connection, reading: Reading, rowids: Iterable[int]) -> list[Row]:
    """Return the rows that have these row ids, in the order of the ids; `reading` is linked by `rowid`."""
    return [row for rowid in rowids for row in read_rows(connection, reading, (rowid,))]


def count_rows(connection: sqlite3.Connection, reading: Reading) -> int:
    """Return how many rows there are without regard to limit and offset."""
    return int(connection.execute(reading.count_sql, reading.params).fetchone()[0])


def _row(connection: sqlite3.Connection, reading: Reading, values: tuple[Stored, ...]) -> Row:
    row = {key: to_json(kind, value) for (key, kind), value in zip(reading.shown, values, strict=False)}
    for embedded in reading.embedded:
        if embedded.key is not None:
            row[embedded.key] = _embedded(connection, embedded, values[embedded.start : embedded.stop])
    return row


def _embedded(connection: sqlite3.Connection, embedded: Embedded, link: tuple[Stored, ...]) -> Json:
    rows: list[Json] = [*read_rows(connection, embedded.reading, link)]
    if embedded.many:
        return rows
    return rows[0] if rows else None
