"""Who takes which plan."""

import pytest

from app.admit.rollout import Rollout, RolloutRules, Share, position_of
from app.turn import Plan

USERS = [f"user-{number}" for number in range(10_000)]


def on_concurrent(percent: float) -> set[str]:
    rules = RolloutRules(chat=Share(percent=percent))
    return {user for user in USERS if rules.plan("chat", user, 0.0) == "concurrent"}


def test_a_users_plan_is_stable_and_shares_grow() -> None:
    """The same user has the same plan each time, and a larger share holds every user of a smaller one."""
    assert on_concurrent(20) == on_concurrent(20)
    assert on_concurrent(0) < on_concurrent(5) < on_concurrent(20) < on_concurrent(100) == set(USERS)


@pytest.mark.parametrize("percent", [5, 20, 50])
def test_a_share_is_about_its_size(percent: float) -> None:
    """Of 10,000 users the share is met within 1.5 points (three standard deviations at 50 %)."""
    assert len(on_concurrent(percent)) / 100 == pytest.approx(percent, abs=1.5)


def test_a_users_position_is_the_same_on_every_machine() -> None:
    """The position is a fixed function of the id: this figure must never change."""
    assert position_of("demo") == 0.07171937360601532


@pytest.mark.parametrize(
    ("rules", "plan"),
    [
        (RolloutRules(), "concurrent"),
        (RolloutRules(chat=Share(optimized=False)), "sequential"),
        (RolloutRules(chat=Share(optimized=False), users=frozenset({"demo"})), "sequential"),
        (RolloutRules(chat=Share(percent=0)), "sequential"),
        (RolloutRules(chat=Share(percent=0), users=frozenset({"demo"})), "concurrent"),
        (RolloutRules(agent=Share(optimized=False)), "concurrent"),
    ],
)
def test_flag_share_and_list(rules: RolloutRules, plan: Plan) -> None:
    """The flag beats the list, the list beats the share, and the features are apart."""
    assert rules.plan("chat", "demo", 0.0) == plan


def test_by_request_every_turn_draws() -> None:
    """With `by="request"` one user's turns are split by the draw."""
    draws = iter([0.1, 0.9, 0.2999, 0.3])
    rollout = Rollout(RolloutRules(chat=Share(percent=30), by="request"), lambda: next(draws))
    plans = [rollout.plan("chat", "demo") for _ in range(4)]
    assert plans == ["concurrent", "sequential", "concurrent", "sequential"]
