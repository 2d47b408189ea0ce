"""Who decides whether a trace is sampled."""

from itertools import chain, repeat

import pytest
from opentelemetry import baggage
from opentelemetry.context import Context
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.id_generator import IdGenerator, RandomIdGenerator
from opentelemetry.sdk.trace.sampling import (
    ALWAYS_OFF,
    ALWAYS_ON,
    DEFAULT_ON,
    ParentBasedTraceIdRatio,
    Sampler,
    TraceIdRatioBased,
)
from opentelemetry.trace import Span, Tracer, get_current_span, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from telemetry.sampling import PeerSampler, untrusted

PASSES_ANY_RATIO = "00000000000000000000000000000001"
FAILS_ANY_RATIO = "ffffffffffffffffffffffffffffffff"


class _Drawn(IdGenerator):
    """Draws the trace id it was given, and then only ids with the opposite fate."""

    def __init__(self, trace_id: str) -> None:
        opposite = FAILS_ANY_RATIO if trace_id == PASSES_ANY_RATIO else PASSES_ANY_RATIO
        self._trace_ids = chain([int(trace_id, 16)], repeat(int(opposite, 16)))

    def generate_trace_id(self) -> int:
        return next(self._trace_ids)

    def generate_span_id(self) -> int:
        return 1


def tracer_with(sampler: Sampler, drawn: str | None = None) -> Tracer:
    ids = _Drawn(drawn) if drawn else RandomIdGenerator()
    return TracerProvider(sampler=PeerSampler(sampler, ids), shutdown_on_exit=False).get_tracer("test")


def incoming(flags: str, trace_id: str = PASSES_ANY_RATIO) -> Context:
    headers = {"traceparent": f"00-{trace_id}-00000000000000aa-{flags}", "tracestate": "vendor=stranger"}
    return TraceContextTextMapPropagator().extract(headers, Context())


def sampled(span: Span) -> bool:
    return span.get_span_context().trace_flags.sampled


def child_of(tracer: Tracer, parent: Span, context: Context | None = None) -> Span:
    return tracer.start_span("child", set_span_in_context(parent, context))


@pytest.mark.parametrize(
    ("sampler", "peer", "flags", "expected"),
    [
        (DEFAULT_ON, "nobody", "", True),
        (DEFAULT_ON, "trusted", "01", True),
        (DEFAULT_ON, "trusted", "00", False),
        (DEFAULT_ON, "stranger", "01", True),
        (DEFAULT_ON, "stranger", "00", True),
        (ParentBasedTraceIdRatio(0.0), "nobody", "", False),
        (ParentBasedTraceIdRatio(0.0), "trusted", "01", True),
        (ParentBasedTraceIdRatio(0.0), "stranger", "01", False),
        (ParentBasedTraceIdRatio(0.0), "stranger", "00", False),
        (ParentBasedTraceIdRatio(1.0), "trusted", "00", False),
        (ParentBasedTraceIdRatio(1.0), "stranger", "00", True),
        (ALWAYS_OFF, "trusted", "01", False),
        (ALWAYS_OFF, "stranger", "01", False),
        (ALWAYS_ON, "stranger", "00", True),
    ],
)
def test_the_sampled_flag_counts_from_trusted_peers_only(
    sampler: Sampler, peer: str, flags: str, expected: bool
) -> None:
    """For each sampler and peer the decision is the table's; a stranger's flag changes nothing."""
    given = Context() if peer == "nobody" else incoming(flags)
    span = tracer_with(sampler).start_span("server", untrusted(given) if peer == "stranger" else given)
    assert sampled(span) is expected


@pytest.mark.parametrize("flags", ["00", "01"])
def test_a_strangers_trace_is_joined_all_the_same(flags: str) -> None:
    """The server span has the stranger's trace id and the stranger's span as its parent."""
    span = tracer_with(DEFAULT_ON).start_span("server", untrusted(incoming(flags)))
    assert span.get_span_context().trace_id == int(PASSES_ANY_RATIO, 16)
    assert span.parent.span_id == 0xAA  # type: ignore[attr-defined]


@pytest.mark.parametrize("ratio", [TraceIdRatioBased(0.5), ParentBasedTraceIdRatio(0.5)])
@pytest.mark.parametrize(
    ("chosen", "drawn", "expected"),
    [(PASSES_ANY_RATIO, FAILS_ANY_RATIO, False), (FAILS_ANY_RATIO, PASSES_ANY_RATIO, True)],
)
def test_a_chosen_trace_id_does_not_pass_a_ratio(ratio: Sampler, chosen: str, drawn: str, expected: bool) -> None:
    """A ratio is applied to a drawn id, not to the one the stranger chose, and the span's children follow it."""
    tracer = tracer_with(ratio, drawn)
    context = untrusted(incoming("01", chosen))
    server = tracer.start_span("server", context)
    assert sampled(server) is expected
    assert sampled(child_of(tracer, server, context)) is expected


def test_a_ratio_samples_strangers_at_its_rate() -> None:
    """Of strangers that all send an id which passes any ratio, one in ten is sampled at a ratio of 0.1."""
    tracer = tracer_with(ParentBasedTraceIdRatio(0.1))
    count = sum(sampled(tracer.start_span("server", untrusted(incoming("01")))) for _ in range(4000))
    assert 270 < count < 530  # 400 plus or minus almost seven standard deviations


@pytest.mark.parametrize("sampler", [ALWAYS_ON, ALWAYS_OFF, DEFAULT_ON, TraceIdRatioBased(0.5)])
@pytest.mark.parametrize("flags", ["00", "01"])
def test_children_follow_their_local_parent(sampler: Sampler, flags: str) -> None:
    """Whatever the sampler, a span with a parent in this process is sampled exactly when that parent is."""
    tracer = tracer_with(sampler)
    server = tracer.start_span("server", incoming(flags))
    child = child_of(tracer, server)
    assert sampled(child) is sampled(server)
    assert sampled(child_of(tracer, child)) is sampled(server)


def test_a_stranger_brings_nothing_but_the_ids() -> None:
    """A stranger's tracestate and baggage end at the door; a trusted peer's tracestate goes on."""
    context = baggage.set_baggage("user", "stranger", incoming("01"))
    assert not baggage.get_all(untrusted(context))
    assert not tracer_with(DEFAULT_ON).start_span("server", untrusted(context)).get_span_context().trace_state
    assert tracer_with(DEFAULT_ON).start_span("server", context).get_span_context().trace_state["vendor"] == "stranger"


def test_the_mark_leaves_the_given_context_alone() -> None:
    """`untrusted` returns a new context with the same remote parent."""
    context = incoming("01")
    marked = untrusted(context)
    assert get_current_span(marked).get_span_context() == get_current_span(context).get_span_context()
    assert sampled(tracer_with(ParentBasedTraceIdRatio(0.0)).start_span("server", context))
