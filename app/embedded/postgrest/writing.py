"""Inserts, updates and deletes on a connection that is inside a transaction; each returns the rows it touched.

Rows are inserted one statement each: the statement is prepared once, absent columns simply stay out of it (SQLite has
no DEFAULT to put in their place), and a broken rule is known to be that row's.
"""

# ruff: noqa: S608 - names are quoted and the catalogue's own, values are parameters

import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass

from app.embedded.postgrest.body import Fields
from app.embedded.postgrest.column_types import Stored, from_json
from app.embedded.postgrest.errors import DialectError
from app.embedded.postgrest.reading import Sql, plan_filter, quoted
from app.embedded.postgrest.request import Request, Resolution
from app.embedded.postgrest.tables import Catalog, Table
from app.embedded.postgrest.violations import Values, null_violation, violation


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """Row ids in the order of the body; `inserted` counts those that were not there before."""

    rowids: tuple[int, ...]
    inserted: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Conflict:
    """What an upsert does about a row that has the same `columns` already; a merge sets `merged` in it."""

    columns: tuple[str, ...]
    resolution: Resolution
    merged: tuple[str, ...]


def check_columns(table: Table, names: Iterable[str]) -> None:
    """Make sure that a write names only columns of the table.

    Raises:
        DialectError: PGRST204, it names another.
    """
    for name in names:
        if name not in table.columns:
            message = f"Could not find the '{name}' column of '{table.name}' in the schema cache"
            raise DialectError("PGRST204", message)


def conflict_of(table: Table, request: Request, rows: list[Fields]) -> Conflict | None:
    """Return how the insert of `rows` meets existing ones; None when it does not expect any.

    Raises:
        DialectError: 42P10, no unique key is exactly the columns of `on_conflict`; 42703, one is unknown.
    """
    resolution, columns = request.prefer.resolution, request.on_conflict or table.primary_key
    if resolution is None or not columns:
        return None
    for column in columns:
        table.column(column)
    if not table.has_key(columns):
        message = "there is no unique or exclusion constraint matching the ON CONFLICT specification"
        raise DialectError("42P10", message)
    merged = request.columns or tuple(rows[0] if rows else ())
    return Conflict(columns=columns, resolution=resolution, merged=merged)


def insert(
    connection: sqlite3.Connection, catalog: Catalog, table: Table, rows: list[Fields], conflict: Conflict | None
) -> Written:
    """Insert the rows, or merge or skip those that meet `conflict`.

    Raises:
        DialectError: a value that does not fit, or a rule of the schema that is broken.
    """
    rowids: dict[int, None] = {}
    inserted = 0
    for row in rows:
        values = _stored(table, row)
        _check_required(table, values)
        existed = conflict is not None and _exists(connection, table, conflict, values)
        try:
            found = connection.execute(_insert_sql(table, tuple(values), conflict), tuple(values.values())).fetchall()
        except sqlite3.IntegrityError as exc:
            raise violation(connection, catalog, table, exc, values) from exc
        _check_once(rowids, found)
        rowids.update(dict.fromkeys(rowid for (rowid,) in found))
        inserted += len(found) if not existed else 0
    return Written(rowids=tuple(rowids), inserted=inserted)


def update(
    connection: sqlite3.Connection, catalog: Catalog, table: Table, request: Request, changes: Fields
) -> tuple[int, ...]:
    """Set `changes` in the rows that the request's filters choose, and return their row ids.

    Raises:
        DialectError: 21000, there is no filter; a value that does not fit, or a rule that is broken.
    """
    values, where = _stored(table, changes), _guarded_filter(catalog, table, request)
    if not values:
        return ()
    assignments = ", ".join(f"{quoted(column)} = ?" for column in values)
    sql = f"UPDATE {quoted(table.name)} AS t0 SET {assignments}{where[0]} RETURNING rowid"
    try:
        return tuple(rowid for (rowid,) in connection.execute(sql, (*values.values(), *where[1])))
    except sqlite3.IntegrityError as exc:
        raise violation(connection, catalog, table, exc, values, where) from exc


def chosen(connection: sqlite3.Connection, catalog: Catalog, table: Table, request: Request) -> tuple[int, ...]:
    """Return the row ids that the request's filters choose, in the order of the table.

    Raises:
        DialectError: 21000, there is no filter.
    """
    where = _guarded_filter(catalog, table, request)
    sql = f"SELECT t0.rowid FROM {quoted(table.name)} AS t0{where[0]} ORDER BY t0.rowid"
    return tuple(rowid for (rowid,) in connection.execute(sql, where[1]))


def delete(connection: sqlite3.Connection, catalog: Catalog, table: Table, request: Request) -> None:
    """Delete the rows that the request's filters choose.

    Raises:
        DialectError: 21000, there is no filter; 23503, a row of another table refers to one of them.
    """
    where = _guarded_filter(catalog, table, request)
    try:
        connection.execute(f"DELETE FROM {quoted(table.name)} AS t0{where[0]}", where[1])
    except sqlite3.IntegrityError as exc:
        raise violation(connection, catalog, table, exc, {}, where) from exc


def _stored(table: Table, row: Fields) -> dict[str, Stored]:
    return {column: from_json(table.columns[column].kind, value) for column, value in row.items()}


def _check_required(table: Table, values: Values) -> None:
    for column in table.columns.values():
        absent = column.name not in values and not column.generated
        if column.not_null and (absent or values.get(column.name, "") is None):
            raise null_violation(table, column.name)


def _insert_sql(table: Table, columns: tuple[str, ...], conflict: Conflict | None) -> str:
    names = f"({', '.join(map(quoted, columns))}) VALUES ({', '.join('?' * len(columns))})"
    source = names if columns else "DEFAULT VALUES"
    return f"INSERT INTO {quoted(table.name)} {source}{_on_conflict(columns, conflict)} RETURNING rowid"


def _on_conflict(columns: tuple[str, ...], conflict: Conflict | None) -> str:
    if conflict is None or not columns:  # SQLite allows no ON CONFLICT after DEFAULT VALUES; a default never repeats
        return ""
    target = f" ON CONFLICT ({', '.join(map(quoted, conflict.columns))}) DO"
    if conflict.resolution == "ignore-duplicates":
        return f"{target} NOTHING"
    # A column that this row leaves out is in `excluded` with its default, as in Postgres.
    merged = ", ".join(f"{quoted(column)} = excluded.{quoted(column)}" for column in conflict.merged)
    return f"{target} UPDATE SET {merged}"


def _exists(connection: sqlite3.Connection, table: Table, conflict: Conflict, values: Values) -> bool:
    where = " AND ".join(f"{quoted(column)} = ?" for column in conflict.columns)
    link = tuple(values.get(column) for column in conflict.columns)
    return connection.execute(f"SELECT 1 FROM {quoted(table.name)} WHERE {where}", link).fetchone() is not None


def _check_once(rowids: dict[int, None], found: list[tuple[int]]) -> None:
    if found and found[0][0] in rowids:
        message = "ON CONFLICT DO UPDATE command cannot affect row a second time"
        hint = "Ensure that no rows proposed for insertion within the same command have duplicate constrained values."
        raise DialectError("21000", message, hint=hint)


def _guarded_filter(catalog: Catalog, table: Table, request: Request) -> Sql:
    where = plan_filter(catalog, table, request.selection)
    if not where[0]:
        # Supabase loads the safeupdate extension for every API role, and this is what it answers.
        verb = request.verb.upper()
        raise DialectError("21000", f"{verb} requires a WHERE clause", status=400)
    return where
