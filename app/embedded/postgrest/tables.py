"""What the database holds: tables, columns, keys and relationships, read once from SQLite's own catalogue."""

import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from app.embedded.postgrest.column_types import DECLARED, ColumnType
from app.embedded.postgrest.errors import DialectError, EmbeddedDatabaseError, unknown_column

# Deleting a parent with one of these leaves no child behind that could object.
YIELDING_ACTIONS: Final = frozenset({"CASCADE", "SET NULL", "SET DEFAULT"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A column; `generated` says that leaving it out gives a value other than NULL."""

    name: str
    kind: ColumnType
    not_null: bool
    generated: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class UniqueKey:
    """A primary key, unique constraint or unique index, under the name that Postgres would give it."""

    name: str
    columns: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ForeignKey:
    """A foreign key of `table`, under the name that Postgres would give it."""

    name: str
    table: str
    columns: tuple[str, ...]
    target: str
    target_columns: tuple[str, ...]
    yields: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A table; `primary_key` is empty when it has none."""

    name: str
    columns: Mapping[str, Column]
    primary_key: tuple[str, ...]
    unique_keys: tuple[UniqueKey, ...]
    foreign_keys: tuple[ForeignKey, ...]

    def column(self, name: str) -> Column:
        """Return the column for a read or filter.

        Raises:
            DialectError: 42703, there is none of that name.
        """
        if name not in self.columns:
            raise unknown_column(self.name, name)
        return self.columns[name]

    def has_key(self, columns: tuple[str, ...]) -> bool:
        """Tell whether these columns, in any order, are unique together."""
        return any(set(key.columns) == set(columns) for key in self.unique_keys)


@dataclass(frozen=True, slots=True, kw_only=True)
class Relationship:
    """How the rows of one table find those of another; `many` says that there may be several."""

    key: ForeignKey
    many: bool
    local: tuple[str, ...]
    remote_table: str
    remote: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Catalog:
    """All tables by name."""

    tables: Mapping[str, Table]

    def table(self, name: str) -> Table:
        """Return the table of a request's path.

        Raises:
            DialectError: PGRST205, there is none of that name.
        """
        if name not in self.tables:
            raise DialectError("PGRST205", f"Could not find the table 'public.{name}' in the schema cache")
        return self.tables[name]

    def relationship(self, table: Table, other: str, hint: str | None) -> Relationship:
        """Return how `other` is embedded in `table`; `hint` is a foreign key's name or its column.

        Raises:
            DialectError: PGRST200, they are not related; PGRST201, they are in more than one way.
        """
        found = [found for found in self._relationships(table, other) if hint is None or _fits(found, hint)]
        if len(found) > 1:
            message = f"Could not embed because more than one relationship was found for '{table.name}' and '{other}'"
            names = ", ".join(f"'{other}!{each.key.name}'" for each in found)
            raise DialectError("PGRST201", message, hint=f"Try changing '{other}' to one of the following: {names}.")
        if not found:
            message = f"Could not find a relationship between '{table.name}' and '{other}' in the schema cache"
            searched = f"Searched for a foreign key relationship between '{table.name}' and '{other}'"
            details = f"{searched} in the schema 'public', but no matches were found."
            raise DialectError("PGRST200", message, details=details)
        return found[0]

    def referring(self, table: Table) -> list[ForeignKey]:
        """Return the foreign keys that point to `table`."""
        return [key for each in self.tables.values() for key in each.foreign_keys if key.target == table.name]

    def _relationships(self, table: Table, other: str) -> list[Relationship]:
        outward = [
            Relationship(key=key, many=False, local=key.columns, remote_table=other, remote=key.target_columns)
            for key in table.foreign_keys
            if key.target == other
        ]
        inward = [
            Relationship(
                key=key,
                many=not self.tables[other].has_key(key.columns),
                local=key.target_columns,
                remote_table=other,
                remote=key.columns,
            )
            for key in self.referring(table)
            if key.table == other
        ]
        return outward + inward


def _fits(relationship: Relationship, hint: str) -> bool:
    return hint == relationship.key.name or (hint,) in (relationship.local, relationship.remote)


def read_catalog(connection: sqlite3.Connection) -> Catalog:
    """Return the catalogue of the open database.

    Raises:
        EmbeddedDatabaseError: a column is declared with a type that the dialect does not know.
    """
    query = "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'"
    names = [name for (name,) in connection.execute(query)]
    return Catalog({name: _table(connection, name) for name in names})


def _table(connection: sqlite3.Connection, name: str) -> Table:
    query = 'SELECT name, lower(type), "notnull", dflt_value, pk FROM pragma_table_info(?)'
    rows = connection.execute(query, (name,)).fetchall()
    primary_key = tuple(row[0] for row in sorted(rows, key=lambda row: row[4]) if row[4])
    counted = [row[0] for row in rows if row[4] and row[1] == "integer" and len(primary_key) == 1]
    columns = {}
    for column, declared, not_null, default, position in rows:
        if declared not in DECLARED:
            raise EmbeddedDatabaseError(f"column {name}.{column} has a type the embedded database lacks: {declared}")
        columns[column] = Column(
            name=column,
            kind=DECLARED[declared],
            not_null=bool(not_null or position),
            generated=default is not None or column in counted,
        )
    return Table(
        name=name,
        columns=columns,
        primary_key=primary_key,
        unique_keys=_unique_keys(connection, name, primary_key),
        foreign_keys=_foreign_keys(connection, name),
    )


def _unique_keys(connection: sqlite3.Connection, table: str, primary_key: tuple[str, ...]) -> tuple[UniqueKey, ...]:
    keys = [UniqueKey(name=f"{table}_pkey", columns=primary_key)] if primary_key else []
    query = (
        "SELECT name, origin FROM pragma_index_list(?) WHERE \"unique\" AND NOT partial AND origin <> 'pk' ORDER BY seq"
    )
    for index, origin in connection.execute(query, (table,)).fetchall():
        found = connection.execute("SELECT name FROM pragma_index_info(?) ORDER BY seqno", (index,)).fetchall()
        columns = tuple(column for (column,) in found)
        name = f"{table}_{'_'.join(columns)}_key" if origin == "u" else index
        keys.append(UniqueKey(name=name, columns=columns))
    return tuple(keys)


def _foreign_keys(connection: sqlite3.Connection, table: str) -> tuple[ForeignKey, ...]:
    query = 'SELECT id, "table", "from", "to", on_delete FROM pragma_foreign_key_list(?) ORDER BY id, seq'
    grouped: dict[int, list[tuple[str, str, str, str]]] = {}
    for number, *link in connection.execute(query, (table,)):
        grouped.setdefault(number, []).append(tuple(link))
    return tuple(_foreign_key(table, links) for links in grouped.values())


def _foreign_key(table: str, links: list[tuple[str, str, str, str]]) -> ForeignKey:
    columns = tuple(column for _, column, _, _ in links)
    return ForeignKey(
        name=f"{table}_{'_'.join(columns)}_fkey",
        table=table,
        columns=columns,
        target=links[0][0],
        target_columns=tuple(target for _, _, target, _ in links),
        yields=links[0][3] in YIELDING_ACTIONS,
    )
