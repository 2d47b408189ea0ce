"""Turns asked for as streams, with our body and with the AI SDK's."""

import json
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import httpx

from tests.server.parts import Part, as_they_come, parts_of
from tests.server.process import ServerProcess

STALLS = "[[fault: stall after=3]]"


def sdk_body(text: str, chat: str = "page-1", **fields: Any) -> dict[str, Any]:
    """Return what the SDK posts for a new message; `fields` are more of it."""
    question = {"id": "q1", "role": "user", "parts": [{"type": "text", "text": text}]}
    return {"id": chat, "messages": [question], "trigger": "submit-message"} | fields


def post(
    server: ServerProcess, body: Any, *, path: str = "/chat/stream", user: str = "demo", **headers: str
) -> httpx.Response:
    """Post a body and return the whole answer."""
    given = {"authorization": f"Bearer {user}", "content-type": "application/json", **headers}
    return server.http.post(path, content=json.dumps(body).encode(), headers=given)


def stream(server: ServerProcess, message: str, *, user: str = "demo", **fields: Any) -> list[Part]:
    """Ask with our body, and return the parts of the whole stream."""
    response = post(server, {"message": message, **fields}, user=user)
    assert response.status_code == 200, response.text
    return parts_of(response.text)


def get(server: ServerProcess, path: str, user: str = "demo") -> httpx.Response:
    """Return what a page gets that comes back."""
    return server.http.get(path, headers={"authorization": f"Bearer {user}"})


def stop(server: ServerProcess, path: str, user: str = "demo") -> bool:
    """Stop a chat's turn; return whether there was one."""
    response = server.http.post(path, headers={"authorization": f"Bearer {user}"})
    assert response.status_code == 200, response.text
    return bool(response.json()["stopped"])


class Open:
    """A stream that is read part by part."""

    def __init__(self, response: httpx.Response) -> None:
        self.response = response
        self.read: list[Part] = []
        self._parts = as_they_come(response)

    def until(self, wanted: Callable[[Part], bool]) -> Part:
        """Read on to the first part that is wanted."""
        for part in self._parts:
            self.read.append(part)
            if wanted(part):
                return part
        raise AssertionError(f"the stream ended without it: {self.read[-3:]}")

    def deltas(self, count: int) -> str:
        """Read on until the text has grown so often, and return what it grew by."""
        return "".join(str(self.until(is_text)["delta"]) for _ in range(count))

    def rest(self) -> list[Part]:
        """Read to the end, and return every part from the first on."""
        self.read += self._parts
        return self.read


def is_text(part: Part) -> bool:
    return bool(part["type"] == "text-delta")


@contextmanager
def opened(
    server: ServerProcess, message: str = "", *, method: str = "POST", path: str = "/chat/stream", user: str = "demo",
    headers: dict[str, str] | None = None, **fields: Any,
) -> Iterator[Open]:  # fmt: skip
    """Open a stream; leaving the block before its end is a client that leaves."""
    body = {"json": {"message": message, **fields}} if method == "POST" else {}
    given = {"authorization": f"Bearer {user}", **(headers or {})}
    with server.http.stream(method, path, headers=given, **body) as response:  # type: ignore[arg-type]
        assert response.status_code == 200, response.read()
        yield Open(response)


def followed(pool: ThreadPoolExecutor, server: ServerProcess, path: str, user: str = "demo") -> "Future[list[Part]]":
    """Come back to a stream, in a thread of its own, and read it to its end."""

    def follow() -> list[Part]:
        with opened(server, method="GET", path=path, user=user) as back:
            return back.rest()

    return pool.submit(follow)
