"""What is done to a proper response so that it is none any more, or an odd one."""

import re
from collections.abc import Callable
from random import Random

# fmt: off
# fmt: off
BYTES = (
    b"\x00", b"\r", b"\n", b"\r\n", b"\t", b" ", b":", b";", b",", b"=", b'"', b"\\", b"\x0b", b"\x0c", b"\x01",
    b"\x7f", b"\x80", b"\xff", b"0", b"1", b"9", b"f", b"g", b"-", b"+", b"x", b"\r\n\r\n", b"\n\n", b"/", b"H",
)
NUMBERS = (
    b"-1", b"+5", b"0x5", b"5 5", b"5,5", b"5, 5", b"5,6", b"1e3", b"", b"0", b"00", b"005", b"5;", b"5.0", b"1_0",
    b"9223372036854775807", b"9223372036854775808", b"18446744073709551615", b"18446744073709551616",
    b"99999999999999999999", b"000000000000000000005", b"100000000000000000000", b"9" * 400, b"\xd9\xa5", b'"5"',
    b"5\x00", b"5\t", b"5 \t", b"\x0b5", b"f", b"3", b"5",
)
SIZES = (
    b"", b"-1", b"+1", b"0x1", b" 1", b"1 ", b"1\t", b"g", b"1;", b"1; a", b"1 ;a", b"1;a=", b"1;=b", b'1;a="',
    b"1;a b", b'1;a="\x80"', b"1;\x00", b"1;a\nb", b"1;a\rb", b"00000000000000000001", b"000000000000000000001",
    b"0" * 30, b"ffffffffffffffff", b"10000000000000000", b"8000000000000000", b"7fffffff", b"1_0", b"1,1", b"A",
    b"a", b"000", b'1;a="\\""', b"1;a=b;", b"1;;", b"1;a = b", b'1;a="b"c', b"1;" + b"e" * 200,
)
FIELDS = (
    b"Content-Length: 5", b"Content-Length: 0", b"content-length:0", b"Transfer-Encoding: chunked",
    b"Transfer-Encoding: gzip, chunked", b"Transfer-Encoding: identity", b"Transfer-Encoding: chunked, chunked",
    b"Transfer-Encoding: chunked, gzip", b"Transfer-Encoding: xchunked", b"Transfer-Encoding: chunked;q=1",
    b"Transfer-Encoding:\tchunked\t", b"Transfer-Encoding:", b"Transfer-Encoding: CHUNKED ",
    b"Transfer-Encoding: ,chunked", b"Transfer-Encoding: \x0bchunked", b'Transfer-Encoding: "chunked"',
    b"Transfer-Encoding : chunked", b"Content-Length : 5", b" Content-Length: 5", b"Content\tLength: 5",
    b"Content-Length", b": x", b":", b"a", b"", b" folded", b"\tfolded: 1", b"A:\r\n b", b"Content-Length:\r\n 5",
    b"Transfer-Encoding:\r\n chunked", b"A: b\r\n\t", b"A: b\r\n  c  ", b"\xe9: x", b"a b: c", b"a\x00: b",
    b"a: \x00", b"a: \x01", b"a: \x0b", b"a: b\x7fc", b"a@: b", b'"a": b', b"Connection: close",
    b"Connection: keep-alive", b"Connection: upgrade", b"Upgrade: websocket",
    b"Connection: upgrade\r\nUpgrade: h2c", b"Connection: close, keep-alive", b"Proxy-Connection: close",
    b"Connection:", b"Connection: clo\r\n se", b"Keep-Alive: timeout=5", b"a: b\rc: d", b"a: b\nc: d",
    b"Content-Length: 5\r\nContent-Length: 5", b"Content-Length: 5\r\nContent-Length: 6", b"Trailer: A",
)
STATUSES = (
    b"099", b"000", b"1000", b"20", b"2", b"", b"600", b"999", b"700", b"101", b"100", b"102", b"103", b"199",
    b"150", b"204", b"304", b"205", b" 200", b"+20", b"-20", b"2 0", b"20x", b"2x0", b"0200", b"\xd9\xa2", b"200 ",
    b"200\t",
)
VERSIONS = (
    b"HTTP/2.0", b"HTTP/0.9", b"HTTP/1.2", b"HTTP/1.10", b"HTTP/01.1", b"HTTP/1.", b"HTTP/.1", b"HTTP/1",
    b"http/1.1", b"Http/1.1", b"HTTPS/1.1", b"ICY", b"HTTP/11", b"HTTP/3.0", b"RTSP/1.0", b"ICE/1.0", b"RTSP/1.1",
    b"HTTP 1.1", b" HTTP/1.1", b"\r\nHTTP/1.1", b"\nHTTP/1.1", b"\rHTTP/1.1", b"\xef\xbb\xbfHTTP/1.1", b"HTTP/1.1 ",
    b"HTTP/1.1\t", b"HTTP/1.0", b"", b"GET / HTTP/1.1", b"H", b"HTTP/1,1", b"HTTP/a.b",
)
INTERIMS = (
    b"HTTP/1.1 100 Continue\r\nContent-Length: 3\r\n\r\n", b"HTTP/1.1 103 \r\nTransfer-Encoding: chunked\r\n\r\n",
    b"HTTP/1.1 101 Switching Protocols\r\n\r\n", b"HTTP/1.1 150 \r\nContent-Length: 5\r\n\r\nhello",
    b"HTTP/1.1 150 \r\nContent-Length: 38\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 101 \r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
    b"HTTP/1.1 199 \r\nContent-Length: 0\r\n\r\n", b"HTTP/1.0 100 \r\n\r\n", b"HTTP/1.1 100 \r\n\r\n\r\n",
    b"HTTP/1.1 100 \n\n", b"RTSP/1.0 100 \r\n\r\n", b"HTTP/1.1 099 \r\n\r\n",
    b"HTTP/1.1 100 Continue\r\nConnection: close\r\n\r\n", b"HTTP/1.1 110 \r\nTransfer-Encoding: gzip\r\n\r\n",
    b"\r\n", b"HTTP/2.0 100 \r\n\r\n",
)
AFTER = (
    b"\r\n", b"\n", b"\r", b"\r\n\r\n", b"x", b"\x00", b"0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nsecret",
    b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\n\r\n", b"HTTP/1.1 ", b"5\r", b"5\r\nhello\r\n0\r\n\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\n", b"\r\nHTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nsecret",
)
# fmt: on
CODINGS = (
    b"chunked\t",
    b"chunked \t ",
    b"gzip, chunked",
    b"chunked, gzip",
    b"identity",
    b"xchunked",
    b"CHUNKED  ",
    b"chunked,",
    b",chunked",
    b"chunked;q=1",
    b"\x0bchunked",
    b'"chunked"',
    b"\r\n chunked",
    b"",
)
# fmt: on
_LENGTH = re.compile(rb"(?i)(content-length:[ \t]*)[0-9]+")
_CODING = re.compile(rb"(?i)(transfer-encoding:[ \t]*)chunked")
_SIZE = re.compile(rb"\r\n[0-9a-fA-F]+(?=[;\r])")
_LAST_SIZE = re.compile(rb"\r\n0+(?=\r)")
_STATUS = re.compile(rb"(?<=HTTP/1\.[01] )[0-9]{3}")
_VERSION = re.compile(rb"HTTP/1\.[01]")
_LINE_END = re.compile(rb"\r\n")


