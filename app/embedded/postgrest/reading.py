"""From a selection to SQL: one statement for the table itself and one, per parent row, for each embedded table.

A statement per parent keeps `limit` per parent an index walk of that many rows; SQLite answers in this process, so that
many small statements cost no round trips. All values are parameters; names come from the catalogue alone.
"""

# ruff: noqa: S608 - names are quoted and the catalogue's own, values are parameters

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from app.embedded.postgrest.column_types import LONG_NAMES, ColumnType, Stored, from_text
from app.embedded.postgrest.errors import DialectError, unsupported
from app.embedded.postgrest.patterns import glob_of, text_of
from app.embedded.postgrest.request import Condition, Embed, Group, Ordering, Output, Selection
from app.embedded.postgrest.tables import Catalog, Column, Relationship, Table

COMPARISONS: Final = {"eq": "=", "neq": "<>", "lt": "<", "lte": "<=", "gt": ">", "gte": ">="}
IS: Final = {"null": "NULL", "unknown": "NULL", "true": "1", "false": "0"}
NO_LIMIT: Final = -1  # SQLite's word for it

Sql = tuple[str, tuple[Stored, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """Statements that read a selection. Their parameters are the link's values, then `params`.

    The rows of `sql` begin with one value per item of `shown`; what follows links to the embedded tables.
    """

    sql: str
    count_sql: str
    params: tuple[Stored, ...]
    shown: tuple[tuple[str, ColumnType], ...]
    embedded: tuple["Embedded", ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Embedded:
    """An embedded table's reading, linked by the parent row's values from `start` to `stop`; hidden without a key."""

    key: str | None
    many: bool
    start: int
    stop: int
    reading: Reading


def quoted(name: str) -> str:
    """Return `name` as an SQL identifier."""
    escaped = name.replace('"', '""')
    return f'"{escaped}"'


def plan_reading(catalog: Catalog, table: Table, selection: Selection, link: tuple[str, ...] = ()) -> Reading:
    """Return the statements for `selection` of `table`; `link` names the columns whose values come first.

    Raises:
        DialectError: a column or relationship that is unknown, a value that does not fit its column.
    """
    shown = _shown(table, selection.outputs)
    columns = [_at(0, table.column(column).name) for column, _ in shown]
    embedded = []
    for embed in selection.embeds:
        relationship = catalog.relationship(table, embed.relation, embed.hint)
        embedded.append(_embedded(catalog, embed, relationship, start=len(columns)))
        columns += [_at(0, column) for column in relationship.local]
    where, params = _where(catalog, table, selection, 0, [f"{_at(0, column)} = ?" for column in link])
    source = f"FROM {quoted(table.name)} AS t0{where}"
    return Reading(
        sql=f"SELECT {', '.join(columns) or 'NULL'} {source}{_order(table, selection.ordering)}{_page(selection)}",
        count_sql=f"SELECT count(*) {source}",
        params=params,
        shown=tuple((key, table.columns[column].kind) for column, key in shown),
        embedded=_distinct(table, embedded),
    )


def plan_filter(catalog: Catalog, table: Table, selection: Selection) -> Sql:
    """Return the WHERE clause of a write to `table AS t0`, empty when nothing is filtered."""
    return _where(catalog, table, selection, 0, [])


def _shown(table: Table, outputs: tuple[Output, ...]) -> list[tuple[str, str]]:
    shown = []
    for output in outputs:
        names = list(table.columns) if output.column == "*" else [output.column]
        shown += [(name, output.alias or name) for name in names]
    return shown


def _at(depth: int, column: str) -> str:
    return f"t{depth}.{quoted(column)}"


def _embedded(catalog: Catalog, embed: Embed, relationship: Relationship, start: int) -> Embedded:
    target = catalog.table(relationship.remote_table)
    selection = embed.selection
    return Embedded(
        key=embed.name if selection.outputs or selection.embeds else None,
        many=relationship.many,
        start=start,
        stop=start + len(relationship.local),
        reading=plan_reading(catalog, target, selection, link=relationship.remote),
    )


def _distinct(table: Table, embedded: list[Embedded]) -> tuple[Embedded, ...]:
    keys = [each.key for each in embedded if each.key is not None]
    if len(keys) != len(set(keys)):
        raise DialectError("42712", f"a table is embedded in {table.name} twice under one name")
    return tuple(embedded)


def _order(table: Table, ordering: tuple[Ordering, ...]) -> str:
    return f" ORDER BY {', '.join(_term(table.column(term.column), term) for term in ordering)}" if ordering else ""


def _term(column: Column, term: Ordering) -> str:
    if column.kind == "jsonb":
        raise unsupported("Ordering by a column of type jsonb is")
    direction = " DESC" if term.descending else ""
    # Without nulls there is nothing to place, and SQLite walks an index only where its own placing is not overruled.
    nulls = "" if column.not_null else f" NULLS {'FIRST' if term.nulls_first else 'LAST'}"
    return f"{_at(0, column.name)}{direction}{nulls}"


def _page(selection: Selection) -> str:
    if selection.limit is None and not selection.offset:
        return ""
    return f" LIMIT {NO_LIMIT if selection.limit is None else selection.limit} OFFSET {selection.offset}"


def _where(catalog: Catalog, table: Table, selection: Selection, depth: int, links: list[str]) -> Sql:
    parts: list[Sql] = [(link, ()) for link in links]
    parts += [_filter(table, part, depth) for part in selection.filters]
    parts += [_exists(catalog, table, embed, depth) for embed in selection.embeds if embed.inner]
    if not parts:
        return "", ()
    return " WHERE " + " AND ".join(sql for sql, _ in parts), tuple(value for _, params in parts for value in params)


def _exists(catalog: Catalog, table: Table, embed: Embed, depth: int) -> Sql:
    relationship = catalog.relationship(table, embed.relation, embed.hint)
    target, inner = catalog.table(relationship.remote_table), depth + 1
    pairs = zip(relationship.local, relationship.remote, strict=True)
    links = [f"{_at(inner, remote)} = {_at(depth, local)}" for local, remote in pairs]
    where, params = _where(catalog, target, embed.selection, inner, links)
    source = f"{quoted(target.name)} AS t{inner}{where}{_page(embed.selection)}"
    return f"EXISTS (SELECT 1 FROM {source})", params


def _filter(table: Table, part: Condition | Group, depth: int) -> Sql:
    if isinstance(part, Group):
        parts = [_filter(table, each, depth) for each in part.parts]
        sql = f" {part.joined.upper()} ".join(sql for sql, _ in parts)
        params = tuple(value for _, values in parts for value in values)
    else:
        column = table.column(part.column)
        sql, params = RENDERERS[part.operator](column, _at(depth, column.name), part)
    return f"{'NOT ' if part.negated else ''}({sql})", params


def _compare(column: Column, name: str, condition: Condition) -> Sql:
    return f"{name} {COMPARISONS[condition.operator]} ?", (from_text(column.kind, condition.operands[0]),)


def _in(column: Column, name: str, condition: Condition) -> Sql:
    values = tuple(from_text(column.kind, operand) for operand in condition.operands)
    return f"{name} IN ({', '.join('?' * len(values))})", values


def _is(column: Column, name: str, condition: Condition) -> Sql:
    word = condition.operands[0]
    if word != "null" and column.kind != "boolean":
        kind = LONG_NAMES.get(column.kind, column.kind)
        raise DialectError("42804", f"argument of IS {word.upper()} must be type boolean, not type {kind}")
    return f"{name} IS {IS[word]}", ()


def _like(column: Column, name: str, condition: Condition) -> Sql:
    if column.kind != "text":
        sign = "~~*" if condition.operator == "ilike" else "~~"
        kind = LONG_NAMES.get(column.kind, column.kind)
        raise DialectError("42883", f"operator does not exist: {kind} {sign} unknown")
    pattern = glob_of(condition.operands[0].replace("*", "%"))
    if condition.operator == "ilike":
        return f"lower_case({name}) GLOB lower_case(?)", (pattern,)
    return f"{name} GLOB ?", (pattern,)


def _imatch(column: Column, name: str, condition: Condition) -> Sql:
    text = text_of(condition.operands[0])
    if column.kind != "text" or text is None:
        raise unsupported("imatch with more than a text whose signs are escaped is")
    return f"instr(lower_case({name}), lower_case(?)) > 0", (text,)


RENDERERS: Final[dict[str, Callable[[Column, str, Condition], Sql]]] = {
    **dict.fromkeys(COMPARISONS, _compare),
    "in": _in,
    "is": _is,
    "like": _like,
    "ilike": _like,
    "imatch": _imatch,
}
