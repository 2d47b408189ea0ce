"""One turn over a real socket: its reply, its headers, its rows, its log line."""

import re
import uuid
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.server.process import AT_ONCE, ServerProcess, running
from tests.server.rows import stored, turn_rows

FIELDS = {
    *("response", "timestamp", "token_usage", "context_metadata", "support_type", "selected_acts", "state_snapshot"),
    *("project_plan", "decision_metadata", "metrics", "conversation_id", "turn_id", "trace_id", "fallback_used"),
    *("warnings", "saved", "replayed", "performance_metrics"),
}
AGENT_FIELDS = ("support_type", "selected_acts", "state_snapshot", "project_plan", "decision_metadata", "metrics")
TIMINGS = {"db_fetch_time", "llm_queue_time", "llm_response_time", "db_save_time", "total_time"}


def test_the_reply_has_exactly_the_documented_fields(server: ServerProcess) -> None:
    """A 200 is JSON with the fields of the contract, each of its documented type, and no others."""
    response = server.ask("What is a hypothesis?", user="fields", page_id="general")
    body = response.json()
    assert (response.status_code, response.headers["content-type"]) == (200, "application/json")
    assert set(body) == FIELDS
    assert set(body["performance_metrics"]) == TIMINGS
    assert all(body[name] is None for name in (*AGENT_FIELDS, "fallback_used"))
    assert (body["warnings"], body["saved"]) == ([], "database")
    assert body["context_metadata"] == {
        "has_project_context": False,
        "project_id": None,
        "history_count": 0,
        "model": "scripted-tutor",
    }
    usage = body["token_usage"]
    assert set(usage) == {"prompt_tokens", "completion_tokens", "total_tokens"}
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", body["timestamp"])
    assert abs(datetime.now(UTC) - datetime.fromisoformat(body["timestamp"])).total_seconds() < 30
    assert "hypothesis" in body["response"]
    assert uuid.UUID(body["turn_id"]).version == 4
    assert uuid.UUID(body["conversation_id"]).version == 5


def test_the_trace_id_is_in_header_and_body(server: ServerProcess) -> None:
    """The header x-trace-id and the body's trace_id are the same 32 hex digits, and no reply shares them."""
    first, second = (server.ask(f"Again {AT_ONCE}", user="ids") for _ in range(2))
    assert re.fullmatch(r"[0-9a-f]{32}", first.json()["trace_id"])
    assert first.headers["x-trace-id"] == first.json()["trace_id"]
    assert first.headers["x-trace-id"] != second.headers["x-trace-id"]


def test_a_sane_request_id_is_echoed(server: ServerProcess) -> None:
    """The caller's x-request-id comes back as it is."""
    response = server.ask(f"Hello {AT_ONCE}", headers={"x-request-id": "front-end/42.a:b=c+d_e-f"})
    assert response.headers.get_list("x-request-id") == ["front-end/42.a:b=c+d_e-f"]


@pytest.mark.parametrize("given", ["", "a" * 129, "two words", 'quoted"', "<script>", "caf\xe9"])
def test_any_other_request_id_is_replaced(server: ServerProcess, given: str) -> None:
    """A request id that could break a log or a page is replaced by a random UUID."""
    headers = [(b"x-request-id", given.encode("latin-1"))]
    shown = server.http.get("/healthz", headers=headers).headers.get_list("x-request-id")
    assert len(shown) == 1
    assert str(uuid.UUID(shown[0])) == shown[0] != given


def test_server_timing_repeats_the_metrics(server: ServerProcess) -> None:
    """Server-Timing has each figure of performance_metrics in milliseconds, and the stages fit into the total."""
    response = server.ask("How long do you take?", user="timing")
    metrics = response.json()["performance_metrics"]
    shown = dict(part.split(";dur=") for part in response.headers["server-timing"].split(", "))
    assert {f"{name}_time": float(ms) for name, ms in shown.items()} == pytest.approx(
        {name: seconds * 1e3 for name, seconds in metrics.items()}, abs=0.0005
    )
    parts = sum(seconds for name, seconds in metrics.items() if name != "total_time")
    assert 0 < parts <= metrics["total_time"]
    assert metrics["llm_response_time"] >= 0.05  # the scripted model's own pace


