"""A server in memory: it says what its script says, piece by piece, to whichever transport asks."""

from collections import deque

from tests.clients.differential.script import Answer, Case, Ending


class BrokenLineError(Exception):
    """The server has reset the connection, or takes nothing."""


class MisuseError(AssertionError):
    """A transport used a connection after it had closed it."""


class Line:
    """One connection. What a transport leaves unread is still there when it comes back, as it is with a socket."""

    def __init__(self, server: "Server") -> None:
        self.closed = False
        self.ending: Ending = "open"
        self.requests = 0
        self.taken = 0
        """Bytes of the present request that the server has taken."""
        self.heard = 0
        """Bytes that the transport has read since that request began."""
        self._server = server
        self._asked = -1
        self._deaf = False
        self._unread: deque[bytes] = deque()

    def write(self, data: bytes) -> None:
        """Take a piece of a request; the first one starts the answer."""
        self._in_use()
        if self._asked != self._server.request and self.ending == "open":
            self._asked = self._server.request
            self.requests += 1
            self.taken = self.heard = 0
            answer = self._server.next_answer()
            self._unread.extend(piece for piece in answer.pieces if piece)
            self.ending, self._deaf = answer.ending, answer.deaf
        elif self.ending == "reset" and self._asked != self._server.request:
            raise BrokenLineError("reset")
        if self._deaf:
            raise BrokenLineError("takes nothing")
        self.taken += len(data)

    def read(self) -> bytes:
        """Return the next piece, or nothing: a server that has said all and is asked for more closes."""
        self._in_use()
        if self._unread:
            piece = self._unread.popleft()
            self.heard += len(piece)
            return piece
        if self.ending == "reset":
            raise BrokenLineError("reset")
        if self.ending == "open":
            self._server.exhausted.add(self._asked)
        self.ending = "eof"
        return b""

    @property
    def unread(self) -> bytes:
        """What is left of the pieces."""
        return b"".join(self._unread)

    @property
    def readable(self) -> bool:
        """Whether a read would return at once."""
        return bool(self._unread) or self.ending != "open"

    def close(self) -> None:
        self.closed = True

    def _in_use(self) -> None:
        if self.closed:
            raise MisuseError("a closed connection is used")


class Server:
    """The lines to it in the order in which they were opened. `request` is the number of the one that is due."""

    def __init__(self, case: Case) -> None:
        self.case = case
        self.request = 0
        self.lines: list[Line] = []
        self.exhausted: set[int] = set()
        """The requests whose answer ended only because the transport asked for more of it."""
        self._answered = -1

    def connect(self) -> Line:
        self.lines.append(Line(self))
        return self.lines[-1]

    def next_answer(self) -> Answer:
        """Return the answer to the request that is due; to its repetition, another."""
        if self._answered == self.request:
            return self.case.again
        self._answered = self.request
        return self.case.answers[self.request]

    @property
    def kept(self) -> bool:
        """Whether the newest line can carry another request: open, and the server has neither closed nor said more."""
        return bool(self.lines) and not self.lines[-1].closed and not self.lines[-1].readable
