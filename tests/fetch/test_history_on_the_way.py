"""Read your own writes: messages that wait in the outbox are part of the conversation, each once and in their place."""

import uuid
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
import trio
from trio.testing import MockClock

from app.clients.ports import LogRow
from app.errors import CallerFault
from app.fetch.history import ConversationReader, HistoryFetch, conversation_id, merged
from app.turn import Conversation, TurnRequest
from tests.save.keeper import MemoryKeeper
from tests.standins import TRACE_ID, MemoryDatabase, question, watched

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
GENERAL = conversation_id("u1", "general")
OTHER = uuid.UUID(int=5)


def row(number: int, conversation: uuid.UUID = GENERAL, page: str = "general", user_id: str = "u1") -> LogRow:
    """Return a message, said at that second, of the turn of that number."""
    return LogRow(
        turn_id=uuid.UUID(int=number),
        sender="user",
        user_id=user_id,
        page=page,
        conversation_id=conversation,
        message=str(number),
        context_data={"trace_id": TRACE_ID},
        created_at=NOON + timedelta(seconds=number),
    )


async def fetch(database: MemoryDatabase, keeper: MemoryKeeper, turn: TurnRequest) -> Conversation:
    seen = watched()
    with seen.telemetry.turn(turn_id=str(turn.turn_id), user_id="u1", trace_id=TRACE_ID, surface="chat") as trace:
        return await HistoryFetch(ConversationReader(database, keeper), newest=4, newest_for_long=50)(turn, trace)


def texts(conversation: Conversation) -> list[str]:
    return [message.message for message in conversation.messages]


async def there(*rows: LogRow, conversation: uuid.UUID = GENERAL, page: str = "general") -> MemoryDatabase:
    """Return a database that has one conversation, with these messages."""
    database = MemoryDatabase(conversations={conversation: ("u1", page)})
    await database.write_rows(rows)
    return database


async def waiting(*rows: LogRow) -> MemoryKeeper:
    keeper = MemoryKeeper()
    await keeper.put(rows)
    return keeper


async def test_what_waits_is_in_its_place(autojump_clock: MockClock) -> None:
    """Messages that wait stand among the stored ones by their times; of all, the newest are kept."""
    found = await fetch(await there(row(1), row(3), row(5)), await waiting(row(4), row(2)), question())
    assert (texts(found), found.id, found.is_new) == (["2", "3", "4", "5"], GENERAL, False)


async def test_a_message_counts_once(autojump_clock: MockClock) -> None:
    """What is delivered between the look at the outbox and the answer of the database is in both, and counts once."""
    database, keeper = await there(row(1)), await waiting(row(2), row(3))

    async def deliver() -> None:
        keeper.deliver(database)

    database.before_history = deliver
    found = await fetch(database, keeper, question())
    assert (texts(found), keeper.senders()) == (["1", "2", "3"], [])


async def test_a_message_is_seen_though_it_is_delivered_after_the_look(autojump_clock: MockClock) -> None:
    """The outbox is looked at first: a database whose answer was made before the delivery is no reason to miss it."""
    database, keeper = await there(row(1)), await waiting(row(2))
    before = await database.conversation_for_page("u1", "general", 4)

    async def read(user_id: str, page_id: str, newest: int) -> Conversation | None:
        keeper.deliver(database)
        return before

    database.conversation_for_page = read  # type: ignore[method-assign]
    assert texts(await fetch(database, keeper, question())) == ["1", "2"]
    assert keeper.senders() == []


@pytest.mark.parametrize("named", [None, GENERAL])
async def test_a_conversation_that_waits_as_a_whole_is_found(
    named: uuid.UUID | None, autojump_clock: MockClock
) -> None:
    """By its page and by its id, it has its messages; it is still to be made."""
    found = await fetch(MemoryDatabase(), await waiting(row(1), row(2)), question(conversation_id=named))
    assert (texts(found), found.id, found.is_new) == (["1", "2"], GENERAL, True)


async def test_a_conversation_of_another_page_is_never_made_for_this_one(autojump_clock: MockClock) -> None:
    """Named, with its rows waiting, but of another page: found, and left to its first row to be made."""
    theirs = conversation_id("u1", "project-1")
    keeper = await waiting(row(1, theirs, "project-1"))
    found = await fetch(MemoryDatabase(), keeper, question(conversation_id=theirs))
    assert (texts(found), found.id, found.is_new, found.is_stored) == (["1"], theirs, False, False)


async def test_other_conversations_stay_out(autojump_clock: MockClock) -> None:
    """Rows of another conversation, though of the same page, and of another user, are none of this one's."""
    keeper = await waiting(row(1, OTHER), row(2, user_id="u2"), row(3))
    assert texts(await fetch(await there(), keeper, question())) == ["3"]
    with pytest.raises(CallerFault):
        await fetch(MemoryDatabase(), await waiting(row(2, OTHER, user_id="u2")), question(conversation_id=OTHER))


@pytest.mark.parametrize("mapped", [False, True])
@pytest.mark.parametrize("named", [None, OTHER])
async def test_the_loser_of_a_page_is_read_with_the_winner(
    named: uuid.UUID | None, mapped: bool, autojump_clock: MockClock
) -> None:
    """Rows that wait under the derived id belong to whichever conversation the page has."""
    keeper = await waiting(row(2))
    if mapped:
        keeper.index.map_conversation(GENERAL, OTHER)
    found = await fetch(await there(row(1, OTHER), conversation=OTHER), keeper, question(conversation_id=named))
    assert found.id == OTHER
    assert texts(found) == (["1", "2"] if mapped or named is None else ["1"])


