"""Four kinds of input that each ended Hypercorn's Trio worker, as real clients send them, beside an innocent one."""

import json
import socket
from collections.abc import Callable, Iterator

import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from hyperframe.frame import PriorityFrame

from tests.edge.bystander import answers, bystander, read_to_end
from tests.server.holding import Holding, asked, question_of
from tests.server.neighbours import model_host
from tests.server.process import WAIT_S, ServerProcess, running
from tests.server.wire import chat_head, connected, problem

POST: list[tuple[str, str]] = [
    (":method", "POST"),
    (":scheme", "http"),
    (":authority", "localhost"),
    (":path", "/chat"),
    ("content-type", "application/json"),
]
HTTP2_SETTINGS = b"AAMAAABkAAQAAP__"
HELD = Holding(question_of)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    data_dir = tmp_path_factory.mktemp("data")
    with model_host(HELD.around) as model, running(data_dir, OPENAI_BASE_URL=f"{model.url}/v1") as process:
        yield process


def h2_client() -> H2Connection:
    """Return a client that has said what it says first, and checks nothing of what we make it send."""
    client = H2Connection(
        H2Configuration(validate_outbound_headers=False, normalize_outbound_headers=False, header_encoding=None)
    )
    client.initiate_connection()
    return client


def early_answered_post(wire: socket.socket) -> None:
    """An h2 POST without a token, which is answered before its DATA frame follows."""
    client = h2_client()
    client.send_headers(1, POST)
    wire.sendall(client.data_to_send())
    assert wire.recv(1, socket.MSG_PEEK)  # answered; its reading comes later
    client.send_data(1, b'{"message": "hello"}', end_stream=True)
    wire.sendall(client.data_to_send())


def odd_path(wire: socket.socket) -> None:
    """An h2 GET whose path is no ASCII."""
    client = h2_client()
    client.send_headers(1, [*POST[1:3], (":method", "GET"), (":path", "/日本")], end_stream=True)
    wire.sendall(client.data_to_send())


def priorities() -> bytes:
    """Return more PRIORITY frames than the tree of h2's priorities has room for."""
    frames = [PriorityFrame(2 * number + 3, depends_on=0, stream_weight=1) for number in range(1100)]
    return b"".join(frame.serialize() for frame in frames)


def many_priorities(wire: socket.socket) -> None:
    """A request over h2, and PRIORITY frames without end."""
    client = h2_client()
    client.send_headers(1, POST, end_stream=True)
    wire.sendall(client.data_to_send() + priorities())


def upgraded_priorities(wire: socket.socket) -> None:
    """The same after asking for h2c, as if that had been granted."""
    asking = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n"
    head = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n" + asking + b"\r\n"
    wire.sendall(head + h2_client().data_to_send() + priorities())


def eager_websocket(wire: socket.socket) -> None:
    """A websocket upgrade whose client does not wait for the answer with its first frame."""
    head = b"GET /chat HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    key = b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    wire.sendall(head + key + b"\x81\x89" + bytes(4) + b"hello\r\n\r\n")


Killer = Callable[[socket.socket], None]
Answers = list[tuple[int, str | None]]
TOO_NEW: Answers = [(505, "http_version")]
KILLERS: dict[Killer, Answers] = {
    early_answered_post: TOO_NEW,
    odd_path: TOO_NEW,
    many_priorities: TOO_NEW,
    upgraded_priorities: [(200, None), *TOO_NEW],
    eager_websocket: [(405, "method_not_allowed"), (400, "bad_request")],
}


def refused(server: ServerProcess, killer: Killer) -> None:
    """Send it; the answers are HTTP/1.1, the last one says that it is the last, and then the connection ends."""
    with socket.create_connection(server.address, WAIT_S) as wire:
        killer(wire)
        received = answers(read_to_end(wire))
    wanted = KILLERS[killer]
    assert [answer.status_code for answer in received] == [status for status, _code in wanted]
    for answer, (status, code) in zip(received, wanted, strict=True):
        assert code is None or problem(answer, status, code)
    assert received[-1].headers["connection"] == "close"


@pytest.mark.parametrize("killer", KILLERS, ids=lambda killer: killer.__name__)
def test_a_killer_ends_its_own_connection_only(server: ServerProcess, killer: Killer) -> None:
    """The killer is refused; the bystander, connected before, is served after it; nothing of it stays open."""
    with bystander(server) as other:
        refused(server, killer)
        other.ask()
        server.wait_for_gauge("edge_connections", 2)  # the bystander's, and the one that asks


def test_a_turn_that_runs_meanwhile_is_answered(server: ServerProcess) -> None:
    """All killers, one after the other, while a turn runs: its own answer comes, whole."""
    question = "Take your time"
    HELD.holds.add(question)
    body = json.dumps({"message": asked(question)}).encode()
    with connected(server) as wire:
        wire.send(chat_head(len(body)) + body)
        HELD.wait_for_held(question)
        for killer in KILLERS:
            refused(server, killer)
        assert server.gauge("edge_turns_inflight") == 1
        HELD.let_go(question)
        answer = wire.response()
    assert (answer.status_code, answer.json()["saved"]) == (200, "database")
