"""One turn's telemetry: each stage is read once from the clock, and everything that reports is told the same figures.

A `TurnTrace` is the span `chat.turn`, open for the length of the turn's task; `stage()` opens a stage under it. Both
are entered and left in one task, and never across a `yield`. Spans that ended before the conversation was known wait,
already timed, until `identify()` or the turn's end names it, so they carry its id too (when a deleted conversation had
to be made anew under another id, spans that ended before that keep the first one).
"""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Literal, Protocol, Self, runtime_checkable

import trio
from opentelemetry import context as otel_context
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, Tracer, format_span_id, set_span_in_context
from opentelemetry.util.types import AttributeValue

from telemetry import names
from telemetry.active_users import ActiveUsers
from telemetry.logs import TURN_FIELDS
from telemetry.metrics import Instruments
from telemetry.stage_clock import Reading, StageClock
from telemetry.turn_facts import GatePassage, StageFacts, TurnFacts


@runtime_checkable
class Classified(Protocol):
    """An exception that says how telemetry may call it; the values come from closed lists."""

    error_type: str
    outcome: names.Outcome


StageState = Literal["running", "done", "failed"]


class Watcher(Protocol):
    """Is told of one turn while it runs. Must not wait, and must not raise."""

    def stage(self, name: str, state: StageState, at_s: float, seconds: float | None) -> None:
        """Hear that a stage begins so many seconds after the turn's start, or how it ended after `seconds`."""

    def let_in(self, conversation_id: str | None) -> None:
        """Hear that the turn waits for the model, or has it."""

    def queue(self, position: int, estimated_wait_s: float) -> None:
        """Hear where in the model's queue the turn is; 1 is next."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnTelemetry:
    """What every turn's trace needs: tracer, instruments, the key of user ids, and who hears of a turn's end."""

    tracer: Tracer
    instruments: Instruments
    user_key: bytes
    active_users: ActiveUsers
    listeners: tuple[Callable[[TurnFacts], None], ...] = ()
    new_clock: Callable[[], StageClock] = StageClock

    def turn(
        self,
        *,
        turn_id: str,
        user_id: str,
        trace_id: str,
        surface: str,
        plan: str = "concurrent",
        watcher: Watcher | None = None,
    ) -> "TurnTrace":
        """Return the trace of a turn that begins now; enter it in the turn's own task."""
        self.active_users.seen(user_id)
        return TurnTrace(self, turn_id, user_hash(self.user_key, user_id), trace_id, surface, plan, watcher)


def user_hash(key: bytes, user_id: str) -> str:
    """Return the keyed hash under which telemetry knows a user: 16 hex digits of BLAKE2b."""
    return hashlib.blake2b(user_id.encode(), key=key, digest_size=8).hexdigest()


