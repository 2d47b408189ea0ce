"""Bare sockets that measure what a server does to them, and what its process costs meanwhile."""

import re
import select
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from tests.server.process import WAIT_S, ServerProcess
from tests.server.wire import Wire

MODULE = "tests.edge.limits_server"
DRIP_S = 0.2


def get(path: str, *headers: str, method: str = "GET") -> bytes:
    """Return a request without a body."""
    return "\r\n".join([f"{method} {path} HTTP/1.1", "host: 127.0.0.1", *headers, "", ""]).encode()


@contextmanager
def hanging_on(server: ServerProcess, request: bytes, receive_buffer: int | None = None) -> Iterator[Wire]:
    """Send a request, and read nothing of the answer unless the block does."""
    with socket.socket() as connection:
        if receive_buffer is not None:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        connection.settimeout(WAIT_S)
        connection.connect(server.address)
        wire = Wire(connection)
        wire.send(request)
        yield wire


@dataclass(slots=True)
class Life:
    """What came back on a connection, and when: in seconds from when it was opened."""

    data: bytearray = field(default_factory=bytearray)
    first_s: float = 0.0
    last_s: float = 0.0
    end_s: float = 0.0
    refused_s: float = 0.0
    """When the server would not take another byte, for those who went on sending."""

    @property
    def idle_s(self) -> float:
        """How long the connection was kept after the last byte that came back."""
        return self.end_s - self.last_s

    @property
    def statuses(self) -> list[int]:
        """The answers' statuses."""
        return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) ", self.data)]


def live(server: ServerProcess, sends: bytes, drip: bytes = b"") -> Life:
    """Send, and read to the connection's end; `drip` is sent all the while, a byte at a time, and begun again."""
    life, start = Life(), time.monotonic()
    with socket.create_connection(server.address, WAIT_S) as connection:
        with suppress(ConnectionError):  # refused already
            connection.sendall(sends)
        dripped = 0
        while _read(connection, life, start, DRIP_S if drip else WAIT_S):
            if drip:
                with suppress(OSError):
                    connection.sendall(drip[dripped % len(drip) :][:1])
                dripped += 1
        with suppress(OSError):
            while drip and time.monotonic() - start < WAIT_S:
                connection.sendall(b"x")
                time.sleep(DRIP_S)
        life.refused_s = time.monotonic() - start
    return life


def _read(connection: socket.socket, life: Life, start: float, wait_s: float) -> bool:
    """Read what comes within so long; return whether there may be more."""
    if not select.select([connection], [], [], wait_s)[0]:
        assert time.monotonic() - start < WAIT_S, "kept open"
        return True
    try:
        data = connection.recv(1 << 16)
    except ConnectionResetError:
        data = b""
    now = time.monotonic() - start
    if not data:
        life.end_s = now
        return False
    life.first_s = life.first_s or now
    life.last_s = now
    life.data += data
    return True


def rss_mib(pid: int) -> float:
    """Return how much memory a process has resident, in MiB."""
    found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found
    return int(found[1]) / 1024


def open_files(pid: int) -> set[int]:
    """Return the descriptors that a process has open."""
    return {int(entry.name) for entry in Path(f"/proc/{pid}/fd").iterdir()}
