"""What is refused: PostgREST's status, code and words for each, and never a row in the database."""

from typing import Any

import httpx
import pytest

LOG = {"user_id": "demo", "sender": "user", "message": "m"}

# target, status, code, message (None: any)
READS: list[tuple[str, int, str, str | None]] = [
    ("/nothing", 404, "PGRST205", "Could not find the table 'public.nothing' in the schema cache"),
    ("/sqlite_sequence", 404, "PGRST205", None),
    ("/users/1", 404, "PGRST125", None),
    ("/", 404, "PGRST125", None),
    ("/users?select=nope", 400, "42703", "column users.nope does not exist"),
    ("/users?nope=eq.1", 400, "42703", "column users.nope does not exist"),
    ("/users?order=nope", 400, "42703", "column users.nope does not exist"),
    ("/users?or=(id.eq.1,nope.eq.1)", 400, "42703", None),
    ("/users?apikey=secret", 400, "PGRST100", None),
    ("/users?id=1", 400, "PGRST100", '"failed to parse filter (1)" (line 1, column 1)'),
    ("/users?id=equals.1", 400, "PGRST100", None),
    ("/users?id=eq", 400, "PGRST100", None),
    ("/users?id=in.1,2", 400, "PGRST100", None),
    ("/users?id=in.(1,2", 400, "PGRST100", None),
    ("/users?id=in.(1)x", 400, "PGRST100", None),
    ("/users?id=is.nothing", 400, "PGRST100", None),
    ("/users?or=id.eq.1", 400, "PGRST100", None),
    ("/users?or=(id.eq.1", 400, "PGRST100", None),
    ("/users?or=()", 400, "PGRST100", None),
    ("/users?select=", 400, "PGRST100", None),
    ("/users?select=id,", 400, "PGRST100", None),
    ("/users?select=id!inner", 400, "PGRST100", None),
    ("/users?select=id&select=id", 400, "PGRST100", None),
    ("/users?order=id.up", 400, "PGRST100", None),
    ("/users?order=id&order=id", 400, "PGRST100", None),
    ("/users?limit=ten", 400, "PGRST100", None),
    ("/users?columns=id", 400, "PGRST100", None),
    ("/users?limit=-1", 416, "PGRST103", "Requested range not satisfiable"),
    ("/users?select=count()", 400, "PGRST123", None),
    ("/projects?select=id.sum()", 400, "PGRST123", None),
    ("/users?select=id::text", 400, "PGRST127", None),
    ("/memos?select=...projects(id)", 400, "PGRST127", None),
    ("/chat_logs?select=context_data->finish", 400, "PGRST127", None),
    ("/chat_logs?context_data->>finish=eq.stop", 400, "PGRST127", None),
    ("/chat_logs?context_data=eq.1", 400, "PGRST127", None),
    ("/chat_logs?order=context_data", 400, "PGRST127", None),
    ("/memos?order=projects(id)", 400, "PGRST127", None),
    ("/users?id=fts.word", 400, "PGRST127", None),
    ("/users?id=eq(any).{1}", 400, "PGRST127", None),
    ("/projects?id=eq.one", 400, "22P02", 'invalid input syntax for type bigint: "one"'),
    ("/projects?id=eq.9223372036854775808", 400, "22003", None),
    ("/projects?id=in.(1,null)", 400, "22P02", None),
    ("/chat_logs?turn_id=eq.x", 400, "22P02", 'invalid input syntax for type uuid: "x"'),
    ("/chat_conversations?is_active=eq.maybe", 400, "22P02", 'invalid input syntax for type boolean: "maybe"'),
    ("/chat_logs?created_at=gt.noon", 400, "22007", 'invalid input syntax for type timestamp with time zone: "noon"'),
    ("/chat_logs?created_at=gt.2026-02-30", 400, "22008", None),
    ("/users?id=is.true", 400, "42804", "argument of IS TRUE must be type boolean, not type text"),
    ("/projects?id=like.1*", 404, "42883", "operator does not exist: bigint ~~ unknown"),
    ("/users?id=like.a%5C", 400, "22025", None),
    ("/users?id=eq.a%00b", 400, "22021", None),
    ("/users?id=eq.%ff", 400, "22021", None),
    ("/users?memos.id=eq.1", 400, "PGRST108", "'memos' is not an embedded resource in this request"),
    ("/users?memos.limit=1", 400, "PGRST108", None),
    ("/user_id_mapping?select=auth_id,users(id)", 400, "PGRST200", None),
    ("/memos?select=id,projects!wrong(id)", 400, "PGRST200", None),
    ("/memos?select=projects(id),projects(theme)", 400, "42712", None),
]


