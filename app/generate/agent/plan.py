"""A rule-made plan for a student's research project: sensible for any, shaped by the snapshot's rows that fit."""

from datetime import datetime, timedelta

from app.generate.agent.bounds import ENTRIES_MAX
from app.generate.agent.horizon import horizon_days
from app.generate.agent.language import Language
from app.generate.agent.plan_rows import APPROACHES, RISKS, STEPS, STRETCHES, Step, Stretch, is_short
from app.generate.agent.values import Milestone, NextAction, Plan, Snapshot

STEPS_MAX = 3
CONFIDENCE_BASE, CONFIDENCE_STEP = 0.3, 0.1
"""What a plan for nobody in particular deserves, and what each thing that the student told adds."""

_NORTH_STAR = {"ja": "自分の問いに、自分で集めた根拠で答える。", "en": "Answer my question with my own evidence."}
_METRIC = {
    "ja": "問いへの答えと、その根拠になるデータを一つ示せること",
    "en": "Being able to give the question's answer and one piece of data for it",
}


def plan(snapshot: Snapshot, language: Language, now: datetime) -> Plan:
    """Return the plan for a student as the snapshot has them, in `language`, made `now`."""
    return Plan(
        north_star=snapshot.goal or _NORTH_STAR[language],
        north_star_metric=_METRIC[language],
        milestones=_milestones(snapshot, language, now),
        next_actions=_next_actions(snapshot, language),
        strategic_approach=next(words[language] for fits, words in APPROACHES if fits(snapshot)),
        risk_factors=tuple(words[language] for fits, words in RISKS if fits(snapshot))[:ENTRIES_MAX],
        confidence=_confidence(snapshot),
        created_at=now,
    )


def _milestones(snapshot: Snapshot, language: Language, now: datetime) -> tuple[Milestone, ...]:
    days = horizon_days(snapshot.time_horizon)
    stretches = [stretch for stretch in STRETCHES if not (stretch.skippable and is_short(snapshot))]
    return tuple(_milestone(stretch, order, language, now, days) for order, stretch in enumerate(stretches, 1))


def _milestone(stretch: Stretch, order: int, language: Language, now: datetime, days: int) -> Milestone:
    return Milestone(
        title=stretch.title[language],
        description=stretch.description[language],
        target_date=(now + timedelta(days=max(1, round(days * stretch.share)))).date(),
        success_criteria=stretch.criteria[language],
        order=order,
    )


def _next_actions(snapshot: Snapshot, language: Language) -> tuple[NextAction, ...]:
    haste = int(is_short(snapshot))
    fitting = [_next_action(step, haste, language) for step in STEPS if step.fits(snapshot)]
    return tuple(sorted(fitting, key=lambda action: -action.urgency * action.importance)[:STEPS_MAX])


def _next_action(step: Step, haste: int, language: Language) -> NextAction:
    return NextAction(
        action=step.action[language],
        urgency=min(5, step.urgency + haste),
        importance=step.importance,
        reason=step.reason[language],
        expected_outcome=step.outcome[language],
    )


def _confidence(snapshot: Snapshot) -> float:
    told = (snapshot.goal, snapshot.purpose, snapshot.project_context, snapshot.time_horizon, snapshot.last_action)
    return round(CONFIDENCE_BASE + CONFIDENCE_STEP * sum(item is not None for item in told), 2)
