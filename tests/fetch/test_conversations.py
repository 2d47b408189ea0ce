"""The list of conversations with what waits in the outbox counted in, and its paging while conversations move."""

import uuid
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

from app.conversations import TITLE_CHARS, ConversationHead
from app.errors import CallerFault, DatabaseFault
from app.fetch.conversations import Conversations
from app.fetch.history import conversation_id
from app.receive.before import conversation_before
from tests.fetch.page_table import head
from tests.fetch.test_history_page import Chat, row

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)


def at(second: int) -> datetime:
    return NOON + timedelta(seconds=second)


def id_of(number: int) -> uuid.UUID:
    return uuid.UUID(int=number, version=4)


def town(*seconds: int) -> Chat:
    """Return a user's conversations, the last activity of each at that second."""
    chat = Chat()
    chat.table.heads_by_id = {id_of(n): head(id_of(n), at(second), f"title {n}") for n, second in enumerate(seconds)}
    return chat


def wait(chat: Chat, conversation: int, second: int, text: str = "words") -> None:
    """Let a message of that conversation, said at that second, wait."""
    chat.put(replace(row(chat.keeper.last + 100, second, "user"), conversation_id=id_of(conversation), message=text))


def conversations(chat: Chat) -> Conversations:
    return Conversations(chat.table, chat.keeper)


async def listed(chat: Chat, limit: int = 50, text: str = "", move: int | None = None) -> list[list[ConversationHead]]:
    """Return all pages; after the first, the conversation `move` gets a message."""
    shown, before = [], None
    for _ in range(200):
        page = await conversations(chat).page("u1", limit, before, text)
        shown.append(list(page.heads))
        if page.next_before is None:
            return shown
        before = conversation_before(page.next_before)
        if move is not None:
            chat.table.heads_by_id[id_of(move)] = replace(chat.table.heads_by_id[id_of(move)], updated_at=at(99))
    raise AssertionError("the pages come to no end")


def numbers(pages: list[list[ConversationHead]]) -> list[int]:
    order = {id_of(n): n for n in range(200)}
    return [order[each.id] for page in pages for each in page]


@given(
    seconds=st.lists(st.integers(0, 3), max_size=9),
    waiting=st.lists(st.tuples(st.integers(0, 11), st.integers(0, 5)), max_size=5),
    limit=st.integers(1, 4),
)
def test_the_pages_are_the_list_cut_in_pieces(seconds: list[int], waiting: list[tuple[int, int]], limit: int) -> None:
    """Newest activity first, what waits counted in; of equal times the larger id first; none lost, none twice."""
    chat = town(*seconds)
    newest = dict(enumerate(seconds))
    for conversation, second in waiting:
        wait(chat, conversation, second)
        newest[conversation] = max(second, newest.get(conversation, 0))
    pages = trio.run(listed, chat, limit)
    assert numbers(pages) == sorted(newest, key=lambda n: (newest[n], id_of(n)), reverse=True)
    assert [len(page) for page in pages[:-1]] == [limit] * (len(pages) - 1)


@given(seconds=st.lists(st.integers(0, 2), min_size=1, max_size=9), limit=st.integers(1, 3), move=st.integers(0, 8))
def test_who_moves_to_the_top_moves_nobody_else(seconds: list[int], limit: int, move: int) -> None:
    """Each of the others is shown once, and the one that moves at most once: it is at the top of the next reading."""
    chat, moving = town(*seconds), move % len(seconds)
    shown = numbers(trio.run(listed, chat, limit, "", moving))
    assert len(shown) == len(set(shown))
    assert set(shown) | {moving} == set(range(len(seconds)))


async def test_a_conversation_that_is_still_to_be_made_is_listed(autojump_clock: MockClock) -> None:
    """With the title that it will have, found by its words; it cannot be renamed or deleted yet, which may pass."""
    chat = town(1)
    wait(chat, 7, 5, "  A river\n" + "x" * 99)
    (found, _), *_ = await listed(chat)
    assert (found.id, found.title, found.page_id, found.updated_at) == (
        id_of(7), ("A river " + "x" * 99)[:TITLE_CHARS], "general", at(5),
    )  # fmt: skip
    assert await conversations(chat).one("u1", id_of(7)) == found
    assert numbers(await listed(chat, text="RIVER")) == [7]
    assert numbers(await listed(chat, text="rain")) == []
    for change in (conversations(chat).rename("u1", id_of(7), "New"), conversations(chat).hide("u1", id_of(7))):
        with pytest.raises(DatabaseFault) as caught:
            await change
        assert caught.value.retryable


