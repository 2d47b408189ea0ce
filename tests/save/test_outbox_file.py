"""The outbox on real files: what is kept, and what is told of it."""

import sqlite3
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal

import pytest
import trio

from app.save.outbox_file import Outbox, open_outbox
from app.save.outbox_values import OutboxError
from tests.save.outbox_rows import NOON, log_row, names, turn_rows

ODD_TEXT = "川「'; drop\" \\ \n\t\0 🌊 \ud83c half a pair"


@pytest.fixture
async def outbox(tmp_path: Path) -> AsyncIterator[Outbox]:
    async with open_outbox(tmp_path / "outbox") as opened:
        yield opened


async def sql(outbox: Outbox, statement: str) -> list[Any]:
    """Run a statement on the outbox's own connection."""
    return await outbox._writer.alone(lambda connection: connection.execute(statement).fetchall(), lambda _: None)


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


async def test_rows_come_back_as_they_were_put(tmp_path: Path) -> None:
    """Texts of any kind, times to the microsecond, context, title and order survive a restart."""
    odd = log_row(
        1, message=ODD_TEXT, page=ODD_TEXT, context_data={"a": [1, {"b": None}], "c": ODD_TEXT},
        created_at=NOON + timedelta(microseconds=123_456),
    )  # fmt: skip
    async with open_outbox(tmp_path) as outbox:
        await outbox.put([odd, log_row(1, "assistant")], title=ODD_TEXT)
        await outbox.put(turn_rows(2))
        before = outbox.entries(10)
    async with open_outbox(tmp_path) as again:
        after = again.entries(10)
        assert again.undelivered("ann") == (odd, log_row(1, "assistant"), *turn_rows(2))
        assert again.statistics().waiting == 4
    assert [(e.row, e.title, e.position, e.size) for e in after] == [
        (e.row, e.title, e.position, e.size) for e in before
    ]
    assert [entry.title for entry in after] == [ODD_TEXT, ODD_TEXT, None, None]


async def test_the_same_row_again_is_no_second_entry(tmp_path: Path) -> None:
    """Alone or beside a new one, a row whose key is there stays as it is, and that is no error."""
    question, reply = turn_rows(1)
    async with open_outbox(tmp_path) as outbox:
        for rows in ([question], [question], [question, reply], [reply], [log_row(1, message="another text")]):
            await outbox.put(rows)
        assert outbox.undelivered("ann") == (question, reply)
        assert outbox.statistics().waiting == 2
    async with open_outbox(tmp_path) as again:
        assert again.undelivered("ann") == (question, reply)


async def test_a_context_that_is_no_json_is_refused_whole(outbox: Outbox) -> None:
    """NaN would make PostgREST refuse every request that it is part of; nothing of such a put is kept."""
    with pytest.raises(ValueError, match="JSON"):
        await outbox.put([log_row(1), log_row(1, "assistant", context_data={"score": float("nan")})])
    assert outbox.entries(10) == ()
    assert outbox.has_room()


def stored(path: Path) -> int:
    """Count the entries in a file, as another process sees them."""
    with closing(sqlite3.connect(path)) as connection:
        return int(connection.execute("SELECT count(*) FROM entries").fetchone()[0])


async def test_what_is_set_aside_stays_until_somebody_acts(outbox: Outbox) -> None:
    """The whole turn waits no longer and holds its conversation no longer, but is still the user's own."""
    await outbox.put(turn_rows(1, conversation=1))
    await outbox.put(turn_rows(2, conversation=2))
    await outbox.settle(set_aside={uuid.UUID(int=1): "22P05"}, attempted=[1, 2])
    assert [(e.reason, e.attempts) for e in outbox.entries(9)] == [("22P05", 1), ("22P05", 1), (None, 0), (None, 0)]
    assert names(outbox.batch(10, 10**6)) == ["user 2", "assistant 2"]
    assert not outbox.holds(uuid.UUID(int=1))
    assert outbox.holds(uuid.UUID(int=2))
    assert len(outbox.undelivered("ann")) == 4
    assert (outbox.statistics().waiting, outbox.statistics().set_aside) == (2, 2)
    assert outbox.undelivered("bob") == ()


