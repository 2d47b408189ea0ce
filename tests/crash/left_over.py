"""What is left in a run's outboxes once nothing waits any more: read as an operator reads a file, by SQLite itself."""

import json
import sqlite3
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import Any

from app.turn import Sender
from tests.crash.verdict import Row

SUPERSEDED = "superseded"
"""The one reason for which an entry may be set aside: another one of its key is stored."""


def set_aside(data_dir: Path) -> list[Row]:
    """Return the rows that are set aside as superseded, in whichever process's file.

    The processes have ended; what they had in SQLite's log is read too.
    """
    return [row for file in sorted((data_dir / "outbox").glob("*.sqlite3")) for row in _rows(file)]


def _rows(file: Path) -> list[Row]:
    with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as connection:
        found = connection.execute(
            "select id, turn_id, sender, created_at, row from entries where reason = ? order by id", (SUPERSEDED,)
        )
        return [_row(*columns) for columns in found]


def _row(id_: int, turn_id: str, sender: Sender, created_at: str, data: bytes) -> Row:
    fields: dict[str, Any] = json.loads(data)
    return Row(
        id=id_,
        created_at=datetime.fromisoformat(created_at),
        turn_id=turn_id,
        sender=sender,
        finish=fields["context_data"].get("finish"),
        **{name: fields[name] for name in ("user_id", "page", "conversation_id", "message")},
    )
