"""Two users with rows of their own in every table of ours, and requests made as PostgREST makes them."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, LiteralString
from uuid import uuid4

import psycopg
from psycopg import sql

from tests.supabase.migrations import TABLES, load_legacy, migrate

Kind = Literal["text", "uuid_ids", "integer_ids"]
KINDS: tuple[Kind, ...] = ("text", "uuid_ids", "integer_ids")
"""Of user ids: the fresh schema's, and those of the deployments that an older back end left."""
Role = Literal["anon", "authenticated", "service_role"]

OWNERS = {"users": "id", "user_id_mapping": "auth_id"}
"""The column that tells whose a row is, and where that is not `user_id`."""
KEYS = {"user_id_mapping": "auth_id"}
UNPROTECTED: LiteralString = """
    select relname from pg_class
    where relnamespace = 'public'::regnamespace and relkind in ('r', 'p')
      and not (relrowsecurity and exists (select from pg_policy where polrelid = pg_class.oid))
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """A user: who they are to Supabase Auth, and who they are in our tables."""

    auth_id: str
    user_id: str

    def owns(self, table: str) -> str:
        """Return what stands in a table's owner column for this user."""
        return self.auth_id if table == "user_id_mapping" else self.user_id


PEOPLE: Mapping[Kind, tuple[Person, Person]] = {
    "text": (
        Person(auth_id="cccccccc-0000-4000-8000-000000000001", user_id="cccccccc-0000-4000-8000-000000000001"),
        Person(auth_id="cccccccc-0000-4000-8000-000000000002", user_id="cccccccc-0000-4000-8000-000000000002"),
    ),
    "uuid_ids": (
        Person(auth_id="bbbbbbbb-0000-4000-8000-000000000001", user_id="aaaaaaaa-0000-4000-8000-000000000001"),
        Person(auth_id="aaaaaaaa-0000-4000-8000-000000000002", user_id="aaaaaaaa-0000-4000-8000-000000000002"),
    ),
    "integer_ids": (
        Person(auth_id="dddddddd-0000-4000-8000-000000000001", user_id="1"),
        Person(auth_id="dddddddd-0000-4000-8000-000000000002", user_id="2"),
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class House:
    """A migrated database in which both live. `talks` holds a conversation of each, with a message in it."""

    conninfo: str
    tables: tuple[str, ...]
    me: Person
    other: Person
    talks: Mapping[Person, str]
    keys: Mapping[tuple[str, Person], str]

    def new_row(self, table: str, of: Person) -> dict[str, Any]:
        """Return the columns of another row of a user's; a table that is not known here is a `KeyError`."""
        return NEW_ROWS[table](self, of)


NEW_ROWS: dict[str, Callable[[House, Person], dict[str, Any]]] = {
    "users": lambda house, of: {"id": of.user_id},
    "user_id_mapping": lambda house, of: {"auth_id": str(uuid4()), "user_id": of.user_id},
    "projects": lambda house, of: {"user_id": of.user_id, "theme": "bees"},
    "memos": lambda house, of: {"user_id": of.user_id, "title": "seen"},
    "chat_conversations": lambda house, of: {"user_id": of.user_id, "title": "talk"},
    "chat_logs": lambda house, of: {
        "user_id": of.user_id, "sender": "user", "message": "hello", "conversation_id": house.talks[of],
    },
}  # fmt: skip


def build_house(conninfo: str, kind: Kind, tables: Sequence[str] = ()) -> House:
    """Migrate an empty database, or a legacy one, and give both users a row in every table.

    Args:
        conninfo: of the empty database.
        kind: of user ids.
        tables: those that are ours; those of a fresh schema when none are given.
    """
    if kind != "text":
        load_legacy(conninfo, kind)
    migrate(conninfo)
    me, other = PEOPLE[kind]
    with psycopg.connect(conninfo, autocommit=True) as connection:
        found = tuple(tables) or tuple(sorted(str(name) for (name,) in connection.execute(TABLES)))
        for person in (me, other):
            _settle(connection, kind, person)
        talks = {
            person: _insert(connection, "chat_conversations", {"user_id": person.user_id}) for person in (me, other)
        }
        house = House(conninfo=conninfo, tables=found, me=me, other=other, talks=talks, keys={})
        keys = {
            (table, person): _own_row(connection, house, table, person) for table in found for person in (me, other)
        }
    return House(conninfo=conninfo, tables=found, me=me, other=other, talks=talks, keys=keys)


def _settle(connection: psycopg.Connection, kind: Kind, person: Person) -> None:
    if kind == "text":
        connection.execute("insert into users (id) values (%s)", (person.user_id,))
    connection.execute(
        "insert into user_id_mapping (auth_id, user_id) values (%s, %s) on conflict do nothing",
        (person.auth_id, person.user_id),
    )


def _own_row(connection: psycopg.Connection, house: House, table: str, person: Person) -> str:
    if table in OWNERS:
        return person.owns(table)
    return _insert(connection, table, house.new_row(table, person))


def _insert(connection: psycopg.Connection, table: str, row: Mapping[str, Any]) -> str:
    query = sql.SQL("{} returning id::text").format(inserting(table, row))
    found = connection.execute(query, list(row.values())).fetchone()
    assert found is not None
    return str(found[0])


def inserting(table: str, row: Mapping[str, Any]) -> sql.Composed:
    """Return the statement that inserts a row, with a placeholder for each value."""
    return sql.SQL("insert into {} ({}) values ({})").format(
        sql.Identifier("public", table),
        sql.SQL(", ").join(map(sql.Identifier, row)),
        sql.SQL(", ").join(sql.Placeholder() * len(row)),
    )


def key_of(table: str) -> str:
    """Return the name of a table's primary key."""
    return KEYS.get(table, "id")


def owner_of(table: str) -> str:
    """Return the column that tells whose a row is."""
    return OWNERS.get(table, "user_id")


def act_as(connection: psycopg.Connection, role: Role, person: Person | None = None) -> None:
    """Go on with the transaction as PostgREST does with a request of that role, and with a token of that user's."""
    claims = {"role": role} | ({"sub": person.auth_id, "aud": "authenticated"} if person else {})
    connection.execute(sql.SQL("set local role {}").format(sql.Identifier(role)))
    connection.execute("select set_config('request.jwt.claims', %s, true)", (json.dumps(claims),))


@contextmanager
def acting(house: House, role: Role, person: Person | None = None) -> Iterator[psycopg.Connection]:
    """Give a connection whose transaction is such a request's, and is undone afterwards."""
    with psycopg.connect(house.conninfo) as connection:
        act_as(connection, role, person)
        yield connection
        connection.rollback()


def rows_of(connection: psycopg.Connection, house: House, person: Person) -> list[tuple[Any, ...]]:
    """Return all that a user has, in every table of ours; for a connection that sees everything."""
    found: list[tuple[Any, ...]] = []
    for table in house.tables:
        query = sql.SQL("select {}, to_jsonb(t) from {} t where {}::text = %s order by 2").format(
            table, sql.Identifier("public", table), sql.Identifier(owner_of(table))
        )
        found += connection.execute(query, (person.owns(table),)).fetchall()
    return found
