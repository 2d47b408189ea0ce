"""Kept-alive connections: used again, told off without harm, let go at the end."""

import http.client
import json
from collections.abc import Iterator
from contextlib import closing

import pytest

from tests.server.process import AT_ONCE, WAIT_S, ServerProcess, running
from tests.server.wire import chat_head, connected, problem

BODY = json.dumps({"message": f"Still there? {AT_ONCE}"}).encode()
HEADERS = {"authorization": "Bearer demo", "content-type": "application/json"}


@pytest.fixture
def connection(server: ServerProcess) -> Iterator[http.client.HTTPConnection]:
    with closing(http.client.HTTPConnection(*server.address, timeout=WAIT_S)) as opened:
        opened.connect()
        yield opened


def ask(connection: http.client.HTTPConnection) -> int:
    connection.request("POST", "/chat", BODY, HEADERS)
    response = connection.getresponse()
    response.read()
    return response.status


def test_one_connection_serves_many_turns(connection: http.client.HTTPConnection) -> None:
    """Turn after turn is answered on one connection."""
    socket = connection.sock
    assert [ask(connection) for _ in range(5)] == [200] * 5
    assert connection.sock is socket


@pytest.mark.parametrize(
    ("path", "headers", "status", "code"),
    [
        ("/chat", {"content-type": "application/json"}, 401, "unauthenticated"),
        ("/chat", {"authorization": "Bearer demo", "content-type": "text/plain"}, 415, "unsupported_media_type"),
        ("/nowhere", HEADERS, 404, "not_found"),
    ],
)
def test_an_early_refusal_hangs_nothing(
    server: ServerProcess, path: str, headers: dict[str, str], status: int, code: str
) -> None:
    """A request refused before its body came: the next one on that connection is answered, or the connection ends."""
    head = chat_head(len(BODY), **headers).replace(b"/chat", path.encode())
    if "authorization" not in headers:
        head = head.replace(b"authorization: Bearer demo\r\n", b"")
    with connected(server) as wire:
        wire.send(head)
        problem(wire.response(), status, code)
        assert wire.answered_within(2) or wire.next_is_answered(BODY, chat_head(len(BODY)) + BODY)


def test_an_idle_connection_does_not_hold_up_the_end(tmp_path_factory: pytest.TempPathFactory) -> None:
    """A front end that keeps its connection open after an answer does not keep the server from ending at once."""
    with running(tmp_path_factory.mktemp("data")) as server:
        connection = http.client.HTTPConnection(*server.address, timeout=WAIT_S)
        with closing(connection):
            assert ask(connection) == 200
            assert server.end(timeout_s=5) == 0


def test_who_leaves_with_the_answer_leaves_no_trace(server: ServerProcess) -> None:
    """Clients that close the instant they have read a refusal disturb nothing: no stack is logged."""
    for _ in range(200):
        with connected(server) as wire:
            wire.send(chat_head(2 << 20))
            problem(wire.response(), 413, "body_too_large")
    assert server.http.get("/healthz").status_code == 200
    assert not [line for line in server.log if "stack" in line]
