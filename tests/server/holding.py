"""A host that holds answers back until the test lets them go: so that what happens at once really does."""

import json
import threading
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable

import trio

from app.clients.in_process import AsgiApp, Message
from tests.server.process import AT_ONCE, WAIT_S

Name = Callable[[Message, bytes], str | None]
Send = Callable[[Message], Awaitable[None]]
HALF = 6
"""Messages of the scripted model's answer, the first of which hold no text."""


def asked(question: str) -> str:
    """Return a question as it is sent: answered at once, until it is held."""
    return f"{question} {AT_ONCE}"


def question_of(scope: Message, body: bytes) -> str:
    """Call a request to the model by its question."""
    return str(json.loads(body)["messages"][-1]["content"].removesuffix(f" {AT_ONCE}"))


class Holding:
    """Goes around a host's app, in the host's own thread (see neighbours.py); all else is called by the test.

    Args:
        name: what a request is called, from its scope and body; None, when it is none that is looked for.
        after: how many messages of an answer go out before it is held; at 0 the app has done its work all the same.
    """

    def __init__(self, name: Name, after: int = 0) -> None:
        self.holds: set[str] = set()
        """The names of the requests whose answers are held."""
        self._name = name
        self._after = after
        self._come = Counter[str]()
        self._changed = threading.Condition()
        self._free: defaultdict[str, trio.Event] = defaultdict(trio.Event)
        self._token: trio.lowlevel.TrioToken | None = None

    def around(self, app: AsgiApp) -> AsgiApp:
        """Return `app`, whose answers are held back."""

        async def held(scope: Message, receive: Callable[[], Awaitable[Message]], send: Send) -> None:
            if scope["type"] != "http":
                await app(scope, receive, send)
                return
            body = await _body(receive)
            name = self._name(scope, body)
            self._note(name)
            told = [{"type": "http.request", "body": body, "more_body": False}]

            async def receive_again() -> Message:
                return told.pop() if told else await receive()

            await app(scope, receive_again, self._held(name, send))

        return held

    def _held(self, name: str | None, send: Send) -> Send:
        if name is None or name not in self.holds:
            return send
        sent = 0

        async def send_held(message: Message) -> None:
            nonlocal sent
            if sent == self._after:
                self._note(f"{name}, held")
                await self._free[name].wait()
            sent += 1
            await send(message)

        return send_held

    def _note(self, name: str | None) -> None:
        self._token = trio.lowlevel.current_trio_token()
        if name is not None:
            with self._changed:
                self._come[name] += 1
                self._changed.notify_all()

    def wait_for(self, name: str, count: int = 1) -> None:
        """Wait until so many requests of a name have come."""
        with self._changed:
            assert self._changed.wait_for(lambda: self._come[name] >= count, WAIT_S), (name, self._come)

    def wait_for_held(self, name: str) -> None:
        """Wait until an answer of a name is held; what the app had to do for it is done, as far as it was sent."""
        self.wait_for(f"{name}, held")

    def let_go(self, name: str) -> None:
        """Let the answers of a name go on, those to come too."""
        assert self._token is not None
        trio.from_thread.run_sync(lambda: self._free[name].set(), trio_token=self._token)


async def _body(receive: Callable[[], Awaitable[Message]]) -> bytes:
    body, more = b"", True
    while more:
        message = await receive()
        body, more = body + message.get("body", b""), message.get("more_body", False)
    return body