@pytest.mark.parametrize(("target", "status", "code", "message"), READS, ids=[case[0] for case in READS])
async def test_a_read_that_is_wrong_is_refused(
    target: str, status: int, code: str, message: str | None, api: httpx.AsyncClient
) -> None:
    """A read outside the dialect gets its status and a PostgREST error body."""
    response = await api.get(target)
    body = response.json()
    assert (response.status_code, body["code"]) == (status, code)
    assert body.keys() == {"code", "details", "hint", "message"}
    assert message is None or body["message"] == message


Json = Any
WRITES: list[tuple[str, str, str, Json, int, str, str | None, str | None]] = [
    ("unique", "POST", "/users", {"id": "demo"}, 409, "23505", "Key (id)=(demo) already exists.", None),
    ("null", "POST", "/chat_logs", {**LOG, "message": None}, 400, "23502", None, None),
    ("absent", "POST", "/chat_logs", {"user_id": "demo"}, 400, "23502", None, None),
    ("null key", "POST", "/chat_logs", {**LOG, "id": None}, 400, "23502", None, None),
    (
        "no parent",
        "POST",
        "/chat_logs",
        {**LOG, "user_id": "nobody"},
        409,
        "23503",
        'Key (user_id)=(nobody) is not present in table "users".',
        'insert or update on table "chat_logs" violates foreign key constraint "chat_logs_user_id_fkey"',
    ),
    (
        "a child left",
        "DELETE",
        "/projects?id=eq.1",
        None,
        409,
        "23503",
        'Key (id)=(1) is still referenced from table "memos".',
        'update or delete on table "projects" violates foreign key constraint "memos_project_id_fkey" on table "memos"',
    ),
    ("update to no parent", "PATCH", "/memos?id=eq.1", {"project_id": 99}, 409, "23503", None, None),
    ("update to null", "PATCH", "/projects?id=eq.1", {"user_id": None}, 400, "23502", None, None),
    ("update key to null", "PATCH", "/projects?id=eq.1", {"id": None}, 400, "23502", None, None),
    ("unknown column", "POST", "/users", {"id": "u", "nope": 1}, 400, "PGRST204", None, None),
    ("unknown column in columns", "POST", "/users?columns=id,nope", [{"id": "u"}], 400, "PGRST204", None, None),
    ("update of unknown column", "PATCH", "/users?id=eq.demo", {"nope": 1}, 400, "PGRST204", None, None),
    (
        "update without filter",
        "PATCH",
        "/users",
        {"username": "x"},
        400,
        "21000",
        None,
        "UPDATE requires a WHERE clause",
    ),
    ("delete without filter", "DELETE", "/users", None, 400, "21000", None, "DELETE requires a WHERE clause"),
    ("wrong bigint", "POST", "/memos", {"user_id": "demo", "project_id": "one"}, 400, "22P02", None, None),
    ("wrong bigint fraction", "POST", "/memos", {"user_id": "demo", "project_id": 1.5}, 400, "22P02", None, None),
    ("wrong uuid", "POST", "/chat_logs", {**LOG, "turn_id": "x"}, 400, "22P02", None, None),
    ("wrong time", "POST", "/chat_logs", {**LOG, "created_at": "now-ish"}, 400, "22007", None, None),
    ("object as text", "POST", "/users", {"id": {"a": 1}}, 400, "PGRST127", None, None),
    ("NUL", "POST", "/users", {"id": "a\0b"}, 400, "22P05", None, None),
    ("list of numbers", "POST", "/users", [1], 400, "PGRST102", None, None),
    ("unlike keys", "POST", "/users", [{"id": "u"}, {"username": "v"}], 400, "PGRST102", None, None),
    ("update with a list", "PATCH", "/users?id=eq.demo", [{"username": "x"}], 400, "PGRST102", None, None),
    ("filtered insert", "POST", "/users?id=eq.1", {"id": "u"}, 400, "PGRST127", None, None),
    ("limited delete", "DELETE", "/users?id=eq.demo&limit=1", None, 400, "PGRST127", None, None),
    ("put", "PUT", "/users?id=eq.demo", {"id": "demo"}, 405, "PGRST117", None, None),
]


