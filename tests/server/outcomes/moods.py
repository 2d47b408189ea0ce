"""Hosts that misbehave on demand, request by request: a mood for each kind of request, set by the test at any time."""

import json
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

import trio

from app.clients.in_process import AsgiApp, Message
from tests.server.database_faults import REFUSALS
from tests.server.process import AT_ONCE

Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Mood = str | float
"""The name of a refusal (database_faults.py), `silent` for no answer while it lasts, or a delay in seconds."""


class Moods:
    """Goes around the database's app. A kind of request is its method and table: `GET projects`."""

    def __init__(self) -> None:
        self._moods: dict[str, Mood] = {}
        self._token: trio.lowlevel.TrioToken | None = None
        self._over = trio.Event()

    @contextmanager
    def of(self, kind: str, mood: Mood) -> Iterator[None]:
        """Have requests of a kind meet this mood until the block ends."""
        self._moods[kind] = mood
        try:
            yield
        finally:
            del self._moods[kind]
            if self._token is not None:
                self._token.run_sync_soon(self._let_go)

    def _let_go(self) -> None:
        self._over.set()
        self._over = trio.Event()

    def around(self, app: AsgiApp) -> AsgiApp:
        """Return `app`, but for the requests that meet a mood."""

        async def moody(scope: Message, receive: Receive, send: Send) -> None:
            mood = self._moods.get(f"{scope.get('method')} {scope.get('path', '').rpartition('/')[2]}")
            if mood == "silent":
                self._token = trio.lowlevel.current_trio_token()
                await _until_gone(receive, self._over)
            elif isinstance(mood, str):
                await _refuse(mood, send)
            else:
                await trio.sleep(mood or 0)
                await app(scope, receive, send)

        return moody


async def _until_gone(receive: Receive, over: trio.Event) -> None:
    """Return when the client has gone, or the mood, which breaks the connection."""
    async with trio.open_nursery() as nursery:

        async def watch() -> None:
            await over.wait()
            nursery.cancel_scope.cancel()

        nursery.start_soon(watch)
        while (await receive())["type"] != "http.disconnect":
            pass
        nursery.cancel_scope.cancel()


async def _refuse(name: str, send: Send) -> None:
    answer = REFUSALS[name].instead
    assert answer is not None
    await send({"type": "http.response.start", "status": answer.status_code, "headers": answer.headers.raw})
    await send({"type": "http.response.body", "body": answer.content, "more_body": False})


def well_as(model: str) -> Callable[[AsgiApp], AsgiApp]:
    """Return what goes around the scripted model's app so that, asked for `model`, it makes no fault."""

    def around(app: AsgiApp) -> AsgiApp:
        async def sober(scope: Message, receive: Receive, send: Send) -> None:
            if scope["type"] != "http":
                await app(scope, receive, send)
                return
            asked = json.loads(await _body(receive))
            if asked["model"] == model:
                last = asked["messages"][-1]
                last["content"] = last["content"].partition("[[")[0] + AT_ONCE
            told = [{"type": "http.request", "body": json.dumps(asked).encode(), "more_body": False}]

            async def receive_again() -> Message:
                return told.pop() if told else await receive()

            await app(scope, receive_again, send)

        return sober

    return around


async def _body(receive: Receive) -> bytes:
    body, more = b"", True
    while more:
        message = await receive()
        body, more = body + message.get("body", b""), message.get("more_body", False)
    return body
