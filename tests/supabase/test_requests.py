"""What our own requests rely on, as SQL: keys that make a repeat harmless, races that end in one row, the trigger."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from threading import Barrier
from time import monotonic
from typing import LiteralString
from uuid import UUID, uuid5

import psycopg
import pytest

SPACE = UUID("6f1a7c52-0000-4000-8000-000000000000")
CONVERSATION = uuid5(SPACE, "conversation")
NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)

SAVE_MESSAGE: LiteralString = """
    insert into chat_logs (user_id, sender, message, conversation_id, created_at, turn_id)
    values ('u', %s, %s, %s, %s, %s) on conflict (turn_id, sender) do nothing
"""
OPEN_CONVERSATION: LiteralString = """
    insert into chat_conversations (id, user_id, page_id) values (%s, 'u', %s)
    on conflict (user_id, page_id) do nothing returning id
"""
UPDATED_AT: LiteralString = "select updated_at from chat_conversations where id = %s"


@pytest.fixture
def chat(migrated: str) -> str:
    """The conninfo of a migrated database with one user and one conversation, updated at NOON."""
    with psycopg.connect(migrated) as connection:
        connection.execute("insert into users (id) values ('u')")
        connection.execute(
            "insert into chat_conversations (id, user_id, page_id, updated_at) values (%s, 'u', 'general', %s)",
            (CONVERSATION, NOON),
        )
    return migrated


def save(connection: psycopg.Connection, sender: str, created_at: datetime, turn: str, text: str = "text") -> int:
    """Save a message of the turn named `turn`; return how many rows that made."""
    values = (sender, text, CONVERSATION, created_at, uuid5(SPACE, turn))
    return connection.execute(SAVE_MESSAGE, values).rowcount


def wait_until_blocked(observer: psycopg.Connection, blocked: psycopg.Connection) -> None:
    """Return once `blocked` waits for a lock of another connection; ask the server until then, 30 seconds at most."""
    give_up = monotonic() + 30
    while observer.execute("select pg_blocking_pids(%s) = '{}'", (blocked.info.backend_pid,)).fetchone() == (True,):
        assert monotonic() < give_up, "the other connection never had to wait"


def test_saving_a_message_again_is_no_second_row(chat: str) -> None:
    """A repeated save of one turn's message makes no row and leaves the first one's text."""
    with psycopg.connect(chat) as connection:
        made = [save(connection, "user", NOON, "t", text) for text in ("first", "second")]
        rows = connection.execute("select message from chat_logs").fetchall()
    assert (made, rows) == ([1, 0], [("first",)])


def test_a_turn_has_one_message_of_each_sender(chat: str) -> None:
    """The user's and the assistant's message of one turn are two rows."""
    with psycopg.connect(chat) as connection:
        assert [save(connection, sender, NOON, "t") for sender in ("user", "assistant")] == [1, 1]


def test_messages_without_a_turn_never_collide(chat: str) -> None:
    """Older rows, which have no turn id, may be alike."""
    alike: LiteralString = (
        "insert into chat_logs (user_id, sender, message) values ('u', 'user', 'hi'), ('u', 'user', 'hi')"
    )
    with psycopg.connect(chat) as connection:
        assert connection.execute(alike).rowcount == 2


def test_a_conversation_without_a_page_never_collides(chat: str) -> None:
    """A user may have any number of conversations without a page."""
    with psycopg.connect(chat) as connection:
        made = [connection.execute(OPEN_CONVERSATION, (uuid5(SPACE, name), None)).rowcount for name in "ab"]
    assert made == [1, 1]


def test_opening_a_conversation_again_is_no_second_row(chat: str) -> None:
    """A repeated insert for the same user and page gives nothing, and the first row is there to be read."""
    with psycopg.connect(chat) as connection:
        assert connection.execute(OPEN_CONVERSATION, (uuid5(SPACE, "other"), "general")).fetchall() == []
        found = connection.execute("select id from chat_conversations where user_id = 'u' and page_id = 'general'")
        assert found.fetchall() == [(CONVERSATION,)]


def test_racing_first_messages_end_in_one_conversation(chat: str) -> None:
    """Of eight clients that open a page's conversation at the same instant, on twenty pages, one wins each time."""
    racers, pages = 8, [f"page-{number}" for number in range(20)]
    start = Barrier(racers)

    def race(racer: int) -> list[int]:
        with psycopg.connect(chat, autocommit=True) as connection:
            made = []
            for page in pages:
                start.wait(timeout=30)
                made.append(connection.execute(OPEN_CONVERSATION, (uuid5(SPACE, f"{racer} {page}"), page)).rowcount)
            return made

    with ThreadPoolExecutor(racers) as pool:
        made = list(pool.map(race, range(racers)))
    assert [sum(of_page) for of_page in zip(*made, strict=True)] == [1] * len(pages)


