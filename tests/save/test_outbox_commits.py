"""Puts on real files: what they share, and what becomes of those that are cancelled, fail, or find no room."""

import random
import sqlite3
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any, Literal

import pytest
import trio

from app.save.outbox_file import Outbox, open_outbox
from app.save.outbox_values import OutboxError, OutboxLimits
from tests.save.outbox_rows import log_row, names, turn_rows


@pytest.fixture
async def outbox(tmp_path: Path) -> AsyncIterator[Outbox]:
    async with open_outbox(tmp_path / "outbox") as opened:
        yield opened


@asynccontextmanager
async def busy_thread(outbox: Outbox) -> AsyncIterator[None]:
    """Keep the outbox's thread busy meanwhile, as a slow disk would."""
    begun, let_go = trio.Event(), threading.Event()

    def hold(_: sqlite3.Connection) -> None:
        trio.from_thread.run_sync(begun.set)
        let_go.wait()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(outbox._writer.alone, hold, lambda _: None)
        try:
            await begun.wait()
            yield
        finally:
            let_go.set()


def stored(path: Path) -> int:
    """Count the entries in a file, as another process sees them."""
    with closing(sqlite3.connect(path)) as connection:
        return int(connection.execute("SELECT count(*) FROM entries").fetchone()[0])


async def sql(outbox: Outbox, statement: str) -> list[Any]:
    """Run a statement on the outbox's own connection."""
    return await outbox._writer.alone(lambda connection: connection.execute(statement).fetchall(), lambda _: None)


SMALL = OutboxLimits(max_entries=4, reserve_entries=4, distrust_s=5.0)


async def test_puts_that_arrive_during_a_commit_share_the_next(outbox: Outbox) -> None:
    """Fifty puts that wait for the disk together are one transaction, and one sync."""
    commits: list[str] = []
    trace = lambda text: commits.append(text) if text == "COMMIT" else None  # noqa: E731
    await outbox._writer.alone(lambda connection: connection.set_trace_callback(trace), lambda _: None)
    async with trio.open_nursery() as nursery, busy_thread(outbox):
        for turn in range(50):
            nursery.start_soon(outbox.put, turn_rows(turn))
        await trio.testing.wait_all_tasks_blocked()
    assert len(commits) == 1
    assert outbox.statistics().waiting == 100


async def test_a_put_that_is_cancelled_in_line_keeps_nothing(outbox: Outbox) -> None:
    """Its neighbours in line are kept all the same."""
    async with trio.open_nursery() as nursery, busy_thread(outbox):
        nursery.start_soon(outbox.put, turn_rows(1))
        with trio.move_on_after(0.01) as scope:
            await outbox.put(turn_rows(2))
        assert scope.cancelled_caught
        nursery.start_soon(outbox.put, turn_rows(3))
        await trio.testing.wait_all_tasks_blocked()
    assert names(outbox.entries(10)) == ["user 1", "assistant 1", "user 3", "assistant 3"]


@pytest.mark.parametrize("who", ["the one that commits", "one that is committed for"])
async def test_a_put_that_is_cancelled_in_its_commit_is_kept(
    outbox: Outbox, tmp_path: Path, who: Literal["the one that commits", "one that is committed for"]
) -> None:
    """The commit goes on to its end, the index knows it, and the line moves on."""
    begun, let_go = trio.Event(), threading.Event()

    def hold(text: str) -> None:
        if text == "COMMIT" and not let_go.is_set():
            trio.from_thread.run_sync(begun.set)
            let_go.wait()

    async with trio.open_nursery() as nursery:
        scopes = {}
        async with busy_thread(outbox):
            for number in (1, 2):
                scopes[number] = trio.CancelScope()
                nursery.start_soon(put_within, scopes[number], outbox, number)
                await trio.testing.wait_all_tasks_blocked()
            outbox._writer._connection.set_trace_callback(hold)
        await begun.wait()
        scopes[1 if who == "the one that commits" else 2].cancel()
        await trio.testing.wait_all_tasks_blocked()
        let_go.set()
    await outbox.put(turn_rows(3))
    assert names(outbox.entries(10)) == [f"{who} {turn}" for turn in (1, 2, 3) for who in ("user", "assistant")]
    assert stored(outbox.path) == 6


async def put_within(scope: trio.CancelScope, outbox: Outbox, turn: int) -> None:
    with scope:
        await outbox.put(turn_rows(turn))


async def test_random_cancellations_tear_no_turn(tmp_path: Path) -> None:
    """Puts cancelled at seeded random moments: each turn is there whole or not, acknowledged ones surely."""
    pick = random.Random(7)
    acknowledged: set[int] = set()
    cancelled: list[int] = []

    async def put(number: int) -> None:
        with trio.move_on_after(pick.uniform(0, 0.02)) as scope:
            await box.put(turn_rows(number))
            acknowledged.add(number)
        if scope.cancelled_caught:
            cancelled.append(number)

    async with open_outbox(tmp_path) as box:
        async with trio.open_nursery() as nursery:
            for number in range(300):
                nursery.start_soon(put, number)
                await trio.sleep(pick.choice((0, 0, 0, 0.001)))
        known = sorted(names(box.entries(1000)))
    async with open_outbox(tmp_path) as again:
        found = sorted(names(again.entries(1000)))
    assert found == known
    assert {f"{who} {turn}" for turn in acknowledged for who in ("user", "assistant")} <= set(found)
    turns = {name.split()[1] for name in found}
    assert found == sorted(f"{who} {turn}" for turn in turns for who in ("user", "assistant"))
    assert cancelled
    assert acknowledged


