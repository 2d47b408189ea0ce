"""The database client's requests, byte for byte; what is made of other answers is in test_supabase_refusals.py."""

import base64
import json
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from urllib.parse import parse_qsl

import httpx
import pytest
from trio.testing import MockClock

from app.clients import USER_AGENT
from app.clients.ports import LogRow
from app.clients.supabase import SupabaseDatabase
from app.errors import DatabaseFault

URL = "https://project.supabase.test"
JWT = "eyJhbGciOiJIUzI1NiJ9.eyJyb2xlIjoic2VydmljZSJ9.c2lnbmF0dXJl"
SECRET = "sb_secret_0123456789"
ID = uuid.UUID("6f2f8b0e-0000-4000-8000-000000000001")
TURN = uuid.UUID("6f2f8b0e-0000-4000-8000-000000000002")
ROW = LogRow(
    turn_id=TURN,
    sender="user",
    user_id="ann",
    page="general",
    conversation_id=ID,
    message="川？",
    context_data={"trace_id": "0a"},
    created_at=datetime(2026, 11, 22, 12, 0, 0, 123456, tzinfo=UTC),
)

Answer = httpx.Response | httpx.HTTPError


class Recorder(httpx.AsyncBaseTransport):
    """Gives the answers in order, the last one for ever, and keeps the requests."""

    def __init__(self, *answers: Answer) -> None:
        self.answers = list(answers)
        self.requests: list[httpx.Request] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, httpx.HTTPError):
            raise answer
        return answer

    def database(self, key: str = SECRET, url: str = URL) -> SupabaseDatabase:
        return SupabaseDatabase(self, url, key)


def rows(*items: object, status: int = 200) -> httpx.Response:
    return httpx.Response(status, json=list(items))


CALLS: dict[str, Callable[[SupabaseDatabase], Awaitable[object]]] = {
    "user_exists": lambda database: database.user_exists("ann"),
    "user_of_auth_id": lambda database: database.user_of_auth_id("0b5c"),
    "ensure_user": lambda database: database.ensure_user("ann"),
    "conversation": lambda database: database.conversation("ann", ID, 20),
    "conversation_for_page": lambda database: database.conversation_for_page("ann", "project-1", 20),
    "project": lambda database: database.project("ann", "7"),
    "project_of_memo": lambda database: database.project_of_memo("ann", "9"),
    "latest_project": lambda database: database.latest_project("ann"),
    "ensure_conversation": lambda database: database.ensure_conversation("ann", "general", ID, "A title"),
    "turn": lambda database: database.turn("ann", TURN),
    "write_rows": lambda database: database.write_rows([ROW]),
    "replace_row": lambda database: database.replace_row(replace(ROW, sender="assistant"), ROW.created_at),
}
NEWEST = {
    "select": "id,title,chat_logs(id,sender,message,created_at,context_data,turn_id)",
    "chat_logs.order": "created_at.desc,id.desc",
    "chat_logs.limit": "20",
    "limit": "1",
}
PROJECT = {"select": "id,theme,question,hypothesis", "limit": "1"}
READS: dict[str, tuple[str, dict[str, str]]] = {
    "user_exists": ("users", {"select": "id", "id": "eq.ann", "limit": "1"}),
    "user_of_auth_id": ("user_id_mapping", {"select": "user_id", "auth_id": "eq.0b5c", "limit": "1"}),
    "conversation": ("chat_conversations", {**NEWEST, "user_id": "eq.ann", "id": f"eq.{ID}", "is_active": "is.true"}),
    "conversation_for_page": ("chat_conversations", {**NEWEST, "user_id": "eq.ann", "page_id": "eq.project-1"}),
    "project": ("projects", {**PROJECT, "user_id": "eq.ann", "id": "eq.7"}),
    "project_of_memo": (
        "projects",
        {
            "select": "id,theme,question,hypothesis,memos!inner(id)",
            "limit": "1",
            "user_id": "eq.ann",
            "memos.id": "eq.9",
            "memos.user_id": "eq.ann",
        },
    ),
    "latest_project": ("projects", {**PROJECT, "user_id": "eq.ann", "order": "updated_at.desc.nullslast,id.desc"}),
    "turn": (
        "chat_logs",
        {
            "select": "conversation_id,id,sender,message,created_at,context_data,turn_id",
            "turn_id": f"eq.{TURN}",
            "user_id": "eq.ann",
        },
    ),
}
WRITES: dict[str, tuple[str, dict[str, str], str, list[dict[str, Any]]]] = {
    "ensure_user": ("users", {"on_conflict": "id"}, "minimal", [{"id": "ann", "username": "ann"}]),
    "ensure_conversation": (
        "chat_conversations",
        {"on_conflict": "user_id,page_id", "select": "id"},
        "representation",
        [{"id": str(ID), "user_id": "ann", "page_id": "general", "title": "A title"}],
    ),
    "write_rows": (
        "chat_logs",
        {"on_conflict": "turn_id,sender"},
        "minimal",
        [
            {
                "turn_id": str(TURN),
                "sender": "user",
                "user_id": "ann",
                "page": "general",
                "conversation_id": str(ID),
                "message": "川？",
                "context_data": {"trace_id": "0a"},
                "created_at": "2026-11-22T12:00:00.123456+00:00",
            }
        ],
    ),
}


