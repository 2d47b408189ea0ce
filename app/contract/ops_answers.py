"""What the people who run the server are answered. Only described here; `app/ops` makes it."""

import uuid
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import Field
from typing_extensions import TypedDict

from app.admit.gate_statistics import Mode, Reason, Shed
from app.contract.answers import PerformanceMetrics, Seconds, TraceId
from app.turn import Sender
from telemetry.names import Outcome

Count = Annotated[int, Field(ge=0)]


class OfProcess(TypedDict):
    """Whose answer it is: one process's, of perhaps several."""

    instance: str
    scope: Literal["process"]


class LastMinute(TypedDict):
    """Of the calls of the last minute; null where there were none."""

    wait_p50_seconds: Seconds | None
    wait_p95_seconds: Seconds | None
    service_p50_seconds: Seconds | None
    service_p95_seconds: Seconds | None


class Rejections(TypedDict):
    """What the model's host refused, and what was not sent for that."""

    overload: Count
    quota: Count
    quota_wait: Count


class Quota(TypedDict):
    """A quota per minute that the model's host named."""

    limit: float
    left: float


class Pacer(TypedDict):
    """The host's quotas, and how many calls wait for them."""

    waiting: Count
    requests: Quota | None
    tokens: Quota | None


class SlotsChange(TypedDict):
    """A change of the number of slots; one that stands for several says how many."""

    at: datetime
    before: Count
    after: Count
    reason: Reason
    mode: Mode
    times: Annotated[int, Field(ge=1)]


class LimiterChange(SlotsChange):
    """A change of the number of slots, and what was said of it."""

    who: str
    why: str


class LimiterNow(TypedDict):
    """The model limiter now; counts are since the start."""

    mode: Mode
    min: Annotated[int, Field(ge=1)]
    max: Annotated[int, Field(ge=1)]
    total_tokens: Annotated[int, Field(ge=1, description="Its size: model calls at once.")]
    borrowed: Count
    studies: Count
    waiting: Count
    oldest_wait_seconds: Seconds
    users: Count
    users_at_cap: Count
    mean_service_seconds: Seconds
    last_minute: LastMinute
    admitted: Count
    abandoned: Count
    shed: dict[Shed, int]
    queue_max: Count
    queue_timeout_seconds: Seconds
    per_user_max: Count
    rejections: Rejections
    pacer: Annotated[Pacer | None, Field(description="Null until the host names a quota.")]


class LimiterState(OfProcess, LimiterNow):
    """The model limiter now; counts are since the start."""

    changes: list[LimiterChange]
    reverts_on_restart: Literal[True]


class RolloutShare(TypedDict):
    """A feature's share on the concurrent plan."""

    optimized: bool
    percent: Annotated[float, Field(ge=0, le=100)]


class RolloutState(OfProcess):
    """Who takes which plan."""

    chat: RolloutShare
    agent: RolloutShare
    by: Literal["user", "request"]
    users: list[str]
    reverts_on_restart: Literal[True]


class RecentStage(TypedDict):
    """A stage that ended: when it began, from the turn's start on, and how long it took."""

    stage: str
    at: Seconds
    seconds: Seconds


class RecentTurn(TypedDict):
    """A turn that ended: its times and the ids that lead to its rows and its trace; no text and no user."""

    turn_id: uuid.UUID
    trace_id: TraceId
    conversation_id: uuid.UUID | None
    plan: Literal["concurrent", "sequential"]
    surface: Literal["chat", "stream", "agent"]
    outcome: Outcome
    error_type: str | None
    details: dict[str, Any]
    ended_at: datetime
    performance_metrics: PerformanceMetrics
    stages: list[RecentStage]
    time_to_first_token: Seconds | None


class RecentTurns(OfProcess):
    """The last turns, newest first."""

    turns: list[RecentTurn]


class SettingsInForce(OfProcess):
    """Every setting by its variable's name; secrets are asterisks."""

    settings: dict[str, Any]


class OutboxNow(TypedDict):
    """What waits to be delivered to the database. `paused` says why it refuses deliveries altogether."""

    waiting: Count
    set_aside: Count
    oldest_age_s: Seconds
    bytes: Count
    paused: str | None


class OutboxState(OfProcess, OutboxNow):
    """The outbox of a process."""


class OutboxChanged(OutboxState):
    """The outbox after a change."""

    reverts_on_restart: Literal[False]


class OutboxEntry(TypedDict):
    """A row that waits, or that the database refuses: where it belongs, not what it says."""

    id: int
    turn_id: uuid.UUID
    sender: Sender
    conversation_id: uuid.UUID
    trace_id: TraceId | None
    queued_at: datetime
    bytes: Count
    attempts: Count
    state: Literal["waiting", "set_aside"]
    reason: str | None


class OutboxListing(OutboxState):
    """The outbox and its first entries, in the order of delivery."""

    entries: list[OutboxEntry]
