"""Odd requests: each is answered once, as a problem that says why, and then the connection ends; or served as usual."""

import time
import uuid
from collections.abc import Iterator

import pytest

from app.edge.serve import KEEP_ALIVE_S
from tests.edge.bystander import HEALTH, answers, bystander, said_to
from tests.server.process import AT_ONCE, ServerProcess, running
from tests.server.wire import chat_head, problem

HOST = b"Host: localhost\r\n"
SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: localhost\r\n\r\n"
BAD, TOO_LARGE, UNKNOWN_CODING = (400, "bad_request"), (431, "headers_too_large"), (501, "not_implemented")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with running(tmp_path_factory.mktemp("data"), LOG_LEVEL="debug") as process:
        yield process


READ = (
    *(b"X-Request-Id", b"Traceparent", b"Tracestate", b"Baggage", b"Cookie", b"Origin", b"Forwarded", b"User-Agent"),
    *(b"Accept", b"Accept-Language", b"Accept-Encoding", b"Content-Type", b"Range", b"If-None-Match", b"Referer"),
    *(b"X-Forwarded-For", b"X-Forwarded-Host", b"If-Modified-Since", b"Expect", b"Connection", b"Upgrade"),
)
"""Headers that some part of a server may look into."""


def get(target: bytes = b"/healthz", headers: bytes = HOST, version: bytes = b"HTTP/1.1") -> bytes:
    return b"GET " + target + b" " + version + b"\r\n" + headers + b"\r\n"


def post(headers: bytes, body: bytes = b"", version: bytes = b"HTTP/1.1") -> bytes:
    known = HOST + b"Authorization: Bearer demo\r\nContent-Type: application/json\r\n"
    return b"POST /chat " + version + b"\r\n" + known + headers + b"\r\n" + body


def chunked(body: bytes) -> bytes:
    return post(b"Transfer-Encoding: chunked\r\n", body)