@pytest.mark.parametrize(
    ("key", "sent"), [(SECRET, "Basic " + base64.b64encode(b"gw:p@ss").decode()), (JWT, f"Bearer {JWT}")]
)
async def test_a_user_in_the_url_is_authorized(key: str, sent: str, autojump_clock: MockClock) -> None:
    """As gateways want it; a key that is a bearer token takes its place, and `apikey` is sent either way."""
    recorder = Recorder(rows())
    await recorder.database(key, "https://gw:p%40ss@project.supabase.test").user_exists("ann")
    (request,) = recorder.requests
    assert (request.headers["authorization"], request.headers["apikey"]) == (sent, key)
    assert request.headers["host"] == "project.supabase.test"


@pytest.mark.parametrize("name", READS)
async def test_a_read_is_this_one_request(name: str, autojump_clock: MockClock) -> None:
    """Table, filters, order and limits are as written here; conversation and history come together."""
    recorder = Recorder(rows())
    await CALLS[name](recorder.database())
    (request,) = recorder.requests
    table, query = READS[name]
    assert (request.method, request.url.path) == ("GET", f"/rest/v1/{table}")
    assert sorted(parse_qsl(request.url.query.decode(), strict_parsing=True)) == sorted(query.items())
    assert request.headers["accept-profile"] == "public"
    assert "content-profile" not in request.headers
    assert "prefer" not in request.headers
    assert request.content == b""


@pytest.mark.parametrize("name", WRITES)
async def test_a_write_is_this_one_request(name: str, autojump_clock: MockClock) -> None:
    """An insert that ignores what is there already, with the rows as a JSON array."""
    recorder = Recorder(rows({"id": str(ID)}, status=201))
    await CALLS[name](recorder.database())
    (request,) = recorder.requests
    table, query, returned, body = WRITES[name]
    assert (request.method, request.url.path) == ("POST", f"/rest/v1/{table}")
    assert sorted(parse_qsl(request.url.query.decode(), strict_parsing=True)) == sorted(query.items())
    assert json.loads(request.content) == body
    assert request.headers["prefer"] == f"resolution=ignore-duplicates,return={returned}"
    assert request.headers["content-profile"] == "public"
    assert request.headers["content-type"] == "application/json"
    assert "accept-profile" not in request.headers


async def test_an_answer_is_replaced_by_this_one_request(autojump_clock: MockClock) -> None:
    """Only the one that was seen, by its time; it says whether it was there."""
    recorder = Recorder(rows({"turn_id": str(TURN)}), rows())
    assert await CALLS["replace_row"](recorder.database()) is True
    assert await CALLS["replace_row"](recorder.database()) is False
    request, _ = recorder.requests
    assert (request.method, request.url.path) == ("PATCH", "/rest/v1/chat_logs")
    assert dict(parse_qsl(request.url.query.decode(), strict_parsing=True)) == {
        "turn_id": f"eq.{TURN}",
        "sender": "eq.assistant",
        "user_id": "eq.ann",
        "created_at": "eq.2026-11-22T12:00:00.123456+00:00",
        "select": "turn_id",
    }
    assert json.loads(request.content) == {
        "message": "川？", "context_data": {"trace_id": "0a"}, "created_at": "2026-11-22T12:00:00.123456+00:00"
    }  # fmt: skip
    assert request.headers["prefer"] == "return=representation"


KEYED = uuid.uuid5(ID, "a key")


