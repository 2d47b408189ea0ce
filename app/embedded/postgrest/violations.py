"""Broken rules of the schema, told as Postgres tells them.

SQLite names the columns of a broken unique key and nothing at all of a broken foreign key, so the latter is looked for,
inside the transaction in which it broke.
"""

# ruff: noqa: S608 - names are quoted and the catalogue's own, values are parameters

import sqlite3
from collections.abc import Callable, Mapping
from typing import Final

from app.embedded.postgrest.column_types import ColumnType, Stored, to_json
from app.embedded.postgrest.errors import CODE_OF_SQLITE_ERROR, INTERNAL_ERROR, DialectError
from app.embedded.postgrest.reading import Sql, quoted
from app.embedded.postgrest.tables import Catalog, ForeignKey, Table, UniqueKey

Values = Mapping[str, Stored]


def violation(
    connection: sqlite3.Connection,
    catalog: Catalog,
    table: Table,
    error: sqlite3.IntegrityError,
    values: Values,
    where: Sql = ("", ()),
) -> DialectError:
    """Return the refusal for `error`.

    Args:
        connection: still inside the transaction, the failed statement undone.
        catalog: where keys are looked up.
        table: what was written to.
        error: as SQLite raised it.
        values: what was written, by column; empty for a delete.
        where: the update's or delete's filter on `table AS t0`.
    """
    kind = error.sqlite_errorname.removeprefix("SQLITE_CONSTRAINT_")
    subject = str(error).partition(": ")[2]
    if kind == "FOREIGNKEY":
        return _missing_parent(connection, catalog, table, values) or _left_child(connection, catalog, table, where)
    return TELLERS.get(kind, _other)(catalog, table, subject, values)


def null_violation(table: Table, column: str) -> DialectError:
    """Return the refusal of a null in a column that must have a value."""
    message = f'null value in column "{column}" of relation "{table.name}" violates not-null constraint'
    return DialectError("23502", message)


def file_failure(error: sqlite3.Error) -> DialectError:
    """Return the refusal for what SQLite reports about its file rather than about the request."""
    name = getattr(error, "sqlite_errorname", "")
    code = CODE_OF_SQLITE_ERROR.get("_".join(name.split("_")[:2]), INTERNAL_ERROR)
    return DialectError(code, f"the embedded database failed ({name or type(error).__name__})")


def _unique(catalog: Catalog, table: Table, subject: str, values: Values) -> DialectError:
    owner, _, _ = subject.partition(".")
    columns = tuple(name.removeprefix(f"{owner}.") for name in subject.split(", "))
    broken = catalog.tables.get(owner, table)
    key = next((key for key in broken.unique_keys if key.columns == columns), UniqueKey(name=owner, columns=columns))
    details = None
    if broken is table and values.keys() >= set(columns):
        details = f"Key {_pair(table, columns, values)} already exists."
    message = f'duplicate key value violates unique constraint "{key.name}"'
    return DialectError("23505", message, details=details)


def _not_null(catalog: Catalog, table: Table, subject: str, values: Values) -> DialectError:
    del values
    owner, _, column = subject.partition(".")
    return null_violation(catalog.tables.get(owner, table), column)


def _null_key(catalog: Catalog, table: Table, subject: str, values: Values) -> DialectError:
    del catalog, subject, values
    return null_violation(table, table.primary_key[0])


def _check(catalog: Catalog, table: Table, subject: str, values: Values) -> DialectError:
    del catalog, values
    return DialectError("23514", f'new row for relation "{table.name}" violates check constraint "{subject}"')


def _other(catalog: Catalog, table: Table, subject: str, values: Values) -> DialectError:
    del catalog, values
    return DialectError("23000", f'the row for relation "{table.name}" violates a constraint: {subject}')


TELLERS: Final[dict[str, Callable[[Catalog, Table, str, Values], DialectError]]] = {
    "UNIQUE": _unique,
    "PRIMARYKEY": _unique,
    "ROWID": _unique,
    "NOTNULL": _not_null,
    "CHECK": _check,
    "SQLITE_MISMATCH": _null_key,  # null where SQLite counts its rows; every other value was checked before
}


def _missing_parent(
    connection: sqlite3.Connection, catalog: Catalog, table: Table, values: Values
) -> DialectError | None:
    for key in table.foreign_keys:
        link = tuple(values.get(column) for column in key.columns)
        if None in link or _exists(connection, catalog, key, link):
            continue
        message = f'insert or update on table "{table.name}" violates foreign key constraint "{key.name}"'
        details = f'Key {_pair(table, key.columns, values)} is not present in table "{key.target}".'
        return DialectError("23503", message, details=details)
    return None


def _exists(connection: sqlite3.Connection, catalog: Catalog, key: ForeignKey, link: tuple[Stored, ...]) -> bool:
    target = catalog.tables[key.target]
    where = " AND ".join(f"{quoted(column)} = ?" for column in key.target_columns)
    return connection.execute(f"SELECT 1 FROM {quoted(target.name)} WHERE {where}", link).fetchone() is not None


def _left_child(connection: sqlite3.Connection, catalog: Catalog, table: Table, where: Sql) -> DialectError:
    for key in catalog.referring(table):
        found = None if key.yields else _referred(connection, key, where)
        if found is not None:
            rule = f'violates foreign key constraint "{key.name}" on table "{key.table}"'
            values = dict(zip(key.target_columns, found, strict=True))
            details = f'Key {_pair(table, key.target_columns, values)} is still referenced from table "{key.table}".'
            return DialectError("23503", f'update or delete on table "{table.name}" {rule}', details=details)
    return DialectError("23503", f'write to table "{table.name}" violates a foreign key constraint')


def _referred(connection: sqlite3.Connection, key: ForeignKey, where: Sql) -> tuple[Stored, ...] | None:
    pairs = zip(key.columns, key.target_columns, strict=True)
    link = " AND ".join(f"child.{quoted(column)} = t0.{quoted(target)}" for column, target in pairs)
    columns = ", ".join(f"t0.{quoted(column)}" for column in key.target_columns)
    child = f"EXISTS (SELECT 1 FROM {quoted(key.table)} AS child WHERE {link})"
    glue = " AND " if where[0] else " WHERE "
    sql = f"SELECT {columns} FROM {quoted(key.target)} AS t0{where[0]}{glue}{child} LIMIT 1"
    found: tuple[Stored, ...] | None = connection.execute(sql, where[1]).fetchone()
    return found


def _pair(table: Table, columns: tuple[str, ...], values: Values) -> str:
    texts = (_told(table.columns[column].kind, values[column]) for column in columns)
    return f"({', '.join(columns)})=({', '.join(texts)})"


def _told(kind: ColumnType, stored: Stored) -> str:
    if kind == "boolean" and stored is not None:
        return "t" if stored else "f"
    return "null" if stored is None else str(to_json(kind, stored))
