"""HTTP/1.1 without sockets: the reader gives the same for any cut of the same bytes, and each part has a bound."""

from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.clients.http1 import (
    MAX_FRAMING_BYTES,
    MAX_HEAD_BYTES,
    MAX_HEADERS,
    RequestBody,
    ResponseReader,
    WrongRequestError,
    WrongResponseError,
    encode_head,
)

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"


def read(data: bytes, cuts: list[int], method: str = "GET") -> ResponseReader:
    """Feed the data in the parts that these cuts make, then the end if the response is not complete by then."""
    reader = ResponseReader(method)
    for start, end in pairwise([0, *sorted(cut for cut in set(cuts) if 0 < cut < len(data)), len(data)]):
        reader.feed(data[start:end])
    if not reader.complete:
        reader.end()
    return reader


@dataclass
class Expected:
    """A response, and what is to be read from it."""

    data: bytes
    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes
    reusable: bool
    framed: bool


NAMES = st.sampled_from([b"X-One", b"x-two", b"Date", b"Content-Type", b"Set-Cookie"])
VALUES = st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=20).map(str.encode)


@st.composite
def responses(draw: st.DrawFn) -> Expected:
    """Draw a proper response of any framing, perhaps with interim ones before it."""
    status = draw(st.sampled_from([200, 201, 204, 304, 404, 503]))
    headers = draw(st.lists(st.tuples(NAMES, VALUES), max_size=5))
    chunks = draw(st.lists(st.binary(min_size=1, max_size=40), max_size=4))
    framing = draw(st.sampled_from(["length", "chunked", "close"]))
    last = draw(st.booleans())
    body = b"".join(chunks)
    if status in (204, 304):
        framing, body = "none", b""
    if framing == "length":
        headers.append((b"Content-Length", b"%d" % len(body)))
        sent = body
    elif framing == "chunked":
        headers.append((b"Transfer-Encoding", b"chunked"))
        sent = b"".join(b"%X\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n\r\n"
    else:
        sent = body
    if last:
        headers.append((b"Connection", b"close"))
    interim = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" * draw(st.integers(0, 2))
    head = b"HTTP/1.1 %d Reason\r\n" % status + b"".join(b"%b: %b\r\n" % header for header in headers) + b"\r\n"
    return Expected(interim + head + sent, status, headers, body, not last and framing != "close", framing != "close")


@given(responses(), st.lists(st.integers(0, 600), max_size=12))
def test_any_cut_of_a_response_reads_the_same(expected: Expected, cuts: list[int]) -> None:
    """Status, headers in their order, body, and whether the connection may go on."""
    for chosen in (cuts, list(range(len(expected.data)))):
        reader = read(expected.data, chosen)
        assert reader.head is not None
        assert (reader.head.status, reader.head.headers) == (expected.status, expected.headers)
        assert (reader.take(), reader.complete, reader.reusable) == (expected.body, True, expected.reusable)


@given(responses(), st.integers(0, 600))
def test_a_response_that_is_cut_short_is_never_whole(expected: Expected, length: int) -> None:
    """Any beginning of one that has an end of its own is an error when the connection ends there."""
    reader = ResponseReader("GET")
    reader.feed(expected.data[: min(length, len(expected.data) - 1)])
    if reader.head is None or expected.framed:
        assert not reader.complete
        with pytest.raises(WrongResponseError):
            reader.end()


@given(responses(), st.data())
def test_noise_is_an_error_or_a_response(expected: Expected, data: st.DataObject) -> None:
    """Bytes changed anywhere raise nothing but WrongResponseError."""
    noisy = bytearray(expected.data)
    for _ in range(data.draw(st.integers(1, 4))):
        noisy[data.draw(st.integers(0, len(noisy) - 1))] = data.draw(st.integers(0, 255))
    with suppress(WrongResponseError):
        read(bytes(noisy), data.draw(st.lists(st.integers(0, 300), max_size=5)))


def fill(start: bytes, each: bytes, size: int) -> bytes:
    return start + each * (size // len(each))


# what is said, and how many bytes of it may be read before it is an error
ENDLESS: dict[str, tuple[bytes, int]] = {
    "reason": (fill(b"HTTP/1.1 200 ", b"x", 1 << 20), MAX_HEAD_BYTES),
    "name": (fill(OK, b"x", 1 << 20), MAX_HEAD_BYTES),
    "value": (fill(OK + b"A: ", b"x", 1 << 20), MAX_HEAD_BYTES),
    "headers": (fill(OK, b"A: b\r\n", 1 << 20), (MAX_HEADERS + 1) * 6 + len(OK)),
    "interim answers": (fill(b"", b"HTTP/1.1 102 Processing\r\n\r\n", 1 << 20), MAX_HEAD_BYTES),
    "empty lines before it": (fill(b"", b"\r\n", 1 << 20), MAX_HEAD_BYTES),
    "chunk extension": (fill(CHUNKED + b"2;", b"x", 1 << 20), len(CHUNKED) + MAX_FRAMING_BYTES),
    "second chunk's extension": (fill(CHUNKED + b"2\r\nok\r\n2;", b"x", 1 << 20), len(CHUNKED) + MAX_FRAMING_BYTES + 9),
    "trailer": (fill(CHUNKED + b"0\r\nA: ", b"x", 1 << 20), len(CHUNKED) + MAX_FRAMING_BYTES),
    "trailers": (fill(CHUNKED + b"0\r\n", b"A: b\r\n", 1 << 20), len(CHUNKED) + MAX_FRAMING_BYTES),
}


@pytest.mark.parametrize("step", [7, 1000, 1 << 16])
@pytest.mark.parametrize("name", ENDLESS)
def test_every_part_has_a_bound(name: str, step: int) -> None:
    """Past it, the next read is an error, whatever the reads' size."""
    data, bound = ENDLESS[name]
    reader, fed = ResponseReader("GET"), 0
    with pytest.raises(WrongResponseError):  # noqa: PT012 - how far it got is what matters
        while fed < len(data):
            fed += step
            reader.feed(data[fed - step : fed])
    assert fed <= bound + 2 * step


@pytest.mark.parametrize("rest", [b"", b"ok"])
def test_a_head_of_just_the_bound_is_read(rest: bytes) -> None:
    """Whether the body comes in the same read or later; a byte more is an error."""
    tail = b"\r\nContent-Length: 2\r\n\r\n"
    head = OK + b"A: " + b"x" * (MAX_HEAD_BYTES - len(OK) - 3 - len(tail) - len(rest)) + tail
    reader = ResponseReader("GET")
    reader.feed(head + rest)
    assert reader.head is not None
    reader.feed(b"" if rest else b"ok")
    assert (reader.take(), reader.reusable) == (b"ok", True)


def test_a_long_body_of_small_chunks_has_no_bound() -> None:
    """The bound is for what lies between two bytes of a body, not for all of it."""
    reader = ResponseReader("GET")
    reader.feed(CHUNKED)
    for _ in range(3 * MAX_FRAMING_BYTES // 100):
        reader.feed(b"1;%b\r\nx\r\n" % (b"x" * 100))
    reader.feed(b"0\r\n\r\n")
    assert (len(reader.take()), reader.reusable) == (3 * MAX_FRAMING_BYTES // 100, True)


@pytest.mark.parametrize("rest", [b"X", b"HTTP/1.1 200 OK\r\n", b"\0", b"H"])
@pytest.mark.parametrize("together", [True, False])
@pytest.mark.parametrize(
    "response", [OK + b"Content-Length: 2\r\n\r\nok", CHUNKED + b"2\r\nok\r\n0\r\n\r\n", b"HTTP/1.1 204 No\r\n\r\n"]
)
def test_what_follows_a_response_ends_the_connection(response: bytes, together: bool, rest: bytes) -> None:
    """The response stays as it was."""
    reader = ResponseReader("GET")
    reader.feed(response + rest if together else response)
    assert reader.complete
    if not together:
        assert reader.reusable
        reader.feed(rest)
    assert (reader.complete, reader.reusable) == (True, False)


def test_a_refusal_marked_as_the_last_is_not_reused_though_it_was_complete_before() -> None:
    """Whoever stops sending says so after the response was read."""
    reader = ResponseReader("POST")
    reader.feed(b"HTTP/1.1 413 Too Much\r\nContent-Length: 0\r\n\r\n")
    assert reader.reusable
    reader.is_last = True
    assert not reader.reusable


Headers = list[tuple[bytes, bytes]]
ILLEGAL: list[tuple[str, bytes, Headers]] = [
    ("GET ", b"/", []),
    ("", b"/", []),
    ("GET\r\n", b"/", []),
    ("G\u00c9T", b"/", []),
    ("GET", b"", []),
    ("GET", b"/ HTTP/1.1\r\nA: b", []),
    ("GET", b"/a b", []),
    ("GET", b"/\x7f", []),
    ("GET", b"/", [(b"A b", b"c")]),
    ("GET", b"/", [(b"A:", b"c")]),
    ("GET", b"/", [(b"", b"c")]),
    ("GET", b"/", [(b"A\r\nB", b"c")]),
    ("GET", b"/", [(b"A", b"c\r\nB: d")]),
    ("GET", b"/", [(b"A", b"c\nB: d")]),
    ("GET", b"/", [(b"A", b"c\r")]),
    ("GET", b"/", [(b"A", b"c\0")]),
]


@pytest.mark.parametrize(("method", "target", "headers"), ILLEGAL)
def test_a_head_that_would_mean_something_else_is_not_written(method: str, target: bytes, headers: Headers) -> None:
    """No header, and no second request, can be smuggled in."""
    with pytest.raises(WrongRequestError):
        encode_head(method, target, headers)


def test_a_head_is_written_as_given() -> None:
    """Names and values byte for byte, in order."""
    written = encode_head("POST", b"/a?b=c", [(b"Host", b"x:1"), (b"A", b""), (b"a", b"\xe5\xb7\x9d ;")])
    assert written == b"POST /a?b=c HTTP/1.1\r\nHost: x:1\r\nA: \r\na: \xe5\xb7\x9d ;\r\n\r\n"


DOUBTFUL: list[Headers] = [
    [(b"Content-Length", b"1"), (b"content-length", b"1")],
    [(b"Content-Length", b"1"), (b"Transfer-Encoding", b"chunked")],
    [(b"Transfer-Encoding", b"chunked"), (b"Transfer-Encoding", b"chunked")],
    [(b"Transfer-Encoding", b"gzip, chunked")],
    [(b"Transfer-Encoding", b"identity")],
    *([(b"Content-Length", value)] for value in (b"", b"+1", b"-1", b"1,1", b" 1", b"0x1", b"1_0", b"9" * 5000)),
]


@pytest.mark.parametrize("headers", DOUBTFUL, ids=lambda headers: str(headers)[:60])
def test_headers_that_leave_a_bodys_end_in_doubt_are_refused(headers: Headers) -> None:
    """Both framings, one twice, other codings, and what is no number."""
    with pytest.raises(WrongRequestError):
        RequestBody(headers)


@given(st.lists(st.binary(max_size=20), max_size=6), st.integers(-2, 2), st.booleans())
def test_a_body_is_as_long_as_announced_or_refused(pieces: list[bytes], error: int, chunked: bool) -> None:
    """Written whole, or refused at the first byte too many, or at the end for the first too few."""
    length = sum(map(len, pieces))
    announced = max(0, length + error)
    body = RequestBody([(b"Transfer-Encoding", b"Chunked")] if chunked else [(b"Content-Length", b"%d" % announced)])
    if not chunked and announced != length:
        with pytest.raises(WrongRequestError):
            b"".join([*map(body.piece, pieces), body.end()])
        return
    written = b"".join([*map(body.piece, pieces), body.end()])
    if not chunked:
        assert written == b"".join(pieces)
        return
    reader = ResponseReader("GET")
    reader.feed(CHUNKED + written)
    assert (reader.complete, reader.take()) == (True, b"".join(pieces))


def test_without_a_length_there_is_no_body() -> None:
    """What would be sent would be taken for the next request."""
    assert RequestBody([]).piece(b"") == RequestBody([]).end() == b""
    with pytest.raises(WrongRequestError):
        RequestBody([]).piece(b"x")
