"""Structured logs: one JSON object a line on standard error, each with the trace it belongs to."""

import json
import logging
import os
import sys
import traceback
from collections.abc import Mapping
from contextvars import ContextVar
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any, TextIO

from opentelemetry.trace import format_span_id, format_trace_id, get_current_span

TURN_FIELDS: ContextVar[Mapping[str, str]] = ContextVar("nursery_chat.turn_fields", default=MappingProxyType({}))
"""What every line that is logged in a turn's tasks carries."""
STANDARD_FIELDS = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime"}
"""What every record has; the rest are extras."""
_QUIET = ("httpx", "httpcore", "hypercorn.access", "hypercorn.error")  # they say per request what spans say better


class JsonFormatter(logging.Formatter):
    """One line of JSON: `time`, `level`, `event`, `logger`, the ids of the span, of the turn, the extras."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as a line; values JSON does not know are shown by `str`."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            "logger": record.name,
        }
        span = get_current_span().get_span_context()
        if span.is_valid:
            line |= {"trace_id": format_trace_id(span.trace_id), "span_id": format_span_id(span.span_id)}
        line |= TURN_FIELDS.get()
        line |= {key: value for key, value in vars(record).items() if key not in STANDARD_FIELDS}
        if record.exc_info and record.exc_info[1] is not None:
            line["stack"] = "".join(traceback.format_exception(record.exc_info[1]))
        return json.dumps(line, ensure_ascii=False, default=str)


def log_to(stream: TextIO | None = None, level: str = "info") -> None:
    """Send every log record of the process to `stream` (standard error) as JSON, from `level` upwards."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonFormatter())
    logging.basicConfig(handlers=[handler], level=level.upper(), force=True)
    logging.captureWarnings(True)
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)


def forget_unwritten() -> None:
    """Forget the lines that a full disk did not take: Python would end a clean exit with code 120 for their sake."""
    try:
        sys.stderr.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())
