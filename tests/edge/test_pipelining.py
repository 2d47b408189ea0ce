"""Requests sent before the ones ahead of them are answered: in order, and without hiding that the client has left."""

import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import h11
import httpx
import pytest

from app.edge.connection import MAX_AHEAD_BYTES
from tests.edge.house import HEALTHZ, PATHS, ask
from tests.server.parts import end_of, parts_of, text_of
from tests.server.process import AT_ONCE, WAIT_S, ServerProcess, running, until
from tests.server.rows import stored, turn_rows
from tests.server.wire import problem

STALLED = "[[fault: stall after=3]]"
DROPS = "edge_drops_total"
STARTED = "gen_ai_client_operation_time_to_first_chunk_seconds_count"
LEAVINGS: dict[str, Callable[[socket.socket], None]] = {
    "close": lambda connection: connection.close(),
    "reset": lambda connection: reset(connection),
    "half-close": lambda connection: connection.shutdown(socket.SHUT_WR),
}
CUTS = {"in its request line": 7, "in its headers": 60, "before its body": -40, "in its body": -9}
GARBAGE = b"\x16\x03\x01\x02 no request at all\r\n\r\n"


def reset(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    settings = {"OPENAI_API_POOL_SIZE": "1", "LLM_IDLE_TIMEOUT": "60", "LLM_TIMEOUT": "60", "LLM_QUEUE_TIMEOUT": "60"}
    with running(tmp_path_factory.mktemp("data"), "tests.server.extended", **settings) as process:
        process.answer(f"First {AT_ONCE}")  # so that every metric is there
        yield process


@pytest.fixture(scope="module")
def data_dir(server: ServerProcess) -> Path:
    return server.data_dir


class Line:
    """A client's end, which reads one answer after the other."""

    def __init__(self, connection: socket.socket) -> None:
        self.socket = connection
        self._http = h11.Connection(h11.CLIENT)

    def send(self, *parts: bytes) -> None:
        """Send all parts in one piece."""
        self.socket.sendall(b"".join(parts))

    def answer(self) -> httpx.Response:
        """Return the next answer, which must be complete."""
        if self._http.our_state is h11.DONE:
            self._http.start_next_cycle()
        self._http.send(h11.Request(method="POST", target="/", headers=[("host", "x"), ("content-length", "0")]))
        self._http.send(h11.EndOfMessage())
        head, body = None, b""
        while not isinstance(event := self._http.next_event(), h11.EndOfMessage):
            if event is h11.NEED_DATA:
                self._http.receive_data(self.socket.recv(65_536))
            elif isinstance(event, h11.Response):
                head = event
            elif isinstance(event, h11.Data):
                body += event.data
        assert head is not None
        return httpx.Response(head.status_code, headers=head.headers.raw_items(), content=body)

    def at_end(self) -> bool:
        """Return whether nothing follows but the connection's end."""
        return not self._http.trailing_data[0] and not self.socket.recv(1)


@contextmanager
def connected(server: ServerProcess) -> Iterator[Line]:
    with socket.create_connection(server.address, WAIT_S) as connection:
        yield Line(connection)


def said(path: str, answer: httpx.Response) -> str:
    """Return the text of a turn's answer, which must have ended well."""
    assert answer.status_code == 200
    if path == "/chat":
        return str(answer.json()["response"])
    parts = parts_of(answer.text)
    assert end_of(parts)["type"] == "finish"
    return text_of(parts)


def new_line(server: ServerProcess, known: int, event: str, **fields: str) -> dict[str, Any]:
    """Return the one log line that comes beside the `known` ones."""
    until(lambda: len(server.lines(event, **fields)) > known, f"another {event}")
    (line,) = server.lines(event, **fields)[known:]
    return line


def ended(server: ServerProcess, known: int) -> dict[str, Any]:
    """Return the log line of the one turn that was cancelled beside the `known` ones, when no turn runs any more."""
    server.wait_for_gauge("edge_turns_inflight", 0)
    line = new_line(server, known, "turn.finished", outcome="cancelled")
    assert line["error_type"] == "cancelled"
    return line


@pytest.mark.parametrize("path", PATHS)
def test_requests_in_one_segment_are_answered_in_order(server: ServerProcess, path: str) -> None:
    """Three turns and a health check sent at once: each is answered in full, in its order; then the line is as new."""
    with connected(server) as line:
        line.send(
            ask(path, "apples [[fault: slow first=0.4 each=0]]"),
            ask(path, f"bridges {AT_ONCE}"),
            ask(path, "clouds [[fault: slow first=0.1 each=0]]"),
            HEALTHZ,
        )
        for topic in ("apples", "bridges", "clouds"):
            assert topic in said(path, line.answer())
        assert line.answer().json() == {"status": "alive"}
        line.send(ask(path, f"deserts {AT_ONCE}"))
        assert "deserts" in said(path, line.answer())


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("cut", CUTS.values(), ids=CUTS)
def test_half_a_request_ahead_waits_for_its_rest(server: ServerProcess, path: str, cut: int) -> None:
    """A request that begins behind another and is continued after that one's answer is answered like any."""
    second = ask(path, f"bridges {AT_ONCE}")
    with connected(server) as line:
        line.send(ask(path, f"apples {AT_ONCE}"), second[:cut])
        assert "apples" in said(path, line.answer())
        line.send(second[cut:])
        assert "bridges" in said(path, line.answer())


def test_60_kb_of_requests_are_all_answered(server: ServerProcess) -> None:
    """As many requests as may be sent ahead of an answer are answered behind it, every one."""
    count = (MAX_AHEAD_BYTES - 4096) // len(HEALTHZ)
    with connected(server) as line:
        line.send(ask("/chat", "apples"), HEALTHZ * count)
        assert "apples" in said("/chat", line.answer())
        assert {line.answer().status_code for _ in range(count)} == {200}


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    ("first", "status", "code"),
    [
        (ask("/nowhere", "apples"), 404, "not_found"),
        (ask("/chat", ""), 400, "message_empty"),
        (ask("/chat", "apples", "not a user"), 401, "unauthenticated"),
    ],
)
def test_a_refusal_ahead_does_no_harm(server: ServerProcess, path: str, first: bytes, status: int, code: str) -> None:
    """A turn behind a request that is refused is answered."""
    with connected(server) as line:
        line.send(first, ask(path, f"bridges {AT_ONCE}"))
        problem(line.answer(), status, code)
        assert "bridges" in said(path, line.answer())


