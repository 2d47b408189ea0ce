"""Pages of messages: whatever arrives, waits or is delivered meanwhile, each message is on one page, in its place."""

import uuid
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

from app.clients.ports import LogRow
from app.conversations import Before, Place
from app.errors import CallerFault
from app.fetch.history import ConversationReader, Wanted, message_of
from app.fetch.history_page import MessagePages
from app.receive.before import message_before
from app.save.outbox_values import OutboxEntry
from app.turn import StoredMessage
from tests.fetch.page_table import PageTable
from tests.save.keeper import MemoryKeeper

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
ID = uuid.UUID(int=1)


def row(number: int, second: int, sender: str = "assistant") -> LogRow:
    """Return the message of the turn of that number, said at that second."""
    return LogRow(
        turn_id=uuid.UUID(int=number, version=4),
        sender="user" if sender == "user" else "assistant",
        user_id="u1",
        page="general",
        conversation_id=ID,
        message=f"{number}",
        context_data={"finish": "stop"},
        created_at=NOON + timedelta(seconds=second),
    )


@dataclass
class Chat:
    """A conversation, some of whose messages wait."""

    table: PageTable = field(default_factory=PageTable)
    keeper: MemoryKeeper = field(default_factory=MemoryKeeper)

    def put(self, row: LogRow) -> None:
        self.keeper.last += 1
        last = self.keeper.last
        self.keeper.index.add([OutboxEntry(id=last, position=last, row=row, title=None, size=1)])

    def deliver(self, count: int) -> None:
        """Bring the first so many that wait to the database."""
        for entry in self.keeper.index.entries(count):
            self.table.add(message_of(entry.row))
            self.keeper.index.remove([entry.id])

    async def page(self, limit: int, before: Before | None = None) -> tuple[list[str], str | None]:
        pages = MessagePages(self.table, ConversationReader(self.table, self.keeper), self.keeper)
        found = await pages(Wanted(user_id="u1", page_id="general", newest=limit, conversation_id=ID), before)
        return [message.message for message in found.messages], found.next_before

    async def all(self, limit: int, between: Callable[[], None] = lambda: None) -> list[list[str]]:
        """Return all pages, the newest first, as a front end reads them."""
        shown, following = [], None
        for _ in range(200):
            texts, link = await self.page(limit, following)
            shown.append(texts)
            if link is None:
                return shown
            following = message_before(link)
            between()
        raise AssertionError("the pages come to no end")


def joined(pages: list[list[str]]) -> list[str]:
    return [text for page in reversed(pages) for text in page]


Seconds = st.lists(st.integers(0, 3), max_size=14)


@given(stored=Seconds, waiting=Seconds, limit=st.integers(1, 5))
def test_pages_are_the_whole_cut_in_pieces(stored: list[int], waiting: list[int], limit: int) -> None:
    """Of messages that share times, stored and waiting ones, every page but the last is full, and none is lost."""
    chat, rows = Chat(), [row(number, second) for number, second in enumerate([*stored, *waiting])]
    for each in rows[: len(stored)]:
        chat.table.add(message_of(each))
    for each in rows[len(stored) :]:
        chat.put(each)
    expected = [
        each.message for each in sorted(rows, key=lambda each: each.created_at)
    ]  # stable: stored before waiting
    pages = trio.run(chat.all, limit)
    assert joined(pages) == expected
    assert [len(page) for page in pages[:-1]] == [limit] * (len(pages) - 1)
    assert expected == [] or pages[-1] != []


@given(
    stored=Seconds,
    waiting=Seconds,
    arriving=st.lists(st.tuples(st.integers(0, 5), st.booleans())),
    deliveries=st.lists(st.integers(0, 3)),
    limit=st.integers(1, 4),
    inside=st.booleans(),
)
def test_what_was_there_is_shown_once(
    stored: list[int],
    waiting: list[int],
    arriving: list[tuple[int, bool]],
    deliveries: list[int],
    limit: int,
    inside: bool,
) -> None:
    """Messages arrive, of any time, and are delivered, between pages or within one: what was there is shown once."""
    chat, rows = Chat(), [row(number, second) for number, second in enumerate([*stored, *waiting])]
    for each in rows[: len(stored)]:
        chat.table.add(message_of(each))
    for each in rows[len(stored) :]:
        chat.put(each)
    to_come = [(row(1000 + number, *come[:1]), come[1]) for number, come in enumerate(arriving)]
    counts = list(deliveries)

    def meanwhile() -> None:
        if to_come:
            each, waits = to_come.pop()
            if waits:
                chat.put(each)
            else:
                chat.table.add(message_of(each))
        if counts:
            chat.deliver(counts.pop())

    async def within() -> None:
        await trio.lowlevel.checkpoint()
        meanwhile()

    if inside:
        chat.table.before_read = within
    shown = joined(trio.run(chat.all, limit, (lambda: None) if inside else meanwhile))
    there = {each.message for each in rows}
    expected = [each.message for each in sorted(rows, key=lambda each: each.created_at)]
    assert [text for text in shown if text in there] == expected
    assert len(shown) == len(set(shown))


