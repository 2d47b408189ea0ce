"""Row-level security where a deployment has something already: its own policies, views, or none of Supabase's roles."""

from typing import LiteralString

import psycopg
import pytest
from psycopg import sql

from tests.supabase.migrations import MIGRATIONS, load_legacy, migrate, run_file, warnings_of

THE_POLICIES = next(path for path in MIGRATIONS if path.stem.endswith("row_level_security"))


def test_a_policy_of_the_same_name_is_replaced(postgres_database: str) -> None:
    """A policy that has a name of ours, and opens the table to all, is replaced; one of another name is named."""
    load_legacy(postgres_database, "integer_ids")
    with psycopg.connect(postgres_database, autocommit=True) as connection:
        connection.execute("create policy own_select on chat_logs for select using (true)")
        connection.execute("create policy anyone on projects for select using (true)")
        migrate(postgres_database)
        warnings = warnings_of(connection)
        run_file(connection, THE_POLICIES)
        kept = connection.execute(
            "select policyname, qual from pg_policies where policyname in ('own_select', 'anyone')"
        )
        opened = [name for name, qual in kept if qual == "true"]
    assert opened == ["anyone"]
    assert warnings == ['policy "anyone" on projects is not ours and stays: what it allows is allowed']


def test_a_view_that_reads_past_the_policies_is_named(postgres_database: str) -> None:
    """A view with its owner's rights is warned of; one with the reader's is not."""
    load_legacy(postgres_database, "uuid_ids")
    with psycopg.connect(postgres_database, autocommit=True) as connection:
        migrate(postgres_database)
        warnings = warnings_of(connection)
        run_file(connection, THE_POLICIES)
        connection.execute("alter view recent_logs set (security_invoker = on)")
        run_file(connection, THE_POLICIES)
    assert warnings == ["view recent_logs reads as its owner, past row-level security"]


def test_a_materialized_view_gets_advice_that_works(postgres_database: str) -> None:
    """A materialized view is warned of; the statement in the hint is PostgreSQL's, and takes it from whoever asks."""
    migrate(postgres_database)
    with psycopg.connect(postgres_database, autocommit=True) as connection:
        connection.execute("create materialized view digest as select user_id, count(*) from chat_logs group by 1")
        connection.execute("grant select on digest to authenticated")
        hints: list[str] = []
        connection.add_notice_handler(lambda notice: hints.append(notice.message_hint or ""))
        warnings = warnings_of(connection)
        run_file(connection, THE_POLICIES)
        connection.execute(sql.SQL(hints[-1].partition(": ")[2].rstrip(".")))
        held = connection.execute("select has_table_privilege('authenticated', 'digest', 'select')").fetchone()
    assert warnings == ["materialized view digest holds rows of everybody, and row-level security does not hold it"]
    assert held == (False,)


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        ("drop function auth.uid()", "auth.uid"),
        ("alter role service_role nobypassrls", "held to the policies"),
    ],
)
def test_a_database_that_is_not_supabases_is_refused(
    postgres_database: str, spoil: LiteralString, sentence: str
) -> None:
    """Without `auth.uid()`, or with a service role that policies would hold, the migration stops and says why."""
    with psycopg.connect(postgres_database) as connection:
        for path in MIGRATIONS[: MIGRATIONS.index(THE_POLICIES)]:
            run_file(connection, path)
        connection.execute(sql.SQL(spoil))
        with pytest.raises(psycopg.errors.RaiseException, match=sentence):
            run_file(connection, THE_POLICIES)
        connection.rollback()
