"""Which conversation a turn's rows go to, where its page was won by another one or its id once lost the page."""

import uuid
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from app.clients.ports import LogRow
from app.fetch.history import conversation_id
from app.turn import Plan, TurnRequest
from tests.save.keeper import MemoryKeeper
from tests.save.test_turn_record import DOWN, GENERAL, answered, attributes
from tests.standins import MemoryDatabase, PacedModel, after, at_once, failing, open_house, question

WINNER = uuid.UUID(int=7)


def row_of(turn: TurnRequest) -> LogRow:
    """Return the question of a turn as it waits."""
    return LogRow(
        turn_id=turn.turn_id, sender="user", user_id=turn.user_id, page=turn.page_id, conversation_id=GENERAL,
        message=turn.message, context_data={}, created_at=datetime(2026, 11, 21, tzinfo=UTC),
    )  # fmt: skip


async def test_an_answer_moves_with_its_conversation(autojump_clock: MockClock) -> None:
    """A conversation that lost the race for its page at delivery: reply and answer's row name the one that stands."""
    database, keeper = MemoryDatabase(before_conversation=failing(DOWN)), MemoryKeeper()

    async def lose() -> None:
        await trio.sleep(1)
        keeper.index.remove([1])
        keeper.index.map_conversation(GENERAL, WINNER)
        database.conversations, database.before_conversation = {WINNER: ("u1", "general")}, at_once

    async with open_house(database, PacedModel(pieces=[(lose, "Yes.")]), outbox=keeper) as house:
        outcome = answered((await house.ask(question())).result)
    assert (outcome.saved, outcome.conversation_id) == ("database", WINNER)
    assert database.stored("assistant").conversation_id == WINNER
    assert attributes(house, "chat.turn")["gen_ai.conversation.id"] == str(WINNER)


@pytest.mark.parametrize("mode", ["await", "outbox"])
@pytest.mark.parametrize("named", [None, GENERAL])
async def test_a_conversation_that_is_stored_stands_under_its_own_id(
    named: uuid.UUID | None, mode: Any, autojump_clock: MockClock
) -> None:
    """Though its id once lost the page to a conversation that is deleted since: another process made it with that id.
    Rows of it are stored in it, those too that wait, and what waits does not keep later ones from the database.
    """
    database, keeper = MemoryDatabase(conversations={WINNER: ("u1", ""), GENERAL: ("u1", "general")}), MemoryKeeper()
    keeper.index.map_conversation(GENERAL, WINNER)
    async with open_house(database, outbox=keeper, save_mode=mode) as house:
        outcome = answered((await house.ask(question(conversation_id=named))).result)
        assert [row.conversation_id for row in keeper.undelivered("u1")] == [GENERAL] * (2 * (mode == "outbox"))
        assert keeper.holds(GENERAL) is (mode == "outbox")
        keeper.deliver(database)
    assert (outcome.saved, outcome.conversation_id) == ("database" if mode == "await" else "outbox", GENERAL)
    assert {row.conversation_id for row in database.rows.values()} == {GENERAL}


async def test_what_waits_for_the_winner_does_not_defer_a_turn_of_the_loser(autojump_clock: MockClock) -> None:
    """Rows that wait for the deleted conversation are none of the stored one's: its own go to the database."""
    database, keeper = MemoryDatabase(conversations={WINNER: ("u1", ""), GENERAL: ("u1", "general")}), MemoryKeeper()
    await keeper.put([row_of(question("Early"))], "Early")
    keeper.index.map_conversation(GENERAL, WINNER)
    async with open_house(database, outbox=keeper) as house:
        outcome = answered((await house.ask(question())).result)
    assert (outcome.saved, outcome.conversation_id, outcome.history_count) == ("database", GENERAL, 0)
    assert [row.conversation_id for row in keeper.undelivered("u1")] == [WINNER]


@pytest.mark.parametrize("plan", ["concurrent", "sequential"])
@pytest.mark.parametrize("made", ["by the delivery", "by the turn"])
async def test_an_id_is_led_to_the_winner_once(made: str, plan: Plan, autojump_clock: MockClock) -> None:
    """A turn finds the page taken by a conversation whose id once lost the page to another: the answer stays in it."""
    database, keeper = MemoryDatabase(conversations={WINNER: ("u1", "")}), MemoryKeeper()
    keeper.index.map_conversation(GENERAL, WINNER)
    second = conversation_id("u1", "general", 2)

    async def make() -> None:
        await trio.sleep(1)
        database.conversations[GENERAL] = ("u1", "general")
        if made == "by the delivery":
            keeper.index.map_conversation(second, GENERAL)

    database.before_write = [failing(DOWN)] * 9
    database.before_conversation, speak = (make, after(2)) if made == "by the turn" else (failing(DOWN), make)
    async with open_house(database, PacedModel(pieces=[(speak, "Yes.")]), outbox=keeper, plan=plan) as house:
        outcome = answered((await house.ask(question())).result)
    assert (outcome.saved, outcome.conversation_id) == ("outbox", GENERAL)
    assert [row.conversation_id for row in keeper.undelivered("u1")] == [GENERAL, GENERAL]


async def test_a_turn_moves_with_another_pages_conversation(autojump_clock: MockClock) -> None:
    """Named while all of it waits, a conversation of another page is not stored yet: it may still lose that page."""
    theirs, keeper = conversation_id("u1", "project-1"), MemoryKeeper()
    await keeper.put([replace(row_of(question("Early")), conversation_id=theirs, page="project-1")], "Early")

    async def lose() -> None:
        await trio.sleep(1)
        keeper.index.map_conversation(theirs, WINNER)

    async with open_house(model=PacedModel(pieces=[(lose, "Yes.")]), outbox=keeper) as house:
        outcome = answered((await house.ask(question(conversation_id=theirs))).result)
    assert (outcome.saved, outcome.conversation_id) == ("outbox", WINNER)
    assert [row.conversation_id for row in keeper.undelivered("u1")] == [WINNER] * 3
