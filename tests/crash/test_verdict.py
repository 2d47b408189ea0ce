"""The verdict itself: it is content with what was promised, and finds each thing that was planted."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from app.turn import Saved, Sender
from tests.crash.verdict import Asked, Received, Row, verdict

START = datetime(2026, 11, 22, 5, tzinfo=UTC)
Rows = list[Row]


def asked(client: str, number: int, *, saved: Saved | None = "database", page: str = "general") -> Asked:
    """Return a question of a client and, unless `saved` is None, its answer."""
    received = Received(
        turn_id=f"{client}{number}",
        conversation_id=f"demo {page}",
        text=f"Because {client}{number}.",
        saved=saved or "no",
    )
    question = f"Why {client}{number}?"
    return Asked(
        client=client, number=number, user_id="demo", page=page, question=question, received=received if saved else None
    )


def rows_of(turns: Sequence[Asked]) -> Rows:
    """Return the rows of turns that were held one after the other."""
    rows: Rows = []
    for each in turns:
        turn_id = f"{each.client}{each.number}"
        texts: tuple[tuple[Sender, str], ...] = (("user", each.question), ("assistant", f"Because {turn_id}."))
        for sender, message in texts:
            rows.append(
                Row(
                    id=len(rows) + 1,
                    created_at=START + timedelta(milliseconds=len(rows)),
                    turn_id=turn_id,
                    sender=sender,
                    user_id=each.user_id,
                    page=each.page,
                    conversation_id=f"{each.user_id} {each.page}",
                    message=message,
                    finish=None if sender == "user" else "stop",
                )
            )
    return rows


TURNS = [asked("a", 0), asked("b", 1), asked("a", 2, saved="outbox"), asked("a", 3, page="notes"), asked("a", 4)]
"""Two clients on one page, and one of them on another besides."""
A0, B1, A2, NOTES, A4 = range(0, 10, 2)
"""Where the questions' rows are; each answer's is the next."""
ANOTHER = "Because of something else."


def test_what_was_kept_is_kept() -> None:
    """Every row once, as received and in order, is no finding, whatever the order in which the rows are read."""
    rows = rows_of(TURNS)
    assert verdict(TURNS, rows) == ()
    assert verdict(TURNS, rows[::-1]) == ()


def test_two_tabs_may_speak_at_once() -> None:
    """Between clients there is no order: one may ask while the other is answered, and be ahead of it."""
    turns = [asked("b", 5), asked("a", 0)]
    first, second, third, fourth = rows_of(turns)
    crossed = [at([row], 0, moment)[0] for moment, row in enumerate((first, third, fourth, second))]
    assert verdict(turns, crossed) == ()


def test_what_was_not_promised_may_be_missing() -> None:
    """Turns without a whole answer, and those told not to be saved, may have both rows, their question, or none."""
    turns = [*TURNS, asked("a", 5, saved=None), asked("a", 6, saved="no"), asked("a", 7, saved=None)]
    rows = rows_of(turns)
    assert verdict(turns, rows) == ()
    assert verdict(turns, rows[:10]) == ()
    assert verdict(turns, [*rows[:11], *rows[12:14]]) == ()


def at(rows: Rows, index: int, milliseconds: int) -> Rows:
    """Return the rows with one of them moved in time."""
    rows[index] = replace(rows[index], created_at=START + timedelta(milliseconds=milliseconds))
    return rows


def changed(rows: Rows, index: int, **columns: object) -> Rows:
    """Return the rows with columns of one of them changed."""
    rows[index] = replace(rows[index], **columns)  # type: ignore[arg-type]  # the columns of a table of cases
    return rows


def without(rows: Rows, index: int) -> Rows:
    """Return the rows without one of them."""
    return [*rows[:index], *rows[index + 1 :]]


def again(rows: Rows, *indexes: int, turn_id: str | None = None) -> Rows:
    """Return the rows with some of them once more, perhaps as another turn's."""
    more = [replace(rows[index], id=99 + index, turn_id=turn_id or rows[index].turn_id) for index in indexes]
    return [*rows, *more]