async def test_one_under_whose_page_another_waits_is_not_deleted_yet(autojump_clock: MockClock) -> None:
    """The page's messages that wait under the next id would come back as a new conversation; delivered, they are its.

    Those that wait for another page, or for one of the page's that was deleted before, keep nobody from it.
    """
    chat, (first, second) = town(1, 2), (conversation_id("u1", "general", number) for number in (1, 2))
    chat.table.heads_by_id |= {
        id_of(0): replace(chat.table.heads_by_id[id_of(0)], page_id="general"),
        first: replace(head(first, at(0)), is_active=False),
    }
    chat.put(replace(row(1, 3), conversation_id=first))
    chat.put(replace(row(2, 4), conversation_id=second))
    with pytest.raises(DatabaseFault) as caught:
        await conversations(chat).hide("u1", id_of(0))
    assert (caught.value.retryable, caught.value.error_type) == (True, "not_stored")
    assert chat.table.heads_by_id[id_of(0)].is_active
    await conversations(chat).hide("u1", id_of(1))
    chat.keeper.index.map_conversation(second, id_of(0))
    await conversations(chat).hide("u1", id_of(0))
    assert numbers(await listed(chat)) == []


async def test_one_is_deleted_with_what_waits_for_it(autojump_clock: MockClock) -> None:
    """Messages that wait under its own id are delivered into it; those of the one before it do not matter.

    Which id is the page's next is asked only because of those.
    """
    chat, (first, second) = town(), (conversation_id("u1", "general", number) for number in (1, 2))
    chat.table.heads_by_id = {first: replace(head(first, at(0)), is_active=False), second: head(second, at(1))}
    chat.table.heads_by_id[second] = replace(chat.table.heads_by_id[second], page_id="general")
    for looks, id_ in ((1, second), (2, first)):
        chat.put(replace(row(looks, 3), conversation_id=id_))
        there, chat.table.looks = dict(chat.table.heads_by_id), 0
        await conversations(chat).hide("u1", second)
        assert (chat.table.heads_by_id[second].is_active, chat.table.looks) == (False, looks)
        chat.table.heads_by_id = there


@pytest.mark.parametrize("stored", [False, True])
async def test_an_id_leads_to_the_winner_only_while_nothing_is_stored_under_it(
    stored: bool, autojump_clock: MockClock
) -> None:
    """By the loser's id it is the winner that is read, renamed and deleted, unless a later conversation has that id."""
    chat = town(1, 2)
    loser, meant = id_of(7), id_of(7 if stored else 0)
    if stored:
        chat.table.heads_by_id[loser] = head(loser, at(3))
    chat.keeper.index.map_conversation(loser, id_of(0))
    assert (await conversations(chat).one("u1", loser)).id == meant
    assert (await conversations(chat).rename("u1", loser, "New")).id == meant
    await conversations(chat).hide("u1", loser)
    assert not chat.table.heads_by_id[meant].is_active
    assert len(numbers(await listed(chat))) == (2 if stored else 1)
    for ask in (conversations(chat).one("u1", loser), conversations(chat).rename("u1", loser, "Newer")):
        with pytest.raises(CallerFault):
            await ask


async def test_one_that_was_deleted_is_not_brought_back_by_what_waits(autojump_clock: MockClock) -> None:
    """Its last words may come late: it stays away, from the list and by its id."""
    chat = town(1, 2)
    await conversations(chat).hide("u1", id_of(1))
    wait(chat, 1, 5)
    assert numbers(await listed(chat)) == [0]
    for ask in (conversations(chat).one("u1", id_of(1)), conversations(chat).rename("u1", id_of(1), "New")):
        with pytest.raises(CallerFault):
            await ask
