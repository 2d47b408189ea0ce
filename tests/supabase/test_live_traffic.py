"""The migrations while people chat: nobody is refused for it, and a migration that finds no gap says so."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from threading import Event
from typing import LiteralString

import psycopg
import pytest

from tests.supabase.migrations import MIGRATIONS, catalog, run_file

TALKS: LiteralString = (
    "select c.title, l.message from chat_conversations c join chat_logs l on l.conversation_id = c.id"
)
SAY: LiteralString = """
    insert into chat_logs (user_id, sender, message, conversation_id)
    select user_id, 'user', 'hello', id from chat_conversations where title = %s
"""
THE_POLICIES, THE_RIGHTS = (
    next(path for path in MIGRATIONS if path.stem.endswith(name)) for name in ("_row_level_security", "_rights")
)
PLENTY = 30
"""Times that everybody got on before the migrations begin."""


@pytest.fixture
def chat(migrated: str) -> str:
    """The conninfo of a migrated database with a user's conversations, in which deadlocks are found at once."""
    with psycopg.connect(migrated, autocommit=True) as connection:
        connection.execute("insert into users (id) values ('u')")
        connection.execute("insert into chat_conversations (user_id, title) select 'u', n from generate_series(0, 4) n")
    return f"{migrated} options='-c deadlock_timeout=10ms -c statement_timeout=30s'"


def talk(conninfo: str, title: str, enough: Event, busy: Event) -> int:
    """Say something, and make a project, each a transaction as with PostgREST, until told that it is enough."""
    said = 0
    with psycopg.connect(conninfo, autocommit=True) as connection:
        while not enough.is_set():
            connection.execute(SAY, (title,))
            connection.execute("insert into projects (user_id) values ('u')")
            said += 1
            if said == PLENTY:
                busy.set()
    return said


def listen(conninfo: str, title: str, enough: Event, busy: Event) -> int:
    """Read the conversation, and what else there is, until told that it is enough."""
    heard = 0
    with psycopg.connect(conninfo, autocommit=True) as connection:
        while not enough.is_set():
            connection.execute("select from users, user_id_mapping")
            connection.execute(f"{TALKS} where c.title = %s order by l.id desc limit 20", (title,))
            heard += 1
            if heard == PLENTY:
                busy.set()
    return heard


@contextmanager
def conversing(conninfo: str) -> Iterator[None]:
    """Have three talk, each in a conversation, and two listen meanwhile; whoever fails, fails the test in the end."""
    roles: list[Callable[[str, str, Event, Event], int]] = [talk, talk, talk, listen, listen]
    enough = Event()
    signs = [Event() for _role in roles]
    with ThreadPoolExecutor(len(roles)) as pool:
        people = [pool.submit(role, conninfo, str(number), enough, signs[number]) for number, role in enumerate(roles)]
        try:
            assert all(busy.wait(30) for busy in signs)
            yield
        finally:
            enough.set()
    for person in people:
        assert person.result() >= PLENTY


def apply_in_the_end(connection: psycopg.Connection, path: Path) -> None:
    """Apply a migration, again where it says that it found no moment, as it asks for."""
    for _attempt in range(10):
        try:
            return run_file(connection, path)
        except psycopg.errors.LockNotAvailable:
            continue
    pytest.fail("it never found a moment")


def test_nobody_is_refused_for_a_migration(chat: str) -> None:
    """Three people talk and two listen while the last migrations are applied ten times: no deadlock of anybody."""
    with conversing(chat), psycopg.connect(chat, autocommit=True) as connection:
        for _time in range(10):
            apply_in_the_end(connection, THE_POLICIES)
            run_file(connection, THE_RIGHTS)


def test_a_migration_that_finds_no_gap_says_so(chat: str) -> None:
    """Where somebody's transaction stays open, the policies give up after a while, and leave all as it was."""
    with psycopg.connect(chat, autocommit=True) as connection, psycopg.connect(chat) as reader:
        before = catalog(connection)
        reader.execute("select from memos")
        with pytest.raises(
            psycopg.errors.LockNotAvailable, match="no moment at which all six tables were free"
        ) as refused:
            run_file(connection, THE_POLICIES)
        assert "Nothing was changed" in (refused.value.diag.message_hint or "")
        assert catalog(connection) == before