def test_a_race_that_must_wait_ends_in_one_message(chat: str) -> None:
    """A save beside an uncommitted save of the same message waits for its commit, then makes no second row."""
    with psycopg.connect(chat) as first, psycopg.connect(chat) as second, ThreadPoolExecutor(1) as pool:
        assert save(first, "user", NOON, "t") == 1
        repeated = pool.submit(save, second, "user", NOON, "t")
        wait_until_blocked(first, second)
        first.commit()
        assert repeated.result(timeout=30) == 0


def test_a_deleted_conversation_makes_room_for_a_new_one(chat: str) -> None:
    """After the soft delete the same page can have a new conversation, and the old one keeps its messages."""
    with psycopg.connect(chat) as connection:
        save(connection, "user", NOON, "t")
        connection.execute(
            "update chat_conversations set is_active = false, page_id = null where id = %s", (CONVERSATION,)
        )
        assert connection.execute(OPEN_CONVERSATION, (uuid5(SPACE, "new"), "general")).rowcount == 1
        kept = connection.execute("select count(*) from chat_logs where conversation_id = %s", (CONVERSATION,))
        assert kept.fetchone() == (1,)


@pytest.mark.parametrize(("minutes", "moved_to"), [(5, 5), (0, 0), (-5, 0)])
def test_a_message_moves_its_conversations_time_forward_only(chat: str, minutes: int, moved_to: int) -> None:
    """A later message moves updated_at to its own time; an earlier one, delivered late, does not move it back."""
    with psycopg.connect(chat) as connection:
        save(connection, "user", NOON + timedelta(minutes=minutes), "t")
        assert connection.execute(UPDATED_AT, (CONVERSATION,)).fetchone() == (NOON + timedelta(minutes=moved_to),)


def test_a_message_that_was_there_already_moves_nothing(chat: str) -> None:
    """A repeated save, whatever time it carries, does not touch the conversation."""
    with psycopg.connect(chat) as connection:
        save(connection, "user", NOON, "t")
        save(connection, "user", NOON + timedelta(hours=1), "t")
        assert connection.execute(UPDATED_AT, (CONVERSATION,)).fetchone() == (NOON,)


def test_racing_messages_leave_the_latest_time(chat: str) -> None:
    """Two messages saved at once, the later one first committed, leave the conversation at the later time."""
    early, late = NOON + timedelta(minutes=1), NOON + timedelta(minutes=2)
    with psycopg.connect(chat) as first, psycopg.connect(chat) as second, ThreadPoolExecutor(1) as pool:
        save(first, "user", late, "late")
        waiting = pool.submit(save, second, "user", early, "early")
        wait_until_blocked(first, second)
        first.commit()
        assert waiting.result(timeout=30) == 1
        second.commit()
        assert first.execute(UPDATED_AT, (CONVERSATION,)).fetchone() == (late,)


def test_a_conversation_with_messages_cannot_be_removed(chat: str) -> None:
    """A hard delete of a conversation that has messages is refused in a fresh schema."""
    with psycopg.connect(chat) as connection:
        save(connection, "user", NOON, "t")
        with pytest.raises(psycopg.errors.ForeignKeyViolation):
            connection.execute("delete from chat_conversations where id = %s", (CONVERSATION,))


def test_the_newest_history_is_read_from_its_index(chat: str) -> None:
    """The newest messages of a conversation among many come in order from the index: nothing is sorted."""
    with psycopg.connect(chat) as connection:
        connection.execute("set session_replication_role = replica")  # 5000 messages in one transaction: no triggers
        connection.execute(
            "insert into chat_logs (user_id, sender, message, conversation_id, created_at)"
            " select 'u', 'user', repeat('x', 200), %s, %s + n * interval '1 second' from generate_series(1, 5000) n",
            (CONVERSATION, NOON),
        )
        connection.execute("analyze chat_logs")
        lines = connection.execute(
            "explain select c.id, recent.* from chat_conversations c left join lateral ("
            " select id, message from chat_logs l where l.conversation_id = c.id"
            " order by created_at desc, id desc limit 20) recent on true"
            " where c.user_id = 'u' and c.page_id = 'general'"
        ).fetchall()
    plan = "\n".join(str(line) for (line,) in lines)
    assert "using chat_logs_conversation_id_created_at_id_idx" in plan
    assert "Sort" not in plan
