"""A client who does nothing wrong, and must be served whatever another one sends; and how its judge reads answers."""

import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import h11
import httpx

from tests.server.process import WAIT_S, ServerProcess

HEALTH = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
ASKED = (h11.Request(method="GET", target="/", headers=[("host", "x")]), h11.EndOfMessage())
ASKED_HEAD = (h11.Request(method="HEAD", target="/", headers=[("host", "x")]), h11.EndOfMessage())
MOST_BYTES = 1 << 22


@dataclass(slots=True)
class Bystander:
    """An open connection that is used again and again."""

    socket: socket.socket

    def ask(self) -> None:
        """Ask for the health and get it."""
        self.socket.sendall(HEALTH)
        data = b""
        while b"\r\n\r\n" not in data or not data.endswith(b"}"):
            piece = self.socket.recv(4096)
            assert piece, "the bystander's connection was ended"
            data += piece
        assert data.startswith(b"HTTP/1.1 200 "), data


@contextmanager
def bystander(server: ServerProcess) -> Iterator[Bystander]:
    """Connect a bystander, who is answered before the block, and again after it by the same process."""
    pid = server.process.pid
    with socket.create_connection(server.address, WAIT_S) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        one = Bystander(connection)
        one.ask()
        yield one
        one.ask()
    assert (server.process.poll(), server.process.pid) == (None, pid)


def read_to_end(connection: socket.socket) -> bytes:
    """Return all that comes until the server ends the connection."""
    data = b""
    while piece := connection.recv(1 << 16):
        data += piece
        assert len(data) < MOST_BYTES
    return data


def said_to(server: ServerProcess, *pieces: bytes) -> bytes:
    """Connect, send, and return all that comes until the server ends the connection by itself."""
    with socket.create_connection(server.address, WAIT_S) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for piece in pieces:
            connection.sendall(piece)
        return read_to_end(connection)


def answers(data: bytes, *, head: bool = False, cut: bool = False) -> list[httpx.Response]:
    """Return the answers that `data` is made of, as h11 reads them.

    Args:
        head: any of the requests may have been a HEAD, whose answer has no body.
        cut: the last answer may be incomplete, and is left out then.

    Raises:
        h11.RemoteProtocolError: they are not proper HTTP.
    """
    if not data:
        return []
    try:
        first, rest = _one_answer(data, ASKED, cut=cut)
        return [*first, *answers(rest, head=head, cut=cut)]
    except h11.RemoteProtocolError:
        if not head:
            raise
    first, rest = _one_answer(data, ASKED_HEAD, cut=cut)
    return [*first, *answers(rest, head=head, cut=cut)]


def _one_answer(
    data: bytes, asked: tuple[h11.Request, h11.EndOfMessage], *, cut: bool
) -> tuple[list[httpx.Response], bytes]:
    connection = h11.Connection(h11.CLIENT)
    for said in asked:
        connection.send(said)
    connection.receive_data(data)
    if not cut:
        connection.receive_data(b"")
    response: h11.Response | None = None
    body = b""
    while True:
        event = connection.next_event()
        if isinstance(event, h11.Response):
            response = event
        elif isinstance(event, h11.Data):
            body += event.data
        elif isinstance(event, h11.EndOfMessage):
            assert response
            answer = httpx.Response(response.status_code, content=body)
            answer.headers = httpx.Headers(list(response.headers))  # these alone: httpx would add the body's length
            return [answer], connection.trailing_data[0]
        elif event is h11.NEED_DATA:
            return [], b""


class Resources:
    """What a process holds, as its operating system says."""

    def __init__(self, server: ServerProcess) -> None:
        self._server = server
        self._proc = Path("/proc") / str(server.process.pid)

    def descriptors(self) -> int:
        return len(list((self._proc / "fd").iterdir()))

    def memory_mb(self) -> float:
        found = re.search(r"VmRSS:\s+(\d+) kB", (self._proc / "status").read_text())
        assert found
        return int(found[1]) / 1024

    def quiet(self) -> None:
        """Wait until nobody is connected but the bystander, and the one who asks."""
        self._server.wait_for_gauge("edge_connections", 2)
        self._server.wait_for_gauge("edge_turns_inflight", 0)
