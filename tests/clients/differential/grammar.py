"""Proper responses of every framing, drawn at random."""

import json
from collections.abc import Callable
from random import Random

STATUSES = (200, 200, 200, 201, 203, 206, 226, 300, 301, 304, 400, 404, 409, 416, 429, 500, 502, 503, 599, 204)
# fmt: off
REASONS = (
    b"OK", b"OK", b"Not Found", b"", b"I'm a teapot", b"Zu viel \xfcbrig", b"\xe5\xa4\xa7", b"two  words", b"a\tb",
)
NAMES = (
    b"Content-Type", b"content-type", b"Server", b"DATE", b"X-Request-Id", b"Set-Cookie", b"Set-Cookie", b"ETag",
    b"x", b"!#$%&'*+-.^_`|~09Az", b"Content-Range", b"Alt-Svc", b"Content-Encoding-Not", b"Trailer",
)
VALUES = (
    b"text/plain", b"application/json; charset=utf-8", b"", b"0", b"a b", b"a  b\tc", b"a, b", b"\xe5\xb7\x9d",
    b"\xff", b'W/"x:y"', b"x" * 40, b"0-0/1", b"k=v; Path=/; HttpOnly", b":", b"chunked", b"close",
)
BODIES = (
    b"", b"x", b'[{"id":1}]', b"data: {}\n\ndata: [DONE]\n\n", b"\r\n", b"\n", b"0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", b"\x00\xff" * 20, "大きな川".encode() * 9, b"y" * 700,
)
# fmt: on
EXTENSIONS = (b";a", b";a=b", b';a="q x";b=1', b";ieof")
TRAILERS = (b"", b"", b"", b"X-Checksum: 1\r\n", b"A: b\r\nC:\r\n")
LENGTH = (b"Content-Length", b"content-length", b"CONTENT-LENGTH")
CODING = (b"Transfer-Encoding", b"transfer-encoding")
AROUND = ((b" ", b""), (b" ", b""), (b" ", b""), (b"", b""), (b"\t", b""), (b"  ", b" "))
CLOSE = (b"close", b"Close", b"keep-alive", b"foo, close", b"close, foo", b"x", b"Keep-Alive", b"")


def response(rng: Random, method: str) -> bytes:
    """Return a proper response to `method`, sometimes with interim answers before it."""
    before = b"".join(interim(rng) for _ in range(rng.choice((1, 1, 2)))) if rng.random() < 0.08 else b""
    status = rng.choice(STATUSES)
    version = b"1.0" if rng.random() < 0.1 else b"1.1"
    fields, body = rng.choice(FRAMINGS)(rng)
    fields += [(rng.choice(NAMES), rng.choice(VALUES)) for _ in range(rng.randrange(5))]
    if rng.random() < 0.2:
        fields.append((b"Connection", rng.choice(CLOSE)))
    rng.shuffle(fields)
    if method == "HEAD" or status in (204, 304):
        body = b""
    return before + head(rng, version, status, fields) + body


def interim(rng: Random) -> bytes:
    """Return an interim answer, to be followed by another or by the response."""
    return rng.choice(
        (
            b"HTTP/1.1 100 Continue\r\n\r\n",
            b"HTTP/1.1 102 Processing\r\n\r\n",
            b"HTTP/1.1 103 Early Hints\r\nLink: </s.css>; rel=preload\r\n\r\n",
            b"HTTP/1.1 199 \r\nA: b\r\n\r\n",
        )
    )


def head(rng: Random, version: bytes, status: int, fields: list[tuple[bytes, bytes]]) -> bytes:
    """Return the status line and the headers, with the blank line."""
    reason = rng.choice(REASONS)
    lines = [b"HTTP/%b %d%b" % (version, status, b" " + reason if reason or rng.random() < 0.5 else b"")]
    for name, value in fields:
        before, after = rng.choice(AROUND)
        if name.lower() != b"transfer-encoding" and rng.random() < 0.1:
            after = b"\t "
        lines.append(name + b":" + before + value + after)
    return b"\r\n".join([*lines, b"", b""])


Framed = tuple[list[tuple[bytes, bytes]], bytes]


def content(rng: Random) -> bytes:
    """Return a body."""
    if rng.random() < 0.2:
        return json.dumps([rng.randrange(10**6) for _ in range(rng.randrange(9))]).encode()
    return rng.choice(BODIES)


def by_length(rng: Random) -> Framed:
    """Frame a body by its length."""
    body = content(rng)
    return [(rng.choice(LENGTH), b"%0*d" % (rng.choice((1, 1, 1, 5)), len(body)))], body


def by_chunks(rng: Random) -> Framed:
    """Frame a body by chunks, with extensions and trailers."""
    body, chunks = content(rng), list[bytes]()
    while body:
        size = rng.randrange(1, len(body) + 1) if rng.random() < 0.7 else 1 + len(body) // 2
        piece, body = body[:size], body[size:]
        chunks.append(chunk_size(rng, len(piece)) + b"\r\n" + piece + b"\r\n")
    last = chunk_size(rng, 0) + b"\r\n" + rng.choice(TRAILERS) + b"\r\n"
    return [(rng.choice(CODING), rng.choice((b"chunked", b"chunked", b"Chunked")))], b"".join([*chunks, last])


def chunk_size(rng: Random, size: int) -> bytes:
    """Return a chunk's size as a hexadecimal number of some writing, perhaps with an extension."""
    number = rng.choice((b"%x", b"%x", b"%X", b"%04x")) % size
    return number + rng.choice(EXTENSIONS) if rng.random() < 0.1 else number


def until_close(rng: Random) -> Framed:
    """Frame a body by the end of the connection."""
    return [], content(rng)


FRAMINGS: tuple[Callable[[Random], Framed], ...] = (by_length, by_length, by_chunks, by_chunks, until_close)
