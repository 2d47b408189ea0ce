"""Connections on which nothing happens, or only ever a little: each is closed on time, whatever went before.

All cases live side by side, so that together they take as long as one; each test then looks at some of them.
"""

import json
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest

from app.edge.connection import LINGER_S
from app.edge.serve import KEEP_ALIVE_S
from tests.edge.limits_wire import MODULE, Life, get, live
from tests.server.process import AT_ONCE, ServerProcess, running, until
from tests.server.wire import chat_head, connected

BODY_TIMEOUT_S = 1.0
SLACK_S = 3.0
"""For a busy machine."""
TURN = json.dumps({"message": f"Hello? {AT_ONCE}"}).encode()
HEALTHZ = get("/healthz")
HALF_A_HEAD = b"GET /healthz HTTP/1.1\r\nhost: 127.0.0.1\r\nx-half: "


def post(path: str, body: bytes = TURN, **headers: str) -> bytes:
    """Return a request with a body."""
    return chat_head(len(body), **headers).replace(b"/chat", path.encode(), 1) + body


KEPT: Mapping[str, tuple[bytes, list[int]]] = {
    "nothing": (b"", []),
    "half a head": (HALF_A_HEAD, []),
    "GET": (HEALTHZ, [200]),
    "HEAD": (get("/healthz", method="HEAD"), [200]),
    "OPTIONS": (get("/healthz", method="OPTIONS"), [200]),
    "404": (get("/nowhere"), [404]),
    "405": (get("/healthz", method="DELETE"), [405]),
    "a turn": (post("/chat"), [200]),
    "a turn that is refused": (post("/chat", b'{"message": ""}'), [400]),
    "401": (post("/chat", authorization="none"), [401]),
    "a streamed turn": (post("/chat/stream"), [200]),
    "a large answer": (get("/test/flood/300000"), [200]),
    "a gzipped answer": (get("/ops/settings", "accept-encoding: gzip"), [200]),
    "a handler that fails": (get("/test/fail/raises"), [500]),
    "two at once": (HEALTHZ * 2, [200, 200]),
    "one and a half": (HEALTHZ + HALF_A_HEAD, [200]),
    "a turn, then a GET": (post("/chat") + HEALTHZ, [200, 200]),
    "a chunked body": (
        chat_head(0).replace(b"content-length: 0", b"transfer-encoding: chunked")
        + b"%x\r\n%b\r\n0\r\n\r\n" % (len(TURN), TURN),
        [200],
    ),
}
"""What is sent, and the statuses of the answers; then the client waits."""
CLOSED: Mapping[str, tuple[bytes, list[int]]] = {
    "413": (chat_head(2 << 20), [413]),
    "a blank line": (b"\r\n", [400]),
    "what is no HTTP": (b"hello\r\n\r\n", [400]),
    "the client's last": (get("/healthz", "connection: close"), [200]),
    "HTTP/1.0": (HEALTHZ.replace(b"1.1", b"1.0"), [200]),
    "an answer that breaks off": (get("/test/fail/late"), [200]),
}
"""The same, for what ends its connection."""


