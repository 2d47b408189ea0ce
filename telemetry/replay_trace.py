"""A round of the outbox's delivery is a trace of its own, linked to the turns whose rows it carries.

It is no part of a turn's trace: it carries the rows of many, long after they ended perhaps, and in another process. A
row says by itself which span is its turn's (`names.ROW_TRACE_ID`, `names.ROW_SPAN_ID`); one that does not, because that
span was not recorded or an older back end wrote the row, is carried without a link.

A round is sampled by itself, whatever became of the turns. Its span is current while it runs, and while nothing waits:
the calls of a round that is not sampled go around the instrumentor for that (`http_client`).
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Literal, Protocol, Self
from uuid import UUID

from opentelemetry.context import Context, attach, detach
from opentelemetry.trace import (
    Link,
    NoOpTracer,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    Tracer,
    set_span_in_context,
)

from telemetry import names
from telemetry.turn_trace import classify

MAX_LINKS = 128
"""Of a span. The OpenTelemetry specification's default; beyond it the SDK drops the first ones."""
_SAMPLED = TraceFlags(TraceFlags.SAMPLED)
_TRACE_ID, _SPAN_ID = re.compile("[0-9a-f]{32}"), re.compile("[0-9a-f]{16}")

ReplayOutcome = Literal["delivered", "set_aside", "failed"]
_COUNTS: Mapping[ReplayOutcome, str] = {
    "delivered": names.OUTBOX_DELIVERED,
    "set_aside": names.OUTBOX_SET_ASIDE,
    "failed": names.OUTBOX_FAILED,
}


class CarriedRow(Protocol):
    """What a trace must know of a row."""

    @property
    def turn_id(self) -> UUID:
        """The turn that it belongs to."""

    @property
    def context_data(self) -> Mapping[str, Any]:
        """What is stored with it."""


@dataclass(frozen=True, slots=True)
class ReplayTelemetry:
    """What every round's trace needs."""

    tracer: Tracer = field(default_factory=NoOpTracer)

    def replay(self, rows: Sequence[CarriedRow]) -> "ReplayTrace":
        """Return the trace of a round that begins now with `rows`; enter it in the task that carries them."""
        return ReplayTrace(self.tracer, rows)


class ReplayTrace:
    """The span `outbox.replay`, the root of a new trace, current inside the `with` block. Enter it once."""

    def __init__(self, tracer: Tracer, rows: Sequence[CarriedRow]) -> None:
        self._tracer = tracer
        self._rows = rows
        self._counts: Counter[ReplayOutcome] = Counter()
        self._error_type: str | None = None

    def __enter__(self) -> Self:
        nowhere = Context()
        attributes = {names.OUTBOX_ROWS: len(self._rows)}
        self._span = self._tracer.start_span(
            names.REPLAY, nowhere, SpanKind.INTERNAL, attributes, links_to_turns(self._rows)
        )
        self._token = attach(set_span_in_context(self._span, nowhere))
        return self

    def count(self, outcome: ReplayOutcome, rows: int) -> None:
        """Tell of how many rows it is known that they came to `outcome`."""
        self._counts[outcome] += rows

    def fail(self, error_type: str) -> None:
        """Mark the round as failed; `error_type` is from a bounded set."""
        self._error_type = error_type

    def __exit__(
        self, _type: type[BaseException] | None, error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        detach(self._token)
        if error is not None:
            _, self._error_type = classify(error)
        self._span.set_attributes({name: self._counts[outcome] for outcome, name in _COUNTS.items()})
        if self._error_type is not None:
            self._span.set_attribute(names.ERROR_TYPE, self._error_type)
            self._span.set_status(Status(StatusCode.ERROR, self._error_type))
        self._span.end()


def links_to_turns(rows: Iterable[CarriedRow]) -> list[Link]:
    """Return a link to the span of each turn whose rows these are, in their order, for as many as a span may have."""
    links: dict[tuple[str, str], Link] = {}
    for row in rows:
        ids = _span_of_turn(row.context_data)
        if ids is None:
            continue
        if len(links) == MAX_LINKS:
            break
        trace_id, span_id = ids
        span = SpanContext(int(trace_id, 16), int(span_id, 16), is_remote=True, trace_flags=_SAMPLED)
        if span.is_valid:
            links[ids] = Link(span, {names.CHAT_TURN_ID: str(row.turn_id)})
    return list(links.values())


def _span_of_turn(context_data: Mapping[str, Any]) -> tuple[str, str] | None:
    trace_id, span_id = context_data.get(names.ROW_TRACE_ID), context_data.get(names.ROW_SPAN_ID)
    if not isinstance(trace_id, str) or not isinstance(span_id, str):
        return None
    return (trace_id, span_id) if _TRACE_ID.fullmatch(trace_id) and _SPAN_ID.fullmatch(span_id) else None
