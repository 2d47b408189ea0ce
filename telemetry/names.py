"""Every span, metric and attribute name, and what joins them. Nothing else in the project spells one.

Names that OpenTelemetry defines follow its HTTP conventions (stable) and its GenAI conventions (in development;
followed as of opentelemetry-semantic-conventions 0.66b2, whose constants the tests compare these with). The rest is
ours.
"""

from typing import Final, Literal

Outcome = Literal["ok", "degraded", "refused", "shed", "timeout", "upstream_error", "internal_error", "cancelled"]
"""How a turn or a stage ended.

`degraded`: answered, with a warning. `refused`: the caller's fault. `shed`: turned away because of load or shutdown.
"""

# Stages. A stage's span has the stage's name, but for LLM, whose span is called `chat {model}`.
TURN: Final = "chat.turn"
DB_FETCH: Final = "db_fetch"
FETCH_CONVERSATION: Final = "fetch.conversation"
FETCH_PROJECT: Final = "fetch.project"
FETCH_EARLIER: Final = "fetch.earlier"
LLM_QUEUE: Final = "llm.queue"
LLM: Final = "llm"
LLM_FIRST_TOKEN: Final = "llm.first_token"  # a deadline inside LLM; no span of its own
LLM_IDLE: Final = "llm.idle"  # likewise
AGENT: Final = "agent"  # from its first rule to the end of reply and study, the wait for a slot included
AGENT_STATE: Final = "agent.state"
AGENT_PLAN: Final = "agent.plan"
AGENT_SUPPORT: Final = "agent.support_type"
AGENT_ACTS: Final = "agent.acts"
AGENT_REPLY: Final = "agent.reply"
AGENT_STUDY: Final = "agent.study"  # the model's own state and plan, beside the reply; its span is `chat {model}` too
SAVE_USER: Final = "save.user"
DB_SAVE: Final = "db_save"

PERFORMANCE_KEYS: Final = {
    DB_FETCH: "db_fetch_time",
    LLM_QUEUE: "llm_queue_time",
    LLM: "llm_response_time",
    DB_SAVE: "db_save_time",
    TURN: "total_time",
}
"""Stage to its key in a reply's `performance_metrics`."""
AGENT_KEY: Final = "agent_processing_time"
"""The key that agent turns have besides, for stage AGENT."""
FIRST_TOKEN_KEY: Final = "time_to_first_token"
"""The key that streamed turns have besides, from the turn's start on."""
SHOWN_STAGES: Final = frozenset(
    {DB_FETCH, FETCH_CONVERSATION, FETCH_PROJECT, FETCH_EARLIER, LLM_QUEUE, LLM, AGENT, SAVE_USER, DB_SAVE}
)
"""The stages that a stream shows live: those that replies have figures of, and what runs within and beside them."""

# The span of a round in which the outbox's rows are delivered: a trace of its own.
REPLAY: Final = "outbox.replay"

# Span attributes of ours.
CHAT_PLAN: Final = "chat.plan"
CHAT_SURFACE: Final = "chat.surface"
CHAT_FALLBACK: Final = "chat.fallback"
CHAT_OUTCOME: Final = "chat.outcome"
CHAT_TURN_ID: Final = "chat.turn.id"
CHAT_HISTORY_COUNT: Final = "chat.history.count"
CHAT_CONTEXT_PRESENT: Final = "chat.context.present"
LIMITER_TOTAL: Final = "limiter.total"
LIMITER_WAITING: Final = "limiter.waiting"
QUEUE_POSITION: Final = "queue.position"  # 1 is next; 0 did not have to wait
SAVE_MODE: Final = "save.mode"
SAVE_DEFERRED: Final = "save.deferred"
FIRST_CHUNK_EVENT: Final = "first_chunk"
RETRY_EVENT: Final = "retry_scheduled"
FALLBACK_EVENT: Final = "fallback"
RETRY_WAIT: Final = "retry.wait"
PACED_EVENT: Final = "paced"
PACED_WAIT: Final = "llm.paced.wait"
OUTBOX_ROWS: Final = "outbox.rows"  # that a round carries
OUTBOX_DELIVERED: Final = "outbox.delivered"  # of these, as far as it is known
OUTBOX_SET_ASIDE: Final = "outbox.set_aside"
OUTBOX_FAILED: Final = "outbox.failed"

# Where the rows of a turn keep which span is the turn's, in their `context_data`.
ROW_TRACE_ID: Final = "trace_id"
ROW_SPAN_ID: Final = "span_id"

