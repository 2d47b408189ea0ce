"""HTTP/1.1 as a client speaks it, without I/O: a request's head as bytes, and a reader that is fed a response.

llhttp (through httptools) finds the boundaries, strictly: bare LF, two framings, or lengths that contradict each other
are errors. What it leaves open is decided here: HEAD, interim answers, bodies that end with the connection, sizes.
"""

import re
from dataclasses import dataclass

import httptools

MAX_HEAD_BYTES = 1 << 16
"""A status line with its headers; h11 stops at 100 kB, nginx at 32."""
MAX_HEADERS = 256
MAX_FRAMING_BYTES = 1 << 15
"""Between two bytes of a body: chunk sizes, their extensions, trailers. A size line of ours and theirs is some ten."""

Headers = list[tuple[bytes, bytes]]
_TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_NOT_IN_VALUE = re.compile(rb"[\x00\r\n]")
_NOT_IN_TARGET = re.compile(rb"[\x00-\x20\x7f]")


class WrongRequestError(ValueError):
    """The request cannot be written down without changing its meaning."""


class WrongResponseError(ValueError):
    """What came is no proper HTTP/1.1 response, or too large to be one."""


def encode_head(method: str, target: bytes, headers: Headers) -> bytes:
    """Return the request line and the headers, with the blank line.

    Raises:
        WrongRequestError: a character that would end its line, or a header's name that is none.
    """
    verb = method.encode("ascii")
    if not _TOKEN.fullmatch(verb) or not target or _NOT_IN_TARGET.search(target):
        raise WrongRequestError("illegal method or target")
    lines = [verb + b" " + target + b" HTTP/1.1"]
    for name, value in headers:
        if not _TOKEN.fullmatch(name) or _NOT_IN_VALUE.search(value):
            raise WrongRequestError(f"illegal header {name!r}")
        lines.append(name + b": " + value)
    lines.append(b"\r\n")
    return b"\r\n".join(lines)


@dataclass(frozen=True, slots=True)
class Head:
    """A final response's status, reason phrase, headers as they came, and HTTP version (`1.1`)."""

    status: int
    reason: bytes
    headers: Headers
    version: str


class ResponseReader:
    """Reads one response. Feed it what comes; `head` is there once known, `take()` gives the body so far.

    Args:
        method: of the request: an answer to HEAD has no body, whatever its headers say.
    """

    def __init__(self, method: str) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self._to_head = method == "HEAD"
        self._headers: Headers = []
        self._reason = b""
        self._body: list[bytes] = []
        self._interim = False
        self._unframed_bytes = 0
        self._until_close = False
        self._says_more = False
        self.head: Head | None = None
        self.silent = True
        """Nothing has come yet."""
        self.is_last = False
        """Set when the connection must not carry another request, whatever the response says."""
        self.complete = False
        self.reusable = False
        """Once complete: whether the connection may carry another request."""

    def feed(self, data: bytes) -> None:
        """Take the next bytes.

        Raises:
            WrongResponseError: they cannot be the response's. What was complete before stays so.
        """
        self.silent = False
        self._unframed_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            raise WrongResponseError("switched protocols unasked") from None
        except httptools.HttpParserError as exc:
            self.reusable = False
            if not self.complete:
                raise WrongResponseError(str(exc) or type(exc).__name__) from exc
        if self._unframed_bytes > (MAX_HEAD_BYTES if self.head is None else MAX_FRAMING_BYTES) and not self.complete:
            raise WrongResponseError("too much between two bytes of content")
        if self.head is not None and self.head.version not in ("1.0", "1.1"):
            raise WrongResponseError(f"HTTP/{self.head.version}")
        if len(self._headers) > MAX_HEADERS:
            raise WrongResponseError(f"over {MAX_HEADERS} headers")

    def end(self) -> None:
        """Take the end of the connection.

        Raises:
            WrongResponseError: the response was not complete.
        """
        self.reusable = False
        if self.head is None:
            raise WrongResponseError("the server disconnected without a response")
        if not self.complete and not self._until_close:
            raise WrongResponseError("the server disconnected in the middle of a response")
        self.complete = True

    def take(self) -> bytes:
        """Return what of the body has come since the last time."""
        body = self._body[0] if len(self._body) == 1 else b"".join(self._body)
        self._body.clear()
        return body

    # What httptools calls.

    def on_message_begin(self) -> None:
        """A message begins; after a complete one, it is nobody's."""
        if self.complete:
            self.reusable = False

    def on_status(self, reason: bytes) -> None:
        """A piece of the reason phrase."""
        self._reason += reason

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header; after the body has begun, a trailer, which nobody asked for."""
        if self.head is None:
            self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        """The head is there; that of an interim answer is forgotten."""
        if self.complete:
            return
        status = self._parser.get_status_code()
        self._interim = 100 <= status < 200
        if self._interim:
            return
        version = self._parser.get_http_version()
        self.head = Head(status, self._reason, self._headers, version)
        connection, length, chunked = b"", False, False
        for name, value in self._headers:
            lowered = name.lower()
            if lowered == b"connection":
                connection += b"," + value.lower()
            elif lowered == b"content-length":
                length = True
            elif lowered == b"transfer-encoding":
                chunked = value.lower().rpartition(b",")[2].strip() == b"chunked"
        tokens = {token.strip() for token in connection.split(b",")}
        self._says_more = b"close" not in tokens and (version == "1.1" or b"keep-alive" in tokens)
        bodyless = self._to_head or status in (204, 304)
        self._until_close = not (length or chunked or bodyless)
        if self._to_head:
            self._finish()

    def on_body(self, data: bytes) -> None:
        """A piece of the body."""
        if self.complete:
            self.reusable = False
        else:
            self._unframed_bytes = 0
            self._body.append(data)

    def on_message_complete(self) -> None:
        """The message's end, where its framing has one."""
        if self._interim:
            self._headers, self._reason, self._interim = [], b"", False
        elif not self.complete:
            self._finish()

    def _finish(self) -> None:
        self.complete = True
        self.reusable = self._says_more and not self._until_close and not self.is_last
