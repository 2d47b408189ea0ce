"""Many writers, kill -9, restarts, other processes' locks, and callers that go away in the middle."""

import random
import sqlite3
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from pathlib import Path

import httpx
import pytest
import trio

from app.clients.in_process import InProcessTransport
from app.embedded.postgrest import SHIPPED_SCHEMA, EmbeddedDatabaseError, open_embedded_supabase
from app.embedded.postgrest.errors import DialectError
from app.embedded.postgrest.migrations import statements
from app.embedded.postgrest.store import open_store
from tests.embedded.postgrest.serving import served

ROOT = Path(__file__).parents[3]
LOG = {"user_id": "demo", "sender": "user", "message": "m"}
INSERT = "INSERT INTO users (id) VALUES (?)"


async def test_fifty_writers_at_once_are_all_served(url: str) -> None:
    """Fifty clients that write and read at once over their own sockets never meet a locked database."""
    statuses: list[int] = []

    async def write(number: int) -> None:
        async with httpx.AsyncClient(base_url=url, timeout=30) as client:
            for turn in range(10):
                response = await client.post("/chat_logs", json={**LOG, "message": f"{number}.{turn}"})
                statuses.append(response.status_code)
                response = await client.get("/chat_logs?select=id&order=id.desc&limit=5")
                statuses.append(response.status_code)

    async with trio.open_nursery() as nursery:
        for number in range(50):
            nursery.start_soon(write, number)
    assert sorted(set(statuses)) == [200, 201]
    async with httpx.AsyncClient(base_url=url) as client:
        messages = {row["message"] for row in (await client.get("/chat_logs?select=message")).json()}
    assert messages == {f"{number}.{turn}" for number in range(50) for turn in range(10)}


