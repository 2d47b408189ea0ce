"""Row-level security on a real PostgreSQL: of two users neither reads nor writes what is the other's, in any table."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, Literal, LiteralString

import psycopg
import pytest
from psycopg import sql

from tests.supabase.conftest import new_database
from tests.supabase.migrations import migrate
from tests.supabase.two_users import (
    KINDS,
    UNPROTECTED,
    House,
    Kind,
    Person,
    act_as,
    acting,
    build_house,
    inserting,
    key_of,
    owner_of,
    rows_of,
)

Outcome = Literal["done", "nothing", "refused"]
SERVICE_ONLY = {"users", "user_id_mapping"}
"""What nobody else writes."""


@pytest.fixture(scope="module")
def houses(postgres_cluster: Path) -> Mapping[Kind, House]:
    """A house of each kind; the fresh schema's catalogue says which tables are ours."""
    fresh = build_house(new_database(postgres_cluster), "text")
    built: dict[Kind, House] = {"text": fresh}
    for kind in KINDS[1:]:
        built[kind] = build_house(new_database(postgres_cluster), kind, fresh.tables)
    return built


@pytest.fixture(params=KINDS)
def house(houses: Mapping[Kind, House], request: pytest.FixtureRequest) -> House:
    kind: Kind = request.param
    return houses[kind]


