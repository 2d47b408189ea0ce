"""The end of turns that outlast the drain, and of saves that are slow in it."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from signal import SIGTERM

import httpx
import pytest

from tests.server.ending import STALLS, TALKING, locked, post
from tests.server.neighbours import Neighbour, database_host
from tests.server.parts import Part, end_of, metadata_of, parts_of, text_of
from tests.server.process import AT_ONCE, running, until
from tests.server.rows import stored, turn_rows
from tests.server.wire import Wire, connected, problem

TIMEOUT_S = 3.0
LAST_CALL_S = TIMEOUT_S / 2
"""Half of GRACEFUL_TIMEOUT, where that is short."""
TIMINGS = {"db_fetch_time", "llm_queue_time", "llm_response_time", "db_save_time", "total_time"}


@dataclass(slots=True, kw_only=True)
class Ended:
    """How a server ended whose turns would not: a stream, a turn, one whose client left, and two that waited."""

    responses: dict[str, httpx.Response] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    left_s: float = 0.0
    exit_code: int | None = None
    data_dir: Path

    @property
    def parts(self) -> list[Part]:
        """The parts of the stream."""
        return parts_of(self.responses["stream"].text)


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> Ended:
    seen = Ended(data_dir=tmp_path_factory.mktemp("data"))
    settings = {"GRACEFUL_TIMEOUT": str(TIMEOUT_S), "OPENAI_API_POOL_SIZE": "3", "LLM_QUEUE_TIMEOUT": "20"}
    with running(seen.data_dir, "tests.server.extended", **settings) as server, ExitStack() as clients:
        stream, turn, leaves, follows, waits = (clients.enter_context(connected(server)) for _ in range(5))
        stream.send(post(STALLS, "/chat/stream", "demo"))
        turn.send(post(STALLS, user="turns"))
        leaves.send(post(STALLS, user="leaves"))
        server.wait_for_gauge(TALKING, 3)
        for count, (user, wire) in enumerate({"follows": follows, "waits": waits}.items(), 1):
            wire.send(post(STALLS, user=user))
            server.wait_for_gauge("llm_limiter_waiting", count)
        begun = time.monotonic()
        server.send_signal(SIGTERM)

        def take(name: str, wire: Wire) -> None:
            seen.responses[name] = wire.response()  # which fails on a body without its proper end
            seen.seconds[name] = time.monotonic() - begun
            wire.socket.close()

        told = {"stream": stream, "turn": turn, "follows": follows, "waits": waits}
        with ThreadPoolExecutor(len(told)) as readers:
            for name, wire in told.items():
                readers.submit(take, name, wire)
            server.wait_for_log("server.draining")
            leaves.socket.close()
            server.wait_for_log("turn.finished", outcome="cancelled")
            seen.left_s = time.monotonic() - begun
        seen.exit_code = server.wait(timeout_s=10)
    return seen


def test_a_stream_ends_with_a_proper_error(ended: Ended) -> None:
    """Its last part, in a complete HTTP message, is an error; the metadata has its code and the turn's timings."""
    assert ended.responses["stream"].status_code == 200
    assert text_of(ended.parts)
    assert end_of(ended.parts) == {
        "type": "error", "errorText": "The server is restarting. Please try again shortly."
    }  # fmt: skip
    metadata = metadata_of(ended.parts)
    assert metadata["error"]["code"] == "draining"
    assert set(metadata["performance_metrics"]) == {*TIMINGS, "time_to_first_token"}


def test_a_streams_text_is_kept(ended: Ended) -> None:
    """What the stream said so far is stored, as cancelled."""
    (answer,) = stored(ended.data_dir, user_id="demo", sender="assistant")
    assert (answer["message"], answer["context_data"]["finish"]) == (text_of(ended.parts), "cancelled")


def test_a_turn_is_told_so(ended: Ended) -> None:
    """A turn that is not streamed is 503 `draining`, with its id and timings; its partial answer is stored."""
    body = problem(ended.responses["turn"], 503, "draining")
    assert int(ended.responses["turn"].headers["retry-after"]) >= 1
    assert ended.responses["turn"].headers["connection"] == "close"
    assert set(body["performance_metrics"]) == TIMINGS
    _question, answer = turn_rows(ended.data_dir, body["turn_id"])
    assert answer["context_data"]["finish"] == "cancelled"
    assert answer["message"]


def test_a_turn_that_waits_for_a_slot_is_told_so(ended: Ended) -> None:
    """A turn that waits for the model to the last call is 503 `draining`, and has stored nothing."""
    body = problem(ended.responses["waits"], 503, "draining")
    assert stored(ended.data_dir, turn_id=body["turn_id"]) == []


