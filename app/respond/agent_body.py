"""The JSON bodies of the conversation agent's own endpoints."""

from typing import Any

from app.respond.chat_body import WARNINGS, iso_timestamp
from app.respond.language import Language
from app.turn import AGENT_FIELDS, TurnOutcome, TurnRequest
from telemetry.stage_clock import StageClock

FEATURES = ("state_snapshot", "project_plan", "support_type", "speech_acts", "follow_ups")


def agent_body(
    request: TurnRequest,
    outcome: TurnOutcome,
    clock: StageClock,
    trace_id: str,
    language: Language,
    now_ns: int,
    *,
    debug: bool,
) -> dict[str, Any]:
    """Return the 200 body of `POST /conversation-agent/chat`; see `chat_body` for the arguments.

    `error` is the code of the fault that the rules stood in for, and `warning` its sentence, when they did.
    """
    draft = outcome.draft
    return {
        "response": draft.text,
        "timestamp": iso_timestamp(now_ns),
        **(draft.agent.as_reply() if draft.agent else dict.fromkeys(AGENT_FIELDS)),
        "debug_info": _debug_info(request, outcome) if debug else None,
        "conversation_id": str(outcome.conversation_id),
        "history_count": outcome.history_count,
        "error": draft.stood_in_for.code if draft.stood_in_for else None,
        "warning": _warning(outcome, language),
        "model": draft.model,
        "fallback_used": draft.fallback,
        "saved": outcome.saved,
        "replayed": outcome.replayed,
        "performance_metrics": clock.performance_metrics(),
        "turn_id": str(outcome.turn_id),
        "trace_id": trace_id,
    }


def _warning(outcome: TurnOutcome, language: Language) -> str | None:
    """Return the sentence of the fault that the rules stood in for; else of the first thing that is amiss."""
    if (fault := outcome.draft.stood_in_for) is not None:
        return fault.kind.japanese if language == "ja" else fault.kind.detail
    return WARNINGS[outcome.warnings[0]][language] if outcome.warnings else None


def _debug_info(request: TurnRequest, outcome: TurnOutcome) -> dict[str, Any]:
    usage = outcome.draft.usage
    return {
        "plan": outcome.plan,
        "mock_mode": request.by_rules,
        "history_limit": request.shown,
        "model": outcome.draft.model,
        "finish": outcome.draft.finish,
        "token_usage": usage.as_reply() if usage else None,
        "warnings": list(outcome.warnings),
        "error_type": outcome.draft.stood_in_for.error_type if outcome.draft.stood_in_for else None,
    }


def agent_status(*, enabled: bool, model: str) -> dict[str, Any]:
    """Return the body of `GET /conversation-agent/status`: the endpoint always works; `enabled` is about `/chat`."""
    return {
        "status": "available",
        "enabled": enabled,
        "mode": "model" if enabled else "standalone",
        "mock_mode_default": True,
        "model": model,
        "features": list(FEATURES),
    }
