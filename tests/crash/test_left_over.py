"""What is read of the outboxes of processes that are gone."""

import uuid
from contextlib import closing
from pathlib import Path

from app.save import outbox_sqlite as sqlite
from tests.crash.left_over import set_aside
from tests.crash.verdict import Row
from tests.save.outbox_rows import log_row


def test_what_is_superseded_is_found_in_every_outbox(tmp_path: Path) -> None:
    """Also while it is in SQLite's log only; what waits, or is refused for another reason, is not it."""
    assert set_aside(tmp_path) == []
    (tmp_path / "outbox").mkdir()
    waits, refused, one, two = (log_row(turn, "assistant", context_data={"finish": "stop"}) for turn in range(4))
    with (
        closing(sqlite.connect(tmp_path / "outbox" / "one.sqlite3", "normal")) as first,
        closing(sqlite.connect(tmp_path / "outbox" / "two.sqlite3", "normal")) as second,
    ):
        for connection, rows in ((first, (waits, one)), (second, (refused, two))):
            sqlite.insert(connection, [sqlite.pack(row, None, position) for position, row in enumerate(rows)])
        sqlite.set_aside(first, {one.turn_id: "superseded"})
        sqlite.set_aside(second, {two.turn_id: "superseded", refused.turn_id: "23514"})
        found = set_aside(tmp_path)
    assert [row.turn_id for row in found] == [str(uuid.UUID(int=2)), str(uuid.UUID(int=3))]
    assert found[0] == Row(
        id=2, created_at=one.created_at, turn_id=str(one.turn_id), sender="assistant", user_id="ann", page="page-0",
        conversation_id=str(one.conversation_id), message="assistant 2", finish="stop",
    )  # fmt: skip
