"""Which turns stand, and which one a message's id leads to."""

import uuid
from datetime import UTC, datetime, timedelta

import pytest

from app.clients.ports import LogRow
from app.standing import goes_over, history, one_of_each_key, standing, turn_named
from app.turn import Conversation, Grounding, StoredMessage

START = datetime(2026, 11, 22, tzinfo=UTC)
IDS = {name: str(uuid.uuid5(uuid.NAMESPACE_DNS, name)) for name in "abcdef"}


def rows(*told: str) -> list[StoredMessage]:
    """Return rows by their notes: `a?` and `a!` are question and answer of turn a, `b?a` says that b replaces a.

    A note after a colon is the AI SDK's id of the question.
    """
    return [row(at, *note.partition(":")[::2]) for at, note in enumerate(told)]


def row(at: int, note: str, message_id: str) -> StoredMessage:
    context = {"regenerates": IDS[note[2]]} if len(note) == 3 else {}
    if message_id:
        context["message_id"] = message_id
    return StoredMessage(
        sender="user" if note[1] == "?" else "assistant",
        message=note,
        created_at=START + timedelta(seconds=at),
        turn_id=IDS[note[0]],
        context_data=context,
    )


def notes(messages: object) -> str:
    assert isinstance(messages, list | tuple)
    return " ".join(message.message for message in messages)


@pytest.mark.parametrize(
    ("told", "left"),
    [
        ("a? a! b? b!", "a? a! b? b!"),
        ("a? a! b? b! c?b c!b", "a? a! c?b c!b"),
        ("a? a! b? b! c?a c!a", "c?a c!a"),
        ("a? a! b?a b!a c?b c!b", "c?b c!b"),
        ("a? b?a a! b!a", "b?a b!a"),
        ("a? c? a! b?a c! b!a", "b?a b!a"),
        ("b?a c? b!a c!", "b?a c? b!a c!"),
        ("c?b c!b d? d!", "c?b c!b d? d!"),
        ("a?a a!a", "a?a a!a"),
    ],
    ids=["none", "the last", "all of it", "twice", "an answer late", "another late", "beside", "beyond", "itself"],
)
def test_what_stands(told: str, left: str) -> None:
    """A replaced turn is gone with all that came after it, also with what of it was stored late."""
    assert notes(standing(rows(*told.split()))) == left


@pytest.mark.parametrize(
    ("told", "message_id", "turn"),
    [
        ("a? a! b? b!", IDS["a"], "a"),
        ("a? a! b? b!", f"{IDS['b']}:user", "b"),
        ("a?:q1 a! b?:q2 b!", "q1", "a"),
        ("a?:q1 a! b?a:q1 b!a", "q1", "b"),
        ("a?:q1 a! b?a:q1 b!a", IDS["a"], "b"),
        ("a? a! b?a b!a c?b c!b", IDS["a"], "c"),
        (f"a?:{IDS['f']} a!", IDS["f"], "a"),
        ("a? a!", "q1", None),
        ("a? a!", IDS["f"], None),
        ("a?b a!b b?a b!a", IDS["a"], "a"),
    ],
    ids=["answer", "question", "SDK's id", "edited", "stale tab", "twice", "UUID of theirs", "no", "unknown", "a ring"],
)
def test_whom_an_id_means(told: str, message_id: str, turn: str | None) -> None:
    """The turn whose message it is; where that was replaced, the one that stands in its place; or none."""
    assert turn_named(rows(*told.split()), message_id) == (turn and IDS[turn])


@pytest.mark.parametrize(
    ("told", "regenerates", "left"),
    [
        ("a? a! b? b!", None, "a? a! b? b!"),
        ("a? a! b? b!", "b", "a? a!"),
        ("a? a! b? b! c? c!", "b", "a? a!"),
        ("a? a! b? b!", "a", ""),
        ("a? a! b? b! c?b c!b", "c", "a? a!"),
        ("a? a!", "f", "a? a!"),
    ],
)
def test_the_prompt_knows_what_came_before(told: str, regenerates: str | None, left: str) -> None:
    """A turn that takes the place of another knows neither that one nor what came after it."""
    conversation = Conversation(id=uuid.uuid4(), messages=rows(*told.split()))
    old = regenerates and IDS[regenerates]
    grounding = Grounding(conversation=conversation, project=None, admitted_at=START, regenerates=old)
    assert notes(history(grounding)) == left


def written(note: str, finish: str | None = "stop", sender: str = "assistant", turn: str = "a") -> LogRow:
    """Return a row that is to be written, at the time of the others."""
    return LogRow(
        turn_id=uuid.UUID(IDS[turn]),
        sender="user" if sender == "user" else "assistant",
        user_id="u1",
        page="general",
        conversation_id=uuid.UUID(int=0),
        message=note,
        context_data={} if finish is None else {"finish": finish},
        created_at=START,
    )


WHOLE = [written("Whole."), written("As long as it may be", "length")]
CUT = [
    written("Ha", "cancelled"), written("Ha", "error"), written("", "error"), written(" \n", "stop"),
    written("", "length"), written("Of an older back end", None), written("Odd", "odd"),
]  # fmt: skip


@pytest.mark.parametrize("other", [*WHOLE, *CUT])
@pytest.mark.parametrize("row", [*WHOLE, *CUT])
def test_a_whole_answer_goes_over_one_that_was_cut_short(row: LogRow, other: LogRow) -> None:
    """And over nothing else; one without text is none, however it ended."""
    assert goes_over(row, other) == (row in WHOLE and other in CUT)


def test_a_question_gives_way_to_nobody() -> None:
    """Whoever asked first has the place."""
    first, second = (written(note, None, "user") for note in ("Why?", "What?"))
    assert not goes_over(first, second)
    assert not goes_over(second, first)


def test_one_row_of_each_key() -> None:
    """The first of its key, but a whole answer before one that was cut short; keys in the order of their first rows."""
    asked, again = written("Why?", None, "user"), written("What?", None, "user")
    other = written("Other", "error", turn="b")
    rows_of_two = [other, asked, CUT[0], again, CUT[1], WHOLE[0], CUT[2], WHOLE[1]]
    assert one_of_each_key(rows_of_two) == [other, asked, WHOLE[0]]
    assert one_of_each_key([]) == []
