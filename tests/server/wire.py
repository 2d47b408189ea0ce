"""Requests that a proper HTTP client would not send, over a bare socket."""

import http.client
import select
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx

from tests.server.process import WAIT_S, ServerProcess


@dataclass(slots=True)
class Wire:
    """A connection to the server."""

    socket: socket.socket

    def send(self, data: bytes) -> None:
        """Send bytes as they are."""
        self.socket.sendall(data)

    def answered_within(self, seconds: float) -> bool:
        """Return whether anything came back, or the connection ended, within so long."""
        return bool(select.select([self.socket], [], [], seconds)[0])

    def next_is_answered(self, rest: bytes, request: bytes) -> bool:
        """Send the rest of a body and another request; return whether an answer comes."""
        self.send(rest + request)
        return self.answered_within(WAIT_S) and self.response().status_code == 200

    def response(self) -> httpx.Response:
        """Return the next response."""
        response = http.client.HTTPResponse(self.socket)
        response.begin()
        return httpx.Response(response.status, headers=response.getheaders(), content=response.read())


@contextmanager
def connected(server: ServerProcess) -> Iterator[Wire]:
    """Connect until the block ends."""
    with socket.create_connection(server.address, WAIT_S) as connection:
        yield Wire(connection)


def chat_head(content_length: int, user: str = "demo", **headers: str) -> bytes:
    """Return the head of a `POST /chat` whose body has so many bytes."""
    lines = {
        "host": "127.0.0.1",
        "authorization": f"Bearer {user}",
        "content-type": "application/json",
        "content-length": str(content_length),
        **headers,
    }
    return (
        b"POST /chat HTTP/1.1\r\n"
        + b"".join(f"{name}: {value}\r\n".encode() for name, value in lines.items())
        + b"\r\n"
    )


def problem(response: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """Check that a response is the documented problem, with a trace id and nothing internal, and return its body."""
    assert (response.status_code, response.headers["content-type"]) == (status, "application/problem+json"), (
        response.text
    )
    body: dict[str, Any] = response.json()
    assert (body["status"], body["code"], body["type"]) == (status, code, f"urn:nursery-chat:problem:{code}")
    assert body["trace_id"] == response.headers["x-trace-id"]
    assert body["title"]
    assert body["detail"]
    assert isinstance(body["retryable"], bool)
    assert not any(word in response.text for word in ("Traceback", 'File "', ".py", "Exception"))
    return body
