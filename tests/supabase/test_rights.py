"""Who may do what by the tables' rights: the same on any fresh project, and never more than a deployment left."""

from typing import Any, LiteralString, get_args

import psycopg
import pytest
from psycopg import sql

from tests.supabase.migrations import (
    MIGRATIONS,
    Defaults,
    give_by_default,
    load_legacy,
    migrate,
    run_file,
    warnings_of,
)
from tests.supabase.two_users import PEOPLE, Role, act_as, inserting

VERBS = ("SELECT", "INSERT", "UPDATE", "DELETE")
TABLES = ("users", "user_id_mapping", "projects", "memos", "chat_conversations", "chat_logs")
USERS_OWN = {table: set(VERBS) if table in TABLES[2:] else {"SELECT"} for table in TABLES}
"""What `authenticated` is meant to have."""
THE_RIGHTS = next(path for path in MIGRATIONS if path.stem.endswith("_rights"))

# Every right that this version of PostgreSQL knows of tables: 17 has one more.
HELD: LiteralString = """
    select t.name, known.privilege_type
    from unnest(%s::text[]) t (name), aclexplode(acldefault('r', 10)) known
    where has_table_privilege(%s, 'public.' || t.name, known.privilege_type)
"""


def rights_of(connection: psycopg.Connection, role: Role) -> dict[str, set[str]]:
    """Return what a role may do with each of our tables, however it came by it."""
    held: dict[str, set[str]] = {table: set() for table in TABLES}
    for table, right in connection.execute(HELD, (list(TABLES), role)):
        held[table].add(right)
    return held


@pytest.mark.parametrize("defaults", get_args(Defaults))
def test_a_fresh_project_has_exact_rights(postgres_database: str, defaults: Defaults) -> None:
    """Whatever new tables come with, users have what policies allow, `anon` has nothing, and the server its verbs."""
    with psycopg.connect(postgres_database, autocommit=True) as connection:
        give_by_default(connection, defaults)
        migrate(postgres_database)
        assert rights_of(connection, "authenticated") == USERS_OWN
        assert rights_of(connection, "anon") == {table: set() for table in TABLES}
        assert all(rights >= set(VERBS) for rights in rights_of(connection, "service_role").values())


def say(connection: psycopg.Connection, role: Role) -> None:
    """Write a row of the first user's wherever rows are counted, as a request of that role; undo it."""
    person = PEOPLE["integer_ids"][0]
    rows: dict[str, dict[str, Any]] = {
        "projects": {"user_id": 1, "theme": "bees"},
        "memos": {"user_id": 1, "title": "seen"},
        "chat_logs": {
            "user_id": 1, "sender": "user", "message": "hi", "conversation_id": "00000000-0000-4000-8000-000000000002",
        },
    }  # fmt: skip
    with connection.transaction(force_rollback=True):
        connection.execute("insert into user_id_mapping values (%s, '1')", (person.auth_id,))
        act_as(connection, role, person)
        for table, row in rows.items():
            connection.execute(inserting(table, row), list(row.values()))


@pytest.mark.parametrize("role", ["service_role", "authenticated"])
@pytest.mark.parametrize("defaults", get_args(Defaults))
def test_rows_that_are_counted_can_be_written(postgres_database: str, defaults: Defaults, role: Role) -> None:
    """Where an older deployment counts its rows (`serial`), who may write a table may use its sequence."""
    load_legacy(postgres_database, "integer_ids", defaults)
    migrate(postgres_database)
    with psycopg.connect(postgres_database, autocommit=True) as connection:
        say(connection, role)


def test_sequences_of_the_servers_own_tables_stay_the_servers(postgres_database: str) -> None:
    """Users get no sequence of a table that they do not write."""
    load_legacy(postgres_database, "integer_ids", "none")
    migrate(postgres_database)
    with psycopg.connect(postgres_database) as connection:
        found = connection.execute(
            "select has_sequence_privilege('authenticated', 'users_id_seq', 'usage'),"
            " has_sequence_privilege('service_role', 'users_id_seq', 'usage')"
        )
        assert found.fetchone() == (False, True)


