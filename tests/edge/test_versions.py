"""HTTP/1.1 and 1.0 are spoken; whoever asks for HTTP/2 in the clear is answered in HTTP/1.1, by bytes and with curl."""

import json
import socket
import subprocess
from collections.abc import Iterator

import httpx
import pytest

from tests.edge.bystander import answers, bystander, read_to_end, said_to
from tests.needs import need_program
from tests.server.process import AT_ONCE, WAIT_S, ServerProcess, running
from tests.server.wire import chat_head, problem

HOST = b"Host: localhost\r\n"
BODY = json.dumps({"message": f"Which version? {AT_ONCE}"}).encode()
H2C = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n"
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00"
LAST = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with running(tmp_path_factory.mktemp("data"), "tests.server.extended") as process:
        yield process


LAST_REQUESTS = {
    "close": LAST,
    "close, in capitals": LAST.replace(b"close", b"CLOSE"),
    "close, in a list": LAST.replace(b"close", b"x-odd, close"),
    "close beside keep-alive": LAST.replace(b"close", b"keep-alive, close"),
    "HTTP/1.0": b"GET /healthz HTTP/1.0\r\n\r\n",
    "HTTP/1.0 with a Host": b"GET /healthz HTTP/1.0\r\n" + HOST + b"\r\n",
    "HTTP/1.0 that wants to stay": b"GET /healthz HTTP/1.0\r\nConnection: keep-alive\r\nKeep-Alive: 300\r\n\r\n",
    "a turn": chat_head(len(BODY), connection="close") + BODY,
    "a turn in HTTP/1.0": chat_head(len(BODY)).replace(b"HTTP/1.1", b"HTTP/1.0") + BODY,
}


@pytest.mark.parametrize("data", LAST_REQUESTS.values(), ids=LAST_REQUESTS)
def test_after_a_last_request_the_server_ends_the_connection(server: ServerProcess, data: bytes) -> None:
    """The answer says that it is the last, and the end follows it; what was sent behind the request is not answered."""
    with bystander(server):
        (answer,) = answers(said_to(server, data, LAST))
    assert (answer.status_code, answer.headers["connection"]) == (200, "close")
    assert len(answer.content) == int(answer.headers["content-length"])


def test_a_stream_in_http_1_0_is_ended_by_the_connection(server: ServerProcess) -> None:
    """HTTP/1.0 knows no chunks: an answer of unknown length is sent as it is, up to the end of the connection."""
    (answer,) = answers(said_to(server, b"GET /test/flood/300000 HTTP/1.0\r\n\r\n"))
    assert (answer.status_code, len(answer.content)) == (200, 300_000)
    assert {"transfer-encoding", "content-length"}.isdisjoint(answer.headers)
    assert answer.headers["connection"] == "close"


@pytest.mark.parametrize("target", [b"/healthz", b"http://localhost/healthz"])
def test_an_upgrade_to_h2c_is_answered_in_http_1_1(server: ServerProcess, target: bytes) -> None:
    """Without a body the upgrade is passed over, and the connection goes on as it was."""
    with bystander(server):
        first, second = answers(said_to(server, b"GET " + target + b" HTTP/1.1\r\n" + HOST + H2C + b"\r\n", LAST))
    assert (first.status_code, second.status_code) == (200, 200)
    assert {"upgrade", "connection"}.isdisjoint(first.headers)


def test_an_upgrade_to_h2c_with_a_body_is_a_turn(server: ServerProcess) -> None:
    """With a body as well: the turn is answered, and so is the next request."""
    head = chat_head(len(BODY)).replace(b"\r\n\r\n", b"\r\n" + H2C + b"\r\n")
    first, second = answers(said_to(server, head + BODY, LAST))
    assert (first.status_code, first.json()["saved"], second.status_code) == (200, "database", 200)


PREFACES = {
    "at once": (PREFACE,),
    "byte by byte": tuple(PREFACE[place : place + 1] for place in range(len(PREFACE))),
    "with a stream of frames": (PREFACE, b"\x00\x00\x08\x06\x00\x00\x00\x00\x00pingpong" * 2000),
    "only its first line": (PREFACE[:18],),
}


