"""One CLIENT span per upstream attempt, from OpenTelemetry's httpx instrumentor, which is shown nothing secret.

The instrumentor sits between two of our transports. The outer one hands it a stand-in for the request: the same method
and address, but without query (it holds user ids and search text), fragment, headers and body. The inner one sends the
real request. So nothing has to be cleaned up afterwards, and an attribute that a later instrumentor adds has nothing
to leak. What it writes into the stand-in's headers (`traceparent` and its kind) is passed on where that is wanted, and
only there.

A call in a trace that is not sampled, or in none, goes around the instrumentor, whose spans cost about 90 us even when
nobody records them.

The instrumentor still writes the old HTTP conventions unless an environment variable, read once per process by whoever
comes first, opts in to the stable ones. Its switch is set on our instance instead, so a span does not depend on the
environment nor on the order of start-up; a test compares the attributes, because the switch is not public.
"""

from collections.abc import Sequence
from functools import lru_cache
from types import TracebackType
from typing import Any, Self

import httpx
import trio
from opentelemetry.context import Context, attach, detach
from opentelemetry.instrumentation._semconv import _StabilityMode
from opentelemetry.instrumentation.httpx import AsyncOpenTelemetryTransport
from opentelemetry.metrics import NoOpMeterProvider
from opentelemetry.semconv.schemas import Schemas
from opentelemetry.trace import (
    Link,
    Span,
    SpanKind,
    Status,
    StatusCode,
    Tracer,
    TracerProvider,
    get_current_span,
    set_span_in_context,
)
from opentelemetry.util.types import Attributes

from telemetry import names
from telemetry.logs import TURN_FIELDS

KNOWN_ADDRESSES = 256
"""Of hosts and tables: a few dozen."""
_REAL_REQUEST = "nursery_chat.request"
_PROPAGATED = ("traceparent", "tracestate", "baggage")


def traced_transport(
    inner: httpx.AsyncBaseTransport, *, tracer_provider: TracerProvider, send_traceparent: bool
) -> httpx.AsyncBaseTransport:
    """Return `inner` with a span around each request of a sampled trace; closing it closes `inner`.

    Args:
        inner: does the I/O. Its responses, and so their streams, are handed on untouched.
        tracer_provider: whose spans these are.
        send_traceparent: whether the host may know the trace; else no trace header reaches it, whoever set it.
    """
    return _TracedTransport(inner, tracer_provider, send_traceparent)


class _TracedTransport(httpx.AsyncBaseTransport):
    """The outer transport: shows the instrumentor a stand-in, or goes around it."""

    def __init__(self, inner: httpx.AsyncBaseTransport, provider: TracerProvider, send_traceparent: bool) -> None:
        self._inner = inner
        self._send_traceparent = send_traceparent
        self._instrumentor = _StableTransport(_SendReal(inner, send_traceparent), _DiscreetProvider(provider))

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if not self._send_traceparent:
            for name in _PROPAGATED:
                request.headers.pop(name, None)
        if get_current_span().get_span_context().trace_flags.sampled:
            return await self._instrumentor.handle_async_request(_stand_in(request))
        return await self._inner.handle_async_request(request)

    async def __aenter__(self) -> Self:
        await self._inner.__aenter__()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc_value: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        await self._inner.__aexit__(exc_type, exc_value, traceback)

    async def aclose(self) -> None:
        await self._inner.aclose()


def _stand_in(request: httpx.Request) -> httpx.Request:
    url = request.url
    bare = _bare_url(url.raw_scheme, url.raw_host, url.port, url.raw_path.partition(b"?")[0])
    return httpx.Request(request.method, bare, extensions={_REAL_REQUEST: request})


@lru_cache(KNOWN_ADDRESSES)
def _bare_url(scheme: bytes, host: bytes, port: int | None, path: bytes) -> httpx.URL:
    return httpx.URL(scheme=scheme.decode(), host=host.decode(), port=port, raw_path=path)


class _SendReal(httpx.AsyncBaseTransport):
    """The inner transport: sends the request that a stand-in stands for."""

    def __init__(self, inner: httpx.AsyncBaseTransport, send_traceparent: bool) -> None:
        self._inner = inner
        self._send_traceparent = send_traceparent

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        real: httpx.Request = request.extensions[_REAL_REQUEST]
        if self._send_traceparent:
            real.headers.update({name: value for name, value in request.headers.items() if name in _PROPAGATED})
        return await self._inner.handle_async_request(real)


class _StableTransport(AsyncOpenTelemetryTransport):
    """The instrumentor's transport, with the stable HTTP conventions and without metrics (the stages have ours)."""

    def __init__(self, transport: httpx.AsyncBaseTransport, provider: TracerProvider) -> None:
        super().__init__(transport, tracer_provider=provider, meter_provider=NoOpMeterProvider())
        self._sem_conv_opt_in_mode = _StabilityMode.HTTP


class _DiscreetProvider(TracerProvider):
    """Gives the instrumentor tracers that keep exceptions to themselves."""

    def __init__(self, provider: TracerProvider) -> None:
        self._provider = provider

    def get_tracer(
        self,
        instrumenting_module_name: str,
        instrumenting_library_version: str | None = None,
        schema_url: str | None = None,  # the instrumentor would name the old conventions' schema
        attributes: Attributes = None,
    ) -> Tracer:
        schema = Schemas.V1_21_0.value
        return _DiscreetTracer(
            self._provider.get_tracer(instrumenting_module_name, instrumenting_library_version, schema, attributes)
        )


class _DiscreetTracer(Tracer):
    """Makes spans that tell the class of an exception, never its message or stack: they may quote a URL.

    What is sent in a turn's tasks says the turn's plan.
    """

    def __init__(self, tracer: Tracer) -> None:
        self._tracer = tracer

    def start_span(self, name: str, *args: Any, **options: Any) -> Span:
        return self._tracer.start_span(name, *args, **options)

    def start_as_current_span(  # type: ignore[override]  # the API's own return type is private to it
        self,
        name: str,
        context: Context | None = None,
        kind: SpanKind = SpanKind.INTERNAL,
        attributes: Attributes = None,
        links: Sequence[Link] | None = (),
        start_time: int | None = None,
        record_exception: bool = True,
        set_status_on_exception: bool = True,
        end_on_exit: bool = True,
    ) -> "_Current":
        told = {**(attributes or {}), **_plan_of_turn()}
        return _Current(self._tracer.start_span(name, context, kind, told, links, start_time, False, False))


def _plan_of_turn() -> dict[str, str]:
    plan = TURN_FIELDS.get().get(names.CHAT_PLAN)
    return {} if plan is None else {names.CHAT_PLAN: plan}


class _Current:
    """A span that is current inside the `with` block, and ends with it."""

    __slots__ = ("_span", "_token")

    def __init__(self, span: Span) -> None:
        self._span = span

    def __enter__(self) -> Span:
        self._token = attach(set_span_in_context(self._span))
        return self._span

    def __exit__(
        self, _type: type[BaseException] | None, error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        detach(self._token)
        if isinstance(error, trio.Cancelled):
            self._span.set_attribute(names.ERROR_TYPE, "cancelled")
        elif isinstance(error, Exception):
            self._span.set_status(Status(StatusCode.ERROR, type(error).__name__))
        self._span.end()