def test_the_schema_is_opened_with_the_tables(postgres_database: str) -> None:
    """On a fresh database whose schema is closed, both roles that have tables may use it, and `anon` may not."""
    with psycopg.connect(postgres_database, autocommit=True) as connection:
        connection.execute("revoke usage on schema public from public, anon, authenticated, service_role")
        migrate(postgres_database)
        open_to = connection.execute(
            "select has_schema_privilege('service_role', 'public', 'usage'),"
            " has_schema_privilege('authenticated', 'public', 'usage'), has_schema_privilege('anon', 'public', 'usage')"
        )
        assert open_to.fetchone() == (True, True, False)


TAKEN: dict[str, tuple[LiteralString, dict[str, set[str]]]] = {
    "a verb": ("revoke insert, delete on chat_logs from authenticated", {"chat_logs": {"SELECT", "UPDATE"}}),
    "a table": ("revoke all on chat_logs from authenticated", {"chat_logs": set()}),
    "verbs, and all from the server": (
        "revoke insert, update, delete on chat_logs from authenticated; revoke all on chat_logs from service_role",
        {"chat_logs": {"SELECT"}},
    ),
    "all of them": (
        "revoke all on all tables in schema public from authenticated",
        {"users": set(), "projects": set(), "memos": set(), "chat_conversations": set(), "chat_logs": set()},
    ),
}


@pytest.mark.parametrize("name", TAKEN)
def test_what_a_deployment_took_from_its_users_stays_taken(postgres_database: str, name: str) -> None:
    """What `authenticated` may not do where the server may is left so, twice, and named in a warning."""
    statement, left = TAKEN[name]
    load_legacy(postgres_database, "integer_ids")
    with psycopg.connect(postgres_database, autocommit=True) as connection:
        connection.execute(sql.SQL(statement))
        migrate(postgres_database)
        warnings = warnings_of(connection)
        run_file(connection, THE_RIGHTS)
        assert rights_of(connection, "authenticated") == USERS_OWN | left
    lacking = {
        table: ", ".join(verb.lower() for verb in VERBS if verb in USERS_OWN[table] - left[table]) for table in left
    }
    wanted = {f"authenticated has no right to {verbs} on {table}: left so" for table, verbs in lacking.items()}
    assert sorted(warnings) == sorted(wanted)


def test_rights_taken_later_stay_taken(migrated: str) -> None:
    """What is taken from users after the migrations is not given back by a second run."""
    with psycopg.connect(migrated, autocommit=True) as connection:
        connection.execute("revoke all on chat_logs, user_id_mapping from authenticated")
        migrate(migrated)
        assert rights_of(connection, "authenticated") == USERS_OWN | {"chat_logs": set(), "user_id_mapping": set()}


def test_rights_to_single_columns_stay(postgres_database: str) -> None:
    """A deployment that lets its users read or change some columns alone goes on to, and no others are opened."""
    load_legacy(postgres_database, "integer_ids")
    with psycopg.connect(postgres_database, autocommit=True) as connection:
        connection.execute("revoke all on users, memos from authenticated")
        connection.execute("grant select (id), update (username) on users to authenticated")
        connection.execute("grant select, update (title) on memos to authenticated")
        migrate(postgres_database)
        found = connection.execute(
            "select attrelid::regclass::text, attname, array_agg(lower(privilege_type))"
            " from pg_attribute, aclexplode(attacl) where grantee = 'authenticated'::regrole"
            " group by 1, 2 order by 1, 2"
        ).fetchall()
        assert found == [("memos", "title", ["update"]), ("users", "id", ["select"])]
        assert rights_of(connection, "authenticated")["memos"] == {"SELECT"}


def test_no_right_comes_before_the_policies(postgres_database: str) -> None:
    """Where row-level security was turned off again, rights alone are not given: they would open the table to all."""
    migrate(postgres_database)
    with psycopg.connect(postgres_database, autocommit=True) as connection:
        connection.execute("revoke all on memos from service_role, authenticated")
        connection.execute("alter table memos disable row level security")
        with pytest.raises(psycopg.errors.RaiseException, match="memos"):
            run_file(connection, THE_RIGHTS)
        assert rights_of(connection, "authenticated")["memos"] == set()