def test_a_turn_that_waited_gets_a_slot_in_the_drain(ended: Ended) -> None:
    """A turn that waited at the signal is next when another ends; at the last call it is told as those before it."""
    body = problem(ended.responses["follows"], 503, "draining")
    assert turn_rows(ended.data_dir, body["turn_id"])[1]["context_data"]["finish"] == "cancelled"


def test_they_are_told_before_the_timeout_but_not_early(ended: Ended) -> None:
    """All of it comes at the last call, before GRACEFUL_TIMEOUT; and the exit code is 0."""
    assert set(ended.seconds) == {"stream", "turn", "follows", "waits"}
    assert all(LAST_CALL_S <= seconds < TIMEOUT_S for seconds in ended.seconds.values()), ended.seconds
    assert ended.exit_code == 0


def test_a_client_that_leaves_in_the_drain_ends_its_turn(ended: Ended) -> None:
    """The turn of a client that leaves during the drain is cancelled and stored, before the last call."""
    assert ended.left_s < LAST_CALL_S
    (answer,) = stored(ended.data_dir, user_id="leaves", sender="assistant")
    assert answer["context_data"]["finish"] == "cancelled"


def posts(host: Neighbour) -> int:
    """Return how many inserts a database has been asked for."""
    return sum(heard.method == "POST" for heard in host.heard)


@pytest.mark.parametrize("optimized", ["true", pytest.param("false", marks=pytest.mark.soak)])
def test_a_slow_save_is_waited_for(tmp_path: Path, optimized: str) -> None:
    """Rows that the database is slow to take in the drain are waited for: the turn is answered and stored."""
    with database_host(tmp_path / "supabase.sqlite3") as host, ThreadPoolExecutor(1) as pool:
        settings = {"SUPABASE_URL": host.url, "SUPABASE_KEY": "sb_secret_test", "AUTH_MODE": "dev"}
        settings["DB_SAVE_TIMEOUT"] = "20"  # or the outbox takes the rows from a machine that is slow, too
        with running(tmp_path / "server", USE_OPTIMIZED_CHAT=optimized, **settings) as server:
            server.answer(f"Before {AT_ONCE}")  # so that the next turn writes nothing but its rows
            with locked(tmp_path):
                saves = posts(host)
                turn = pool.submit(server.answer, "Save this [[fault: slow first=0.5 each=0]]")
                server.wait_for_gauge("llm_limiter_borrowed", 1)
                server.send_signal(SIGTERM)
                server.wait_for_log("server.draining")
                until(lambda: posts(host) > saves, "a save has begun")
                threading.Event().wait(0.5)  # which is how slow the database is
                assert not turn.done()
            body = turn.result()
            assert server.wait(timeout_s=5) == 0
    assert body["saved"] == "database"
    assert turn_rows(tmp_path, body["turn_id"])[1]["context_data"]["finish"] == "stop"


def test_saves_outlast_the_drain(tmp_path: Path) -> None:
    """A turn whose save the database holds up beyond GRACEFUL_TIMEOUT is cut off from its client, and stored."""
    with running(tmp_path, GRACEFUL_TIMEOUT="0.6") as server, ThreadPoolExecutor(1) as pool:
        turn = pool.submit(server.ask, STALLS)
        server.wait_for_gauge(TALKING, 1)
        with locked(tmp_path):
            server.send_signal(SIGTERM)
            assert isinstance(turn.exception(), httpx.TransportError)
            assert server.process.poll() is None
        assert server.wait(timeout_s=5) == 0
        (line,) = server.lines("turn.finished", outcome="cancelled")
        assert not server.lines("save.failed")
    assert turn_rows(tmp_path, line["turn_id"])[1]["context_data"]["finish"] == "cancelled"


@pytest.mark.soak
def test_a_turn_whose_saves_both_time_out_is_told_so(tmp_path: Path) -> None:
    """With a database that is stuck, and two saves that must give up one after the other, the 503 still comes."""
    settings = {"USE_OPTIMIZED_CHAT": "false", "DB_SAVE_TIMEOUT": "1.3", "GRACEFUL_TIMEOUT": "6", "OUTBOX": "off"}
    with running(tmp_path, **settings) as server, ThreadPoolExecutor(1) as pool:
        turn = pool.submit(server.ask, STALLS)
        server.wait_for_gauge(TALKING, 1)
        with locked(tmp_path):
            server.send_signal(SIGTERM)
            problem(turn.result(), 503, "draining")
            assert server.wait() == 0  # though it is stuck to the end
        assert len(server.lines("save.failed")) == 1
