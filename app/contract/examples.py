"""Examples of the contract: a request of each kind, and the answers that matter most. Made up, but whole."""

from typing import Any

from app.contract.problems import TRACE

CONVERSATION = "23a05272-929a-57d8-86ac-d78b3b1a51f0"
TURN = "7fb8d3a4-4b4c-46c4-8c9c-5f86622f8f64"
_TIMES = {"db_fetch_time": 0.031, "llm_queue_time": 0.0, "llm_response_time": 1.45, "db_save_time": 0.004}
_USAGE = {"prompt_tokens": 512, "completion_tokens": 80, "total_tokens": 592}
_NO_AGENT = dict.fromkeys(
    ("support_type", "selected_acts", "state_snapshot", "project_plan", "decision_metadata", "metrics")
)
_QUESTION = {"id": "Zq3xT8vWm2LpKd7R", "role": "user", "parts": [{"type": "text", "text": "Why do leaves turn red?"}]}
_METADATA: dict[str, Any] = {
    "timestamp": "2026-11-22T05:00:00.000Z",
    "token_usage": _USAGE,
    "context_metadata": {
        "has_project_context": True,
        "project_id": 12,
        "history_count": 20,
        "model": "gpt-4o-mini",
    },
    **_NO_AGENT,
    "conversation_id": CONVERSATION,
    "turn_id": TURN,
    "trace_id": TRACE,
    "fallback_used": None,
    "warnings": [],
    "saved": "database",
    "replayed": None,
    "performance_metrics": {**_TIMES, "total_time": 1.49},
}
_ANSWER = "What have you seen of it yourself? Compare a sunny and a shady branch of one tree."
_AGENT = {
    "response": "What is your own guess about this, and what makes you think so?",
    "timestamp": "2026-11-22T05:00:00.000Z",
    **_NO_AGENT,
    "support_type": "理解深化",
    "selected_acts": ["Probe"],
    "debug_info": None,
    "conversation_id": CONVERSATION,
    "history_count": 2,
    "error": None,
    "warning": None,
    "model": "rules",
    "fallback_used": None,
    "saved": "database",
    "replayed": None,
    "performance_metrics": {**_TIMES, "llm_response_time": 0.0, "total_time": 0.04, "agent_processing_time": 0.001},
    "turn_id": TURN,
    "trace_id": TRACE,
}
_ROWS = [
    {
        "id": 1,
        "sender": "user",
        "message": "Why do leaves turn red?",
        "context_data": {"trace_id": TRACE},
        "created_at": "2026-11-22T04:59:58.775781Z",
        "turn_id": TURN,
    },
    {
        "id": 2,
        "sender": "assistant",
        "message": _ANSWER,
        "context_data": {"finish": "stop", "model": "gpt-4o-mini", "trace_id": TRACE},
        "created_at": "2026-11-22T05:00:00.002138Z",
        "turn_id": TURN,
    },
]
_UI_ROWS = [
    {
        "id": f"{TURN}:user" if row["sender"] == "user" else TURN,
        "role": row["sender"],
        "metadata": {"conversation_id": CONVERSATION, "turn_id": TURN, "created_at": row["created_at"]},
        "parts": [{"type": "text", "text": row["message"]}],
    }
    for row in _ROWS
]
_HEAD = {
    "id": CONVERSATION,
    "title": "Why do leaves turn red?",
    "page_id": "project-12",
    "created_at": "2026-11-20T01:10:00.000000Z",
    "updated_at": "2026-11-22T05:00:00.002138Z",
}
_PROCESS = {"instance": "316917845b3a", "scope": "process"}
_OUTBOX = {"waiting": 1, "set_aside": 0, "oldest_age_s": 3.2, "bytes": 812, "paused": None}
_ENTRY = {
    "id": 7,
    "turn_id": TURN,
    "sender": "assistant",
    "conversation_id": CONVERSATION,
    "trace_id": TRACE,
    "queued_at": "2026-11-22T05:00:00.010Z",
    "bytes": 812,
    "attempts": 1,
    "state": "waiting",
    "reason": None,
}
_LIMITER = {
    "mode": "fixed",
    "min": 1,
    "max": 64,
    "total_tokens": 12,
    "borrowed": 3,
    "studies": 0,
    "waiting": 0,
    "oldest_wait_seconds": 0.0,
    "users": 3,
    "users_at_cap": 0,
    "mean_service_seconds": 1.31,
    "last_minute": {
        "wait_p50_seconds": 0.0,
        "wait_p95_seconds": 0.4,
        "service_p50_seconds": 1.2,
        "service_p95_seconds": 2.9,
    },
    "admitted": 1204,
    "abandoned": 2,
    "shed": {"queue_full": 0, "predicted_wait": 3, "queue_timeout": 0},
    "queue_max": 64,
    "queue_timeout_seconds": 10.0,
    "per_user_max": 2,
    "rejections": {"overload": 0, "quota": 0, "quota_wait": 0},
    "pacer": None,
    "changes": [
        {
            "at": "2026-11-22T04:00:00.000Z",
            "before": 10,
            "after": 12,
            "reason": "manual",
            "mode": "fixed",
            "who": "Mori",
            "why": "the afternoon's lesson",
            "times": 1,
        }
    ],
}