Statement = tuple[sql.SQL | sql.Composed, list[Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Deed:
    """What a signed-in user tries in a table; what comes of it there, and where only the service role writes."""

    statement: Callable[[House, str], Statement]
    outcome: Outcome
    service_only: Outcome = "refused"


def _selecting(whose: str) -> Callable[[House, str], Statement]:
    def statement(house: House, table: str) -> Statement:
        query = sql.SQL("select * from {} where {} = %s").format(*_names(table, key_of(table)))
        return query, [house.keys[table, _person(house, whose)]]

    return statement


def _inserting(whose: str) -> Callable[[House, str], Statement]:
    def statement(house: House, table: str) -> Statement:
        row = house.new_row(table, _person(house, whose))
        return inserting(table, row), list(row.values())

    return statement


def _inserting_over_the_others(house: House, table: str) -> Statement:
    """Return an upsert of a row of mine whose key is the other's."""
    row = house.new_row(table, house.me) | {key_of(table): house.keys[table, house.other]}
    update = sql.SQL("{} on conflict ({}) do update set {} = excluded.{}").format(
        inserting(table, row), *map(sql.Identifier, (key_of(table), owner_of(table), owner_of(table)))
    )
    return update, list(row.values())


def _updating(whose: str, to: str) -> Callable[[House, str], Statement]:
    """Return what sets the owner of a row of `whose`; to its own one, nothing moves."""

    def statement(house: House, table: str) -> Statement:
        query = sql.SQL("update {} set {} = %s where {} = %s").format(*_names(table, owner_of(table), key_of(table)))
        return query, [_person(house, to).owns(table), house.keys[table, _person(house, whose)]]

    return statement


def _giving_all_away(house: House, table: str) -> Statement:
    """Return a move of all rows that reads none: what may be seen has no say in it, only what may be written."""
    return sql.SQL("update {} set {} = %s").format(*_names(table, owner_of(table))), [house.other.owns(table)]


def _deleting(whose: str) -> Callable[[House, str], Statement]:
    def statement(house: House, table: str) -> Statement:
        query = sql.SQL("delete from {} where {} = %s").format(*_names(table, key_of(table)))
        return query, [house.keys[table, _person(house, whose)]]

    return statement


def _names(table: str, *columns: str) -> list[sql.Identifier]:
    return [sql.Identifier("public", table), *map(sql.Identifier, columns)]


def _person(house: House, whose: str) -> Person:
    return house.me if whose == "own" else house.other


DEEDS = {
    "select own": Deed(statement=_selecting("own"), outcome="done", service_only="done"),
    "select the other's": Deed(statement=_selecting("other"), outcome="nothing", service_only="nothing"),
    "insert own": Deed(statement=_inserting("own"), outcome="done"),
    "insert as the other": Deed(statement=_inserting("other"), outcome="refused"),
    "insert over the other's": Deed(statement=_inserting_over_the_others, outcome="refused"),
    "update own": Deed(statement=_updating("own", "own"), outcome="done"),
    "update the other's": Deed(statement=_updating("other", "other"), outcome="nothing"),
    "move own to the other": Deed(statement=_updating("own", "other"), outcome="refused"),
    "give all to the other": Deed(statement=_giving_all_away, outcome="refused"),
    "take the other's": Deed(statement=_updating("other", "own"), outcome="nothing"),
    "delete own": Deed(statement=_deleting("own"), outcome="done"),
    "delete the other's": Deed(statement=_deleting("other"), outcome="nothing"),
}


def outcome_of(connection: psycopg.Connection, statement: Statement) -> Outcome:
    """Execute and return what came of it; only a lack of rights counts as a refusal."""
    try:
        with connection.transaction():
            return "done" if connection.execute(*statement).rowcount else "nothing"
    except psycopg.errors.InsufficientPrivilege:
        return "refused"


@pytest.mark.parametrize("name", DEEDS)
def test_a_user_does_to_own_rows_only(house: House, name: str) -> None:
    """In every table of the catalogue each verb works on the caller's own rows, and leaves the other's as they are."""
    found, wanted, before, after = {}, {}, {}, {}
    with psycopg.connect(house.conninfo) as connection:
        for table in house.tables:
            before[table] = rows_of(connection, house, house.other)
            act_as(connection, "authenticated", house.me)
            found[table] = outcome_of(connection, DEEDS[name].statement(house, table))
            connection.execute("reset role")
            after[table] = rows_of(connection, house, house.other)
            connection.rollback()
            wanted[table] = DEEDS[name].service_only if table in SERVICE_ONLY else DEEDS[name].outcome
    assert found == wanted
    assert after == before


@pytest.mark.parametrize("whose", ["me", "other"])
def test_a_look_at_everything_shows_what_is_own(house: House, whose: str) -> None:
    """Without any filter a user reads exactly the rows that are theirs, in every table, whichever of the two it is."""
    person: Person = getattr(house, whose)
    with psycopg.connect(house.conninfo) as connection:
        everything = rows_of(connection, house, person)
        act_as(connection, "authenticated", person)
        seen = [
            row
            for table in house.tables
            for row in connection.execute(
                sql.SQL("select {}, to_jsonb(t) from {} t order by 2").format(table, *_names(table))
            )
        ]
    assert {table for table, _row in everything} == set(house.tables)
    assert seen == everything


@pytest.mark.parametrize("verb", ["update", "delete"])
def test_a_write_to_everything_meets_what_is_own(house: House, verb: str) -> None:
    """Without any filter a write by a user reaches as many rows as they own, none of them the other's."""
    for table in ("chat_logs", "memos", "projects"):
        with psycopg.connect(house.conninfo) as connection:
            before = rows_of(connection, house, house.other)
            own = sum(name == table for name, _row in rows_of(connection, house, house.me))
            act_as(connection, "authenticated", house.me)
            if verb == "delete":
                connection.execute("update memos set project_id = null")
            template: LiteralString = "delete from {}" if verb == "delete" else "update {} set user_id = user_id"
            assert connection.execute(sql.SQL(template).format(*_names(table))).rowcount == own
            connection.execute("reset role")
            assert rows_of(connection, house, house.other) == before
            connection.rollback()


@pytest.mark.parametrize("person", ["nobody", "me"])
def test_anon_gets_nothing(house: House, person: str) -> None:
    """Without a token, or with one that still says `anon`, every verb is refused in every table."""
    sub = house.me if person == "me" else None
    with acting(house, "anon", sub) as connection:
        for table, name in product(house.tables, DEEDS):
            assert outcome_of(connection, DEEDS[name].statement(house, table)) == "refused", (table, name)


def test_a_token_of_nobody_gets_nothing(house: House) -> None:
    """A signed-in user without rows sees none, in any table."""
    stranger = Person(auth_id="eeeeeeee-0000-4000-8000-000000000009", user_id="9")
    for person in (stranger, None):
        with acting(house, "authenticated", person) as connection:
            for table in house.tables:
                query = sql.SQL("select * from {}").format(*_names(table))
                assert connection.execute(query).fetchall() == [], table


def test_the_service_role_sees_and_writes_everything(house: House) -> None:
    """The server's own role reads and writes both users' rows in every table."""
    held = {"insert own", "insert as the other", "insert over the other's", "delete own", "give all to the other"}
    with psycopg.connect(house.conninfo) as connection:
        for table, name in product(house.tables, DEEDS.keys() - held):
            if table not in SERVICE_ONLY or name.startswith("select"):
                act_as(connection, "service_role")
                assert outcome_of(connection, DEEDS[name].statement(house, table)) == "done", (table, name)
                connection.rollback()
    with acting(house, "service_role") as connection:
        row = house.new_row("user_id_mapping", house.other)
        assert outcome_of(connection, (inserting("user_id_mapping", row), list(row.values()))) == "done"


def test_nobody_is_mapped_to_the_other(house: House) -> None:
    """A user cannot become another one by a mapping of their own, nor by changing the one they have."""
    become = "insert into user_id_mapping (auth_id, user_id) values (%s, %s)"
    change = "update user_id_mapping set user_id = %s where auth_id = %s"
    with acting(house, "authenticated", house.me) as connection:
        assert outcome_of(connection, (sql.SQL(become), [house.me.auth_id, house.other.user_id])) == "refused"
        assert outcome_of(connection, (sql.SQL(change), [house.other.user_id, house.me.auth_id])) == "refused"


SAY = "insert into chat_logs (user_id, sender, message, conversation_id) values (%s, 'user', 'hi', %s)"
MOVE = "update chat_logs set conversation_id = %s where id = %s"


def test_a_message_goes_into_own_conversations_only(house: House) -> None:
    """A message of one's own is neither written into the other's conversation nor moved there, nor left in none."""
    mine, others = house.talks[house.me], house.talks[house.other]
    message = house.keys["chat_logs", house.me]
    with acting(house, "authenticated", house.me) as connection:
        said = [outcome_of(connection, (sql.SQL(SAY), [house.me.user_id, talk])) for talk in (mine, others, None)]
        moved = [outcome_of(connection, (sql.SQL(MOVE), [talk, message])) for talk in (mine, others)]
    assert said == ["done", "refused", "refused"]
    assert moved == ["done", "refused"]


def test_a_deployments_own_columns_do_not_change_a_policy(postgres_database: str) -> None:
    """Where conversations have a `conversation_id` of their own, a message still goes into own conversations only."""
    house = build_house(postgres_database, "text")
    with psycopg.connect(postgres_database, autocommit=True) as connection:
        connection.execute("alter table chat_conversations add conversation_id uuid generated always as (id) stored")
    migrate(postgres_database)
    with acting(house, "authenticated", house.me) as connection:
        said = [
            outcome_of(connection, (sql.SQL(SAY), [house.me.user_id, talk]))
            for talk in (house.talks[house.me], house.talks[house.other])
        ]
    assert said == ["done", "refused"]


def test_a_memo_is_hung_on_own_projects_only(house: House) -> None:
    """A memo of one's own is neither made under the other's project nor moved there: it would hold that in place."""
    mine, others = house.keys["projects", house.me], house.keys["projects", house.other]
    memo = house.keys["memos", house.me]
    make = "insert into memos (user_id, title, project_id) values (%s, 't', %s)"
    move = "update memos set project_id = %s where id = %s"
    with acting(house, "authenticated", house.me) as connection:
        made = [outcome_of(connection, (sql.SQL(make), [house.me.user_id, of])) for of in (mine, others, None)]
        moved = [outcome_of(connection, (sql.SQL(move), [of, memo])) for of in (mine, others)]
    assert (made, moved) == (["done", "refused", "done"], ["done", "refused"])


def test_rows_that_hang_on_nothing_stay_their_users(houses: Mapping[Kind, House]) -> None:
    """An older message without a conversation, or of one that is gone, is still read and changed by its user."""
    house = houses["integer_ids"]
    with acting(house, "authenticated", house.me) as connection:
        changed = connection.execute(
            "update chat_logs set message = 'mine' where message in ('gone', 'before conversations')"
        )
        assert changed.rowcount == 3
        assert connection.execute("update memos set title = 'x' where project_id = 99").rowcount == 1


def test_a_table_without_policies_is_found(houses: Mapping[Kind, House]) -> None:
    """Every table has policies; a new one without is found by the catalogue, and has no row in the matrix."""
    house = houses["text"]
    with psycopg.connect(house.conninfo) as connection:
        assert connection.execute(UNPROTECTED).fetchall() == []
        connection.execute("create table notes (id int primary key, user_id text)")
        assert connection.execute(UNPROTECTED).fetchall() == [("notes",)]
        connection.rollback()
    with pytest.raises(KeyError):
        house.new_row("notes", house.me)


def test_each_table_has_a_policy_for_each_verb_that_users_have(houses: Mapping[Kind, House]) -> None:
    """Policies are for `authenticated` alone; `users` and `user_id_mapping` have one for reading and none besides."""
    house = houses["text"]
    with psycopg.connect(house.conninfo) as connection:
        found = set(connection.execute("select tablename, cmd, roles::text from pg_policies").fetchall())
    wanted = set(product(house.tables, ("SELECT",)))
    wanted |= set(product(set(house.tables) - SERVICE_ONLY, ("INSERT", "UPDATE", "DELETE")))
    assert found == {(table, verb, "{authenticated}") for table, verb in wanted}


@pytest.fixture(scope="module")
def busy_house(postgres_cluster: Path) -> House:
    """A house in which one has 2,000 messages, in a database that counts how often it is asked who the caller is."""
    house = build_house(new_database(postgres_cluster), "text")
    with psycopg.connect(house.conninfo) as connection:
        connection.execute("create sequence auth.asked; grant usage on sequence auth.asked to authenticated")
        connection.execute(
            "create or replace function auth.uid() returns uuid language sql volatile as $$ select"
            " (current_setting('request.jwt.claims')::jsonb ->> 'sub')::uuid from (select nextval('auth.asked')) n $$"
        )
        connection.execute(
            "insert into chat_logs (user_id, sender, message, conversation_id, created_at)"
            " select %s, 'user', 'x', %s, now() + n * interval '1 second' from generate_series(1, 2000) n",
            (house.me.user_id, house.talks[house.me]),
        )
        connection.execute("analyze")
    return house


@pytest.fixture
def counting(busy_house: House) -> Iterator[psycopg.Connection]:
    """A connection of the one with the messages."""
    with acting(busy_house, "authenticated", busy_house.me) as connection:
        yield connection


def test_the_caller_is_asked_for_once_per_statement(counting: psycopg.Connection) -> None:
    """Reading thousands of rows asks who the caller is as often as reading one: twice, in one initplan."""
    counts = []
    for query in ("select * from chat_logs limit 1", "select * from chat_logs"):
        counting.execute("reset role")
        counting.execute("alter sequence auth.asked restart")
        counting.execute("set local role authenticated")
        assert counting.execute(sql.SQL(query)).rowcount in (1, 2001)
        counting.execute("reset role")
        counts.append(counting.execute("select last_value from auth.asked").fetchone())
        counting.execute("set local role authenticated")
    assert counts == [(2,), (2,)]


HISTORY: LiteralString = """
    explain (costs off) select c.id, recent.* from chat_conversations c left join lateral (
      select id, message from chat_logs l where l.conversation_id = c.id order by created_at desc, id desc limit 20
    ) recent on true where c.user_id = %s and c.page_id = 'general'
"""


def test_the_policy_is_an_initplan(
    counting: psycopg.Connection,
) -> None:
    """The plan of our own read has one initplan per table for the policy, none per row, and keeps its indexes."""
    counting.execute("set local enable_seqscan = off")
    plan = [str(line) for (line,) in counting.execute(HISTORY, ("cccccccc-0000-4000-8000-000000000001",))]
    text = "\n".join(plan)
    assert sum("InitPlan" in line for line in plan) == 2, text
    assert "SubPlan" not in text
    assert not any("own_user_ids" in line and "Filter" in line for line in plan), text
    assert "chat_logs_conversation_id_created_at_id_idx" in text
    assert "chat_conversations_user_id_page_id_key" in text
    assert "Sort" not in text


def test_the_mapping_is_found_by_an_index(houses: Mapping[Kind, House]) -> None:
    """Whatever the type of `auth_id`, the caller's mapping is looked up by an index, not read through."""
    for kind in KINDS:
        with psycopg.connect(houses[kind].conninfo) as connection:
            connection.execute("set local enable_seqscan = off")
            lines = connection.execute("explain select user_id from user_id_mapping where auth_id::text = 'x'")
            assert any("Index Cond" in str(line) for (line,) in lines), kind
