"""The tracer and meter providers of one server, built at its start, and their bounded, silent way out.

What the SDK's exporters lack is added here: spans that find the queue full are turned away and counted (the SDK drops
the oldest without a number), failed exports are counted, their log lines are held to one a minute, and the shutdown
has a deadline that holds against a collector which accepts and never answers. Nothing global is set, and nothing waits
at the interpreter's exit: every thread of the SDK is a daemon, its exit handlers are switched off, and a flush that
does not end in time is abandoned in a daemon thread of Trio's.

The SDK reads the standard OTEL_* variables (sampler, endpoints, headers, batch sizes, resource) by itself.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

import trio
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.metrics import CallbackOptions, Meter, NoOpMeterProvider, Observation
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import (
    InMemoryMetricReader,
    MetricExportResult,
    MetricReader,
    MetricsData,
    PeriodicExportingMetricReader,
)
from opentelemetry.sdk.resources import SERVICE_INSTANCE_ID, SERVICE_NAME, SERVICE_VERSION, Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExportResult
from opentelemetry.trace import NoOpTracerProvider, Tracer
from opentelemetry.trace import TracerProvider as AnyTracerProvider

from telemetry import names
from telemetry.sampling import PeerSampler

log = logging.getLogger(__name__)

Signal = Literal["traces", "metrics"]
SCOPE = "nursery-chat"
DEFAULT_SPAN_QUEUE = 2048  # the OpenTelemetry specification's default for OTEL_BSP_MAX_QUEUE_SIZE
A_WEEK_MS = 7 * 86_400 * 1000
"""For the SDK's shutdown of metrics (1.45), whose deadline is a time of day: when that jumps, the last metrics would be
lost. The real bound is `Providers.shutdown`'s own."""
_NOISY_LOGGERS = (
    "opentelemetry.exporter.otlp.common.http",
    "opentelemetry.exporter.otlp.proto.http.metric_exporter",
    "opentelemetry.exporter.otlp.proto.http.trace_exporter",
    "opentelemetry.sdk._shared_internal",
    "opentelemetry.sdk.metrics._internal.export",
    "urllib3.connectionpool",  # nothing but the exporters speaks through urllib3 here
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Providers:
    """What the server's parts are given; `tracer_provider` is for the HTTP clients' instrumentor.

    `scrape` collects every instrument now, for `/metrics`; None when telemetry is off. It may block on instruments'
    callbacks and be called from any thread.
    """

    tracer: Tracer
    meter: Meter
    tracer_provider: AnyTracerProvider
    scrape: Callable[[], MetricsData | None]
    enabled: bool
    _closers: tuple[Callable[[], object], ...] = field(default=(), repr=False)
    _give_up: Callable[[], None] = field(default=lambda: None, repr=False)
    _quiet: "OncePerMinute | None" = field(default=None, repr=False)

    async def shutdown(self, deadline_s: float) -> None:
        """Flush and stop both signals side by side, within `deadline_s` seconds; what is not sent by then is lost.

        Runs to its end or its deadline even when the caller is cancelled.
        """
        limiter = trio.CapacityLimiter(max(1, len(self._closers)))
        with trio.move_on_after(deadline_s, shield=True) as scope:
            async with trio.open_nursery() as nursery:
                for close in self._closers:
                    in_thread = partial(trio.to_thread.run_sync, limiter=limiter, abandon_on_cancel=True)
                    nursery.start_soon(in_thread, partial(_close, close))
        if scope.cancelled_caught:
            self._give_up()  # no retries any more; the abandoned threads' lines stay held back
        elif self._quiet:
            self._quiet.remove()


def build_providers(
    *,
    service_version: str,
    instance: str,
    traces_endpoint_set: bool,
    metrics_endpoint_set: bool,
    sdk_disabled: bool = False,
    span_queue_max: int = DEFAULT_SPAN_QUEUE,
    span_processors: Sequence[SpanProcessor] = (),
) -> Providers:
    """Build the providers; call `shutdown()` once at the end.

    Args:
        service_version: of the resource; likewise `instance`, which `/ops` answers with too.
        instance: names this process among its replicas.
        traces_endpoint_set: whether OTEL_EXPORTER_OTLP_ENDPOINT or its TRACES variant is set;
            without one no span leaves.
        metrics_endpoint_set: likewise for metrics; `/metrics` works either way.
        sdk_disabled: OTEL_SDK_DISABLED; nothing is recorded at all.
        span_queue_max: OTEL_BSP_MAX_QUEUE_SIZE: spans that may wait for export.
        span_processors: further processors, told of each span before the exporter.
    """
    if sdk_disabled:
        return _build_nothing()
    drops = Drops()
    quiet = OncePerMinute()
    resource = _resource(service_version, instance)
    exporters = ExitStack()
    scraped = InMemoryMetricReader()
    readers: list[MetricReader] = [scraped]
    if metrics_endpoint_set:
        exporter = _MetricExporter(drops)
        exporters.callback(exporter.shutdown)
        readers.append(PeriodicExportingMetricReader(exporter))
    metrics = MeterProvider(readers, resource, shutdown_on_exit=False)
    traces = TracerProvider(resource=resource, shutdown_on_exit=False)
    traces.sampler = PeerSampler(traces.sampler)  # the SDK has read the environment's sampler just now
    for processor in span_processors:
        traces.add_span_processor(processor)
    if traces_endpoint_set:
        spans = BoundedSpans(span_queue_max, drops)
        exporters.callback(spans.give_up)
        traces.add_span_processor(spans)
    meter = metrics.get_meter(SCOPE, service_version)
    meter.create_observable_counter(
        names.OTEL_DROPPED,
        [drops.observe],
        unit="{item}",
        description="Spans and metric points that were not exported.",
    )
    return Providers(
        tracer=traces.get_tracer(SCOPE, service_version),
        meter=meter,
        tracer_provider=traces,
        scrape=scraped.get_metrics_data,
        enabled=True,
        _closers=(traces.shutdown, partial(metrics.shutdown, timeout_millis=A_WEEK_MS)),
        _give_up=exporters.close,
        _quiet=quiet,
    )


def _build_nothing() -> Providers:
    tracers = NoOpTracerProvider()
    return Providers(
        tracer=tracers.get_tracer(SCOPE),
        meter=NoOpMeterProvider().get_meter(SCOPE),
        tracer_provider=tracers,
        scrape=lambda: None,
        enabled=False,
    )


def _resource(version: str, instance: str) -> Resource:
    given = Resource.create()
    ours = {SERVICE_VERSION: version, SERVICE_INSTANCE_ID: instance}
    if str(given.attributes[SERVICE_NAME]).startswith("unknown_service"):
        ours[SERVICE_NAME] = SCOPE
    return given.merge(Resource(ours))


def _close(close: Callable[[], object]) -> None:
    try:
        close()
    except Exception:  # exporter safety: telemetry that cannot say goodbye must not fail the shutdown
        log.warning("otel.shutdown_incomplete", exc_info=True)


class Drops:
    """Counts what did not leave the process; read by the metric `otel.dropped`."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: dict[Signal, int] = {"traces": 0, "metrics": 0}

    def add(self, signal: Signal, items: int) -> None:
        """Count `items` spans or metric points as lost."""
        with self._lock:
            self._counts[signal] += items

    def count(self, signal: Signal) -> int:
        """Return the items of `signal` lost so far."""
        return self._counts[signal]

    def observe(self, _options: CallbackOptions) -> Iterable[Observation]:
        """Return the counts so far, zeros included."""
        return [Observation(count, {names.SIGNAL: signal}) for signal, count in self._counts.items()]


class BoundedSpans(SpanProcessor):
    """The SDK's batch processor behind a gate: at most `capacity` spans wait, and one that finds it full is counted."""

    def __init__(self, capacity: int, drops: Drops) -> None:
        self._capacity = capacity
        self._drops = drops
        self._lock = threading.Lock()
        self._waiting = 0
        self._open = True
        self._exporter = _SpanExporter(self._taken, drops)
        batch = min(capacity, BatchSpanProcessor._default_max_export_batch_size())  # type: ignore[no-untyped-call]  # the environment's
        self._batches = BatchSpanProcessor(self._exporter, max_queue_size=capacity, max_export_batch_size=batch)

    @property
    def waiting(self) -> int:
        """Spans that ended and are not yet in an exporter's hands."""
        return self._waiting

    def on_end(self, span: ReadableSpan) -> None:
        """Queue a sampled span, or count it as dropped; never waits for the collector."""
        if span.context is None or not span.context.trace_flags.sampled:
            return
        with self._lock:
            admitted = self._open and self._waiting < self._capacity
            self._waiting += admitted
        if admitted:
            self._batches.on_end(span)
        else:
            self._drops.add("traces", 1)

    def shutdown(self) -> None:
        """Export what waits, for as long as the collector takes, and stop."""
        self._open = False
        self._batches.shutdown()  # type: ignore[no-untyped-call]  # the SDK leaves it untyped

    def give_up(self) -> None:
        """End the exporter's retries; what still waits is lost."""
        self._open = False
        self._exporter.shutdown()  # type: ignore[no-untyped-call]  # likewise

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        """Export what waits now."""
        return self._batches.force_flush(timeout_millis)

    def _taken(self, spans: int) -> None:
        with self._lock:
            self._waiting -= spans


class _SpanExporter(OTLPSpanExporter):
    """OTLP/HTTP for spans; counts what it could not deliver."""

    def __init__(self, taken: Callable[[int], None], drops: Drops) -> None:
        super().__init__()
        self._taken = taken
        self._drops = drops

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self._taken(len(spans))
        try:
            result = super().export(spans)
        except Exception:  # exporter safety
            log.warning("otel.export_failed", exc_info=True)
            result = SpanExportResult.FAILURE
        if result is not SpanExportResult.SUCCESS:
            self._drops.add("traces", len(spans))
        return result


class _MetricExporter(OTLPMetricExporter):
    """OTLP/HTTP for metrics; counts what it could not deliver."""

    def __init__(self, drops: Drops) -> None:
        super().__init__()
        self._drops = drops

    def export(
        self, metrics_data: MetricsData, timeout_millis: float | None = 10_000, **options: Any
    ) -> MetricExportResult:
        try:
            result = super().export(metrics_data, timeout_millis, **options)
        except Exception:  # exporter safety
            log.warning("otel.export_failed", exc_info=True)
            result = MetricExportResult.FAILURE
        if result is not MetricExportResult.SUCCESS:
            self._drops.add("metrics", _points(metrics_data))
        return result


def _points(data: MetricsData) -> int:
    return sum(
        len(metric.data.data_points)
        for resource in data.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
    )


class OncePerMinute(logging.Filter):
    """Lets one line a minute through for all exporters together, with `held_back`: how many it stands for."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._silent_until = float("-inf")
        self._held_back = 0
        for name in _NOISY_LOGGERS:
            logging.getLogger(name).addFilter(self)

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether `record` is the minute's line; below warning, it is somebody's debugging and passes."""
        if record.levelno < logging.WARNING:
            return True
        if self._clock() < self._silent_until:
            self._held_back += 1
            return False
        record.held_back, self._held_back = self._held_back, 0
        self._silent_until = self._clock() + 60
        return True

    def remove(self) -> None:
        """Take the filter off the loggers again."""
        for name in _NOISY_LOGGERS:
            logging.getLogger(name).removeFilter(self)
