"""Clients that stop reading, and clients that only read slowly: the first are dropped, the others are kept."""

import itertools
import json
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.edge.limits_wire import MODULE, get, hanging_on, rss_mib
from tests.server.process import AT_ONCE, ServerProcess, running, until
from tests.server.rows import turn_rows
from tests.server.wire import Wire, chat_head, connected

SEND_TIMEOUT_S = 1.0
MIB = 1 << 20
FLOOD = get(f"/test/flood/{100 * MIB}")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    settings = {"CLIENT_SEND_TIMEOUT": f"{SEND_TIMEOUT_S}", "OPENAI_API_POOL_SIZE": "1", "LLM_QUEUE_TIMEOUT": "15"}
    with running(tmp_path_factory.mktemp("data"), MODULE, **settings) as process:
        process.answer(f"First {AT_ONCE}", user="stalled")  # so that the user is there, and every metric
        yield process


def drops(server: ServerProcess) -> float:
    return server.gauge("edge_drops_total")


def wait_for_drops(server: ServerProcess, count: float) -> None:
    """Wait until so many clients were dropped and nobody but the asker is connected."""
    until(lambda: drops(server) >= count, f"{count} drops")
    assert drops(server) == count
    server.wait_for_gauge("edge_connections", 1)


def ends_properly(wire: Wire) -> bool:
    """Return whether what the kernel still holds is followed by a reset, not by a proper end."""
    try:
        while wire.socket.recv(MIB):
            pass
    except ConnectionResetError:
        return False
    return True


def padded_turn(message: str, size: int) -> bytes:
    """Return a request for a turn of which each piece has so many bytes."""
    body = json.dumps({"message": message}).encode()
    return chat_head(len(body), "stalled").replace(b"/chat", f"/test/padded/{size}".encode()) + body


def test_who_stops_reading_is_dropped(server: ServerProcess) -> None:
    """A client that reads nothing of a large answer is dropped on time, whatever it buffers: logged, counted, reset."""
    before, start = drops(server), time.monotonic()
    with hanging_on(server, FLOOD) as large, hanging_on(server, FLOOD, 4096) as small:
        wait_for_drops(server, before + 2)
        took = time.monotonic() - start
        assert [line["reason"] for line in server.lines("connection.dropped")][-2:] == ["send_timeout"] * 2
        assert not ends_properly(large)
        assert not ends_properly(small)
    assert SEND_TIMEOUT_S <= took < 5 * SEND_TIMEOUT_S
    assert 'edge_drops_total{reason="send_timeout"}' in server.http.get("/metrics").text


def test_its_turn_ends_with_it(server: ServerProcess) -> None:
    """The turn that a stalled client had asked for is cancelled, what was said is kept, and its slot is free."""
    before = drops(server)
    with hanging_on(server, padded_turn("Tell me a story [[fault: stall after=20]]", MIB)):
        wait_for_drops(server, before + 1)
        server.wait_for_gauge("edge_turns_inflight", 0)
        assert server.gauge("llm_limiter_borrowed") == 0
        line = server.wait_for_log("turn.finished", outcome="cancelled")
        _question, answer = turn_rows(server.data_dir, line["turn_id"])
        assert answer["context_data"]["finish"] == "cancelled"
        assert server.answer(f"Next {AT_ONCE}", user="next")["saved"] == "database"


def test_who_never_reads_many_small_answers_is_dropped(server: ServerProcess) -> None:
    """A client that asks on and on in one go and reads none of the answers is dropped as well."""
    before = drops(server)
    with hanging_on(server, get("/healthz") * 1200, 4096):
        wait_for_drops(server, before + 1)
        assert server.lines("connection.dropped")[-1]["reason"] == "send_timeout"


def read_slowly(wire: Wire, seconds: float) -> bool:
    """Read 64 KiB at a time for so long; return whether there was always something to read."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        left = 65_536
        while left and (data := wire.socket.recv(left)):
            left -= len(data)
        if left:
            return False
        time.sleep(0.15 * SEND_TIMEOUT_S)
    return True


def test_who_reads_slowly_is_kept(server: ServerProcess) -> None:
    """Clients that read slowly are not dropped, in many send timeouts, whatever they buffer and however it is sent."""
    before = drops(server)
    cases = itertools.product([FLOOD, get(f"/test/block/{20 * MIB}")], [None, 65_536, 4096])
    with ExitStack() as clients, ThreadPoolExecutor(6) as pool:
        wires = [clients.enter_context(hanging_on(server, request, buffer)) for request, buffer in cases]
        assert list(pool.map(read_slowly, wires, [3 * SEND_TIMEOUT_S] * len(wires))) == [True] * len(wires)
        assert drops(server) == before
    server.wait_for_gauge("edge_connections", 1)


def test_memory_stays_flat(server: ServerProcess) -> None:
    """30 clients that read nothing of 100 MiB each cost the server little, and nothing once they are dropped."""
    before, resting = drops(server), rss_mib(server.process.pid)
    peaks = [resting]

    def all_dropped() -> bool:
        peaks.append(rss_mib(server.process.pid))
        return len(server.lines("connection.dropped")) >= before + 30

    with ExitStack() as stalled:
        for _ in range(30):
            stalled.enter_context(hanging_on(server, FLOOD))
        until(all_dropped, "30 drops")
        wait_for_drops(server, before + 30)
    after = rss_mib(server.process.pid)
    sys.stdout.write(f"30 stalled readers: {resting:.1f} MiB before, {max(peaks):.1f} at most, {after:.1f} after\n")
    assert max(peaks) - resting < 40
    assert after - resting < 20


def seconds_to_the_end(data_dir: Path, settings: dict[str, str]) -> float:
    """Start a server, stop reading what it says, have it end, and return how long it took from the signal on."""
    with running(data_dir, MODULE, **settings) as server, hanging_on(server, FLOOD), connected(server) as bystander:
        bystander.send(get("/healthz"))
        assert bystander.response().status_code == 200
        start = time.monotonic()
        assert server.end() == 0
        return time.monotonic() - start


def test_who_stops_reading_does_not_hold_up_the_end(tmp_path: Path) -> None:
    """A server with a stalled client ends at the send timeout or at the drain's end, whichever comes first."""
    by_send_timeout = {"CLIENT_SEND_TIMEOUT": "1", "GRACEFUL_TIMEOUT": "30"}
    by_drain = {"CLIENT_SEND_TIMEOUT": "30", "GRACEFUL_TIMEOUT": "1"}
    with ThreadPoolExecutor() as pool:
        took = list(pool.map(seconds_to_the_end, [tmp_path / "1", tmp_path / "2"], [by_send_timeout, by_drain]))
    assert max(took) < 10
