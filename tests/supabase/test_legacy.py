"""The migrations on deployments that an older back end left: nothing is lost, doubled conversations become one."""

from typing import Any, LiteralString, cast

import psycopg
import pytest

from tests.supabase.migrations import LEGACY, catalog, column_types, load_legacy, migrate, row_versions

WITH_CONVERSATIONS = ("integer_ids", "uuid_ids")

MESSAGES: LiteralString = (
    "select id::text, jsonb_strip_nulls(to_jsonb(l) - 'conversation_id') from chat_logs l order by 1"
)

# A conversation is known by its page while it is active and has one, else by its own id.
THREADS: LiteralString = """
    select c.user_id::text, coalesce(case when c.is_active is not false then c.page_id end, c.id::text) as thread,
           array_agg(l.id::text order by l.id::text)
    from chat_conversations c join chat_logs l on l.conversation_id = c.id
    group by 1, 2 order by 1, 2
"""
CONVERSATIONS: LiteralString = "select right(id::text, 1), to_jsonb(c) from chat_conversations c order by 1"

# By the last digit of its id, what becomes of each conversation: (is_active, page_id).
HIDDEN = (False, None)
OUTCOMES = {
    "integer_ids": {
        "1": HIDDEN,
        "2": (True, "general"),
        "3": HIDDEN,
        "4": (True, "general"),
        "5": (True, "project-1"),
        "6": (True, None),
        "7": (True, None),
        "8": HIDDEN,
        "9": (True, "memo"),
        "a": (True, "project-2"),
    },
    "uuid_ids": {
        "1": HIDDEN,
        "2": (True, "general"),
        "3": HIDDEN,
        "4": (True, "general"),
        "5": HIDDEN,
        "6": (True, None),
        "7": (True, None),
    },
}
# Those in whose row there was nothing to merge and no null to fill.
UNTOUCHED = {"integer_ids": "45679", "uuid_ids": "247"}


def by_id(connection: psycopg.Connection, query: LiteralString) -> dict[str, dict[str, Any]]:
    """Return the JSON form of every row that `query` gives, by the id beside it."""
    return {cast(str, key): cast(dict[str, Any], row) for key, row in connection.execute(query)}


@pytest.mark.parametrize("name", LEGACY)
def test_no_message_is_lost_or_altered(postgres_database: str, name: str) -> None:
    """After two runs every message is there once, with every value it had before."""
    load_legacy(postgres_database, name)
    with psycopg.connect(postgres_database, autocommit=True) as connection:
        before = by_id(connection, MESSAGES)
        migrate(postgres_database)
        migrate(postgres_database)
        after = by_id(connection, MESSAGES)
    assert before
    assert before.keys() == after.keys()
    assert all(before[key].items() <= after[key].items() for key in before)


@pytest.mark.parametrize("name", LEGACY)
def test_types_stay(postgres_database: str, name: str) -> None:
    """Every column of the deployment keeps its type; columns only come on top."""
    load_legacy(postgres_database, name)
    with psycopg.connect(postgres_database, autocommit=True) as connection:
        before = column_types(connection)
        migrate(postgres_database)
        assert before.items() <= column_types(connection).items()


@pytest.mark.parametrize("name", LEGACY)
def test_a_second_run_changes_nothing(postgres_database: str, name: str) -> None:
    """On a migrated deployment a second run leaves the schema as it is and writes no row."""
    load_legacy(postgres_database, name)
    migrate(postgres_database)
    with psycopg.connect(postgres_database, autocommit=True) as connection:
        before = catalog(connection), row_versions(connection)
        migrate(postgres_database)
        assert (catalog(connection), row_versions(connection)) == before


