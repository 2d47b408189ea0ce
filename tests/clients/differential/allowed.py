"""The differences that are allowed, each with its reason: what the bytes must be like for it to apply.

Two different responses are never allowed, nor is a body that is not the beginning of the other's. In a row of
`STRICTER` ours refuses what httpx's accepts, and never a proper response.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

from tests.clients.differential.exchange import INTERIM, Exchange


def _in_head(pattern: bytes) -> Callable[[Exchange], object]:
    find = re.compile(pattern).search
    return lambda exchange: find(exchange.head)


def _count(exchange: Exchange, name: bytes) -> int:
    return exchange.head.lower().count(name)


def _in_interim(pattern: bytes) -> Callable[[Exchange], object]:
    find = re.compile(pattern).search
    return lambda exchange: any(find(head) for head in exchange.heads if INTERIM.match(head))


def _in_trailer(pattern: bytes) -> Callable[[Exchange], object]:
    find = re.compile(pattern).search
    return lambda exchange: find(exchange.trailer)


def _in_sizes(pattern: bytes) -> Callable[[Exchange], object]:
    find = re.compile(pattern).search
    return lambda exchange: any(map(find, exchange.sizes))


def _either(*tests: Callable[[Exchange], object]) -> Callable[[Exchange], object]:
    return lambda exchange: any(test(exchange) for test in tests)


@dataclass(frozen=True)
class Row:
    """A difference that is allowed where `applies`."""

    name: str
    reason: str
    applies: Callable[[Exchange], object]


_LIST = _in_head(rb"(?i)\ncontent-length:[^\n]*,")
_BARE_LF, _FOLD, _CONTROL = rb"(?<!\r)\n", rb"\n[ \t]", rb"[\x01-\x08\x0e-\x1f\x7f]"

STRICTER: tuple[Row, ...] = (
    Row(
        "bare LF",
        "a line ends with CR LF; who takes LF for an end and who does not would see different headers",
        _either(_in_head(_BARE_LF), _in_trailer(_BARE_LF)),
    ),
    Row(
        "folded header",
        "obsolete (RFC 9112, 5.2); two parsers rarely agree on it",
        _either(_in_head(_FOLD), _in_trailer(_FOLD), _in_trailer(rb"^[ \t]")),
    ),
    Row(
        "control character",
        "neither a header (RFC 9110, 5.5) nor a reason phrase (RFC 9112, 4) has any",
        _either(_in_head(_CONTROL), _in_trailer(_CONTROL)),
    ),
    Row("other version", "what was asked for is HTTP/1", _in_head(rb"(?m)^HTTP/(?!1\.[01] )")),
    Row(
        "two framings",
        "a sign of smuggling (RFC 9112, 6.3)",
        lambda exchange: _count(exchange, b"\ncontent-length:") and _count(exchange, b"\ntransfer-encoding:"),
    ),
    Row(
        "length said twice",
        "may be refused (RFC 9112, 6.3); a server that repeats itself is not to be trusted with framing",
        lambda exchange: _count(exchange, b"\ncontent-length:") > 1 or _LIST(exchange),
    ),
    Row("length over 64 bits", "cannot be meant", _in_head(rb"(?i)\ncontent-length:[ \t]*[0-9]{20}")),
    Row(
        "framing in an interim answer",
        "it has no body (RFC 9110, 15.2); llhttp would read one",
        _in_interim(rb"(?i)\n(content-length|transfer-encoding):"),
    ),
    Row(
        "interim answer that closes",
        "Connection: close, or HTTP/1.0, says that nothing follows",
        _in_interim(rb"(?is)^HTTP/1\.0|\n(proxy-)?connection:[^\n]*close"),
    ),
    Row(
        "tab after the coding",
        "llhttp would not see the coding, and give its chunks for the body",
        _in_head(rb"(?i)\ntransfer-encoding:[^\n]*\t *\r"),
    ),
    Row(
        "large head",
        "64 KiB or 256 headers are enough; httpx takes 100 kB",
        lambda exchange: len(exchange.head) > 1 << 16 or exchange.head.count(b"\n") > 257,
    ),
    Row(
        "large framing",
        "32 KiB between two pieces of a body is more than any extension or trailer needs",
        lambda exchange: any(len(line) > 1 << 15 for line in (*exchange.sizes, exchange.trailer)),
    ),
    Row(
        "odd chunk size",
        "spaces, or an extension that is none (RFC 9112, 7.1.1)",
        _in_sizes(rb"^[0-9a-fA-F]+([ \t]|;)"),
    ),
    Row(
        "framing in a trailer",
        "must not be there (RFC 9110, 6.5.1)",
        _in_trailer(rb"(?im)^(content-length|transfer-encoding):"),
    ),
)
LAXER: tuple[Row, ...] = (
    Row(
        "zeros before a chunk's size",
        "more than 20 digits, but the same number; MAX_FRAMING_BYTES bounds them",
        _in_sizes(rb"^0+[0-9a-fA-F]{20}"),
    ),
)
FAULTS: tuple[Row, ...] = (
    Row(
        "wrong, then reset",
        "a parser that looks at every byte at once finds the wrong one before the reset",
        lambda exchange: (
            exchange.answer.ending == "reset"
            and {exchange.ours.fault, exchange.theirs.fault} == {"RemoteProtocolError", "ReadError"}
        ),
    ),
    Row(
        "takes nothing",
        "ours says that the request was not taken, httpx's that it was not answered",
        lambda exchange: exchange.answer.deaf and exchange.ours.fault == "WriteError",
    ),
)
CLOSED: tuple[Row, ...] = (
    Row("leftovers", "what came unasked; httpx takes it for the next answer", lambda exchange: exchange.left),
    Row(
        "HEAD with a coding",
        "the beginning of a chunk could come unasked and not be seen",
        lambda exchange: exchange.method == "HEAD" and _in_head(rb"(?i)\ntransfer-encoding:")(exchange),
    ),
)
LINE_ENDS = Row(
    "line ends left",
    "llhttp skips CR and LF after a response: nobody ever gets them, and httpx's next answer would be an error",
    lambda exchange: not exchange.left.strip(b"\r\n"),
)
LOWERED = Row(
    "coding in lower case", "h11 changes the value of Transfer-Encoding, ours gives it as it came", lambda _: True
)
AGAIN = Row("sent again", "what RFC 9110, 9.2.2, allows when the server had closed the connection", lambda _: True)
TABLE = (*STRICTER, *LAXER, *FAULTS, *CLOSED, LINE_ENDS, LOWERED, AGAIN)