_ROLLOUT = {"chat": {"optimized": True, "percent": 50.0}, "agent": {"optimized": True, "percent": 100.0}, "by": "user"}
_TURN = {
    "turn_id": TURN,
    "trace_id": TRACE,
    "conversation_id": CONVERSATION,
    "plan": "concurrent",
    "surface": "chat",
    "outcome": "ok",
    "error_type": None,
    "details": {"model": "gpt-4o-mini", "finish": "stop", "saved": "database", "history_count": 20},
    "ended_at": "2026-11-22T05:00:00.004Z",
    "performance_metrics": {**_TIMES, "total_time": 1.49},
    "stages": [
        {"stage": "db_fetch", "at": 0.0, "seconds": 0.031},
        {"stage": "llm", "at": 0.031, "seconds": 1.45},
        {"stage": "db_save", "at": 1.486, "seconds": 0.004},
    ],
    "time_to_first_token": 0.42,
}
_POOL = {"active": 1, "idle": 4, "waiting": 0}
_SUPPORT = {
    "versions": {"nursery-chat": "0.1.0", "python": "3.11.7", "trio": "0.35.0", "httpx": "0.28.1"},
    "started_at": "2026-11-22T01:00:00+00:00",
    "uptime_seconds": 14400.2,
    "readiness": {"status": "ready", "degraded": []},
    "now": {
        "users_active": 41,
        "turns_inflight": 3,
        "connections": 12,
        "tasks": 38,
        "memory_bytes": 98566144,
        "turn_log_dropped": 0,
        "refusals": {"user": 2, "auth": 0},
        "model_failures": {"http_429": 1},
    },
    "breakers": {"model": "closed", "database": "closed"},
    "upstreams": {"model": _POOL, "database": _POOL},
    "outbox": _OUTBOX,
    "rollout": {**_ROLLOUT, "users": 0},
    "settings": {"BIND": "127.0.0.1:8000", "OPENAI_API_KEY": "**********"},
    "errors": [
        {
            "time": "2026-11-22T04:58:01.204+00:00",
            "level": "warning",
            "event": "database.retry",
            "logger": "app.clients.supabase",
            "trace_id": TRACE,
            "turn_id": TURN,
            "error": "PGRST001",
            "wait_s": 0.09,
        }
    ],
}