async def test_a_row_that_comes_late_to_a_turn_that_was_set_aside_joins_it(outbox: Outbox) -> None:
    """A turn is set aside whole, also when its answer is put only afterwards."""
    question, reply = turn_rows(1)
    await outbox.put([question])
    await outbox.settle(set_aside={question.turn_id: "23503"})
    await outbox.put([reply])
    assert [entry.reason for entry in outbox.entries(9)] == ["23503", "23503"]
    assert outbox.statistics().waiting == 0


async def test_a_retry_takes_the_whole_turn_back_to_its_place(tmp_path: Path) -> None:
    """Both of its rows wait again, before what was queued after them; the delivery is told to try at once."""
    expected = ["user 1", "assistant 1", "user 2", "assistant 2"]
    async with open_outbox(tmp_path) as outbox:
        await outbox.put(turn_rows(1))
        await outbox.put(turn_rows(2))
        await outbox.settle(set_aside={uuid.UUID(int=1): "22P05"})
        last = outbox.entries(9)[1].id
        assert await outbox.retry(last)
        with trio.fail_after(2):
            await outbox.wait_for_nudge()
        assert names(outbox.batch(9, 10**6)) == expected
        assert not await outbox.retry(99)
    async with open_outbox(tmp_path) as again:
        assert names(again.batch(9, 10**6)) == expected


async def test_a_deletion_takes_one_entry(outbox: Outbox) -> None:
    """It is gone for good; an unknown one is told."""
    await outbox.put(turn_rows(1))
    assert await outbox.delete(outbox.entries(9)[0].id)
    assert names(outbox.entries(9)) == ["assistant 1"]
    assert stored(outbox.path) == 1
    assert not await outbox.delete(99)


async def test_a_conversation_is_known_by_the_id_that_stands(tmp_path: Path) -> None:
    """Rows queued before and after, the conversation's hold, and a restart: all go by the winner's id."""
    loser, winner = uuid.UUID(int=1), uuid.UUID(int=7)
    async with open_outbox(tmp_path) as outbox:
        await outbox.put(turn_rows(1, conversation=1))
        await outbox.map_conversation(loser, winner)
        await outbox.put(turn_rows(2, conversation=1))
    async with open_outbox(tmp_path) as again:
        assert (again.resolve(loser), again.resolve(winner)) == (winner, winner)
        assert {row.conversation_id for row in again.undelivered("ann")} == {winner}
        assert (again.holds(loser), again.holds(winner)) == (False, True)
        await again.map_conversation(loser, loser)
        assert again.resolve(loser) == loser
        assert not again.holds(winner)
        await again.map_conversation(loser, winner)
        await again.settle(delivered=[entry.id for entry in again.entries(9)])
        assert not again.holds(winner)
    async with open_outbox(tmp_path) as third:
        assert third.resolve(loser) == winner, "also when no row waits any more"


async def test_a_row_of_a_conversation_that_stands_stays_its_own(tmp_path: Path) -> None:
    """Whatever its id once lost, and after a restart; one that says nothing of that was kept by an older version."""
    loser, winner = uuid.UUID(int=1), uuid.UUID(int=7)
    async with open_outbox(tmp_path) as outbox:
        await outbox.put(turn_rows(1, conversation=1))
        await outbox.map_conversation(loser, winner)
        await outbox.put(turn_rows(2, conversation=1), stands=True)
        path = outbox.path
    with closing(sqlite3.connect(path)) as connection, connection:
        field = ', "stands": false'
        older = "UPDATE entries SET row = CAST(replace(row, ?, '') AS BLOB) WHERE instr(CAST(row AS TEXT), ?)"
        assert connection.execute(older, (field, field)).rowcount == 2
    async with open_outbox(tmp_path) as again:
        expected = [("user 1", winner), ("assistant 1", winner), ("user 2", loser), ("assistant 2", loser)]
        assert [(row.message, row.conversation_id) for row in again.undelivered("ann")] == expected
        assert again.unreadable == 0
        assert (again.holds(loser), again.holds(winner)) == (True, True)
        await again.settle(delivered=[entry.id for entry in again.batch(9, 10**6)[2:]])
        assert (again.holds(loser), again.holds(winner)) == (False, True)


