"""What people said is nobody else's to read, while it waits on the disk."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.save.outbox_file import open_outbox
from tests.save.outbox_rows import turn_rows


@pytest.fixture(autouse=True)
def _open_umask() -> Iterator[None]:
    """Let files be as readable as those who make them want."""
    before = os.umask(0)
    yield
    os.umask(before)


def modes(folder: Path) -> set[tuple[str, int]]:
    """Return of the folder and of each file in it how it ends and who may do what."""
    return {(path.suffix, path.stat().st_mode & 0o777) for path in (folder, *folder.iterdir())}


async def test_nobody_else_may_read_an_outbox(tmp_path: Path) -> None:
    """Neither the file nor the log beside it, nor the folder, made anew or found open to all."""
    for folder in (tmp_path / "data" / "outbox", tmp_path / "found"):
        if folder.name == "found":
            folder.mkdir(mode=0o755)
        async with open_outbox(folder) as outbox:
            await outbox.put(turn_rows(1))
            assert modes(folder) == {
                ("", 0o700), (".sqlite3", 0o600), (".sqlite3-wal", 0o600), (".sqlite3-shm", 0o600),
                (".sqlite3-lock", 0o600),
            }  # fmt: skip