def mutate(rng: Random, raw: bytes) -> bytes:
    """Return `raw` with one to three things done to it."""
    for _ in range(rng.choice((1, 1, 1, 2, 2, 3))):
        raw = rng.choice(MUTATIONS)(rng, raw)
    return raw


def _place(rng: Random, raw: bytes) -> int:
    """Return a place in `raw`, in its head more often than not."""
    end = raw.find(b"\r\n\r\n") + 4 if rng.random() < 0.6 else len(raw)
    return rng.randrange(max(1, min(end, len(raw))))


def _put(rng: Random, raw: bytes) -> bytes:
    at = _place(rng, raw)
    return raw[:at] + rng.choice(BYTES) + raw[at:]


def _overwrite(rng: Random, raw: bytes) -> bytes:
    at = _place(rng, raw)
    return raw[:at] + rng.choice(BYTES) + raw[at + 1 :]


def _flip(rng: Random, raw: bytes) -> bytes:
    at = _place(rng, raw)
    return raw[:at] + bytes([raw[at] ^ (1 << rng.randrange(8))]) + raw[at + 1 :] if raw else raw


def _delete(rng: Random, raw: bytes) -> bytes:
    at = _place(rng, raw)
    return raw[:at] + raw[at + rng.choice((1, 1, 2, 5, 40)) :]