async def test_a_page_whose_winner_is_gone_still_has_what_waits(autojump_clock: MockClock) -> None:
    """Rows that were moved to a conversation which is no longer there are found by the page, to be made anew."""
    keeper = await waiting(row(2))
    keeper.index.map_conversation(GENERAL, OTHER)
    found = await fetch(MemoryDatabase(), keeper, question())
    assert (texts(found), found.id, found.is_new) == (["2"], OTHER, True)


@pytest.mark.parametrize("moved", [False, True])
async def test_what_waits_for_a_deleted_conversation_stays_away(moved: bool, autojump_clock: MockClock) -> None:
    """From its page, which begins another, also once that has messages of its own; and from whoever names it."""
    gone, second = (OTHER if moved else GENERAL), conversation_id("u1", "general", 2)
    keeper, database = await waiting(row(2)), MemoryDatabase(conversations={gone: ("u1", "")})
    if moved:
        keeper.index.map_conversation(GENERAL, OTHER)
    found = await fetch(database, keeper, question())
    assert (texts(found), found.id, found.is_new) == ([], second, True)
    await keeper.put([row(3, second)])
    found = await fetch(database, keeper, question())
    assert (texts(found), found.id, found.is_new) == (["3"], second, True)
    database.conversations[second] = ("u1", "general")
    found = await fetch(database, keeper, question())
    assert (texts(found), found.id, found.is_new) == (["3"], second, False)
    with pytest.raises(CallerFault):
        await fetch(database, keeper, question(conversation_id=GENERAL))
    assert (await fetch(database, keeper, question(conversation_id=GENERAL, or_page=True))).id == second


@pytest.mark.parametrize("named", [None, GENERAL])
@pytest.mark.parametrize("moment", ["before_history", "before_heads"])
async def test_a_race_that_is_lost_meanwhile_hides_nothing(
    moment: str, named: uuid.UUID | None, autojump_clock: MockClock
) -> None:
    """The delivery finds that the page has another conversation while the database is asked for it: rows that wait are
    of that one, whichever request it was.
    """
    keeper, database = await waiting(row(2)), MemoryDatabase()

    async def lose() -> None:
        await trio.lowlevel.checkpoint()
        keeper.index.map_conversation(GENERAL, OTHER)

    setattr(database, moment, lose)
    assert texts(await fetch(database, keeper, question(conversation_id=named))) == ["2"]


async def test_who_holds_the_losers_id_is_led_to_the_winner(autojump_clock: MockClock) -> None:
    """A client that was told the id of a conversation which lost its page goes on in the one that stands."""
    keeper = MemoryKeeper()
    keeper.index.map_conversation(GENERAL, OTHER)
    database = await there(row(1, OTHER), conversation=OTHER)
    found = await fetch(database, keeper, question(conversation_id=GENERAL))
    assert (found.id, texts(found), found.is_new) == (OTHER, ["1"], False)


async def test_what_is_stored_under_the_losers_id_is_what_it_names(autojump_clock: MockClock) -> None:
    """The winner was deleted, and the page's next conversation made with the id that had lost: by its page and by its
    id it is found in one request, with what waits for it, and without what waits for the winner.
    """
    asked = 0
    keeper = await waiting(row(2))
    keeper.index.map_conversation(GENERAL, OTHER)
    await keeper.put([row(3)], stands=True)
    database = await there(row(1))
    database.conversations[OTHER] = ("u1", "")

    async def count() -> None:
        nonlocal asked
        await trio.lowlevel.checkpoint()
        asked += 1

    database.before_history = count
    for named in (GENERAL, None):
        found = await fetch(database, keeper, question(conversation_id=named))
        assert (found.id, texts(found), found.is_stored) == (GENERAL, ["1", "3"], True)
    assert asked == 2
    with pytest.raises(CallerFault):
        await fetch(database, keeper, question(conversation_id=OTHER))


@pytest.mark.parametrize("mapped", [False, True])
async def test_only_an_id_that_lost_is_asked_about_twice(mapped: bool, autojump_clock: MockClock) -> None:
    """An unknown id costs one request, unless it is known to lead to another."""
    asked, keeper, database = list[uuid.UUID](), MemoryKeeper(), MemoryDatabase()

    async def ask(user_id: str, conversation_id: uuid.UUID, newest: int) -> None:
        await trio.lowlevel.checkpoint()
        asked.append(conversation_id)

    database.conversation = ask  # type: ignore[method-assign]
    if mapped:
        keeper.index.map_conversation(GENERAL, OTHER)
    with pytest.raises(CallerFault):
        await fetch(database, keeper, question(conversation_id=GENERAL))
    assert asked == ([GENERAL, OTHER] if mapped else [GENERAL])


def test_nothing_on_the_way_changes_nothing() -> None:
    """Without such rows the conversation is the very same."""
    conversation = Conversation(id=GENERAL)
    assert merged(conversation, [], 20) is conversation


def test_both_rows_of_a_turn_are_told_apart() -> None:
    """The key is turn and sender: an answer that waits is added to its question that is stored."""
    answer = replace(row(1), sender="assistant", message="Because.", created_at=NOON + timedelta(seconds=2))
    stored = merged(Conversation(id=GENERAL), [row(1)], 20)
    both = merged(stored, [row(1), answer], 20)
    assert [(message.sender, message.message) for message in both.messages] == [
        ("user", "1"),
        ("assistant", "Because."),
    ]
    assert both.messages[1].context_data == {"trace_id": TRACE_ID}
