"""What holds for any history and any message."""

import json
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.generate.agent.acts import ORDER, QUESTIONS
from app.generate.agent.follow_ups import follow_up_list
from app.generate.agent.language import language_of
from app.generate.agent.reply import REPLY_CHARS, rule_reply
from app.generate.agent.rules import rule_view
from app.generate.agent.values import AgentView
from app.turn import Project, StoredMessage
from tests.generate.agent.contract import AGENT_FIELDS
from tests.generate.agent.histories import EVERY, HISTORIES, MESSAGES, NOW, PROJECTS, view
from tests.generate.agent.labelled import Labelled

REPLY_FIELDS_BYTES = 40_000


def check(made: AgentView) -> None:
    """Hold a view to the contract, as UTF-8 JSON that a database's JSON column takes."""
    text = json.dumps(made.as_reply(), ensure_ascii=False, allow_nan=False)
    assert len(text.encode()) < REPLY_FIELDS_BYTES
    assert "\\u0000" not in text
    AGENT_FIELDS.validate_json(text)


@given(history=HISTORIES, message=MESSAGES, project=PROJECTS)
@settings(max_examples=150, deadline=None)
def test_outputs_are_valid(history: list[StoredMessage], message: str, project: Project | None) -> None:
    """Whatever was said and stored, all six agent fields hold to the contract."""
    check(rule_view(history, message, project, NOW))


@pytest.mark.parametrize(
    "message", ["", "👍🏽🧑‍🔬", "あ" * 2000, "a" * 2000, "か、" * 1000, "a, b or " * 250, " " * 2000]
)
@pytest.mark.parametrize("rows", [0, 1, 1000])
def test_extremes_are_valid(message: str, rows: int) -> None:
    """No history, a thousand messages, only emoji and huge tokens are within the contract too."""
    history = [
        StoredMessage(
            sender="user" if place % 2 else "assistant",
            message=EVERY[place % len(EVERY)].message if place % 3 else message,
            created_at=NOW - timedelta(minutes=rows - place),
        )
        for place in range(rows)
    ]
    check(view(message, history))


@given(history=HISTORIES, message=MESSAGES, project=PROJECTS)
@settings(max_examples=60, deadline=None)
def test_same_input_same_output(history: list[StoredMessage], message: str, project: Project | None) -> None:
    """The same history, message, project and time give the same view and the same reply."""
    one, other = (rule_view(list(history), message, project, NOW) for _ in range(2))
    assert one == other
    assert rule_reply(one, message) == rule_reply(other, message)


@given(history=HISTORIES, message=MESSAGES, project=PROJECTS)
@settings(max_examples=150, deadline=None)
def test_reply_language_and_size(history: list[StoredMessage], message: str, project: Project | None) -> None:
    """The reply and its follow-ups are in the view's language, not empty, short, and free of HTML."""
    made = rule_view(history, message, project, NOW)
    reply = rule_reply(made, message)
    assert language_of(reply) == made.language
    assert language_of(follow_up_list(made.follow_ups, made.language)) == made.language
    assert 0 < len(reply) <= REPLY_CHARS
    assert "<" not in reply
    reply.encode()


@pytest.mark.parametrize("item", EVERY, ids=lambda item: item.message[:20])
def test_reply_is_in_the_students_language(item: Labelled) -> None:
    """Each labelled message is answered in its own language."""
    message = item.message
    reply = rule_reply(view(message), message)
    assert language_of(reply) == language_of(message)


@given(history=HISTORIES, message=MESSAGES)
@settings(max_examples=100, deadline=None)
def test_socratic_order(history: list[StoredMessage], message: str) -> None:
    """One or two acts, none twice, and what asks stands before what answers."""
    acts = view(message, history).acts.acts
    asks = [act in QUESTIONS for act in acts]
    assert asks == sorted(asks, reverse=True)
    assert list(acts) == sorted(set(acts), key=ORDER.index)


def acts_over(messages: list[str]) -> list[set[str]]:
    """Return the acts of each answer of a conversation whose answers are stored as they were made."""
    history: list[StoredMessage] = []
    performed: list[set[str]] = []
    for place, message in enumerate(messages):
        at = NOW - timedelta(minutes=len(messages) - place)
        made = rule_view(history, message, None, at)
        performed.append(set(made.acts.acts))
        history.append(StoredMessage(sender="user", message=message, created_at=at))
        answered = StoredMessage(
            sender="assistant", message="…", created_at=at + timedelta(seconds=1), context_data=made.as_reply()
        )
        history.append(answered)
    return performed


def thrice(performed: list[set[str]]) -> bool:
    """Return whether any act is in three answers running."""
    return any(a & b & c for a, b, c in zip(performed, performed[1:], performed[2:], strict=False))


@given(messages=st.lists(st.sampled_from([item.message for item in EVERY]) | MESSAGES, min_size=3, max_size=12))
@settings(max_examples=80, deadline=None)
def test_no_act_three_times_running(messages: list[str]) -> None:
    """Over a whole conversation no act is in three answers running."""
    assert not thrice(acts_over(messages))


@pytest.mark.parametrize("item", EVERY[::7], ids=lambda item: item.message[:20])
def test_no_act_three_times_running_on_one_message(item: Labelled) -> None:
    """The same message over and over gets no act in three answers running either."""
    assert not thrice(acts_over([item.message] * 9))
