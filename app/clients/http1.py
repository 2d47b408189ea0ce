"""HTTP/1.1 as a client speaks it, without I/O: a request as bytes, and a reader that is fed a response.

llhttp (through httptools) finds the boundaries, strictly: bare LF, two framings, or lengths that contradict each other
are errors. What it leaves open is decided here: HEAD, interim answers, bodies that end with the connection, sizes; and
where it takes more than h11 (other protocols, codings, statuses), h11 is followed: what httpx's own transport refuses,
this one refuses too (tests/clients/differential).
"""

import re
from dataclasses import dataclass

import httptools

MAX_HEAD_BYTES = 1 << 16
"""A status line with its headers; h11 stops at 100 kB, nginx at 32."""
MAX_HEADERS = 256
MAX_LENGTH_DIGITS = 20
"""2^64 has as many; h11 has the same limit."""
MAX_FRAMING_BYTES = 1 << 15
"""Between two bytes of a body: chunk sizes, their extensions, trailers. A size line of ours and theirs is some ten."""

Headers = list[tuple[bytes, bytes]]
_TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_NOT_IN_VALUE = re.compile(rb"[\x00\r\n]")
_NOT_IN_TARGET = re.compile(rb"[\x00-\x20\x7f]")
_LENGTH = re.compile(rb"[0-9]{1,18}")
_NOT_IN_REASON = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")


class WrongRequestError(ValueError):
    """The request cannot be written down without changing its meaning."""


class WrongResponseError(ValueError):
    """What came is no proper HTTP/1.1 response, or too large to be one."""


def encode_head(method: str, target: bytes, headers: Headers) -> bytes:
    """Return the request line and the headers, with the blank line.

    Raises:
        WrongRequestError: a character that would end its line, or a header's name that is none.
    """
    verb = method.encode()
    if not _TOKEN.fullmatch(verb) or not target or _NOT_IN_TARGET.search(target):
        raise WrongRequestError("illegal method or target")
    lines = [verb + b" " + target + b" HTTP/1.1"]
    for name, value in headers:
        if not _TOKEN.fullmatch(name) or _NOT_IN_VALUE.search(value):
            raise WrongRequestError(f"illegal header {name!r}")
        lines.append(name + b": " + value)
    lines.append(b"\r\n")
    return b"\r\n".join(lines)