@pytest.mark.parametrize("pieces", PREFACES.values(), ids=PREFACES)
def test_h2_without_asking_is_refused(server: ServerProcess, pieces: tuple[bytes, ...]) -> None:
    """A client that starts with h2's preface is told, in HTTP/1.1, to speak that; then the connection ends."""
    with bystander(server), socket.create_connection(server.address, WAIT_S) as wire:
        wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for piece in pieces:
            wire.sendall(piece)
        (refusal,) = answers(read_to_end(wire))
    problem(refusal, 505, "http_version")
    assert refusal.headers["connection"] == "close"


def test_h2_behind_a_request_is_refused_after_its_answer(server: ServerProcess) -> None:
    """A connection cannot change to h2 later either."""
    first, second = answers(said_to(server, b"GET /healthz HTTP/1.1\r\n" + HOST + b"\r\n" + PREFACE))
    assert first.status_code == 200
    problem(second, 505, "http_version")


def curl(server: ServerProcess, *options: str, path: str = "/healthz") -> tuple[int, str, str]:
    """Run curl; return its exit code, what it printed, and the version and status that it saw."""
    program = need_program("curl", "apt-get install curl")
    told = ["--silent", "--max-time", "10", "--noproxy", "*", "--write-out", "\n%{http_version} %{http_code}"]
    command = [program, *told, *options, f"{server.url}{path}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=WAIT_S, check=False)
    text, _, seen = done.stdout.rpartition("\n")
    return done.returncode, text, seen


POSTED = (
    *("--json", BODY.decode(), "--header", "Authorization: Bearer demo"),
    *("--header", "Expect: 100-continue"),
)
CURLS = {
    "as it is": ((), "1.1 200"),
    "HTTP/1.0": (("--http1.0",), "1.1 200"),
    "HTTP/2, if it can": (("--http2",), "1.1 200"),
    "HEAD": (("--head",), "1.1 200"),
    "HEAD in HTTP/1.0": (("--head", "--http1.0"), "1.1 200"),
    "an asterisk": (("--request", "OPTIONS", "--request-target", "*"), "1.1 404"),
    "a whole URL": (("--request-target", "http://localhost/healthz"), "1.1 200"),
}


@pytest.mark.parametrize(("options", "seen"), CURLS.values(), ids=CURLS)
def test_curl_is_served(server: ServerProcess, options: tuple[str, ...], seen: str) -> None:
    """However curl is told to ask, it gets a proper answer in HTTP/1.1."""
    code, text, told = curl(server, *options)
    assert (code, told) == (0, seen)
    assert ("status" in text) is ("--head" not in options)


@pytest.mark.parametrize("version", ["--http1.0", "--http1.1", "--http2"])
def test_curl_gets_its_turn(server: ServerProcess, version: str) -> None:
    """A turn is answered to curl in each version that it asks for, also when it waits for 100 Continue."""
    code, text, seen = curl(server, version, *POSTED, path="/chat")
    assert (code, seen) == (0, "1.1 200")
    assert json.loads(text)["saved"] == "database"


def test_curl_that_insists_on_h2_fails_at_once(server: ServerProcess) -> None:
    """With prior knowledge of h2 curl gets no answer that it understands, and says so: it does not hang."""
    with bystander(server):
        code, text, seen = curl(server, "--http2-prior-knowledge", *POSTED, path="/chat")
    assert (code, text) != (28, ""), "28: it timed out"
    assert code != 0
    assert seen.endswith(" 000")


@pytest.mark.parametrize("versions", [(True, False), (True, True)], ids=["HTTP/1.1", "HTTP/2 too"])
def test_httpx_speaks_http_1_1(server: ServerProcess, versions: tuple[bool, bool]) -> None:
    """Over cleartext httpx does not ask for h2 by itself, allowed or not."""
    http1, http2 = versions
    with httpx.Client(http1=http1, http2=http2, base_url=server.url, trust_env=False) as client:
        response = client.get("/healthz")
    assert (response.status_code, response.http_version) == (200, "HTTP/1.1")
