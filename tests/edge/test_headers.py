"""What every answer carries, whoever gives it: ids, safe headers, a date. Errors are problems, in two languages."""

import re
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from email.utils import parsedate_to_datetime
from http.client import HTTPResponse

import httpx
import pytest

from app.contract.routes import POLICY
from app.ops.console_routes import ASK_AGAIN
from app.ops.console_routes import POLICY as CONSOLE_POLICY
from tests.server.process import AT_ONCE, ServerProcess, running
from tests.server.wire import Wire, chat_head, connected, problem

MOST = 12
JAPANESE = re.compile(r"[\u3040-\u30ff\u4e00-\u9fff]")
PROMISED = {
    "cache-control": "no-store",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
}
OWN = ("x-request-id", "x-trace-id", "date")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    settings = {"BODY_TIMEOUT": "0.5", "MAX_CONNECTIONS": str(MOST)}
    with running(tmp_path_factory.mktemp("data"), "tests.edge.breaking", **settings) as process:
        yield process
        assert process.end() == 0
        process.log[:] = [line for line in process.log if line["event"] != "request.failed"]  # some fail on purpose


def carried(response: httpx.Response, **other: str) -> None:
    """Check that an answer has every header that all answers have, once; `other` are those of another value."""
    counts = Counter(name for name, _value in response.headers.multi_items())
    assert set(counts.values()) == {1}, counts
    streams = response.headers.get("content-type") == "text/event-stream"
    promised = PROMISED | ({"cache-control": "no-cache"} if streams else {})  # which is what the AI SDK's wire says
    promised |= {name.replace("_", "-"): value for name, value in other.items()}
    assert {name: response.headers.get(name) for name in promised} == promised
    assert re.fullmatch(r"[0-9a-f]{32}", response.headers["x-trace-id"])
    assert re.fullmatch(r"[0-9a-f-]{36}", response.headers["x-request-id"])
    assert parsedate_to_datetime(response.headers["date"]).tzinfo is not None
    assert "server" not in response.headers


def exchanged(wire: Wire, raw: bytes) -> httpx.Response:
    """Send a request and return its answer."""
    wire.send(raw)
    if not raw.startswith(b"HEAD "):
        return wire.response()
    response = HTTPResponse(wire.socket, method="HEAD")
    response.begin()
    return httpx.Response(response.status, headers=response.getheaders(), content=response.read())


def head(first_line: str, *lines: str) -> bytes:
    return "\r\n".join([f"{first_line} HTTP/1.1", "host: 127.0.0.1", *lines, "", ""]).encode()


READ = {  # errors of requests that the edge can read: the request, status, code
    "target": (head("GET http://[bad/"), 400, "bad_request"),
    "two lengths": (head("POST /chat", "content-length: 3", "transfer-encoding: chunked"), 400, "bad_request"),
    "host": (b"GET /healthz HTTP/1.1\r\nhost: a/b\r\n\r\n", 400, "bad_request"),
    "no token": (chat_head(0, "?"), 401, "unauthenticated"),
    "address": (head("GET /nowhere"), 404, "not_found"),
    "method": (head("DELETE /chat"), 405, "method_not_allowed"),
    "own method": (head("PROPFIND /healthz"), 405, "method_not_allowed"),
    "half a body": (chat_head(5) + b"{", 408, "body_timeout"),
    "huge body": (chat_head(1 << 21), 413, "body_too_large"),
    "form": (chat_head(0, **{"content-type": "text/plain"}), 415, "unsupported_media_type"),
    "field": (head("GET /ops/turns?min_seconds=x"), 422, "invalid_request"),
    "bug": (head("GET /test/fail/raises"), 500, "internal_error"),
    "no database": (chat_head(16, "database-down") + b'{"message": "a"}', 503, "database_unavailable"),
    "HTTP/2": (head("PRI *").replace(b"1.1", b"2.0", 1), 505, "http_version"),
    "HTTP/1.2": (head("GET /healthz").replace(b"1.1", b"1.2", 1), 505, "http_version"),
}
UNREAD = {  # errors of requests that the edge cannot read
    "request line": (head("GET /a b"), 400, "bad_request"),
    "no host": (b"GET /healthz HTTP/1.1\r\nx: y\r\n\r\n", 400, "bad_request"),
    "chunk": (head("POST /chat", "transfer-encoding: chunked") + b"no size\r\n", 400, "bad_request"),
    "headers": (head("GET /healthz", "x: " + "y" * 70_000), 431, "headers_too_large"),
    "coding": (head("POST /chat", "transfer-encoding: br"), 501, "not_implemented"),
}


