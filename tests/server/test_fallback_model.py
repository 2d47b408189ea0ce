"""OPENAI_FALLBACK_MODEL through the real server: what the caller and operators are told, and what is stored."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.clients.mock_hosts import MockHost, aimock
from tests.server.process import ServerProcess, running
from tests.server.rows import turn_rows
from tests.server.wire import problem

REFUSED = {"error": {"message": "no", "type": "rate_limit_error", "code": "rate_limit_exceeded"}, "status": 429}
FIXTURES: list[dict[str, Any]] = [
    {"match": {"userMessage": "Both", "model": "first-model"}, "response": {**REFUSED, "retryAfter": 60}},
    {"match": {"userMessage": "Both", "model": "other-model"}, "response": {**REFUSED, "retryAfter": 30}},
    {"match": {"userMessage": "Mud", "model": "first-model"}, "response": {**REFUSED, "retryAfter": 60}},
    {
        "match": {"userMessage": "Cut", "model": "first-model"},
        "response": {"content": "Rivers carry mud to the sea."},
        "latency": 50,
        "truncateAfterChunks": 3,
    },
    {"match": {"userMessage": "Mud"}, "response": {"content": "From the other model."}},
]


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MockHost]:
    with aimock(FIXTURES, tmp_path_factory.mktemp("aimock")) as running_host:
        yield running_host


@pytest.fixture
def server(host: MockHost, tmp_path: Path) -> Iterator[ServerProcess]:
    """A server that has not been refused yet: after this host's refusals the first model is not asked for a minute."""
    settings = {
        "OPENAI_BASE_URL": host.url,
        "OPENAI_API_KEY": "sk-test",
        "OPENAI_MODEL": "first-model",
        "OPENAI_FALLBACK_MODEL": "other-model",
    }
    with running(tmp_path, **settings) as process:
        yield process


def models(host: MockHost, question: str) -> list[str]:
    """Return which models were asked a question, in order."""
    asked = [entry["body"] for entry in host.journal()]
    return [body["model"] for body in asked if body["messages"][-1]["content"] == question]


def test_the_other_model_answers(server: ServerProcess, host: MockHost) -> None:
    """The reply says so in `fallback_used`, a warning and the model's name; counter, log line and row say it too."""
    body = server.answer("Mud?")
    assert models(host, "Mud?") == ["first-model", "other-model"]
    assert (body["response"], body["fallback_used"]) == ("From the other model.", "model")
    assert [warning["code"] for warning in body["warnings"]] == ["fallback"]
    assert body["context_metadata"]["model"] == "other-model"
    assert server.gauge('chat_fallbacks_total{kind="model"}') == 1
    line = server.wait_for_log("fallback")
    assert (line["level"], line["error"]) == ("warning", "rate_limit_exceeded")
    _question, answer = turn_rows(server.data_dir, body["turn_id"])
    stored = answer["context_data"]
    assert (stored["fallback_used"], stored["model"], stored["warnings"]) == ("model", "other-model", ["fallback"])


def test_the_hosts_name_of_the_request_is_in_the_log(server: ServerProcess, host: MockHost) -> None:
    """The turn's line has the `x-request-id` of the answer, which the host's support asks for."""
    body = server.answer("Mud and silt?")
    finished = server.wait_for_log("turn.finished", turn_id=body["turn_id"])
    last = [entry for entry in host.journal() if entry["body"]["messages"][-1]["content"] == "Mud and silt?"][-1]
    assert finished["details"]["model_request_id"] == last["headers"]["x-request-id"]


def test_when_both_refuse_the_second_ones_wait_is_told(server: ServerProcess, host: MockHost) -> None:
    """Each was asked once, and the caller is told when to come back."""
    response = server.ask("Both?")
    problem(response, 503, "model_busy")
    assert response.headers["retry-after"] == "30"
    assert models(host, "Both?") == ["first-model", "other-model"]


def test_a_broken_answer_is_not_begun_anew(server: ServerProcess, host: MockHost) -> None:
    """After the first token no other model is asked; what had come is stored."""
    body = problem(server.ask("Cut?"), 502, "model_error")
    assert models(host, "Cut?") == ["first-model"]
    _question, answer = turn_rows(server.data_dir, body["turn_id"])
    assert "Rivers carry mud to the sea.".startswith(answer["message"])
    assert answer["message"]
    assert (answer["context_data"]["finish"], answer["context_data"]["fallback_used"]) == ("error", None)
