"""Conversations for the tests: by hand, and by hypothesis."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from hypothesis import strategies as st

from app.generate.agent.rules import rule_view
from app.generate.agent.values import AgentView
from app.turn import Project, StoredMessage
from tests.generate.agent.fresh import FRESH
from tests.generate.agent.held_out import HELD_OUT
from tests.generate.agent.labelled import TUNED_ON, Labelled
from tests.generate.agent.looser import LOOSER

NOW = datetime(2026, 11, 22, 5, 0, tzinfo=UTC)
EVERY = (*TUNED_ON, *LOOSER, *HELD_OUT, *FRESH)


def said(*messages: str, ago: timedelta = timedelta(hours=1)) -> list[StoredMessage]:
    """Return a student's messages, oldest first, a minute apart, the newest one `ago`."""
    last = len(messages) - 1
    return [
        StoredMessage(sender="user", message=text, created_at=NOW - ago - timedelta(minutes=last - place))
        for place, text in enumerate(messages)
    ]


def replied(*selected_acts: object) -> list[StoredMessage]:
    """Return a conversation whose answers, oldest first, were stored with these `selected_acts`."""
    rows: list[StoredMessage] = []
    for place, acts in enumerate(selected_acts):
        at = NOW - timedelta(hours=len(selected_acts) - place)
        rows.append(StoredMessage(sender="user", message=f"question {place}", created_at=at))
        context = {"selected_acts": acts}
        rows.append(StoredMessage(sender="assistant", message="answer", created_at=at, context_data=context))
    return rows


def view(message: str, history: Sequence[StoredMessage] = (), project: Project | None = None) -> AgentView:
    """Return the rules' view of a message sent `NOW`."""
    return rule_view(history, message, project, NOW)


def view_of(item: Labelled) -> AgentView:
    """Return the rules' view of a labelled message."""
    return view(item.message, said(*item.earlier))


_ANY = st.text(st.characters(exclude_categories=()), max_size=200)  # lone surrogates and control characters too
_EMOJI = st.text("👍🏽🧑‍🔬😀🎉❤️\u200d", max_size=20)
_REPEATED = st.builds(
    lambda piece, times: piece * times, st.sampled_from("か、も a,おor と？.\n "), st.integers(1, 2500)
)
_PIECES = st.lists(st.sampled_from([item.message for item in EVERY]), min_size=1, max_size=4).map(" ".join)

MESSAGES = st.one_of(_PIECES, _ANY, _EMOJI, _REPEATED)
"""What students write, and what nobody would."""

_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
_STORED_ACTS = st.one_of(
    _JSON, st.lists(st.sampled_from(["Probe", "Inform", "Act", "Reflect", "Clarify", "Decide", "nonsense"]), max_size=3)
)
ROWS = st.builds(
    StoredMessage,
    sender=st.sampled_from(["user", "assistant"]),
    message=MESSAGES,
    created_at=st.integers(-100, 60 * 24 * 30).map(lambda minutes: NOW - timedelta(minutes=minutes)),
    context_data=st.one_of(
        st.dictionaries(st.text(max_size=5), _JSON, max_size=2),
        st.builds(lambda acts: {"selected_acts": acts}, _STORED_ACTS),
    ),
)
HISTORIES = st.lists(ROWS, max_size=12)
PROJECTS = st.none() | st.builds(Project, id=st.integers(1), theme=_ANY, question=_ANY, hypothesis=_ANY)
