"""A client that goes away in the middle of its turn."""

import json
import socket
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.server.process import AT_ONCE, ServerProcess, running
from tests.server.rows import row_counts, turn_rows
from tests.server.wire import Wire, chat_head, connected

STARTED = "gen_ai_client_operation_time_to_first_chunk_seconds_count"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with running(tmp_path_factory.mktemp("data"), OPENAI_API_POOL_SIZE="1", LLM_QUEUE_TIMEOUT="15") as process:
        process.answer(f"First {AT_ONCE}")  # so that every metric is there
        yield process


def begin(server: ServerProcess, wire: Wire, message: str, user: str) -> None:
    """Send a question and wait until the model has said its first token."""
    tokens = server.gauge(STARTED)
    body = json.dumps({"message": message}).encode()
    wire.send(chat_head(len(body), user) + body)
    server.wait_for_gauge(STARTED, tokens + 1)


def left(server: ServerProcess, user: str, leave: Callable[[Wire], None]) -> dict[str, Any]:
    """Have a user leave in the middle of an answer, and return the turn's log line."""
    known = {line["turn_id"] for line in server.lines("turn.finished", outcome="cancelled")}
    with connected(server) as wire:
        begin(server, wire, "Tell me a long story [[fault: stall after=3]]", user)
        assert server.gauge("llm_limiter_borrowed") == 1
        leave(wire)
        server.wait_for_gauge("edge_turns_inflight", 0)
    (line,) = [line for line in server.lines("turn.finished", outcome="cancelled") if line["turn_id"] not in known]
    return line


def test_the_turn_is_cancelled_and_its_text_kept(server: ServerProcess, data_dir: Path) -> None:
    """The turn ends as cancelled; its question and what was said so far are stored, marked as cancelled."""
    line = left(server, "closes", lambda wire: wire.socket.close())
    assert (line["outcome"], line["error_type"]) == ("cancelled", "cancelled")
    question, answer = turn_rows(data_dir, line["turn_id"])
    assert question["message"].startswith("Tell me a long story")
    assert answer["context_data"]["finish"] == "cancelled"
    assert answer["message"]
    assert 'About "Tell '.startswith(answer["message"])
    assert not server.lines("save.failed")


def test_the_slot_is_free_again(server: ServerProcess) -> None:
    """With one slot in all, the next turn is served though the model would have stalled for ever."""
    left(server, "frees", lambda wire: wire.socket.close())
    assert server.gauge("llm_limiter_borrowed") == 0
    assert server.answer(f"Next {AT_ONCE}", user="frees")["context_metadata"]["history_count"] == 2
    assert server.http.get("/readyz").status_code == 200


def test_a_half_closed_client_has_left(server: ServerProcess) -> None:
    """A client that shuts its sending side down is gone too, as the edge has always seen it."""
    line = left(server, "half", lambda wire: wire.socket.shutdown(socket.SHUT_WR))
    assert line["outcome"] == "cancelled"


def test_a_reset_is_a_departure(server: ServerProcess) -> None:
    """A connection that is reset, not closed, cancels its turn as well."""

    def reset(wire: Wire) -> None:
        wire.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        wire.socket.close()

    assert left(server, "resets", reset)["outcome"] == "cancelled"


def test_who_leaves_the_queue_was_never_there(server: ServerProcess, data_dir: Path) -> None:
    """A turn whose client leaves while it waits for a slot stores nothing and asks no model."""
    with connected(server) as holder, connected(server) as waiter:
        begin(server, holder, "Hold [[fault: stall after=1]]", "holder")
        before = row_counts(data_dir)
        body = b'{"message": "I will not wait"}'
        waiter.send(chat_head(len(body), "waiter") + body)
        server.wait_for_gauge("llm_limiter_waiting", 1)
        waiter.socket.close()
        server.wait_for_gauge("llm_limiter_waiting", 0)
        server.wait_for_gauge("edge_turns_inflight", 1)
        assert row_counts(data_dir) == before
    server.wait_for_gauge("edge_turns_inflight", 0)
