"""What a stranger may send: requests that were right before they were mutated, heads put together of odd parts, noise.

Hypothesis strategies; an `Attempt` is what one connection sends, in which pieces, and how it is left.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from hypothesis import strategies as st

from tests.server.process import AT_ONCE

Ending = Literal["wait", "half-close", "close", "reset"]
Draw = st.DrawFn

HOST = b"Host: localhost\r\n"
USER = HOST + b"Authorization: Bearer demo\r\nContent-Type: application/json\r\n"
TURN = f'{{"message": "Once more {AT_ONCE}"}}'.encode()
H2_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00"
H2_FRAMES = (
    b"\x00\x00\x0f\x01\x04\x00\x00\x00\x01\x83\x86\x41\x09localhost\x04",  # HEADERS of a POST, no end of stream
    b"\x00\x00\x05\x00\x01\x00\x00\x00\x01hello",  # its DATA
    b"\x00\x00\x05\x02\x00\x00\x00\x00\x03\x00\x00\x00\x00\x01",  # PRIORITY
    b"\x00\x00\x04\x08\x00\x00\x00\x00\x00\x7f\xff\xff\xff",  # WINDOW_UPDATE
)

REQUESTS = (
    b"GET /healthz HTTP/1.1\r\n" + HOST + b"\r\n",
    b"HEAD /healthz HTTP/1.1\r\n" + HOST + b"\r\n",
    b"OPTIONS * HTTP/1.1\r\n" + HOST + b"\r\n",
    b"GET /healthz HTTP/1.0\r\n\r\n",
    b"GET http://localhost:8000/healthz?a=b HTTP/1.1\r\nHost: evil.example\r\n\r\n",
    b"GET /ops/turns?min_seconds=1 HTTP/1.1\r\n" + HOST + b"Accept-Encoding: gzip\r\nConnection: close\r\n\r\n",
    b"GET /nowhere HTTP/1.1\r\n" + HOST + b"Traceparent: 00-" + b"a" * 32 + b"-" + b"b" * 16 + b"-01\r\n\r\n",
    b"POST /chat HTTP/1.1\r\n" + USER + b"Content-Length: %d\r\n\r\n" % len(TURN) + TURN,
    b"POST /chat HTTP/1.1\r\n" + USER + b"Content-Length: 5\r\n\r\nhello",
    b"POST /chat HTTP/1.1\r\n" + HOST + b"Content-Length: 5\r\n\r\nhello",
    b"POST /chat HTTP/1.1\r\n" + USER + b"Expect: 100-continue\r\nContent-Length: 5\r\n\r\nhello",
    b"POST /chat HTTP/1.1\r\n" + USER + b"Transfer-Encoding: chunked\r\n\r\n5;a=b\r\nhello\r\n0\r\nX-Odd: 1\r\n\r\n",
    b"POST /nowhere HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * 40 + b"0\r\n\r\n",
    b"GET /chat HTTP/1.1\r\n" + HOST + b"Connection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n\x81\x85\0\0\0\0hello",
    b"GET /healthz HTTP/1.1\r\n" + HOST + b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"
    b"HTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n",
    H2_PREFACE + b"".join(H2_FRAMES),
    H2_PREFACE + H2_FRAMES[2] * 100,
)

WORDS = (
    *(
        b"\r\n",
        b"\n",
        b"\r",
        b"\r\n\r\n",
        b"\n\n",
        b" ",
        b"\t",
        b":",
        b";",
        b",",
        b"%",
        b"%00",
        b"\0",
        b"\xff",
        b"\x80",
    ),
    *(b"[", b"]", b"//", b"/..", b"?", b"#", b"@", b"*", b"0\r\n\r\n", b"ffffffffffffffff\r\n", b"-1\r\n", b"1;"),
    *(
        b"HTTP/1.1",
        b"HTTP/1.0",
        b"HTTP/2.0",
        b"GET ",
        b"HEAD ",
        b"CONNECT ",
        b"head ",
        b"http://",
        b"http://[",
        b"close",
    ),
    *(b"\xc3\xa9", b"a" * 64, b"a" * 20_000, b"9" * 30, b"gzip;q=nan", "日本".encode()),
)
HEADERS = (
    *(b"Host: localhost", b"Host:", b"Host: a..b", b"Host: [", b"Content-Length: 0", b"Content-Length: 5"),
    *(b"Content-Length: -1", b"Content-Length: 99999999999999999999", b"Transfer-Encoding: chunked"),
    *(b"Transfer-Encoding: gzip", b"Transfer-Encoding:", b"Connection: close", b"Connection: keep-alive"),
    *(b"Connection: upgrade", b"Upgrade: h2c", b"Upgrade: websocket", b"Expect: 100-continue", b" folded", b"no colon"),
    *(
        b": nameless",
        b"X-Odd : 1",
        b"X-Odd: \x01\x7f\xff",
        b"Content-Type: multipart/form-data; boundary=",
        b"Range: x",
    ),
    *(
        b"Content-Encoding: gzip",
        b"Accept-Language: ;;q=,*",
        b"Cookie: =;=;\xff",
        b"X-Forwarded-For: ,,",
        b"X: " * 3000,
    ),
)
METHODS = (b"GET", b"HEAD", b"POST", b"OPTIONS", b"CONNECT", b"PRI", b"TRACE", b"head", b"", b"\0", b"G" * 300)
TARGETS = (
    *(b"/", b"/healthz", b"/readyz", b"/chat", b"*", b"", b"//", b"/%", b"/%ff%00", b"/?%", b"http://[", b"http://"),
    *(
        b"http://a..b/healthz",
        b"https://localhost",
        b"//localhost/healthz",
        b"localhost:80",
        b"/\xff",
        b"/" + b"a" * 9000,
    ),
)
VERSIONS = (*[b"HTTP/1.1"] * 8, b"HTTP/1.0", b"HTTP/2.0", b"HTTP/0.9", b"HTTP/11", b"http/1.1", b"")


@dataclass(frozen=True, slots=True)
class Attempt:
    """What one connection sends, piece by piece, and how its client ends it."""

    pieces: tuple[bytes, ...]
    ending: Ending

    @property
    def data(self) -> bytes:
        """All of it."""
        return b"".join(self.pieces)


BYTES = st.integers(0, 255)
FEW = st.integers(1, 40)
WORD, HEADER, REQUEST = (st.sampled_from(parts) for parts in (WORDS, HEADERS, REQUESTS))
HEAD_LINE = st.tuples(*(st.sampled_from(parts) for parts in (METHODS, TARGETS, VERSIONS))).map(b" ".join)
TIMES = st.sampled_from((2, 3, 50, 800))
BEHIND = st.one_of(st.binary(max_size=60), REQUEST)


def _place(draw: Draw, data: bytes) -> int:
    return draw(st.integers(0, len(data)))


def _flipped(draw: Draw, data: bytes) -> bytes:
    place = _place(draw, data)
    return data[:place] + bytes([draw(BYTES)]) + data[place + 1 :]


def _inserted(draw: Draw, data: bytes) -> bytes:
    place = _place(draw, data)
    return data[:place] + draw(WORD) + data[place:]


def _removed(draw: Draw, data: bytes) -> bytes:
    place = _place(draw, data)
    return data[:place] + data[place + draw(FEW) :]


def _cut(draw: Draw, data: bytes) -> bytes:
    return data[: _place(draw, data)]


def _repeated(draw: Draw, data: bytes) -> bytes:
    place = _place(draw, data)
    return data[:place] + data[place : place + 30] * draw(TIMES) + data[place + 30 :]


def _followed(draw: Draw, data: bytes) -> bytes:
    return data + draw(BEHIND)


def _another_line(draw: Draw, data: bytes) -> bytes:
    """Put an odd header before a line."""
    lines = data.split(b"\r\n")
    lines.insert(draw(st.integers(0, len(lines))), draw(HEADER))
    return b"\r\n".join(lines)


def _instead_of_a_line(draw: Draw, data: bytes) -> bytes:
    lines = data.split(b"\r\n")
    lines[draw(st.integers(0, len(lines) - 1))] = draw(HEADER)
    return b"\r\n".join(lines)


def _bare_ends(_draw: Draw, data: bytes) -> bytes:
    return data.replace(b"\r\n", b"\n")


Mutation = Callable[[Draw, bytes], bytes]
MUTATIONS: tuple[Mutation, ...] = (
    *(_flipped, _inserted, _removed, _cut, _repeated),
    *(_followed, _another_line, _instead_of_a_line, _bare_ends),
)
SOME_MUTATIONS = st.lists(st.sampled_from(MUTATIONS), max_size=3)


@st.composite
def mutated(draw: Draw) -> bytes:
    """A proper request with up to three things wrong, or put behind it."""
    data = draw(REQUEST)
    for mutation in draw(SOME_MUTATIONS):
        data = mutation(draw, data)
    return data


TAILS = st.sampled_from((b"", b"hello", b"5\r\nhello\r\n0\r\n\r\n", b"5\r\nhelloo", REQUESTS[0]))
ASSEMBLED = st.builds(
    lambda line, host, headers, tail: b"\r\n".join([line, *host, *headers, b"", tail]),
    HEAD_LINE,
    st.sampled_from(((b"Host: localhost",), (b"Host: localhost",), ())),
    st.lists(HEADER, max_size=4),
    TAILS,
)
SENT = st.one_of(mutated(), mutated(), mutated(), ASSEMBLED, ASSEMBLED, st.binary(max_size=200))
ENDINGS: st.SearchStrategy[Ending] = st.sampled_from(("wait", "wait", "half-close", "close", "reset"))
CUTS = st.lists(st.floats(0, 1, allow_subnormal=False), max_size=2)


@st.composite
def attempts(draw: Draw) -> Attempt:
    """What one connection does."""
    data = draw(SENT)
    cuts = sorted(int(part * len(data)) for part in draw(CUTS))
    pieces = tuple(data[start:end] for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True))
    return Attempt(pieces, draw(ENDINGS))
