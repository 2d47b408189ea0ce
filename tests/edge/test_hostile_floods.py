"""Bytes without end, sent where nobody waits for them: they are dropped or ignored, and never kept."""

from collections.abc import Iterator

import pytest

from tests.edge.bystander import Resources, bystander
from tests.server.process import ServerProcess, running
from tests.server.wire import Wire, chat_head, connected

MIB = 1 << 20
FLOOD_MIB = 48
GROWTH_MB = 16
STALLED = b'{"message": "Hold it [[fault: stall after=0]]"}'


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with running(tmp_path_factory.mktemp("data"), "tests.server.extended") as process:
        yield process


def floods(wire: Wire) -> int:
    """Send until the server ends the connection, or so much; return how many MiB were sent."""
    for sent in range(FLOOD_MIB):
        try:
            wire.send(bytes(MIB))
        except OSError:
            return sent
    return FLOOD_MIB


def test_an_upgrade_does_not_lift_the_limit_on_what_is_sent_ahead(server: ServerProcess) -> None:
    """A client that asks for another protocol, and sends it without end while its turn runs, is dropped."""
    dropped = server.gauge("edge_drops_total")
    with bystander(server), connected(server) as wire:
        wire.send(chat_head(len(STALLED), connection="upgrade", upgrade="another") + STALLED)
        assert floods(wire) < FLOOD_MIB
    server.wait_for_log("connection.dropped", reason="sent_ahead")
    assert server.gauge("edge_drops_total") == dropped + 1
    server.wait_for_gauge("edge_turns_inflight", 0)


def test_what_follows_a_last_request_is_not_kept(server: ServerProcess) -> None:
    """Behind a request that called itself the last anything may come: it is read, and forgotten."""
    resources = Resources(server)
    with bystander(server) as other, connected(server) as wire:
        wire.send(chat_head(len(STALLED), connection="close") + STALLED)
        server.wait_for_gauge("edge_turns_inflight", 1)
        before = resources.memory_mb()
        assert floods(wire) == FLOOD_MIB
        other.ask()
        assert resources.memory_mb() - before < GROWTH_MB
        assert server.gauge("edge_turns_inflight") == 1
    server.wait_for_gauge("edge_turns_inflight", 0)


def test_what_follows_a_broken_body_is_not_kept(server: ServerProcess) -> None:
    """A body that goes wrong while it is answered is refused once; what comes after it is forgotten."""
    resources = Resources(server)
    with bystander(server) as other:
        with connected(server) as wire:
            wire.send(b"GET /test/flood/100000000 HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n")
            assert wire.socket.recv(10).startswith(b"HTTP/1.1 2")
            refused = server.gauge("edge_refusals_total")
            wire.send(b"zz\r\n")
            before = resources.memory_mb()
            assert floods(wire) == FLOOD_MIB
            other.ask()
            assert resources.memory_mb() - before < GROWTH_MB
            assert server.gauge("edge_refusals_total") == refused + 1
        resources.quiet()