@pytest.mark.parametrize(
    ("method", "target", "body", "status", "code", "details", "message"),
    [case[1:] for case in WRITES],
    ids=[case[0] for case in WRITES],
)
async def test_a_write_that_is_wrong_is_refused(
    method: str,
    target: str,
    body: Json,
    status: int,
    code: str,
    details: str | None,
    message: str | None,
    api: httpx.AsyncClient,
) -> None:
    """A write that breaks a rule gets its status and error body, and changes nothing."""
    before = await everything(api)
    response = await api.request(method, target, json=body)
    told = response.json()
    assert (response.status_code, told["code"]) == (status, code)
    assert details is None or told["details"] == details
    assert message is None or told["message"] == message
    assert await everything(api) == before


async def everything(api: httpx.AsyncClient) -> list[Any]:
    """Return the content of every table that these tests write to."""
    tables = ("users", "projects", "memos", "chat_conversations", "chat_logs")
    return [(await api.get(f"/{table}?select=*")).json() for table in tables]


async def test_a_broken_turn_key_names_both_columns(api: httpx.AsyncClient) -> None:
    """The unique key of a turn is told as Postgres tells it, columns and values."""
    turn = "6e2f1c9a-1111-4222-8333-444455556666"
    await api.post("/chat_logs", json={**LOG, "turn_id": turn})
    response = await api.post("/chat_logs", json={**LOG, "turn_id": turn.upper()})
    assert response.status_code == 409
    assert response.json() == {
        "code": "23505",
        "details": f"Key (turn_id, sender)=({turn}, user) already exists.",
        "hint": None,
        "message": 'duplicate key value violates unique constraint "chat_logs_turn_id_sender_key"',
    }


async def test_a_broken_check_is_named(captured_api: httpx.AsyncClient) -> None:
    """A check constraint is 23514 under its name."""
    response = await captured_api.post("/checked", json={"id": 1, "size": -1})
    assert (response.status_code, response.json()["code"]) == (400, "23514")
    assert 'violates check constraint "checked_size_check"' in response.json()["message"]


BODIES = {
    "empty": b"",
    "cut off": b'{"id": "u"',
    "not a number": b'{"id": NaN}',
    "not UTF-8": b'{"id": "\xff"}',
    "nested without end": b"[" * 100_000,
    "a text": b'"u"',
}


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES.keys())
async def test_a_body_that_is_no_json_of_rows_is_refused(body: bytes, api: httpx.AsyncClient) -> None:
    """What is not JSON, or not an object or a list of them, is PGRST102."""
    response = await api.post("/users", content=body, headers={"content-type": "application/json"})
    assert (response.status_code, response.json()["code"]) == (400, "PGRST102")


async def test_a_body_over_the_bound_is_refused(api: httpx.AsyncClient) -> None:
    """A body larger than the bound is 413 before it is parsed."""
    response = await api.post("/users", content=b" " * (8 * 1024 * 1024 + 1))
    assert response.status_code == 413


async def test_a_lone_surrogate_is_refused(api: httpx.AsyncClient) -> None:
    """Half a character is no text."""
    response = await api.post("/users", content=b'{"id": "\\ud800"}')
    assert (response.status_code, response.json()["code"]) == (400, "22P02")


