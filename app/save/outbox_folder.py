"""The folder of the outboxes: whose file is whose, and taking over those of processes that are gone.

Each process has a file of its own, `<random>.sqlite3`, and holds a lock on `<random>.sqlite3-lock` while it lives; the
operating system lets go of it however the process ends, and of nothing else. So whoever gets the lock may have the
file.

* `flock` on a file beside it, not on SQLite's own: SQLite locks with `fcntl`, and a process loses all such locks on a
  file when it closes any handle to it; and where `flock` is made of `fcntl` locks (NFS), the two would meet.
* The lock file is removed last, by whoever holds its lock. Somebody may have opened it before and get the lock after:
  a lock counts only while its file is the one that the name leads to.
* Taking over copies by key and then removes. Killed before the removal, there are two files with the same entries, and
  the next one to start copies by key again.
* Names are random and used once: a log (`-wal`) that is left behind can never be taken for that of another file.
"""

import contextlib
import fcntl
import logging
import os
import secrets
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from app.save.outbox_sqlite import connect, put_in, take_out
from app.save.outbox_values import OutboxError

log = logging.getLogger(__name__)

SUFFIX: Final = ".sqlite3"
BESIDE: Final = ("-wal", "-shm", "-journal", "-lock")
"""What stands beside a file, in the order in which it is removed after it."""


class Claim:
    """The right to one file, while this process lives or until it is let go.

    `told_of`: other files that its process has already said it cannot adopt.
    """

    def __init__(self, path: Path, lock: int) -> None:
        self.path = path
        self.told_of: set[Path] = set()
        self._lock = lock

    def remove(self) -> None:
        """Remove the file, what stands beside it, and with the lock file the claim itself."""
        for path in (self.path, *(_beside(self.path, what) for what in BESIDE)):
            path.unlink(missing_ok=True)
        self.release()

    def release(self) -> None:
        """Let somebody else have the file."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1


def claim(path: Path) -> Claim | None:
    """Claim the file at `path`, which need not exist; None when somebody else has it, or had it until just now."""
    name = _beside(path, "-lock")
    lock = os.open(name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(os.fstat(lock), os.stat(name)):
            return Claim(path, lock)
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


def adopt(own: Claim, connection: sqlite3.Connection) -> int:
    """Move what the files of processes that are gone hold into our own, and return how many entries that was.

    A file that cannot be read, or is no outbox, is left where it is, and the log says so, once.

    Raises:
        sqlite3.Error: our own file cannot be written.
    """
    moved = 0
    for path in _files(own.path.parent):
        if path == own.path:
            continue
        try:
            moved += _adopt_one(path, connection)
        except (OutboxError, OSError) as exc:
            if path not in own.told_of:
                own.told_of.add(path)
                reason = exc.reason if isinstance(exc, OutboxError) else "oserror"
                log.error("outbox.orphan_left", extra={"file": str(path), "reason": reason, "note": str(exc)})
    return moved


def _adopt_one(path: Path, connection: sqlite3.Connection) -> int:
    claimed = claim(path)
    if claimed is None:
        return 0
    try:
        moved = _move(path, connection) if path.exists() else 0
        claimed.remove()
    finally:
        claimed.release()
    return moved


def _move(path: Path, connection: sqlite3.Connection) -> int:
    with contextlib.ExitStack() as opened:
        with unopenable(path):
            orphan = opened.enter_context(contextlib.closing(connect(path, "full")))
            luggage = take_out(orphan)
        moved = put_in(connection, luggage)
    log.warning("outbox.adopted", extra={"file": str(path), "entries": moved})
    return moved


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
    """Make the folder and those above it, so that they are still there after a power cut."""
    missing = [folder, *folder.parents]
    missing = missing[: next((n for n, path in enumerate(missing) if path.exists()), 0)]
    folder.mkdir(parents=True, exist_ok=True)
    for path in missing:
        sync_names(path.parent)


def sync_names(folder: Path) -> None:
    """Wait until the names of the files in `folder` are on the disk."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _files(folder: Path) -> list[Path]:
    locks = (path.with_name(path.name.removesuffix("-lock")) for path in folder.glob(f"*{SUFFIX}-lock"))
    return sorted({*folder.glob(f"*{SUFFIX}"), *locks})


def _beside(path: Path, what: str) -> Path:
    return path.with_name(path.name + what)
