"""Answers one parsed request on one connection, inside the transaction that the store has begun."""

import sqlite3
from typing import Final

from app.embedded.postgrest.body import parse_changes, parse_rows
from app.embedded.postgrest.column_types import Json
from app.embedded.postgrest.errors import DialectError, unsupported
from app.embedded.postgrest.reading import Reading, plan_reading
from app.embedded.postgrest.replies import Reply, changed_reply, check_single, inserted_reply, read_reply
from app.embedded.postgrest.request import Output, Request, Selection
from app.embedded.postgrest.rows import Row, count_rows, read_each, read_rows
from app.embedded.postgrest.tables import Catalog, Table
from app.embedded.postgrest.writing import check_columns, chosen, conflict_of, delete, insert, update

ROW_ID: Final = ("rowid",)


def answer(connection: sqlite3.Connection, catalog: Catalog, request: Request, body: bytes) -> Reply:
    """Do what the request asks, and return the answer.

    Raises:
        DialectError: it is refused; the caller undoes the transaction.
        sqlite3.Error: the database file failed.
    """
    return ANSWERS[request.verb](connection, catalog, catalog.table(request.table), request, body)


def _read(connection: sqlite3.Connection, catalog: Catalog, table: Table, request: Request, body: bytes) -> Reply:
    del body
    reading = plan_reading(catalog, table, request.selection)
    rows = read_rows(connection, reading)
    total = count_rows(connection, reading) if request.prefer.count else None
    return read_reply(request, rows, total)


def _insert(connection: sqlite3.Connection, catalog: Catalog, table: Table, request: Request, body: bytes) -> Reply:
    if request.selection.filters:
        raise unsupported("A filter on an insert is")
    reading = _shown_after(catalog, table, request)
    check_columns(table, request.columns or ())
    rows = parse_rows(body, request.columns, missing_default=request.prefer.missing_default)
    check_columns(table, rows[0] if rows else ())
    written = insert(connection, catalog, table, rows, conflict_of(table, request, rows))
    check_single(request, len(written.rowids))
    key = _key(connection, catalog, table, request, written.rowids)
    shown = _shown(connection, request, reading, written.rowids)
    return inserted_reply(request, shown, len(written.rowids), written.inserted, key)


def _update(connection: sqlite3.Connection, catalog: Catalog, table: Table, request: Request, body: bytes) -> Reply:
    reading = _shown_after(catalog, table, request)
    changes = parse_changes(body)
    check_columns(table, changes)
    rowids = update(connection, catalog, table, request, changes)
    _check_touched(request, len(rowids))
    return changed_reply(request, _shown(connection, request, reading, rowids), len(rowids))


def _delete(connection: sqlite3.Connection, catalog: Catalog, table: Table, request: Request, body: bytes) -> Reply:
    del body
    reading = _shown_after(catalog, table, request)
    rowids = chosen(connection, catalog, table, request)
    _check_touched(request, len(rowids))
    shown = _shown(connection, request, reading, rowids)
    delete(connection, catalog, table, request)
    return changed_reply(request, shown, len(rowids))


def _shown_after(catalog: Catalog, table: Table, request: Request) -> Reading:
    if any(embed.inner for embed in request.selection.embeds):
        raise unsupported("An inner embed in what a write returns is")
    selection = Selection(outputs=request.selection.outputs, embeds=request.selection.embeds)
    return plan_reading(catalog, table, selection, link=ROW_ID)


def _shown(connection: sqlite3.Connection, request: Request, reading: Reading, rowids: tuple[int, ...]) -> list[Row]:
    return read_each(connection, reading, rowids) if request.prefer.returned == "representation" else []


def _key(
    connection: sqlite3.Connection, catalog: Catalog, table: Table, request: Request, rowids: tuple[int, ...]
) -> dict[str, Json]:
    if request.prefer.returned != "headers-only" or len(rowids) != 1:
        return {}
    outputs = tuple(Output(column=column) for column in table.primary_key)
    return read_each(connection, plan_reading(catalog, table, Selection(outputs=outputs), link=ROW_ID), rowids)[0]


def _check_touched(request: Request, touched: int) -> None:
    check_single(request, touched)
    allowed = request.prefer.max_affected
    if allowed is not None and touched > allowed:
        message = "Query result exceeds max-affected preference constraint"
        raise DialectError("PGRST124", message, details=f"The query affects {touched} rows")


ANSWERS: Final = {"read": _read, "insert": _insert, "update": _update, "delete": _delete}
