"""What front ends are answered with 200 and 201. Only described here; `app/respond` makes it."""

import uuid
from datetime import datetime
from typing import Annotated, Any, Literal, NotRequired

from pydantic import Field
from typing_extensions import TypedDict

from app.generate.agent.values import Plan, Snapshot, Source, SpeechAct, SupportType
from app.turn import Fallback, Finish, Saved, Sender, Shortfall

TraceId = Annotated[str, Field(pattern="^[0-9a-f]{32}$", description="The request's, as in `x-trace-id`.")]
Seconds = Annotated[float, Field(ge=0)]
ProjectId = int | str | None


class Health(TypedDict):
    """The process lives."""

    status: Literal["alive"]


class Readiness(TypedDict):
    """Whether the server can serve, and what it does without meanwhile."""

    status: Literal["ready", "loading", "draining"]
    degraded: list[Literal["model", "database", "outbox", "identity"]]


class PerformanceMetrics(TypedDict):
    """Seconds by stage. `llm_response_time` is the model alone; the wait for it is `llm_queue_time`."""

    db_fetch_time: Seconds
    llm_queue_time: Seconds
    llm_response_time: Seconds
    db_save_time: Seconds
    total_time: Seconds
    agent_processing_time: NotRequired[Annotated[float, Field(ge=0, description="Of agent turns.")]]
    time_to_first_token: NotRequired[Annotated[float, Field(ge=0, description="Of streamed turns.")]]


class TokenUsage(TypedDict):
    """Tokens as the model's host counted them."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class ContextMetadata(TypedDict):
    """What the answer was based on."""

    has_project_context: bool
    project_id: ProjectId
    history_count: Annotated[int, Field(ge=0)]
    model: str


class DecisionMetadata(TypedDict):
    """Why the agent answered as it did, and what the learner might ask next."""

    support_reason: str
    support_confidence: float
    act_reason: str
    timestamp: datetime
    source: Source
    follow_ups: list[str]


class ConversationMetrics(TypedDict):
    """Figures of the conversation."""

    turns_count: int
    answered_turns: int
    momentum_delta: float
    actions_in_last_7_days: int
    novelty_ratio: float
    looping: bool


class AgentFields(TypedDict):
    """What the conversation agent adds; each is null where it did not answer."""

    support_type: SupportType | None
    selected_acts: list[SpeechAct] | None
    state_snapshot: Snapshot | None
    project_plan: Plan | None
    decision_metadata: DecisionMetadata | None
    metrics: ConversationMetrics | None


class AnswerWarning(TypedDict):
    """In what an answer is less than it should be, though it is given."""

    code: Shortfall
    detail: Annotated[str, Field(description="A sentence to show, in the reader's language.")]


class Replayed(TypedDict):
    """Of the turn in which the answer was given first."""

    trace_id: TraceId | None
    performance_metrics: dict[str, float] | None


class AnswerMetadata(AgentFields):
    """All of an answer but its text."""

    timestamp: datetime
    token_usage: Annotated[TokenUsage | None, Field(description="Null where the model's host did not count.")]
    context_metadata: ContextMetadata
    conversation_id: uuid.UUID
    turn_id: uuid.UUID
    trace_id: TraceId
    fallback_used: Annotated[
        Fallback | None, Field(description="`model`: the fallback model answered; `heuristic`: the agent's rules did.")
    ]
    warnings: list[AnswerWarning]
    saved: Annotated[Saved, Field(description="`outbox`: it is kept safe, and will be in the history a little later.")]
    replayed: Annotated[Replayed | None, Field(description="Not null: an answer to an earlier request, given again.")]
    performance_metrics: PerformanceMetrics


class ChatAnswer(AnswerMetadata):
    """The answer to a message."""

    response: str


class DebugInfo(TypedDict):
    """How an agent's answer came about."""

    plan: Literal["concurrent", "sequential"]
    mock_mode: bool
    history_limit: int | None
    model: str
    finish: Finish
    token_usage: TokenUsage | None
    warnings: list[Shortfall]
    error_type: str | None


class AgentAnswer(AgentFields):
    """The conversation agent's answer to a message."""

    response: str
    timestamp: datetime
    debug_info: Annotated[DebugInfo | None, Field(description="With `debug_mode` only.")]
    conversation_id: uuid.UUID
    history_count: Annotated[int, Field(ge=0)]
    error: Annotated[str | None, Field(description="The code of the fault that the rules stood in for.")]
    warning: Annotated[str | None, Field(description="The sentence of that fault, or of what is amiss.")]
    model: str
    fallback_used: Fallback | None
    saved: Saved
    replayed: Replayed | None
    performance_metrics: PerformanceMetrics
    turn_id: uuid.UUID
    trace_id: TraceId


class AgentStatus(TypedDict):
    """What the agent can do. Its own endpoint always works; `enabled` says whether `/chat` answers through it."""

    status: Literal["available"]
    enabled: bool
    mode: Literal["model", "standalone"]
    mock_mode_default: bool
    model: str
    features: list[str]


class Stopped(TypedDict):
    """Whether there was a turn to stop."""

    stopped: bool


class StoredMessage(TypedDict):
    """A message of a conversation."""

    id: Annotated[int | str | None, Field(description="Null of one that is on its way to the database.")]
    sender: Sender
    message: str
    context_data: Annotated[
        dict[str, Any], Field(description="Of an answer, what a repeat of the reply needs; `finish` says how it ended.")
    ]
    created_at: datetime
    turn_id: Annotated[uuid.UUID | None, Field(description="Null in rows that an older back end wrote.")]


class UiTextPart(TypedDict):
    """A text."""

    type: Literal["text"]
    text: str


class UiMetadata(TypedDict):
    """What belongs to a message of the history."""

    conversation_id: uuid.UUID
    turn_id: NotRequired[uuid.UUID]
    created_at: datetime
    trace_id: NotRequired[TraceId]
    performance_metrics: NotRequired[dict[str, float]]
    token_usage: NotRequired[TokenUsage]
    finish: NotRequired[Finish]


class UiMessage(TypedDict):
    """A message as the AI SDK has it, to start `useChat` with."""

    id: str
    role: Sender
    metadata: UiMetadata
    parts: list[UiTextPart]


class Conversation(TypedDict):
    """A conversation without its messages. `updated_at` is the time of its newest message, or of its making."""

    id: uuid.UUID
    title: str | None
    page_id: str | None
    created_at: datetime
    updated_at: datetime


class Problem(TypedDict):
    """Why there is no answer (RFC 9457). `detail` may be shown; `code` is what a program goes by."""

    type: Annotated[str, Field(pattern="^urn:nursery-chat:problem:[a-z_]+$")]
    title: str
    status: Annotated[int, Field(ge=400, le=599)]
    detail: Annotated[str, Field(description="One sentence: Japanese when `Accept-Language` prefers it, else English.")]
    code: str
    stage: NotRequired[Annotated[str, Field(description="The stage of the turn in which it happened.")]]
    retryable: Annotated[bool, Field(description="Whether the same request may succeed later.")]
    retry_after: NotRequired[Annotated[float, Field(ge=0, description="Seconds; `Retry-After` has them rounded up.")]]
    errors: NotRequired[Annotated[list[str], Field(description="What is wrong with which field, as sentences.")]]
    trace_id: TraceId
    turn_id: NotRequired[uuid.UUID]
    performance_metrics: NotRequired[PerformanceMetrics]