def test_both_rows_are_in_the_file(server: ServerProcess, data_dir: Path) -> None:
    """When the reply is there, so are its two rows: question before answer, under one turn and one conversation."""
    body = server.answer("  Where do bees sleep?\n", user="rows", page_id="general")
    question, answer = turn_rows(data_dir, body["turn_id"])
    for row in (question, answer):
        assert (row["user_id"], row["page"]) == ("rows", "general")
        assert row["conversation_id"] == body["conversation_id"]
        assert row["context_data"]["trace_id"] == body["trace_id"]
    assert (question["message"], answer["message"]) == ("Where do bees sleep?", body["response"])
    assert question["created_at"] < answer["created_at"]
    context = answer["context_data"]
    assert (context["finish"], context["model"], context["warnings"]) == ("stop", "scripted-tutor", [])
    assert context["token_usage"] == body["token_usage"]
    known = {"db_fetch_time", "llm_queue_time", "llm_response_time"}
    assert context["performance_metrics"] == {name: body["performance_metrics"][name] for name in known}


def test_the_conversation_is_in_the_file(server: ServerProcess, data_dir: Path) -> None:
    """The first message makes its user's conversation for the page, with the message as its title."""
    body = server.answer(f"Bees {AT_ONCE}", user="maker", page_id="p/日本 語?&=,()")
    (conversation,) = stored(data_dir, "chat_conversations", user_id="maker")
    assert (conversation["id"], conversation["page_id"]) == (body["conversation_id"], "p/日本 語?&=,()")
    assert conversation["title"].startswith("Bees")
    assert conversation["is_active"] == 1
    assert (
        server.answer(f"More {AT_ONCE}", user="maker", page_id="p/日本 語?&=,()")["conversation_id"]
        == body["conversation_id"]
    )


def test_an_answer_cut_by_its_limit_says_so(server: ServerProcess, data_dir: Path) -> None:
    """A reply without usage has `token_usage: null`, and is stored as finished all the same."""
    body = server.answer("Hello [[fault: no-usage]]", user="usage")
    assert body["token_usage"] is None
    assert turn_rows(data_dir, body["turn_id"])[1]["context_data"]["finish"] == "stop"


def test_a_japanese_question_gets_a_japanese_answer(server: ServerProcess, data_dir: Path) -> None:
    """A question in Japanese arrives, is answered and is stored in Japanese, character by character."""
    message = "𠮷野さんの仮説は、髙いですか？🐝"
    body = server.answer(message, user="japanese")
    assert "吉野" not in body["response"]
    assert "𠮷野さん" in body["response"]
    assert re.search(r"[\u3040-\u30ff]", body["response"])
    question, answer = turn_rows(data_dir, body["turn_id"])
    assert (question["message"], answer["message"]) == (message, body["response"])


def test_a_turn_leaves_one_log_line(server: ServerProcess) -> None:
    """The log has one line of a turn that ended, with its trace, its ids and the reply's own figures, and no text."""
    body = server.answer("Who reads the logs?", user="logged")
    line = server.wait_for_log("turn.finished", turn_id=body["turn_id"])
    assert len(server.lines("turn.finished", turn_id=body["turn_id"])) == 1
    assert (line["trace_id"], line["conversation_id"]) == (body["trace_id"], body["conversation_id"])
    assert (line["outcome"], line["error_type"], line["timings"]) == ("ok", None, body["performance_metrics"])
    assert "Who reads" not in server.log_text


def test_a_turn_leaves_no_warning(tmp_path: Path) -> None:
    """With every Python warning switched on, a turn leaves none: nothing is left to the garbage collector."""
    with running(tmp_path, PYTHONWARNINGS="default") as server:
        server.answer(f"Are you tidy? {AT_ONCE}")
    assert [line["event"] for line in server.log if line["logger"] == "py.warnings"] == []
