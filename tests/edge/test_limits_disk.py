"""A disk that is full: what cannot be written is told where it can be, and everything else goes on."""

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.edge.limits_wire import MODULE
from tests.server.process import AT_ONCE, ServerProcess, running
from tests.server.rows import row_counts, stored
from tests.server.wire import problem


class Unheard(ServerProcess):
    """A server whose log cannot be read: it tells its address on standard output."""

    def learn_address(self) -> None:
        words = self.wait_for_text("http://").split()
        self.url = next(word for word in words if word.startswith("http://"))
        self.http.base_url = self.url


@contextmanager
def unheard(data_dir: Path, stderr: Path) -> Iterator[Unheard]:
    """Run a server that logs to `stderr`."""
    server = Unheard(data_dir, MODULE, TEST_STDERR=str(stderr))
    try:
        server.learn_address()
        yield server
    finally:
        server.close()


def limit_files_of(server: ServerProcess, size: int) -> None:
    """Let the running process write no file beyond so many bytes, as if the disk were full there."""
    _soft, hard = resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (size, hard))


def still_alive(server: ServerProcess) -> bool:
    return server.http.get("/healthz").status_code == 200


def test_a_log_that_cannot_be_written_stops_nothing(tmp_path: Path) -> None:
    """With standard error on a full disk from the start, turns are answered, refused and stored; the end is an end."""
    with unheard(tmp_path, Path("/dev/full")) as server:
        for number in range(20):
            assert server.answer(f"Number {number} {AT_ONCE}")["saved"] == "database"
        assert server.ask("").status_code == 400
        assert still_alive(server)
        assert len(stored(tmp_path)) == 40
        assert server.end() == 0  # not 120, with which Python tells of streams that it could not flush


def test_a_log_goes_on_when_there_is_room(tmp_path: Path) -> None:
    """A log whose disk was full for a while is written on afterwards, in whole lines but for the one that was cut."""
    log = tmp_path / "log"
    with unheard(tmp_path / "data", log) as server:
        server.answer(f"First {AT_ONCE}")
        limit_files_of(server, log.stat().st_size + 10)
        for _ in range(100):
            assert server.ask("").status_code == 400
        limit_files_of(server, resource.RLIM_INFINITY)
        assert server.answer(f"Next {AT_ONCE}")["saved"] == "database"
        assert server.end() == 0
    lines = log.read_text().splitlines()
    assert any('"server.stopped"' in line for line in lines)
    assert sum(not (line.startswith("{") and line.endswith("}")) for line in lines) <= 1


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ServerProcess]:
    with running(tmp_path, OUTBOX="off") as process:
        process.answer(f"First {AT_ONCE}")
        yield process


def test_a_database_without_room_costs_no_answer(server: ServerProcess) -> None:
    """While the database's disk is full, and there is no outbox, who is known is answered, unsaved and told so."""
    before = row_counts(server.data_dir)
    limit_files_of(server, 4096)
    for number in range(10):
        answer = server.answer(f"Lost {number} {AT_ONCE}")
        assert answer["saved"] == "no"
        assert [warning["code"] for warning in answer["warnings"]] == ["save_failed"]
        assert answer["response"]
        assert still_alive(server)
    problem(server.ask(f"Who am I? {AT_ONCE}", user="newcomer"), 503, "database_unavailable")
    assert server.gauge("edge_turns_inflight") == 0
    assert server.gauge("llm_limiter_borrowed") == 0
    assert row_counts(server.data_dir) == before

    limit_files_of(server, resource.RLIM_INFINITY)
    answer = server.answer(f"Next {AT_ONCE}")
    assert (answer["saved"], answer["warnings"]) == ("database", [])
    assert answer["context_metadata"]["history_count"] == 2
    assert server.answer(f"And I {AT_ONCE}", user="newcomer")["saved"] == "database"
    assert httpx.get(f"{server.url}/readyz").status_code == 200
    assert server.end() == 0
    rows = [row["message"] for row in stored(server.data_dir, user_id="demo")]
    assert len(rows) == 4
    assert rows[2].startswith("Next")
