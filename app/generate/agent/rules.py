"""All rules of a turn together: what a student said to what the agent makes of it, without a model."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from datetime import datetime

from app.generate.agent.acts import acts
from app.generate.agent.follow_ups import follow_ups
from app.generate.agent.language import Language, language_of
from app.generate.agent.metrics import metrics
from app.generate.agent.plan import plan
from app.generate.agent.reading import read
from app.generate.agent.snapshot import snapshot_of
from app.generate.agent.support import support
from app.generate.agent.values import AgentView, Plan, Snapshot
from app.turn import Project, StoredMessage
from telemetry import names


def rule_view(
    history: Sequence[StoredMessage],
    message: str,
    project: Project | None,
    now: datetime,
    default_language: Language = "en",
    timed: Callable[[str], AbstractContextManager[object]] = nullcontext,
    replies: Sequence[StoredMessage] | None = None,
) -> AgentView:
    """Return what the rules make of a turn.

    Args:
        history: the conversation's messages before this one, oldest first; any number.
        message: what the student has just sent.
        project: of this conversation.
        now: when the message was admitted.
        default_language: when neither the message nor the history tells.
        timed: what each phase is timed as, from its name in `telemetry.names`.
        replies: messages of which only the acts of the answers are heeded; the history's, when not given.
    """
    own = [row for row in reversed(history) if row.sender == "user"]
    language = language_of(message, (row.message for row in own), default_language)
    reading = read(message)
    with timed(names.AGENT_STATE):
        state = snapshot_of(reading, own, project, now)
    with timed(names.AGENT_PLAN):
        way = plan(state, language, now)
    with timed(names.AGENT_SUPPORT):
        how = support(state, reading, language)
    with timed(names.AGENT_ACTS):
        chosen = acts(how.type, state, reading, history, language, history if replies is None else replies)
    return AgentView(
        language=language,
        snapshot=state,
        plan=way,
        support=how,
        acts=chosen,
        follow_ups=follow_ups(how.type, chosen.acts, language),
        metrics=metrics(history, state),
        source="rules",
        decided_at=now,
    )


def with_model(view: AgentView, snapshot: Snapshot, plan: Plan) -> AgentView:
    """Return the view with the model's snapshot and plan; support and acts stay, because the reply began with them."""
    return replace(view, snapshot=snapshot, plan=plan, source="model")
