"""Raw bytes, by the thousand, each on a connection of its own, beside one client who must be served every time."""

import logging
import re
import select
import socket
import struct
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings

from app.edge.connection import MAX_AHEAD_BYTES
from tests.edge.bystander import Bystander, Resources, answers, bystander, read_to_end
from tests.edge.bytes_fuzz import Attempt, attempts
from tests.server.process import WAIT_S, ServerProcess, running, until

log = logging.getLogger(__name__)

STATUSES = {200, 400, 401, 404, 405, 413, 415, 422, 431, 501, 505}
"""What may be answered: never that the fault is ours."""
QUIET_S = 0.005
"""Silence after which a client that waits takes it that no answer will come."""
ALSO_NEW = 25
"""One attempt in so many is followed by a new connection too."""
WARM_UP = 200
GROWTH_MB = 16
"""Allocators keep some of what was once needed; one connection's worth of 20,000 would be far more."""


def attempted(server: ServerProcess, other: Bystander, attempt: Attempt) -> tuple[bytes, bool]:
    """Do it; return what came back, and whether we ended the connection before the server did."""
    with socket.create_connection(server.address, WAIT_S) as wire:
        wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with suppress(ConnectionError):  # it has ended already: it sends no more, and we read why
            for number, piece in enumerate(attempt.pieces):
                if number:
                    other.ask()  # so that the server reads the pieces apart
                wire.sendall(piece)
        if attempt.ending == "reset":
            wire.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        if attempt.ending in {"reset", "close"}:
            return b"", True
        try:
            return heard(wire, attempt)
        except ConnectionResetError:
            assert len(attempt.data) > MAX_AHEAD_BYTES, "only who sends too far ahead may be cut off like that"
            return b"", True


def heard(wire: socket.socket, attempt: Attempt) -> tuple[bytes, bool]:
    """Read all that comes, with an end of ours if the server waits for more."""
    data = b""
    while attempt.ending == "wait" and select.select([wire], [], [], QUIET_S)[0]:
        piece = wire.recv(1 << 16)
        if not piece:
            return data, False
        data += piece
    with suppress(OSError):  # it may have ended just now
        wire.shutdown(socket.SHUT_WR)
    return data + read_to_end(wire), True


def judge(answer: httpx.Response) -> None:
    """An answer to anything has a status that is ours to give, and ids; a refusal is a problem."""
    assert answer.status_code in STATUSES, answer
    assert re.fullmatch(r"[0-9a-f]{32}", answer.headers["x-trace-id"])
    assert answer.status_code == 200 or answer.headers["content-type"] == "application/problem+json"
    assert answer.status_code not in {431, 501, 505} or answer.headers["connection"] == "close"


def fuzz(server: ServerProcess, count: int) -> Counter[int]:
    """Make `count` attempts; return how often each status was answered."""
    statuses: Counter[int] = Counter()
    resources = Resources(server)
    made = 0
    memory = 0.0
    with bystander(server) as other:
        resources.quiet()
        descriptors = resources.descriptors()

        @seed(20261122)
        @settings(
            max_examples=count,
            database=None,
            deadline=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(attempts())
        def one(attempt: Attempt) -> None:
            nonlocal made, memory
            made += 1
            received, cut = attempted(server, other, attempt)
            given = answers(received, head=b"HEAD" in attempt.data, cut=cut)
            for answer in given:
                judge(answer)
            statuses.update(answer.status_code for answer in given)
            other.ask()
            if made % ALSO_NEW == 0:
                with bystander(server):
                    pass
            if made == WARM_UP:
                memory = resources.memory_mb()

        one()
        assert made == count
        resources.quiet()
        until(lambda: resources.descriptors() <= descriptors, "the descriptors are back")
        grown = resources.memory_mb() - memory
    log.info("%d attempts, answers %s, memory %.1f MB %+.1f MB", made, dict(statuses), memory, grown)
    assert grown < GROWTH_MB
    return statuses


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ServerProcess]:
    with running(tmp_path / "data") as process:
        yield process


def test_whatever_is_sent_harms_nobody(server: ServerProcess) -> None:
    """500 connections of odd bytes: proper answers or none, no 500, no stack, nothing kept, and a bystander's 200s."""
    assert fuzz(server, 500).keys() >= {200, 400, 505}


@pytest.mark.soak
def test_whatever_is_sent_20_000_times_harms_nobody(server: ServerProcess) -> None:
    """The same, 20,000 times; then every status that can be provoked so has been."""
    assert fuzz(server, 20_000).keys() >= STATUSES - {413, 415, 422}
