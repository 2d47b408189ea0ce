"""What is known of a turn that ended, for whoever listens: plain values, and no text."""

from collections.abc import Mapping
from dataclasses import dataclass

from opentelemetry.util.types import AttributeValue

from telemetry import names


@dataclass(frozen=True, slots=True, kw_only=True)
class GatePassage:
    """A turn's way through the gate: when it came, in nanoseconds since the epoch, and its seconds there.

    `service_s` is from the slot's grant to the end of the model's call; None when that never began.
    """

    arrived_at_ns: int
    wait_s: float
    service_s: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class StageFacts:
    """A stage that ended: when it began, in seconds from the turn's start, and how long it took."""

    stage: str
    at: float
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnFacts:
    """What is known of a turn that ended: for the log line, for `/ops/turns`, and for whoever else listens.

    `timings` are the reply's `performance_metrics`; `ended_at_ns` is nanoseconds since the epoch. No text, and of the
    ids only those that lead to the rows and to the trace.
    """

    turn_id: str
    trace_id: str
    conversation_id: str | None
    plan: str
    surface: str
    outcome: names.Outcome
    error_type: str | None
    timings: Mapping[str, float]
    details: Mapping[str, AttributeValue]
    ended_at_ns: int
    stages: tuple[StageFacts, ...] = ()
    """Every stage that ended, in the order in which they began."""
    time_to_first_token: float | None = None
    """In seconds from the turn's start; None where no token came."""
    gate: GatePassage | None = None
    """None when the turn did not come as far as that."""
