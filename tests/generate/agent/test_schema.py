"""The schema that a model is given, and the reading of what it answers."""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.generate.agent.schema import ANSWER_CHARS, SCHEMA, read_model_answer
from app.generate.agent.values import Plan, Snapshot
from tests.generate.agent.histories import EVERY, HISTORIES, MESSAGES, NOW, view
from tests.generate.agent.labelled import Labelled

RULED = view("今週中に発表です。昨日調べました。").snapshot
KNOWN = ("project_id",)
COUNTED = ("actions_in_last_7_days", "novelty_ratio")


def answer_of(snapshot: Snapshot, plan: Plan) -> dict[str, Any]:
    """Return what a model would have to answer to say this snapshot and plan."""
    state, way = snapshot.as_reply(), plan.as_reply()
    for name in KNOWN:
        del state[name]
    for name in COUNTED:
        del state["progress_signal"][name]
    del way["created_at"]
    return {"state_snapshot": state, "project_plan": way}


def good() -> dict[str, Any]:
    made = view("AかBか迷っています。今週中です。不安です。")
    return answer_of(made.snapshot, made.plan)


def read(text: str) -> tuple[Snapshot, Plan]:
    return read_model_answer(text, ruled=RULED, now=NOW)


def objects(node: Any) -> Iterator[dict[str, Any]]:
    """Yield every object schema within a schema."""
    if isinstance(node, dict):
        if node.get("type") == "object":
            yield node
        for inner in node.values():
            yield from objects(inner)


def test_schema_is_what_structured_outputs_take() -> None:
    """Every object requires all its properties and allows no others, and there is no keyword that hosts refuse."""
    found = list(objects(SCHEMA))
    assert len(found) == 7
    for node in found:
        assert node["required"] == list(node["properties"])
        assert node["additionalProperties"] is False
    text = json.dumps(SCHEMA)
    assert not any(f'"{word}"' in text for word in ("$ref", "$defs", "anyOf", "default", "minLength", "maxLength"))


@pytest.mark.parametrize("item", EVERY, ids=lambda item: item.message[:20])
def test_round_trip(item: Labelled) -> None:
    """What the rules say is a valid answer of a model, read back as the same snapshot and plan."""
    made = view(item.message)
    text = json.dumps(answer_of(made.snapshot, made.plan))
    assert read_model_answer(text, ruled=made.snapshot, now=NOW) == (made.snapshot, made.plan)


def test_what_is_known_is_not_the_models() -> None:
    """The project's id, the counts and the time come from the server, whatever the model says beside them."""
    snapshot, plan = read(json.dumps(good()))
    assert snapshot.progress_signal.actions_in_last_7_days == RULED.progress_signal.actions_in_last_7_days == 1
    assert plan.created_at == NOW
    answer = good()
    answer["state_snapshot"]["project_id"] = 99
    with pytest.raises(ValueError, match="extra_forbidden"):
        read(json.dumps(answer))


def test_next_actions_are_sorted() -> None:
    """A model's next actions are put in their order, whatever order it gave them in."""
    answer = good()
    answer["project_plan"]["next_actions"].reverse()
    weights = [one.urgency * one.importance for one in read(json.dumps(answer))[1].next_actions]
    assert len(weights) > 1
    assert weights == sorted(weights, reverse=True)


ANY = re.compile("")
"""Whatever the reason: that it is a ValueError is the fact."""

WRONG: dict[str, tuple[tuple[str | int, ...], Any]] = {
    "range over": (("state_snapshot", "affect", "anxiety"), 6),
    "range under": (("project_plan", "next_actions", 0, "urgency"), 0),
    "not whole": (("state_snapshot", "affect", "anxiety"), 2.5),
    "text for number": (("state_snapshot", "affect", "anxiety"), "3"),
    "boolean for number": (("state_snapshot", "affect", "anxiety"), True),
    "confidence": (("project_plan", "confidence"), 1.01),
    "line too long": (("state_snapshot", "goal"), "あ" * 241),
    "entry too long": (("state_snapshot", "blockers"), ["a" * 121]),
    "entry empty": (("state_snapshot", "blockers"), [""]),
    "too many entries": (("state_snapshot", "blockers"), ["a"] * 6),
    "no date": (("project_plan", "milestones", 0, "target_date"), "soon"),
    "null": (("project_plan", "north_star"), None),
    "NUL": (("state_snapshot", "goal"), "a\x00b"),
    "another field": (("project_plan", "secret token 123"), "secret value 456"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_answers(name: str) -> None:
    """What is out of range, too long, of another type or not asked for is refused, and the reason quotes nothing."""
    path, value = WRONG[name]
    answer = good()
    inner: Any = answer
    for step in path[:-1]:
        inner = inner[step]
    inner[path[-1]] = value
    with pytest.raises(ValueError, match=r"^[a-z_0-9.]+: .{1,40}$") as refused:
        read(json.dumps(answer))
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    "text",
    ["", "null", "[]", "{}", "{", "NaN", "[" * 100_000, '"\\ud800"', "\ud800", "1" * 10_000, " " * (ANSWER_CHARS + 1)],
    ids=lambda text: text[:8].encode("unicode_escape").decode() or "empty",
)
def test_not_an_answer(text: str) -> None:
    """What is no JSON object of the kind is a ValueError with a short reason."""
    with pytest.raises(ValueError, match=ANY) as refused:
        read(text)
    assert len(str(refused.value)) < 100


def test_a_missing_field_is_refused() -> None:
    """Every field is required."""
    answer = good()
    del answer["state_snapshot"]["goal"]
    with pytest.raises(ValueError, match=r"state_snapshot\.goal: missing"):
        read(json.dumps(answer))


_NODES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["goal", "affect", "x"]), inner),
    max_leaves=8,
)


@given(text=st.text(st.characters(exclude_categories=())) | _NODES.map(json.dumps))
@settings(max_examples=300, deadline=None)
def test_only_value_errors(text: str) -> None:
    """No text makes the reading raise anything but a ValueError."""
    with pytest.raises(ValueError, match=ANY):
        read(text)


@given(path=st.sampled_from(sorted(WRONG)), value=_NODES)
@settings(max_examples=200, deadline=None)
def test_only_value_errors_near_an_answer(path: str, value: object) -> None:
    """Anything in the place of a field is either valid, and within bounds, or a ValueError."""
    answer = good()
    inner: Any = answer
    *steps, last = WRONG[path][0]
    for step in steps:
        inner = inner[step]
    inner[last] = value
    try:
        snapshot, plan = read(json.dumps(answer))
    except ValueError:
        return
    assert isinstance(snapshot, Snapshot)
    assert 0 <= plan.confidence <= 1


@given(history=HISTORIES, message=MESSAGES)
@settings(max_examples=60, deadline=None)
def test_rules_are_within_the_models_schema(history: list[Any], message: str) -> None:
    """Whatever the rules say could have been a model's answer."""
    made = view(message, history)
    text = json.dumps(answer_of(made.snapshot, made.plan))
    assert read_model_answer(text, ruled=made.snapshot, now=NOW) == (made.snapshot, made.plan)