REFUSED: dict[str, tuple[bytes, tuple[int, str]]] = {
    # the target
    "a broken IPv6 address": (get(b"http://[bad/"), BAD),
    "another scheme": (get(b"ftp://localhost/healthz"), BAD),
    "a name and password": (get(b"http://demo:demo@localhost/healthz"), BAD),
    "no host in the target": (get(b"http:///healthz"), BAD),
    "an endless name in the target": (get(b"http://" + b"a" * 64 + b"/healthz"), BAD),
    "neither path nor URL": (get(b"healthz"), BAD),
    "an asterisk for GET": (get(b"*"), BAD),
    "CONNECT": (b"CONNECT localhost:443 HTTP/1.1\r\n" + HOST + b"\r\n", BAD),
    "a path that is no ASCII": (get("/日本".encode()), BAD),
    "a NUL in the path": (get(b"/heal\0thz"), BAD),
    "a line end in the path": (get(b"/heal\r\nthz"), BAD),
    "a blank in the path": (get(b"/heal thz"), BAD),
    "two blanks": (get(b" /healthz"), BAD),
    # the version
    "HTTP/0.9": (b"GET /healthz\r\n\r\n", BAD),
    "HTTP/2.0": (get(version=b"HTTP/2.0"), (505, "http_version")),
    "HTTP/9.9": (get(version=b"HTTP/9.9"), (505, "http_version")),
    "HTTP/10.1": (get(version=b"HTTP/10.1"), BAD),
    "no HTTP": (get(version=b"ICY/1.1"), BAD),
    # the host
    "no Host": (get(headers=b""), BAD),
    "two Hosts": (get(headers=HOST + HOST), BAD),
    "two names in Host": (get(headers=b"Host: localhost, evil.example\r\n"), BAD),
    "a path in Host": (get(headers=b"Host: localhost/evil\r\n"), BAD),
    "a user in Host": (get(headers=b"Host: demo@localhost\r\n"), BAD),
    "a Host that is no ASCII": (get(headers="Host: 日本\r\n".encode()), BAD),
    "an endless name in Host": (get(headers=b"Host: " + b"a" * 64 + b"\r\n"), BAD),
    "an empty part in Host": (get(headers=b"Host: a..b\r\n"), BAD),
    "a dot as Host": (get(headers=b"Host: .\r\n"), BAD),
    "a port that is none": (get(headers=b"Host: localhost:http\r\n"), BAD),
    # the other headers
    "a folded first header": (b"GET /healthz HTTP/1.1\r\n " + HOST + b"\r\n", BAD),
    "a blank before the colon": (get(headers=b"X-Odd : 1\r\n" + HOST), BAD),
    "a header without a name": (get(headers=HOST + b": 1\r\n"), BAD),
    "a header without a colon": (get(headers=HOST + b"X-Odd\r\n"), BAD),
    "a header name that is no ASCII": (get(headers=HOST + "X-日本: 1\r\n".encode()), BAD),
    "a NUL in a header": (get(headers=HOST + b"X-Odd: a\0b\r\n"), BAD),
    "a bare CR in a header": (get(headers=HOST + b"X-Odd: a\rX-Smuggled: 1\r\n"), BAD),
    "a huge head": (get(headers=HOST + b"X-Odd: " + b"a" * 200_000 + b"\r\n"), TOO_LARGE),
    "a head of many headers": (get(headers=HOST + b"X-Odd: 1\r\n" * 20_000), TOO_LARGE),
    "an endless target": (get(b"/" + b"a" * 200_000), TOO_LARGE),
    # the body's frame
    "both frames": (post(b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", b"0\r\n\r\n" + SMUGGLED), BAD),
    "both frames, turned": (post(b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", b"0\r\n\r\n" + SMUGGLED), BAD),
    "chunks in HTTP/1.0": (post(b"Transfer-Encoding: chunked\r\n", b"0\r\n\r\n" + SMUGGLED, b"HTTP/1.0"), BAD),
    "two lengths": (post(b"Content-Length: 0\r\nContent-Length: 5\r\n", SMUGGLED), BAD),
    "a list of lengths": (post(b"Content-Length: 0, 5\r\n", SMUGGLED), BAD),
    "a negative length": (post(b"Content-Length: -1\r\n", SMUGGLED), BAD),
    "a length with a sign": (post(b"Content-Length: +5\r\n", SMUGGLED), BAD),
    "a hexadecimal length": (post(b"Content-Length: 0x5\r\n", SMUGGLED), BAD),
    "an endless length": (post(b"Content-Length: " + b"9" * 30 + b"\r\n", SMUGGLED), BAD),
    "another coding": (post(b"Transfer-Encoding: gzip\r\n", SMUGGLED), UNKNOWN_CODING),
    "two codings": (post(b"Transfer-Encoding: gzip, chunked\r\n", b"0\r\n\r\n" + SMUGGLED), UNKNOWN_CODING),
    "chunked twice": (post(b"Transfer-Encoding: chunked\r\n" * 2, b"0\r\n\r\n" + SMUGGLED), UNKNOWN_CODING),
    "almost chunked": (post(b"Transfer-Encoding: xchunked\r\n", b"0\r\n\r\n" + SMUGGLED), UNKNOWN_CODING),
    "a control before chunked": (post(b"Transfer-Encoding: \x0bchunked\r\n", b"0\r\n\r\n" + SMUGGLED), BAD),
    # the chunks
    "a chunk size that is none": (chunked(b"zz\r\nhello\r\n0\r\n\r\n"), BAD),
    "a negative chunk": (chunked(b"-5\r\nhello\r\n0\r\n\r\n"), BAD),
    "a chunk size with 0x": (chunked(b"0x5\r\nhello\r\n0\r\n\r\n"), BAD),
    "an endless chunk size": (chunked(b"f" * 30 + b"\r\nhello\r\n0\r\n\r\n"), BAD),
    "a chunk that is longer than it says": (chunked(b"1\r\nhello\r\n0\r\n\r\n"), BAD),
    "an endless chunk extension": (chunked(b"5;" + b"a" * 200_000 + b"\r\nhello\r\n0\r\n\r\n"), TOO_LARGE),
    "an endless trailer": (chunked(b"0\r\nX-Odd: " + b"a" * 200_000 + b"\r\n\r\n"), TOO_LARGE),
    "a broken trailer": (chunked(b"0\r\nX-Odd\r\n\r\n" + SMUGGLED), BAD),
    "a bad chunk of a stranger": (post(b"Transfer-Encoding: chunked\r\n", b"zz\r\n").replace(b"demo", b"'"), BAD),
    # no HTTP at all
    "TLS": (bytes.fromhex("16030100c8010000c40303") + bytes(200), BAD),
    "the PROXY protocol": (b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n" + HEALTH, BAD),
    "an answer": (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", BAD),
    "noise": (bytes(range(255, 0, -1)) + b"\r\n\r\n", BAD),
}


@pytest.mark.parametrize(("data", "wanted"), REFUSED.values(), ids=REFUSED)
def test_an_odd_request_is_refused_and_the_connection_ends(
    server: ServerProcess, data: bytes, wanted: tuple[int, str]
) -> None:
    """One problem with its ids, said to be the last, then the end, at once; a bystander is served."""
    with bystander(server):
        begun = time.monotonic()
        (refusal,) = answers(said_to(server, data))
        assert time.monotonic() - begun < KEEP_ALIVE_S - 1, "ended by itself, not by the keep-alive timer"
    problem(refusal, *wanted)
    assert refusal.headers["connection"] == "close"
    assert str(uuid.UUID(refusal.headers["x-request-id"])) == refusal.headers["x-request-id"]
    server.wait_for_log("request.refused", trace_id=refusal.headers["x-trace-id"], code=wanted[1])


ANSWERED: dict[str, tuple[bytes, int]] = {
    "a URL that names another host": (get(b"http://localhost/healthz", b"Host: evil.example\r\n"), 200),
    "a URL with all its parts": (get(b"HTTP://LOCALHOST:8000/healthz;a=b?c=d#e"), 404),
    "a URL without a path": (get(b"http://localhost?x=1"), 404),
    "an asterisk for OPTIONS": (b"OPTIONS * HTTP/1.1\r\n" + HOST + b"\r\n", 404),
    "CONNECT with a path": (b"CONNECT /healthz HTTP/1.1\r\n" + HOST + b"\r\n", 405),
    "a method of our own": (b"BREW /healthz HTTP/1.1\r\n" + HOST + b"\r\n", 405),
    "an endless method": (b"A" * 8000 + b" /healthz HTTP/1.1\r\n" + HOST + b"\r\n", 405),
    "head, in small letters": (b"head /healthz HTTP/1.1\r\n" + HOST + b"\r\n", 200),
    "head of what is not there": (b"head /nowhere HTTP/1.1\r\n" + HOST + b"\r\n", 404),
    "two slashes": (get(b"//x"), 404),
    "two slashes and a host": (get(b"//evil.example/healthz"), 404),
    "three slashes within": (get(b"/ops///turns?x=1", b"Host: evil.example\r\n"), 404),
    "dots": (get(b"/../../../../etc/passwd"), 404),
    "dots, escaped": (get(b"/%2e%2e/%2e%2e/etc/passwd"), 404),
    "backslashes": (get(rb"/\..\..\etc\passwd"), 404),
    "broken escapes": (get(b"/%zz%f%"), 404),
    "escapes that are no UTF-8": (get(b"/%ff%fe%ed%a0%80"), 404),
    "escaped line ends and a NUL": (get(b"/%0d%0aX-Odd:%201%00"), 404),
    "an odd query": (get(b"/healthz?%ff=%zz&&&;==?#"), 200),
    "a fragment": (get(b"/healthz#x"), 404),
    "an empty Host": (get(headers=b"Host:\r\n"), 200),
    "a port that cannot be": (get(headers=b"Host: localhost:99999\r\n"), 200),
    "dots in brackets as Host": (get(headers=b"Host: [..]\r\n"), 200),
    "the longest part in Host": (get(headers=b"Host: " + b"a" * 63 + b".a.:65535\r\n"), 200),
    "bare line feeds": (get().replace(b"\r", b""), 200),
    "a folded header": (get(headers=HOST + b"X-Odd: 1\r\n 2\r\n"), 200),
    "headers of bytes": (get(headers=HOST + b"".join(name + b": \xff\xfe\x01;=,q\r\n" for name in READ)), 200),
    "an upgrade to nothing": (get(headers=HOST + b"Connection: Upgrade\r\nUpgrade: ,\r\n"), 200),
    "the same length twice": (post(b"Content-Length: 5\r\nContent-Length: 5\r\n", b"hello"), 400),
    "an unknown expectation": (post(b"Expect: 200-ok\r\nContent-Length: 5\r\n", b"hello"), 400),
    "an empty chunked body": (chunked(b"0\r\n\r\n"), 400),
    "chunk extensions and trailers": (chunked(b"5;a=b;c\r\nhello\r\n0;d\r\nHost: evil.example\r\n\r\n"), 400),
    "chunks of one byte": (chunked(b"1\r\nx\r\n" * 5000 + b"0\r\n\r\n"), 400),
}  # fmt: skip


@pytest.mark.parametrize(("data", "status"), ANSWERED.values(), ids=ANSWERED)
def test_an_unusual_request_is_answered_and_the_connection_goes_on(
    server: ServerProcess, data: bytes, status: int
) -> None:
    """One answer, framed as its request asks for, and the next request on that connection gets its own."""
    last = HEALTH.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
    with bystander(server):
        first, second = answers(said_to(server, data, last))
    assert (first.status_code, second.status_code) == (status, 200)
    assert "connection" not in first.headers
    assert status == 200 or problem(first, status, first.json()["code"])


@pytest.mark.parametrize(
    ("named", "header", "status"), [("localhost", "evil.example", 200), ("evil.example", "localhost", 401)]
)
def test_the_target_names_the_host_before_the_header(
    server: ServerProcess, named: str, header: str, status: int
) -> None:
    """Of two names the one in the target counts: the dev identity is for loopback's names only."""
    body = f'{{"message": "Who am I talking to? {AT_ONCE}"}}'.encode()
    turn = chat_head(len(body), connection="close", host=header) + body
    (answer,) = answers(said_to(server, turn.replace(b"/chat", f"http://{named}/chat".encode(), 1)))
    assert answer.status_code == status


def test_a_broken_body_of_a_head_is_refused_without_one(server: ServerProcess) -> None:
    """A HEAD that says it has a body, which turns out to be none: refused as every HEAD is, by the head alone."""
    asked = b"HEAD /healthz HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n"
    (refusal,) = answers(said_to(server, asked), head=True)
    assert (refusal.status_code, refusal.headers["connection"], refusal.content) == (400, "close", b"")
    assert int(refusal.headers["content-length"]) > 0


def test_a_bad_chunk_while_the_refusal_is_on_its_way(server: ServerProcess) -> None:
    """A body that goes wrong at the very moment at which a handler refuses it: one whole answer, the end, no stack."""
    head = post(b"Transfer-Encoding: chunked\r\n").replace(b"Bearer demo", b"none")
    seen, logged = set(), len(server.log)
    for number in range(150):
        (answer,) = answers(said_to(server, head, *[b"1\r\nx\r\n"] * (number % 5), b"zz\r\n"))
        assert answer.headers["connection"] == "close"
        seen.add(answer.status_code)
    assert seen <= {400, 401}
    assert not [line for line in server.log[logged:] if "stack" in line]


def test_a_refusal_keeps_the_ids_that_came(server: ServerProcess) -> None:
    """A request that could be read is refused under its own trace and request id."""
    trace_id = "0af7651916cd43dd8448eb211c80319c"
    ids = f"traceparent: 00-{trace_id}-b7ad6b7169203331-01\r\nx-request-id: mine-1\r\n".encode()
    (refusal,) = answers(said_to(server, get(b"/healthz", b"Host: a b\r\n" + ids)))
    assert (refusal.headers["x-trace-id"], refusal.headers["x-request-id"]) == (trace_id, "mine-1")
