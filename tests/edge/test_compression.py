"""What is sent smaller, to whom, and what never is: small answers and streams."""

import gzip
import json
import re
from collections.abc import Iterator
from contextlib import closing
from http.client import HTTPConnection, HTTPResponse

import pytest

from app.edge.application import COMPRESS_FROM_BYTES, THREAD_FROM_BYTES
from tests.server.process import AT_ONCE, WAIT_S, ServerProcess, running

GZIP = {"accept-encoding": "gzip"}
JSON = {"content-type": "application/json"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with running(tmp_path_factory.mktemp("data"), "tests.edge.breaking") as process:
        for number in range(12):  # so that /ops/turns has something to say
            process.answer(f"Question {number} {AT_ONCE}", user=f"user-{number}")
        yield process


class Answer:
    """An answer as it came, its body not unpacked by any client."""

    def __init__(self, response: HTTPResponse) -> None:
        self.status = response.status
        self.headers = {name.lower(): value for name, value in response.getheaders()}
        self.raw = response.read()

    @property
    def body(self) -> bytes:
        """The body, unpacked if it says that it is packed."""
        return gzip.decompress(self.raw) if self.packed else self.raw

    @property
    def packed(self) -> bool:
        return self.headers.get("content-encoding") == "gzip"

    @property
    def varies(self) -> bool:
        return "accept-encoding" in self.headers.get("vary", "").lower()


def asked(
    server: ServerProcess, path: str, headers: dict[str, str], *, body: object = None, user: str = "demo"
) -> Answer:
    """Return what comes for a GET or, with a body, a POST, with no headers but these."""
    method, content = ("GET", None) if body is None else ("POST", json.dumps(body).encode())
    return sent(server, method, path, {**headers, **JSON, "authorization": f"Bearer {user}"}, content)


def sent(
    server: ServerProcess, method: str, path: str, headers: dict[str, str], content: bytes | None = None
) -> Answer:
    """Return what comes for a request."""
    with closing(HTTPConnection(*server.address, timeout=WAIT_S)) as connection:
        connection.putrequest(method, path, skip_accept_encoding=True)
        for name, value in {**headers, "content-length": str(len(content or b""))}.items():
            connection.putheader(name, value)
        connection.endheaders(content)
        return Answer(connection.getresponse())


TAKES = [
    "gzip",
    "GZip",
    "gzip, deflate, br",
    "br;q=1.0, gzip;q=0.5",
    "*",
    "br, *;q=0.1",
    "gzip;q=0.1",
    "identity;q=0, *",
]
TAKES_NOT = [None, "", "identity", "br", "deflate, br, zstd", "gzip;q=0", "gzip;q=0, *", "*;q=0", "gzip;q=none", "x"]


@pytest.mark.parametrize("accepted", TAKES)
def test_large_json_is_packed_for_who_takes_it(server: ServerProcess, accepted: str) -> None:
    """It is smaller on the wire, its length is that of the wire, and unpacked it is the very same."""
    plain, answer = asked(server, "/ops/turns", {}), asked(server, "/ops/turns", {"accept-encoding": accepted})
    assert answer.packed
    assert int(answer.headers["content-length"]) == len(answer.raw) < len(plain.raw) / 2
    assert answer.body == plain.raw
    assert answer.headers["content-type"] == plain.headers["content-type"] == "application/json"


@pytest.mark.parametrize("accepted", TAKES_NOT)
def test_large_json_is_plain_for_who_does_not(server: ServerProcess, accepted: str | None) -> None:
    """Whoever has not asked for gzip, or has ruled it out, gets plain JSON; caches are told of it."""
    answer = asked(server, "/ops/turns", {} if accepted is None else {"accept-encoding": accepted})
    assert "content-encoding" not in answer.headers
    assert int(answer.headers["content-length"]) == len(answer.raw) > COMPRESS_FROM_BYTES
    assert len(json.loads(answer.raw)["turns"]) >= 12
    assert answer.varies


def test_an_agents_debug_answer_is_packed(server: ServerProcess) -> None:
    """The largest answer of a front end's own."""
    body = {"message": "What is a hypothesis?", "debug_mode": True}
    answer = asked(server, "/conversation-agent/chat", GZIP, body=body)
    assert (answer.status, answer.packed, answer.varies) == (200, True, True)
    assert int(answer.headers["content-length"]) == len(answer.raw) < len(answer.body)
    assert json.loads(answer.body)["debug_info"]


def test_metrics_are_packed(server: ServerProcess) -> None:
    """A scraper that takes gzip gets the same samples."""
    plain, packed = asked(server, "/metrics", {}), asked(server, "/metrics", GZIP)
    assert packed.packed
    assert len(packed.raw) < len(plain.raw) / 4
    assert samples(packed.body) >= samples(plain.body) > {"edge_connections"}
    assert packed.headers["content-type"] == plain.headers["content-type"]


def samples(page: bytes) -> set[str]:
    return set(re.findall(r"^(\w+)", page.decode(), re.MULTILINE))


@pytest.mark.parametrize("user", ["database-down", "long-story"])
def test_a_large_error_is_packed_too(server: ServerProcess, user: str) -> None:
    """Errors are no exception, also where compressing takes a thread; nor do they lose a header."""
    plain, packed = (asked(server, "/chat", headers, body={"message": "a"}, user=user) for headers in ({}, GZIP))
    assert (plain.status, packed.status, plain.packed, packed.packed) == (503, 503, False, True)
    assert (len(plain.raw) > THREAD_FROM_BYTES) == (user == "long-story")
    assert untraced(packed.body) == untraced(plain.raw)
    for answer in (plain, packed):
        assert int(answer.headers["content-length"]) == len(answer.raw)
        assert (answer.headers["retry-after"], answer.varies) == ("5", True)
        assert answer.headers["content-type"] == "application/problem+json"


def untraced(body: bytes) -> dict[str, object]:
    return {key: value for key, value in json.loads(body).items() if key != "trace_id"}


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/nowhere", "/conversation-agent/status"])
def test_a_small_answer_is_left_as_it_is(server: ServerProcess, path: str) -> None:
    """It would hardly shrink, so it depends on nothing."""
    answer = asked(server, path, GZIP)
    assert len(answer.raw) < COMPRESS_FROM_BYTES
    assert (answer.packed, answer.varies) == (False, False)


@pytest.mark.parametrize("accepted", ["gzip", "identity"])
def test_head_is_as_get_would_be(server: ServerProcess, accepted: str) -> None:
    """The same length and coding as GET's for the same reader, and no body."""
    headers = {"accept-encoding": accepted}
    get, head = (sent(server, method, "/ops/turns", headers) for method in ("GET", "HEAD"))
    names = ("content-length", "content-encoding", "content-type", "vary")
    assert [head.headers.get(name) for name in names] == [get.headers.get(name) for name in names]
    assert (head.status, head.raw, head.packed) == (200, b"", accepted == "gzip")


def test_a_stream_is_neither_packed_nor_held_back(server: ServerProcess) -> None:
    """The first piece of an answer is read while the model still has all others to say."""
    body = json.dumps({"message": "Go on [[fault: stall after=1]]"}).encode()
    with closing(HTTPConnection(*server.address, timeout=WAIT_S)) as connection:
        connection.request("POST", "/chat/stream", body, {**GZIP, **JSON, "authorization": "Bearer demo"})
        response = connection.getresponse()
        assert (response.getheader("content-encoding"), response.getheader("vary")) == (None, None)
        assert response.getheader("transfer-encoding") == "chunked"
        assert any(b"text-delta" in line for line in iter(response.readline, b""))  # it comes though nothing follows it
        assert server.gauge("llm_limiter_borrowed") == 1
    server.wait_for_gauge("llm_limiter_borrowed", 0)


def test_a_large_stream_comes_as_it_is(server: ServerProcess) -> None:
    """However large it gets: what has no length is not collected to be packed."""
    answer = asked(server, "/test/flood/3000000", GZIP)
    assert (len(answer.raw), set(answer.raw)) == (3_000_000, set(b"x"))
    assert "content-encoding" not in answer.headers
    assert "content-length" not in answer.headers
