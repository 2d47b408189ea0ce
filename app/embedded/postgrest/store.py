"""The database file: one connection that writes, a few that read, all of them used in threads.

Rules:

* A request is one transaction in one thread: one hop off the Trio loop, and all of its statements see one state.
* Writers queue in a `CapacityLimiter` of one, in order, so that SQLite's lock is free when a write begins. Only another
  process on the same file can make it wait, for `BUSY_TIMEOUT_S` at the most.
* In WAL mode readers wait for nobody.
* Whoever is cancelled while waiting in line has changed nothing. A thread that has begun is not abandoned: its caller
  waits the fraction of a millisecond until the transaction is whole, either way, and the connection is free again.
* `synchronous=NORMAL`: a committed row is in the operating system's hands and survives the end of this process, kill -9
  included. Losing power may cost the last transactions, though never the file's integrity. `FULL` would wait for the
  disk at every write; whoever needs that uses a real database.
"""

import contextlib
import os
import sqlite3
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final, TypeVar

import trio

from app.embedded.postgrest.errors import DialectError, EmbeddedDatabaseError
from app.embedded.postgrest.migrations import migrate
from app.embedded.postgrest.patterns import lower_case
from app.embedded.postgrest.tables import Catalog, read_catalog
from app.embedded.postgrest.violations import file_failure
from app.sqlite_wal import switch_to_wal

T = TypeVar("T")
Job = Callable[[sqlite3.Connection], T]

READERS: Final = 4  # a read takes well under a millisecond; more threads only contend for the interpreter
BUSY_TIMEOUT_S: Final = 2.0  # a cancelled caller may have to wait for it, and DB_SAVE_TIMEOUT is no longer
CLOSE_TIMEOUT_S: Final = 5.0  # what a checkpoint may take
CACHED_STATEMENTS: Final = 256
OLDEST_SQLITE: Final = (3, 35, 0)  # RETURNING

# What opening reports, by SQLite's name for the error.
OPENING_FAILURES: Final = {
    "SQLITE_NOTADB": "is not a SQLite database",
    "SQLITE_CORRUPT": "is a damaged SQLite database",
    "SQLITE_CANTOPEN": "cannot be opened",
    "SQLITE_READONLY": "cannot be written",
    "SQLITE_PERM": "cannot be written",
    "SQLITE_BUSY": "is locked by another process",
}


class Store:
    """The open database; `catalog` is what it holds."""

    def __init__(self, writer: sqlite3.Connection, readers: Sequence[sqlite3.Connection], catalog: Catalog) -> None:
        self.catalog = catalog
        self._writer = writer
        self._idle = deque(readers)
        self._writing = trio.CapacityLimiter(1)
        self._reading = trio.CapacityLimiter(len(readers))
        self._closed = False

    async def read(self, job: Job[T]) -> T:
        """Run `job` in a thread, in a read transaction, and return its result.

        Raises:
            DialectError: the job refused, or the file failed.
        """
        return await trio.to_thread.run_sync(self._read, job, limiter=self._reading)

    async def write(self, job: Job[T]) -> T:
        """Run `job` in a thread, in a write transaction that is undone when the job raises, and return its result.

        Raises:
            DialectError: the job refused, or the file failed.
        """
        return await trio.to_thread.run_sync(self._write, job, limiter=self._writing)

    async def aclose(self) -> None:
        """Write the log back into the file and close; later requests are refused, a running read closes its own."""
        await trio.to_thread.run_sync(self._close, limiter=self._writing)

    def _read(self, job: Job[T]) -> T:
        connection = self._borrow()
        try:
            return _transact(connection, "BEGIN", job)
        finally:
            self._idle.append(connection)
            if self._closed:
                self._close_idle()

    def _write(self, job: Job[T]) -> T:
        if self._closed:
            raise _after_the_end()
        return _transact(self._writer, "BEGIN IMMEDIATE", job)

    def _borrow(self) -> sqlite3.Connection:
        try:
            return self._idle.pop()
        except IndexError:  # as many threads as connections: none is idle only when all are closed
            raise _after_the_end() from None

    def _close(self) -> None:
        self._closed = True
        self._close_idle()
        with contextlib.suppress(sqlite3.Error):  # the log is kept and read at the next start
            self._writer.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        self._writer.close()

    def _close_idle(self) -> None:
        with contextlib.suppress(IndexError):
            while True:
                self._idle.pop().close()


@asynccontextmanager
async def open_store(path: Path, schema: Sequence[Path]) -> AsyncIterator[Store]:
    """Open the database at `path`, made when missing, brought to `schema`; close it at the end.

    Raises:
        EmbeddedDatabaseError: the file or its folder cannot be opened or written, or is not ours.
    """
    store = await trio.to_thread.run_sync(_open, path, schema)
    try:
        yield store
    finally:
        with trio.move_on_after(CLOSE_TIMEOUT_S, shield=True):
            await store.aclose()


def _after_the_end() -> DialectError:
    return DialectError("PGRST000", "the embedded database is closed")


def _open(path: Path, schema: Sequence[Path]) -> Store:
    if sqlite3.sqlite_version_info < OLDEST_SQLITE:
        raise EmbeddedDatabaseError(f"SQLite 3.35 or later is needed; this Python has {sqlite3.sqlite_version}")
    path = path.absolute()
    with contextlib.ExitStack() as opened:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            _make_private(path)
            connections = [opened.enter_context(contextlib.closing(_connect(path))) for _ in range(1 + READERS)]
            migrate(connections[0], schema)
            catalog = read_catalog(connections[0])
        except OSError as exc:
            raise EmbeddedDatabaseError(f"the folder {path.parent} cannot be used: {exc.strerror}") from exc
        except sqlite3.Error as exc:
            raise EmbeddedDatabaseError(f"the database {path} {_failure(exc)}") from exc
        opened.pop_all()
    for reader in connections[1:]:
        reader.execute("PRAGMA query_only = ON")
    return Store(connections[0], connections[1:], catalog)


def _make_private(path: Path) -> None:
    """Make a new file one that nobody else may read; SQLite makes what stands beside it alike."""
    with contextlib.suppress(FileExistsError):
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(
        path,
        timeout=BUSY_TIMEOUT_S,
        isolation_level=None,
        check_same_thread=False,  # one thread at a time, but not always the same one
        cached_statements=CACHED_STATEMENTS,
    )
    try:
        switch_to_wal(connection, BUSY_TIMEOUT_S)
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute("PRAGMA foreign_keys = ON")
        connection.create_function("lower_case", 1, lower_case, deterministic=True)
    except BaseException:
        connection.close()
        raise
    return connection


def _failure(error: sqlite3.Error) -> str:
    name = "_".join(getattr(error, "sqlite_errorname", "").split("_")[:2])
    return OPENING_FAILURES.get(name, f"cannot be used: {error}")


def _transact(connection: sqlite3.Connection, begin: str, job: Job[T]) -> T:
    try:
        connection.execute(begin)
        try:
            result = job(connection)
            connection.execute("COMMIT")
        except BaseException:
            connection.rollback()
            raise
    except sqlite3.Error as exc:
        raise file_failure(exc) from exc
    return result
