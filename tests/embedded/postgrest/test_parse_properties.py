"""Whatever is sent: parsing ends in a request or a refusal, and what is stored is what was sent."""

import json
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlencode

import httpx
from hypothesis import given, settings
from hypothesis import strategies as st

from app.embedded.postgrest.body import parse_changes, parse_rows
from app.embedded.postgrest.column_types import DECLARED, ColumnType, Json, Stored, from_json, from_text, to_json
from app.embedded.postgrest.errors import DialectError
from app.embedded.postgrest.parse import parse_request
from app.embedded.postgrest.patterns import glob_of
from tests.embedded.postgrest.serving import in_thread, served

T = TypeVar("T")

METHODS = st.sampled_from(["GET", "HEAD", "POST", "PATCH", "DELETE", "PUT", "OPTIONS", ""])
PATHS = st.sampled_from(["/rest/v1/users", "/rest/v1/rpc/f", "/rest/v1/", "/"]) | st.text()
# Pieces of the grammar, so that many examples come far before they go wrong.
PIECES = st.sampled_from(
    [
        *("select", "order", "limit", "offset", "columns", "on_conflict", "and", "or", "not.", "id", "users", "memos"),
        *("eq", "in", "is", "null", "like", "inner", "asc", "desc", "nullsfirst", "1", "-1", "99999999999999999999"),
        *(".", ",", "(", ")", "!", ":", "::", "->", "->>", '"', "\\", "*", "%", "&", "=", "+", ";", "{", "}", "..."),
        *(" ", "or(", "and(", "!inner(", "あ", "\0"),
    ]
)
QUERIES = st.lists(PIECES | st.text(max_size=3)).map("".join).map(str.encode) | st.binary()
PARAMETERS = st.lists(st.tuples(st.lists(PIECES).map("".join), st.lists(PIECES).map("".join)))
HEADER_NAMES = st.sampled_from([b"prefer", b"accept", b"range", b"content-type", b"accept-profile", b"X"]) | st.binary()
HEADER_VALUES = st.binary() | st.sampled_from(
    [b"return=minimal", b"count=exact", b"handling=strict,x", b"0-", b"5-1", b"max-affected=1", b"*/*;q=2, a/b;q=x"]
)
HEADERS = st.lists(st.tuples(HEADER_NAMES, HEADER_VALUES))

KINDS: st.SearchStrategy[ColumnType] = st.sampled_from(sorted(set(DECLARED.values())))
JSON: st.SearchStrategy[Json] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
)
# What Postgres can hold: no NUL, no half characters.
TEXTS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))


def attempt(call: Callable[[], T]) -> tuple[T | None, DialectError | None]:
    """Return the result and no refusal, or no result and the refusal; anything else raised fails the test."""
    try:
        return call(), None
    except DialectError as refusal:
        return None, refusal


@given(METHODS, PATHS, QUERIES, HEADERS)
def test_any_request_is_parsed_or_refused(
    method: str, path: str, query: bytes, headers: list[tuple[bytes, bytes]]
) -> None:
    """Parsing raises nothing but a refusal, and a refusal is never our own fault."""
    request, refusal = attempt(lambda: parse_request(method, path, query, headers))
    assert request is None or request.table in path
    assert refusal is None or 400 <= refusal.status < 500


@given(METHODS, PARAMETERS)
def test_any_parameters_are_parsed_or_refused(method: str, parameters: list[tuple[str, str]]) -> None:
    """The same for well-formed parameters made of pieces of the grammar."""
    query = urlencode(parameters).encode()
    request, refusal = attempt(lambda: parse_request(method, "/rest/v1/users", query, []))
    assert request is None or request.table == "users"
    assert refusal is None or 400 <= refusal.status < 500


BODIES = st.binary() | JSON.map(lambda value: json.dumps(value).encode())


@given(BODIES, st.none() | st.just(("id",)), st.booleans())
def test_any_body_is_parsed_or_refused(body: bytes, columns: tuple[str, ...] | None, missing_default: bool) -> None:
    """A body is rows or a refusal, and changes or a refusal."""
    rows, refused_rows = attempt(lambda: parse_rows(body, columns, missing_default=missing_default))
    assert rows is None or all(isinstance(row, dict) for row in rows)
    changes, refused_changes = attempt(lambda: parse_changes(body))
    assert changes is None or isinstance(changes, dict)
    assert {refusal.status for refusal in (refused_rows, refused_changes) if refusal} <= {400}


def check_stored(kind: ColumnType, stored: Stored) -> None:
    """What is stored shows as a JSON value that is stored as the same again."""
    assert from_json(kind, to_json(kind, stored)) == stored


@given(KINDS, st.text())
def test_any_text_is_a_value_or_refused(kind: ColumnType, text: str) -> None:
    """A text is a value of the type, or refused."""
    stored, refusal = attempt(lambda: from_text(kind, text))
    assert refusal is None or refusal.status == 400
    check_stored(kind, stored)


@given(KINDS, JSON)
def test_any_json_is_a_value_or_refused(kind: ColumnType, value: Json) -> None:
    """A JSON value is a value of the type, or refused."""
    stored, refusal = attempt(lambda: from_json(kind, value))
    assert refusal is None or refusal.status == 400
    check_stored(kind, stored)


