"""Taking over what a process left behind: rows that cannot be read, large files, and the puts of others meanwhile."""

import itertools
import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import trio

from app.clients.ports import LogRow
from app.save import outbox_folder
from app.save.outbox_file import Outbox, open_orphan, open_outbox
from app.save.outbox_values import OutboxError, OutboxLimits
from tests.save.outbox_rows import log_row, names, turn_rows

ROOMY = OutboxLimits(max_entries=10**6, max_bytes=1 << 40)


async def left_behind(folder: Path, *puts: list[LogRow]) -> Path:
    """Let a process go that has put these rows, and return its file."""
    async with open_outbox(folder.with_name(f"{folder.name}-apart"), limits=ROOMY) as outbox:
        for rows in puts:
            await outbox.put(rows)
    return move(outbox.path, folder)


def move(file: Path, folder: Path) -> Path:
    """Move a file and its lock to a folder."""
    folder.mkdir(exist_ok=True)
    for path in sorted(file.parent.iterdir()):
        path.rename(folder / path.name)
    return folder / file.name


def files(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def execute(path: Path, statement: str, *values: Any) -> list[Any]:
    """Run a statement on a file that nobody has open."""
    with closing(sqlite3.connect(path)) as connection, connection:
        return connection.execute(statement, values).fetchall()


def damage(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change what the row of the first entry says."""
    ((data,),) = execute(path, "SELECT row FROM entries WHERE id = 1")
    fields = json.loads(data)
    change(fields)
    execute(path, "UPDATE entries SET row = ? WHERE id = 1", json.dumps(fields).encode())


def say(statement: str, *values: Any) -> Callable[[Path], object]:
    return lambda path: execute(path, statement, *values)


def put_into(**fields: Any) -> Callable[[Path], object]:
    return lambda path: damage(path, lambda row: row.update(fields))


DAMAGES: dict[str, Callable[[Path], object]] = {
    "cut off": say("UPDATE entries SET row = ? WHERE id = 1", b'{"user_id'),
    "no UTF-8": say("UPDATE entries SET row = ? WHERE id = 1", b"\xff"),
    "no object": say("UPDATE entries SET row = ? WHERE id = 1", b"[]"),
    "empty": say("UPDATE entries SET row = ? WHERE id = 1", b"{}"),
    "text": say("UPDATE entries SET row = 'a text' WHERE id = 1"),
    "too deep": say("UPDATE entries SET row = ? WHERE id = 1", b"[" * 100_000),
    "no turn": say("UPDATE entries SET turn_id = 'x' WHERE id = 1"),
    "nobody said it": say("UPDATE entries SET sender = 'x' WHERE id = 1"),
    "no position": say("UPDATE entries SET position = 'x' WHERE id = 1"),
    "no time": put_into(created_at="yesterday"),
    "a time of no zone": put_into(created_at="2026-11-22T12:00:00"),
    "a user that is a list": put_into(user_id=["ann"]),
    "a message that is a number": put_into(message=1),
    "a context that is a list": put_into(context_data=[]),
    "a title that is a number": put_into(title=1),
}


@pytest.mark.parametrize("what", DAMAGES)
async def test_a_row_that_cannot_be_read_stays_where_it_is(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """The others are adopted, at a start and later; the file is left with the bad one, which the log says once."""
    monkeypatch.setattr(outbox_folder, "BATCH_ENTRIES", 1)
    folder = tmp_path / "outbox"
    file = await left_behind(folder, turn_rows(1), turn_rows(2))
    DAMAGES[what](file)
    bad = execute(file, "SELECT * FROM entries WHERE id = 1")
    async with open_outbox(folder) as outbox:
        assert names(outbox.entries(9)) == ["assistant 1", "user 2", "assistant 2"]
        assert await outbox.adopt() == 0
    (left,) = [record for record in caplog.records if record.message == "outbox.orphan_left"]
    assert (left.__dict__["file"], left.__dict__["reason"]) == (str(file), "unreadable")
    assert execute(file, "SELECT * FROM entries") == bad
    async with open_outbox(folder) as again:
        assert names(again.entries(9)) == ["assistant 1", "user 2", "assistant 2"]


async def test_a_running_process_outlives_a_row_that_cannot_be_read(tmp_path: Path) -> None:
    """The task that looks for files of the dead goes on, and adopts what comes after."""
    folder = tmp_path / "outbox"
    async with open_outbox(folder) as outbox, trio.open_nursery() as nursery:
        DAMAGES["cut off"](await left_behind(folder, [log_row(1)]))
        nursery.start_soon(outbox.adopt_for_ever, 0.01)
        await left_behind(folder, [log_row(2)])
        with trio.fail_after(10):
            await outbox.wait_for_work()
        nursery.cancel_scope.cancel()
    assert names(outbox.entries(9)) == ["user 2"]


async def test_a_winner_that_cannot_be_read_stays_too(tmp_path: Path) -> None:
    """An id of a conversation that is none: the entries and the other ids are adopted."""
    folder = tmp_path / "outbox"
    file = await left_behind(folder, [log_row(1, conversation=1)])
    for loser, winner in ((str(UUID(int=1)), str(UUID(int=7))), ("x", "y")):
        execute(file, "INSERT INTO winners VALUES (?, ?)", loser, winner)
    async with open_outbox(folder) as outbox:
        assert names(outbox.entries(9)) == ["user 1"]
        assert outbox.resolve(UUID(int=1)) == UUID(int=7)
        assert outbox.holds(UUID(int=7))
    assert execute(file, "SELECT * FROM winners") == [("x", "y")]
    assert execute(file, "SELECT * FROM entries") == []


async def test_an_orphan_with_a_row_that_cannot_be_read_says_so_at_the_end(tmp_path: Path) -> None:
    """Opened by hand it gives the rows that can be read, and is not removed, however empty the rest of it is."""
    file = await left_behind(tmp_path / "outbox", turn_rows(1))
    DAMAGES["cut off"](file)
    with pytest.raises(OutboxError, match=r"1 row of .* cannot be read") as caught:
        await empty(file, ["assistant 1"])
    assert caught.value.reason == "unreadable"
    assert len(execute(file, "SELECT * FROM entries")) == 1


async def empty(file: Path, expected: list[str]) -> None:
    """Settle all that can be read in the file."""
    async with open_orphan(file) as orphan:
        assert names(orphan.batch(9, 10**6)) == expected
        await orphan.settle(delivered=[entry.id for entry in orphan.entries(9)])


async def test_a_file_that_is_no_outbox_keeps_nothing_of_ours(tmp_path: Path) -> None:
    """Opened by hand, or found in the folder: the lock file that was made beside it is gone again."""
    garbage, lock = tmp_path / "t.sqlite3", tmp_path / "t.sqlite3-lock"
    garbage.write_bytes(b"this is no database\n" * 500)
    with pytest.raises(OutboxError):
        async with open_orphan(garbage):
            pass
    async with open_outbox(tmp_path):
        assert not lock.exists()
    lock.write_text("somebody else's")
    with pytest.raises(OutboxError):
        async with open_orphan(garbage):
            pass
    assert files(tmp_path) == {garbage.name, lock.name}


async def test_puts_go_on_while_a_large_file_is_adopted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each stands in line behind a batch at the most, so that there is one between any two batches."""
    monkeypatch.setattr(outbox_folder, "BATCH_ENTRIES", 4)
    folder = tmp_path / "outbox"
    adopted_by_then: list[int] = []
    async with open_outbox(folder) as outbox:
        await left_behind(folder, *(turn_rows(turn) for turn in range(20)))

        async def put_for_ever() -> None:
            for turn in itertools.count(100):
                await outbox.put([log_row(turn)])
                adopted_by_then.append(outbox.statistics().waiting - (turn - 99))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(put_for_ever)
            assert await outbox.adopt() == 40
            nursery.cancel_scope.cancel()
        assert set(adopted_by_then) >= set(range(4, 40, 4))
        assert [name for name in names(outbox.entries(10**6)) if int(name.split()[1]) < 100] == [
            f"{who} {turn}" for turn in range(20) for who in ("user", "assistant")
        ]


async def test_a_batch_is_bounded_by_bytes_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Large rows move one by one, and one that is larger than a batch by itself."""
    monkeypatch.setattr(outbox_folder, "BATCH_BYTES", 5_000)
    folder = tmp_path / "outbox"
    await left_behind(folder, *([log_row(turn, message="m" * size)] for turn, size in enumerate((9_000, 2_000, 2_000))))
    async with open_outbox(folder, limits=ROOMY) as outbox:
        assert [len(entry.row.message) for entry in outbox.entries(9)] == [9_000, 2_000, 2_000]
    commits = await batches_of(folder, outbox)
    assert commits == [1, 2]


async def batches_of(folder: Path, left: Outbox) -> list[int]:
    """Return how many entries each batch has in which a process's file is adopted."""
    sizes = []
    orphan = outbox_folder.take_hold(folder / left.path.name)
    assert orphan is not None
    while luggage := orphan.take_out():
        sizes.append(len(luggage.entries))
        orphan.drop(luggage)
    assert orphan.close() == 0
    return sizes


SMALL = OutboxLimits(max_entries=4, reserve_entries=4, max_bytes=1_000, reserve_bytes=4_000)


@pytest.mark.parametrize("limits", [OutboxLimits(max_entries=4, reserve_entries=4), SMALL])
async def test_what_was_adopted_leaves_the_reserve_to_turns_that_run(tmp_path: Path, limits: OutboxLimits) -> None:
    """Beyond its limit no new turn may begin, but running ones put their rows, until the reserve is used up."""
    folder = tmp_path / "outbox"
    async with open_outbox(folder, limits=limits) as outbox:
        await left_behind(folder, *(turn_rows(turn, message="m" * 500) for turn in range(10)))
        await outbox.adopt()
        assert not outbox.has_room()
        for turn in (10, 11):
            await outbox.put(turn_rows(turn))
        with pytest.raises(OutboxError, match="full"):
            await put_many(outbox, 99)
        await outbox.settle(delivered=[entry.id for entry in outbox.entries(10**6)])
        assert outbox.has_room()


async def put_many(outbox: Outbox, turns: int) -> None:
    for turn in range(100, 100 + turns):
        await outbox.put(turn_rows(turn, message="m" * 500))


async def test_an_adoption_that_fails_keeps_no_turn_away(tmp_path: Path) -> None:
    """A disk without room for it: what is left behind stays, whole, new turns begin, and a later try takes it all."""
    folder = tmp_path / "outbox"
    async with open_outbox(folder) as outbox:
        file = await left_behind(folder, [log_row(1, message="m" * 500_000)])
        (pages,) = (await sql(outbox, "PRAGMA page_count"))[0]
        await sql(outbox, f"PRAGMA max_page_count = {pages + 20}")
        with pytest.raises(OutboxError) as caught:
            await outbox.adopt()
        assert caught.value.reason == "sqlite_full"
        assert outbox.has_room()
        await outbox.put([log_row(2)])
        assert execute(file, "SELECT count(*) FROM entries") == [(1,)]
        await sql(outbox, "PRAGMA max_page_count = 1000000")
        assert await outbox.adopt() == 1
        assert not file.exists()


async def sql(outbox: Outbox, statement: str) -> list[Any]:
    """Run a statement on the outbox's own connection."""
    return await outbox._writer.alone(lambda connection: connection.execute(statement).fetchall(), lambda _: None)


async def test_an_adoption_that_is_cancelled_loses_and_doubles_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the moment: the next process finds each row once, and nobody holds the file that was left."""
    monkeypatch.setattr(outbox_folder, "BATCH_ENTRIES", 3)
    expected = [f"{who} {turn}" for turn in range(10) for who in ("user", "assistant")]
    for tried in range(12):
        folder = tmp_path / f"outbox-{tried}"
        async with open_outbox(folder) as outbox:
            await left_behind(folder, *(turn_rows(turn) for turn in range(10)))
            with trio.move_on_after(tried / 400):
                await outbox.adopt()
            known = names(outbox.entries(99))
            assert known == expected[: len(known)]
            async with open_outbox(folder) as other:
                assert sorted([*known, *names(other.entries(99))]) == sorted(expected)
        async with open_outbox(folder) as again:
            assert names(again.entries(99)) == expected