def preferring(language: str, raw: bytes) -> bytes:
    """Return a request with that `Accept-Language`."""
    return raw.replace(b"\r\n", f"\r\naccept-language: {language}\r\n".encode(), 1)


@pytest.mark.parametrize("name", [*READ, *UNREAD])
def test_every_error_is_a_problem(server: ServerProcess, name: str) -> None:
    """Whoever refuses, the framework, the protocol or a handler: the same form, headers and safe sentence."""
    raw, status, code = (READ | UNREAD)[name]
    with connected(server) as wire:
        response = exchanged(wire, raw)
    body = problem(response, status, code)
    carried(response)
    assert int(response.headers["content-length"]) == len(response.content)
    assert not JAPANESE.search(body["detail"])


@pytest.mark.parametrize("name", READ)
def test_an_error_is_told_in_japanese(server: ServerProcess, name: str) -> None:
    """What the edge can read says which language its sender reads, even where nothing else of it is right."""
    raw, status, code = READ[name]
    with connected(server) as wire:
        body = problem(exchanged(wire, preferring("ja,en;q=0.5", raw)), status, code)
    assert JAPANESE.search(body["detail"])


def test_one_connection_too_many_is_a_problem(server: ServerProcess) -> None:
    """The refusal of a connection is as whole an answer as any, and says when to come again."""
    with ExitStack() as others:
        for _ in range(MOST):
            others.enter_context(connected(server))
        response = others.enter_context(connected(server)).response()
    problem(response, 503, "overloaded")
    carried(response)
    assert (response.headers["retry-after"], response.headers["connection"]) == ("1", "close")
    server.wait_for_gauge("edge_connections", 1)  # the others have left, for the tests that follow


def test_a_refusal_is_whole_though_a_handler_answers_too(server: ServerProcess) -> None:
    """A request that ends in nonsense, whose handler refuses it for reasons of its own: one whole answer, each time."""
    raw = UNREAD["chunk"][0]
    for _ in range(50):
        with connected(server) as wire:
            problem(exchanged(wire, raw), 400, "bad_request")
            assert wire.socket.recv(1) == b""


@pytest.mark.parametrize(("path", "methods"), [("/chat", "OPTIONS, POST"), ("/healthz", "GET, HEAD, OPTIONS")])
def test_a_wrong_method_is_told_the_right_ones(server: ServerProcess, path: str, methods: str) -> None:
    """405 names the methods that are allowed, and so does OPTIONS, which needs no token."""
    for asked, status in (("PATCH", 405), ("OPTIONS", 200)):
        response = server.http.request(asked, path)
        assert response.status_code == status
        assert ", ".join(sorted(response.headers["allow"].split(", "))) == methods


HEADS = ["/healthz", "/readyz", "/ops/settings", "/ops/turns", "/ops/rollout", "/conversation-agent/status", "/nowhere",
         "/chat", "/ops/turns?min_seconds=x", "/test/fail/raises"]  # fmt: skip


def stable(response: httpx.Response) -> dict[str, str]:
    """Return the headers that two answers to the same question share."""
    return {name: value for name, value in response.headers.items() if name not in OWN}


@pytest.mark.parametrize("path", HEADS)
def test_head_is_get_without_the_body(server: ServerProcess, path: str) -> None:
    """The same status and headers, with the length that the body would have; and the connection goes on after it."""
    token = "authorization: Bearer demo"
    with connected(server) as wire:
        get, bare = (exchanged(wire, head(f"{method} {path}", token)) for method in ("GET", "HEAD"))
        carried(bare)
        assert (bare.status_code, stable(bare)) == (get.status_code, stable(get))
        assert int(bare.headers["content-length"]) == len(get.content) > 0
        assert exchanged(wire, head("GET /healthz")).json() == {"status": "alive"}


