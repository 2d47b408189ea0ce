"""The SQL that PostgREST makes of our reads, so that a real PostgreSQL can be asked what our client asks.

PostgREST itself cannot be installed from a package registry. What is written here is the form of its version 12 (one
lateral subquery per embedded table, values as untyped literals, the rows as one JSON array): its planner, locks and
types are PostgreSQL's own.
"""

from collections.abc import Callable
from typing import Any, LiteralString, cast

import httpx
import psycopg
import trio
from psycopg import sql
from psycopg.abc import Query

from app.embedded.postgrest.parse import parse_request
from app.embedded.postgrest.request import Condition, Embed, Group, Selection

KEYS = {("chat_conversations", "chat_logs"): ("id", "conversation_id"), ("projects", "memos"): ("id", "project_id")}
SIGNS: dict[str, LiteralString] = {
    "eq": "=", "lt": "<", "lte": "<=", "ilike": "ilike", "imatch": "~*", "is": "is", "in": "= any"
}  # fmt: skip


def read_of(request: httpx.Request) -> sql.Composable:
    """Return the statement for a read; its one row's one column is the JSON array."""
    url = request.url
    headers = [(name.lower(), value) for name, value in request.headers.raw]
    parsed = parse_request(request.method, url.path, url.query, headers)
    inner = _select(parsed.table, parsed.table, parsed.selection, sql.SQL(""))
    rows = sql.SQL(
        "with pgrst_source as ({}) select coalesce(json_agg(_postgrest_t), '[]') as body from ({}) _postgrest_t"
    )
    return rows.format(inner, sql.SQL("select * from pgrst_source"))


def _select(table: str, alias: str, selection: Selection, link: sql.Composable) -> sql.Composable:
    name = sql.Identifier(alias)
    columns = [sql.SQL("{}.{}").format(name, sql.Identifier(output.column)) for output in selection.outputs]
    joins = []
    for embed in selection.embeds:
        columns.append(sql.SQL("coalesce({0}.{0}, '[]') as {1}").format(*map(sql.Identifier, (_at(embed), embed.name))))
        joins.append(_lateral(table, alias, embed))
    filters = [link] if link != sql.SQL("") else []
    filters += [_filter(name, part) for part in selection.filters]
    order = [
        sql.SQL("{}.{} {}").format(name, sql.Identifier(term.column), sql.SQL("desc" if term.descending else "asc"))
        for term in selection.ordering
    ]
    return sql.SQL("select {} from public.{} as {} {} {} {} limit {}").format(
        sql.SQL(", ").join(columns),
        sql.Identifier(table),
        name,
        sql.SQL(" ").join(joins),
        sql.SQL("where ") + sql.SQL(" and ").join(filters) if filters else sql.SQL(""),
        sql.SQL("order by ") + sql.SQL(", ").join(order) if order else sql.SQL(""),
        sql.SQL("all") if selection.limit is None else sql.Literal(selection.limit),
    )


def _lateral(table: str, alias: str, embed: Embed) -> sql.Composable:
    local, remote = KEYS[table, embed.relation]
    inner = f"{embed.relation}_1"
    link = sql.SQL("{}.{} = {}.{}").format(*map(sql.Identifier, (inner, remote, alias, local)))
    rows = _select(embed.relation, inner, embed.selection, link)
    return sql.SQL("{} join lateral (select json_agg({})::jsonb as {} from ({}) as {}) as {} on {}").format(
        sql.SQL("inner" if embed.inner else "left"),
        sql.Identifier(_at(embed)),
        sql.Identifier(_at(embed)),
        rows,
        sql.Identifier(_at(embed)),
        sql.Identifier(_at(embed)),
        sql.SQL("{0}.{0} is not null").format(sql.Identifier(_at(embed))) if embed.inner else sql.SQL("true"),
    )


def _at(embed: Embed) -> str:
    return f"embedded_{embed.name}"


def _filter(table: sql.Identifier, part: Condition | Group) -> sql.Composable:
    if isinstance(part, Group):
        return sql.SQL("({})").format(sql.SQL(f" {part.joined} ").join(_filter(table, each) for each in part.parts))
    value: Any = part.operands[0] if part.operands else ""
    if part.operator == "ilike":
        value = value.replace("*", "%")
    written: sql.Composable = sql.SQL(value) if part.operator == "is" else sql.Literal(value)
    if part.operator == "in":
        written = sql.SQL("({})").format(sql.Literal("{" + ",".join(part.operands) + "}"))
    return sql.SQL("{}.{} {} {}").format(table, sql.Identifier(part.column), sql.SQL(SIGNS[part.operator]), written)


class PostgresTransport(httpx.AsyncBaseTransport):
    """Answers reads from a real PostgreSQL, and keeps the statements."""

    def __init__(self, connection: psycopg.Connection) -> None:
        self._connection = connection
        self.statements: list[sql.Composable] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        await trio.lowlevel.checkpoint()
        statement = read_of(request)
        self.statements.append(statement)
        try:
            found = self._connection.execute(cast(Query, statement)).fetchone()
        except psycopg.Error as exc:
            return httpx.Response(400, json={"code": exc.sqlstate, "message": str(exc)})
        assert found
        return httpx.Response(200, json=found[0])


def plan_of(connection: psycopg.Connection, statement: sql.Composable) -> dict[str, Any]:
    """Return what PostgreSQL did to execute a statement."""
    explain = sql.SQL("explain (analyze, buffers, timing off, format json) ") + statement
    found = connection.execute(explain).fetchone()
    assert found
    plan: dict[str, Any] = found[0][0]["Plan"]
    return plan


def nodes(plan: dict[str, Any], wanted: Callable[[dict[str, Any]], bool] = lambda node: True) -> list[dict[str, Any]]:
    """Return a plan's nodes."""
    below = [node for child in plan.get("Plans", ()) for node in nodes(child, wanted)]
    return [*([plan] if wanted(plan) else []), *below]


def buffers(plan: dict[str, Any]) -> int:
    """Return how many blocks of 8 kB were looked at, wherever they were."""
    return int(plan["Shared Hit Blocks"] + plan["Shared Read Blocks"])
