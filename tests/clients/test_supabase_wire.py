"""The database client's requests, byte for byte, and what it makes of every answer that is not the promised one."""

import base64
import json
import logging
import socket
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from itertools import product
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
    """No row came back from the insert, so somebody else's is there, and its id is asked for."""
    winner = uuid.uuid4()
    recorder = Recorder(rows(status=201), rows({"id": str(winner)}))
    assert await recorder.database().ensure_conversation("ann", "general", ID, "t") == winner
    query = dict(parse_qsl(recorder.requests[1].url.query.decode()))
    assert query == {"select": "id", "user_id": "eq.ann", "page_id": "eq.general", "limit": "1"}


async def test_a_winner_that_is_gone_is_a_fault(autojump_clock: MockClock) -> None:
    """Made by another, deleted before it was read: no id is made up."""
    with pytest.raises(DatabaseFault):
        await Recorder(rows(status=201), rows()).database().ensure_conversation("ann", "general", ID, "t")


async def test_a_taken_id_is_replaced_once(autojump_clock: MockClock) -> None:
    """A derived id that a deleted conversation keeps is replaced by a random one; failing again is a fault."""
    taken = httpx.Response(409, json={"code": "23505", "message": "duplicate key"})
    recorder = Recorder(taken)
    with pytest.raises(DatabaseFault) as caught:
        await recorder.database().ensure_conversation("ann", "general", ID, "t")
    assert caught.value.error_type == "23505"
    ids = [json.loads(request.content)[0]["id"] for request in recorder.requests]
    assert len(ids) == len(set(ids)) == 2
    assert ids[0] == str(ID)


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


PRIVATE = "private words of a student"


def refusal(code: object, status: int) -> httpx.Response:
    return httpx.Response(status, json={"code": code, "message": PRIVATE, "details": PRIVATE, "hint": PRIVATE})


