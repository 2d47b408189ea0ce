"""Bodies and headers of replies: complete, in the reader's language, and nothing in them that must not be shown."""

import json
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import KINDS, CallerFault, DatabaseFault, Fault, OverloadFault, StageTimeout
from app.respond.chat_body import WARNINGS, chat_body, iso_timestamp, server_timing
from app.respond.language import Language, preferred_language
from app.respond.problem import problem_body, problem_headers
from app.turn import Draft, Project, Shortfall, TokenUsage, TurnOutcome
from telemetry.stage_clock import StageClock

NOW_NS = 1_795_323_600_123_456_789


def outcome(*warnings: Shortfall) -> TurnOutcome:
    usage = TokenUsage(prompt_tokens=512, completion_tokens=80, total_tokens=592)
    return TurnOutcome(
        turn_id=uuid.UUID(int=1),
        conversation_id=uuid.UUID(int=2),
        draft=Draft("m", ["Yes."], "stop", usage),
        project=Project(id=12),
        history_count=4,
        warnings=warnings,
        saved="database",
    )


def test_the_chat_body_is_the_contract() -> None:
    """Every field of the documented 200 body is there, the agent's as null."""
    body = chat_body(outcome(), StageClock(), "t" * 32, "en", NOW_NS)
    assert body == {
        "response": "Yes.",
        "timestamp": "2026-11-22T05:00:00.123Z",
        "token_usage": {"prompt_tokens": 512, "completion_tokens": 80, "total_tokens": 592},
        "context_metadata": {"has_project_context": True, "project_id": 12, "history_count": 4, "model": "m"},
        "support_type": None,
        "selected_acts": None,
        "state_snapshot": None,
        "project_plan": None,
        "decision_metadata": None,
        "metrics": None,
        "conversation_id": str(uuid.UUID(int=2)),
        "turn_id": str(uuid.UUID(int=1)),
        "trace_id": "t" * 32,
        "fallback_used": None,
        "warnings": [],
        "saved": "database",
        "replayed": None,
        "performance_metrics": {
            "db_fetch_time": 0.0,
            "llm_queue_time": 0.0,
            "llm_response_time": 0.0,
            "db_save_time": 0.0,
            "total_time": 0.0,
        },
    }


@pytest.mark.parametrize("code", list(WARNINGS))
def test_warnings_speak_the_readers_language(code: Shortfall) -> None:
    """Each warning has a sentence in both languages."""
    english = chat_body(outcome(code), StageClock(), "t", "en", NOW_NS)["warnings"]
    japanese = chat_body(outcome(code), StageClock(), "t", "ja", NOW_NS)["warnings"]
    assert english == [{"code": code, "detail": WARNINGS[code]["en"]}]
    assert english[0]["detail"].isascii()
    assert not japanese[0]["detail"].isascii()


@pytest.mark.parametrize(("language", "rules"), [("en", "rule"), ("ja", "ルール")])
def test_the_warning_of_a_fallback_is_true_of_either(language: Language, rules: str) -> None:
    """Rules or another model may have answered: the sentence names neither."""
    sentence = WARNINGS["fallback"][language]
    (warning,) = chat_body(outcome("fallback"), StageClock(), "t", language, NOW_NS)["warnings"]
    assert warning["detail"] == sentence
    assert rules not in sentence.lower()
    assert "another model" not in sentence.lower()
    assert "別の" not in sentence


def test_server_timing_repeats_the_stages() -> None:
    """The header has each stage in milliseconds."""
    clock = StageClock(iter([0, 2_500_000]).__next__)
    clock.close("db_fetch", clock.started_ns)
    assert server_timing(clock).startswith("db_fetch;dur=2.500, llm_queue;dur=0.000, llm_response;dur=0.000")


@pytest.mark.parametrize("code", list(KINDS))
def test_every_fault_has_its_words(code: str) -> None:
    """Each kind of fault is a complete problem in both languages, and none of its words is the operator's note."""
    fault = Fault(code, "secret note")
    english, japanese = problem_body(fault, "t"), problem_body(fault, "t", "ja")
    assert english["status"] == fault.kind.status >= 400
    assert english["code"] == code
    assert english["detail"].isascii()
    assert not japanese["detail"].isascii()
    assert "secret" not in json.dumps([english, japanese])


def test_a_timeout_names_its_stage_and_a_refusal_its_fields() -> None:
    """`stage`, `errors` and `retry_after` are there when there is something to say."""
    assert problem_body(StageTimeout("llm.idle", 10), "t")["stage"] == "llm.idle"
    assert problem_body(CallerFault("invalid_request", fields=["message: x"]), "t")["errors"] == ["message: x"]
    assert "stage" not in problem_body(DatabaseFault("database_unavailable"), "t")
    fault = OverloadFault("overloaded", retry_after_s=1.2)
    assert problem_body(fault, "t")["retry_after"] == 1.2
    assert problem_headers(fault)["retry-after"] == "2"
    assert problem_headers(CallerFault("unauthenticated"))["www-authenticate"] == "Bearer"


@pytest.mark.parametrize(
    ("header", "language"),
    [
        ("", "en"),
        ("ja", "ja"),
        ("ja-JP,ja;q=0.9,en;q=0.8", "ja"),
        ("en-US,en;q=0.9,ja;q=0.8", "en"),
        ("fr, ja;q=0.5", "ja"),
        ("en;q=0.1, ja;q=0.2", "ja"),
        ("ja;q=0", "en"),
        ("*;q=1, ;;;, ja;q=x", "en"),
    ],
)
def test_the_preferred_language(header: str, language: str) -> None:
    """`Accept-Language` is ranked by its weights; what cannot be read prefers English."""
    assert preferred_language(header) == language


@given(st.text())
def test_no_header_is_an_error(header: str) -> None:
    """Any header gives a language."""
    assert preferred_language(header) in ("en", "ja")


def test_timestamps_are_utc_to_the_millisecond() -> None:
    """Timestamps end in Z."""
    assert iso_timestamp(0) == "1970-01-01T00:00:00.000Z"