class TurnTrace:
    """The span `chat.turn` and the turn's readings. Enter it once."""

    def __init__(
        self,
        telemetry: TurnTelemetry,
        turn_id: str,
        user: str,
        trace_id: str,
        surface: str,
        plan: str,
        watcher: Watcher | None = None,
    ) -> None:
        self.clock = telemetry.new_clock()
        self.instruments = telemetry.instruments
        self.tracer = telemetry.tracer
        self.turn_id = turn_id
        self.user = user
        """The keyed hash of whose turn it is."""
        self.trace_id = trace_id
        self.span_id: str | None = None
        """Of `chat.turn`, in 16 hex digits; None where that is not recorded, and so can be found by nobody."""
        self.plan = plan
        self.surface = surface
        self.watcher = watcher
        """Who is told of the turn while it runs, if anybody is."""
        self.outcome: names.Outcome = "ok"
        self.error_type: str | None = None
        self.cancelled_by = "cancelled"
        """What `error.type` says of a cancellation: whose it was, where that is known."""
        self.conversation_id: str | None = None
        self.details: dict[str, AttributeValue] = {}
        self.recording = True
        """Whether spans go anywhere. Where not, the turn's own stands for its stages' too: 0.2 ms a turn less."""
        self._listeners = telemetry.listeners
        self._shared: dict[str, AttributeValue] = {names.USER_ID: user, names.CHAT_PLAN: plan}
        self._unidentified: list[tuple[Span, int]] = []
        self._open: list[Span] = []

    def __enter__(self) -> Self:
        attributes = {**self._shared, names.CHAT_SURFACE: self.surface, names.CHAT_TURN_ID: self.turn_id}
        self._span = self.open_span(names.TURN, SpanKind.INTERNAL, self.clock.started_ns, attributes)
        self.recording = self._span.is_recording()
        if self.recording:
            self.span_id = format_span_id(self._span.get_span_context().span_id)
        self.context = set_span_in_context(self._span)
        self._token = otel_context.attach(self.context)
        self._log_fields()
        return self

    def stage(
        self,
        name: str,
        attributes: Mapping[str, AttributeValue] | None = None,
        *,
        span_name: str | None = None,
        kind: SpanKind = SpanKind.INTERNAL,
        start_ns: int | None = None,
        under_turn: bool = False,
    ) -> "StageTrace":
        """Return stage `name`, to be entered now.

        Args:
            name: the stage, as in `telemetry.names`.
            attributes: of its span, known at the start.
            span_name: where the span is called otherwise.
            kind: the span's kind.
            start_ns: a reading of the turn's clock at which the stage really began; now, when not given.
            under_turn: whether its span lies right under `chat.turn`, not under the stage that is open here.
        """
        shared = {**self._shared, **(attributes or {})}
        return StageTrace(self, name, span_name or name, kind, shared, start_ns, under_turn)

    def identify(self, conversation_id: str) -> None:
        """Name the conversation: on every span of this turn, past and to come."""
        self.conversation_id = conversation_id
        ids = {names.SESSION_ID: conversation_id, names.GEN_AI_CONVERSATION: conversation_id}
        self._shared.update(ids)
        for span in self._open:
            span.set_attributes(ids)
        self._end_waiting(ids)

    def let_in(self) -> None:
        """Tell the watcher that the turn has come as far as the model's queue."""
        if self.watcher is not None:
            self.watcher.let_in(self.conversation_id)

    def fall_back(self, kind: str) -> None:
        """Count that the turn goes on in a second-best way, and say so on its span."""
        self._span.set_attribute(names.CHAT_FALLBACK, kind)
        self.details["fallback"] = kind
        self.instruments.fallbacks.add(1, {names.KIND: kind}, context=self.context)

    def replan(self, plan: str) -> None:
        """Go on under another plan: every span of this turn says the new one from now on."""
        self.plan = plan
        self._shared[names.CHAT_PLAN] = plan
        self._log_fields()
        for span in self._open:
            span.set_attribute(names.CHAT_PLAN, plan)

    def _log_fields(self) -> None:
        fields = {"turn_id": self.turn_id, "trace_id": self.trace_id, names.CHAT_PLAN: self.plan}
        TURN_FIELDS.set(fields)

    def fail(self, error: BaseException) -> None:
        """Take outcome and `error.type` from what ended the turn."""
        self.outcome, self.error_type = classify(error)
        if self.outcome == "cancelled":
            self.error_type = self.cancelled_by

    def open_span(
        self,
        name: str,
        kind: SpanKind,
        start_ns: int,
        attributes: Mapping[str, AttributeValue],
        parent: otel_context.Context | None = None,
    ) -> Span:
        """Start a span at a reading of the clock, under the current one or `parent`; `close_span` ends it."""
        if not self.recording:
            return self._span
        start_time = self.clock.wall(start_ns)
        span = self.tracer.start_span(name, parent, kind, attributes, start_time=start_time)
        self._open.append(span)
        return span

    def close_span(self, span: Span, end_ns: int, error_type: str | None) -> None:
        """End a span at a reading of the clock, exactly once; with `error_type`, as an error."""
        if not self.recording:
            return
        self._open.remove(span)
        if error_type:
            span.set_attribute(names.ERROR_TYPE, error_type)
            span.set_status(Status(StatusCode.ERROR, error_type))
        if self.conversation_id is None:
            self._unidentified.append((span, self.clock.wall(end_ns)))
        else:
            span.end(self.clock.wall(end_ns))

    def __exit__(
        self, _type: type[BaseException] | None, error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        otel_context.detach(self._token)
        if error is not None:
            self.fail(error)
        reading = self.clock.close(names.TURN, self.clock.started_ns)
        self._span.set_attribute(names.CHAT_OUTCOME, self.outcome)
        self.close_span(self._span, reading.end_ns, self.error_type)
        self._end_waiting({})
        self._record(reading)
        facts = self._facts(reading)
        for listener in self._listeners:
            listener(facts)

    def _end_waiting(self, ids: Mapping[str, AttributeValue]) -> None:
        for span, end_ns in self._unidentified:
            span.set_attributes(ids)
            span.end(end_ns)
        self._unidentified.clear()

    def _record(self, reading: Reading) -> None:
        labels = {names.PLAN: self.plan, names.OUTCOME: self.outcome}
        overhead = max(0.0, reading.seconds - self.clock.seconds(names.LLM))
        self.instruments.turn_overhead.record(overhead, labels, context=self.context)
        labels[names.SURFACE] = self.surface
        self.instruments.turn_duration.record(reading.seconds, labels, context=self.context)
        first_token = self.clock.first_token()
        if self.watcher is not None and first_token:
            seconds, labels = first_token[names.FIRST_TOKEN_KEY], {names.PLAN: self.plan, names.SURFACE: self.surface}
            self.instruments.turn_first_token.record(seconds, labels, context=self.context)

    def _facts(self, reading: Reading) -> TurnFacts:
        return TurnFacts(
            turn_id=self.turn_id,
            trace_id=self.trace_id,
            conversation_id=self.conversation_id,
            plan=self.plan,
            surface=self.surface,
            outcome=self.outcome,
            error_type=self.error_type,
            timings=self.clock.performance_metrics(),
            details=dict(self.details),
            ended_at_ns=self.clock.wall(reading.end_ns),
            stages=self._stages(),
            time_to_first_token=self.clock.first_token().get(names.FIRST_TOKEN_KEY),
            gate=self._gate_passage(),
        )

    def _stages(self) -> tuple[StageFacts, ...]:
        clock = self.clock
        began = sorted(clock.readings.items(), key=lambda each: each[1].start_ns)
        return tuple(
            StageFacts(stage=name, at=clock.offset(reading.start_ns), seconds=reading.seconds)
            for name, reading in began
            if name != names.TURN
        )

    def _gate_passage(self) -> GatePassage | None:
        queue, call = self.clock.readings.get(names.LLM_QUEUE), self.clock.readings.get(names.LLM)
        if queue is None:
            return None
        served = call is not None and call.start_ns >= queue.end_ns
        return GatePassage(
            arrived_at_ns=self.clock.wall(queue.start_ns),
            wait_s=queue.seconds,
            service_s=(call.end_ns - queue.end_ns) / 1e9 if call is not None and served else None,
        )


@dataclass(slots=True)
class StageTrace:
    """A stage of a turn: a span that is current inside the `with` block, and a reading when it is left."""

    turn: TurnTrace
    name: str
    span_name: str
    kind: SpanKind
    attributes: dict[str, AttributeValue]
    start_ns: int | None
    under_turn: bool = False
    outcome: names.Outcome = "ok"
    error_type: str | None = None
    context: otel_context.Context = field(init=False)
    _span: Span = field(init=False)
    _token: object = field(init=False)

    def __enter__(self) -> Self:
        self.start_ns = self.turn.clock.now() if self.start_ns is None else self.start_ns
        parent = self.turn.context if self.under_turn else None
        self._span = self.turn.open_span(self.span_name, self.kind, self.start_ns, self.attributes, parent)
        self.context = set_span_in_context(self._span) if self.turn.recording else self.turn.context
        self._token = otel_context.attach(self.context)
        if self.turn.watcher is not None:
            self.turn.watcher.stage(self.name, "running", self.turn.clock.offset(self.start_ns), None)
        return self

    def set(self, attributes: Mapping[str, AttributeValue]) -> None:
        """Add attributes to the stage's span."""
        self._span.set_attributes(attributes)

    def event(self, name: str) -> None:
        """Add an event to the stage's span, now."""
        self._span.add_event(name, timestamp=self.turn.clock.wall(self.turn.clock.now()))

    def fail(self, error: BaseException) -> None:
        """Mark the stage as failed by `error`, though the turn goes on."""
        self.outcome, self.error_type = classify(error)

    def __exit__(
        self, _type: type[BaseException] | None, error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        otel_context.detach(self._token)  # type: ignore[arg-type]  # the API does not export its token's type
        if error is not None:
            self.fail(error)
        assert self.start_ns is not None
        reading = self.turn.clock.close(self.name, self.start_ns)
        self.turn.close_span(self._span, reading.end_ns, self.error_type)
        labels = {names.STAGE: self.name, names.OUTCOME: self.outcome, names.PLAN: self.turn.plan}
        self.turn.instruments.stage_duration.record(reading.seconds, labels, context=self.context)
        if self.turn.watcher is not None:
            state: StageState = "done" if self.error_type is None else "failed"
            self.turn.watcher.stage(self.name, state, self.turn.clock.offset(reading.start_ns), reading.seconds)


def classify(error: BaseException) -> tuple[names.Outcome, str]:
    """Return how telemetry calls `error`: its own words when it is one of ours, else `cancelled` or `internal`."""
    if isinstance(error, trio.Cancelled):
        return "cancelled", "cancelled"
    if isinstance(error, BaseExceptionGroup):
        if error.split(trio.Cancelled)[1] is None:
            return "cancelled", "cancelled"
    elif isinstance(error, Classified):
        return error.outcome, error.error_type
    return "internal_error", "internal"