@pytest.mark.parametrize("name", WITH_CONVERSATIONS)
def test_messages_of_doubled_conversations_come_together(postgres_database: str, name: str) -> None:
    """Each page's messages are in one conversation; those of deleted and of pageless ones stay where they were."""
    load_legacy(postgres_database, name)
    with psycopg.connect(postgres_database, autocommit=True) as connection:
        before = connection.execute(THREADS).fetchall()
        migrate(postgres_database)
        assert connection.execute(THREADS).fetchall() == before
        most = connection.execute(
            "select max(n) from (select count(*) n from chat_conversations"
            " where page_id is not null group by user_id, page_id) pages"
        ).fetchone()
    assert most == (1,)


@pytest.mark.parametrize("name", WITH_CONVERSATIONS)
def test_the_conversation_last_spoken_in_stays(postgres_database: str, name: str) -> None:
    """Of doubled conversations the one with the newest message keeps the page; without messages, the last updated."""
    load_legacy(postgres_database, name)
    migrate(postgres_database)
    with psycopg.connect(postgres_database) as connection:
        rows = by_id(connection, CONVERSATIONS)
    assert {key: (row["is_active"], row["page_id"]) for key, row in rows.items()} == OUTCOMES[name]


@pytest.mark.parametrize("name", WITH_CONVERSATIONS)
def test_other_conversations_are_untouched(postgres_database: str, name: str) -> None:
    """A conversation that is neither doubled nor deleted nor incomplete keeps its row, its time of update included."""
    load_legacy(postgres_database, name)
    with psycopg.connect(postgres_database, autocommit=True) as connection:
        before = by_id(connection, CONVERSATIONS)
        migrate(postgres_database)
        after = by_id(connection, CONVERSATIONS)
    assert [after[key] for key in UNTOUCHED[name]] == [before[key] for key in UNTOUCHED[name]]


def test_a_cascade_takes_nothing_along(postgres_database: str) -> None:
    """Rows of a deployment's own table that refer to a merged conversation, with a cascade, are still there."""
    load_legacy(postgres_database, "uuid_ids")
    migrate(postgres_database)
    with psycopg.connect(postgres_database) as connection:
        assert connection.execute("select state from agent_states").fetchall() == [("asking",)]


def test_times_that_nobody_wrote_sort_as_the_oldest(postgres_database: str) -> None:
    """A message without a time gets its conversation's, at worst the epoch: never the place of the newest message."""
    load_legacy(postgres_database, "integer_ids")
    migrate(postgres_database)
    with psycopg.connect(postgres_database) as connection:
        found = connection.execute(
            "select extract(epoch from created_at)::int from chat_logs where message = 'no time'"
        )
        assert found.fetchone() == (0,)


def test_times_without_a_zone_are_universal(postgres_database: str) -> None:
    """Where times have no zone, the default that they lacked is the universal time, whatever zone a session is in."""
    load_legacy(postgres_database, "uuid_ids")
    migrate(postgres_database)
    with psycopg.connect(postgres_database, options="-c timezone=Asia/Tokyo") as connection:
        made = connection.execute(
            "insert into chat_logs (user_id) select id from users limit 1 returning created_at = timezone('utc', now())"
        )
        assert made.fetchone() == (True,)


def test_rows_that_point_nowhere_stay_but_no_new_ones_come(postgres_database: str) -> None:
    """A message of a vanished conversation stays readable, and a new one like it is refused."""
    load_legacy(postgres_database, "integer_ids")
    migrate(postgres_database)
    again: LiteralString = (
        "insert into chat_logs (user_id, sender, message, conversation_id)"
        " select user_id, sender, message, conversation_id from chat_logs where message = 'gone'"
    )
    with psycopg.connect(postgres_database) as connection, pytest.raises(psycopg.errors.ForeignKeyViolation):
        connection.execute(again)


def test_new_tables_follow_the_type_of_user_ids(postgres_database: str) -> None:
    """In a deployment that counts its users, tables that it lacked refer to them by integer."""
    load_legacy(postgres_database, "before_conversations")
    migrate(postgres_database)
    with psycopg.connect(postgres_database) as connection:
        types = column_types(connection)
    assert {types[table, "user_id"] for table in ("projects", "memos", "chat_conversations", "chat_logs")} == {
        "integer"
    }
