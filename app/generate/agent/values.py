"""What the agent says of a learner. Frozen, and valid once built: ranges, counts and lengths are checked."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import UTC, date, datetime
from typing import Any, Literal

from app.generate.agent.bounds import check_count, check_entries, check_line, check_range
from app.generate.agent.language import Language

SupportType = Literal["理解深化", "道筋提示", "視点転換", "行動活性化", "絞り込み", "意思決定"]
SpeechAct = Literal["Clarify", "Inform", "Probe", "Act", "Reframe", "Outline", "Decide", "Reflect"]
Source = Literal["rules", "model"]
"""Who made the snapshot and the plan."""

MILESTONES_MAX, NEXT_ACTIONS_MAX, FOLLOW_UPS_MAX, ACTS_MAX = 6, 5, 3, 2


def as_json(value: Any) -> Any:
    """Return a value of ours as JSON has it: fields by their names, times as ISO-8601 in UTC, to the millisecond."""
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, tuple):
        return [as_json(item) for item in value]
    if isinstance(value, Value):
        return value.as_reply()
    return value


class Value:
    """A value whose JSON form is its fields."""

    __slots__ = ()

    def as_reply(self) -> dict[str, Any]:
        """Return the value as replies and stored rows carry it."""
        return {item.name: as_json(getattr(self, item.name)) for item in fields(self)}  # type: ignore[arg-type]  # each heir is a dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Affect(Value):
    """How the learner feels, each 0 (no sign of it) to 5."""

    interest: int = 0
    anxiety: int = 0
    excitement: int = 0

    def __post_init__(self) -> None:
        for name in ("interest", "anxiety", "excitement"):
            check_range(f"affect.{name}", getattr(self, name), 0, 5)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgressSignal(Value):
    """How the learner moves: what they did, whether they say new things, whether they go in circles, how wide."""

    actions_in_last_7_days: int = 0
    novelty_ratio: float = 0.0
    looping_signals: tuple[str, ...] = ()
    scope_breadth: int = 4

    def __post_init__(self) -> None:
        check_range("actions_in_last_7_days", self.actions_in_last_7_days, 0, 100_000)
        check_range("novelty_ratio", self.novelty_ratio, 0, 1)
        check_entries("looping_signals", self.looping_signals)
        check_range("scope_breadth", self.scope_breadth, 1, 10)


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot(Value):
    """Where the learner stands, in the learner's own words where there are any; None: they have not said."""

    goal: str | None = None
    purpose: str | None = None
    project_context: str | None = None
    project_id: int | str | None = None
    time_horizon: str | None = None
    last_action: str | None = None
    blockers: tuple[str, ...] = ()
    uncertainties: tuple[str, ...] = ()
    options_considered: tuple[str, ...] = ()
    resources: tuple[str, ...] = ()
    affect: Affect = Affect()
    progress_signal: ProgressSignal = ProgressSignal()

    def __post_init__(self) -> None:
        for name in ("goal", "purpose", "project_context", "time_horizon", "last_action"):
            check_line(name, getattr(self, name))
        for name in ("blockers", "uncertainties", "options_considered", "resources"):
            check_entries(name, getattr(self, name))


@dataclass(frozen=True, slots=True, kw_only=True)
class Milestone(Value):
    """A stretch of the project; `target_date` is None when nothing says when."""

    title: str
    description: str
    target_date: date | None
    success_criteria: tuple[str, ...]
    order: int

    def __post_init__(self) -> None:
        check_line("milestone.title", self.title)
        check_line("milestone.description", self.description)
        check_entries("milestone.success_criteria", self.success_criteria)
        check_range("milestone.order", self.order, 1, 100)


@dataclass(frozen=True, slots=True, kw_only=True)
class NextAction(Value):
    """Something to do next; urgency and importance are 1 to 5."""

    action: str
    urgency: int
    importance: int
    reason: str
    expected_outcome: str

    def __post_init__(self) -> None:
        for name in ("action", "reason", "expected_outcome"):
            check_line(f"next_action.{name}", getattr(self, name))
        check_range("next_action.urgency", self.urgency, 1, 5)
        check_range("next_action.importance", self.importance, 1, 5)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan(Value):
    """The way to the project's end. Milestones are kept in their order, next actions by urgency x importance."""

    north_star: str
    north_star_metric: str
    milestones: tuple[Milestone, ...]
    next_actions: tuple[NextAction, ...]
    strategic_approach: str
    risk_factors: tuple[str, ...]
    confidence: float
    created_at: datetime

    def __post_init__(self) -> None:
        for name in ("north_star", "north_star_metric", "strategic_approach"):
            check_line(name, getattr(self, name))
        check_count("milestones", self.milestones, 0, MILESTONES_MAX)
        check_count("next_actions", self.next_actions, 0, NEXT_ACTIONS_MAX)
        check_entries("risk_factors", self.risk_factors)
        check_range("confidence", self.confidence, 0, 1)
        by_weight = sorted(self.next_actions, key=lambda action: -action.urgency * action.importance)
        object.__setattr__(self, "milestones", tuple(sorted(self.milestones, key=lambda item: item.order)))
        object.__setattr__(self, "next_actions", tuple(by_weight))


@dataclass(frozen=True, slots=True, kw_only=True)
class Support(Value):
    """How to support the learner now, why, and how sure that is, 0 to 1."""

    type: SupportType
    reason: str
    confidence: float

    def __post_init__(self) -> None:
        check_line("support.reason", self.reason)
        check_range("support.confidence", self.confidence, 0, 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Acts(Value):
    """The one or two speech acts of a reply, in the order in which it performs them, and why."""

    acts: tuple[SpeechAct, ...]
    reason: str

    def __post_init__(self) -> None:
        check_count("acts", self.acts, 1, ACTS_MAX)
        check_line("acts.reason", self.reason)
        if len(set(self.acts)) != len(self.acts):
            raise ValueError("acts: the same act twice")


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentView:
    """All that the agent made of one turn, but for the reply's text."""

    language: Language
    snapshot: Snapshot
    plan: Plan
    support: Support
    acts: Acts
    follow_ups: tuple[str, ...]
    metrics: Mapping[str, Any]
    source: Source
    decided_at: datetime

    def __post_init__(self) -> None:
        check_entries("follow_ups", self.follow_ups, FOLLOW_UPS_MAX)

    def as_reply(self) -> dict[str, Any]:
        """Return the six agent fields of a reply and of an assistant row's `context_data`."""
        return {
            "support_type": self.support.type,
            "selected_acts": list(self.acts.acts),
            "state_snapshot": self.snapshot.as_reply(),
            "project_plan": self.plan.as_reply(),
            "decision_metadata": {
                "support_reason": self.support.reason,
                "support_confidence": self.support.confidence,
                "act_reason": self.acts.reason,
                "timestamp": as_json(self.decided_at),
                "source": self.source,
                "follow_ups": list(self.follow_ups),
            },
            "metrics": dict(self.metrics),
        }
