"""The agent fields of a reply as front ends were promised them: an independent judge of what the rules return."""

from datetime import date, datetime
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, TypeAdapter

Entry = Annotated[str, Field(min_length=1, max_length=120)]
Entries = Annotated[list[Entry], Field(max_length=5)]
Line = Annotated[str, Field(max_length=240)]
Level = Annotated[int, Field(ge=0, le=5)]
Weight = Annotated[int, Field(ge=1, le=5)]
Share = Annotated[float, Field(ge=0, le=1)]
ActName = Literal["Clarify", "Inform", "Probe", "Act", "Reframe", "Outline", "Decide", "Reflect"]


class Part(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class Affect(Part):
    interest: Level
    anxiety: Level
    excitement: Level


class ProgressSignal(Part):
    actions_in_last_7_days: Annotated[int, Field(ge=0)]
    novelty_ratio: Share
    looping_signals: Entries
    scope_breadth: Annotated[int, Field(ge=1, le=10)]


class StateSnapshot(Part):
    goal: Line | None
    purpose: Line | None
    project_context: Line | None
    project_id: int | str | None
    time_horizon: Line | None
    last_action: Line | None
    blockers: Entries
    uncertainties: Entries
    options_considered: Entries
    resources: Entries
    affect: Affect
    progress_signal: ProgressSignal


class Milestone(Part):
    title: Line
    description: Line
    target_date: date | None
    success_criteria: Entries
    order: Annotated[int, Field(ge=1)]


class NextAction(Part):
    action: Line
    urgency: Weight
    importance: Weight
    reason: Line
    expected_outcome: Line


class ProjectPlan(Part):
    north_star: Line
    north_star_metric: Line
    milestones: Annotated[list[Milestone], Field(min_length=3, max_length=4)]
    next_actions: Annotated[list[NextAction], Field(min_length=1, max_length=3)]
    strategic_approach: Line
    risk_factors: Entries
    confidence: Share
    created_at: datetime


class DecisionMetadata(Part):
    support_reason: Line
    support_confidence: Share
    act_reason: Line
    timestamp: datetime
    source: Literal["rules", "model"]
    follow_ups: Annotated[list[Entry], Field(max_length=3)]


class AgentFields(Part):
    support_type: Literal["理解深化", "道筋提示", "視点転換", "行動活性化", "絞り込み", "意思決定"]
    selected_acts: Annotated[list[ActName], Field(min_length=1, max_length=2)]
    state_snapshot: StateSnapshot
    project_plan: ProjectPlan
    decision_metadata: DecisionMetadata
    metrics: dict[str, JsonValue]


AGENT_FIELDS: TypeAdapter[AgentFields] = TypeAdapter(AgentFields)
