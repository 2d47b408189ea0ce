"""A client that leaves at the very moment at which its next request, sent ahead, is begun."""

import random
import socket
import struct
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.server.process import ServerProcess, running
from tests.server.wire import chat_head, connected

HEALTH = b"GET /healthz HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n"
TURN = b'{"message": "Never finish [[fault: stall after=3]]"}'
CLIENTS = 150


def close(line: socket.socket) -> None:
    line.close()


def half_close(line: socket.socket) -> None:
    line.shutdown(socket.SHUT_WR)


def reset(line: socket.socket) -> None:
    line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    line.close()


def spin(seconds: float) -> None:
    """Wait so long to the microsecond, which a sleep cannot."""
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass


@pytest.mark.parametrize("leave", [close, half_close, reset], ids=lambda leave: leave.__name__)
def test_what_was_sent_ahead_is_not_begun_for_nobody(tmp_path: Path, leave: Callable[[socket.socket], None]) -> None:
    """The first of two requests was read, and then the client was gone: no turn goes on that nobody would cancel."""
    moments = random.Random(1)
    with running(tmp_path, OPENAI_API_POOL_SIZE="50") as server:
        for _ in range(CLIENTS):
            leave_after_the_first_answer(server, leave, moments.uniform(0, 0.004))
        server.wait_for_gauge("edge_turns_inflight", 0)
        server.wait_for_gauge("edge_connections", 1)  # the one that asks
        assert not server.lines("turn.finished", outcome="timeout")
        assert server.end() == 0


def leave_after_the_first_answer(
    server: ServerProcess, leave: Callable[[socket.socket], None], moment_s: float
) -> None:
    with connected(server) as wire:
        wire.send(HEALTH + chat_head(len(TURN)) + TURN)
        assert wire.socket.recv(65_536)
        spin(moment_s)
        leave(wire.socket)