# Span attributes that OpenTelemetry defines.
USER_ID: Final = "user.id"
SESSION_ID: Final = "session.id"
ERROR_TYPE: Final = "error.type"
HTTP_METHOD: Final = "http.request.method"
HTTP_ROUTE: Final = "http.route"
HTTP_STATUS: Final = "http.response.status_code"
URL_PATH: Final = "url.path"  # the route's: no ids, and nothing of what no route matched
URL_SCHEME: Final = "url.scheme"
SERVER_ADDRESS: Final = "server.address"
SERVER_PORT: Final = "server.port"
GEN_AI_OPERATION: Final = "gen_ai.operation.name"
GEN_AI_PROVIDER: Final = "gen_ai.provider.name"
GEN_AI_CONVERSATION: Final = "gen_ai.conversation.id"
GEN_AI_REQUEST_MODEL: Final = "gen_ai.request.model"
GEN_AI_REQUEST_TEMPERATURE: Final = "gen_ai.request.temperature"
GEN_AI_REQUEST_MAX_TOKENS: Final = "gen_ai.request.max_tokens"
GEN_AI_REQUEST_STREAM: Final = "gen_ai.request.stream"
GEN_AI_RESPONSE_ID: Final = "gen_ai.response.id"
GEN_AI_RESPONSE_MODEL: Final = "gen_ai.response.model"
GEN_AI_RESPONSE_FINISH_REASONS: Final = "gen_ai.response.finish_reasons"
GEN_AI_RESPONSE_FIRST_CHUNK: Final = "gen_ai.response.time_to_first_chunk"
GEN_AI_INPUT_TOKENS: Final = "gen_ai.usage.input_tokens"
GEN_AI_OUTPUT_TOKENS: Final = "gen_ai.usage.output_tokens"
GEN_AI_CACHED_TOKENS: Final = "gen_ai.usage.cache_read.input_tokens"
GEN_AI_TOKEN_TYPE: Final = "gen_ai.token.type"
GEN_AI_INPUT_MESSAGES: Final = "gen_ai.input.messages"  # these two only where capturing texts was asked for
GEN_AI_OUTPUT_MESSAGES: Final = "gen_ai.output.messages"
UPSTREAM_REQUEST_ID: Final = "openai.response.request_id"

# Metrics.
HTTP_SERVER_DURATION: Final = "http.server.request.duration"
TURN_DURATION: Final = "chat.turn.duration"
TURN_OVERHEAD: Final = "chat.turn.overhead.duration"
TURN_FIRST_TOKEN: Final = "chat.turn.time_to_first_token"
HISTORY_SIZE: Final = "chat.history.size"
STAGE_DURATION: Final = "chat.stage.duration"
FALLBACKS: Final = "chat.fallbacks"
WARNINGS: Final = "chat.warnings"
USERS_ACTIVE: Final = "chat.users.active"
RATE_LIMITED: Final = "chat.rate_limited"
GEN_AI_DURATION: Final = "gen_ai.client.operation.duration"
GEN_AI_FIRST_CHUNK: Final = "gen_ai.client.operation.time_to_first_chunk"
GEN_AI_TOKENS: Final = "gen_ai.client.token.usage"
LIMITER_TOTAL_GAUGE: Final = "llm.limiter.total"
LIMITER_BORROWED_GAUGE: Final = "llm.limiter.borrowed"
LIMITER_WAITING_GAUGE: Final = "llm.limiter.waiting"
LIMITER_WAIT: Final = "llm.limiter.wait.duration"
LIMITER_CHANGES: Final = "llm.limiter.changes"
PACER_REFUSALS: Final = "llm.pacer.refusals"
PACER_WAITING_GAUGE: Final = "llm.pacer.waiting"
UPSTREAM_REJECTIONS: Final = "llm.upstream.rejections"
TURNS_INFLIGHT: Final = "edge.turns.inflight"
DRAINING: Final = "edge.draining"
BREAKER_STATE: Final = "breaker.state"
CONNECTIONS: Final = "edge.connections"
REFUSALS: Final = "edge.refusals"
DROPS: Final = "edge.drops"
OUTBOX_DEPTH: Final = "outbox.depth"
OUTBOX_AGE: Final = "outbox.oldest.age"
OUTBOX_PAUSED: Final = "outbox.paused"
OUTBOX_REPLAYS: Final = "outbox.replays"
OTEL_DROPPED: Final = "otel.dropped"
UPSTREAM_CONNECTIONS: Final = "upstream.connections"
UPSTREAM_WAITING: Final = "upstream.waiting"
TRIO_LOOP_LAG: Final = "trio.loop.lag"
TRIO_TASKS: Final = "trio.tasks.living"
CPU_TIME: Final = "process.cpu.time"
MEMORY_USAGE: Final = "process.memory.usage"

# Metric attributes that are not span attributes too.
PLAN: Final = "plan"
SURFACE: Final = "surface"
OUTCOME: Final = "outcome"
STAGE: Final = "stage"
REASON: Final = "reason"
TARGET: Final = "target"
KIND: Final = "kind"
MODE: Final = "mode"
CODE: Final = "code"
SIGNAL: Final = "signal"
STATE: Final = "state"
CPU_MODE: Final = "cpu.mode"

TURN_BUCKETS: Final = (0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1, 1.5, 2, 3, 5, 7.5, 10, 15, 20, 30, 45, 60, 90)
"""Seconds. From a fast local turn to beyond TURN_TIMEOUT."""
HTTP_BUCKETS: Final = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
"""Seconds. The advice of the HTTP semantic conventions for `http.server.request.duration`."""
GEN_AI_DURATION_BUCKETS: Final = tuple(0.01 * 2**n for n in range(14))
"""Seconds, 0.01 to 81.92. The advice of the GenAI semantic conventions."""
GEN_AI_TOKEN_BUCKETS: Final = tuple(4**n for n in range(14))
"""Tokens, 1 to 67,108,864. The advice of the GenAI semantic conventions."""
HISTORY_BUCKETS: Final = tuple(256 * 4**n for n in range(8))
"""Bytes, 256 to 4,194,304. From a greeting to beyond fifty messages of 2,000 Japanese characters, 300,000 bytes."""
LOOP_BUCKETS: Final = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
"""Seconds. From a loop with nothing to do to one that health checks would give up."""
