"""What `/ops/support` answers. Only described here; `app/bootstrap/support.py` makes it."""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import Field
from typing_extensions import TypedDict

from app.contract.answers import Readiness, Seconds
from app.contract.ops_answers import Count, LimiterNow, OfProcess, OutboxNow, RecentTurn, RolloutShare, SlotsChange

BreakerState = Literal["closed", "half_open", "open"]


class AtOnce(TypedDict):
    """Users and turns, and what they take, now; counts of refusals and failures are since the start."""

    users_active: Annotated[int, Field(ge=0, description="Distinct users of the last five minutes, estimated.")]
    turns_inflight: Count
    connections: Count
    tasks: Count
    memory_bytes: Count
    turn_log_dropped: Count
    refusals: dict[str, int]
    model_failures: dict[str, int]


class LimiterCounted(LimiterNow):
    """The model limiter now, without what people said of its changes."""

    changes: list[SlotsChange]


class BreakerStates(TypedDict):
    """Whether calls to each host pass."""

    model: BreakerState
    database: BreakerState


class UpstreamConnections(TypedDict):
    """Connections to a host, and requests that wait for one."""

    active: Count
    idle: Count
    waiting: Count


class Upstreams(TypedDict):
    """Both hosts' connections."""

    model: UpstreamConnections
    database: UpstreamConnections


class RolloutCounted(TypedDict):
    """Who takes which plan; of those who are listed only how many."""

    chat: RolloutShare
    agent: RolloutShare
    by: Literal["user", "request"]
    users: Count


class Support(OfProcess):
    """All that a support request needs to know of this process; no texts, no users, no secrets."""

    versions: dict[str, str]
    started_at: datetime
    uptime_seconds: Seconds
    readiness: Readiness
    now: AtOnce
    limiter: LimiterCounted
    breakers: BreakerStates
    upstreams: Upstreams
    outbox: Annotated[OutboxNow | None, Field(description="Null with `OUTBOX=off`.")]
    rollout: RolloutCounted
    settings: dict[str, Any]
    errors: Annotated[
        list[dict[str, Any]],
        Field(max_length=200, description="The last warnings and errors, newest first, by their events."),
    ]
    turns: Annotated[list[RecentTurn], Field(max_length=50, description="The last turns, newest first.")]
