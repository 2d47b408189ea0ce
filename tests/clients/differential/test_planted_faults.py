"""The fuzz would notice: each fault that is planted in our transport shows within a few thousand cases."""

import re
from collections.abc import Callable
from dataclasses import replace

import httpx
import pytest

from app.clients import http1
from app.clients import transport as our_transport
from app.clients.connection import Connection
from app.clients.http1 import Head, ResponseReader
from app.clients.transport import TrioTransport
from tests.clients.differential import peers
from tests.clients.differential.lockstep import DifferenceError
from tests.clients.differential.tally import run

Plant = Callable[[pytest.MonkeyPatch], None]
AT_MOST = 6_000


def _attribute(target: object, name: str, value: object) -> Plant:
    return lambda monkeypatch: monkeypatch.setattr(target, name, value)


def _head(change: Callable[[Head], Head]) -> Plant:
    return _attribute(http1, "Head", lambda *parts: change(Head(*parts)))


def _ends_well(reader: ResponseReader) -> None:
    if reader.head is None:
        raise http1.WrongResponseError
    reader.complete = True


def _feeds_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    right = ResponseReader.on_body

    def on_body(reader: ResponseReader, data: bytes) -> None:
        for _ in range(2 if data == b"\n" else 1):
            right(reader, data)

    monkeypatch.setattr(ResponseReader, "on_body", on_body)


PLANTS: dict[str, Plant] = {
    "a header is lost": _head(lambda head: replace(head, headers=head.headers[:-1])),
    "names are lowered": _head(
        lambda head: Head(
            head.status, head.reason, [(name.lower(), value) for name, value in head.headers], head.version
        )
    ),
    "the reason is trimmed": _head(lambda head: replace(head, reason=head.reason[:9])),
    "a piece is given twice": _feeds_twice,
    "an end that comes early is taken for the end": _attribute(ResponseReader, "end", _ends_well),
    "a second answer goes unnoticed": _attribute(ResponseReader, "on_message_begin", lambda reader: None),
    "Connection: close goes unheeded": _attribute(ResponseReader, "reusable", property(lambda reader: reader.complete)),
    "any start will do": _attribute(ResponseReader, "_check_start", lambda reader, version: None),
    "any reason will do": _attribute(http1, "_NOT_IN_REASON", re.compile(rb"(?!)")),
    "any number of digits will do": _attribute(http1, "MAX_LENGTH_DIGITS", 1 << 16),
    "a head may not be long": _attribute(http1, "MAX_HEAD_BYTES", 80),
    "few headers are allowed": _attribute(http1, "MAX_HEADERS", 3),
    "a connection is not looked at": _attribute(peers.IN_MEMORY, "is_quiet", lambda connection: True),
    "nothing is sent again": _attribute(our_transport, "IDEMPOTENT", frozenset()),
    "a POST is sent again": _attribute(our_transport, "IDEMPOTENT", frozenset({"GET", "HEAD", "POST"})),
    "connections are not closed": _attribute(Connection, "close", lambda connection: None),
    "a broken connection is told as another error": _attribute(httpx, "ReadError", httpx.ReadTimeout),
    "every connection is kept": _attribute(
        TrioTransport, "_discard", lambda pool, connection: setattr(pool, "_open", pool._open - 1)
    ),
}


@pytest.mark.parametrize("plant", PLANTS.values(), ids=PLANTS)
async def test_a_planted_fault_shows(plant: Plant, in_memory: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a difference that no row allows, with the seed and the bytes."""
    plant(monkeypatch)
    with pytest.raises(DifferenceError, match=r"seed \d+\n"):
        await run(range(AT_MOST))
