"""The server's own SQLite files: the embedded database, and the outboxes.

A file is opened for reading, by the user whose it is and by nobody else: SQLite makes a `-wal` and a `-shm` beside it
and may leave them, and those of another user would keep the server from its own file. It blocks, so it runs in threads.
"""

import fcntl
import os
import sqlite3
from collections.abc import Iterable
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass
from pathlib import Path

from app.ops.doctor.finding import Finding, fail, ok, skip, warn
from app.ops.doctor.needs import COLUMNS

EMBEDDED = "database.embedded"
RETRY = "look at /ops/outbox: why is in each entry's reason; then retry or delete it there"
DELIVER = "start a server on this DATA_DIR, or: python -m app outbox deliver FILE"


@dataclass(frozen=True, slots=True)
class OutboxFile:
    """A process's outbox: how many rows wait, how many were set aside, and whether the process lives."""

    path: Path
    alive: bool
    waiting: int = 0
    set_aside: int = 0
    problem: str = ""


def other_user(paths: Iterable[Path], me: int) -> str:
    """Return whose a path is that is not `me`'s, as a clause; nothing where all that are there are.

    Raises:
        OSError: one of them cannot be looked at.
    """
    for path in paths:
        if path.exists() and (owner := path.stat().st_uid) != me:
            return f"{path} is of the user {owner}, and this is {me}"
    return ""


def look_at_database(path: Path, me: int) -> list[Finding]:
    """Return whether the embedded database's file is one that a server can use."""
    try:
        if not path.exists():
            return [ok(EMBEDDED, f"embedded; {path} is made at the first start")]
        if other := other_user([path], me):
            return [skip(EMBEDDED, f"not opened: {other}", "run the doctor as the server's user")]
        with _to_read(path) as database:
            for table, columns in COLUMNS.items():
                database.execute(f"SELECT {', '.join(columns)} FROM {table} LIMIT 0")  # noqa: S608 - our own names
    except (sqlite3.Error, OSError) as exc:
        return [_unreadable(path, exc)]
    return [ok(EMBEDDED, f"embedded, {path}: for first looks and small deployments, on this machine only")]


def _to_read(path: Path) -> AbstractContextManager[sqlite3.Connection]:
    return closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=1))


def _unreadable(path: Path, exc: sqlite3.Error | OSError) -> Finding:
    problem = _named(exc)
    if isinstance(exc, OSError):
        return fail(EMBEDDED, f"{path} cannot be looked at ({problem})", "give DATA_DIR to the server's user")
    if problem == "SQLITE_BUSY":
        return warn(EMBEDDED, f"{path} is locked by another program", "close what has it open, such as an editor")
    todo = "start the server once, which brings an older file up to date; a damaged one comes back from a copy"
    return fail(EMBEDDED, f"{path} is no database of this version ({problem})", todo)


def _named(exc: sqlite3.Error | OSError) -> str:
    """Return what to call an error on one line: never its own sentence, but for the system's."""
    own = exc.strerror if isinstance(exc, OSError) else getattr(exc, "sqlite_errorname", None)
    return own or type(exc).__name__


def outboxes_in(folder: Path) -> list[Path]:
    """Return the outboxes of all processes; none where the folder cannot be looked at, as then DATA_DIR cannot."""
    try:
        return sorted(folder.glob("*.sqlite3"))
    except OSError:
        return []


def read_outbox(path: Path) -> OutboxFile:
    """Return what is in an outbox, and whether a process has it."""
    alive = False
    try:
        alive = _is_held(path.with_name(f"{path.name}-lock"))
        with _to_read(path) as outbox:
            counts = outbox.execute("SELECT count(*), count(reason) FROM entries").fetchone()
    except (sqlite3.Error, OSError) as exc:
        return OutboxFile(path, alive, problem=_named(exc))
    return OutboxFile(path, alive, waiting=counts[0] - counts[1], set_aside=counts[1])


def _is_held(lock: Path) -> bool:
    """Return whether a process that lives has the file; asking does not keep one from taking it over for long.

    Raises:
        OSError: nobody can tell, as on a network's disk without locks.
    """
    try:
        handle = os.open(lock, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(handle)
    return False


def judge_outboxes(files: list[OutboxFile], *, outbox: bool) -> list[Finding]:
    """Return what is left in outboxes, and by whom; `outbox` is whether the server has one."""
    found = [
        warn("outbox.files", f"{file.path.name} cannot be read ({file.problem})", "keep the file, and ask for support")
        for file in files
        if file.problem
    ]
    aside = sum(file.set_aside for file in files)
    if aside:
        found.append(fail("outbox.set_aside", f"{aside} rows were refused by the database for good", RETRY))
    left = [file for file in files if not file.alive and file.waiting]
    if left:
        said = f"{sum(file.waiting for file in left)} rows wait in {len(left)} files of processes that are gone"
        found.append(warn("outbox.left", f"{said}, such as {left[0].path}", DELIVER))
    waiting = sum(file.waiting for file in files if file.alive)
    off = "" if outbox else "; OUTBOX=off, so that a row the database does not take is lost"
    return found or [ok("outbox", f"{waiting} rows wait in {len(files)} files, none is set aside{off}")]
