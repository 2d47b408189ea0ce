"""Sampling: the environment's sampler decides; a stranger's `traceparent` joins the trace and decides nothing.

A server span has a remote parent when the caller sent a `traceparent`. From a trusted peer its sampled flag counts as
usual. From anybody else the context is marked by `untrusted()`: the trace id is kept, but the decision is the one that
a new trace would have got, drawn from a random trace id, because a stranger may as well choose an id that passes a
ratio. Spans inside the process follow their parent, so a trace is never half here.
"""

from collections.abc import Sequence

from opentelemetry import baggage
from opentelemetry.context import Context, create_key, get_value, set_value
from opentelemetry.sdk.trace.id_generator import IdGenerator, RandomIdGenerator
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, Sampler, SamplingResult
from opentelemetry.trace import Link, SpanContext, SpanKind, TraceState, get_current_span
from opentelemetry.util.types import Attributes

_UNTRUSTED = create_key("untrusted-peer")
_BY_PARENT = {True: ALWAYS_ON, False: ALWAYS_OFF}


def untrusted(context: Context) -> Context:
    """Return `context`, extracted from a stranger's headers, so that it names a trace and nothing else.

    Its sampled flag is not followed, its tracestate not taken over, and its baggage left out.
    """
    return set_value(_UNTRUSTED, True, baggage.clear(context))


class PeerSampler(Sampler):
    """Ask `configured` for new traces and trusted peers; follow the parent inside the process."""

    def __init__(self, configured: Sampler, ids: IdGenerator | None = None) -> None:
        self._configured = configured
        self._ids = ids or RandomIdGenerator()

    def should_sample(
        self,
        parent_context: Context | None,
        trace_id: int,
        name: str,
        kind: SpanKind | None = None,
        attributes: Attributes = None,
        links: Sequence[Link] | None = None,
        trace_state: TraceState | None = None,
    ) -> SamplingResult:
        """Return the decision for a span that is about to start."""
        parent = get_current_span(parent_context).get_span_context()
        sampler = self._configured
        if _is_local(parent):
            sampler = _BY_PARENT[parent.trace_flags.sampled]
        elif parent.is_valid and get_value(_UNTRUSTED, parent_context):
            parent_context, trace_id, trace_state = Context(), self._ids.generate_trace_id(), None
        return sampler.should_sample(parent_context, trace_id, name, kind, attributes, links, trace_state)

    def get_description(self) -> str:
        """Return the sampler's name, as the SDK shows it."""
        return f"PeerSampler{{{self._configured.get_description()}}}"


def _is_local(parent: SpanContext) -> bool:
    return parent.is_valid and not parent.is_remote