# Of requests, by model, and of answers, by what is answered; each by what it shows.
REQUESTS: dict[str, dict[str, Any]] = {
    "ChatPayload": {
        "shortest": {"message": "Why do leaves turn red?"},
        "whole": {
            "message": "光合成の実験は何から始めればいいですか？",
            "conversation_id": CONVERSATION,
            "project_id": 12,
            "page_id": "project-12",
            "context": "The page on photosynthesis",
            "on_disconnect": "continue",
        },
    },
    "UiBody": {
        "useChat": {"id": CONVERSATION, "messages": [_QUESTION], "trigger": "submit-message"},
        "regenerate": {"id": "project-12", "messages": [_QUESTION], "trigger": "regenerate-message"},
    },
    "AgentPayload": {
        "rules": {"message": "I am stuck with my experiment."},
        "model": {"message": "I am stuck with my experiment.", "mock_mode": False, "debug_mode": True},
    },
    "NewConversation": {
        "own": {"title": "Leaves in autumn"},
        "page": {"page_id": "project-12"},
    },
    "NewTitle": {"title": {"title": "Leaves in autumn"}},
    "LimiterBody": {
        "fixed": {"total_tokens": 12, "who": "Mori", "why": "the afternoon's lesson"},
        "adaptive": {"mode": "adaptive", "min": 2, "max": 64},
    },
    "RolloutChange": {
        "half": {"chat": {"percent": 50}, "by": "user"},
        "rollback": {"chat": {"optimized": False}, "agent": {"optimized": False}},
    },
}
ANSWERS: dict[str, Any] = {
    "alive": {"status": "alive"},
    "ready": {"status": "ready", "degraded": []},
    "loading": {"status": "loading", "degraded": ["database"]},
    "chat": {"response": _ANSWER, **_METADATA},
    "agent": _AGENT,
    "agent_status": {
        "status": "available",
        "enabled": False,
        "mode": "standalone",
        "mock_mode_default": True,
        "model": "gpt-4o-mini",
        "features": ["state_snapshot", "project_plan", "support_type", "speech_acts", "follow_ups"],
    },
    "stopped": {"stopped": True},
    "messages": _ROWS,
    "messages_ui": _UI_ROWS,
    "conversation": _HEAD,
    "conversations": [_HEAD],
    "limiter": {**_PROCESS, "reverts_on_restart": True, **_LIMITER},
    "rollout": {**_PROCESS, **_ROLLOUT, "users": [], "reverts_on_restart": True},
    "turns": {**_PROCESS, "turns": [_TURN]},
    "settings": {**_PROCESS, "settings": {"BIND": "127.0.0.1:8000", "OPENAI_API_KEY": "**********"}},
    "outbox": {**_PROCESS, **_OUTBOX, "entries": [_ENTRY]},
    "support": {**_PROCESS, **_SUPPORT, "limiter": {**_LIMITER, "changes": []}, "turns": [_TURN]},
    "outbox_changed": {**_PROCESS, **_OUTBOX, "reverts_on_restart": False},
    "console": {
        **_PROCESS,
        "auth": "dev",
        "model": "gpt-4o-mini",
        "links": {"jaeger": "http://127.0.0.1:16686/trace/{trace_id}", "grafana": None},
        "status": "ready",
        "dependencies": [
            {"name": "model", "state": "ok", "note": None},
            {"name": "database", "state": "trying", "note": None},
            {"name": "identity", "state": "off", "note": "dev"},
            {"name": "outbox", "state": "ok", "note": None},
        ],
        "limiter": {"reverts_on_restart": True, **_LIMITER},
        "outbox": _OUTBOX,
        "turns": {"considered": 1, "slowest": [_TURN]},
    },
}
PARTS: tuple[dict[str, Any], ...] = (
    {
        "type": "start",
        "messageId": TURN,
        "messageMetadata": {"conversation_id": CONVERSATION, "turn_id": TURN, "trace_id": TRACE},
    },
    {"type": "start-step"},
    {
        "type": "data-stage",
        "data": {"stage": "db_fetch", "state": "done", "at": 0.0, "seconds": 0.031},
        "transient": True,
    },
    {"type": "data-queue", "data": {"position": 3, "estimated_wait": 1.2}, "transient": True},
    {"type": "text-start", "id": "text"},
    {"type": "text-delta", "id": "text", "delta": _ANSWER},
    {"type": "text-end", "id": "text"},
    {"type": "finish-step"},
    {"type": "finish", "messageMetadata": _METADATA},
)
