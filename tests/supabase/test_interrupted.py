"""Migrations that are refused a lock, meet a broken index, or are applied statement by statement."""

import subprocess

import psycopg
import pytest

from tests.needs import need_program
from tests.supabase.migrations import LEGACY, MIGRATIONS, catalog, load_legacy, migrate, row_versions, run_file

NAMES = [path.stem for path in MIGRATIONS]
THAT_LOCK = [name for name in NAMES if not name.endswith(("_tables", "_validate_keys", "_rights", "_titles"))]


@pytest.mark.parametrize("name", THAT_LOCK)
def test_a_lock_not_granted_leaves_nothing_half_done(postgres_database: str, name: str) -> None:
    """A migration that does not get its lock in time changes nothing, and works once the lock is free."""
    load_legacy(postgres_database, "integer_ids")
    position = NAMES.index(name)
    with psycopg.connect(postgres_database, autocommit=True, options="-c lock_timeout=50ms") as connection:
        for path in MIGRATIONS[:position]:
            run_file(connection, path)
        before = catalog(connection), row_versions(connection)
        with psycopg.connect(postgres_database) as writer:
            writer.execute("lock table chat_logs, chat_conversations in row exclusive mode")
            with pytest.raises(psycopg.errors.LockNotAvailable):
                run_file(connection, MIGRATIONS[position])
        assert (catalog(connection), row_versions(connection)) == before
        run_file(connection, MIGRATIONS[position])


def test_a_merge_without_its_key_is_no_merge(postgres_database: str) -> None:
    """Where an interrupted build left the key invalid, the merge says so and is undone; without it, it succeeds."""
    load_legacy(postgres_database, "integer_ids")
    with psycopg.connect(postgres_database, autocommit=True) as connection:
        for path in MIGRATIONS[:2]:
            run_file(connection, path)
        with pytest.raises(psycopg.errors.UniqueViolation):
            connection.execute(
                "create unique index concurrently chat_conversations_user_id_page_id_key"
                " on chat_conversations (user_id, page_id)"
            )
        before = row_versions(connection)
        with pytest.raises(
            psycopg.errors.RaiseException, match="chat_conversations_user_id_page_id_key was left invalid"
        ):
            run_file(connection, MIGRATIONS[2])
        assert row_versions(connection) == before
        connection.execute("drop index chat_conversations_user_id_page_id_key")
        run_file(connection, MIGRATIONS[2])


def test_an_invalid_turn_key_is_refused(migrated: str) -> None:
    """Where an interrupted build left the turns' key invalid, the migration names it."""
    with psycopg.connect(migrated, autocommit=True) as connection:
        connection.execute("drop index chat_logs_turn_id_sender_key")
        connection.execute("insert into users (id) values ('u')")
        connection.execute(
            "insert into chat_logs (user_id, sender, message, turn_id)"
            " select 'u', 'user', '', 'cccccccc-0000-4000-8000-000000000001' from generate_series(1, 2)"
        )
        with pytest.raises(psycopg.errors.UniqueViolation):
            connection.execute(
                "create unique index concurrently chat_logs_turn_id_sender_key on chat_logs (turn_id, sender)"
            )
        with pytest.raises(psycopg.errors.RaiseException, match="chat_logs_turn_id_sender_key was left invalid"):
            run_file(connection, MIGRATIONS[3])


@pytest.mark.parametrize("name", LEGACY)
def test_statement_by_statement_comes_to_the_same(postgres_database: str, name: str) -> None:
    """Applied with psql, where each statement commits alone, the files leave a run in transactions nothing to do."""
    psql = need_program("psql", "apt-get install postgresql", "/usr/lib/postgresql/*/bin")
    load_legacy(postgres_database, name)
    files = [argument for path in MIGRATIONS for argument in ("-f", str(path))]
    subprocess.run(
        [psql, "-X", "-q", "-v", "ON_ERROR_STOP=1", *files, postgres_database], check=True, capture_output=True
    )
    with psycopg.connect(postgres_database, autocommit=True) as connection:
        before = catalog(connection), row_versions(connection)
        migrate(postgres_database)
        assert (catalog(connection), row_versions(connection)) == before
