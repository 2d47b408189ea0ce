"""How the server ends: by a signal, at once by a second one, or killed; with what was answered."""

import socket
import statistics
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from signal import SIGINT, SIGKILL, SIGTERM, Signals

import httpx
import pytest

from app.edge.serve import KEEP_ALIVE_S
from tests.server.ending import STALLS, TALKING, get, report, seconds_to_end
from tests.server.process import AT_ONCE, running
from tests.server.rows import stored, turn_rows
from tests.server.wire import connected

MANY = [
    (SIGTERM, 1, KEEP_ALIVE_S - 1),  # one may meet a busy machine; who waited for the idle would wait this long
    *(pytest.param(number, 10, 1.5, marks=pytest.mark.soak) for number in (SIGTERM, SIGINT)),
]
READERS = 30


@pytest.mark.parametrize(("number", "count", "most_s"), MANY)
def test_idle_connections_do_not_delay_the_end(tmp_path: Path, number: Signals, count: int, most_s: float) -> None:
    """With connections that are kept alive, silent or in the middle of a head, the end takes less than 1.5 s."""
    took = []
    for name in map(str, range(count)):
        with running(tmp_path / name) as server, ExitStack() as clients:
            kept, _silent, halfway = (clients.enter_context(connected(server)) for _ in range(3))
            halfway.send(get("/healthz")[:20])
            for _ in range(2):
                kept.send(get("/healthz"))
                assert kept.response().status_code == 200
            took.append(seconds_to_end(server, number))
    report(f"{number.name}, idle", took)
    assert statistics.median(took) < most_s


@pytest.mark.parametrize(("timeout_s", "most_s"), [(1, 12), pytest.param(2, 5, marks=pytest.mark.soak)])
def test_readers_that_stall_do_not_delay_the_end_for_long(tmp_path: Path, timeout_s: int, most_s: int) -> None:
    """With 30 clients that take nothing of their answers, the end comes within the send timeout and 3 s."""
    settings = {"CLIENT_SEND_TIMEOUT": str(timeout_s)}
    with running(tmp_path, "tests.server.extended", **settings) as server, ExitStack() as clients:
        for _ in range(READERS):
            client = clients.enter_context(socket.socket())
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.connect(server.address)
            client.sendall(get("/test/flood/50000000"))
            assert client.recv(1)
        took = seconds_to_end(server, SIGTERM)
        report(f"SIGTERM, {READERS} stalled readers, send timeout {timeout_s} s", [took])
        assert took < most_s
        assert len(server.lines("connection.dropped", reason="send_timeout")) == READERS


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (SIGTERM, SIGTERM),
        pytest.param(SIGTERM, SIGINT, marks=pytest.mark.soak),
        pytest.param(SIGINT, SIGINT, marks=pytest.mark.soak),  # test_end_group.py has it too
    ],
    ids=lambda number: number.name,
)
def test_a_second_signal_ends_it_at_once(tmp_path: Path, first: Signals, second: Signals) -> None:
    """While a turn is finished, a second signal is not handled: the process dies of it, without a word."""
    with running(tmp_path) as server, ThreadPoolExecutor(1) as pool:
        turn = pool.submit(server.ask, STALLS)
        server.wait_for_gauge(TALKING, 1)
        server.send_signal(first)
        server.wait_for_log("server.draining")
        assert server.end(second, timeout_s=2) == -second
        assert isinstance(turn.exception(), httpx.TransportError)
        assert server.log[-1]["event"] == "server.draining"


def test_a_second_signal_may_come_with_the_first(tmp_path: Path) -> None:
    """A SIGINT that comes while the first signal is being taken ends the process as any second signal does."""
    with running(tmp_path, "tests.server.hasty") as server:
        assert server.end(SIGTERM, timeout_s=2) == -SIGINT


def test_a_kill_loses_nothing_that_was_answered(tmp_path: Path) -> None:
    """kill -9 after one turn's reply and in the middle of another: the next start knows the one, and goes on."""
    with running(tmp_path) as server, ThreadPoolExecutor(1) as pool:
        first = server.answer(f"Remember me {AT_ONCE}")
        turn = pool.submit(server.ask, STALLS, user="cut-off")
        server.wait_for_gauge(TALKING, 2)
        assert server.end(SIGKILL) == -SIGKILL
        assert isinstance(turn.exception(), httpx.TransportError)
    assert turn_rows(tmp_path, first["turn_id"])[1]["message"] == first["response"]
    assert {row["sender"] for row in stored(tmp_path, user_id="cut-off")} <= {"user"}
    with running(tmp_path) as server:
        second = server.answer(f"Do you? {AT_ONCE}")
        again = server.answer(f"Again {AT_ONCE}", user="cut-off")
    assert second["context_metadata"]["history_count"] == 2
    assert second["conversation_id"] == first["conversation_id"]
    assert (again["saved"], again["context_metadata"]["history_count"]) == ("database", 0)
