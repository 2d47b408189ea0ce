"""More turns than the model's slots."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.server.process import AT_ONCE, ServerProcess, running
from tests.server.rows import stored
from tests.server.wire import problem


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with running(tmp_path_factory.mktemp("data"), OPENAI_API_POOL_SIZE="1", LLM_QUEUE_TIMEOUT="0.3") as process:
        process.answer(f"First {AT_ONCE}")
        yield process


def test_who_finds_no_slot_in_time_is_turned_away(server: ServerProcess) -> None:
    """The second turn waits LLM_QUEUE_TIMEOUT, then gets 503 with Retry-After, unstored; the first one is answered."""
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(server.answer, "Take your time [[fault: slow first=1.2 each=0]]", user="first")
        server.wait_for_gauge("llm_limiter_borrowed", 1)
        response = server.ask("Me too", user="second")
        body = problem(response, 503, "overloaded")
        assert (body["retryable"], body["stage"]) == (True, "llm.queue")
        assert int(response.headers["retry-after"]) >= 1
        assert 0.3 <= body["performance_metrics"]["llm_queue_time"] < 1.2
        assert body["performance_metrics"]["llm_response_time"] == 0
        assert first.result()["saved"] == "database"
    assert stored(server.data_dir, user_id="second") == []
    assert server.gauge("llm_limiter_borrowed") == 0
    assert server.wait_for_log("turn.finished", turn_id=body["turn_id"])["outcome"] == "shed"


def test_who_finds_a_slot_in_time_is_served(server: ServerProcess) -> None:
    """A turn that waits less than that is answered, and its reply says how long it waited."""
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(server.answer, "Be quick [[fault: slow first=0.25 each=0]]", user="third")
        server.wait_for_gauge("llm_limiter_borrowed", 1)
        waited = server.answer(f"After you {AT_ONCE}", user="fourth")
        assert first.result()["performance_metrics"]["llm_queue_time"] < 0.1
    assert 0 < waited["performance_metrics"]["llm_queue_time"] < 0.3
    assert waited["performance_metrics"]["llm_response_time"] < waited["performance_metrics"]["total_time"]


def test_the_limiter_is_on_the_metrics_page(server: ServerProcess) -> None:
    """The wait for a slot is counted by how it ended."""
    page = server.http.get("/metrics").text
    assert 'llm_limiter_wait_duration_seconds_count{outcome="shed"} 1' in page
    assert 'llm_limiter_wait_duration_seconds_count{outcome="admitted"}' in page
    assert server.gauge("llm_limiter_total") == 1
