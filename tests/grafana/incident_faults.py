"""What befalls the hosts that a server calls while an incident's switch is thrown; a host is an ASGI app."""

import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import httpx
import trio

from app.clients.in_process import AsgiApp, Message
from tests.server.database_faults import REFUSALS

Handler = Callable[[AsgiApp, Message, Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]], Any]
SLOW_S = 1.3  # over the second that a turn may take beside its model
OVERLAP_S = 0.15  # far longer than the reads of one turn are apart that are sent at the same time


@dataclass(slots=True)
class Switch:
    """Thrown from any thread; the host looks at it at each request."""

    thrown: threading.Event = field(default_factory=threading.Event)

    def around(self, handler: Handler) -> Callable[[AsgiApp], AsgiApp]:
        """Return what puts a fault around a host, for requests that come while the switch is thrown."""

        def wrap(app: AsgiApp) -> AsgiApp:
            async def faulty(scope: Message, receive: Any, send: Any) -> None:
                if scope["type"] == "http" and self.thrown.is_set():
                    await handler(app, scope, receive, send)
                else:
                    await app(scope, receive, send)

            return faulty

        return wrap


async def slow(app: AsgiApp, scope: Message, receive: Any, send: Any) -> None:
    await trio.sleep(2 * SLOW_S if scope["method"] == "GET" else SLOW_S)
    await app(scope, receive, send)


async def slow_projects(app: AsgiApp, scope: Message, receive: Any, send: Any) -> None:
    if scope["path"].endswith("/projects"):
        await trio.sleep(2 * SLOW_S)
    await app(scope, receive, send)


async def a_third_of_a_second(app: AsgiApp, scope: Message, receive: Any, send: Any) -> None:
    await trio.sleep(SLOW_S / 4)
    await app(scope, receive, send)


async def no_writes(app: AsgiApp, scope: Message, receive: Any, send: Any) -> None:
    if scope["method"] == "GET":
        await app(scope, receive, send)
    else:
        await _refuse(send, _refusal("internal"))


async def silent(_app: AsgiApp, _scope: Message, receive: Any, _send: Any) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def too_many(_app: AsgiApp, _scope: Message, _receive: Any, send: Any) -> None:
    error = {"message": "Rate limit reached for requests.", "type": "requests", "code": "rate_limit_exceeded"}
    await _refuse(send, httpx.Response(429, json={"error": error}))


class OneAtATime:
    """A database whose pool has one connection: requests that overlap are refused, as PostgREST refuses them."""

    def __init__(self) -> None:
        self._here: dict[object, bool] = {}

    async def __call__(self, app: AsgiApp, scope: Message, receive: Any, send: Any) -> None:
        me = object()
        self._here[me] = False
        if len(self._here) > 1:
            self._here = dict.fromkeys(self._here, True)
        try:
            await trio.sleep(OVERLAP_S)
        finally:
            refused = self._here.pop(me)
        if refused:
            await _refuse(send, _refusal("pool_exhausted"))
        else:
            await app(scope, receive, send)


def _refusal(name: str) -> httpx.Response:
    response = REFUSALS[name].instead
    assert response is not None
    return response


async def _refuse(send: Any, response: httpx.Response) -> None:
    await send({"type": "http.response.start", "status": response.status_code, "headers": response.headers.raw})
    await send({"type": "http.response.body", "body": response.content})
