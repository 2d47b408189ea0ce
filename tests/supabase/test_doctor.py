"""What the doctor asks of a project, in the statements that PostgREST makes of it: no row is written, what lacks shows.

PostgREST itself does not run here: the statements are written by hand, after what version 12 sends to PostgreSQL.
"""

from collections.abc import Iterator
from typing import LiteralString

import psycopg
import pytest
from psycopg import sql

from app.ops.doctor.database import NO_COLUMN, NO_KEY, NO_RIGHT
from app.ops.doctor.needs import COLUMNS, KEYS, UniqueKey
from tests.supabase.migrations import row_versions

AS_SERVER = "set role service_role"


def insert_of_nothing(connection: psycopg.Connection, key: UniqueKey) -> sql.Composed:
    """Return the statement for `POST ?columns=&on_conflict=` with an empty list as its body."""
    types: dict[str, LiteralString] = dict(
        connection.execute(
            "select attname, format_type(atttypid, atttypmod) from pg_attribute where attrelid = %s::regclass",
            [f"public.{key.table}"],
        ).fetchall()
    )
    typed = [sql.SQL("{} {}").format(sql.Identifier(name), sql.SQL(types[name])) for name in key.columns]
    return sql.SQL(
        "insert into public.{table} ({names}) select {names} from json_to_recordset('[]'::json) as _ ({typed})"
        " on conflict ({names}) do nothing returning 1"
    ).format(
        table=sql.Identifier(key.table),
        names=sql.SQL(", ").join(map(sql.Identifier, key.columns)),
        typed=sql.SQL(", ").join(typed),
    )


@pytest.fixture
def connection(migrated: str) -> Iterator[psycopg.Connection]:
    with psycopg.connect(migrated, autocommit=True) as connection:
        yield connection


def refusal(connection: psycopg.Connection, statement: sql.SQL | sql.Composed) -> str | None:
    """Return the code with which the server's role is refused a statement, None when it is not."""
    with connection.transaction(force_rollback=True):
        connection.execute(AS_SERVER)
        try:
            with connection.transaction():
                connection.execute(statement)
        except psycopg.Error as exc:
            return exc.sqlstate
    return None


@pytest.mark.parametrize("key", KEYS, ids=lambda key: key.table)
def test_a_key_is_looked_for_though_nothing_is_inserted(connection: psycopg.Connection, key: UniqueKey) -> None:
    """With its key the insert of nothing is fine and writes nothing; without it, or the right, its code says so."""
    statement = insert_of_nothing(connection, key)
    before = row_versions(connection)
    assert refusal(connection, statement) is None
    assert row_versions(connection) == before
    connection.execute(sql.SQL("revoke insert on {} from service_role").format(sql.Identifier(key.table)))
    assert refusal(connection, statement) == NO_RIGHT
    connection.execute(sql.SQL("grant insert on {} to service_role").format(sql.Identifier(key.table)))
    if key.table != "users":
        connection.execute(sql.SQL("drop index {}").format(sql.Identifier(f"{key.table}_{'_'.join(key.columns)}_key")))
        assert refusal(connection, statement) == NO_KEY


def test_the_insert_of_nothing_is_an_insert(connection: psycopg.Connection) -> None:
    """A project's own trigger for each statement runs for it, one for each row does not; our tables have none such."""
    ours = "select tgname from pg_trigger where tgtype & 1 = 0 and not tgisinternal"
    assert connection.execute(ours).fetchall() == []
    connection.execute("create table told (level text)")
    connection.execute(
        "create function tell() returns trigger language plpgsql security definer as"
        " $$ begin insert into told values (tg_level); return null; end $$"
    )
    for level in (sql.SQL("row"), sql.SQL("statement")):
        trigger = "create trigger on_{0} after insert on chat_logs for each {0} execute function tell()"
        connection.execute(sql.SQL(trigger).format(level))
    (key,) = (key for key in KEYS if key.table == "chat_logs")
    connection.execute(insert_of_nothing(connection, key))
    assert connection.execute("select level from told").fetchall() == [("STATEMENT",)]


def test_every_column_is_there(connection: psycopg.Connection) -> None:
    """After the migrations each column that the doctor asks for can be read; one that is gone has its code."""
    for table, columns in COLUMNS.items():
        names = sql.SQL(", ").join(map(sql.Identifier, columns))
        assert refusal(connection, sql.SQL("select {} from {} limit 0").format(names, sql.Identifier(table))) is None
    assert refusal(connection, sql.SQL("select gone from chat_logs limit 0")) == NO_COLUMN
