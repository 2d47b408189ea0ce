"""The hosts that the load's servers call: right, but where a request says otherwise or a switch is thrown."""

import json
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from app.clients.in_process import AsgiApp, Message
from tests.server.database_faults import REFUSALS
from tests.server.neighbours import Neighbour, database_host, model_host

FIRST_MODEL, OTHER_MODEL = "first-model", "other-model"
FIRST_IS_BUSY = "The first of you is busy."
"""In a question: only the other model takes it."""
ODD_ROW = "No table takes this."
"""In a message: the database refuses its row for good."""
LOST_PROJECT = "13"
"""The id of a project that cannot be read."""
UNHEARD_USER = "unheard"
"""Whose conversations are asked for in vain."""
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


@dataclass(slots=True)
class Moods:
    """What is wrong with a server's hosts at the moment; set and cleared from any thread."""

    no_writes: threading.Event = field(default_factory=threading.Event)


@contextmanager
def moody_model() -> Iterator[Neighbour]:
    """Serve the scripted model, as two models of which the first may be busy."""
    with model_host(_with_body(_busy)) as host:
        yield host


@contextmanager
def moody_database(path: Path, moods: Moods) -> Iterator[Neighbour]:
    """Serve the embedded database at `path`."""

    def fault(scope: Message, body: bytes) -> httpx.Response | None:
        return _refused(scope, body, moods)

    with database_host(path, _with_body(fault)) as host:
        yield host


def _busy(_scope: Message, body: bytes) -> httpx.Response | None:
    asked: dict[str, Any] = json.loads(body) if body else {}
    if asked.get("model") != FIRST_MODEL or FIRST_IS_BUSY not in asked["messages"][-1]["content"]:
        return None
    error = {"error": {"message": "Not now.", "type": "server_error", "code": "server_error"}}
    return httpx.Response(500, headers={"retry-after": "60"}, json=error)


def _refused(scope: Message, body: bytes, moods: Moods) -> httpx.Response | None:
    path, query, writes = scope["path"], scope["query_string"].decode(), scope["method"] != "GET"
    if path.endswith("/projects") and f"eq.{LOST_PROJECT}&" in f"{query}&":
        return REFUSALS["statement_timeout"].instead
    if writes and path.endswith("/chat_logs") and ODD_ROW.encode() in body:
        return httpx.Response(400, json={"code": "23514", "message": "violates check constraint", "details": None})
    if writes and moods.no_writes.is_set() and path.endswith("/chat_logs"):
        return REFUSALS["internal"].instead
    return None


def _with_body(fault: Callable[[Message, bytes], httpx.Response | None]) -> Callable[[AsgiApp], AsgiApp]:
    """Return what asks `fault` for an answer to each request before its host is asked."""

    def around(app: AsgiApp) -> AsgiApp:
        async def moody(scope: Message, receive: Receive, send: Send) -> None:
            if scope["type"] != "http":
                await app(scope, receive, send)
                return
            body = await _read(receive)
            if UNHEARD_USER in scope["query_string"].decode() and scope["path"].endswith("/chat_conversations"):
                while (await receive())["type"] != "http.disconnect":
                    pass
            elif (refusal := fault(scope, body)) is not None:
                await _send(refusal, send)
            else:
                await app(scope, _again(body, receive), send)

        return moody

    return around


async def _read(receive: Receive) -> bytes:
    body, more = b"", True
    while more:
        message = await receive()
        body, more = body + message.get("body", b""), message.get("more_body", False)
    return body


def _again(body: bytes, receive: Receive) -> Receive:
    """Return what gives a body that was read already, and then whatever comes."""
    left: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def given() -> Message:
        return left.pop() if left else await receive()

    return given


async def _send(response: httpx.Response, send: Send) -> None:
    await send({"type": "http.response.start", "status": response.status_code, "headers": response.headers.raw})
    await send({"type": "http.response.body", "body": response.content})
