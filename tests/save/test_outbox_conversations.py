"""Conversations that are still to be made, and those that lost the race for their page, on virtual time."""

import uuid

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from app.save.outbox_values import OutboxError
from app.turn import Conversation
from tests.save.outbox_rows import log_row, turn_rows
from tests.save.outbox_standins import (
    JudgingDatabase,
    MemoryOutbox,
    both,
    delivering,
    fault,
    reasons,
    refusing,
)


async def test_a_conversation_is_made_before_its_first_row(autojump_clock: MockClock) -> None:
    """Once for a batch, with its page and title; rows of one that is there need nothing."""
    outbox, database = MemoryOutbox(), JudgingDatabase()
    outbox.put(*turn_rows(1, conversation=1), title="First words")
    outbox.put(*turn_rows(2, conversation=1), title="First words")
    outbox.put(*turn_rows(3, conversation=2))
    async with delivering(outbox, database):
        await wait_all_tasks_blocked()
    assert database.made == [("page-1", "First words")]
    assert list(database.conversations) == [uuid.UUID(int=1)]
    assert database.sent == [both(1, 2, 3)]


async def test_rows_go_under_the_id_of_whoever_won_the_page(autojump_clock: MockClock) -> None:
    """Those in the queue and those that come later, with a title or without; the mapping is kept before any is sent."""
    winner = uuid.UUID(int=70)
    outbox, database = MemoryOutbox(), JudgingDatabase(conversations={winner: ("ann", "page-1")})
    outbox.put(*turn_rows(1, conversation=1), title="Mine")
    async with delivering(outbox, database):
        await wait_all_tasks_blocked()
        outbox.put(*turn_rows(2, conversation=1))
        outbox.put(*turn_rows(3, conversation=1), title="Mine")
        await wait_all_tasks_blocked()
    assert len(database.rows) == 6
    assert {row.conversation_id for row in database.rows.values()} == {winner}
    assert outbox.resolve(uuid.UUID(int=1)) == winner


async def test_a_conversation_that_was_deleted_keeps_what_was_said_in_it(autojump_clock: MockClock) -> None:
    """The winner was deleted since: a row that says its conversation is still to be made is stored in it all the same,
    and on its page nothing is begun.
    """
    lost, winner = uuid.UUID(int=1), uuid.UUID(int=70)
    outbox, database = MemoryOutbox(), JudgingDatabase(conversations={winner: ("ann", "page-1")})
    async with delivering(outbox, database):
        outbox.put(log_row(1, conversation=1), title="Mine")
        await wait_all_tasks_blocked()
        database.conversations[winner] = ("ann", "")
        outbox.put(log_row(2, conversation=1), title="Mine")
        await wait_all_tasks_blocked()
    assert [row.conversation_id for row in database.rows.values()] == [winner, winner]
    assert (outbox.resolve(lost), list(database.conversations)) == (winner, [winner])


async def test_a_row_of_a_conversation_that_stands_goes_where_it_says(autojump_clock: MockClock) -> None:
    """The loser's id is that of a later conversation by now: what was said in it goes there, what waited for the
    winner to that one, also when each row is sent and looked for alone.
    """
    loser, winner = uuid.UUID(int=1), uuid.UUID(int=70)
    outbox, asked = MemoryOutbox(), list[uuid.UUID]()

    class Asked(JudgingDatabase):
        async def conversation(self, user_id: str, conversation_id: uuid.UUID, newest: int) -> Conversation | None:
            asked.append(conversation_id)
            return None

    database = Asked(conversations={winner: ("ann", ""), loser: ("ann", "page-1")})
    database.verdict = refusing("23505", "user 2")
    outbox.index.map_conversation(loser, winner)
    outbox.put(log_row(1, conversation=1), title="Mine")
    outbox.put(*turn_rows(2, conversation=1), stands=True)
    outbox.put(*turn_rows(3, conversation=1), stands=True)
    async with delivering(outbox, database):
        await wait_all_tasks_blocked()
    went = {row.message: row.conversation_id for row in database.rows.values()}
    assert went == {"user 1": winner, "user 3": loser, "assistant 3": loser}
    assert asked == [loser]


async def test_a_mapping_that_cannot_be_kept_sends_nothing(autojump_clock: MockClock) -> None:
    """Rows under an id that would be forgotten could not be found again; it is all tried later."""
    winner = uuid.UUID(int=70)
    outbox = MemoryOutbox(fails=[OutboxError("sqlite_full"), OutboxError("sqlite_full")])
    database = JudgingDatabase(conversations={winner: ("ann", "page-1")})
    outbox.put(log_row(1, conversation=1), title="Mine")
    async with delivering(outbox, database):
        await trio.sleep(0.1)
        assert database.sent == []
        await trio.sleep(1)
    assert [row.conversation_id for row in database.rows.values()] == [winner]


