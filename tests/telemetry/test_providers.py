"""Providers export what they should, and nobody waits for a collector."""

import logging
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from itertools import count
from typing import Any

import pytest
import trio
from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics.export import MetricsData
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.trace import SpanKind
from opentelemetry.util.types import AttributeValue

from telemetry import names
from telemetry.providers import BoundedSpans, Drops, OncePerMinute, Providers, build_providers
from tests.receivers import OtlpReceiver, otlp_receiver, rotel_receiver

NOBODY = "http://127.0.0.1:9"  # the discard port: nothing listens there
EXPORT_TIMEOUT_S = 10  # the exporters' own default: what a turn would wait if it waited


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OTEL_SDK_DISABLED", "OTEL_TRACES_SAMPLER", "OTEL_RESOURCE_ATTRIBUTES", "OTEL_SERVICE_NAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "100")


@pytest.fixture
def receiver() -> Iterator[OtlpReceiver]:
    with otlp_receiver() as running:
        yield running


def build(endpoint: str, monkeypatch: pytest.MonkeyPatch, **options: Any) -> Providers:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)
    given = {"traces_endpoint_set": True, "metrics_endpoint_set": True} | options
    return build_providers(service_version="1.2.3", instance="replica-7", **given)


def dropped(data: MetricsData | None) -> dict[object, float]:
    assert data
    found = [
        metric
        for scope in data.resource_metrics[0].scope_metrics
        for metric in scope.metrics
        if metric.name == names.OTEL_DROPPED
    ]
    return {point.attributes[names.SIGNAL]: point.value for point in found[0].data.data_points}  # type: ignore[index, union-attr]