async def test_a_full_outbox_says_so_at_the_door(tmp_path: Path) -> None:
    """At the limit no new turn may begin, running ones still put their rows, and beyond the reserve nobody does."""
    async with open_outbox(tmp_path, limits=SMALL) as outbox:
        assert outbox.has_room()
        for turn, room in ((1, True), (2, False), (3, False), (4, False)):
            await outbox.put(turn_rows(turn))
            assert outbox.has_room() is room
        with pytest.raises(OutboxError) as caught:
            await outbox.put(turn_rows(5))
        assert caught.value.reason == "full"
        assert outbox.statistics().waiting == 8
        await outbox.settle(delivered=[entry.id for entry in outbox.entries(6)])
        assert outbox.has_room()


async def test_bytes_are_bounded_too(tmp_path: Path) -> None:
    """What rows take counts, however few they are, and is given back."""
    async with open_outbox(tmp_path, limits=OutboxLimits(max_bytes=10_000, reserve_bytes=10_000)) as outbox:
        for turn, room in ((1, True), (2, False), (3, False), (4, False)):
            await outbox.put([log_row(turn, message="m" * 5_000)])
            assert outbox.has_room() is room
        with pytest.raises(OutboxError, match="full"):
            await outbox.put([log_row(5)])
        await outbox.settle(delivered=[entry.id for entry in outbox.entries(3)])
        assert outbox.has_room()
        assert 5_000 < outbox.statistics().bytes < 6_000


async def test_a_failed_write_keeps_nothing_and_closes_the_door_for_a_while(tmp_path: Path) -> None:
    """A disk that is full: the put says so, all of it is undone, turns stay away, and later it goes on."""
    now = 100.0
    async with open_outbox(tmp_path, limits=SMALL, clock=lambda: now) as outbox:
        await outbox.put(turn_rows(1))
        (pages,) = (await sql(outbox, "PRAGMA page_count"))[0]
        await sql(outbox, f"PRAGMA max_page_count = {pages}")
        with pytest.raises(OutboxError) as caught:
            await outbox.put([log_row(2), log_row(2, "assistant", message="m" * 50_000)])
        assert caught.value.reason == "sqlite_full"
        assert names(outbox.entries(9)) == ["user 1", "assistant 1"]
        assert not outbox.has_room()
        now += 4.9
        assert not outbox.has_room()
        now += 0.2
        assert outbox.has_room()
        await sql(outbox, "PRAGMA max_page_count = 1000000")
        await outbox.put([log_row(2), log_row(2, "assistant", message="m" * 50_000)])
        assert outbox.statistics().waiting == 4
        assert stored(outbox.path) == 4


async def test_all_who_share_a_failed_commit_are_told(outbox: Outbox) -> None:
    """Nobody whose rows are not kept believes that they are."""
    await sql(outbox, f"PRAGMA max_page_count = {(await sql(outbox, 'PRAGMA page_count'))[0][0]}")
    told: list[str] = []

    async def put(turn: int) -> None:
        try:
            await outbox.put([log_row(turn, message="m" * 50_000)])
        except OutboxError as error:
            told.append(error.reason)

    async with trio.open_nursery() as nursery, busy_thread(outbox):
        for turn in range(5):
            nursery.start_soon(put, turn)
        await trio.testing.wait_all_tasks_blocked()
    assert told == ["sqlite_full"] * 5
    assert outbox.statistics().waiting == stored(outbox.path) == 0


async def test_a_disk_without_room_closes_the_door(tmp_path: Path) -> None:
    """Before anything failed, the free space of the disk is looked at; now and then, not at every turn."""
    async with open_outbox(tmp_path, limits=OutboxLimits(min_free_bytes=1 << 60)) as outbox:
        assert not outbox.has_room()
        outbox._limits = OutboxLimits()
        assert not outbox.has_room()
        outbox._look_at = 0.0
        assert outbox.has_room()


async def test_a_closed_outbox_refuses(tmp_path: Path) -> None:
    """After the end, puts fail and no turn may begin; those in line at that moment are told too."""
    told: list[str] = []

    async def put(turn: int) -> None:
        try:
            await box.put(turn_rows(turn))
        except OutboxError as error:
            told.append(error.reason)

    async with open_outbox(tmp_path) as box, trio.open_nursery() as nursery:
        async with busy_thread(box):
            nursery.start_soon(box.aclose)
            await trio.testing.wait_all_tasks_blocked()
            for turn in range(3):
                nursery.start_soon(put, turn)
            await trio.testing.wait_all_tasks_blocked()
        await trio.testing.wait_all_tasks_blocked()
    await put(9)
    assert told == ["closed"] * 4
    assert not box.has_room()