# What comes back -> the bounded name that telemetry gets.
REFUSALS: list[tuple[Answer, str]] = [
    (refusal("PGRST000", 503), "PGRST000"),
    (refusal("PGRST003", 504), "PGRST003"),
    (refusal("PGRST301", 401), "PGRST301"),
    (refusal("57014", 500), "57014"),
    (refusal("40001", 500), "40001"),
    (refusal("42501", 403), "42501"),
    (refusal("42P01", 404), "42P01"),
    (refusal(42501, 403), "42501"),
    (refusal(PRIVATE, 400), "http_400"),
    (refusal(None, 400), "http_400"),
    (refusal(["42501"], 400), "http_400"),
    (httpx.Response(400, json=[PRIVATE]), "http_400"),
    (httpx.Response(401, json={"message": PRIVATE}), "http_401"),
    (httpx.Response(502, text=f"<html>{PRIVATE}</html>"), "http_502"),
    (httpx.Response(503), "http_503"),
    (httpx.Response(500, content=b"\xff\xfe"), "http_500"),
    (httpx.Response(302, headers={"location": "https://elsewhere.test/"}), "http_302"),
    (httpx.ConnectError(PRIVATE), "ConnectError"),
    (httpx.ReadError(PRIVATE), "ReadError"),
    (httpx.RemoteProtocolError(PRIVATE), "RemoteProtocolError"),
    (httpx.PoolTimeout(PRIVATE), "PoolTimeout"),
    (refusal("[" * 50, 500), "http_500"),
    (httpx.Response(500, content=b"[" * 100_000), "http_500"),
]


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize(("answer", "error_type"), REFUSALS, ids=lambda value: value if isinstance(value, str) else "")
async def test_every_refusal_is_a_fault_with_a_bounded_name(
    name: str, answer: Answer, error_type: str, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever method met it; and no text of the other side is in the fault or in a log."""
    caplog.set_level(logging.DEBUG)
    with pytest.raises(DatabaseFault) as caught:
        await CALLS[name](Recorder(answer).database())
    fault = caught.value
    assert (fault.code, fault.kind.status, fault.retryable) == ("database_unavailable", 503, True)
    assert fault.error_type == error_type
    assert PRIVATE not in f"{fault} {fault.note} {fault.fields} {caplog.text}"
    assert SECRET not in f"{fault} {fault.note} {caplog.text}"


class Garbled(httpx.AsyncByteStream):
    """A body that is not what its content encoding says."""

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield b"no gzip at all"


@pytest.mark.filterwarnings("ignore:Async generator:ResourceWarning")  # httpx leaves its own behind when decoding fails
@pytest.mark.parametrize("name", CALLS)
async def test_a_body_that_cannot_be_decoded_is_a_fault(name: str, autojump_clock: MockClock) -> None:
    """Not even a broken content encoding gets past the client."""
    answer = httpx.Response(200, headers={"content-encoding": "gzip"}, stream=Garbled())
    with pytest.raises(DatabaseFault) as caught:
        await CALLS[name](Recorder(answer).database())
    assert caught.value.error_type == "DecodingError"


NOT_ROWS: list[bytes] = [b"{}", b'"rows"', b"5", b"null", b"rows", b"<html></html>", b"\xff", b"[" * 100_000]


@pytest.mark.parametrize("name", READS)
@pytest.mark.parametrize("body", NOT_ROWS, ids=lambda body: body[:9].decode("latin-1"))
async def test_a_200_that_is_no_list_of_rows_is_a_fault(name: str, body: bytes, autojump_clock: MockClock) -> None:
    """A gateway's page with status 200, or JSON of another shape."""
    with pytest.raises(DatabaseFault) as caught:
        await CALLS[name](Recorder(httpx.Response(200, content=body)).database())
    assert caught.value.error_type == "not_json"


BAD_IDS: list[object] = [5, "text", None, {}, {"id": 5}, {"id": None}, {"id": "no uuid"}]
BAD_CONVERSATIONS: list[object] = [
    5, "text", None, [], {}, {"id": str(ID)}, {"id": str(ID), "chat_logs": None}, {"id": str(ID), "chat_logs": 5},
    {"id": "no uuid", "chat_logs": []}, {"id": 5, "chat_logs": []}, {"id": None, "chat_logs": []},
    {"id": str(ID), "chat_logs": ["text"]}, {"id": str(ID), "chat_logs": [{}]},
    {"id": str(ID), "chat_logs": [message(created_at="yesterday")]},
    {"id": str(ID), "chat_logs": [message(created_at=None)]},
    {"id": str(ID), "chat_logs": [message(message=5)]},
]  # fmt: skip
BAD_PROJECTS: list[object] = [
    5, "text", None, [], {}, {"id": 1}, {"theme": "", "question": "", "hypothesis": ""},
    {"id": 1, "theme": 5, "question": "", "hypothesis": ""},
]  # fmt: skip
BAD_ROWS = [
    *product(["conversation", "conversation_for_page"], BAD_CONVERSATIONS),
    *product(["project", "project_of_memo", "latest_project"], BAD_PROJECTS),
    *product(["ensure_conversation"], BAD_IDS),
]


@pytest.mark.parametrize(("name", "row"), BAD_ROWS, ids=str)
async def test_a_row_that_is_not_as_it_was_asked_for_is_a_fault(
    name: str, row: object, autojump_clock: MockClock
) -> None:
    """A schema that is not ours is the database's fault, not an error in our code."""
    with pytest.raises(DatabaseFault) as caught:
        await CALLS[name](Recorder(rows(row)).database())
    assert caught.value.error_type == "bad_row"


async def test_a_port_that_nobody_listens_at_is_a_fault() -> None:
    """Over a real socket, through httpx's own transport."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        async with httpx.AsyncHTTPTransport() as transport:
            database = SupabaseDatabase(transport, f"http://127.0.0.1:{bound.getsockname()[1]}", SECRET)
            with pytest.raises(DatabaseFault) as caught:
                await database.user_exists("ann")
    assert caught.value.error_type == "ConnectError"
