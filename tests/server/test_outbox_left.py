"""What is left behind and cannot be read, or is not looked at: told in a sentence, and no server ends of it."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from signal import SIGKILL

import pytest

from tests.server.faulty_database import faulty_database
from tests.server.outbox_town import KEYS, NO_WRITES, WELL, Town, deferred, delivered
from tests.server.process import AT_ONCE, run_command


@pytest.fixture
def town(tmp_path: Path) -> Iterator[Town]:
    with faulty_database(tmp_path / "supabase.sqlite3") as database:
        yield Town(tmp_path, database)


def orphan(town: Town) -> Path:
    """Return the file of a process that was killed with a turn in its outbox, the question of which is damaged."""
    town.database.become(NO_WRITES)
    with town.server() as server:
        deferred(server, "Damaged")
        server.end(SIGKILL)
    (file,) = (town.folder / "server" / "outbox").glob("*.sqlite3")
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute("UPDATE entries SET row = x'7b22' WHERE sender = 'user'")
    town.database.become(WELL)
    return file


def test_a_row_that_cannot_be_read_ends_no_server(town: Town) -> None:
    """A start adopts the rest; by hand, the exit code and a sentence say that a row is still there."""
    file = orphan(town)
    with town.server() as server:
        delivered(server)
        assert server.lines("outbox.orphan_left", reason="unreadable")
        assert server.answer(f"Next {AT_ONCE}")["saved"] == "database"
    assert file.exists()

    ended = run_command(town.folder, "outbox", "deliver", str(file), SUPABASE_URL=town.database.url, **KEYS)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert "Traceback" not in ended.stderr
    last = ended.stderr.splitlines()[-1]
    assert last == f"delivered 0 rows, the rest is still there: 1 row of {file} cannot be read"


def test_a_file_that_is_no_outbox_is_refused_without_a_trace(town: Town) -> None:
    """Exit code 2, one sentence, and nothing is left beside it."""
    text = town.folder / "t.txt"
    text.write_text("no outbox\n" * 500)
    before = {path.name for path in town.folder.iterdir()}
    ended = run_command(town.folder, "outbox", "deliver", str(text), SUPABASE_URL=town.database.url, **KEYS)
    assert ended.returncode == 2
    assert str(text) in ended.stderr
    assert {path.name for path in town.folder.iterdir()} - before <= {"data"}


def test_a_server_without_an_outbox_tells_of_what_earlier_ones_left(town: Town) -> None:
    """With `OUTBOX=off` nobody delivers what is there: one warning says how many files, and how to."""
    town.database.become(NO_WRITES)
    with town.server() as server:
        deferred(server, "Stranded")
        server.end(SIGKILL)
    town.database.become(WELL)
    with town.server(OUTBOX="off") as server:
        (told,) = server.lines("outbox.off")
        assert (told["level"].lower(), told["files"]) == ("warning", 1)
        assert "python -m app outbox deliver FILE" in told["hint"]
        assert told["folder"] == str(server.data_dir / "outbox")
    with town.server() as server:
        delivered(server)
    with town.server(OUTBOX="off") as server:
        assert not server.lines("outbox.off")
