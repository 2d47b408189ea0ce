"""Log lines: one JSON object each, joined to the trace."""

import io
import json
import logging

import pytest

from telemetry.logs import JsonFormatter
from tests.standins import watched


def logged(level: int, event: str, **options: object) -> dict[str, object]:
    stream = io.StringIO()
    logger = logging.Logger("test.logs")
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter())
    logger.addHandler(handler)
    logger.log(level, event, **options)  # type: ignore[arg-type]
    (line,) = stream.getvalue().splitlines()
    parsed: dict[str, object] = json.loads(line)
    return parsed


def test_a_line_is_one_json_object() -> None:
    """Event, level, logger and extras are fields; line breaks in a value stay inside the line."""
    line = logged(logging.WARNING, "save.failed", extra={"turn_id": "t\n1", "質問": "空"})
    assert (line["event"], line["level"], line["logger"]) == ("save.failed", "warning", "test.logs")
    assert (line["turn_id"], line["質問"]) == ("t\n1", "空")
    assert "trace_id" not in line


def test_a_line_inside_a_span_carries_its_ids() -> None:
    """The current span's trace id and span id are on the line."""
    seen = watched()
    with seen.telemetry.tracer.start_as_current_span("work") as span:
        line = logged(logging.INFO, "here")
    assert line["trace_id"] == f"{span.get_span_context().trace_id:032x}"
    assert line["span_id"] == f"{span.get_span_context().span_id:016x}"


def test_an_exception_is_one_field() -> None:
    """A logged exception is a `stack` field with its type."""
    try:
        raise KeyError("lost")
    except KeyError as exc:
        line = logged(logging.ERROR, "turn.failed", exc_info=exc)
    assert "KeyError: 'lost'" in str(line["stack"])


@pytest.mark.parametrize("value", [object(), {1, 2}, b"bytes"])
def test_no_value_breaks_the_line(value: object) -> None:
    """A value that JSON does not know is shown as text."""
    assert isinstance(logged(logging.INFO, "odd", extra={"value": value})["value"], str)
