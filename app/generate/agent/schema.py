"""What a model is asked to say of a learner, as a JSON schema, and the reading of its answer.

The pydantic models are the one source. The schema that is sent is theirs, in the subset that structured outputs take:
every property required, no others allowed, no `$ref`, null by a type list, and no length of a text (hosts refuse a
schema with one): lengths are told in descriptions and checked here. What the server knows better than any model (the
project's id, what is counted from stored rows, the time) is not asked for.
"""

from collections.abc import Mapping, Sequence
from datetime import date, datetime
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from app.generate.agent.bounds import ENTRIES_MAX, ENTRY_CHARS, LINE_CHARS
from app.generate.agent.values import (
    MILESTONES_MAX,
    NEXT_ACTIONS_MAX,
    Affect,
    Milestone,
    NextAction,
    Plan,
    ProgressSignal,
    Snapshot,
)

ANSWER_CHARS = 100_000
"""A longer answer is not read: all texts at their greatest length, each character escaped, come to 97,000."""
SCHEMA_NAME = "learner_state_and_plan"

Line = Annotated[str, StringConstraints(max_length=LINE_CHARS)]
Entry = Annotated[str, StringConstraints(min_length=1, max_length=ENTRY_CHARS)]
Entries = Annotated[list[Entry], Field(max_length=ENTRIES_MAX)]
Level = Annotated[int, Field(ge=0, le=5)]
Weight = Annotated[int, Field(ge=1, le=5)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class _Affect(_Part):
    interest: Level
    anxiety: Level
    excitement: Level


class _ProgressSignal(_Part):
    looping_signals: Entries
    scope_breadth: Annotated[int, Field(ge=1, le=10)]


class _Snapshot(_Part):
    goal: Line | None
    purpose: Line | None
    project_context: Line | None
    time_horizon: Line | None
    last_action: Line | None
    blockers: Entries
    uncertainties: Entries
    options_considered: Entries
    resources: Entries
    affect: _Affect
    progress_signal: _ProgressSignal


class _Milestone(_Part):
    title: Line
    description: Line
    target_date: date | None
    success_criteria: Entries
    order: Annotated[int, Field(ge=1, le=MILESTONES_MAX)]


class _NextAction(_Part):
    action: Line
    urgency: Weight
    importance: Weight
    reason: Line
    expected_outcome: Line


class _Plan(_Part):
    north_star: Line
    north_star_metric: Line
    milestones: Annotated[list[_Milestone], Field(max_length=MILESTONES_MAX)]
    next_actions: Annotated[list[_NextAction], Field(max_length=NEXT_ACTIONS_MAX)]
    strategic_approach: Line
    risk_factors: Entries
    confidence: Annotated[float, Field(ge=0, le=1)]


class _Answer(_Part):
    state_snapshot: _Snapshot
    project_plan: _Plan


def read_model_answer(text: str, *, ruled: Snapshot, now: datetime) -> tuple[Snapshot, Plan]:
    """Return the snapshot and the plan of a model's answer.

    Args:
        text: the whole answer, JSON and nothing else.
        ruled: the rules' snapshot of the same turn; what is known or counted is taken from it.
        now: when the plan was made.

    Raises:
        ValueError: it is not valid. The reason is short, names the field, and quotes nothing of the answer.
    """
    if len(text) > ANSWER_CHARS:
        raise ValueError(f"over {ANSWER_CHARS} characters")
    try:
        answer = _Answer.model_validate_json(text.encode())
    except ValidationError as exc:
        raise ValueError(_reason(exc)) from None
    except UnicodeEncodeError:
        raise ValueError("a lone surrogate") from None
    return _snapshot(answer.state_snapshot, ruled), _plan(answer.project_plan, now)


def _reason(exc: ValidationError) -> str:
    first = exc.errors(include_url=False, include_context=False, include_input=False)[0]
    known = [str(step) for step in first["loc"] if isinstance(step, int) or step in _FIELDS]
    return f"{'.'.join(known) or 'answer'}: {first['type']}"


def _snapshot(said: _Snapshot, ruled: Snapshot) -> Snapshot:
    signal = ruled.progress_signal
    return Snapshot(
        goal=said.goal,
        purpose=said.purpose,
        project_context=said.project_context or ruled.project_context,
        project_id=ruled.project_id,
        time_horizon=said.time_horizon,
        last_action=said.last_action,
        blockers=tuple(said.blockers),
        uncertainties=tuple(said.uncertainties),
        options_considered=tuple(said.options_considered),
        resources=tuple(said.resources),
        affect=Affect(**said.affect.model_dump()),
        progress_signal=ProgressSignal(
            actions_in_last_7_days=signal.actions_in_last_7_days,
            novelty_ratio=signal.novelty_ratio,
            looping_signals=tuple(said.progress_signal.looping_signals),
            scope_breadth=said.progress_signal.scope_breadth,
        ),
    )


def _plan(said: _Plan, now: datetime) -> Plan:
    return Plan(
        north_star=said.north_star,
        north_star_metric=said.north_star_metric,
        milestones=tuple(_milestone(one) for one in said.milestones),
        next_actions=tuple(NextAction(**one.model_dump()) for one in said.next_actions),
        strategic_approach=said.strategic_approach,
        risk_factors=tuple(said.risk_factors),
        confidence=said.confidence,
        created_at=now,
    )


def _milestone(said: _Milestone) -> Milestone:
    return Milestone(
        title=said.title,
        description=said.description,
        target_date=said.target_date,
        success_criteria=tuple(said.success_criteria),
        order=said.order,
    )


_NOT_SENT = frozenset({"title", "default", "description", "minLength", "maxLength"})


def _sendable(node: Any, definitions: Mapping[str, Any]) -> Any:
    """Return a pydantic schema's node in the subset that structured outputs take."""
    if isinstance(node, list):
        return [_sendable(item, definitions) for item in node]
    if not isinstance(node, dict):
        return node
    if "$ref" in node:
        return _sendable(definitions[node["$ref"].rpartition("/")[2]], definitions)
    if "anyOf" in node:
        return _nullable([_sendable(option, definitions) for option in node["anyOf"]])
    if "properties" in node:
        inner = {name: _sendable(of, definitions) for name, of in node["properties"].items()}
        return {"type": "object", "properties": inner, "required": list(inner), "additionalProperties": False}
    sent = {key: _sendable(value, definitions) for key, value in node.items() if key not in _NOT_SENT}
    if "maxLength" in node:
        sent["description"] = f"at most {node['maxLength']} characters"
    return sent


def _nullable(options: Sequence[dict[str, Any]]) -> dict[str, Any]:
    typed = next(option for option in options if option["type"] != "null")
    return {**typed, "type": [typed["type"], "null"]}


def _field_names(node: Any) -> frozenset[str]:
    if not isinstance(node, dict):
        return frozenset()
    inner = node.get("properties", {})
    below = (_field_names(of) for of in (*inner.values(), node.get("items")))
    return frozenset(inner).union(*below)


def _built() -> dict[str, Any]:
    made = _Answer.model_json_schema()
    schema = _sendable(made, made["$defs"])
    assert isinstance(schema, dict)
    return schema


SCHEMA: Mapping[str, Any] = _built()
"""The JSON schema (draft 2020-12) of the answer."""
_FIELDS = _field_names(SCHEMA)
"""Names that may stand in a reason; any other was the model's."""