# Requests that mostly parse: what is left is for the SQL to be right.
COLUMNS = st.sampled_from(
    ["id", "user_id", "project_id", "theme", "is_active", "created_at", "context_data", "turn_id"]
)
TABLES = st.sampled_from(["users", "projects", "memos", "chat_conversations", "chat_logs"])
VALUES = st.sampled_from(
    ["1", "demo", "true", "null", "2026-01-01", "6e2f1c9a-1111-4222-8333-444455556666", "*a%", "あ", ""]
)
OPERATIONS = st.builds(
    "{}{}.{}".format,
    st.sampled_from(["", "not."]),
    st.sampled_from(["eq", "neq", "lt", "gte", "like", "ilike", "is"]),
    VALUES,
) | st.lists(VALUES, max_size=3).map(lambda values: f"in.({','.join(values)})")
LOGIC = (
    st.lists(st.builds("{}.{}".format, COLUMNS, OPERATIONS), min_size=1, max_size=3).map(",".join).map("({})".format)
)
EMBEDS = st.builds("{}{}({})".format, TABLES, st.sampled_from(["", "!inner"]), COLUMNS | st.sampled_from(["*", ""]))
SELECTS = st.lists(COLUMNS | st.just("*") | EMBEDS, min_size=1, max_size=3).map(",".join)
ORDERS = st.builds("{}{}".format, COLUMNS, st.sampled_from(["", ".desc", ".asc.nullsfirst", ".desc.nullslast"]))
CLAUSES = st.lists(
    st.tuples(COLUMNS, OPERATIONS)
    | st.tuples(st.sampled_from(["or", "not.and"]), LOGIC)
    | st.tuples(st.just("order"), ORDERS)
    | st.tuples(st.just("limit"), st.sampled_from(["0", "1", "20"]))
    | st.tuples(st.just("on_conflict"), COLUMNS),
    max_size=4,
)
ROWS = st.lists(st.dictionaries(COLUMNS, VALUES | st.none() | st.booleans() | st.integers(), max_size=4), max_size=2)
PREFER = st.lists(
    st.sampled_from(
        [
            *("return=representation", "return=headers-only", "count=exact", "missing=default"),
            *("resolution=merge-duplicates", "resolution=ignore-duplicates"),
        ]
    ),
    max_size=3,
).map(",".join)

ZONES = st.integers(-15 * 60, 15 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
TIMES = st.datetimes(datetime(2, 1, 1), datetime(9998, 1, 1), timezones=ZONES)


@given(TIMES, TIMES)
def test_times_sort_as_texts(first: datetime, second: datetime) -> None:
    """Stored times compare as texts just as the instants do, from whatever zone they came."""
    stored = [str(from_text("timestamptz", time.isoformat())) for time in (first, second)]
    assert (stored[0] < stored[1]) == (first < second)


@given(st.text(max_size=300))
def test_any_pattern_is_a_glob_or_refused(like: str) -> None:
    """A pattern is translated, or refused because its last backslash escapes nothing."""
    glob, refusal = attempt(lambda: glob_of(like))
    assert glob is None or len(glob) <= 3 * len(like)
    assert refusal is None or (refusal.code, like[-1]) == ("22025", "\\")


async def test_any_text_comes_back_and_is_found(tmp_path: Path) -> None:
    """A text is stored as it was sent, and `eq`, `in`, a logic group and an escaped `like` find it."""
    async with served(tmp_path / "db.sqlite") as url:
        with httpx.Client(base_url=f"{url}/rest/v1") as client:
            await in_thread(lambda: round_trip(client))


def round_trip(client: httpx.Client) -> None:
    """Send many texts over one connection."""

    @settings(deadline=None, max_examples=150)
    @given(TEXTS)
    def comes_back(text: str) -> None:
        headers = {"prefer": "return=representation,resolution=merge-duplicates"}
        stored = client.post("/users", json={"id": f"k{text}", "username": text}, headers=headers)
        assert stored.json() == [{"id": f"k{text}", "username": text}]
        quoted = text.replace("\\", "\\\\").replace('"', '\\"')
        like = "".join(f"\\{character}" if character in "\\%_" else character for character in text)
        queries = [("username", f"eq.{text}"), ("username", f'in.("{quoted}")'), ("or", f'(username.eq."{quoted}")')]
        if "*" not in text:  # PostgREST has no escape for its star
            queries.append(("username", f"like.{like}"))
        for key, value in queries:
            found = client.get("/users", params={key: value, "id": f"eq.k{text}"})
            assert found.json() == [{"id": f"k{text}", "username": text}], (key, value)

    comes_back()


async def test_no_request_ends_in_an_internal_error(tmp_path: Path) -> None:
    """Requests that parse are answered or refused for what they ask: SQLite never finds fault with their SQL."""
    async with served(tmp_path / "db.sqlite") as url:
        with httpx.Client(base_url=f"{url}/rest/v1") as client:
            await in_thread(lambda: many_requests(client))


def many_requests(client: httpx.Client) -> None:
    """Send many well-formed requests over one connection."""

    @settings(deadline=None, max_examples=500)
    @given(st.sampled_from(["GET", "HEAD", "POST", "PATCH", "DELETE"]), TABLES, SELECTS, CLAUSES, ROWS, PREFER)
    def is_answered(
        method: str, table: str, select: str, clauses: list[tuple[str, str]], rows: list[dict[str, Json]], prefer: str
    ) -> None:
        body = rows[0] if method == "PATCH" and rows else rows
        sent = body if method in {"POST", "PATCH"} else None  # nobody would read it, and the server close on it
        params = urlencode([("select", select), *clauses])
        response = client.request(method, f"/{table}", params=params, json=sent, headers={"prefer": prefer})
        assert response.status_code < 500 or response.json()["code"] == "21000", response.text

    is_answered()
