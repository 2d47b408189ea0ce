"""Pages of the embedded database: what SQLite walks for them, and how many steps that takes it."""

import sqlite3
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
import trio

from app.clients.supabase import SupabaseDatabase
from app.conversations import Place
from app.embedded.postgrest import SHIPPED_SCHEMA
from app.embedded.postgrest.answer import answer
from app.embedded.postgrest.migrations import migrate
from app.embedded.postgrest.parse import parse_request
from app.embedded.postgrest.patterns import lower_case
from app.embedded.postgrest.tables import read_catalog

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
LONG, TIED, SHORT = (uuid.UUID(int=number, version=4) for number in (1, 2, 3))
COUNTS = {LONG: 100_000, TIED: 20_000, SHORT: 200}
CONVERSATIONS = 2000
LOGS, LIST = "chat_logs_conversation_id_created_at_id_idx", "chat_conversations_user_id_updated_at_id_idx"


def at(second: int) -> str:
    return (NOON + timedelta(seconds=second)).isoformat(timespec="microseconds")


class StepsTransport(httpx.AsyncBaseTransport):
    """Answers reads from one connection; `steps` of SQLite's machine so far, and the `statements` that it ran."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._catalog = read_catalog(connection)
        self.steps = 0
        self.statements: list[str] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        await trio.lowlevel.checkpoint()
        headers = [(name.lower(), value) for name, value in request.headers.raw]
        parsed = parse_request(request.method, request.url.path, request.url.query, headers)
        self._connection.set_progress_handler(self._step, 1)
        self._connection.set_trace_callback(self.statements.append)
        try:
            reply = answer(self._connection, self._catalog, parsed, b"")
        finally:
            self._connection.set_progress_handler(None, 0)
            self._connection.set_trace_callback(None)
        return httpx.Response(reply.status, content=reply.body)

    def plan(self) -> str:
        """Return how SQLite finds the rows of the statements that it ran."""
        found = [self._connection.execute(f"EXPLAIN QUERY PLAN {each}").fetchall() for each in self.statements]
        return "\n".join(row[3] for rows in found for row in rows)

    def _step(self) -> int:
        self.steps += 1
        return 0


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[sqlite3.Connection]:
    """A database with a conversation of 100,000 messages, and one in which 20,000 share their time."""
    path: Path = tmp_path_factory.mktemp("pages") / "supabase.sqlite3"
    connection = sqlite3.connect(path, isolation_level=None)
    migrate(connection, SHIPPED_SCHEMA)
    connection.create_function("lower_case", 1, lower_case, deterministic=True)
    connection.execute("BEGIN")
    connection.execute("DROP TRIGGER touch_conversation")  # this is a filling
    for number in range(CONVERSATIONS):
        connection.execute(
            "INSERT INTO chat_conversations (id, user_id, page_id, updated_at) VALUES (?, 'demo', ?, ?)",
            (str(uuid.UUID(int=number + 1, version=4)), str(number), at(-(number // 3))),
        )
    for id_, count in COUNTS.items():
        connection.executemany(
            "INSERT INTO chat_logs (user_id, sender, message, conversation_id, created_at)"
            " VALUES ('demo', 'user', ?, ?, ?)",
            ((f"message {n}", str(id_), at(0 if id_ == TIED else n)) for n in range(1, count + 1)),
        )
    connection.execute("COMMIT")
    yield connection
    connection.close()


async def page(filled: sqlite3.Connection, conversation: uuid.UUID, place: Place) -> StepsTransport:
    transport = StepsTransport(filled)
    database = SupabaseDatabase(transport, "http://embedded.test", "embedded")
    found = await database.messages_before("demo", conversation, place, 51)
    assert found
    assert len(found.messages) == 51
    return transport


async def test_a_page_costs_what_a_page_costs(filled: sqlite3.Connection) -> None:
    """Deep in 100,000 messages, or among 20,000 of one time, it takes as many steps as in a conversation of 200."""
    short = await page(filled, SHORT, Place(at=NOON + timedelta(seconds=100)))
    deep = await page(filled, LONG, Place(at=NOON + timedelta(seconds=50_000)))
    assert deep.steps == short.steps
    with_id = [
        await page(filled, LONG, Place(at=NOON + timedelta(seconds=50_000), id=50_000)),
        await page(filled, TIED, Place(at=NOON, id=COUNTS[LONG] + 10_000)),
    ]
    assert all(each.steps < 2 * short.steps for each in with_id)
    for each in (short, deep, *with_id):
        assert f"USING INDEX {LOGS}" in each.plan()
        assert "TEMP B-TREE" not in each.plan()
        assert "SCAN" not in each.plan()


async def test_a_page_of_the_list_costs_what_a_page_costs(filled: sqlite3.Connection) -> None:
    """The first of 2,000 conversations and the last take the same steps, but for those of one time."""
    steps = []
    for number in (0, 900, 1800):
        transport = StepsTransport(filled)
        database = SupabaseDatabase(transport, "http://embedded.test", "embedded")
        place = Place(at=datetime.fromisoformat(at(-(number // 3))), id=uuid.UUID(int=number + 3, version=4))
        assert len(await database.heads("demo", 51, place)) == 51
        steps.append(transport.steps)
        assert f"USING INDEX {LIST}" in transport.plan()
        assert "TEMP B-TREE" not in transport.plan()
    assert max(steps) < 1.1 * min(steps)
