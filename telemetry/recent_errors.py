"""The last warnings and errors of the process, for `/ops/support`: what happened, when, in which trace; no texts.

Log lines go to their operator, and a support request goes further. So of the extras only those of `TOLD` are kept,
which hold words from closed lists, ids and our own sentences; of others numbers alone; of an exception its type and the
places it came through, never its message, which may quote what somebody wrote. A foreign logger's line is its template
where it has one, and otherwise the place that wrote it: who formats by itself may have put anything in.
"""

import json
import logging
import math
import traceback
from collections import deque
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from opentelemetry.trace import format_span_id, format_trace_id, get_current_span

from telemetry.logs import STANDARD_FIELDS, TURN_FIELDS
from telemetry.redaction import Redaction

KEPT = 200
MAX_TEXT_CHARS = 200
MAX_LINE_CHARS = 1000
"""So all lines together are 200 kB at the most."""
MAX_FRAMES = 8
OURS = ("app", "telemetry")
MAX_INTEGER = 1 << 63
TOLD = frozenset(
    {"error", "reason", "code", "note", "hint", "kind", "target", "plan", "mode", "sender", "finish", "outcome"}
    | {"turn_id", "trace_id", "span_id", "conversation_id", "instead", "file", "folder", "saved", "algorithms", "stage"}
)


class RecentErrors(logging.Handler):
    """Keeps the last `KEPT` lines from `warning` upwards, each within `MAX_LINE_CHARS`.

    Args:
        redaction: takes out secrets, should one have come into a line.
    """

    def __init__(self, redaction: Redaction | None = None) -> None:
        super().__init__(logging.WARNING)
        self._redaction = redaction or Redaction()
        self._lines: deque[dict[str, Any]] = deque(maxlen=KEPT)

    def emit(self, record: logging.LogRecord) -> None:
        """Keep what may be told of a record; one that cannot be read is reported as logging does it, and not kept."""
        try:
            self._lines.append(_bounded(self._redaction.of(line_of(record, self._redaction))))
        except Exception:  # noqa: BLE001 - whoever logs is not failed by what keeps the line
            self.handleError(record)

    def install(self) -> None:
        """Keep what the whole process logs, from now on."""
        logging.getLogger().addHandler(self)

    def remove(self) -> None:
        """Keep no more."""
        logging.getLogger().removeHandler(self)

    def newest(self) -> list[dict[str, Any]]:
        """Return the lines, newest first."""
        self.acquire()
        try:
            return list(reversed(self._lines))
        finally:
            self.release()


def line_of(record: logging.LogRecord, redaction: Redaction) -> dict[str, Any]:
    """Return what may be told of a record; what is cut has no secrets by then, of which half would be left."""
    line: dict[str, Any] = {
        "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
        "level": record.levelname.lower(),
        "event": redaction.text(_event(record))[:MAX_TEXT_CHARS],
        "logger": redaction.text(record.name)[:MAX_TEXT_CHARS],
    }
    span = get_current_span().get_span_context()
    if span.is_valid:
        line |= {"trace_id": format_trace_id(span.trace_id), "span_id": format_span_id(span.span_id)}
    line |= TURN_FIELDS.get()
    for name, value in vars(record).items():
        if name not in STANDARD_FIELDS and (told := _told(name, value, redaction)) is not None:
            line[name] = told
    if record.exc_info and record.exc_info[1] is not None:
        line["exception"] = type(record.exc_info[1]).__name__
        line["stack"] = _places(record.exc_info[1])
    return line


def _event(record: logging.LogRecord) -> str:
    if record.args or record.name.partition(".")[0] in OURS:
        return str(record.msg)
    return f"{record.name} {record.filename}:{record.lineno}"


def _told(name: str, value: Any, redaction: Redaction) -> str | float | bool | None:
    if isinstance(value, str):
        return redaction.text(value)[:MAX_TEXT_CHARS] if name in TOLD else None
    if isinstance(value, int):
        return value if abs(value) < MAX_INTEGER else None
    return value if isinstance(value, float) and math.isfinite(value) else None


def _places(error: BaseException) -> list[str]:
    """Return the last places an exception came through; of a group, its first one's."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    frames = deque(traceback.walk_tb(error.__traceback__), maxlen=MAX_FRAMES)
    places = [f"{Path(at.f_code.co_filename).name}:{line} {at.f_code.co_name}" for at, line in frames]
    return [*places, type(error).__name__]


def _bounded(line: dict[str, Any]) -> dict[str, Any]:
    """Return the line as far as there is room, its first fields before its last."""
    room, kept = MAX_LINE_CHARS, dict[str, Any]()
    for name, value in line.items():
        room -= len(json.dumps({name: value}))
        if room >= 0:
            kept[name] = value
    return kept
