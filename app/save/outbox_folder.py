"""The folder of the outboxes: whose file is whose, and taking over those of processes that are gone.

Each process has a file of its own, `<random>.sqlite3`, and holds a lock on `<random>.sqlite3-lock` while it lives; the
operating system lets go of it however the process ends, and of nothing else. So whoever gets the lock may have the
file.

* `flock` on a file beside it, not on SQLite's own: SQLite locks with `fcntl`, and a process loses all such locks on a
  file when it closes any handle to it; and where `flock` is made of `fcntl` locks (NFS), the two would meet.
* The lock file is removed last, by whoever holds its lock. Somebody may have opened it before and get the lock after:
  a lock counts only while its file is the one that the name leads to.
* Taking over copies some entries by key, then deletes these where they were, and removes the file when it is empty.
  Killed in between, some entries are in two files, and the next one to take over copies by key again. What cannot be
  read is not moved, and its file stays.
* Names are random and used once: a log (`-wal`) that is left behind can never be taken for that of another file.
"""

import contextlib
import fcntl
import os
import secrets
import sqlite3
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from app.save import outbox_sqlite as sqlite
from app.save.outbox_sqlite import Luggage
from app.save.outbox_values import OutboxError

SUFFIX: Final = ".sqlite3"
BESIDE: Final = ("-wal", "-shm", "-journal", "-lock")
"""What stands beside a file, in the order in which it is removed after it."""
PRIVATE: Final = 0o700
BATCH_ENTRIES, BATCH_BYTES = 200, 1 << 20
"""What is taken over in one transaction: whoever puts meanwhile stands in line for some 20 ms of it."""


class Claim:
    """The right to one file, while this process lives or until it is let go.

    Args:
        path: of the file.
        lock: handle of the lock file.
        made: whether the lock file was not there before.
    """

    def __init__(self, path: Path, lock: int, made: bool) -> None:
        self.path = path
        self._lock, self._made = lock, made

    def remove(self) -> None:
        """Remove the file, what stands beside it, and with the lock file the claim itself."""
        for path in (self.path, *(_beside(self.path, what) for what in BESIDE)):
            path.unlink(missing_ok=True)
        self.release()

    def withdraw(self) -> None:
        """Let go of a file that is not what it was taken for, and leave nothing beside it that was not there."""
        if self._made:
            _beside(self.path, "-lock").unlink(missing_ok=True)
        self.release()

    def release(self) -> None:
        """Let somebody else have the file."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1


def claim(path: Path) -> Claim | None:
    """Claim the file at `path`, which need not exist; None when somebody else has it, or had it until just now."""
    name = _beside(path, "-lock")
    made = not name.exists()
    lock = os.open(name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(os.fstat(lock), os.stat(name)):
            return Claim(path, lock, made)
    except (BlockingIOError, FileNotFoundError):
        pass
    except BaseException:
        os.close(lock)
        raise
    os.close(lock)
    return None


def claim_new(folder: Path) -> Claim:
    """Claim a file that is not there yet."""
    while True:
        claimed = claim(folder / f"{secrets.token_hex(8)}{SUFFIX}")
        if claimed is not None:  # somebody who looks for files of the dead may hold a lock for a moment
            return claimed


class OrphanError(OutboxError):
    """A file that a process which is gone has left behind cannot be taken over; what is in it stays there."""


class Orphan:
    """A file that a process which is gone has left behind, claimed and open, to be emptied batch by batch."""

    def __init__(self, claimed: Claim, connection: sqlite3.Connection) -> None:
        self.path = claimed.path
        self._claim = claimed
        self._connection = connection
        self._batches = deque(_batches(sqlite.ids_and_sizes(connection)))

    def take_out(self) -> Luggage | None:
        """Return what is to be moved next, which stays here until it is dropped; None when that was all.

        Raises:
            OrphanError: the file is damaged.
        """
        with _of_orphan(self.path):
            while self._batches:
                luggage = sqlite.take_out(self._connection, self._batches.popleft())
                if luggage.entries or luggage.winners:
                    return luggage
        return None

    def drop(self, luggage: Luggage) -> None:
        """Delete what has arrived elsewhere.

        Raises:
            OrphanError: the file cannot be written.
        """
        with _of_orphan(self.path), sqlite.transaction(self._connection):
            sqlite.drop(self._connection, luggage)

    def close(self) -> int:
        """Let go of the file, which is removed when nothing is left in it, and return how much is.

        Raises:
            OrphanError: the file is damaged, or cannot be removed.
        """
        with contextlib.ExitStack() as end, _of_orphan(self.path):
            end.callback(self._claim.release)
            with contextlib.closing(self._connection):
                left = sqlite.left(self._connection)
            if not left:
                self._claim.remove()
            return left


def _batches(entries: list[tuple[int, int]]) -> Iterator[list[int]]:
    """Yield ids in batches; the first even if there are none, since there may be winners."""
    batch: list[int] = []
    room = BATCH_BYTES
    for id_, size in entries:
        if batch and (len(batch) == BATCH_ENTRIES or size > room):
            yield batch
            batch, room = [], BATCH_BYTES
        batch.append(id_)
        room -= size
    yield batch


def take_hold(path: Path) -> Orphan | None:
    """Claim and open the file at `path`; None when a process has it, or it is gone.

    Raises:
        OrphanError: it is damaged, no outbox, or cannot be opened; it stays as it is.
    """
    with _of_orphan(path), contextlib.ExitStack() as undo:
        claimed = claim(path)
        if claimed is None:
            return None
        if not path.exists():
            claimed.remove()
            return None
        undo.callback(claimed.withdraw)
        connection = undo.enter_context(contextlib.closing(sqlite.connect(path, "normal")))
        orphan = Orphan(claimed, connection)
        undo.pop_all()
        return orphan


@contextlib.contextmanager
def _of_orphan(path: Path) -> Iterator[None]:
    try:
        with unopenable(path):
            yield
    except OutboxError as exc:
        raise OrphanError(exc.reason, str(exc)) from exc
    except OSError as exc:
        raise OrphanError("oserror", str(exc)) from exc


@contextlib.contextmanager
def unopenable(path: Path) -> Iterator[None]:
    """Tell what SQLite says at opening a file as an error of the outbox.

    Raises:
        OutboxError: the file is no database, damaged, or cannot be opened.
    """
    try:
        yield
    except sqlite3.Error as exc:
        raise OutboxError("unopenable", f"the outbox {path} cannot be used: {exc}") from exc


def make_folder(folder: Path) -> None:
    """Make the folder, for nobody else to look into, and those above it; they are still there after a power cut."""
    missing = [folder, *folder.parents]
    missing = missing[: next((n for n, path in enumerate(missing) if path.exists()), 0)]
    folder.mkdir(mode=PRIVATE, parents=True, exist_ok=True)
    if folder.stat().st_mode & 0o777 != PRIVATE:
        with contextlib.suppress(PermissionError):  # it is another user's, or on a volume that knows no modes
            folder.chmod(PRIVATE)
    for path in missing:
        sync_names(path.parent)


def sync_names(folder: Path) -> None:
    """Wait until the names of the files in `folder` are on the disk."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def others(own: Path) -> list[Path]:
    """Return the files beside our own, those of which only the lock file is left, too."""
    folder = own.parent
    locks = (path.with_name(path.name.removesuffix("-lock")) for path in folder.glob(f"*{SUFFIX}-lock"))
    return sorted({*folder.glob(f"*{SUFFIX}"), *locks} - {own})


def _beside(path: Path, what: str) -> Path:
    return path.with_name(path.name + what)
