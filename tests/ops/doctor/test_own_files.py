"""What is on the disk is looked at as the user whose it is, and left as it was."""

import errno
import fcntl
import os
import sqlite3
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path

import pytest

from app.ops.doctor import machine, own_files
from app.ops.doctor.examination import look_at_disk
from app.settings import Settings

ME = os.geteuid()


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    """A DATA_DIR as a server left it that was killed: a row waits in its outbox, which is in WAL mode."""
    for name in ("supabase.sqlite3", "outbox/1.sqlite3"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        with closing(sqlite3.connect(tmp_path / name)) as file:
            file.execute("pragma journal_mode = wal")
            file.execute("create table entries (reason text)")
            file.execute("insert into entries values (null)")
            file.commit()
    (tmp_path / "outbox" / "1.sqlite3-lock").touch()
    return tmp_path


def found_by(user: int, data_dir: Path) -> dict[str, str]:
    settings = Settings(_env_file=None, data_dir=data_dir)
    found = look_at_disk(settings, data_dir / "outbox", user)
    found += own_files.look_at_database(data_dir / "supabase.sqlite3", user)
    return {finding.check: finding.status for finding in found}


def files_in(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_another_users_files_are_not_opened(data_dir: Path) -> None:
    """Somebody else than their owner is told so, in place of what would hold for that one only; no file is made."""
    before = files_in(data_dir)
    assert found_by(ME + 1, data_dir) == {"disk.user": "warn", "disk.free": "ok", "database.embedded": "skip"}
    assert files_in(data_dir) == before
    (told,) = [each for each in machine.look(data_dir, [], ME + 1) if each.check == "disk.user"]
    assert f"{data_dir} is of the user {ME}, and this is {ME + 1}" in told.line
    assert "run the doctor as the server's user" in told.line


def test_ones_own_files_are_read(data_dir: Path) -> None:
    """Their owner is told what is in them, and no file that was there is changed."""
    before = files_in(data_dir)
    found = found_by(ME, data_dir)
    assert found["outbox.left"] == "warn"
    assert found["database.embedded"] == "fail"  # it lacks our tables
    assert "disk.user" not in found
    after = files_in(data_dir)
    assert {name: after[name] for name in before} == before


@pytest.mark.parametrize(("made", "asked"), [("supabase.sqlite3", "supabase.sqlite3"), ("nothing", "")])
def test_whose_data_dir_it_is(data_dir: Path, monkeypatch: pytest.MonkeyPatch, made: str, asked: str) -> None:
    """Whose its files are is the server's user; the folder, which a volume may have as root's, counts without any."""
    paths: list[Path] = []

    def note(given: Iterable[Path], _me: int) -> str:
        paths.extend(given)
        return ""

    monkeypatch.setattr(machine, "other_user", note)
    machine.look(data_dir, [data_dir / made], ME)
    assert paths == [data_dir / asked]


def test_a_lock_that_nobody_can_tell_of(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a disk without locks a file is not said to be of a process that is gone."""

    def flock(*_arguments: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", flock)
    file = own_files.read_outbox(data_dir / "outbox" / "1.sqlite3")
    (told,) = own_files.judge_outboxes([file], outbox=True)
    assert (told.check, told.status, "No locks available" in told.said) == ("outbox.files", "warn", True)


def test_a_database_that_cannot_be_looked_at(tmp_path: Path) -> None:
    """What the system refuses to look for is told with the variable, and ends nothing."""
    (told,) = own_files.look_at_database(tmp_path / ("n" * 300) / "supabase.sqlite3", ME)
    assert (told.status, "DATA_DIR" in told.todo) == ("fail", True)