@pytest.mark.parametrize(
    ("plant", "kind", "turn_id"),
    [
        (lambda rows: without(rows, A2), "lost", "a2"),
        (lambda rows: without(rows, B1 + 1), "lost", "b1"),
        (lambda rows: again(rows, B1), "doubled", "b1"),
        (lambda rows: again(rows, A2 + 1), "doubled", "a2"),
        (lambda rows: again(rows, A4, A4 + 1, turn_id="another"), "doubled", "another"),
        (lambda rows: changed(rows, A0, message="What?"), "wrong text", "a0"),
        (lambda rows: changed(rows, A0 + 1, message=""), "wrong text", "a0"),
        (lambda rows: changed(rows, A4 + 1, conversation_id="another"), "wrong place", "a4"),
        (lambda rows: changed(rows, NOTES, page="general"), "wrong place", "a3"),
        (lambda rows: changed(rows, B1, user_id="ada"), "wrong place", "b1"),
        (lambda rows: at(rows, B1, 4), "wrong order", "b1"),
        (lambda rows: at(rows, A4 + 1, 7), "wrong order", "a4"),
        (lambda rows: changed(at(rows, A4, 9), A4, id=99), "wrong order", "a4"),
        (lambda rows: at(at(rows, A0, 10), A0 + 1, 11), "wrong order", "a2"),
        (lambda rows: at(rows, A0 + 1, 5), "wrong order", "a2"),
        (lambda rows: again(rows, B1 + 1, turn_id="another"), "stray", "another"),
    ],
)  # fmt: skip
def test_what_is_planted_is_found(plant: Callable[[Rows], Rows], kind: str, turn_id: str) -> None:
    """A row that is lost, doubled, changed, elsewhere, out of order or nobody's is found, with its turn."""
    found = {(finding.kind, finding.turn_id) for finding in verdict(TURNS, plant(rows_of(TURNS)))}
    assert (kind, turn_id) in found


def test_a_question_that_nobody_asked_is_found() -> None:
    """Rows of no client are strays."""
    (finding,) = verdict(TURNS[:4], rows_of(TURNS))
    assert (finding.kind, finding.turn_id) == ("stray", "a4")


def test_one_page_is_one_conversation() -> None:
    """A second conversation for a page is found, though each row by itself would be right."""
    turns = [asked("a", 0, saved="outbox"), asked("a", 1, saved="outbox")]
    rows = rows_of(turns)
    rows[2:] = [replace(row, conversation_id="another") for row in rows[2:]]
    assert {finding.kind for finding in verdict(turns, rows)} == {"wrong place"}


def test_an_outbox_may_bring_a_turn_into_the_conversation_that_was_first() -> None:
    """Only of a turn that the database had is the conversation as it was told."""
    turns = [asked("a", 0, saved="outbox")]
    rows = [replace(row, conversation_id="the winner's") for row in rows_of(turns)]
    assert verdict(turns, rows) == ()
    assert verdict([asked("a", 0)], rows) != ()


def repeated(*, saved: Saved = "database", superseded: bool = False) -> Asked:
    """Return a question that was sent until there was an answer."""
    one = asked("a", 0)
    assert one.received
    return replace(one, repeats=True, received=replace(one.received, saved=saved, superseded=superseded))


@pytest.mark.parametrize("saved", ["database", "outbox"])
def test_a_repeated_question_whose_answer_is_another_is_lost(saved: Saved) -> None:
    """Whoever stored an answer in its place, the one that was promised is not there."""
    turns = [repeated(saved=saved)]
    rows = changed(rows_of(turns), A0 + 1, message=ANOTHER)
    (finding,) = verdict(turns, rows)
    assert (finding.kind, finding.turn_id) == ("lost", "a0")


def test_a_promise_of_an_outbox_is_kept_there_while_another_answer_stands() -> None:
    """Two processes answered one question: what one of them promised is set aside, where an operator finds it."""
    turns = [repeated(saved="outbox")]
    rows = rows_of([asked("a", 0)])
    assert verdict(turns, changed(rows[:], A0 + 1, message=ANOTHER), rows[A0 + 1 :]) == ()
    assert verdict(turns, changed(rows[:], A0 + 1, message=ANOTHER), rows) == ()