@pytest.mark.parametrize("error_type", ["23503", "22001", "23505"])
async def test_a_conversation_that_cannot_be_made_sets_its_turns_aside(
    error_type: str, autojump_clock: MockClock
) -> None:
    """Its user is gone, say: each turn of it is set aside, and other conversations go on."""
    outbox, database = MemoryOutbox(), JudgingDatabase()
    database.making = lambda id_: fault(error_type) if id_ == uuid.UUID(int=1) else None
    for turn in (1, 2):
        outbox.put(*turn_rows(turn, conversation=1), title="Nobody's")
    outbox.put(*turn_rows(3, conversation=2), title="Ann's")
    async with delivering(outbox, database):
        await wait_all_tasks_blocked()
    assert reasons(outbox) == dict.fromkeys(both(1, 2), error_type)
    assert database.stored_names() == both(3)


@pytest.mark.parametrize(("error_type", "paused"), [("ConnectError", None), ("PGRST301", "PGRST301")])
async def test_a_conversation_that_cannot_be_made_now_waits(
    error_type: str, paused: str | None, autojump_clock: MockClock
) -> None:
    """Nothing of the batch is sent before its conversations are there."""
    outbox, database = MemoryOutbox(), JudgingDatabase(making=lambda id_: fault(error_type))
    outbox.put(*turn_rows(1, conversation=1), title="Later")
    async with delivering(outbox, database):
        await trio.sleep(10)
        assert (database.sent, outbox.paused) == ([], paused)
        database.making = lambda id_: None
        await trio.sleep(60)
    assert database.stored_names() == both(1)


CANNOT_BE_MADE = [fault("P0001"), fault("XX000"), fault("54000"), fault("http_500"), KeyError("a bug")]


@pytest.mark.parametrize("error", CANNOT_BE_MADE, ids=repr)
async def test_a_conversation_that_can_never_be_made_holds_up_only_its_own_rows(
    error: Exception, autojump_clock: MockClock
) -> None:
    """A quota of the deployment's, say, raised by a trigger: its own rows wait and lose nothing, all others go on."""
    outbox, database = MemoryOutbox(), JudgingDatabase()
    database.making = lambda id_: error if id_ == uuid.UUID(int=1) else None
    outbox.put(*turn_rows(1, conversation=1), title="One too many")
    outbox.put(*turn_rows(2, conversation=2), title="Ann's")
    async with delivering(outbox, database):
        outbox.put(*turn_rows(3, conversation=1))
        outbox.put(*turn_rows(4, conversation=3))
        await trio.sleep(60)
        assert database.stored_names() == both(2, 4)
        assert reasons(outbox) == dict.fromkeys(both(1, 3))
        assert outbox.paused is None
        database.making = lambda id_: None
        await trio.sleep(60)
    assert database.stored_names() == both(2, 4, 1, 3)


@pytest.mark.parametrize("title", ["Ann's", None])
async def test_however_many_cannot_be_made_the_others_go_on(title: str | None, autojump_clock: MockClock) -> None:
    """More than are tried before the database counts as ill, and more than a batch takes: those behind get through."""
    outbox, database = MemoryOutbox(), JudgingDatabase()
    bad = {uuid.UUID(int=number) for number in range(1, 9)}
    database.making = lambda id_: fault("P0001") if id_ in bad else None
    for number in range(1, 9):
        outbox.put(log_row(number, conversation=number), title="One too many")
    outbox.put(*turn_rows(9, conversation=9), title=title)
    async with delivering(outbox, database):
        await trio.sleep(120)
    assert database.stored_names() == both(9)
    assert outbox.statistics().waiting == 8


async def test_a_database_that_makes_no_conversation_is_not_asked_for_each(autojump_clock: MockClock) -> None:
    """Three that fail, and it is taken for ill for this time; at the next time it is asked for others."""
    outbox, database = MemoryOutbox(), JudgingDatabase(making=lambda id_: fault("57014"))
    for number in range(1, 7):
        outbox.put(log_row(number, conversation=number), title="Later")
    async with delivering(outbox, database):
        await trio.sleep(5)
        rounds = max(entry.attempts for entry in outbox.index.entries(9))
        assert rounds == 5
        assert [page for page, _ in database.made] == [
            *["page-1"] * 3,
            *["page-1", "page-2", "page-3"],
            *["page-4", "page-5", "page-6"],
        ]
        assert database.sent == []
        database.making = lambda id_: None
        await trio.sleep(60)
    assert len(database.rows) == 6


async def test_a_look_for_the_row_is_made_under_its_conversations_own_id(autojump_clock: MockClock) -> None:
    """A conversation that lost its page is looked for under the winner's id, for the row's own user."""
    winner, asked = uuid.UUID(int=70), list[tuple[str, uuid.UUID]]()

    class Asked(JudgingDatabase):
        async def conversation(self, user_id: str, conversation_id: uuid.UUID, newest: int) -> Conversation | None:
            asked.append((user_id, conversation_id))
            raise fault("ConnectError")

    outbox, database = MemoryOutbox(), Asked(verdict=refusing("23505", "user 1"))
    outbox.put(log_row(1, conversation=1))
    outbox.index.map_conversation(uuid.UUID(int=1), winner)
    async with delivering(outbox, database):
        await wait_all_tasks_blocked()
    assert asked == [("ann", winner)]
    assert outbox.statistics().waiting == 1, "as long as nobody knows, it stays"
