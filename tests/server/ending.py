"""What the tests of the server's end share: requests as bytes, a port that closes, a database that is slow."""

import json
import socket
import sqlite3
import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from signal import Signals

from tests.server.process import WAIT_S, ServerProcess
from tests.server.wire import chat_head

TALKING = "gen_ai_client_operation_time_to_first_chunk_seconds_count"
"""Counts the answers that have begun, once they have a first token."""
STALLS = "Never finish [[fault: stall after=3]]"


def post(message: str, path: str = "/chat", user: str = "demo") -> bytes:
    """Return a whole `POST` of a message."""
    head, body = parts(message, user)
    return head.replace(b"/chat", path.encode(), 1) + body


def parts(message: str, user: str = "demo") -> tuple[bytes, bytes]:
    """Return the head and the body of a `POST /chat`."""
    body = json.dumps({"message": message}).encode()
    return chat_head(len(body), user), body


def get(path: str) -> bytes:
    """Return a `GET`."""
    return f"GET {path} HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n".encode()


def refuses(server: ServerProcess) -> bool:
    """Return whether the server's port takes no connection."""
    try:
        socket.create_connection(server.address, WAIT_S).close()
    except (ConnectionRefusedError, ConnectionResetError):  # reset: it was in the backlog when the port was closed
        return True
    return False


def seconds_to_end(server: ServerProcess, number: Signals) -> float:
    """Send a signal; return how long the process lived on. Its exit code is 0."""
    begun = time.monotonic()
    assert server.end(number) == 0
    return time.monotonic() - begun


def report(what: str, seconds: Sequence[float]) -> None:
    """Print how long it took (seen with `pytest -s`)."""
    print(f"\n{what}: median {statistics.median(seconds):.2f} s, most {max(seconds):.2f} s, of {len(seconds)}")  # noqa: T201 - the figure is the point


@contextmanager
def locked(data_dir: Path) -> Iterator[None]:
    """Hold the database's write lock until the block ends, as another program on the same file might."""
    with closing(sqlite3.connect(data_dir / "supabase.sqlite3", isolation_level=None, timeout=WAIT_S)) as database:
        database.execute("begin immediate")
        yield
        database.execute("rollback")
