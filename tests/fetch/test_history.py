"""The conversation of a turn, the id of one that does not exist yet, and the time at which a turn is admitted."""

import uuid
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

from app.errors import CallerFault
from app.fetch.history import ConversationReader, HistoryFetch, admission_time, conversation_id
from app.turn import Conversation, StoredMessage, TurnRequest
from tests.standins import TRACE_ID, MemoryDatabase, question, watched

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
STORED = uuid.UUID("6f2f8b0e-0000-4000-8000-000000000001")


class AskedDatabase(MemoryDatabase):
    """Has one conversation, and remembers how many of its messages were asked for."""

    def __init__(self, user_id: str, page_id: str) -> None:
        super().__init__(conversations={STORED: (user_id, page_id)})
        self.newest: list[int] = []

    def _read(self, conversation_id: uuid.UUID, newest: int) -> Conversation:
        self.newest.append(newest)
        return super()._read(conversation_id, newest)


async def fetch(database: MemoryDatabase, turn: TurnRequest) -> Conversation:
    seen = watched()
    with seen.telemetry.turn(turn_id=str(turn.turn_id), user_id="u1", trace_id=TRACE_ID, surface="chat") as trace:
        return await HistoryFetch(ConversationReader(database), newest=20, newest_for_long=50)(turn, trace)


@pytest.mark.parametrize(("characters", "newest"), [(1, 20), (500, 20), (501, 50)])
async def test_a_long_message_gets_the_longer_history(characters: int, newest: int, autojump_clock: MockClock) -> None:
    """Over 500 characters, counted as characters and not as bytes, fifty messages are read instead of twenty."""
    database = AskedDatabase("u1", "general")
    await fetch(database, question("あ" * characters))
    assert database.newest == [newest]


async def test_the_users_conversation_for_the_page_is_found(autojump_clock: MockClock) -> None:
    """With no conversation named, the page decides."""
    found = await fetch(AskedDatabase("u1", "project-1"), question(page_id="project-1"))
    assert (found.id, found.is_new) == (STORED, False)


@pytest.mark.parametrize("key", [("u2", "general"), ("u1", "project-1")])
async def test_a_conversation_that_is_missing_is_new(key: tuple[str, str], autojump_clock: MockClock) -> None:
    """Another user's conversation, or another page's, is none: the turn has a new one, its id known already."""
    found = await fetch(AskedDatabase(*key), question())
    assert found == Conversation(id=conversation_id("u1", "general"), is_stored=False, is_new=True)


async def test_a_conversation_that_was_named_is_read_whatever_the_page(autojump_clock: MockClock) -> None:
    """The named conversation wins over the page's."""
    found = await fetch(AskedDatabase("u1", "elsewhere"), question(conversation_id=STORED))
    assert (found.id, found.is_new) == (STORED, False)


async def test_someone_elses_conversation_that_was_named_is_404(autojump_clock: MockClock) -> None:
    """Never 403, and never a new one instead."""
    with pytest.raises(CallerFault) as caught:
        await fetch(AskedDatabase("u2", "general"), question(conversation_id=STORED))
    assert (caught.value.code, caught.value.kind.status, caught.value.stage) == ("not_found", 404, "db_fetch")


def test_the_id_of_a_new_conversation_never_changes() -> None:
    """Replicas of different versions must agree on it, so its value is fixed here."""
    assert str(conversation_id("demo", "general")) == "23a05272-929a-57d8-86ac-d78b3b1a51f0"


@given(st.tuples(st.text(), st.text()), st.tuples(st.text(), st.text()))
def test_two_users_or_pages_never_share_an_id(one: tuple[str, str], other: tuple[str, str]) -> None:
    """Only the same user on the same page has the same id, colons in names or not."""
    assert (conversation_id(*one) == conversation_id(*other)) is (one == other)


def test_a_user_id_cannot_be_written_to_reach_anothers_page() -> None:
    """Where the user's id ends is part of what the id is made from."""
    assert conversation_id("a", "b:c") != conversation_id("a:b", "c")
    assert conversation_id("1:a", "b") != conversation_id("1", "a:b")


def said(at: datetime) -> StoredMessage:
    return StoredMessage(sender="user", message="", created_at=at)


def nanoseconds(at: datetime) -> int:
    return round(at.timestamp() * 1_000_000) * 1000


def test_a_turn_is_admitted_now() -> None:
    """Without messages, or with older ones, the time is the clock's, to the microsecond."""
    now = NOON + timedelta(microseconds=123_456)
    assert admission_time(nanoseconds(now) + 789, Conversation(id=STORED)) == now
    seen = Conversation(id=STORED, messages=(said(NOON - timedelta(hours=1)), said(NOON)))
    assert admission_time(nanoseconds(now), seen) == now


def test_a_turn_is_admitted_after_all_that_was_seen() -> None:
    """A writer whose clock runs ahead puts this turn a millisecond after its newest message, wherever that stands."""
    ahead = NOON + timedelta(hours=1)
    for messages in ((said(ahead), said(NOON)), (said(NOON), said(ahead))):
        admitted = admission_time(nanoseconds(NOON), Conversation(id=STORED, messages=messages))
        assert admitted == ahead + timedelta(milliseconds=1)


def test_admission_compares_moments_not_zones() -> None:
    """A stored time in another zone counts as the moment it is."""
    tokyo = NOON.astimezone(timezone(timedelta(hours=9)))
    seen = Conversation(id=STORED, messages=(said(tokyo),))
    assert admission_time(nanoseconds(NOON), seen) == NOON + timedelta(milliseconds=1)