HEADERS = [
    ({"prefer": "handling=strict, return=all"}, 400, "PGRST122"),
    ({"prefer": "count=planned"}, 400, "PGRST127"),
    ({"prefer": "tx=rollback"}, 400, "PGRST127"),
    ({"prefer": "timezone=Asia/Tokyo"}, 400, "PGRST127"),
    ({"accept": "text/csv"}, 406, "PGRST107"),
    ({"accept": "application/vnd.pgrst.array+json;nulls=stripped"}, 406, "PGRST107"),
    ({"range": "9-1"}, 416, "PGRST103"),
    ({"accept-profile": "auth"}, 406, "PGRST106"),
]


@pytest.mark.parametrize(("headers", "status", "code"), HEADERS, ids=[str(case[0]) for case in HEADERS])
async def test_a_header_that_cannot_be_honoured_is_refused(
    headers: dict[str, str], status: int, code: str, api: httpx.AsyncClient
) -> None:
    """A header that would change the answer is honoured or refused, never passed over."""
    response = await api.get("/users", headers=headers)
    assert (response.status_code, response.json()["code"]) == (status, code)


async def test_a_lenient_preference_is_passed_over(api: httpx.AsyncClient) -> None:
    """Without strict handling an unknown preference is not an error, as in PostgREST."""
    response = await api.get("/users", headers={"prefer": "return=all, wait=1"})
    assert response.status_code == 200
    assert "preference-applied" not in response.headers


async def test_a_body_of_another_type_is_refused(api: httpx.AsyncClient) -> None:
    """A body that says it is CSV is PGRST102."""
    response = await api.post("/users", content=b"id\nu", headers={"content-type": "text/csv"})
    assert (response.status_code, response.json()["code"]) == (400, "PGRST102")


async def test_an_upsert_without_such_a_key_is_refused(api: httpx.AsyncClient) -> None:
    """Columns that are not unique together cannot be conflicted on: 42P10."""
    headers = {"prefer": "resolution=ignore-duplicates"}
    response = await api.post("/users?on_conflict=id,username", json={"id": "u"}, headers=headers)
    assert (response.status_code, response.json()["code"]) == (400, "42P10")


async def test_a_merge_that_meets_one_row_twice_is_refused(api: httpx.AsyncClient) -> None:
    """Two rows of one body that merge into the same row are 21000, and neither is written."""
    rows = [{"id": "u", "username": "a"}, {"id": "u", "username": "b"}]
    response = await api.post("/users", json=rows, headers={"prefer": "resolution=merge-duplicates"})
    assert (response.status_code, response.json()["code"]) == (500, "21000")
    assert (await api.get("/users?id=eq.u")).json() == []


async def test_a_single_write_that_touches_no_row_is_undone(api: httpx.AsyncClient) -> None:
    """One object asked for, several rows touched: PGRST116, and the write is undone."""
    headers = {"accept": "application/vnd.pgrst.object+json", "prefer": "return=representation"}
    response = await api.patch("/projects?user_id=eq.demo", json={"theme": "x"}, headers=headers)
    assert (response.status_code, response.json()["code"]) == (406, "PGRST116")
    assert (await api.get("/projects?theme=eq.x")).json() == []


async def test_an_offset_behind_the_end_is_refused_when_counted(api: httpx.AsyncClient) -> None:
    """With an exact count an offset behind the last row is 416, without it an empty list."""
    response = await api.get("/projects?offset=3", headers={"prefer": "count=exact"})
    assert (response.status_code, response.json()["code"]) == (416, "PGRST103")
    assert (await api.get("/projects?offset=3")).json() == []


async def test_two_ways_to_embed_ask_for_a_hint(captured_api: httpx.AsyncClient) -> None:
    """Tables that are related twice are PGRST201 until a hint says which way is meant."""
    response = await captured_api.get("/letters?select=id,users(name)")
    assert (response.status_code, response.json()["code"]) == (300, "PGRST201")
    hinted = await captured_api.get("/letters?select=id,users!to_id(name),writer:users!letters_from_id_fkey(name)")
    assert hinted.json() == [{"id": 1, "users": {"name": "one"}, "writer": None}]