@pytest.mark.parametrize(
    "raw", [head("HEAD http://[bad/"), head("HEAD /").replace(b"1.1", b"1.9", 1)], ids=["target", "version"]
)
def test_a_refusal_of_head_has_no_body(server: ServerProcess, raw: bytes) -> None:
    """The protocol's own refusals keep to that too: headers, then the end."""
    with connected(server) as wire:
        response = exchanged(wire, raw)
        carried(response)
        assert response.headers["content-type"] == "application/problem+json"
        assert wire.socket.recv(1) == b""


def test_a_body_that_is_not_there_is_none(server: ServerProcess) -> None:
    """HEAD's answer is followed by nothing but the next answer: its length is not waited for."""
    with connected(server) as wire:
        wire.send(head("HEAD /healthz") + head("GET /healthz", "connection: close"))
        received = b""
        while data := wire.socket.recv(65_536):
            received += data
    assert [part[:12] for part in received.split(b"\r\n\r\n")] == [b"HTTP/1.1 200", b"HTTP/1.1 200", b'{"status": "']


def given(user: str = "demo", **body: str | int) -> Callable[[ServerProcess, str, str], httpx.Response]:
    """Return how to ask with a body."""
    return lambda server, method, path: server.http.request(
        method, path, json=body, headers={"authorization": f"Bearer {user}"}
    )


BODIES = {
    "/chat": given(message=f"What is a hypothesis? {AT_ONCE}"),
    "/chat/stream": given(message=f"What is a hypothesis? {AT_ONCE}"),
    "/conversation-agent/chat": given(message="What is a hypothesis?"),
    "/ops/limiter": given(max=64),
}
NO_SUCH_STREAM, NO_SUCH = {200, 204, 405}, {200, 404, 405}
STATUSES = {
    "/chat/<path:chat_id>/stream": NO_SUCH_STREAM,
    "/chat/stream/<path:chat_id>/stream": NO_SUCH_STREAM,
    "/ops/outbox/<int:entry_id>/retry": NO_SUCH,
    "/ops/outbox/<int:entry_id>": NO_SUCH,
    "/docs/<name>": NO_SUCH,
    "/console/<digest>/<path:name>": NO_SUCH,
    "/conversations": {200, 201, 405},
    "/conversations/<conversation_id>": NO_SUCH,
    "/conversations/<conversation_id>/messages": NO_SUCH,
}
"""Of all methods together, where they are not 200 and 405."""
PAGES = {
    "/docs": {"content_security_policy": POLICY},
    "/console": {"content_security_policy": CONSOLE_POLICY, "cache_control": ASK_AGAIN},
}
"""What answers to browsers carry in place of what others do."""


def test_every_route_carries_them_in_every_answer(server: ServerProcess) -> None:
    """Success and refusal, with every method, on every address that the server knows: so no new route can forget."""
    known = server.http.get("/test/routes").json()
    routes = {rule: methods for rule, methods in known.items() if not rule.startswith("/test/")}
    assert {"/healthz", "/chat", "/metrics", "/ops/turns"} < set(routes)
    for path, methods in routes.items():
        answers = {
            method: BODIES.get(path, given())(server, method, path.replace("<int:entry_id>", "1"))
            for method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
        }
        for method, response in answers.items():
            assert (response.status_code == 405) == (method not in methods), (method, path)
            carried(response, **(PAGES.get(path, {}) if method in ("GET", "HEAD") else {}))
        statuses = {response.status_code for response in answers.values()}
        assert statuses == STATUSES.get(path, {200, 405}), path


def test_the_callers_ids_come_back(server: ServerProcess) -> None:
    """A caller's own request id and trace id are those of the answer."""
    trace_id = "0af7651916cd43dd8448eb211c80319c"
    sent = {"x-request-id": "page:17/retry=2", "traceparent": f"00-{trace_id}-b7ad6b7169203331-01"}
    response = server.http.get("/nowhere", headers=sent)
    assert (response.headers["x-request-id"], response.headers["x-trace-id"]) == ("page:17/retry=2", trace_id)