@pytest.mark.parametrize(
    ("turn", "columns", "aside"),
    [
        (repeated(saved="database"), {}, {}),
        (asked("a", 0, saved="outbox"), {}, {}),
        (repeated(saved="outbox"), {"finish": "cancelled"}, {}),
        (repeated(saved="outbox"), {"finish": "error", "message": ""}, {}),
        (repeated(saved="outbox"), {}, {"turn_id": "another"}),
        (repeated(saved="outbox"), {}, {"message": "Because of nothing."}),
        (repeated(saved="outbox"), {}, {"finish": "cancelled"}),
        (repeated(saved="outbox"), {"turn_id": "another"}, {}),
    ],
)
def test_nothing_else_may_be_set_aside(turn: Asked, columns: dict[str, str], aside: dict[str, str]) -> None:
    """Not what was promised of the database or asked once, nor for what is not whole; nor is another one what it was.

    Args:
        columns: of the answer that is stored, besides its text.
        aside: columns of the row that is set aside.
    """
    rows = rows_of([asked("a", 0)])
    set_aside = changed(rows[A0 + 1 :], 0, **aside)
    stored = changed(rows, A0 + 1, **{"message": ANOTHER, **columns})
    found = {(finding.kind, finding.turn_id) for finding in verdict([turn], stored, set_aside)}
    assert found & {("lost", "a0"), ("wrong text", "a0")}


@pytest.mark.parametrize("columns", [{"turn_id": "another"}, {"message": "What?"}])
def test_a_question_that_is_set_aside_is_not_kept(columns: dict[str, str]) -> None:
    """It is what was answered: whoever reads the conversation is to find it."""
    rows = rows_of([asked("a", 0)])
    found = {finding.kind for finding in verdict([repeated(saved="outbox")], changed(rows[:], A0, **columns), rows[:1])}
    assert found & {"lost", "wrong text"}


@pytest.mark.parametrize("received", [False, True])
def test_what_is_set_aside_has_lost_its_place(received: bool) -> None:
    """Whoever holds it: an answer is not set aside that is stored, or for which nothing whole is."""
    turns = [repeated(saved="outbox") if received else replace(repeated(), received=None)]
    rows = rows_of([asked("a", 0)])
    whole = rows[A0 + 1 :]
    assert {finding.kind for finding in verdict(turns, rows, whole)} == {"doubled"}
    assert "lost" in {finding.kind for finding in verdict(turns, rows[: A0 + 1], whole)}
    cut_short = changed(rows[:], A0 + 1, finish="cancelled", message="Be")
    assert "lost" in {finding.kind for finding in verdict(turns, cut_short, whole)}


@pytest.mark.parametrize("message", ["Because a0.", ANOTHER])
def test_a_superseded_answer_is_no_promise(message: str) -> None:
    """Another whole one may be there in its place, and nothing else may be wrong."""
    turns = [repeated(saved="no", superseded=True)]
    rows = changed(rows_of(turns), A0 + 1, message=message)
    assert verdict(turns, rows) == ()
    assert {finding.kind for finding in verdict(turns, again(rows, A0))} == {"doubled"}
    assert {finding.kind for finding in verdict(turns, [*rows, *rows_of([asked("a", 0)])])} == {"doubled"}


@pytest.mark.parametrize(
    "plant",
    [
        lambda rows: without(rows, A0),
        lambda rows: without(rows, A0 + 1),
        lambda rows: changed(rows, A0 + 1, finish="cancelled"),
        lambda rows: changed(rows, A0 + 1, finish="error", message=""),
    ],
)
def test_an_answer_is_superseded_by_a_whole_one(plant: Callable[[Rows], Rows]) -> None:
    """A client that was told so finds question and answer; one that was cut short does not count."""
    turns = [repeated(saved="no", superseded=True)]
    assert ("lost", "a0") in {(finding.kind, finding.turn_id) for finding in verdict(turns, plant(rows_of(turns)))}


def test_a_question_that_was_sent_again_has_one_turn() -> None:
    """A second turn for it is found, whether the first was promised, superseded, or never answered."""
    for turn in (repeated(), repeated(saved="no", superseded=True), replace(repeated(), received=None)):
        rows = again(rows_of([asked("a", 0)]), A0, A0 + 1, turn_id="another")
        assert ("doubled", "another") in {(finding.kind, finding.turn_id) for finding in verdict([turn], rows)}