TRICKLED_HEADS: Mapping[str, tuple[bytes, list[int]]] = {
    "from the first byte on": (b"", []),
    "the first": (HALF_A_HEAD, []),
    "a second": (HEALTHZ + HALF_A_HEAD, [200]),
    "after a turn": (post("/chat") + HALF_A_HEAD, [200]),
    "after a refused one": (post("/chat", authorization="none") + HALF_A_HEAD, [401]),
}
"""What is sent, before bytes of a header come for ever."""
TRICKLED_BODIES: Mapping[str, tuple[bytes, list[int]]] = {
    "with a length": (chat_head(1000), [408]),
    "after a wait for 100": (chat_head(1000, expect="100-continue"), [100, 408]),
    "after a turn": (post("/chat") + chat_head(1000), [200, 408]),
}
UNREAD_BODIES: Mapping[str, tuple[bytes, list[int]]] = {
    "404": (chat_head(100_000).replace(b"/chat", b"/nowhere"), [404]),
    "405": (chat_head(100_000).replace(b"/chat", b"/healthz"), [405]),
    "200": (chat_head(100_000).replace(b"POST /chat", b"GET /healthz"), [200]),
    "415": (chat_head(100_000).replace(b"application/json", b"text/plain"), [415]),
}
"""Where no route reads the body, or none of this kind."""
GROUPS = {
    "kept": (KEPT, b""),
    "closed": (CLOSED, b""),
    "heads": (TRICKLED_HEADS, b"x"),
    "bodies": (TRICKLED_BODIES, b" "),
    "unread": (UNREAD_BODIES, b" "),
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with running(tmp_path_factory.mktemp("data"), MODULE, BODY_TIMEOUT=f"{BODY_TIMEOUT_S}") as process:
        process.answer(f"First {AT_ONCE}")
        yield process
        process.log[:] = [line for line in process.log if not meant(line)]


def meant(line: Mapping[str, object]) -> bool:
    """Return whether a log line is about a handler that was asked to fail."""
    return line["event"] == "request.failed" and str(line["route"]).startswith("/test/fail/")


@pytest.fixture(scope="module")
def lives(server: ServerProcess) -> dict[str, dict[str, Life]]:
    """Live through all cases, and return them by group and name."""
    sends = {(group, name): case[0] for group, (table, _drip) in GROUPS.items() for name, case in table.items()}
    lived: dict[str, dict[str, Life]] = {group: {} for group in GROUPS}
    with ThreadPoolExecutor(len(sends)) as pool:
        found = pool.map(lambda key: live(server, sends[key], GROUPS[key[0]][1]), sends)
        for (group, name), life in zip(sends, found, strict=True):
            lived[group][name] = life
    until(lambda: server.gauge("edge_connections") == 1, "everybody gone", timeout_s=LINGER_S + SLACK_S)
    return lived


def outside(readings: Mapping[str, float], least: float, most: float) -> dict[str, float]:
    """Return the readings that are not within these bounds."""
    return {name: reading for name, reading in readings.items() if not least <= reading <= most}


def idle(lives: Mapping[str, Life]) -> dict[str, float]:
    return {name: life.idle_s for name, life in lives.items()}


@pytest.mark.parametrize("group", GROUPS)
def test_each_is_answered_as_it_should(lives: dict[str, dict[str, Life]], group: str) -> None:
    """What came before the waiting was answered: no more and no less."""
    expected = {name: statuses for name, (_sends, statuses) in GROUPS[group][0].items()}
    assert {name: life.statuses for name, life in lives[group].items()} == expected


def test_an_idle_connection_closes_on_time(lives: dict[str, dict[str, Life]]) -> None:
    """Whatever was asked, and if nothing was, the connection is kept for KEEP_ALIVE_S after the answer, then closed."""
    assert not outside(idle(lives["kept"]), KEEP_ALIVE_S - 0.5, KEEP_ALIVE_S + SLACK_S)


def test_what_ends_a_connection_ends_it_at_once(lives: dict[str, dict[str, Life]]) -> None:
    """After an answer that is the last one, the end follows without a wait."""
    assert not outside(idle(lives["closed"]), 0, LINGER_S)


def test_a_head_that_trickles_is_cut(lives: dict[str, dict[str, Life]]) -> None:
    """A head that comes byte by byte, be it the first or a later one, has no longer than an idle connection."""
    assert not outside(idle(lives["heads"]), KEEP_ALIVE_S - 0.5, KEEP_ALIVE_S + SLACK_S)


def test_a_body_that_trickles_is_cut(lives: dict[str, dict[str, Life]]) -> None:
    """A body that comes byte by byte is 408 at BODY_TIMEOUT, and the end, whatever else comes."""
    bodies = lives["bodies"]
    assert all(b'"code": "body_timeout"' in life.data for life in bodies.values())
    assert not outside({name: life.last_s for name, life in bodies.items()}, BODY_TIMEOUT_S, BODY_TIMEOUT_S + SLACK_S)
    assert not outside(idle(bodies), 0, LINGER_S)
    most = BODY_TIMEOUT_S + LINGER_S + SLACK_S
    assert not outside({name: life.refused_s for name, life in bodies.items()}, 0, most)


def test_a_body_that_nobody_reads_is_cut(lives: dict[str, dict[str, Life]]) -> None:
    """Where no route reads the body, the answer comes at once and is the last, though the body trickles on."""
    unread = lives["unread"]
    assert all(b"\r\nconnection: close\r\n" in life.data for life in unread.values())
    assert not outside({name: life.end_s for name, life in unread.items()}, 0, SLACK_S)
    assert not outside({name: life.refused_s for name, life in unread.items()}, 0, LINGER_S + SLACK_S)


def test_who_leaves_is_let_go_at_once(server: ServerProcess) -> None:
    """The keep-alive timer holds nothing of a client that has closed."""
    with ExitStack() as clients:
        for _ in range(20):
            wire = clients.enter_context(connected(server))
            wire.send(HEALTHZ)
            assert wire.response().status_code == 200
        assert server.gauge("edge_connections") == 21
    until(lambda: server.gauge("edge_connections") == 1, "everybody gone", timeout_s=KEEP_ALIVE_S / 2)
