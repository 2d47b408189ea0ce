"""More connections than the server holds, and more than its process may open: refused, waited for, never the end."""

import resource
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from tests.edge.limits_wire import MODULE, Life, get, hanging_on, live, open_files
from tests.server.process import AT_ONCE, ServerProcess, running, until
from tests.server.wire import Wire, chat_head, connected, problem

MOST = 5
HEALTHZ = get("/healthz")
TURN = f'{{"message": "Hello? {AT_ONCE}"}}'.encode()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with running(tmp_path_factory.mktemp("data"), MAX_CONNECTIONS=f"{MOST}") as process:
        process.answer(f"First {AT_ONCE}")
        yield process


@pytest.fixture(autouse=True)
def _nobody_left(request: pytest.FixtureRequest) -> None:
    if "server" in request.fixturenames:
        request.getfixturevalue("server").wait_for_gauge("edge_connections", 1)


def served(wire: Wire, request: bytes = HEALTHZ) -> int:
    """Ask on a connection that is kept, and return the answer's status."""
    wire.send(request)
    return wire.response().status_code


def newcomer(server: ServerProcess) -> Life:
    """Connect, ask once, and read to the end."""
    return live(server, get("/healthz", "connection: close"))


def open_now(wire: Wire) -> float:
    """Return how many connections the server has, asked over one of them."""
    wire.send(get("/metrics"))
    (line,) = [line for line in wire.response().text.splitlines() if line.startswith("edge_connections ")]
    return float(line.rpartition(" ")[2])


def full(server: ServerProcess, clients: ExitStack) -> list[Wire]:
    """Take every connection that there is."""
    first = clients.enter_context(connected(server))
    until(lambda: open_now(first) == 1, "those who were there before have left")
    wires = [first, *(clients.enter_context(connected(server)) for _ in range(MOST - 1))]
    assert [served(wire) for wire in wires] == [200] * MOST
    return wires


def test_one_too_many_is_told_so(server: ServerProcess) -> None:
    """The sixth of five gets the problem `overloaded` without having asked, when to come again, and the end."""
    with ExitStack() as clients:
        wires = full(server, clients)
        life = live(server, b"")
        assert [served(wire) for wire in wires] == [200] * MOST
    head, _, body = bytes(life.data).partition(b"\r\n\r\n")
    names = dict(line.split(": ", 1) for line in head.decode().splitlines()[1:])
    refusal = problem(httpx.Response(503, headers=names, content=body), 503, "overloaded")
    assert life.statuses == [503]
    assert refusal["retryable"] is True
    assert int(names["retry-after"]) >= 1
    assert names["connection"] == "close"
    assert len(body) == int(names["content-length"])
    assert server.wait_for_log("connections.full")["open"] == MOST


def test_a_free_place_is_taken_again(server: ServerProcess) -> None:
    """While all places are taken, whoever has one is served; when one leaves, the next who comes is."""
    with ExitStack() as clients:
        wires = full(server, clients)
        assert newcomer(server).statuses == [503]
        assert served(wires[0], chat_head(len(TURN)) + TURN) == 200
        wires[1].socket.close()
        until(lambda: newcomer(server).statuses == [200], "a free place")
        clients.enter_context(connected(server))  # and it is taken again


def test_a_crowd_does_no_harm(server: ServerProcess) -> None:
    """200 at once over the limit all come to an end, in one line of log; who is connected is served throughout."""
    at_rest, refused = len(open_files(server.process.pid)), server.gauge("edge_refusals_total")
    told = len(server.lines("connections.full"))
    with ExitStack() as clients:
        wires = full(server, clients)
        with ThreadPoolExecutor(200) as pool:
            crowd = [pool.submit(live, server, HEALTHZ) for _ in range(200)]
            assert [served(wire, chat_head(len(TURN)) + TURN) for wire in wires] == [200] * MOST
            statuses = [client.result().statuses for client in crowd]
        assert [503] in statuses
        assert all(status in ([503], []) for status in statuses)
        assert [served(wire) for wire in wires] == [200] * MOST
    until(lambda: len(open_files(server.process.pid)) <= at_rest, "every connection closed")
    assert len(server.lines("connections.full")) <= told + 1
    assert server.gauge("edge_refusals_total") == refused + 200


def test_a_low_limit_of_files_lowers_the_connections(tmp_path: Path) -> None:
    """A process that may open few files says at its start how many connections it can hold, and holds that many."""
    with running(tmp_path, MODULE, TEST_DESCRIPTORS="100") as server:
        capped = server.wait_for_log("connections.capped")
        assert (capped["wanted"], capped["allowed"], capped["descriptors"]) == (10_000, 50, 100)
        with ExitStack() as clients:
            wires = [clients.enter_context(connected(server)) for _ in range(50)]
            assert [served(wire) for wire in wires] == [200] * 50
            assert newcomer(server).statuses == [503]
            assert served(wires[-1], chat_head(len(TURN)) + TURN) == 200
        assert not server.lines("accept.failing")


def test_enough_files_are_asked_for(tmp_path: Path) -> None:
    """A process that was given fewer files than it may have takes what its connections need."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
    try:
        with running(tmp_path, MAX_CONNECTIONS="600") as server:
            assert resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE) == (728, hard)
            assert not server.lines("connections.capped")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def fill(server: ServerProcess, clients: ExitStack, is_full: Callable[[], bool]) -> list[Wire]:
    """Connect until `is_full`; return the connections that were accepted, which are served."""
    wires: list[Wire] = []
    for _ in range(100):
        wire = clients.enter_context(hanging_on(server, HEALTHZ))
        until(lambda: wire.answered_within(0.01) or is_full(), "an answer, or an end of files")  # noqa: B023
        if is_full():
            break
        assert wire.response().status_code == 200
        wires.append(wire)
    assert is_full()
    return wires


def test_an_end_of_files_is_not_the_end(tmp_path: Path) -> None:
    """With no descriptor left, who is connected is served and who comes waits; both are when one is free again."""
    with running(tmp_path) as server, ExitStack() as clients:
        server.answer(f"First {AT_ONCE}")
        pid = server.process.pid
        _soft, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        room = max(open_files(pid)) + 3
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (room, hard))
        wires = fill(server, clients, lambda: bool(server.lines("accept.failing")))
        assert server.lines("accept.failing")[0]["error"] == "EMFILE"
        assert served(wires[0], chat_head(len(TURN)) + TURN) == 200

        with ThreadPoolExecutor(10) as pool:
            waiting = [pool.submit(newcomer, server) for _ in range(10)]
            for wire in wires[1:]:
                wire.socket.close()
            assert [client.result().statuses for client in waiting] == [[200]] * 10
        assert server.wait_for_log("accept.recovered")["failures"] >= 1
        assert server.answer(f"Next {AT_ONCE}")["saved"] == "database"
        assert len(server.lines("accept.failing")) == 1, "told anew with each client that comes and goes"
