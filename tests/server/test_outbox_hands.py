"""Ops look at an outbox and act on it, over HTTP and by the command line, on a real server and a failing database."""

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from signal import SIGKILL
from typing import cast

import pytest
import trio

from app.bootstrap.outbox import is_degraded
from app.fetch.history import conversation_id
from app.save.outbox_file import Outbox, open_outbox
from app.save.outbox_values import OutboxStatistics
from tests.save.outbox_rows import turn_rows as save_rows
from tests.server.faulty_database import faulty_database
from tests.server.outbox_town import KEYS, NO_WRITES, REFUSED, WELL, Town, deferred, delivered, ops, readiness
from tests.server.process import AT_ONCE, run_command, until
from tests.server.rows import stored, turn_rows
from tests.server.wire import problem


@pytest.fixture
def town(tmp_path: Path) -> Iterator[Town]:
    with faulty_database(tmp_path / "supabase.sqlite3") as database:
        yield Town(tmp_path, database)


def test_ops_see_and_act(town: Town) -> None:
    """The listing leads to turns and says what is the matter; no text and no user is in it; retry and delete act."""
    town.database.become(REFUSED)
    with town.server() as server:
        body = deferred(server, "A secret")
        until(lambda: ops(server)["paused"] == "PGRST301", "the delivery pauses")
        assert server.lines("outbox.paused", reason="PGRST301")
        assert server.gauge("outbox_paused") == 1
        assert readiness(server) == (200, ["outbox"])
        listing = ops(server)
        assert (listing["scope"], listing["waiting"], listing["set_aside"]) == ("process", 2, 0)
        question, answer = listing["entries"]
        assert (question["turn_id"], question["trace_id"]) == (body["turn_id"], body["trace_id"])
        assert [entry["sender"] for entry in (question, answer)] == ["user", "assistant"]
        assert "secret" not in json.dumps(listing)
        assert "demo" not in json.dumps(listing)
        assert server.http.get("/ops/outbox?limit=1").json()["entries"] == [ops(server)["entries"][0]]
        for limit in ("all", "0", "1001", "000000100999"):
            problem(server.http.get(f"/ops/outbox?limit={limit}"), 422, "invalid_request")

        changed = server.http.delete(f"/ops/outbox/{answer['id']}").json()
        assert (changed["waiting"], changed["reverts_on_restart"]) == (1, False)
        problem(server.http.delete(f"/ops/outbox/{answer['id']}"), 404, "not_found")
        problem(server.http.post("/ops/outbox/99999/retry"), 404, "not_found")
        town.database.become(WELL)
        assert server.http.post(f"/ops/outbox/{question['id']}/retry").status_code == 200
        delivered(server)
        assert readiness(server) == (200, [])
    assert [row["sender"] for row in stored(town.folder)] == ["user"]


def test_a_row_that_is_wrong_is_set_aside_and_the_rest_goes_on(town: Town) -> None:
    """A turn for a conversation that was deleted meanwhile is set aside with its reason; others are delivered."""
    with town.server() as server:
        server.answer(f"First {AT_ONCE}")
        town.database.become(NO_WRITES)
        body = deferred(server, "For nobody")
        other = deferred(server, "For somebody", page_id="notes")
        delete_conversation(town.folder, body["conversation_id"])
        town.database.become(WELL)
        delivered(server)
        listing = ops(server)
        assert {entry["turn_id"] for entry in listing["entries"]} == {body["turn_id"]}
        assert {(entry["state"], entry["reason"]) for entry in listing["entries"]} == {("set_aside", "23503")}
        assert server.gauge('outbox_depth{state="set_aside"}') == 2
        assert server.end() == 0
        assert server.lines("outbox.left", waiting=0, set_aside=2)
    assert turn_rows(town.folder, other["turn_id"])


def delete_conversation(folder: Path, conversation_id: str) -> None:
    """Delete a conversation behind the server's back."""
    with closing(sqlite3.connect(folder / "supabase.sqlite3")) as database, database:
        database.execute("delete from chat_logs where conversation_id = ?", (conversation_id,))
        database.execute("delete from chat_conversations where id = ?", (conversation_id,))


