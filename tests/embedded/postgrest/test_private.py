"""What people said is nobody else's to read."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.embedded.postgrest import SHIPPED_SCHEMA
from app.embedded.postgrest.store import open_store


@pytest.fixture(autouse=True)
def _open_umask() -> Iterator[None]:
    """Let files be as readable as those who make them want."""
    before = os.umask(0)
    yield
    os.umask(before)


async def test_nobody_else_may_read_the_database(tmp_path: Path) -> None:
    """Neither the new file nor the log beside it."""
    async with open_store(tmp_path / "db.sqlite3", SHIPPED_SCHEMA) as store:
        await store.write(lambda connection: connection.execute("INSERT INTO users (id) VALUES ('ann')").fetchall())
        assert modes(tmp_path) == {("db.sqlite3" + end, 0o600) for end in ("", "-wal", "-shm")}


def modes(folder: Path) -> set[tuple[str, int]]:
    return {(path.name, path.stat().st_mode & 0o777) for path in folder.iterdir()}
