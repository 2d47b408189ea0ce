"""What the model's host does wrong, and what the caller and the database are told of it."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.server.process import AT_ONCE, ServerProcess, running
from tests.server.rows import turn_rows
from tests.server.wire import problem

FIRST_TOKEN_S, IDLE_S, WHOLE_S = 0.5, 0.4, 1.0


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    deadlines = {"LLM_FIRST_TOKEN_TIMEOUT": FIRST_TOKEN_S, "LLM_IDLE_TIMEOUT": IDLE_S, "LLM_TIMEOUT": WHOLE_S}
    settings = {name: str(seconds) for name, seconds in deadlines.items()}
    with running(tmp_path_factory.mktemp("data"), **settings) as process:
        yield process


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A fault, and what comes of it. `kept` is the most characters that had come by then."""

    status: int
    code: str
    retryable: bool = True
    retry_after: str | None = None
    stage: str | None = None
    kept: int = 0


CASES = {
    "http 429 rate_limit_exceeded retry-after=7": Case(status=503, code="model_busy", retry_after="7"),
    "http 429 rate_limit_exceeded retry-after-ms=1500": Case(status=503, code="model_busy", retry_after="2"),
    "http 429 rate_limit_exceeded": Case(status=503, code="model_busy", retry_after="1"),
    "http 429 slow_down retry-after=soon": Case(status=503, code="model_busy", retry_after="1"),
    "http 429 body=empty": Case(status=503, code="model_busy", retry_after="1"),
    "http 503 server_is_overloaded retry-after=3": Case(status=503, code="model_busy", retry_after="3"),
    "http 529 body=html": Case(status=503, code="model_busy", retry_after="1"),
    "http 500": Case(status=502, code="model_error"),
    "http 502 body=html": Case(status=502, code="model_error"),
    "http 504 body=empty": Case(status=502, code="model_error"),
    "http 401 invalid_api_key": Case(status=502, code="model_error", retryable=False),
    "http 403": Case(status=502, code="model_error", retryable=False),
    "http 404 model_not_found": Case(status=502, code="model_error", retryable=False),
    "http 400 context_length_exceeded": Case(status=400, code="message_too_long", retryable=False),
    "cut": Case(status=502, code="model_error"),
    "cut after=3": Case(status=502, code="model_error", kept=12),
    "end after=3": Case(status=502, code="model_error", kept=12),
    "garbage after=3": Case(status=502, code="model_error", kept=12),
    "error after=3 code=server_error": Case(status=502, code="model_error", kept=12),
    "error after=0": Case(status=502, code="model_error"),
    "end done=yes": Case(status=502, code="model_error"),  # an answer without a word is none
    "silent": Case(status=504, code="stage_timeout", stage="llm.first_token"),
    "stall": Case(status=504, code="stage_timeout", stage="llm.first_token"),
    "stall after=3": Case(status=504, code="stage_timeout", stage="llm.idle", kept=12),
    "slow first=0.1 each=0.1": Case(status=504, code="stage_timeout", stage="llm", kept=48),
}

FOR_GOOD = {
    "http 429 insufficient_quota retry-after=7": Case(status=502, code="model_error", retryable=False),
    "http 429 credit_balance_exhausted": Case(status=502, code="model_error", retryable=False),
    "error after=3 code=insufficient_quota": Case(status=502, code="model_error", retryable=False, kept=12),
}
"""A quota that is used up: the host is left alone after it."""


@pytest.mark.parametrize(("fault", "case"), CASES.items(), ids=CASES)
def test_a_fault_of_the_model(server: ServerProcess, fault: str, case: Case) -> None:
    """Each fault has its status and code, says whether and when to try again, and leaves exactly one answer's row."""
    check(server, fault, case)
    server.answer(f"Well again {AT_ONCE}")  # so that these faults are no run of failures


@pytest.mark.parametrize(("fault", "case"), FOR_GOOD.items(), ids=FOR_GOOD)
def test_a_refusal_for_good_is_heeded(tmp_path: Path, fault: str, case: Case) -> None:
    """The turn is told not to try again; the host is not asked again for a while, which readiness and metrics show."""
    with running(tmp_path) as server:
        check(server, fault, case)
        assert server.gauge('breaker_state{target="model"}') == 2
        assert server.http.get("/readyz").json() == {"status": "ready", "degraded": ["model"]}
        server.wait_for_log("breaker.opened", target="model")
        response = server.ask(f"And now? {AT_ONCE}")
        problem(response, 503, "model_busy")
        assert 50 <= int(response.headers["retry-after"]) <= 60


