"""The outbox of a process: a durable queue in one SQLite file, between the turn and the database.

Rules:

* `put` returns once its rows are on the disk (`full`: they outlast the machine's power; `normal`: the process), and
  shares the sync of the disk with whoever else puts at that time (`outbox_writer`).
* All looks at it are at the index in memory (`outbox_index`), which changes when a commit has succeeded.
* `statistics` may be asked for by any thread: what it says was noted at the last change, in the loop's own.
* The file belongs to this process alone (`outbox_folder`).
"""

import contextlib
import logging
import os
import sqlite3
import time
import uuid
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

import trio

from app.clients.ports import LogRow
from app.deadlines import shielded
from app.save import outbox_sqlite as sqlite
from app.save.outbox_adoption import Adoption, rows_that_cannot_be_read
from app.save.outbox_folder import Claim, claim, claim_new, make_folder, sync_names, unopenable
from app.save.outbox_index import OutboxIndex
from app.save.outbox_sqlite import Sync
from app.save.outbox_values import OutboxEntry, OutboxError, OutboxLimits, OutboxStatistics
from app.save.outbox_writer import Job, Writer

log = logging.getLogger(__name__)

T = TypeVar("T")
LOOK_AT_DISK_S: Final = 1.0
"""How old a look at the disk's free space may be."""
CLOSE_S: Final = 5.0
ADOPT_S: Final = 30.0


