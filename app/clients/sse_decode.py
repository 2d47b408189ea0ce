"""Server-sent events to their data, without I/O and bounded in size. Only `data` is looked at: nothing else is sent.

Source: the event stream grammar of the HTML standard (section "Server-sent events"): lines end with CR, LF or CRLF, a
blank line ends an event, `data` lines of one event are joined by LF, and a colon starts a comment.
"""

MAX_EVENT_BYTES = 1 << 20
"""A chunk of an answer is some hundred bytes; a megabyte in one event is a broken or hostile peer."""


class SseError(ValueError):
    """The stream is not made of server-sent events of a sane size."""


class SseDecoder:
    """Feed it bytes as they come; it returns the data of each event that they complete."""

    def __init__(self, max_event_bytes: int = MAX_EVENT_BYTES) -> None:
        self._max = max_event_bytes
        self._rest = b""
        self._data: list[str] = []
        self._size = 0

    def feed(self, chunk: bytes) -> list[str]:
        """Return the data of the events that `chunk` completes, in order.

        Raises:
            SseError: an event, or a line, is larger than the bound, or not UTF-8.
        """
        buffer = self._rest + chunk
        held_back = buffer.endswith(b"\r")  # its LF may come with the next chunk
        lines = (buffer[:-1] if held_back else buffer).replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
        self._rest = lines.pop() + (b"\r" if held_back else b"")
        if len(self._rest) > self._max:
            raise SseError(f"a line is over {self._max} bytes")
        return [event for line in lines if (event := self._line(line)) is not None]

    def _line(self, line: bytes) -> str | None:
        if not line:
            return self._end_event()
        name, _, value = line.partition(b":")
        if name == b"data":
            self._add(value.removeprefix(b" "))
        return None

    def _add(self, value: bytes) -> None:
        self._size += len(value)
        if self._size > self._max:
            raise SseError(f"an event is over {self._max} bytes")
        try:
            self._data.append(value.decode())
        except UnicodeDecodeError as exc:
            raise SseError("an event is not UTF-8") from exc

    def _end_event(self) -> str | None:
        if not self._data:
            return None
        event = "\n".join(self._data)
        self._data.clear()
        self._size = 0
        return event