async def test_settling_survives_a_restart(tmp_path: Path) -> None:
    """Delivered entries are gone, reasons and attempts are kept."""
    async with open_outbox(tmp_path) as outbox:
        for turn in (1, 2, 3):
            await outbox.put(turn_rows(turn))
        await outbox.settle(delivered=[1, 2], set_aside={uuid.UUID(int=2): "22P05"}, attempted=[5, 6])
    async with open_outbox(tmp_path) as again:
        assert [(entry.row.turn_id.int, entry.reason, entry.attempts) for entry in again.entries(9)] == [
            (2, "22P05", 0), (2, "22P05", 0), (3, None, 1), (3, None, 1),
        ]  # fmt: skip
        assert len(again.batch(9, 10**6)) == 2


async def test_the_order_is_that_of_puts_whatever_the_clock_does(tmp_path: Path) -> None:
    """A clock that is set back, in the middle or between two starts, changes nothing about what was said first."""
    times = iter([5_000_000, 1_000_000, 9_000_000, 2_000_000, 0, 0, 0, 0, 0])
    now = lambda: next(times)  # noqa: E731
    async with open_outbox(tmp_path, now_us=now) as outbox:
        for turn in (1, 2, 3, 4):
            await outbox.put([log_row(turn)])
    async with open_outbox(tmp_path, now_us=now) as again:
        await again.put([log_row(5)])
        assert names(again.batch(9, 10**6)) == [f"user {turn}" for turn in (1, 2, 3, 4, 5)]
        assert again.entries(1)[0].queued_at.timestamp() == 5.0


async def test_the_age_of_the_oldest_is_told(tmp_path: Path) -> None:
    """Since it was queued, in seconds, never below 0, whatever the clock does; where none waits, none is old."""
    now = 1_000_000
    async with open_outbox(tmp_path, now_us=lambda: now) as outbox:
        assert outbox.statistics().oldest_age_s == 0.0
        await outbox.put([log_row(1)])
        now += 2_500_000
        assert outbox.statistics().oldest_age_s == 2.5
        now = 0
        assert outbox.statistics().oldest_age_s == 0.0


@pytest.mark.parametrize(("sync", "pragma"), [("full", 2), ("normal", 1)])
async def test_the_setting_decides_what_a_put_waits_for(
    tmp_path: Path, sync: Literal["full", "normal"], pragma: int
) -> None:
    """`full` syncs the log at every commit, `normal` leaves that to the operating system; both are WAL."""
    async with open_outbox(tmp_path, sync=sync) as outbox:
        assert await sql(outbox, "PRAGMA synchronous") == [(pragma,)]
        assert await sql(outbox, "PRAGMA journal_mode") == [("wal",)]


async def test_an_empty_outbox_leaves_no_file(tmp_path: Path) -> None:
    """What was delivered needs no file; one that holds something stays, with its lock let go."""
    async with open_outbox(tmp_path / "a") as outbox:
        await outbox.put(turn_rows(1))
        await outbox.settle(delivered=[1, 2])
    assert files(tmp_path / "a") == []
    async with open_outbox(tmp_path / "b") as outbox:
        await outbox.put(turn_rows(1))
    assert files(tmp_path / "b") == [outbox.path.name, f"{outbox.path.name}-lock"]


def unusable(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    (tmp_path / "file").write_text("no folder")
    yield "File exists", tmp_path / "file"
    yield "Not a directory", tmp_path / "file" / "outbox"


async def test_a_folder_that_cannot_be_used_says_why(tmp_path: Path) -> None:
    """One sentence, for whoever starts the server."""
    for why, folder in unusable(tmp_path):
        with pytest.raises(OutboxError, match=why):
            async with open_outbox(folder):
                pass


async def test_whoever_waits_for_work_is_told(outbox: Outbox) -> None:
    """The delivery sleeps until a row is put, and until one is taken back."""
    woken: list[str] = []

    async def wait(what: str) -> None:
        await outbox.wait_for_work()
        woken.append(what)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait, "by a put")
        await trio.testing.wait_all_tasks_blocked()
        assert woken == []
        await outbox.put(turn_rows(1))
    await outbox.settle(set_aside={uuid.UUID(int=1): "22P05"})
    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait, "by a retry")
        await trio.testing.wait_all_tasks_blocked()
        assert woken == ["by a put"]
        await outbox.retry(1)
    assert woken == ["by a put", "by a retry"]
