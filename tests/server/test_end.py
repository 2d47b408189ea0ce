"""How the server ends: by a signal, with what is being answered; or killed, with what was answered."""

import json
import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from signal import SIGINT, SIGKILL, SIGTERM, Signals

import httpx
import pytest

from tests.server.process import AT_ONCE, WAIT_S, ServerProcess, running, until
from tests.server.rows import stored, turn_rows
from tests.server.wire import chat_head, connected, problem

SIGNALS = pytest.mark.parametrize("number", [SIGTERM, SIGINT], ids=["SIGTERM", "SIGINT"])


def refuses(server: ServerProcess) -> bool:
    """Return whether the server's port takes no connection."""
    try:
        socket.create_connection(server.address, WAIT_S).close()
    except (ConnectionRefusedError, ConnectionResetError):  # reset: it was in the backlog when the port was closed
        return True
    return False


@SIGNALS
def test_a_turn_in_flight_is_answered(tmp_path: Path, number: Signals) -> None:
    """A signal in the middle of a turn: the turn gets its 200 and its rows, and the exit code is 0."""
    with running(tmp_path) as server, ThreadPoolExecutor(1) as pool:
        turn = pool.submit(server.answer, "Finish this [[fault: slow first=0.7 each=0]]")
        server.wait_for_gauge("llm_limiter_borrowed", 1)
        server.send_signal(number)
        server.wait_for_log("server.draining", signal=number.name)
        assert not turn.done()
        body = turn.result()
        assert server.wait(timeout_s=5) == 0
        server.wait_for_log("server.stopped")
    assert turn_rows(tmp_path, body["turn_id"])[1]["context_data"]["finish"] == "stop"


@SIGNALS
def test_an_idle_server_ends_at_once(tmp_path: Path, number: Signals) -> None:
    """Without anything to finish, a signal ends it within two seconds, with exit code 0 and nothing but log lines."""
    with running(tmp_path) as server:
        assert server.http.get("/readyz").status_code == 200
        assert server.end(number, timeout_s=2) == 0


def test_a_new_turn_is_turned_away_while_draining(tmp_path: Path) -> None:
    """A turn that begins while another one is finished is 503 `draining` with Retry-After, and is not stored."""
    message = json.dumps({"message": "Too late?"}).encode()
    with running(tmp_path) as server, ThreadPoolExecutor(1) as pool, connected(server) as wire:
        turn = pool.submit(server.answer, "Finish this [[fault: slow first=1 each=0]]")
        server.wait_for_gauge("llm_limiter_borrowed", 1)
        wire.send(chat_head(len(message), "late"))  # a request that is under way when the signal comes
        server.wait_for_gauge("edge_draining", 0)
        server.send_signal(SIGTERM)
        server.wait_for_log("server.draining")
        wire.send(message)
        response = wire.response()
        assert problem(response, 503, "draining")["retryable"] is True
        assert int(response.headers["retry-after"]) >= 1
        assert turn.result()["saved"] == "database"
        assert server.wait(timeout_s=5) == 0
    assert stored(tmp_path, user_id="late") == []


def test_a_draining_server_takes_no_connection(tmp_path: Path) -> None:
    """From the signal on the port is closed, which a load balancer's `/readyz` sees, while the turn goes on."""
    with running(tmp_path) as server, ThreadPoolExecutor(1) as pool:
        turn = pool.submit(server.answer, "Finish this [[fault: slow first=1 each=0]]")
        server.wait_for_gauge("llm_limiter_borrowed", 1)
        server.send_signal(SIGTERM)
        server.wait_for_log("server.draining")
        until(lambda: refuses(server), "the port is closed")
        assert not turn.done()
        assert turn.result()["saved"] == "database"


def test_a_turn_that_outlasts_the_drain_is_told_so(tmp_path: Path) -> None:
    """Before GRACEFUL_TIMEOUT a turn is cancelled: 503, its question and partial answer stored, and exit code 0."""
    with running(tmp_path, GRACEFUL_TIMEOUT="0.5") as server, ThreadPoolExecutor(1) as pool:
        turn = pool.submit(server.ask, "Never finish [[fault: stall after=3]]")
        server.wait_for_gauge("gen_ai_client_operation_time_to_first_chunk_seconds_count", 1)
        assert server.end(timeout_s=10) == 0
        problem(turn.result(), 503, "draining")
        (line,) = server.lines("turn.finished", outcome="cancelled")
    answer = turn_rows(tmp_path, line["turn_id"])[1]
    assert answer["context_data"]["finish"] == "cancelled"
    assert answer["message"]


def test_what_was_answered_survives_a_kill(tmp_path: Path) -> None:
    """kill -9 right after the reply: the next start on the same DATA_DIR knows the turn, with its rows as replied."""
    with running(tmp_path) as server:
        first = server.answer(f"Remember me {AT_ONCE}")
        assert server.end(SIGKILL) == -SIGKILL
    assert turn_rows(tmp_path, first["turn_id"])[1]["message"] == first["response"]
    with running(tmp_path) as server:
        second = server.answer(f"Do you? {AT_ONCE}")
    assert second["context_metadata"]["history_count"] == 2
    assert second["conversation_id"] == first["conversation_id"]


def test_a_kill_in_the_middle_leaves_a_whole_database(tmp_path: Path) -> None:
    """kill -9 in the middle of a turn: its question is stored, and the next start goes on without its answer."""
    with running(tmp_path) as server, ThreadPoolExecutor(1) as pool:
        turn = pool.submit(server.ask, "Cut me off [[fault: stall after=3]]")
        server.wait_for_gauge("gen_ai_client_operation_time_to_first_chunk_seconds_count", 1)
        server.end(SIGKILL)
        assert isinstance(turn.exception(), httpx.TransportError)
    assert {row["sender"] for row in stored(tmp_path)} <= {"user"}
    with running(tmp_path) as server:
        body = server.answer(f"Again {AT_ONCE}")
    assert (body["saved"], body["context_metadata"]["history_count"]) == ("database", 0)