@contextmanager
def writing(path: Path) -> Iterator[subprocess.Popen[str]]:
    """Run the acknowledged writer as a process, and end it whatever happens."""
    command = [sys.executable, "-m", "tests.embedded.postgrest.acknowledged_writer", str(path)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def acknowledged_until_killed(path: Path, seed: int) -> set[int]:
    """Return the ids that a writer had acknowledged when it was killed, at a moment that the seed chooses."""
    with writing(path) as process:
        assert process.stdout is not None
        ids = {int(process.stdout.readline()) for _ in range(random.Random(seed).randint(1, 400))}
        process.kill()
        lines = process.stdout.read().split("\n")
    return ids | {int(line) for line in lines[:-1]}  # the last line may have been cut off


async def survives(path: Path, seeds: range) -> None:
    """Kill one writer per seed, all on the same file, and look for every acknowledged row after each."""
    acknowledged: set[int] = set()
    for seed in seeds:
        acknowledged |= await trio.to_thread.run_sync(acknowledged_until_killed, path, seed)
        async with served(path) as url, httpx.AsyncClient(base_url=f"{url}/rest/v1") as client:
            stored = {row["id"] for row in (await client.get("/chat_logs?select=id")).json()}
        assert acknowledged <= stored, f"seed {seed}"
        with closing(sqlite3.connect(path)) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


async def test_acknowledged_rows_survive_kill_9(tmp_path: Path) -> None:
    """After kill -9 at a random moment every acknowledged row is there, and the file is whole."""
    await survives(tmp_path / "killed.sqlite", range(3))


@pytest.mark.soak
async def test_acknowledged_rows_survive_many_kills(tmp_path: Path) -> None:
    """The same, for many more moments."""
    await survives(tmp_path / "killed.sqlite", range(100, 150))


async def test_a_restart_goes_on_where_it_stopped(tmp_path: Path) -> None:
    """The second start finds the first one's rows, applies no schema again and goes on counting."""
    path = tmp_path / "new" / "folder" / "kept.sqlite"
    ids = []
    for _ in range(3):
        async with served(path) as url, httpx.AsyncClient(base_url=f"{url}/rest/v1") as client:
            response = await client.post("/chat_logs", json=LOG, headers={"prefer": "return=representation"})
            ids.append(response.json()[0]["id"])
            assert len((await client.get("/projects")).json()) == 2
    assert ids == [1, 2, 3]
    assert not path.with_name("kept.sqlite-wal").exists()


async def test_two_processes_may_start_on_one_new_file(tmp_path: Path) -> None:
    """Whoever comes second to a new file waits for the first one's schema instead of failing on it."""
    path = tmp_path / "shared.sqlite"

    async def start() -> None:
        async with open_embedded_supabase(path):
            pass

    async with trio.open_nursery() as nursery:
        for _ in range(8):
            nursery.start_soon(start)
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT count(*) FROM projects").fetchone() == (2,)


async def test_a_file_that_someone_else_is_making_is_waited_for(tmp_path: Path) -> None:
    """SQLite refuses the switch to WAL at once while another process writes; opening waits until that is done."""
    path = tmp_path / "shared.sqlite"
    opened = trio.Event()

    async def start() -> None:
        async with open_embedded_supabase(path):
            opened.set()

    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(start)
            with trio.move_on_after(0.3):
                await opened.wait()
            assert not opened.is_set()
            other.execute("ROLLBACK")
    assert opened.is_set()


async def test_a_schema_file_applies_whole_or_not_at_all(tmp_path: Path) -> None:
    """A file that fails in its middle leaves nothing of itself, and the files before it stay applied."""
    path, broken = tmp_path / "db.sqlite", tmp_path / "003_broken.sql"
    broken.write_text("create table halfway (id text);\ncreate table users (id text);\n")
    with pytest.raises(EmbeddedDatabaseError, match=r"003_broken\.sql does not apply"):
        async with open_embedded_supabase(path, schema=[*SHIPPED_SCHEMA, broken]):
            pass
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (len(SHIPPED_SCHEMA),)
        assert connection.execute("SELECT name FROM sqlite_schema WHERE name = 'halfway'").fetchall() == []


def test_a_trigger_is_one_statement() -> None:
    """A script is cut into statements at their ends, not at the semicolons inside a trigger."""
    script = "create table a (b text); -- note\ncreate trigger t after insert on a begin\n delete from a;\nend;\n"
    assert [statement.split()[1] for statement in statements(script)] == ["table", "trigger"]


async def unopenable(path: Path) -> str:
    """Return the sentence that opening `path` ends in."""
    with pytest.raises(EmbeddedDatabaseError) as caught:
        async with open_embedded_supabase(path):
            pass
    return str(caught.value)


async def test_what_cannot_be_opened_says_why(tmp_path: Path) -> None:
    """A folder in the way, a file in the way of the folder, and a file of another kind each get a sentence."""
    file = tmp_path / "file"
    file.write_text("this is no database, whatever its name says\n" * 100)
    assert await unopenable(file) == f"the database {file} is not a SQLite database"
    assert await unopenable(tmp_path) == f"the database {tmp_path} cannot be opened"
    assert await unopenable(file / "db") == f"the folder {file} cannot be used: File exists"
    deeper = file / "folder" / "db"
    assert await unopenable(deeper) == f"the folder {deeper.parent} cannot be used: Not a directory"


async def test_a_newer_database_is_left_alone(tmp_path: Path) -> None:
    """A file that a newer version has migrated is refused."""
    path = tmp_path / "newer.sqlite"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 99")
    assert "made by a newer version" in await unopenable(path)


async def test_another_process_that_keeps_the_lock_is_told_as_a_full_pool(tmp_path: Path) -> None:
    """A lock that outlasts the patience is 504 PGRST003 for the writer; readers do not notice it."""
    path = tmp_path / "locked.sqlite"
    async with served(path) as url, httpx.AsyncClient(base_url=f"{url}/rest/v1") as client:
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            assert (await client.get("/users")).status_code == 200
            response = await client.post("/users", json={"id": "u"})
            assert (response.status_code, response.json()["code"]) == (504, "PGRST003")
            other.execute("ROLLBACK")
        assert (await client.post("/users", json={"id": "u"})).status_code == 201


async def test_a_caller_that_leaves_while_its_thread_works_leaves_it_whole(tmp_path: Path) -> None:
    """Cancelled in the middle of its transaction, a write is finished, and the connection serves the next one."""
    begun, let_go = trio.Event(), threading.Event()
    async with open_store(tmp_path / "db.sqlite", SHIPPED_SCHEMA) as store, trio.open_nursery() as nursery:

        def slow(connection: sqlite3.Connection) -> None:
            connection.execute(INSERT, ("slow",))
            trio.from_thread.run_sync(begun.set)
            let_go.wait()

        nursery.start_soon(store.write, slow)
        try:
            await begun.wait()
            nursery.cancel_scope.cancel()
        finally:
            let_go.set()
    async with open_store(tmp_path / "db.sqlite", SHIPPED_SCHEMA) as store:
        await store.write(lambda connection: connection.execute(INSERT, ("next",)).fetchall())
        names = await store.read(lambda c: c.execute("SELECT id FROM users WHERE id <> 'demo' ORDER BY 1").fetchall())
    assert names == [("next",), ("slow",)]


async def test_a_caller_that_leaves_the_queue_has_written_nothing(tmp_path: Path) -> None:
    """Cancelled while another write runs, a waiting one never begins."""
    begun, let_go = trio.Event(), threading.Event()
    async with open_store(tmp_path / "db.sqlite", SHIPPED_SCHEMA) as store, trio.open_nursery() as nursery:

        def hold(connection: sqlite3.Connection) -> None:
            trio.from_thread.run_sync(begun.set)
            let_go.wait()

        nursery.start_soon(store.write, hold)
        try:
            await begun.wait()
            with trio.move_on_after(0) as scope:
                await store.write(lambda connection: connection.execute(INSERT, ("waiting",)).fetchall())
        finally:
            let_go.set()
        assert scope.cancelled_caught
        found = await store.read(lambda connection: connection.execute("SELECT id FROM users").fetchall())
    assert found == [("demo",)]


async def test_a_failing_write_is_undone(tmp_path: Path) -> None:
    """What a job wrote before it raised is not there afterwards."""
    async with open_store(tmp_path / "db.sqlite", SHIPPED_SCHEMA) as store:

        def fail(connection: sqlite3.Connection) -> None:
            connection.execute(INSERT, ("undone",))
            raise DialectError("22P02", "no")

        with pytest.raises(DialectError):
            await store.write(fail)
        found = await store.read(lambda connection: connection.execute("SELECT id FROM users").fetchall())
    assert found == [("demo",)]


async def test_a_closed_store_refuses(tmp_path: Path) -> None:
    """Requests after the end are 503, not a crash."""
    async with open_store(tmp_path / "db.sqlite", SHIPPED_SCHEMA) as store:
        pass
    for ask in (store.read, store.write):
        with pytest.raises(DialectError) as caught:
            await ask(lambda connection: connection.total_changes)
        assert (caught.value.code, caught.value.status) == ("PGRST000", 503)


async def test_readers_cannot_write(tmp_path: Path) -> None:
    """A read connection refuses to write, whatever SQL reaches it."""
    async with open_store(tmp_path / "db.sqlite", SHIPPED_SCHEMA) as store:
        with pytest.raises(DialectError) as caught:
            await store.read(lambda connection: connection.execute(INSERT, ("u",)).fetchall())
    assert caught.value.status == 405


async def test_random_cancellations_tear_no_write(tmp_path: Path) -> None:
    """Callers cancelled at seeded random moments: each pair of rows is there whole or not, acknowledged ones surely."""
    pick = random.Random(7)
    acknowledged: set[str] = set()
    cancelled: list[int] = []

    async def write(client: httpx.AsyncClient, number: int) -> None:
        rows = [{"id": f"{number}.a"}, {"id": f"{number}.b"}]
        with trio.move_on_after(pick.uniform(0.001, 0.1)) as scope:
            response = await client.post("/users", json=rows)
            assert response.status_code == 201
            acknowledged.update(row["id"] for row in rows)
        if scope.cancelled_caught:
            cancelled.append(number)

    async with in_process(tmp_path / "db.sqlite") as client:
        async with trio.open_nursery() as nursery:
            for number in range(200):
                nursery.start_soon(write, client, number)
        assert (await client.post("/users", json={"id": "after"})).status_code == 201  # in line behind all others
        rows = (await client.get("/users?id=not.in.(demo,after)")).json()
    stored = {row["id"] for row in rows}
    assert acknowledged <= stored
    assert stored == {f"{row.partition('.')[0]}.{half}" for row in stored for half in "ab"}
    assert cancelled


@asynccontextmanager
async def in_process(path: Path) -> AsyncIterator[httpx.AsyncClient]:
    """Yield a client of the database at `path` that has no socket between, so that leaving cancels the app itself."""
    async with open_embedded_supabase(path) as app, trio.open_nursery() as nursery:
        transport = InProcessTransport(app, nursery)
        async with httpx.AsyncClient(transport=transport, base_url="http://embedded/rest/v1") as client:
            yield client
