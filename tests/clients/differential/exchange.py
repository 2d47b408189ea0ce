"""One request and what both callers saw of its answer, with the parts of the answer that a row may look at."""

import re
from functools import cached_property

from tests.clients.differential.peers import Seen
from tests.clients.differential.script import Answer


class Exchange:
    """A request's method, what the server said to it, and what both callers saw.

    `left` is what httpx's parser holds beyond the response, `unread` what it has not even read; `kept`, whether ours
    and theirs kept the connection; `again`, whether the request was sent a second time.
    """

    def __init__(self, method: str, answer: Answer, ours: Seen, theirs: Seen, *, again: bool = False) -> None:
        self.method = method
        self.answer = answer
        self.ours = ours
        self.theirs = theirs
        self.again = again
        self.left = b""
        self.unread = b""
        self.kept = False, False

    @cached_property
    def heads(self) -> list[bytes]:
        """The heads of interim answers and of the response, as httpx's parser would cut them."""
        return self._cut[0]

    @property
    def head(self) -> bytes:
        """All of them."""
        return b"".join(self.heads)

    @property
    def sizes(self) -> list[bytes]:
        """The lines with the sizes of chunks."""
        return self._chunks[0]

    @property
    def trailer(self) -> bytes:
        """What comes after the last chunk, with the blank line."""
        return self._chunks[1]

    @cached_property
    def _cut(self) -> tuple[list[bytes], int]:
        raw, heads, at = self.answer.raw, list[bytes](), 0
        while match := _HEAD_END.search(raw, at):
            heads.append(raw[at : match.end()])
            at = match.end()
            if not INTERIM.match(heads[-1]):
                break
        return heads, at

    @cached_property
    def _chunks(self) -> tuple[list[bytes], bytes]:
        raw, sizes, at = self.answer.raw, list[bytes](), self._cut[1]
        if self.method == "HEAD" or self.theirs.status in (204, 304) or not _CHUNKED.search(self.head):
            return [], b""
        while (line := _LINE.match(raw, at)) and (size := _SIZE.match(line.group())):
            sizes.append(line.group())
            at = line.end() + int(size.group(), 16) + 2
            if int(size.group(), 16) == 0:
                end = _TRAILER_END.match(raw, at - 2) or _HEAD_END.search(raw, at - 2)
                return sizes, raw[at - 2 : end.end() if end else None]
        return sizes, b""


_HEAD_END = re.compile(rb"\n\r?\n")
_TRAILER_END = re.compile(rb"\r?\n")
_CHUNKED = re.compile(rb"(?i)\ntransfer-encoding:\s*chunked")
_LINE = re.compile(rb"(?s).*?\r\n")
_SIZE = re.compile(rb"[0-9a-fA-F]+")
INTERIM = re.compile(rb"HTTP/[0-9]\.[0-9] 1[0-9][0-9]")