async def test_a_time_leaves_out_all_of_that_time(autojump_clock: MockClock) -> None:
    """Stored or waiting, what is of that very time is not before it."""
    chat = Chat()
    for number, second in enumerate((1, 2, 2)):
        chat.table.add(message_of(row(number, second)))
    for number, second in ((3, 2), (4, 1), (5, 3)):
        chat.put(row(number, second))
    assert await chat.page(9, Place(at=NOON + timedelta(seconds=2))) == (["0", "4"], None)
    assert await chat.page(1, Place(at=NOON + timedelta(seconds=3))) == (["3"], f"{row(3, 2).turn_id}:assistant")
    assert await chat.page(9, Place(at=NOON)) == ([], None)


async def test_a_message_that_waits_is_found_by_its_turn(autojump_clock: MockClock) -> None:
    """While it waits, and by the same name once it is delivered; as is a stored one by its row's id."""
    chat = Chat()
    for number in (1, 2):
        chat.table.add(message_of(row(number, 1)))
    for number, second in ((3, 1), (4, 1), (5, 2)):
        chat.put(row(number, second))
    name = f"{row(4, 1).turn_id}:assistant"
    assert (await chat.page(9, message_before(name)))[0] == ["1", "2", "3"]
    chat.deliver(2)
    assert (await chat.page(9, message_before(name)))[0] == ["1", "2", "3"]
    assert (await chat.page(9, message_before("2")))[0] == ["1"]
    assert (await chat.page(9, message_before(str(row(2, 1).turn_id))))[0] == ["1"]


@pytest.mark.parametrize("before", ["99", str(uuid.UUID(int=77, version=4)), f"{uuid.UUID(int=77, version=4)}:user"])
async def test_a_message_of_nobody_is_not_found(before: str, autojump_clock: MockClock) -> None:
    """Nothing is shown, as if everything were before it."""
    chat = Chat()
    chat.table.add(message_of(row(1, 1)))
    with pytest.raises(CallerFault) as caught:
        await chat.page(9, message_before(before))
    assert caught.value.code == "not_found"


async def test_a_message_of_another_conversation_is_not_found(autojump_clock: MockClock) -> None:
    """Stored there or waiting there, it is no place in this one."""
    chat, other = Chat(), uuid.UUID(int=2)
    chat.table.add(message_of(row(1, 1)))
    chat.put(replace(row(2, 1), conversation_id=other))
    pages = MessagePages(chat.table, ConversationReader(chat.table, chat.keeper), chat.keeper)
    elsewhere = Wanted(user_id="u1", page_id="general", newest=9, conversation_id=other)
    for wanted, before in ((replace(elsewhere, conversation_id=ID), f"{row(2, 1).turn_id}"), (elsewhere, "1")):
        with pytest.raises(CallerFault):
            await pages(wanted, message_before(before))


@pytest.mark.parametrize("stored", [False, True])
async def test_an_older_page_is_of_the_conversation_that_stands(stored: bool, autojump_clock: MockClock) -> None:
    """By a place, and by messages, stored and waiting: the winner's where the id that is named has lost, but its own
    where a conversation is stored under it.
    """
    chat, other = Chat(), uuid.UUID(int=2)
    for number in (1, 2):
        chat.table.add(message_of(row(number, number)))
    chat.keeper.index.map_conversation(*((ID, other) if stored else (other, ID)))
    await chat.keeper.put([row(3, 3)], stands=True)
    named = Wanted(user_id="u1", page_id="general", newest=9, conversation_id=ID if stored else other)
    pages = MessagePages(chat.table, ConversationReader(chat.table, chat.keeper), chat.keeper)
    for before, expected in (
        ("2099-01-01T00:00:00Z", ["1", "2", "3"]), ("2", ["1"]), (f"{row(3, 3).turn_id}:assistant", ["1", "2"]),
    ):  # fmt: skip
        found = await pages(named, message_before(before))
        assert (found.conversation_id, [message.message for message in found.messages]) == (ID, expected)


async def test_a_whole_answer_that_waits_is_shown_once(autojump_clock: MockClock) -> None:
    """It takes the place of the one cut short that is stored: this is on no page, on whichever side of a page's end."""
    cut_short = StoredMessage(
        sender="assistant", message="cut", created_at=NOON + timedelta(seconds=1), turn_id=str(row(9, 0).turn_id)
    )
    for limit in (1, 2, 3, 4):
        chat = Chat()
        for each in (message_of(row(1, 0)), cut_short, *(message_of(row(number, number)) for number in (2, 3, 4))):
            chat.table.add(each)
        chat.put(row(9, 9))
        assert joined(await chat.all(limit)) == ["1", "2", "3", "4", "9"]
