"""Stored messages as the AI SDK's: ids that lead back to their turns, and no turn that was replaced."""

import uuid
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.respond.ui_history import ui_messages
from app.standing import standing, turn_of
from app.turn import Sender, StoredMessage

BEGAN = datetime(2026, 11, 22, 5, 0, 0, 123456, tzinfo=UTC)
T1, T2, T3, T4 = (str(uuid.UUID(int=n)) for n in range(1, 5))


def row(sender: Sender, text: str, turn_id: str | None, at: int = 0, **context: Any) -> StoredMessage:
    return StoredMessage(
        sender=sender, message=text, created_at=BEGAN + timedelta(seconds=at), turn_id=turn_id, context_data=context
    )


def turn(turn_id: str, at: int, **context: Any) -> list[StoredMessage]:
    return [
        row("user", f"Q{turn_id[-1]}", turn_id, at, **context),
        row("assistant", f"A{turn_id[-1]}", turn_id, at + 1),
    ]


def test_a_turn_becomes_two_messages() -> None:
    """Role, text, id, and the metadata that was stored; what was not stored is left out."""
    metrics = {"llm_response_time": 1.5}
    rows = [
        row("user", "Why?", T1, trace_id="a" * 32, message_id="fquyJNEUG2AtInR4"),
        row("assistant", "So.", T1, 2, trace_id="a" * 32, performance_metrics=metrics, finish="stop", model="m"),
    ]
    common = {"conversation_id": "c", "turn_id": T1, "trace_id": "a" * 32}
    assert ui_messages(rows, "c") == [
        {
            "id": "fquyJNEUG2AtInR4",
            "role": "user",
            "metadata": common | {"created_at": "2026-11-22T05:00:00.123Z"},
            "parts": [{"type": "text", "text": "Why?"}],
        },
        {
            "id": T1,
            "role": "assistant",
            "metadata": common
            | {"created_at": "2026-11-22T05:00:02.123Z", "performance_metrics": metrics, "finish": "stop"},
            "parts": [{"type": "text", "text": "So."}],
        },
    ]


def test_ids_lead_back_to_the_turn() -> None:
    """An answer's id is its turn's; a question that the SDK did not name has one made of it."""
    question, answer = ui_messages(turn(T1, 0), "c")
    assert (question["id"], answer["id"]) == (f"{T1}:user", T1)
    assert turn_of(question["id"]) == turn_of(answer["id"]) == uuid.UUID(T1)


@pytest.mark.parametrize("name", ["fquyJNEUG2AtInR4", "", ":user", T1.replace("-", ""), f"{{{T1}}}", f"{T1}:bot"])
def test_other_ids_name_no_turn(name: str) -> None:
    """Only an id as this module makes it is taken for a turn's."""
    assert turn_of(name) is None


# Rows -> the texts that remain. In `regenerates` is the turn from which on a new one takes the place of what was.
CUTS: dict[str, tuple[list[StoredMessage], str]] = {
    "nothing replaced": ([*turn(T1, 0), *turn(T2, 2)], "Q1 A1 Q2 A2"),
    "the last answer": ([*turn(T1, 0), *turn(T2, 2), *turn(T3, 4, regenerates=T2)], "Q1 A1 Q3 A3"),
    "an earlier one": ([*turn(T1, 0), *turn(T2, 2), *turn(T3, 4, regenerates=T1)], "Q3 A3"),
    "twice": ([*turn(T1, 0), *turn(T2, 2, regenerates=T1), *turn(T3, 4, regenerates=T2)], "Q3 A3"),
    "the same one twice": ([*turn(T1, 0), *turn(T2, 2, regenerates=T1), *turn(T3, 4, regenerates=T1)], "Q2 A2 Q3 A3"),
    "and went on": ([*turn(T1, 0), *turn(T2, 2, regenerates=T1), *turn(T4, 6)], "Q2 A2 Q4 A4"),
    "one that is not here": ([*turn(T1, 0), *turn(T2, 2, regenerates=T4)], "Q1 A1 Q2 A2"),
    "named in its answer": ([*turn(T1, 0), row("user", "Q2", T2, 2), row("assistant", "A2", T2, 3, regenerates=T1)],
                            "Q2 A2"),
    "beside another turn": ([*turn(T1, 0), row("user", "Q3", T3, 2, regenerates=T1), row("user", "Q4", T4, 3),
                             row("assistant", "A3", T3, 4, regenerates=T1), row("assistant", "A4", T4, 5)],
                            "Q3 Q4 A3 A4"),
}  # fmt: skip


@pytest.mark.parametrize("name", CUTS)
def test_a_replaced_turn_is_hidden(name: str) -> None:
    """As on the screen of who regenerated: what was replaced, and what came after it, is gone."""
    rows, texts = CUTS[name]
    assert " ".join(kept.message for kept in standing(rows)) == texts


def test_rows_of_an_older_back_end() -> None:
    """Without a turn id a message is known by its time, whatever zone it was written in."""
    tokyo = BEGAN.astimezone(timezone(timedelta(hours=9)))
    old = StoredMessage(sender="user", message="Q", created_at=tokyo)
    (message,) = ui_messages([old], "c")
    assert message["id"] == "2026-11-22T05:00:00.123456+00:00:user"
    assert message["metadata"] == {"conversation_id": "c", "created_at": "2026-11-22T05:00:00.123Z"}
    assert turn_of(message["id"]) is None


_rows = st.builds(
    row,
    st.sampled_from(["user", "assistant"]),
    st.sampled_from(["", "a"]),
    st.sampled_from([None, T1, T2]),
    st.integers(0, 2),
    message_id=st.sampled_from([None, "", 5, "m1", "m2", T1, f"{T1}:user"]),
    regenerates=st.sampled_from([None, None, T1, 7]),
)


@given(st.lists(_rows, max_size=12))
def test_ids_are_unique(rows: list[StoredMessage]) -> None:
    """However rows and the ids that were sent repeat: React wants a key for each message, and the same next time."""
    messages = ui_messages(rows, "c")
    ids = [message["id"] for message in messages]
    assert len(set(ids)) == len(ids) == len(standing(rows))
    assert all(isinstance(name, str) and name for name in ids)
    assert ui_messages(rows, "c") == messages