def _double(rng: Random, raw: bytes) -> bytes:
    at = _place(rng, raw)
    return raw[: at + rng.choice((1, 2, 7, 60))] + raw[at:]


def _cut(rng: Random, raw: bytes) -> bytes:
    return raw[: rng.randrange(len(raw) + 1)]


def _replace(pattern: re.Pattern[bytes], by: Callable[[Random, bytes], bytes]) -> Callable[[Random, bytes], bytes]:
    """Return a mutation of one match of `pattern`."""

    def change(rng: Random, raw: bytes) -> bytes:
        found = list(pattern.finditer(raw))
        if not found:
            return raw
        match = rng.choice(found)
        return raw[: match.start()] + by(rng, match.group()) + raw[match.end() :]

    return change


def _field(rng: Random, raw: bytes) -> bytes:
    """Insert a header line, or a trailer, at the end of some line."""
    return _replace(_LINE_END, lambda rng, _: b"\r\n" + rng.choice(FIELDS) + b"\r\n")(rng, raw)


def _before(rng: Random, raw: bytes) -> bytes:
    return rng.choice(INTERIMS) + raw


def _after(rng: Random, raw: bytes) -> bytes:
    return raw + rng.choice(AFTER)


def _large(rng: Random, raw: bytes) -> bytes:
    """Make something larger than anybody needs; most of the time not quite too large."""
    if rng.random() < 0.7:
        return raw
    size = rng.choice((100, 20_000, 40_000, 70_000, 110_000))
    what = rng.choice(
        (b"a: " + b"v" * size, b"n" * size + b": a", b"a: b\r\n" * (size // 200), b"a:" + b" " * size + b"b")
    )
    where = rng.choice((_LINE_END, _LAST_SIZE, _STATUS, _SIZE))
    if where is _LAST_SIZE:
        return _replace(where, lambda _, found: found + b"\r\n" + what)(rng, raw)
    if where is _LINE_END:
        return _replace(where, lambda _, found: b"\r\n" + what + b"\r\n")(rng, raw)
    tail = b" " + b"r" * size if where is _STATUS else rng.choice((b";" + b"e" * size, b"0" * size))
    return _replace(where, lambda _, found: found + tail)(rng, raw)


MUTATIONS: tuple[Callable[[Random, bytes], bytes], ...] = (
    _put,
    _overwrite,
    _flip,
    _delete,
    _double,
    _cut,
    _field,
    _field,
    _field,
    _replace(_LENGTH, lambda rng, found: found[: found.index(b":") + 1] + b" " + rng.choice(NUMBERS)),
    _replace(_CODING, lambda rng, found: found[: found.index(b":") + 1] + b" " + rng.choice(CODINGS)),
    _replace(_SIZE, lambda rng, _: b"\r\n" + rng.choice(SIZES)),
    _replace(_STATUS, lambda rng, _: rng.choice(STATUSES)),
    _replace(_VERSION, lambda rng, _: rng.choice(VERSIONS)),
    _replace(
        _LINE_END, lambda rng, _: rng.choice((b"\n", b"\r", b"\r\r\n", b"\n\r", b" \r\n", b"\t\r\n", b"\r\n\r\n", b""))
    ),
    _before,
    _after,
    _after,
    _large,
)