async def test_the_last_metrics_leave_though_the_time_of_day_jumps(
    receiver: OtlpReceiver, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The SDK's own deadline is a time of day; whenever it looks, an hour has gone by."""
    providers = build(receiver.url, monkeypatch)
    providers.meter.create_counter("last.words").add(1)
    hours = count(time.time_ns(), 3600 * 10**9)
    monkeypatch.setattr("opentelemetry.sdk.metrics._internal.time_ns", lambda: next(hours))
    with caplog.at_level(logging.WARNING):
        await providers.shutdown(EXPORT_TIMEOUT_S)
    assert "otel.shutdown_incomplete" not in caplog.text
    assert "last.words" in receiver.metrics


async def test_a_span_arrives_with_its_attributes_and_resource(
    receiver: OtlpReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A span that ended is received with its attributes, its parent, and the resource of this process."""
    providers = build(receiver.url, monkeypatch)
    start = providers.tracer.start_as_current_span
    with start("parent", kind=SpanKind.SERVER), start("child", attributes={names.CHAT_PLAN: "concurrent", "n": 3}):
        pass
    await trio.to_thread.run_sync(receiver.wait_for, lambda: len(receiver.spans) == 2)
    await providers.shutdown(5)
    parent, child = receiver.named("parent")[0], receiver.named("child")[0]
    assert child.attributes == {names.CHAT_PLAN: "concurrent", "n": 3}
    assert (child.parent_id, child.trace_id) == (parent.span_id, parent.trace_id)
    expected = {"service.name": "nursery-chat", "service.version": "1.2.3", "service.instance.id": "replica-7"}
    assert expected.items() <= child.resource.items()


async def test_shutdown_flushes_both_signals(receiver: OtlpReceiver, monkeypatch: pytest.MonkeyPatch) -> None:
    """What ended just before the shutdown is delivered by it, spans and metrics, and nothing counts as dropped."""
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "60000")
    providers = build(receiver.url, monkeypatch)
    providers.meter.create_counter("chat.warnings").add(1)
    for n in range(3):
        providers.tracer.start_span(f"late {n}").end()
    await providers.shutdown(5)
    assert sorted(span.name for span in receiver.spans) == ["late 0", "late 1", "late 2"]
    assert {"chat.warnings", names.OTEL_DROPPED} <= set(receiver.metrics)


async def test_shutdown_flushes_when_its_caller_was_cancelled(
    receiver: OtlpReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A shutdown inside a cancelled scope still delivers, because its shield has a deadline of its own."""
    providers = build(receiver.url, monkeypatch)
    providers.tracer.start_span("last words").end()
    with trio.CancelScope() as scope:
        scope.cancel()
        await providers.shutdown(5)
    assert receiver.named("last words")


async def test_an_independent_agent_sees_the_span(monkeypatch: pytest.MonkeyPatch) -> None:
    """The agent rotel prints the exported span with its name, kind and attributes."""
    with rotel_receiver() as rotel:
        providers = build(rotel.url, monkeypatch, metrics_endpoint_set=False)
        attributes: dict[str, AttributeValue] = {names.GEN_AI_OPERATION: "chat", names.GEN_AI_INPUT_TOKENS: 12}
        span = providers.tracer.start_span("chat tiny", kind=SpanKind.CLIENT, attributes=attributes)
        span.end()
        await providers.shutdown(5)
        await trio.to_thread.run_sync(rotel.wait_for, lambda text: "gen_ai.usage.input_tokens" in text)
        (printed,) = rotel.spans()
    assert "Name           : chat tiny" in printed
    assert "SPAN_KIND_CLIENT" in printed
    assert "-> gen_ai.operation.name: Str(chat)" in printed
    assert "-> gen_ai.usage.input_tokens: Int(12)" in printed
    assert trace.format_trace_id(span.get_span_context().trace_id) in printed


async def test_without_an_endpoint_nothing_leaves(receiver: OtlpReceiver, monkeypatch: pytest.MonkeyPatch) -> None:
    """With neither endpoint set no exporter is built: no thread starts and no request is sent, while /metrics works."""
    threads = set(threading.enumerate())
    providers = build(receiver.url, monkeypatch, traces_endpoint_set=False, metrics_endpoint_set=False)
    assert [thread.name for thread in set(threading.enumerate()) - threads if thread.name.startswith("Otel")] == []
    providers.tracer.start_span("kept").end()
    assert dropped(providers.scrape()) == {"traces": 0, "metrics": 0}
    await providers.shutdown(5)
    assert receiver.requests == 0


async def test_unsampled_spans_stay_here(receiver: OtlpReceiver, monkeypatch: pytest.MonkeyPatch) -> None:
    """With OTEL_TRACES_SAMPLER=always_off spans have ids, and none is exported."""
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "always_off")
    providers = build(receiver.url, monkeypatch)
    span = providers.tracer.start_span("unsampled")
    span.end()
    await providers.shutdown(5)
    assert span.get_span_context().is_valid
    assert receiver.metrics
    assert not receiver.spans


async def test_the_environment_names_the_service(receiver: OtlpReceiver, monkeypatch: pytest.MonkeyPatch) -> None:
    """OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES reach the resource."""
    monkeypatch.setenv("OTEL_SERVICE_NAME", "tutor")
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=school")
    providers = build(receiver.url, monkeypatch)
    providers.tracer.start_span("named").end()
    await providers.shutdown(5)
    assert receiver.spans[0].resource["service.name"] == "tutor"
    assert receiver.spans[0].resource["deployment.environment.name"] == "school"


async def test_a_disabled_sdk_records_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the SDK disabled spans have no valid id, there is nothing to scrape, and the shutdown is immediate."""
    providers = build(NOBODY, monkeypatch, sdk_disabled=True)
    assert not providers.enabled
    assert not providers.tracer.start_span("none").get_span_context().is_valid
    providers.meter.create_counter("none").add(1)
    assert providers.scrape() is None
    await providers.shutdown(0.1)


async def test_nothing_global_is_set(receiver: OtlpReceiver, monkeypatch: pytest.MonkeyPatch) -> None:
    """Building providers leaves the process's global providers as they were."""
    before = (trace.get_tracer_provider(), metrics.get_meter_provider())
    providers = build(receiver.url, monkeypatch)
    assert (trace.get_tracer_provider(), metrics.get_meter_provider()) == before
    await providers.shutdown(5)


async def test_a_further_processor_hears_of_each_span(monkeypatch: pytest.MonkeyPatch) -> None:
    """A span processor that is handed in is told of a span's end also when nothing is exported."""
    ended: list[str] = []

    class Listener(SpanProcessor):
        def on_end(self, span: ReadableSpan) -> None:
            ended.append(span.name)

    providers = build(
        NOBODY,
        monkeypatch,
        traces_endpoint_set=False,
        metrics_endpoint_set=False,
        span_processors=[Listener()],
    )
    providers.tracer.start_span("heard").end()
    await providers.shutdown(1)
    assert ended == ["heard"]


@pytest.mark.parametrize("collector", ["down", "swallow"])
async def test_ten_thousand_spans_cost_no_more_than_the_queue(collector: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Against a dead or a silent collector no span waits, the queue keeps its bound, and each lost span is counted."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1")
    with otlp_receiver("swallow") as receiver:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.url if collector == "swallow" else NOBODY)
        drops, most = Drops(), 0
        spans = BoundedSpans(1024, drops)
        provider = TracerProvider(shutdown_on_exit=False)
        provider.add_span_processor(spans)
        tracer = provider.get_tracer("load")
        started = time.perf_counter()
        for _ in range(10_000):
            tracer.start_span("turn").end()
            most = max(most, spans.waiting)
        took_s = time.perf_counter() - started
        held = 10_000 - drops.count("traces")
        await trio.to_thread.run_sync(provider.shutdown)
    assert most <= 1024
    assert held <= 1024 + 512  # the queue, and the one batch that is in the exporter's hands
    assert took_s < EXPORT_TIMEOUT_S
    assert drops.count("traces") == 10_000