def check(server: ServerProcess, fault: str, case: Case) -> None:
    """Ask for a fault, and check what comes of it."""
    response = server.ask(f"Why? [[fault: {fault}]]", page_id=fault)
    body = problem(response, case.status, case.code)
    assert (body["retryable"], body.get("stage")) == (case.retryable, case.stage)
    assert response.headers.get("retry-after") == case.retry_after
    assert ("retry_after" in body) == (case.retry_after is not None)
    assert "server-timing" in response.headers
    question, answer = turn_rows(server.data_dir, body["turn_id"])
    assert question["message"].startswith("Why?")
    assert (answer["context_data"]["finish"], answer["context_data"]["trace_id"]) == ("error", body["trace_id"])
    assert bool(answer["message"]) == bool(case.kept)
    assert 'About "Why?"'.startswith(answer["message"][:12])
    assert len(answer["message"]) <= case.kept
    _timings_fit(body["performance_metrics"])


def _timings_fit(metrics: dict[str, Any]) -> None:
    assert set(metrics) == {"db_fetch_time", "llm_queue_time", "llm_response_time", "db_save_time", "total_time"}
    parts = sum(seconds for name, seconds in metrics.items() if name != "total_time")
    assert 0 < metrics["llm_response_time"] <= parts <= metrics["total_time"] < WHOLE_S + 1


@pytest.mark.parametrize(("fault", "seen"), [("http 500", 0), ("cut after=2", 2)])
def test_the_next_turn_sees_a_failed_one_by_its_text(server: ServerProcess, fault: str, seen: int) -> None:
    """A failed turn is in the next one's prompt when some of its answer came, and left out when nothing did."""
    assert server.ask(f"One [[fault: {fault}]]", page_id=f"after {fault}").status_code == 502
    body = server.answer(f"Two {AT_ONCE}", page_id=f"after {fault}")
    assert body["context_metadata"]["history_count"] == seen


def test_an_answer_that_ended_properly_is_an_answer(server: ServerProcess) -> None:
    """A stream that says [DONE] without a finish reason or usage gave its answer."""
    body = server.answer("Short? [[fault: end after=3 done=yes]]")
    assert (len(body["response"]), body["token_usage"]) == (12, None)
    assert turn_rows(server.data_dir, body["turn_id"])[1]["context_data"]["finish"] == "stop"


def test_a_pause_shorter_than_the_deadlines_is_waited_for(server: ServerProcess) -> None:
    """A model that falls silent for less than LLM_IDLE_TIMEOUT finishes its answer."""
    body = server.answer("Slow? [[fault: stall after=3 for=0.2]]")
    assert len(body["response"]) > 12
    assert body["performance_metrics"]["llm_response_time"] >= 0.2


def test_refusals_are_counted_by_their_code(server: ServerProcess) -> None:
    """`llm_upstream_rejections_total` counts by the provider's code, which is never free text."""
    server.ask("Count [[fault: http 400 unsupported_parameter]]")
    server.ask("Count [[fault: http 429 'Canary, not a code!']]")
    page = server.http.get("/metrics").text
    assert 'llm_upstream_rejections_total{code="unsupported_parameter"} 1' in page
    assert "Canary" not in page
    assert "Canary" not in server.log_text


def test_a_failed_turn_is_logged_once(server: ServerProcess) -> None:
    """The log has a warning that names code and stage, and the turn's line with its outcome; neither has the text."""
    body = problem(server.ask("Hush-hush [[fault: stall after=3]]"), 504, "stage_timeout")
    finished = server.wait_for_log("turn.finished", turn_id=body["turn_id"])
    assert "StageFacts" not in str(finished)  # the timings are there, not a dump of what they come from
    assert (finished["outcome"], finished["error_type"]) == ("timeout", "timeout.llm.idle")
    warning = server.wait_for_log("turn.failed", turn_id=body["turn_id"])
    assert len(server.lines("turn.failed", turn_id=body["turn_id"])) == 1
    assert (warning["level"], warning["code"], warning["stage"]) == ("warning", "stage_timeout", "llm.idle")
    assert "Hush-hush" not in server.log_text


def test_the_slot_comes_back(server: ServerProcess) -> None:
    """However a model call ended, its slot of the limiter is free again."""
    for fault in ("http 500", "cut after=2", "garbage", "stall after=2"):
        server.ask(f"Free? [[fault: {fault}]]")
    assert server.gauge("llm_limiter_borrowed") == 0
    assert server.gauge("edge_turns_inflight") == 0