@pytest.mark.parametrize(
    ("written", "taken"), [([], {"user", "assistant"}), (["user"], {"assistant"}), (["user", "assistant"], set())]
)
async def test_rows_of_a_key_are_asked_about(written: list[str], taken: set[str], autojump_clock: MockClock) -> None:
    """Those that did not come back were there."""
    recorder = Recorder(rows(*({"turn_id": str(KEYED), "sender": sender} for sender in written), status=201))
    both = [replace(ROW, turn_id=KEYED), replace(ROW, turn_id=KEYED, sender="assistant")]
    assert {sender for _, sender in await recorder.database().write_rows([*both, ROW])} == taken
    (request,) = recorder.requests
    assert request.url.params["select"] == "turn_id,sender"
    assert request.headers["prefer"] == "resolution=ignore-duplicates,return=representation"


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize(("key", "bearer"), [(JWT, f"Bearer {JWT}"), (SECRET, None), ("sb_publishable_x", None)])
async def test_a_key_is_sent_as_its_kind_wants(
    name: str, key: str, bearer: str | None, autojump_clock: MockClock
) -> None:
    """Always as `apikey`; as a bearer token only when it is a JWT; and never with a browser's user agent."""
    recorder = Recorder(rows({"id": str(ID)}) if name in WRITES else rows())
    await CALLS[name](recorder.database(key))
    headers = recorder.requests[0].headers
    assert (headers["apikey"], headers.get("authorization")) == (key, bearer)
    assert headers["user-agent"] == USER_AGENT
    assert "mozilla" not in USER_AGENT.lower()


@pytest.mark.parametrize("url", [URL, f"{URL}/"])
async def test_the_projects_url_may_end_with_a_slash(url: str, autojump_clock: MockClock) -> None:
    """The path is the same."""
    recorder = Recorder(rows())
    await recorder.database(url=url).latest_project("ann")
    assert str(recorder.requests[0].url).startswith(f"{URL}/rest/v1/projects?")


async def test_a_value_cannot_add_a_filter(autojump_clock: MockClock) -> None:
    """What a user names is one value of one parameter, whatever characters it has."""
    recorder = Recorder(rows())
    await recorder.database().conversation_for_page("ann", "x&user_id=eq.bob#?%26 川+", 20)
    query = parse_qsl(recorder.requests[0].url.query.decode())
    assert [value for name, value in query if name == "user_id"] == ["eq.ann"]
    assert dict(query)["page_id"] == "eq.x&user_id=eq.bob#?%26 川+"


async def test_a_lost_race_reads_the_winner(autojump_clock: MockClock) -> None:
    """No row came back from the insert: the same may be there, made by another; else the page has another one."""
    winner = uuid.uuid4()
    recorder = Recorder(rows(status=201), rows(), rows({"id": str(winner)}))
    assert await recorder.database().ensure_conversation("ann", "general", ID, "t") == winner
    queries = [dict(parse_qsl(request.url.query.decode())) for request in recorder.requests[1:]]
    shared = {"select": "id", "user_id": "eq.ann", "limit": "1"}
    assert queries == [{**shared, "id": f"eq.{ID}"}, {**shared, "page_id": "eq.general"}]


async def test_a_winner_that_is_gone_is_a_fault(autojump_clock: MockClock) -> None:
    """Made by another, deleted before it was read: no id is made up."""
    with pytest.raises(DatabaseFault):
        await Recorder(rows(status=201), rows()).database().ensure_conversation("ann", "general", ID, "t")


async def test_a_conversation_that_was_deleted_is_not_replaced(autojump_clock: MockClock) -> None:
    """Its id is taken: it stands for what is said in it. Taken by nobody of that user's, that is a fault."""
    taken = httpx.Response(409, json={"code": "23505", "message": "duplicate key"})
    recorder = Recorder(taken, rows({"id": str(ID)}))
    assert await recorder.database().ensure_conversation("ann", "general", ID, "t") == ID
    assert [request.method for request in recorder.requests] == ["POST", "GET"]
    with pytest.raises(DatabaseFault) as caught:
        await Recorder(taken, rows(), rows()).database().ensure_conversation("ann", "general", ID, "t")
    assert caught.value.error_type == "23505"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-11-22T12:00:00.123456+00:00", datetime(2026, 11, 22, 12, 0, 0, 123456, tzinfo=UTC)),
        ("2026-11-22T12:00:00.1+00:00", datetime(2026, 11, 22, 12, 0, 0, 100000, tzinfo=UTC)),
        ("2026-11-22T21:00:00+09:00", datetime(2026, 11, 22, 21, tzinfo=timezone(timedelta(hours=9)))),
        ("2026-11-22T12:00:00", datetime(2026, 11, 22, 12, tzinfo=UTC)),
    ],
)
async def test_times_are_read_in_every_spelling(text: str, expected: datetime, autojump_clock: MockClock) -> None:
    """With or without fractions and zone; without a zone they are UTC."""
    found = (
        await Recorder(rows({"id": str(ID), "chat_logs": [message(created_at=text)]}))
        .database()
        .conversation("ann", ID, 1)
    )
    assert found is not None
    assert found.messages[0].created_at == expected
    assert found.messages[0].created_at.tzinfo is not None


def message(**fields: object) -> dict[str, object]:
    base: dict[str, object] = {
        "id": 1,
        "sender": "user",
        "message": "x",
        "created_at": "2026-11-22T12:00:00Z",
        "context_data": {},
        "turn_id": None,
    }
    return {**base, **fields}