def orphan(town: Town) -> Path:
    """Return the file of a process that was killed with a turn in its outbox."""
    town.database.become(NO_WRITES)
    with town.server() as server:
        deferred(server, "Orphaned")
        server.end(SIGKILL)
    (file,) = (town.folder / "server" / "outbox").glob("*.sqlite3")
    return file


def test_an_orphan_is_emptied_by_hand(town: Town) -> None:
    """`outbox deliver FILE`: 1 while the database does not take it, 0 when it did, 2 when there is no such file."""
    file = orphan(town)
    settings = {"SUPABASE_URL": town.database.url, **KEYS}

    ended = run_command(town.folder, "outbox", "deliver", str(file), **settings)
    assert (ended.returncode, ended.stdout) == (1, "")
    first, *_, last = ended.stderr.splitlines()
    assert json.loads(first)["event"] == "outbox.delivery_fails", "it is not silent while it tries on"
    assert "the rest is still there" in last

    town.database.become(REFUSED)
    ended = run_command(town.folder, "outbox", "deliver", str(file), **settings)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert "the rest is still there" in ended.stderr.splitlines()[-1]
    assert "PGRST301" in ended.stderr.splitlines()[-1]

    town.database.become(WELL)
    ended = run_command(town.folder, "outbox", "deliver", str(file), **settings)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "delivered 2 rows; the file is removed\n", "")
    assert town.rows() == ["Orphaned"]
    assert not file.exists()

    ended = run_command(town.folder, "outbox", "deliver", str(file), **settings)
    assert (ended.returncode, ended.stdout) == (2, "")
    (line,) = ended.stderr.splitlines()
    assert str(file) in line


async def test_an_orphan_of_the_embedded_database_is_emptied_too(tmp_path: Path) -> None:
    """Without a Supabase project, the rows go to the database under DATA_DIR."""
    general = conversation_id("demo", "general")
    rows = save_rows(1, user_id="demo", page="general", conversation_id=general)
    async with open_outbox(tmp_path / "data" / "outbox") as outbox:
        await outbox.put(rows, title="General")
    ended = await trio.to_thread.run_sync(run_command, tmp_path, "outbox", "deliver", str(outbox.path))
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "delivered 2 rows; the file is removed\n", "")
    assert [row["message"] for row in stored(tmp_path / "data")] == ["user 1", "assistant 1"]


@dataclass(frozen=True, slots=True)
class Look:
    """What readiness sees of an outbox."""

    oldest_age_s: float = 0.0
    paused: str | None = None
    room: bool = True

    def has_room(self) -> bool:
        return self.room

    def statistics(self) -> OutboxStatistics:
        return OutboxStatistics(waiting=1, set_aside=1, oldest_age_s=self.oldest_age_s, bytes=1, paused=self.paused)


@pytest.mark.parametrize(
    ("look", "degraded"),
    [
        (Look(), False),
        (Look(oldest_age_s=4.9), False),
        (Look(oldest_age_s=5.1), True),
        (Look(paused="PGRST301"), True),
        (Look(room=False), True),
        (None, False),
    ],
)
def test_readiness_tells_of_an_outbox_that_is_behind_paused_or_full(look: Look | None, degraded: bool) -> None:
    """Not of one that has only just taken something, and not of what is set aside, which no waiting mends."""
    assert is_degraded(cast(Outbox | None, look)) is degraded


def test_a_file_that_is_in_use_is_left_alone(town: Town) -> None:
    """What belongs to a process that runs is delivered by that, and by nobody else."""
    town.database.become(NO_WRITES)
    with town.server() as server:
        deferred(server, "Mine")
        (file,) = (server.data_dir / "outbox").glob("*.sqlite3")
        ended = run_command(town.folder, "outbox", "deliver", str(file), SUPABASE_URL=town.database.url, **KEYS)
        assert ended.returncode == 2
        assert "belongs to a process that runs" in ended.stderr
        town.database.become(WELL)
        delivered(server)
    assert town.rows() == ["Mine"]
