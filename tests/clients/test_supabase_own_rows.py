"""Every request that the database client can make is about its user's rows: walked from the port, method by method."""

import ast
import inspect
import json
import sys
import uuid
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import product
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any, get_type_hints
from urllib.parse import parse_qsl

import httpx
import pytest

from app.caller_token import CALLER_TOKEN, CallerToken
from app.clients import supabase, supabase_conversations
from app.clients.ports import ChatDatabase, LogRow
from app.clients.supabase import SupabaseDatabase
from app.conversations import MessageName, Place
from app.errors import DatabaseFault

USER = "the-user"
OWNERS = {"users": "id", "user_id_mapping": "auth_id"}
"""The column that tells whose a row is, and where that is not `user_id`."""
NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
ROW = LogRow(
    turn_id=uuid.uuid5(uuid.NAMESPACE_OID, "a key"), sender="user", user_id=USER, page="general", message="hello",
    conversation_id=uuid.uuid4(), context_data={}, created_at=NOON,
)  # fmt: skip
OF_TYPE: dict[Any, Sequence[Any]] = {
    str: ("text",),
    int: (3,),
    uuid.UUID: (uuid.uuid4(),),
    uuid.UUID | str: (uuid.uuid4(), "general"),
    str | None: (None, "text"),
    datetime: (NOON,),
    Place: (Place(at=NOON, id=7), Place(at=NOON)),
    Place | None: (None, Place(at=NOON, id=uuid.uuid4())),
    MessageName: (MessageName(id=7), MessageName(turn_id=uuid.uuid4(), sender="user", id=uuid.uuid4())),
    Collection[uuid.UUID]: ([uuid.uuid4()],),
    Collection[uuid.UUID] | None: (None, [uuid.uuid4()]),
    LogRow: (ROW,),
    Sequence[LogRow]: ([ROW, ROW],),
}
"""What each argument may be, by its type. A type that is missing here is one of a new method: say what it may be."""
METHODS = sorted(name for name, _ in inspect.getmembers(ChatDatabase, inspect.isfunction) if not name.startswith("_"))
SENDING = {"_select", "_select_if_typed", "_insert", "_update", "_heads", "_insert_conversation", "_send"}
FILES: tuple[ModuleType, ...] = (supabase, supabase_conversations)
NOTHING: tuple[int, Any] = (200, [])
DUPLICATE: tuple[int, Any] = (409, {"code": "23505", "message": "a key"})


@dataclass
class Told(httpx.AsyncBaseTransport):
    """A host that gives each method of HTTP the same answer, and keeps the requests and the lines that sent them."""

    answers: dict[str, tuple[int, Any]]
    requests: list[httpx.Request] = field(default_factory=list)
    lines: set[tuple[str, int]] = field(default_factory=set)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        self.lines |= {(frame.f_code.co_filename, frame.f_lineno) for frame in _frames(sys._getframe())}
        status, body = self.answers.get(request.method, NOTHING)
        return httpx.Response(status, json=body)


def _frames(frame: FrameType | None) -> Iterator[FrameType]:
    while frame is not None:
        yield frame
        frame = frame.f_back


def arguments(name: str) -> Iterator[dict[str, Any]]:
    """Return every combination of what a method's arguments may be; the user is always the same."""
    hints = get_type_hints(getattr(ChatDatabase, name))
    names = [
        parameter for parameter in inspect.signature(getattr(ChatDatabase, name)).parameters if parameter != "self"
    ]
    choices = [
        (USER,) if one in ("user_id", "auth_id") else ("", "text") if one == "text" else OF_TYPE[hints[one]]
        for one in names
    ]
    for chosen in product(*choices):
        yield dict(zip(names, chosen, strict=True))


@pytest.fixture(autouse=True)
def caller() -> Iterator[None]:
    """A request with a token is under way."""
    before = CALLER_TOKEN.set(CallerToken("head.payload.signature"))
    yield
    CALLER_TOKEN.reset(before)


async def walked(name: str) -> Told:
    """Call a method with everything it can be given, on hosts that have nothing, and that refuse an insert.

    Each with the key alone, and as a caller.
    """
    all_told = Told({})
    for given, insert, as_caller in product(arguments(name), (NOTHING, DUPLICATE), (False, True)):
        told = Told({"POST": insert})
        database = SupabaseDatabase(told, "http://database", "key", as_caller=as_caller)
        try:
            await getattr(database, name)(**given)
        except DatabaseFault as fault:
            assert fault.error_type in {"23505", "database_unavailable"}, fault
        all_told.requests += told.requests
        all_told.lines |= told.lines
    return all_told


def strangers(request: httpx.Request) -> list[str]:
    """Return in what a request may reach rows that are not its user's."""
    table = request.url.path.rpartition("/")[2]
    owner = OWNERS.get(table, "user_id")
    if request.method == "POST":
        return [f"{table}: {row}" for row in json.loads(request.content) if row.get(owner) != USER]
    query = parse_qsl(request.url.query.decode(), keep_blank_values=True)
    filters = [value for column, value in query if column == owner]
    wrong = [] if filters == [f"eq.{USER}"] else [f"{request.method} {table}: {filters}"]
    if "memos!inner" in dict(query).get("select", "") and ("memos.user_id", f"eq.{USER}") not in query:
        wrong.append("memos, by which a project is found")
    if request.method == "PATCH" and owner in json.loads(request.content):
        wrong.append(f"{table} is given away")
    return wrong


@pytest.mark.parametrize("name", METHODS)
async def test_every_request_is_about_the_users_rows(name: str) -> None:
    """Whatever a method is given and answered, each request filters by its user, or writes rows that are theirs."""
    told = await walked(name)
    assert told.requests
    assert [wrong for request in told.requests for wrong in strangers(request)] == []


async def test_every_line_that_sends_is_walked() -> None:
    """No call in the client that leads to a request is left out of the walk."""
    lines = {line for name in METHODS for line in (await walked(name)).lines}
    missed = [
        f"{Path(file).name}:{first}"
        for file, first, last in sending_calls()
        if not any(where == file and first <= line <= last for where, line in lines)
    ]
    assert missed == []


def sending_calls() -> Iterator[tuple[str, int, int]]:
    """Return file, first and last line of each call that leads to a request."""
    for module in FILES:
        assert module.__file__
        for node in ast.walk(ast.parse(Path(module.__file__).read_text("utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in SENDING:
                yield module.__file__, node.lineno, node.end_lineno or node.lineno


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "chat_logs?turn_id=eq.x", None),
        ("GET", "chat_logs?user_id=eq.another", None),
        ("GET", "chat_logs?user_id=eq.the-user&user_id=neq.the-user", None),
        ("GET", "users?user_id=eq.the-user", None),
        ("GET", "projects?select=id,memos!inner(id)&user_id=eq.the-user", None),
        ("POST", "chat_logs", [{"user_id": USER}, {"user_id": "another"}]),
        ("PATCH", "chat_logs?user_id=eq.the-user", {"user_id": "another"}),
    ],
)
def test_a_request_that_reaches_further_is_found(method: str, path: str, body: Any) -> None:
    """What is checked would tell a request without the filter, with another's, or that gives a row away."""
    assert strangers(httpx.Request(method, f"http://database/rest/v1/{path}", json=body))
