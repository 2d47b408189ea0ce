"""The doctor's table of needs is what our own client sends, and what the migrations give."""

import json
from collections import defaultdict
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from urllib.parse import parse_qsl

import httpx
import pytest
import trio

from app.clients.supabase import SupabaseDatabase
from app.embedded.postgrest.parse import parse_request
from app.embedded.postgrest.request import Condition, Group, Selection
from app.errors import DatabaseFault
from app.ops.doctor import needs
from tests.clients.test_supabase_own_rows import DUPLICATE, METHODS, NOTHING, Told, arguments
from tests.server.process import PROJECT_ROOT

FILES = {file.name: file.read_text("utf-8") for file in (PROJECT_ROOT / "supabase" / "migrations").glob("*.sql")}


def columns_in(table: str, selection: Selection) -> Iterator[tuple[str, str]]:
    """Yield the columns that a selection asks for, filters or sorts by, each with its table."""
    for output in selection.outputs:
        yield table, output.column
    for part in selection.filters:
        yield from ((table, name) for name in _filtered(part))
    for term in selection.ordering:
        yield table, term.column
    for embed in selection.embeds:
        yield from columns_in(embed.relation, embed.selection)


def _filtered(part: Condition | Group) -> Iterator[str]:
    if isinstance(part, Group):
        for each in part.parts:
            yield from _filtered(each)
    else:
        yield part.column


def sent_columns(request: httpx.Request) -> set[tuple[str, str]]:
    """Return the columns that a request of ours reads or writes."""
    url, headers = request.url, [(name.lower(), value) for name, value in request.headers.raw]
    parsed = parse_request(request.method, url.path, url.query, headers)
    found = set(columns_in(parsed.table, parsed.selection))
    if "select" not in dict(parse_qsl(url.query.decode())):
        found -= {(parsed.table, "*")}
    body = json.loads(request.content) if request.content else []
    rows = body if isinstance(body, list) else [body]
    return found | {(parsed.table, name) for row in rows for name in row}


@cache
def all_sent() -> frozenset[tuple[str, str]]:
    """Return the columns of every request that the client can make, whatever it is answered."""
    found: set[tuple[str, str]] = set()

    async def ask_all() -> None:
        for name in METHODS:
            for given in arguments(name):
                for answers in ({}, {"POST": DUPLICATE, "GET": NOTHING}):
                    told = Told(answers)
                    database = SupabaseDatabase(told, "http://supabase.test", "key")
                    with suppress(DatabaseFault):
                        await getattr(database, name)(**given)
                    for request in told.requests:
                        found.update(sent_columns(request))

    trio.run(ask_all)
    return frozenset(found)


def test_what_the_client_sends_is_asked_for() -> None:
    """Every column that our client reads, filters by, sorts by or writes is one that the doctor asks for."""
    asked = {(table, column) for table, columns in needs.COLUMNS.items() for column in columns}
    assert all_sent() - asked == set()


def test_nothing_is_asked_for_without_need() -> None:
    """What the doctor asks for is what the client sends, and the memos' key that joins them to projects."""
    named = defaultdict(set)
    for table, column in all_sent():
        named[table].add(column)
    extra = {table: set(columns) - named[table] for table, columns in needs.COLUMNS.items()}
    assert {table: names for table, names in extra.items() if names} == {"memos": {"project_id"}}


@pytest.mark.parametrize(("table", "column"), [(t, c) for t, columns in needs.COLUMNS.items() for c in columns])
def test_the_file_that_is_named_gives_the_column(table: str, column: str) -> None:
    """The migration that a missing column leads to is there, and has it."""
    text = FILES[needs.migration_of(table, column)]
    if needs.migration_of(table, column) == needs.COLUMNS_ADDED:
        added = text.split("do $$")[0].split(f"alter table public.{table}")
        listed = f"('public.{table}', '{column}', " in text
        assert listed or f"add column if not exists {column} " in added[1].split("alter table")[0]
    else:
        assert f"table if not exists public.{table} (" in text
        assert f"\n  {column} " in text or f"\n      {column} " in text


def test_every_file_that_is_named_is_there() -> None:
    """No advice names a migration that does not exist."""
    told = {getattr(needs, name) for name in vars(needs) if str(getattr(needs, name)).endswith(".sql")}
    assert told <= set(FILES)
    assert len(told) == 6


@pytest.mark.parametrize("key", [key for key in needs.KEYS if key.table != "users"], ids=lambda key: key.table)
def test_the_file_that_is_named_makes_the_key(key: needs.UniqueKey) -> None:
    """The migration that a missing key leads to creates a unique index on just these columns."""
    text = " ".join(FILES[key.migration].split())
    assert f"on public.{key.table} ({', '.join(key.columns)});" in text