class Outbox:
    """The open outbox. The delivery is told by `wait_for_work`, and tells why it is `paused`."""

    def __init__(
        self,
        claimed: Claim,
        connection: sqlite3.Connection,
        contents: sqlite.Contents,
        limits: OutboxLimits | None = None,
        now_us: Callable[[], int] = lambda: time.time_ns() // 1000,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.paused: str | None = None
        self.path = claimed.path
        self.unreadable = contents.unreadable
        self._claim = claimed
        self._writer = Writer(connection)
        self._limits = limits or OutboxLimits()
        self._index = OutboxIndex(contents.entries, contents.winners)
        self._now_us, self._clock = now_us, clock
        self._position = self._index.newest
        self._for_work, self._nudge = trio.lowlevel.ParkingLot(), trio.Event()
        self._trust_at = self._look_at = float("-inf")
        self._disk_has_room = True
        self._seen = self._index.seen()
        self._adopted_entries = self._adopted_bytes = 0
        self._adoption = Adoption(self.path, self._writer, self._take_over)

    async def put(self, rows: Sequence[LogRow], title: str | None = None, *, stands: bool = False) -> None:
        """Keep rows until they are delivered, all of them or none; a row whose key is here already stays as it is.

        Args:
            rows: of one turn.
            title: of their conversation, when it still has to be made.
            stands: whether their conversation was found in the database; else another may have won its page.

        Raises:
            OutboxError: they could not be written, or there is no room even for turns that already run.
            ValueError: the context of a row is nothing that JSON can say.
        """
        self._refuse_beyond_reserve()
        packed = [sqlite.pack(row, title, self._next_position(), stands=stands) for row in rows]
        await self._write(partial(sqlite.insert, packed=packed), self._take_in)

    def has_room(self) -> bool:
        """Return whether a new turn may begin: neither outbox nor disk is full, and the last write did not just fail.

        Cheap: the disk is looked at once in a while.
        """
        now, limits = self._clock(), self._limits
        return (
            not self._writer.closed
            and now >= self._trust_at
            and len(self._index) < limits.max_entries
            and self._index.bytes < limits.max_bytes
            and self._look_at_disk(now)
        )

    def holds(self, conversation_id: uuid.UUID) -> bool:
        """Return whether a row waits here for the conversation that stands under this id.

        As long as one does, all its rows go through here.
        """
        return self._index.holds(conversation_id)

    def undelivered(self, user_id: str) -> tuple[LogRow, ...]:
        """Return the user's rows that are here, those set aside too, in the order in which they were put."""
        return self._index.undelivered(user_id)

    def resolve(self, conversation_id: uuid.UUID) -> uuid.UUID:
        """Return the id under which a conversation stands that lost the race for its page; any other's own."""
        return self._index.resolve(conversation_id)

    def entries(self, limit: int) -> tuple[OutboxEntry, ...]:
        """Return the first entries in the order of delivery, those set aside too."""
        return self._index.entries(limit)

    def statistics(self) -> OutboxStatistics:
        """Return how the outbox is now; safe to call from any thread."""
        seen = self._seen
        return OutboxStatistics(
            waiting=seen.waiting,
            set_aside=seen.set_aside,
            oldest_age_s=0.0 if seen.oldest is None else max(0.0, (self._now_us() - seen.oldest) / 1e6),
            bytes=seen.bytes,
            paused=self.paused,
        )

    async def retry(self, entry_id: int) -> bool:
        """Have the entry's turn delivered, though it was set aside, and the delivery try at once, though it waits.

        Returns whether there is such an entry.
        """
        entry = self._index.entry(entry_id)
        if entry is None:
            return False
        turn_id = entry.row.turn_id
        await self._write(partial(sqlite.take_back, turn_id=turn_id), lambda _: self._index.take_back(turn_id))
        self._call_delivery()
        self._nudge.set()
        return True

    async def delete(self, entry_id: int) -> bool:
        """Give one entry up: its row is lost, unless its delivery is just under way. Returns whether there was one."""
        entry = self._index.entry(entry_id)
        if entry is None:
            return False
        await self.settle(delivered=[entry_id])
        self._nudge.set()  # it may be what the delivery pauses for
        log.warning("outbox.deleted", extra={"turn_id": str(entry.row.turn_id), "sender": entry.row.sender})
        return True

    def batch(self, max_rows: int, max_bytes: int, last: Collection[uuid.UUID] = ()) -> tuple[OutboxEntry, ...]:
        """Return what is to be delivered next, oldest first: one entry at least, unless none waits.

        Entries of the conversations in `last` come behind those of all others.
        """
        return self._index.batch(max_rows, max_bytes, last)

    async def wait_for_work(self) -> None:
        """Wait until an entry is to be delivered."""
        while not self._index.waiting:
            await self._for_work.park()

    async def wait_for_nudge(self) -> None:
        """Wait until somebody wants a delivery that failed to be tried again at once."""
        await self._nudge.wait()
        self._nudge = trio.Event()

    async def settle(
        self,
        *,
        delivered: Collection[int] = (),
        set_aside: Mapping[uuid.UUID, str] | None = None,
        attempted: Collection[int] = (),
    ) -> None:
        """Keep what became of a delivery.

        Args:
            delivered: ids of entries that are done.
            set_aside: turns that the database refuses, with the reasons.
            attempted: ids of entries that were tried in vain.

        Raises:
            OutboxError: it could not be written; nothing has changed.
        """
        turns = set_aside or {}

        def job(connection: sqlite3.Connection) -> None:
            sqlite.remove(connection, delivered)
            sqlite.set_aside(connection, turns)
            sqlite.count_attempts(connection, attempted)

        def apply(_: None) -> None:
            self._index.remove(delivered)
            self._index.set_aside(turns)
            self._index.count_attempts(attempted)

        await self._write(job, apply)

    async def map_conversation(self, loser: uuid.UUID, winner: uuid.UUID) -> None:
        """Know a conversation by the id that stands, from now on and after a restart."""
        await self._write(
            partial(sqlite.map_conversation, loser=loser, winner=winner),
            lambda _: self._index.map_conversation(loser, winner),
        )

    async def adopt(self) -> int:
        """Take over what processes that are gone have left behind, and return how many entries that was.

        That goes in batches: whoever puts meanwhile waits for one of them at the most. What cannot be read is left
        where it is, and the log says so, once.

        Raises:
            OutboxError: they could not be written here; they stay where they are.
        """
        return await self._adoption.run()

    async def adopt_for_ever(self, every_s: float = ADOPT_S) -> None:
        """Take over what is left behind while this process runs, too: by one that was replaced by it, for example."""
        while True:
            await trio.sleep(every_s)
            with contextlib.suppress(OutboxError):  # it was logged, and there is a next time
                await self.adopt()

    async def aclose(self) -> None:
        """Refuse puts, and close the file: removed when nothing is in it, else left for the next process to adopt."""
        await self._writer.close(self._let_go)

    def _let_go(self) -> None:
        if len(self._index) or self._index.winners or self.unreadable:
            self._claim.release()
        else:
            self._claim.remove()

    def _next_position(self) -> int:
        self._position = max(self._now_us(), self._position + 1)
        return self._position

    def _refuse_beyond_reserve(self) -> None:
        limits, index = self._limits, self._index
        if (
            len(index) >= max(limits.max_entries, self._adopted_entries) + limits.reserve_entries
            or index.bytes >= max(limits.max_bytes, self._adopted_bytes) + limits.reserve_bytes
        ):
            raise OutboxError("full", "the outbox is full")

    def _take_in(self, entries: list[OutboxEntry]) -> None:
        self._index.add(entries)
        self._call_delivery()

    def _take_over(self, winners: sqlite.Winners, entries: list[OutboxEntry]) -> None:
        self._index.add_winners(winners)
        self._take_in(entries)
        self._position = max(self._position, self._index.newest)
        self._adopted_entries, self._adopted_bytes = len(self._index), self._index.bytes
        self._seen = self._index.seen()

    def _call_delivery(self) -> None:
        if self._index.waiting:
            self._for_work.unpark_all()

    def _look_at_disk(self, now: float) -> bool:
        if now >= self._look_at:
            self._look_at = now + LOOK_AT_DISK_S
            try:
                disk = os.statvfs(self.path.parent)
                self._disk_has_room = disk.f_bavail * disk.f_frsize >= self._limits.min_free_bytes
            except OSError:
                self._disk_has_room = False
        return self._disk_has_room

    async def _write(self, job: Job[T], apply: Callable[[T], None]) -> None:
        def apply_and_note(result: T) -> None:
            apply(result)
            self._seen = self._index.seen()

        with self._distrusting():
            await self._writer.write(job, apply_and_note)

    @contextlib.contextmanager
    def _distrusting(self) -> Iterator[None]:
        try:
            yield
        except OutboxError as error:
            if error.reason != "closed":
                self._trust_at = self._clock() + self._limits.distrust_s
            raise


@asynccontextmanager
async def open_outbox(
    folder: Path,
    *,
    sync: Sync = "full",
    limits: OutboxLimits | None = None,
    now_us: Callable[[], int] = lambda: time.time_ns() // 1000,
    clock: Callable[[], float] = time.monotonic,
) -> AsyncIterator[Outbox]:
    """Open an outbox for this process in `folder`, which is made when missing, with all that others left behind there.

    Args:
        folder: of all outboxes on this machine.
        sync: what a put waits for: the disk (`full`), or only the operating system (`normal`).
        limits: how large it may grow.
        now_us: microseconds since the epoch.
        clock: seconds, never going back.

    Raises:
        OutboxError: the folder or a file in it cannot be made or written; one sentence.
    """
    opened = await trio.to_thread.run_sync(_open_new, folder, sync)
    async with _closing(Outbox(*opened, limits or OutboxLimits(), now_us, clock)) as outbox:
        await outbox.adopt()
        yield outbox


@asynccontextmanager
async def open_orphan(path: Path) -> AsyncIterator[Outbox]:
    """Open the file that a process which is gone has left behind; at the end it is removed, when nothing is left in it.

    Raises:
        OutboxError: there is no such file, it is no outbox, or a process has it open; or, at the end, `unreadable`:
            there are rows in it that cannot be read, and stay there.
    """
    async with _closing(Outbox(*await trio.to_thread.run_sync(_open_orphan, path))) as outbox:
        yield outbox
    if outbox.unreadable:
        raise OutboxError("unreadable", rows_that_cannot_be_read(outbox.unreadable, path))


@asynccontextmanager
async def _closing(outbox: Outbox) -> AsyncIterator[Outbox]:
    try:
        yield outbox
    finally:
        with shielded(CLOSE_S):
            await outbox.aclose()


def _open_new(folder: Path, sync: Sync) -> tuple[Claim, sqlite3.Connection, sqlite.Contents]:
    folder = folder.absolute()
    with _usable(folder):
        make_folder(folder)
        claimed = claim_new(folder)
        with _withdrawn_on_failure(claimed):
            connection, contents = _open(claimed, sync)
            sync_names(folder)
    return claimed, connection, contents


def _open_orphan(path: Path) -> tuple[Claim, sqlite3.Connection, sqlite.Contents]:
    path = path.absolute()
    with _usable(path):
        if not path.exists():
            raise OutboxError("unopenable", f"there is no file {path}")
        claimed = claim(path)
        if claimed is None:
            raise OutboxError("in_use", f"the outbox {path} belongs to a process that runs")
        with _withdrawn_on_failure(claimed):
            return claimed, *_open(claimed, "full")


def _open(claimed: Claim, sync: Sync) -> tuple[sqlite3.Connection, sqlite.Contents]:
    with unopenable(claimed.path):
        connection = sqlite.connect(claimed.path, sync)
        try:
            return connection, sqlite.load(connection)
        except BaseException:
            connection.close()
            raise


@contextlib.contextmanager
def _usable(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        raise OutboxError("unopenable", f"the outbox {path} cannot be used: {exc.strerror}") from exc


@contextlib.contextmanager
def _withdrawn_on_failure(claimed: Claim) -> Iterator[None]:
    try:
        yield
    except BaseException:
        claimed.withdraw()
        raise