@pytest.mark.parametrize(("capacity", "batch"), [(1, None), (100, None), (2048, "5000")])
async def test_a_batch_is_no_larger_than_the_queue(
    capacity: int, batch: str | None, receiver: OtlpReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A short queue, or large batches, are no reason not to start, though the SDK refuses the one with the other."""
    if batch is not None:
        monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", batch)
    providers = build(receiver.url, monkeypatch, span_queue_max=capacity)
    providers.tracer.start_span("kept").end()
    await providers.shutdown(5)
    assert [span.name for span in receiver.spans] == ["kept"]


async def test_failed_exports_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """A collector that answers 500 costs the spans and the metric points of that export, and `otel.dropped` says so."""
    with otlp_receiver("fail") as receiver:
        providers = build(receiver.url, monkeypatch)
        for _ in range(5):
            providers.tracer.start_span("lost").end()
        await providers.shutdown(5)
        lost = dropped(providers.scrape())
    assert lost["traces"] == 5
    assert lost["metrics"] >= 2


@pytest.mark.parametrize("deadline_s", [0.3, 1.0])
async def test_shutdown_keeps_its_deadline_against_a_silent_collector(
    deadline_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A collector that accepts and never answers holds the shutdown up to its deadline and no longer."""
    with otlp_receiver("swallow") as receiver:
        providers = build(receiver.url, monkeypatch)
        providers.tracer.start_span("stuck").end()
        started = trio.current_time()
        await providers.shutdown(deadline_s)
        took_s = trio.current_time() - started
        assert receiver.requests
    assert deadline_s <= took_s < deadline_s + 1


LEAVE = """
import sys, time, trio
from telemetry.providers import build_providers

async def main():
    providers = build_providers(service_version="1", instance="i", traces_endpoint_set=True, metrics_endpoint_set=True)
    for _ in range(3000):
        providers.tracer.start_span("stuck").end()
    started = time.monotonic()
    await providers.shutdown(0.5)
    sys.stdout.write(f"{started}\\n")

trio.run(main)
"""


def test_the_process_ends_though_the_collector_is_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    """No thread of the SDK holds up the interpreter: the process is gone soon after its shutdown's deadline."""
    with otlp_receiver("swallow") as receiver:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.url)
        done = subprocess.run([sys.executable, "-c", LEAVE], capture_output=True, text=True, timeout=30, check=False)
        ended = time.monotonic()
    assert done.returncode == 0, done.stderr
    assert ended - float(done.stdout) < 0.5 + 2  # the interpreter's own end included; an export would take 10 s


FAIL_OFTEN = """
import logging, trio
from telemetry.providers import build_providers

async def main():
    providers = build_providers(service_version="1", instance="i", traces_endpoint_set=True, metrics_endpoint_set=True)
    for _ in range(5):
        providers.tracer.start_span("lost").end()
        await trio.to_thread.run_sync(providers.tracer_provider.force_flush)
    await providers.shutdown(5)

logging.basicConfig(format="%(message)s")
trio.run(main)
"""


def test_a_failing_collector_gets_one_log_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many failing exports of both signals leave one log line within the minute."""
    with otlp_receiver("fail") as receiver:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.url)
        done = subprocess.run(
            [sys.executable, "-c", FAIL_OFTEN], capture_output=True, text=True, timeout=30, check=True
        )
    assert receiver.requests == 6
    assert done.stderr.count("\n") == 1
    assert "500" in done.stderr


def test_a_held_back_line_is_counted() -> None:
    """The line after a minute of silence says how many it stands for; removed, the filter holds nothing back."""
    now = 0.0
    quiet = OncePerMinute(lambda: now)
    try:
        records = [logging.makeLogRecord({"levelno": logging.ERROR}) for _ in range(4)]
        assert [quiet.filter(record) for record in records[:3]] == [True, False, False]
        now = 60.0
        assert quiet.filter(records[3])
        assert records[3].__dict__["held_back"] == 2
    finally:
        quiet.remove()
    assert quiet not in logging.getLogger("urllib3.connectionpool").filters
