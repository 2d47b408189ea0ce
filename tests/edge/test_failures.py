"""What fails in a handler, in its answer, in its clean-up or in a turn: told to the caller with a trace id, and logged
once under that id.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from tests.server.process import ServerProcess, running
from tests.server.wire import Wire, chat_head, connected, problem

FAILING = {  # how a request is made to fail: its first line, its user, what is logged
    "raises": ("GET /test/fail/raises", "demo", "request.failed"),
    "late": ("GET /test/fail/late", "demo", "request.failed"),
    "cancelled": ("GET /test/fail/cancelled", "demo", "request.failed"),
    "before a turn": ("POST /chat", "handler-bug", "request.failed"),
    "in a turn": ("POST /chat", "stage-bug", "turn.failed"),
    "in an agent's turn": ("POST /conversation-agent/chat", "stage-bug", "turn.failed"),
}
TRACES = {how: f"{number:032x}" for number, how in enumerate(FAILING, 1)}
SEQUENTIAL = {"USE_OPTIMIZED_CHAT": "false", "USE_OPTIMIZED_AGENT": "false"}
"""The other plan has a second go at a turn that met a bug, and logs both."""
ANSWERED = [how for how in FAILING if how not in {"late", "cancelled"}]
BODY = b'{"message": "What is a hypothesis?", "include_history": true}'


@dataclass(frozen=True)
class Story:
    """What a server that has ended had answered, and all that it had logged."""

    answers: dict[str, httpx.Response]
    begun: bytes
    log: list[dict[str, Any]]

    def failures(self, how: str) -> list[dict[str, Any]]:
        """Return what was logged of a failure's trace, but for the facts that every turn leaves."""
        return [line for line in self.log if line.get("trace_id") == TRACES[how] and line["event"] != "turn.finished"]


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    with running(tmp_path_factory.mktemp("data"), "tests.edge.breaking", **SEQUENTIAL) as server:
        answers = {}
        for how in ANSWERED:
            with connected(server) as wire:
                ask(wire, how)
                answers[how] = wire.response()
                ask(wire, how)  # the connection goes on
                assert wire.response().status_code == 500
        begun = begin(server)
        leave(server)
        assert server.end() == 0
        log = list(server.log)
        server.log.clear()  # stacks are what is wanted here
        yield Story(answers, begun, log)


def ask(wire: Wire, how: str) -> None:
    """Send the request that fails, as a part of its own trace."""
    first_line, user, _event = FAILING[how]
    parent = f"00-{TRACES[how]}-b7ad6b7169203331-01"
    head = chat_head(len(BODY), user, traceparent=parent, **{"x-request-id": f"request:{TRACES[how]}"})
    wire.send(head.replace(b"POST /chat", first_line.encode()) + BODY)


def begin(server: ServerProcess) -> bytes:
    """Return all that came of an answer that fails in its middle, until the server closed."""
    received = b""
    with connected(server) as wire:
        ask(wire, "late")
        while data := wire.socket.recv(65_536):
            received += data
    return received


def leave(server: ServerProcess) -> None:
    """Ask, and leave before there is an answer."""
    with connected(server) as wire:
        ask(wire, "cancelled")
        server.wait_for_gauge("edge_connections", 2)  # this one, and the one that asks for the gauge
    server.wait_for_log("request.failed", trace_id=TRACES["cancelled"])


@pytest.mark.parametrize("how", FAILING)
def test_a_failure_is_logged_once_for_each_request(story: Story, how: str) -> None:
    """One line with a stack, under the trace id that the caller was given; nothing else is said of it."""
    lines = story.failures(how)
    assert [line["event"] for line in lines] == [FAILING[how][2]] * (2 if how in ANSWERED else 1)
    for line in lines:
        assert line["level"] == "error"
        assert "KeyError: " in line["stack"]
        if line["event"] == "request.failed":
            assert line["request_id"] == f"request:{TRACES[how]}"


def test_nothing_else_is_logged_as_an_error(story: Story) -> None:
    """The server below the edge, and what goes on around a failure, add no error lines of their own."""
    known = set(TRACES.values())
    assert [line for line in story.log if line["level"] == "error" and line.get("trace_id") not in known] == []


@pytest.mark.parametrize("how", ANSWERED)
def test_a_failure_is_a_problem_that_says_nothing_of_it(story: Story, how: str) -> None:
    """The caller gets a 500 with their own trace id and request id, and not a word of what is behind it."""
    response = story.answers[how]
    body = problem(response, 500, "internal_error")
    assert body["trace_id"] == TRACES[how]
    assert response.headers["x-request-id"] == f"request:{TRACES[how]}"
    everything = response.text + str(response.headers)
    assert not any(word in everything for word in ("KeyError", "a bug", "Traceback", "stack"))


def test_an_answer_that_fails_is_not_ended_properly(story: Story) -> None:
    """What was begun as a success has no last chunk, so that no client takes it for whole; the connection ends."""
    head, _, rest = story.begun.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 ")
    assert f"x-trace-id: {TRACES['late']}".encode() in head
    assert rest == b"6\r\nbegun \r\n"


def test_a_failed_turn_is_counted_as_one(story: Story) -> None:
    """The turn's facts say internal error, so that a dashboard sees it too."""
    finished = [
        line for line in story.log if line["event"] == "turn.finished" and line["trace_id"] == TRACES["in a turn"]
    ]
    assert [line["outcome"] for line in finished] == ["internal_error"] * 2


SECRET = "Bearer-of-a-secret"
UNREADABLE = {
    "a header line": f"GET /healthz HTTP/1.1\r\nhost: x\r\nauthorization : {SECRET}\r\n\r\n",
    "a header's value": f"GET /healthz HTTP/1.1\r\nhost: x\r\nauthorization: {SECRET}\0\r\n\r\n",
    "a request line": f"GET /healthz?{SECRET} and more HTTP/1.1\r\nhost: x\r\n\r\n",
    "a body's length": f"POST /chat HTTP/1.1\r\nhost: x\r\ncontent-length: {SECRET}\r\n\r\n",
    "a chunk": f"POST /chat HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n{SECRET}\r\n",
    "a target": f"GET http://[{SECRET}/ HTTP/1.1\r\nhost: x\r\n\r\n",
    "a host": f"GET /healthz HTTP/1.1\r\nhost: {SECRET}/\r\n\r\n",
}


def test_a_refusal_logs_nothing_of_the_request(tmp_path_factory: pytest.TempPathFactory) -> None:
    """What could not be read may be a misspelt token: the log says what was wrong, not with what."""
    with running(tmp_path_factory.mktemp("data"), LOG_LEVEL="debug") as server:
        for raw in UNREADABLE.values():
            with connected(server) as wire:
                wire.send(raw.encode())
                body = problem(wire.response(), 400, "bad_request")
            line = server.wait_for_log("request.refused", trace_id=body["trace_id"])
            assert line["note"]
        assert server.end() == 0
    assert SECRET not in server.log_text
