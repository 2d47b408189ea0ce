"""Who finds which turn, and for how long after its end. No clock but the test's own."""

import uuid
from datetime import UTC, datetime
from functools import partial
from typing import Any

import pytest

from app.edge import turn_table
from app.edge.turn_feed import TurnEnd
from app.edge.turn_table import KEPT_S, RunningTurn, TurnTable
from app.errors import OverloadFault
from app.turn import StoredMessage
from telemetry.stage_clock import StageClock
from tests.standins import TRACE_ID, question

NAMED, FOUND = uuid.UUID(int=1), uuid.UUID(int=2)


class Desk:
    """A table with a clock that a test sets."""

    def __init__(self) -> None:
        self.now = 0.0
        self.table = TurnTable(lambda: self.now)

    def begun(self, **fields: Any) -> RunningTurn:
        turn = RunningTurn(question(**fields), TRACE_ID)
        self.table.add(turn)
        turn.feed.let_in(str(turn.request.conversation_id or FOUND))
        return turn

    def ended(self, text: str = "", **fields: Any) -> RunningTurn:
        turn = self.begun(**fields)
        turn.feed.text(text)
        self.end(turn)
        return turn

    def end(self, turn: RunningTurn) -> None:
        turn.feed.finish(TurnEnd(OverloadFault("overloaded"), StageClock()))
        self.table.end(turn)

    def finds(self, turn: RunningTurn, user_id: str = "u1", chat_id: str = "general") -> bool:
        return self.table.find(user_id, chat_id) is turn


@pytest.mark.parametrize(
    ("fields", "names", "not_names"),
    [
        ({}, ["general", str(FOUND)], ["other", str(NAMED), "None"]),
        ({"conversation_id": NAMED}, [str(NAMED)], ["general", "None"]),
        ({"conversation_id": NAMED, "or_page": True, "page_id": str(NAMED)}, [str(NAMED)], ["general"]),
    ],
)
def test_a_turn_is_found_by_conversation_and_by_the_page_that_it_was_asked_for(
    fields: dict[str, Any], names: list[str], not_names: list[str]
) -> None:
    """Under the page key only where that decided the conversation; and by its owner alone."""
    desk = Desk()
    turn = desk.begun(**fields)
    assert all(desk.finds(turn, chat_id=name) for name in names)
    assert not any(desk.table.find("u1", name) for name in not_names)
    assert not any(desk.table.find("u2", name) for name in names)


def test_the_newest_that_runs_is_found() -> None:
    """Two turns of one chat: the later one; when that has ended the other one, and then the one that ended last."""
    desk = Desk()
    first, second = desk.begun(), desk.begun()
    assert desk.finds(second)
    assert desk.table.running("u1", "general") == [first, second]
    desk.end(second)
    assert desk.finds(first)
    desk.end(first)
    assert desk.finds(first)


def test_a_turn_that_ended_is_found_for_a_while() -> None:
    """Nobody had its end: it is found until its time is over."""
    desk = Desk()
    turn = desk.ended()
    desk.now = KEPT_S - 0.1
    assert desk.finds(turn)
    desk.now = KEPT_S
    assert desk.table.find("u1", "general") is None


def test_who_has_had_the_answer_does_not_find_it_again() -> None:
    """Once a follower was sent the end, or the history told it, there is nothing to come back to."""
    desk = Desk()
    seen, told = desk.ended(), desk.ended(user_id="u2")
    desk.table.seen(seen)
    desk.table.seen(seen)
    assert desk.table.find("u1", "general") is None
    assert desk.finds(told, "u2")
    desk.table.forget("u1", rows(told))
    assert desk.finds(told, "u2")
    desk.table.forget("u2", rows(told))
    assert desk.table.find("u2", "general") is None


def rows(turn: RunningTurn, text: str = "Yes.", finish: str = "stop") -> list[StoredMessage]:
    """Return what the history has of a turn that was answered."""
    row = partial(StoredMessage, created_at=datetime(2026, 11, 22, tzinfo=UTC), turn_id=str(turn.request.turn_id))
    return [row(sender="user", message="Why?"), row(sender="assistant", message=text, context_data={"finish": finish})]


def test_only_what_the_history_has_shown_is_forgotten() -> None:
    """A turn that ended since the rows were read is found yet; so is one of whose rows there was the question alone."""
    desk = Desk()
    first, second = desk.ended("Yes."), desk.ended("No.")
    desk.table.forget("u1", rows(first))
    desk.table.forget("u1", rows(second)[:1])
    assert desk.finds(second)
    desk.table.forget("u1", rows(second))
    assert desk.table.find("u1", "general") is None


def test_an_answer_that_is_stored_before_its_turn_is_over() -> None:
    """A history that is read in between has shown it: the turn is not found, neither in its last moment nor after."""
    desk = Desk()
    turn = desk.begun()
    desk.table.forget("u1", rows(turn))
    assert desk.table.find("u1", "general") is None
    assert desk.table.running("u1", "general") == [turn], "it can be stopped yet"
    desk.end(turn)
    assert desk.table.find("u1", "general") is None


@pytest.mark.parametrize(("text", "found"), [("Ye", True), ("Yes, bu", False)])
def test_an_answer_that_was_cut_short_may_be_of_an_earlier_request(text: str, found: bool) -> None:
    """A turn that is asked again under its id is found while it runs, and after, unless the row is what it came to."""
    desk = Desk()
    turn = desk.begun()
    turn.feed.text("Yes, bu")
    desk.table.forget("u1", rows(turn, text, "error"))
    assert desk.finds(turn)
    desk.end(turn)
    desk.table.forget("u1", rows(turn, text, "error"))
    assert desk.finds(turn) is found


@pytest.mark.parametrize("by", ["cancelled", "stopped", "draining"])
def test_a_turn_that_was_cut_short_is_not_found(by: str) -> None:
    """Neither while it is saved nor after."""
    desk = Desk()
    turn = desk.begun()
    turn.cut(by)
    assert desk.table.find("u1", "general") is None
    assert desk.table.running("u1", "general") == []
    desk.end(turn)
    assert desk.table.find("u1", "general") is None


def test_a_turn_that_failed_before_it_began_is_not_kept() -> None:
    """Who asked has its status; there is no stream to come back to."""
    desk = Desk()
    turn = RunningTurn(question(), TRACE_ID)
    desk.table.add(turn)
    desk.end(turn)
    assert desk.table.find("u1", "general") is None


def test_so_many_are_kept_and_so_much_text(monkeypatch: pytest.MonkeyPatch) -> None:
    """Over either bound the eldest go first."""
    monkeypatch.setattr(turn_table, "KEPT_TURNS", 3)
    monkeypatch.setattr(turn_table, "KEPT_CHARS", 100)
    desk = Desk()
    turns = [desk.ended(user_id=f"u{number}") for number in range(4)]
    assert [desk.finds(turn, turn.request.user_id) for turn in turns] == [False, True, True, True]
    large = [desk.ended("x" * 60, user_id=f"v{number}") for number in range(2)]
    assert [desk.finds(turn, turn.request.user_id) for turn in (*turns, *large)] == [False] * 5 + [True]
    assert desk.table.find("v2", "general") is None
