"""The JSON body of an answered turn, and its `Server-Timing` header."""

from datetime import UTC, datetime
from typing import Any

from app.respond.language import Language
from app.turn import AGENT_FIELDS, Shortfall, TurnOutcome
from telemetry.stage_clock import StageClock

WARNINGS: dict[Shortfall, dict[Language, str]] = {
    "project_unavailable": {
        "en": "Your project could not be read, so this answer does not know it.",
        "ja": "プロジェクトを読み込めなかったため、この回答には反映されていません。",
    },
    "history_shortened": {
        "en": "The conversation is long; its oldest messages were left out.",
        "ja": "会話が長いため、古いメッセージを省きました。",
    },
    "fallback": {
        "en": "The usual model could not answer; this answer comes from a stand-in.",
        "ja": "通常のAIモデルが応答できなかったため、代わりのしくみで回答しました。",
    },
    "save_deferred": {
        "en": "This message and its answer are kept safe, and will be in the history a little later.",
        "ja": "このメッセージと回答は一時的に保管しました。少し後に履歴へ反映されます。",
    },
    "superseded": {
        "en": "This message was answered twice at the same time; the history keeps the other answer.",
        "ja": "同じメッセージに同時に二度回答したため、履歴にはもう一方の回答が残ります。",
    },
    "save_failed": {
        "en": "This message and its answer could not be stored.",
        "ja": "このメッセージと回答を保存できませんでした。",
    },
}


def chat_body(
    outcome: TurnOutcome, clock: StageClock, trace_id: str, language: Language, now_ns: int
) -> dict[str, Any]:
    """Return the 200 body of `POST /chat`.

    Args:
        outcome: what the turn came to.
        clock: of the turn, which has ended.
        trace_id: 32 hex digits.
        language: of the warnings' sentences.
        now_ns: the reply's timestamp, nanoseconds since the epoch.
    """
    draft, project = outcome.draft, outcome.project
    return {
        "response": draft.text,
        "timestamp": iso_timestamp(now_ns),
        "token_usage": draft.usage.as_reply() if draft.usage else None,
        "context_metadata": {
            "has_project_context": project is not None,
            "project_id": project.id if project else None,
            "history_count": outcome.history_count,
            "model": draft.model,
        },
        **(draft.agent.as_reply() if draft.agent else dict.fromkeys(AGENT_FIELDS)),
        "conversation_id": str(outcome.conversation_id),
        "turn_id": str(outcome.turn_id),
        "trace_id": trace_id,
        "fallback_used": draft.fallback,
        "warnings": [{"code": code, "detail": WARNINGS[code][language]} for code in outcome.warnings],
        "saved": outcome.saved,
        "replayed": outcome.replayed,
        "performance_metrics": clock.performance_metrics(),
    }


def iso_timestamp(now_ns: int) -> str:
    """Return nanoseconds since the epoch as ISO 8601 in UTC, to the millisecond, with a Z."""
    return datetime.fromtimestamp(now_ns // 1_000_000 / 1e3, UTC).isoformat(timespec="milliseconds")[:-6] + "Z"


def server_timing(clock: StageClock) -> str:
    """Return the stages for browser dev tools: `db_fetch;dur=31.2, ...`, in milliseconds (W3C Server Timing)."""
    metrics = clock.performance_metrics()
    return ", ".join(f"{key.removesuffix('_time')};dur={seconds * 1e3:.3f}" for key, seconds in metrics.items())