@pytest.mark.parametrize("path", PATHS)
def test_garbage_behind_a_request_is_refused_after_its_answer(server: ServerProcess, path: str) -> None:
    """The good request is answered in full, then the garbage with a 400, then the connection ends."""
    with connected(server) as line:
        line.send(ask(path, "apples"), GARBAGE)
        answer = line.answer()
        assert "apples" in said(path, answer)
        assert answer.headers.get("connection") != "close"
        refusal = line.answer()
        problem(refusal, 400, "bad_request")
        assert refusal.headers["connection"] == "close"
        assert line.at_end()


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    "behind",
    [ask("/chat", "never asked", "never"), ask("/chat", "never asked", "never")[:-9], GARBAGE, HEALTHZ * 5000],
    ids=["a request", "half a request", "garbage", "210 kB"],
)
@pytest.mark.parametrize("pause", [False, True], ids=["at once", "while it is answered"])
def test_what_follows_a_last_request_is_ignored(
    server: ServerProcess, data_dir: Path, path: str, behind: bytes, pause: bool
) -> None:
    """Behind `Connection: close` there is nothing: its answer is whole, then the connection ends; nothing is asked."""
    last = ask(path, "apples [[fault: slow first=0.1 each=0]]", connection="close")
    with connected(server) as line:
        line.send(last if pause else last + behind)
        if pause:
            server.wait_for_gauge("edge_turns_inflight", 1)
            line.send(behind)
        answer = line.answer()
        assert "apples" in said(path, answer)
        assert answer.headers["connection"] == "close"
        assert line.at_end()
    assert not stored(data_dir, user_id="never")


@pytest.mark.parametrize("path", PATHS)
def test_who_sends_too_far_ahead_is_dropped(server: ServerProcess, data_dir: Path, path: str) -> None:
    """More than `MAX_AHEAD_BYTES` ahead of an answer ends the connection, and so its turn; it is logged and counted."""
    drops, dropped = server.gauge(DROPS), len(server.lines("connection.dropped"))
    known = len(server.lines("turn.finished", outcome="cancelled"))
    with connected(server) as line:
        line.send(ask(path, f"apples {STALLED}"))
        server.wait_for_gauge("llm_limiter_borrowed", 1)
        with suppress(ConnectionError):  # when it is reset while it still sends
            line.send(HEALTHZ * (2 * MAX_AHEAD_BYTES // len(HEALTHZ)))
        with pytest.raises((ConnectionError, h11.RemoteProtocolError)):
            line.answer()
    turn = ended(server, known)
    assert turn_rows(data_dir, turn["turn_id"])[1]["context_data"]["finish"] == "cancelled"
    assert new_line(server, dropped, "connection.dropped")["reason"] == "sent_ahead"
    assert server.gauge(DROPS) == drops + 1


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("leave", LEAVINGS.values(), ids=LEAVINGS)
@pytest.mark.parametrize(
    ("answered", "behind"),
    [(0, 0), (0, 1), (1, 1)],
    ids=["in the only", "in the first of two", "in the second of three"],
)
def test_who_leaves_is_missed_whatever_else_was_asked(
    server: ServerProcess, data_dir: Path, path: str, leave: Callable[[socket.socket], None], answered: int, behind: int
) -> None:
    """A client that leaves in one of its turns ends that one; those before it are stored, those behind never begun."""
    known = len(server.lines("turn.finished", outcome="cancelled"))
    user = f"leaves{known}"
    server.answer(f"Hello {AT_ONCE}", user=user)
    started = server.gauge(STARTED)
    with connected(server) as line:
        before, after = (ask(path, f"{topic} {AT_ONCE}", user) for topic in ("apples", "clouds"))
        line.send(before * answered, ask(path, f"bridges {STALLED}", user), after * behind)
        for _ in range(answered):
            assert "apples" in said(path, line.answer())
        server.wait_for_gauge(STARTED, started + answered + 1)
        leave(line.socket)
        turn = ended(server, known)
    question, answer = turn_rows(data_dir, turn["turn_id"])
    assert question["message"].startswith("bridges")
    assert answer["message"]
    assert answer["context_data"]["finish"] == "cancelled"
    assert len(stored(data_dir, user_id=user)) == 2 + 2 * answered + 2
    assert server.gauge("llm_limiter_borrowed") == 0
    assert server.answer(f"Next {AT_ONCE}", user=user)["context_metadata"]["history_count"] == 4 + 2 * answered
    assert not server.lines("save.failed")
