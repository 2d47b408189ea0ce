"""The conversation agent's endpoints, and `/chat` through the agent, on a real server."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.server.process import AT_ONCE, ServerProcess, running
from tests.server.rows import turn_rows

FIELDS = {
    "response", "model", "timestamp", "support_type", "selected_acts", "state_snapshot", "project_plan",
    "decision_metadata", "metrics", "debug_info", "conversation_id", "history_count", "error", "warning",
    "fallback_used", "saved", "replayed", "performance_metrics", "turn_id", "trace_id",
}  # fmt: skip
TYPES = {"理解深化", "道筋提示", "視点転換", "行動活性化", "絞り込み", "意思決定"}
ACTS = {"Clarify", "Inform", "Probe", "Act", "Reframe", "Outline", "Decide", "Reflect"}


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with running(tmp_path_factory.mktemp("agent"), ENABLE_CONVERSATION_AGENT="true") as server:
        yield server


def ask(server: ServerProcess, message: str, *, user: str = "demo", **fields: Any) -> httpx.Response:
    headers = {"authorization": f"Bearer {user}"}
    return server.http.post("/conversation-agent/chat", json={"message": message, **fields}, headers=headers)


def answer(server: ServerProcess, message: str, **fields: Any) -> dict[str, Any]:
    response = ask(server, message, **fields)
    assert response.status_code == 200, response.text
    body: dict[str, Any] = response.json()
    return body


def test_rules_answer_by_default(agent: ServerProcess) -> None:
    """`mock_mode` is on by default: rules answer, in the student's language, with every field of the contract."""
    body = answer(agent, "テーマが広すぎると言われました。どうやって絞ればいいですか？", page_id="rules")
    assert set(body) == FIELDS
    assert body["support_type"] in TYPES
    assert set(body["selected_acts"]) <= ACTS
    assert body["decision_metadata"]["source"] == "rules"
    assert (body["error"], body["warning"], body["fallback_used"], body["debug_info"]) == (None, None, None, None)
    assert body["performance_metrics"]["llm_response_time"] == 0.0
    assert body["performance_metrics"]["agent_processing_time"] < 1.0
    assert any("\u3040" <= char <= "\u30ff" for char in body["response"])


def test_the_model_answers_when_asked_to(agent: ServerProcess) -> None:
    """With `mock_mode: false` the model replies, and its own state and plan come with the reply."""
    slow = "[[fault: slow first=5 each=0]]"  # a tenth of 5 s is what the longer of the two answers may be late
    body = answer(agent, f"I want to study bees. {slow}", mock_mode=False, debug_mode=True, page_id="model")
    assert body["debug_info"]["model"] == "scripted-tutor"
    assert body["debug_info"]["plan"] == "concurrent"
    assert body["decision_metadata"]["source"] == "model"
    assert body["performance_metrics"]["llm_response_time"] > 0
    assert body["saved"] == "database"


def test_a_failing_model_is_stood_in_for(agent: ServerProcess) -> None:
    """When the model fails, rules answer with 200; `error` and `warning` say so, and a counter and a log line.

    The reply and the study fail beside each other, each three times: that is one turn's bad luck, and leaves the
    breaker closed.
    """
    body = answer(agent, "Help me. [[fault: http 500 server_error]]", mock_mode=False, page_id="failing")
    assert (body["fallback_used"], body["error"]) == ("heuristic", "model_error")
    assert "could not answer" in body["warning"]
    assert body["response"]
    agent.wait_for_log("agent.fell_back", turn_id=body["turn_id"])
    assert agent.gauge("chat_fallbacks_total") >= 1
    assert agent.gauge('breaker_state{target="model"}') == 0


def test_the_turn_is_stored_with_the_agents_fields(agent: ServerProcess, tmp_path: Path) -> None:
    """The stored answer has the agent's fields, and the next turn counts it."""
    with running(tmp_path) as server:
        first = answer(server, "I feel anxious about my survey.", page_id="stored")
        second = answer(server, "Still anxious.", page_id="stored")
        question, stored = turn_rows(tmp_path, first["turn_id"])
    assert question["message"] == "I feel anxious about my survey."
    assert stored["message"] == first["response"]
    assert second["history_count"] == 2
    assert second["metrics"]["turns_count"] == first["metrics"]["turns_count"] + 1


def test_chat_goes_through_the_agent_when_enabled(agent: ServerProcess) -> None:
    """With ENABLE_CONVERSATION_AGENT, `/chat` has the six fields, and follow-ups at the answer's end."""
    body = agent.answer(f"What should I do next? {AT_ONCE}", page_id="chat")
    assert body["support_type"] in TYPES
    assert body["state_snapshot"]["affect"].keys() == {"interest", "anxiety", "excitement"}
    assert "**What you can do next:**" in body["response"]
    assert "agent_processing_time" in body["performance_metrics"]


@pytest.mark.parametrize(
    ("field", "value"),
    [("message", 5), ("history_limit", "x"), ("mock_mode", "yes"), ("include_history", 1), ("debug_mode", None)],
)
def test_wrong_fields_are_named(agent: ServerProcess, field: str, value: object) -> None:
    """A wrong field is 422 and named."""
    body: dict[str, Any] = {"message": "hello", field: value}
    response = ask(agent, **body)
    assert response.status_code == 422
    assert response.json()["errors"][0].startswith(f"{field}: ")


@pytest.mark.parametrize("limit", [-5, 0, 1, 100, 10_000])
def test_history_limit_is_held_to_its_bounds(agent: ServerProcess, limit: int) -> None:
    """`history_limit` is held to 1 to 100, never refused."""
    body = answer(agent, "Hello", history_limit=limit, debug_mode=True, page_id="bounds")
    assert body["debug_info"]["history_limit"] == min(max(limit, 1), 100)


@pytest.mark.parametrize(
    ("little", "turns", "history"),
    [
        ({"history_limit": 1}, 0, 0),
        ({"history_limit": 2}, 1, 2),
        ({"history_limit": 3}, 1, 2),
        ({"include_history": False}, 0, 0),
    ],
    ids=str,
)
def test_no_act_comes_three_times_however_little_is_read(
    agent: ServerProcess, little: dict[str, Any], turns: int, history: int
) -> None:
    """What the last two replies did is known at every `history_limit`, which bounds all else that is read of them."""
    page = f"acts-{little}"
    bodies = [answer(agent, "What is a hypothesis?", page_id=page, **little) for _ in range(4)]
    acts = [set(body["selected_acts"]) for body in bodies]
    assert not (acts[0] & acts[1] & acts[2])
    assert not (acts[1] & acts[2] & acts[3])
    assert (bodies[-1]["metrics"]["turns_count"], bodies[-1]["history_count"]) == (turns, history)


def test_status_tells_mode_and_features(agent: ServerProcess) -> None:
    """`GET /conversation-agent/status` says whether `/chat` goes through the agent."""
    response = agent.http.get("/conversation-agent/status", headers={"authorization": "Bearer demo"})
    assert response.status_code == 200
    assert response.json()["enabled"] is True
    assert response.json()["mock_mode_default"] is True
    assert agent.http.get("/conversation-agent/status").status_code == 401
