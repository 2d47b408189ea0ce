"""The line in front of the model's slots: its bounds, its order and what it tells, over sockets."""

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import pytest

from tests.server.process import AT_ONCE, ServerProcess, running
from tests.server.rows import row_counts, stored
from tests.server.streaming import STALLS, Open, opened, post, sdk_body
from tests.server.wire import problem

SERVICE_S, PATIENCE_S = 0.3, 2.38
"""Eight in line would take 2.4 s: the ninth is refused, and the eighth still gets its slot in time."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    settings = {"OPENAI_API_POOL_SIZE": "2", "LLM_QUEUE_MAX": "3", "LLM_PER_USER_MAX": "1", "LLM_QUEUE_TIMEOUT": "60"}
    with running(tmp_path_factory.mktemp("data"), **settings) as process:
        process.answer(f"First {AT_ONCE}")
        yield process
        process.wait_for_gauge("llm_limiter_borrowed", 0)
        assert process.gauge("llm_limiter_waiting") == 0


@contextmanager
def stalled(server: ServerProcess, *users: str) -> Iterator[list[Open]]:
    """Have the users' turns hold slots, or wait in line, in that order, until the block ends."""
    with ExitStack() as streams:
        found = []
        for user in users:  # whose head comes once it is let in
            found.append(streams.enter_context(opened(server, STALLS, user=user)))
        yield found
    server.wait_for_gauge("edge_turns_inflight", 0)


def position_of(stream: Open) -> int:
    """Return the place in line that a stream tells next."""
    return int(stream.until(lambda part: part["type"] == "data-queue")["data"]["position"])


def test_a_full_line_turns_away_at_the_door(server: ServerProcess) -> None:
    """One more than may wait is 503 with Retry-After before the database is asked, a stream too; nothing is stored."""
    shed = 'llm_limiter_wait_duration_seconds_count{outcome="shed"} 3'
    with stalled(server, "a", "b", "c", "d", "e"):
        assert (server.gauge("llm_limiter_borrowed"), server.gauge("llm_limiter_waiting")) == (2, 3)
        before = row_counts(server.data_dir)
        for response in (server.ask("Me too", user="f"), post(server, {"message": "Me too"}, user="f")):
            body = problem(response, 503, "overloaded")
            assert (body["retryable"], body["stage"]) == (True, "llm.queue")
            assert int(response.headers["retry-after"]) >= 1
            assert body["performance_metrics"]["db_fetch_time"] == 0
            assert server.wait_for_log("turn.refused", turn_id=body["turn_id"])["error"] == "queue_full"
        response = post(server, sdk_body("Me too"), user="f", path="/chat")
        assert (response.status_code, response.headers["x-error-code"]) == (503, "overloaded")
        assert row_counts(server.data_dir) == before
        assert shed in server.http.get("/metrics").text
    assert stored(server.data_dir, user_id="f") == []


def test_a_busy_user_holds_up_nobody(server: ServerProcess) -> None:
    """While turns of a user wait behind its own call, another user's is answered through the slot that is left."""
    with stalled(server, "busy", "busy", "busy", "busy"):
        assert (server.gauge("llm_limiter_borrowed"), server.gauge("llm_limiter_waiting")) == (1, 3)
        body = server.answer(f"Quickly {AT_ONCE}", user="other")
        assert body["performance_metrics"]["llm_queue_time"] < 1
        assert server.gauge("llm_limiter_waiting") == 3


def test_a_busy_user_makes_room_in_a_full_line(server: ServerProcess) -> None:
    """A user that fills the line gives its newest place to another; that stream ends with an error that says so."""
    with stalled(server, "first", "busy", "busy", "busy", "busy") as streams:
        assert server.gauge("llm_limiter_waiting") == 3
        with opened(server, STALLS, user="other") as other:
            assert position_of(other) == 1
            end = streams[-1].rest()[-1]
            assert end["type"] == "error"
            assert server.wait_for_log("turn.refused", error="queue_full", stage="llm.queue")
            assert server.gauge("llm_limiter_waiting") == 3


def test_the_place_in_line_is_told_as_it_changes(server: ServerProcess) -> None:
    """Who waits behind its own call is told that a newcomer goes before it, and that the one before it has gone."""
    with stalled(server, "first", "busy", "busy") as streams:
        assert position_of(streams[2]) == 1
        with opened(server, STALLS, user="newcomer") as newcomer:
            assert position_of(newcomer) == 1
            assert position_of(streams[2]) == 2
            streams[0].response.close()
            assert newcomer.deltas(1)
            assert position_of(streams[2]) == 1


def test_a_client_that_leaves_the_line_makes_room_at_once(server: ServerProcess) -> None:
    """Its place is free for the next, and those behind it step forward."""
    with stalled(server, "a", "b", "c", "d", "e") as streams:
        assert position_of(streams[4]) == 3
        streams[2].response.close()
        server.wait_for_gauge("llm_limiter_waiting", 2)
        assert position_of(streams[4]) == 2
        with opened(server, STALLS, user="f") as late:
            assert position_of(late) == 3


def test_the_wait_is_predicted_at_the_door(tmp_path: Path) -> None:
    """A turn that would wait too long is 503 at once, and Retry-After is within a quarter of the wait that it was."""
    slow = f"Slowly [[fault: slow first={SERVICE_S} each=0]]"
    settings = {"OPENAI_API_POOL_SIZE": "1", "LLM_QUEUE_TIMEOUT": str(PATIENCE_S)}
    with running(tmp_path, **settings) as server, ExitStack() as streams:
        server.answer(slow)
        let_in: list[httpx.Response] = []
        while True:
            given = {"authorization": f"Bearer user{len(let_in)}"}
            asked = server.http.stream("POST", "/chat/stream", json={"message": slow}, headers=given)
            response = streams.enter_context(asked)
            if response.status_code != 200:
                break
            let_in.append(response)
        refused_at = time.monotonic()
        response.read()
        body = problem(response, 503, "overloaded")
        for each in let_in:
            each.read()
        waited_s = time.monotonic() - refused_at
        assert server.lines("turn.refused", turn_id=body["turn_id"])[0]["error"] == "predicted_wait"
        assert body["performance_metrics"]["db_fetch_time"] == 0
        assert body["retry_after"] == pytest.approx(waited_s, rel=0.25)
        assert 0 <= int(response.headers["retry-after"]) - body["retry_after"] < 1
        assert len(let_in) >= 8
        assert server.answer(f"Later {AT_ONCE}", user="refused")["saved"] == "database"
