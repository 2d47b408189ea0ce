"""The rule-made plan, and how much time a horizon leaves."""

from datetime import date

import pytest

from app.generate.agent.horizon import DEFAULT_DAYS, horizon_days
from tests.generate.agent.histories import EVERY, NOW, view, view_of
from tests.generate.agent.labelled import Labelled


def test_milestones_follow_the_horizon() -> None:
    """A month has four milestones, a week three, in order, and the last one is due when the time is over."""
    month = view("海の温度を調べたいです。").plan.milestones
    week = view("今週中に発表します。").plan.milestones
    assert [one.order for one in month] == [1, 2, 3, 4]
    assert month[-1].target_date == date(2026, 12, 20)
    assert len(week) == 3
    assert week[-1].target_date == date(2026, 11, 27)


@pytest.mark.parametrize("item", EVERY, ids=lambda item: item.message[:20])
def test_next_actions(item: Labelled) -> None:
    """One to three next actions, the heaviest first, and dates that never go back."""
    plan = view_of(item).plan
    weights = [action.urgency * action.importance for action in plan.next_actions]
    dates = [one.target_date for one in plan.milestones if one.target_date]
    assert 1 <= len(weights) <= 3
    assert weights == sorted(weights, reverse=True)
    assert dates == sorted(dates)
    assert plan.created_at == NOW


def test_state_shapes_the_plan() -> None:
    """An anxious student begins with ten minutes, one with options compares them, a wide scope is circled down."""
    assert view("不安です。").plan.next_actions[0].action.startswith("10分だけ")
    assert "table" in view("Should I do a survey or interviews?").plan.next_actions[0].action
    assert view("テーマが広すぎます。").plan.next_actions[0].action.startswith("調べたいことを三つ")


def test_confidence_grows_with_what_is_known() -> None:
    """The more a student has told, the surer the plan."""
    nothing = view("はい").plan.confidence
    much = view("海の温度を調べたいです。来月までに、町に役立てたいから。昨日測りました。").plan.confidence
    assert nothing == 0.3
    assert much > 0.6


@pytest.mark.parametrize(
    ("text", "days"),
    [
        (None, DEFAULT_DAYS),
        ("いつか", DEFAULT_DAYS),
        ("明日", 2),
        ("今週中", 5),
        ("2週間後", 14),
        ("三か月", 90),
        ("in 3 days", 3),
        ("in a month", 30),
        ("by friday", 5),
        ("in 0 days", 1),
        ("999か月", 365),
    ],
)
def test_horizon_days(text: str | None, days: int) -> None:
    """A student's words for time are days, within 1 and 365."""
    assert horizon_days(text) == days