class RequestBody:
    """Writes a request's body as the headers announce it: of a length, or chunked; without either there is none.

    Raises:
        WrongRequestError: the headers, or what is given then, would leave its end in doubt.
    """

    def __init__(self, headers: Headers) -> None:
        lengths = [value for name, value in headers if name.lower() == b"content-length"]
        codings = [value.lower() for name, value in headers if name.lower() == b"transfer-encoding"]
        self._chunked = codings == [b"chunked"]
        if len(lengths) + len(codings) > 1 or (codings and not self._chunked):
            raise WrongRequestError("the body can be of one length, or chunked")
        if lengths and not _LENGTH.fullmatch(lengths[0]):
            raise WrongRequestError("no length")
        self._left = int(lengths[0]) if lengths else 0

    def piece(self, data: bytes) -> bytes:
        """Return a piece as it is sent."""
        if self._chunked:
            return b"%x\r\n%b\r\n" % (len(data), data) if data else b""
        self._left -= len(data)
        if self._left < 0:
            raise WrongRequestError("more of a body than the headers announce")
        return data

    def end(self) -> bytes:
        """Return what is sent after the last piece."""
        if self._left:
            raise WrongRequestError("less of a body than the headers announce")
        return b"0\r\n\r\n" if self._chunked else b""


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
        self._heads = bytearray()
        self._head_at = 0
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

    @property
    def reusable(self) -> bool:
        """Whether the connection may carry another request."""
        return self.complete and self._says_more and not self._until_close and not self.is_last

    def feed(self, data: bytes) -> None:
        """Take the next bytes.

        Raises:
            WrongResponseError: they cannot be the response's. What was complete before stays so.
        """
        self.silent = False
        self._unframed_bytes += len(data)
        if self.head is None:
            self._heads += data
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            raise WrongResponseError("switched protocols unasked") from None
        except httptools.HttpParserError as exc:
            self.is_last = True
            if not self.complete:
                raise WrongResponseError(str(exc.__context__ or exc) or type(exc).__name__) from exc
        if self.head is None and self._unframed_bytes > MAX_HEAD_BYTES:
            raise WrongResponseError(f"a head of over {MAX_HEAD_BYTES} bytes")
        if self._unframed_bytes > MAX_FRAMING_BYTES and self.head is not None and not self.complete:
            raise WrongResponseError("too much between two bytes of content")
        if len(self._headers) > MAX_HEADERS:
            raise WrongResponseError(f"over {MAX_HEADERS} headers")

    def end(self) -> None:
        """Take the end of the connection.

        Raises:
            WrongResponseError: the response was not complete.
        """
        self.is_last = True
        if self.head is None:
            raise WrongResponseError("the server disconnected without a response")
        if not self.complete and not self._until_close:
            raise WrongResponseError("the server disconnected in the middle of a response")
        self.complete = True

    @property
    def unread(self) -> int:
        """How many bytes of the body wait to be taken."""
        return sum(map(len, self._body))

    def take(self) -> bytes:
        """Return what of the body has come since the last time."""
        body = self._body[0] if len(self._body) == 1 else b"".join(self._body)
        self._body.clear()
        return body

    # What httptools calls.

    def on_message_begin(self) -> None:
        """A message begins; after a complete one, it is nobody's."""
        if self.complete:
            self.is_last = True

    def on_status(self, reason: bytes) -> None:
        """A piece of the reason phrase."""
        self._reason += reason

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header; after the body has begun, a trailer, which nobody asked for."""
        if self.head is None:
            self._headers.append((name, value))
        elif name.lower() == b"transfer-encoding":  # llhttp minds a length there, but not a coding
            raise WrongResponseError("a transfer coding in a trailer")

    def on_headers_complete(self) -> None:
        """The head is there; that of an interim answer is forgotten."""
        if self.complete:
            return
        version, status = self._parser.get_http_version(), self._parser.get_status_code()
        self._check_start(version)
        connection, lengths, codings = b"", list[bytes](), list[bytes]()
        for name, value in self._headers:
            lowered = name.lower()
            if lowered == b"connection":
                connection += b"," + value.lower()
            elif lowered == b"content-length":
                lengths.append(value.rstrip(b" \t"))
            elif lowered == b"transfer-encoding":
                codings.append(value.lower().rstrip(b" "))  # llhttp sees no coding in one with a tab after it
        if codings and codings != [b"chunked"]:
            raise WrongResponseError("a transfer coding that is not chunked")
        if lengths and len(lengths[0]) > MAX_LENGTH_DIGITS:
            raise WrongResponseError("a length of too many digits")
        self._interim = status < 200
        if self._interim:
            if lengths or codings:
                raise WrongResponseError("an interim answer with a body")
            return
        headers = [(name, value.rstrip(b" \t")) for name, value in self._headers]
        self.head = Head(status, self._reason, headers, version)
        self._heads.clear()
        tokens = {token.strip() for token in connection.split(b",")}
        self._says_more = version == "1.1" and b"close" not in tokens and not (self._to_head and codings)
        bodyless = self._to_head or status in (204, 304)
        self._until_close = not (lengths or codings or bodyless)
        self._unframed_bytes = 0  # a head that came in one read with more is not told from it: twice the size at most
        self.complete = self._to_head

    def _check_start(self, version: str) -> None:
        """Check what llhttp does not: it skips line ends before a head, and takes other protocols, and any reason."""
        if not self._heads.startswith(b"HTTP/", self._head_at) or version not in ("1.0", "1.1"):
            raise WrongResponseError("no status line of HTTP/1.0 or 1.1")
        self._head_at = self._heads.find(b"\r\n\r\n", self._head_at) + 4
        if _NOT_IN_REASON.search(self._reason):
            raise WrongResponseError("a control character in the reason")

    def on_body(self, data: bytes) -> None:
        """A piece of the body."""
        if self.complete:
            self.is_last = True
        else:
            self._unframed_bytes = 0
            self._body.append(data)

    def on_message_complete(self) -> None:
        """The message's end, where its framing has one."""
        if self._interim:
            self._headers, self._reason, self._interim = [], b"", False
        else:
            self.complete = True
