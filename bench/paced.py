"""Model answers of the stand-ins that go at a pace, each as long as is wanted.

Every answer looks at the one `Pace` before each of its tokens, so that hundreds that are on their way can be made
faster, slower, or be ended. A token that is due goes out, in a write of its own, however far behind its reader is.
"""

import asyncio
from dataclasses import dataclass


def chunked(data: bytes) -> bytes:
    """Return a chunk of a body's chunked form; of nothing, its end."""
    return b"%x\r\n%b\r\n" % (len(data), data)


@dataclass
class Pace:
    """Tokens per second of each answer (0: none is paced), seconds before the first, and how many they all have sent.

    An answer that begins has `tokens` of them, or as many as there is time for until `end` is told.
    """

    per_s: float = 0.0
    first_s: float = 0.0
    tokens: int = 0
    end: bool = False
    sent: int = 0

    def set(self, per_s: float = -1, first_s: float = -1, tokens: float = -1, end: float = -1) -> None:
        """Change what is given."""
        self.per_s = self.per_s if per_s < 0 else per_s
        self.first_s = self.first_s if first_s < 0 else first_s
        self.tokens = self.tokens if tokens < 0 else int(tokens)
        self.end = self.end if end < 0 else bool(end)


class PacedAnswer:
    """One answer. `parts` are what it begins with, a token, and what it ends with."""

    def __init__(self, transport: asyncio.Transport, pace: Pace, parts: tuple[bytes, bytes, bytes]) -> None:
        self._transport, self._pace = transport, pace
        self._loop = asyncio.get_running_loop()
        self._pending, self._token, self._last = parts
        self._left = pace.tokens or -1

    def begin(self) -> None:
        """Answer, from now on."""
        self._due = self._loop.time() + self._pace.first_s
        self._loop.call_at(self._due, self._go_on)

    def _go_on(self) -> None:
        if self._transport.is_closing():
            return
        if not self._left or (self._left < 0 and self._pace.end):
            self._transport.write(self._pending + self._last)
            return
        self._transport.write(self._pending + self._token)
        self._pending = b""
        self._left -= 1
        self._pace.sent += 1
        self._due += 1 / self._pace.per_s
        self._loop.call_at(self._due, self._go_on)
