"""Whose file is whose, and what becomes of the files of processes that are gone; killed at every line of ours too."""

import fcntl
import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from uuid import UUID

import pytest
import trio

from app.save.outbox_file import Outbox, open_orphan, open_outbox
from app.save.outbox_folder import claim, claim_new
from app.save.outbox_values import OutboxError
from tests.save.outbox_children import Children
from tests.save.outbox_rows import log_row, names, turn_rows

LOSER, WINNER = UUID(int=1), UUID(int=7)


@pytest.fixture(scope="module")
def children() -> Iterator[Children]:
    with Children() as running:
        yield running


async def left_behind(folder: Path, *turns: int, now_us: int = 0) -> Path:
    """Let a process go and leave an outbox with these turns, as if all had been queued at that time."""
    apart = folder.with_name(f"{folder.name}-apart")
    async with open_outbox(apart, now_us=lambda: now_us) as outbox:
        for turn in turns:
            await outbox.put(turn_rows(turn, conversation=turn), title=f"Title {turn}")
    move_all(apart, folder)
    return folder / outbox.path.name


def move_all(apart: Path, folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    for path in apart.iterdir():
        path.rename(folder / path.name)


def files(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


async def test_a_process_that_starts_adopts_what_is_left_behind(tmp_path: Path) -> None:
    """Entries of several files end in one, oldest first, whole, and the other files are gone."""
    folder = tmp_path / "outbox"
    await left_behind(folder, 3, 4, now_us=2_000)
    await left_behind(folder, 1, 2, now_us=1_000)
    async with open_outbox(folder, now_us=lambda: 3_000) as outbox:
        await outbox.put(turn_rows(5))
        assert names(outbox.batch(99, 10**6)) == [f"{who} {turn}" for turn in (1, 2, 3, 4, 5) for who in SENDERS]
        assert [entry.title for entry in outbox.entries(8)] == [f"Title {turn}" for turn in (1, 1, 2, 2, 3, 3, 4, 4)]
        assert files(folder) == {outbox.path.name + end for end in ("", "-lock", "-wal", "-shm")}


SENDERS = ("user", "assistant")


async def test_the_file_of_a_process_that_lives_is_its_own(tmp_path: Path) -> None:
    """Two at once in one folder do not see each other's entries; what one leaves is the other's once it asks."""
    async with open_outbox(tmp_path) as second:
        async with open_outbox(tmp_path) as first:
            await first.put(turn_rows(1))
            assert await second.adopt() == 0
            assert second.entries(9) == ()
        assert await second.adopt() == 2
        assert names(second.batch(9, 10**6)) == ["user 1", "assistant 1"]
        assert second.holds(UUID(int=0))
        with trio.fail_after(1):
            await second.wait_for_work()


async def test_what_is_left_behind_later_is_adopted_too(tmp_path: Path) -> None:
    """A process that runs looks again, so a file is not left until somebody happens to start."""
    async with open_outbox(tmp_path) as outbox, trio.open_nursery() as nursery:
        nursery.start_soon(outbox.adopt_for_ever, 0.02)
        async with open_outbox(tmp_path) as leaving:
            await leaving.put(turn_rows(1))
        with trio.fail_after(10):
            await outbox.wait_for_work()
        nursery.cancel_scope.cancel()
    assert names(outbox.entries(9)) == ["user 1", "assistant 1"]


async def test_adopting_keeps_reasons_attempts_and_winners(tmp_path: Path) -> None:
    """What was set aside stays so, and a conversation is still known by the id that stands."""
    folder = tmp_path / "outbox"
    path = await left_behind(folder, 1, 2)
    async with open_orphan(path) as orphan:
        await orphan.settle(set_aside={UUID(int=2): "22P05"}, attempted=[1, 2])
        await orphan.map_conversation(LOSER, WINNER)
    async with open_outbox(folder) as outbox:
        assert [(e.row.turn_id.int, e.reason, e.attempts) for e in outbox.entries(9)] == [
            (1, None, 1), (1, None, 1), (2, "22P05", 0), (2, "22P05", 0),
        ]  # fmt: skip
        assert outbox.resolve(LOSER) == WINNER
        assert outbox.holds(WINNER)


async def test_what_is_in_both_files_is_adopted_once(tmp_path: Path) -> None:
    """A file that was copied and not removed, because its adopter was killed, doubles nothing."""
    folder, copies = tmp_path / "outbox", tmp_path / "copies"
    await left_behind(folder, 1, 2)
    shutil.copytree(folder, copies)
    async with open_outbox(folder) as outbox:
        await outbox.put(turn_rows(3))
        move_all(copies, folder)
        assert await outbox.adopt() == 0
        assert names(outbox.entries(9)) == [f"{who} {turn}" for turn in (1, 2, 3) for who in SENDERS]
        assert files(folder) == {outbox.path.name + end for end in ("", "-lock", "-wal", "-shm")}


ADOPTED_LINES = 2_000
"""More than there are."""


async def killed_while_adopting(children: Children, folder: Path, template: Path, line: int) -> bool:
    """Kill a starting process before that line, and check what the next one finds; return whether there was a line."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(template, folder)
    *_, end = children.run("adopt", folder, line)
    async with open_outbox(folder) as outbox:
        assert names(outbox.entries(99)) == [f"{who} {turn}" for turn in (1, 2, 3) for who in SENDERS], f"line {line}"
        assert [entry.reason for entry in outbox.entries(99)] == [None] * 4 + ["22P05"] * 2, f"line {line}"
        assert outbox.resolve(LOSER) == WINNER, f"line {line}"
        assert files(folder) == {outbox.path.name + end for end in ("", "-lock", "-wal", "-shm")}, f"line {line}"
    return end == "end -9"


async def every_line(children: Children, tmp_path: Path, first: int, step: int) -> int:
    template = tmp_path / "template"
    await left_behind(template, 1, now_us=1_000)
    path = await left_behind(template, 2, 3, now_us=2_000)
    async with open_orphan(path) as orphan:
        await orphan.settle(set_aside={UUID(int=3): "22P05"})
        await orphan.map_conversation(LOSER, WINNER)
    for tried, line in enumerate(range(first, ADOPTED_LINES, step)):
        if not await killed_while_adopting(children, tmp_path / "outbox", template, line):
            return tried
    raise AssertionError("it never came to an end")


async def test_kill_9_before_any_line_of_an_adoption_loses_and_doubles_nothing(
    children: Children, tmp_path: Path
) -> None:
    """A slice of the lines that two files' adoption in batches runs through; the next process finds all of it once."""
    assert await every_line(children, tmp_path, 2, 47) > 15


@pytest.mark.soak
async def test_kill_9_before_every_line_of_an_adoption_loses_and_doubles_nothing(
    children: Children, tmp_path: Path
) -> None:
    """All of them."""
    assert await every_line(children, tmp_path, 0, 1) > 1_000


async def test_what_is_no_outbox_is_left_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Garbage, another program's database, and one of a newer version stay as they are, and starting goes on."""
    garbage, other, newer = (tmp_path / f"{name}.sqlite3" for name in ("garbage", "other", "newer"))
    garbage.write_bytes(b"this is no database\n" * 500)
    with closing(sqlite3.connect(other)) as connection:
        connection.execute("CREATE TABLE entries (important text)")
    newer_path = await left_behind(tmp_path, 1)
    newer_path.rename(newer)
    with closing(sqlite3.connect(newer)) as connection:
        connection.execute("PRAGMA user_version = 2")
    before = {path: path.read_bytes() for path in (garbage, other, newer)}
    async with open_outbox(tmp_path) as outbox:
        assert outbox.entries(9) == ()
        await outbox.put(turn_rows(2))
        assert await outbox.adopt() == 0
    assert len(caplog.records) == 3, "each is told of once"
    left = {(record.__dict__["file"], record.__dict__["reason"]) for record in caplog.records}
    assert left == {(str(garbage), "unopenable"), (str(other), "not_ours"), (str(newer), "not_ours")}
    assert {path: path.read_bytes() for path in before} == before


async def test_leftovers_of_a_removal_are_removed(tmp_path: Path) -> None:
    """A process that was killed while it removed a file leaves a log or a lock file; they are nobody's."""
    (tmp_path / "0123.sqlite3-lock").touch()
    (tmp_path / "0123.sqlite3-wal").write_bytes(b"old")
    (tmp_path / "4567.sqlite3").touch()
    async with open_outbox(tmp_path) as outbox:
        assert files(tmp_path) == {outbox.path.name + end for end in ("", "-lock", "-wal", "-shm")}


async def test_an_orphan_that_is_in_use_is_not_opened(tmp_path: Path) -> None:
    """Neither is one that is not there; each says so."""
    async with open_outbox(tmp_path) as outbox:
        with pytest.raises(OutboxError, match="belongs to a process that runs") as caught:
            async with open_orphan(outbox.path):
                pass
    assert caught.value.reason == "in_use"
    with pytest.raises(OutboxError, match="there is no file"):
        async with open_orphan(tmp_path / "gone.sqlite3"):
            pass
    assert files(tmp_path) == set()


def test_a_lock_counts_only_while_the_name_leads_to_it(tmp_path: Path) -> None:
    """Whoever opened the lock file before its owner removed it, and gets the lock after, has no claim on the name."""
    path = tmp_path / "0123.sqlite3"
    first = claim(path)
    assert first is not None
    late = os.open(f"{path}-lock", os.O_RDWR)
    first.remove()
    fcntl.flock(late, fcntl.LOCK_EX | fcntl.LOCK_NB)
    second = claim(path)
    assert second is not None, "the name is free, whatever the late one holds"
    os.close(late)
    assert claim(path) is None
    second.release()
    third = claim(path)
    assert third is not None
    third.remove()
    assert files(tmp_path) == set()


def test_a_claim_that_came_too_late_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The owner removes its files between another's opening of the lock file and its lock: that one gets nothing."""
    path = tmp_path / "0123.sqlite3"
    owner = claim(path)
    assert owner is not None
    real = fcntl.flock

    def late(lock: int, operation: int) -> None:
        monkeypatch.setattr(fcntl, "flock", real)
        owner.remove()
        real(lock, operation)

    monkeypatch.setattr(fcntl, "flock", late)
    assert claim(path) is None
    assert files(tmp_path) == set()


def test_new_files_have_new_names(tmp_path: Path) -> None:
    """However many start at once."""
    claims = [claim_new(tmp_path) for _ in range(50)]
    assert len({claimed.path for claimed in claims}) == 50
    for claimed in claims:
        claimed.remove()
    assert files(tmp_path) == set()


async def test_many_that_start_at_once_share_what_is_left_behind(tmp_path: Path) -> None:
    """Ten that start together in a folder of twenty orphans: each entry ends with one of them, none with two."""
    folder = tmp_path / "outbox"
    for turn in range(20):
        await left_behind(folder, turn)
    found: list[str] = []
    opened: list[Outbox] = []
    all_open = trio.Event()

    async def start() -> None:
        async with open_outbox(folder) as outbox:
            opened.append(outbox)
            if len(opened) == 10:
                all_open.set()
            await all_open.wait()
            found.extend(names(outbox.entries(99)))

    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            for _ in range(10):
                nursery.start_soon(start)
    assert sorted(found) == sorted(log_row(turn, who).message for turn in range(20) for who in SENDERS)
