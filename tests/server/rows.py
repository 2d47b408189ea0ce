"""What the embedded database really holds: its file, read by SQLite itself, read-only."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any


def stored(data_dir: Path, table: str = "chat_logs", **where: str | None) -> list[dict[str, Any]]:
    """Return the rows of a table that have these values, in the order in which a conversation is read."""
    order = "created_at, id" if table == "chat_logs" else "id"
    conditions = " and ".join(f"{column} is ?" for column in where) or "1"
    with closing(sqlite3.connect(f"file:{data_dir / 'supabase.sqlite3'}?mode=ro", uri=True)) as database:
        database.row_factory = sqlite3.Row
        found = database.execute(f"select * from {table} where {conditions} order by {order}", tuple(where.values()))
        return [_readable(dict(row)) for row in found]


def turn_rows(data_dir: Path, turn_id: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the question's row and the answer's row of a turn, which has no others."""
    question, answer = stored(data_dir, turn_id=turn_id)
    assert (question["sender"], answer["sender"]) == ("user", "assistant")
    return question, answer


def row_counts(data_dir: Path) -> dict[str, int]:
    """Return how many rows the tables of the chat have."""
    return {table: len(stored(data_dir, table)) for table in ("chat_conversations", "chat_logs")}


def _readable(row: dict[str, Any]) -> dict[str, Any]:
    if row.get("context_data"):
        row["context_data"] = json.loads(row["context_data"])
    return row
