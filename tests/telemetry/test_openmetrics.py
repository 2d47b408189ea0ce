"""The page /metrics: strict OpenMetrics, names by the rules, and exemplars for every scraper."""

import math
import subprocess
import threading
from collections.abc import Iterator, Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.metrics import CallbackOptions, Observation
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Gauge,
    Histogram,
    HistogramDataPoint,
    InMemoryMetricReader,
    Metric,
    MetricsData,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Span, format_span_id, format_trace_id, set_span_in_context

from telemetry import names
from telemetry.openmetrics import CLASSIC, OPENMETRICS, Form, Scrape, family_name, label_text, negotiate
from tests.needs import need_program
from tests.telemetry.exposition import read

OM = "application/openmetrics-text; version=1.0.0"
BOUNDS = (0.1, 1.0, 10.0)


class Metrics:
    """A real meter with one reader for the page and one beside it, as an OTLP exporter has."""

    def __init__(self, resource: Mapping[str, str] | None = None) -> None:
        self.reader, self.beside = InMemoryMetricReader(), InMemoryMetricReader()
        provider = MeterProvider([self.reader, self.beside], Resource(resource or {}), shutdown_on_exit=False)
        self.meter = provider.get_meter("test")
        self.scrape = Scrape(self.reader.get_metrics_data)
        self.duration = self.meter.create_histogram(
            "chat.turn.duration", unit="s", description="A turn.", explicit_bucket_boundaries_advisory=list(BOUNDS)
        )

    def record(self, seconds: float, outcome: str = "ok") -> Span:
        """Record a turn inside a sampled span; the span is current nowhere."""
        span = TracerProvider(sampler=ALWAYS_ON, shutdown_on_exit=False).get_tracer("test").start_span("turn")
        self.duration.record(seconds, {"outcome": outcome}, context=set_span_in_context(span))
        return span

    def exemplars(self, accept: str = OM) -> dict[str, tuple[str, float]]:
        """Return bound to (trace id, value), as a scraper reads them now."""
        found = read(self.scrape.page(accept)[1])["chat_turn_duration_seconds"].exemplars
        return {dict(labels)["le"]: (ids["trace_id"], value) for (_, labels), (ids, value, _) in found.items()}


def trace_id(span: Span) -> str:
    return format_trace_id(span.get_span_context().trace_id)


def test_a_page_is_strict_openmetrics() -> None:
    """Each kind comes out with type, unit, description and values, and the resource as target_info."""
    metrics = Metrics({"service.name": "nursery-chat", "service.instance.id": "i-1"})
    metrics.meter.create_counter("chat.warnings", description="Warnings given.").add(2, {"kind": "fallback"})
    metrics.meter.create_up_down_counter("process.memory.usage", unit="By").add(1024)
    metrics.meter.create_observable_gauge("llm.limiter.waiting", [lambda _: [Observation(3, {"mode": "fixed"})]])
    span = metrics.record(0.5)
    content_type, text = metrics.scrape.page(OM)
    families = read(text)
    assert content_type == "application/openmetrics-text; version=1.0.0; charset=utf-8"
    target = (("service_instance_id", "i-1"), ("service_name", "nursery-chat"))
    assert families["target"].samples == {("_info", target): 1}
    assert families["chat_warnings"].samples == {("_total", (("kind", "fallback"),)): 2}
    assert families["chat_warnings"].description == "Warnings given."
    assert families["process_memory_usage_bytes"].samples == {("", ()): 1024}
    assert families["process_memory_usage_bytes"].unit == "bytes"
    assert families["llm_limiter_waiting"].kind == "gauge"
    turns = families["chat_turn_duration_seconds"]
    ok = ("outcome", "ok")
    assert turns.unit == "seconds"
    assert turns.samples == {
        ("_bucket", (ok, ("le", "0.1"))): 0,
        ("_bucket", (ok, ("le", "1.0"))): 1,
        ("_bucket", (ok, ("le", "10.0"))): 1,
        ("_bucket", (ok, ("le", "+Inf"))): 1,
        ("_sum", (ok,)): 0.5,
        ("_count", (ok,)): 1,
    }
    (((_, labels), (ids, value, _)),) = turns.exemplars.items()
    assert dict(labels)["le"] == "1.0"
    assert ids == {"trace_id": trace_id(span), "span_id": format_span_id(span.get_span_context().span_id)}
    assert value == 0.5


def test_the_classic_page_has_neither_exemplars_nor_units() -> None:
    """Who does not ask for OpenMetrics gets the classic text: `_total` in the type line, no UNIT, exemplar or EOF."""
    metrics = Metrics({"service.name": "nursery-chat"})
    metrics.record(0.5)
    metrics.meter.create_counter("chat.warnings", description='A "quoted" word').add(1)
    content_type, text = metrics.scrape.page("*/*")
    assert content_type == "text/plain; version=0.0.4; charset=utf-8"
    lines = text.splitlines()
    assert "# TYPE chat_warnings_total counter" in lines
    assert '# HELP chat_warnings_total A "quoted" word' in lines
    assert "# TYPE target_info gauge" in lines
    assert 'chat_turn_duration_seconds_bucket{outcome="ok",le="1.0"} 1' in lines
    assert not [line for line in lines if "trace_id" in line or line.startswith(("# UNIT", "# EOF"))]


def test_an_empty_page_is_a_page() -> None:
    """Telemetry that is off gives an empty, valid page in both forms."""
    scrape = Scrape(lambda: None)
    assert scrape.page(OM)[1] == "# EOF\n"
    assert scrape.page("")[1] == ""


PROMETHEUS_2 = (
    "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
    "text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
)
PROMETHEUS_3 = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,"
    "application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,"
    "text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
)


@pytest.mark.parametrize(
    ("accept", "form"),
    [
        ("", CLASSIC),
        ("*/*", CLASSIC),
        ("text/html,application/xhtml+xml,*/*;q=0.8", CLASSIC),
        ("text/plain", CLASSIC),
        (OM, OPENMETRICS),
        ("Application/OpenMetrics-Text", OPENMETRICS),
        ('application/openmetrics-text; version="1.0.0"', OPENMETRICS),
        ("application/openmetrics-text; version=0.0.1", CLASSIC),
        ("application/openmetrics-text; version=2.0.0", CLASSIC),
        ("application/openmetrics-text; q=0", CLASSIC),
        ("application/openmetrics-text; q=0.3, text/plain; q=0.9", CLASSIC),
        ("application/openmetrics-text; q=nonsense", CLASSIC),
        (PROMETHEUS_2, OPENMETRICS),
        (PROMETHEUS_3, OPENMETRICS),
        (";;,,=;q", CLASSIC),
    ],
)
def test_the_form_is_negotiated(accept: str, form: Form) -> None:
    """OpenMetrics is given to who asks for its version 1.0.0 and ranks it no lower than plain text."""
    assert negotiate(accept) is form


@pytest.mark.parametrize(
    ("name", "unit", "kind", "expected"),
    [
        ("chat.turn.duration", "s", "histogram", ("chat_turn_duration_seconds", "seconds")),
        ("process.memory.usage", "By", "gauge", ("process_memory_usage_bytes", "bytes")),
        ("gen_ai.client.token.usage", "{token}", "histogram", ("gen_ai_client_token_usage", "")),
        ("chat.warnings", "", "counter", ("chat_warnings", "")),
        ("chat.warnings", "1", "counter", ("chat_warnings", "")),
        ("seen.total", "", "counter", ("seen", "")),
        ("llm.limiter.total", "", "gauge", ("llm_limiter_total", "")),
        ("wait_seconds", "s", "histogram", ("wait_seconds", "seconds")),
        ("sent", "By/s", "gauge", ("sent_bytes_per_second", "bytes_per_second")),
        ("rate", "{item}/s", "gauge", ("rate_per_second", "per_second")),
        ("used", "%", "gauge", ("used_percent", "percent")),
        ("odd..na-me/x", "furlong", "gauge", ("odd_na_me_x_furlong", "furlong")),
        ("9lives", "", "gauge", ("_9lives", "")),
    ],
)
def test_names_follow_the_rules(name: str, unit: str, kind: str, expected: tuple[str, str]) -> None:
    """Dots become underscores and units words, as in OpenTelemetry's rules for Prometheus."""
    assert family_name(name, unit, kind) == expected  # type: ignore[arg-type]


def test_labels_that_become_the_same_are_joined() -> None:
    """Keys that sanitise to one label share it; `le` and `quantile` do not collide with a histogram's own."""
    assert label_text({"a.b": "1", "a_b": 2, "le": True, "list": ["x", "y"]}) == (
        'a_b="1;2",key_le="true",list="[\\"x\\", \\"y\\"]"'
    )


@given(value=st.text(), key=st.text(min_size=1), description=st.text(st.characters(exclude_categories=["Cs"])))
def test_any_text_survives_the_page(value: str, key: str, description: str) -> None:
    """Whatever an attribute or a description holds, the page stays strict and the reader gets the text back."""
    reader = InMemoryMetricReader()
    meter = MeterProvider([reader], Resource({"r": value}), shutdown_on_exit=False).get_meter("test")
    meter.create_counter("seen", description=description).add(1, {key: value})
    families = read(Scrape(reader.get_metrics_data).page(OM)[1])
    (((_, labels), count),) = families["seen"].samples.items()
    assert count == 1
    assert labels[0][1] == value.encode("utf-8", "replace").decode()
    assert families["seen"].description == description


def collected(value: float) -> MetricsData:
    """Return what a reader hands over for one gauge and one histogram that came to `value`."""
    gauge = NumberDataPoint({}, 0, 0, value)
    turns = HistogramDataPoint({}, 0, 0, 1, value, [0, 1], [1.0], value, value)
    metrics = [
        Metric("level", "", "", Gauge([gauge])),
        Metric("took", "", "s", Histogram([turns], AggregationTemporality.CUMULATIVE)),
    ]
    scope = ScopeMetrics(InstrumentationScope("test"), metrics, "")
    return MetricsData([ResourceMetrics(Resource({}), [scope], "")])


@given(value=st.floats(allow_nan=True, allow_infinity=True) | st.integers(-(2**70), 2**70))
def test_no_number_breaks_the_page(value: float) -> None:
    """Every number is read back as it was, infinities too, and what is not a number is left out."""
    text = Scrape(lambda: collected(value)).page(OM)[1]
    families = read(text)
    assert "NaN" not in text
    if math.isnan(value):
        assert "level" not in families
        assert ("_sum", ()) not in families["took_seconds"].samples
    else:
        assert families["level"].samples["", ()] == float(value)
        assert families["took_seconds"].samples["_sum", ()] == float(value)


def test_each_scraper_sees_the_last_exemplars() -> None:
    """An exemplar stays on the page for every later scrape, until its own bucket has a newer one."""
    metrics = Metrics()
    fast, slow = metrics.record(0.05), metrics.record(50)
    expected = {"0.1": (trace_id(fast), 0.05), "+Inf": (trace_id(slow), 50)}
    assert [metrics.exemplars() for _ in range(3)] == [expected] * 3
    faster = metrics.record(0.01)
    metrics.beside.get_metrics_data()
    assert metrics.exemplars() == metrics.exemplars() == expected | {"0.1": (trace_id(faster), 0.01)}


def test_a_classic_scrape_takes_nothing_away() -> None:
    """A scraper that does not ask for OpenMetrics leaves the exemplars to those that do."""
    metrics = Metrics()
    span = metrics.record(0.5)
    metrics.scrape.page("text/plain")
    assert metrics.exemplars() == {"1.0": (trace_id(span), 0.5)}


def test_an_exemplar_on_a_bound_belongs_below_it() -> None:
    """A value equal to a bound has its exemplar in that bound's bucket, where it was counted."""
    metrics = Metrics()
    span = metrics.record(1.0)
    assert metrics.exemplars() == {"1.0": (trace_id(span), 1.0)}


def test_unsampled_turns_leave_no_exemplar() -> None:
    """A measurement inside an unsampled span is counted and has no exemplar: there is no trace to lead to."""
    metrics = Metrics()
    span = TracerProvider(sampler=ALWAYS_OFF, shutdown_on_exit=False).get_tracer("test").start_span("turn")
    metrics.duration.record(0.5, context=set_span_in_context(span))
    turns = read(metrics.scrape.page(OM)[1])["chat_turn_duration_seconds"]
    assert turns.samples["_count", ()] == 1
    assert not turns.exemplars


def test_a_counter_has_an_exemplar_too() -> None:
    """A counter that was raised inside a sampled span shows that span."""
    metrics = Metrics()
    span = TracerProvider(sampler=ALWAYS_ON, shutdown_on_exit=False).get_tracer("test").start_span("turn")
    metrics.meter.create_counter("chat.warnings").add(1, {"kind": "fallback"}, context=set_span_in_context(span))
    for _ in range(2):
        warnings = read(metrics.scrape.page(OM)[1])["chat_warnings"]
        assert warnings.exemplars["_total", (("kind", "fallback"),)][0]["trace_id"] == trace_id(span)


def test_scrapers_at_the_same_time_are_all_right() -> None:
    """Threads that scrape while turns are recorded each get a strict page, and none loses an earlier exemplar."""
    metrics = Metrics()
    first = metrics.record(50)
    start, pages = threading.Barrier(9), []

    def scraper() -> None:
        start.wait()
        pages.extend([metrics.exemplars() for _ in range(20)])

    threads = [threading.Thread(target=scraper) for _ in range(8)]
    for thread in threads:
        thread.start()
    start.wait()
    for n in range(200):
        metrics.record(0.5, outcome=f"o{n % 3}")
    for thread in threads:
        thread.join()
    assert len(pages) == 160
    assert all(page["+Inf"] == (trace_id(first), 50) for page in pages)


def test_a_slow_scrape_does_not_bring_back_an_old_exemplar() -> None:
    """A scrape that begins while another one collects waits for it, so the newer exemplar is remembered last."""
    metrics = Metrics()
    metrics.record(0.5)
    entered, pages = threading.Event(), []
    second = threading.Thread(target=lambda: pages.append(scrape.page(OM)))

    def collect() -> MetricsData | None:
        data = metrics.reader.get_metrics_data()
        if second.ident:
            entered.set()
        else:
            newer.append(metrics.record(0.6))
            second.start()
            overlapped.append(entered.wait(0.2))
        return data

    newer: list[Span] = []
    overlapped: list[bool] = []
    scrape = Scrape(collect)
    scrape.page(OM)
    second.join()
    metrics.scrape = scrape
    assert overlapped == [False]
    assert len(pages) == 1
    assert metrics.exemplars() == {"1.0": (trace_id(newer[0]), 0.6)}


def test_two_scopes_with_one_name_give_one_family() -> None:
    """Instruments of one name in two scopes do not double a series, and one of another kind spoils nothing."""
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader], Resource({}), shutdown_on_exit=False)
    provider.get_meter("one").create_counter("seen").add(1, {"a": "1"})
    provider.get_meter("two").create_counter("seen").add(5, {"a": "1"})
    provider.get_meter("two").create_counter("seen").add(7, {"a": "2"})
    provider.get_meter("three").create_up_down_counter("seen").add(9, {"a": "3"})
    families = read(Scrape(reader.get_metrics_data).page(OM)[1])
    assert families["seen"].samples == {("_total", (("a", "1"),)): 1, ("_total", (("a", "2"),)): 7}


def test_every_metric_of_ours_is_written_strictly() -> None:
    """The metric names and units of `telemetry.names` give a strict page when made as the kinds they are."""
    metrics = Metrics()
    for name in (names.WARNINGS, names.UPSTREAM_REJECTIONS, names.OTEL_DROPPED):
        metrics.meter.create_counter(name, unit="{item}").add(1)
    for name in (names.LIMITER_TOTAL_GAUGE, names.LIMITER_WAITING_GAUGE, names.TURNS_INFLIGHT, names.USERS_ACTIVE):
        metrics.meter.create_gauge(name).set(1)
    for name in (names.STAGE_DURATION, names.TURN_OVERHEAD, names.LIMITER_WAIT, names.HTTP_SERVER_DURATION):
        metrics.meter.create_histogram(name, unit="s").record(0.2)
    families = read(metrics.scrape.page(OM)[1])
    assert {
        "otel_dropped",
        "llm_limiter_total",
        "chat_stage_duration_seconds",
        "http_server_request_duration_seconds",
    } <= (families.keys())


def test_promtool_accepts_the_page() -> None:
    """Prometheus's own checker finds nothing to say about the classic page."""
    promtool = need_program("promtool", "apt-get install prometheus")
    metrics = Metrics({"service.name": "nursery-chat"})
    metrics.record(0.5)
    metrics.meter.create_counter("chat.warnings", description="Warnings given.").add(1, {"kind": 'odd "\\\n text'})
    metrics.meter.create_gauge("edge.turns.inflight", description="Turns under way.").set(2)
    page = metrics.scrape.page("text/plain")[1]
    done = subprocess.run([promtool, "check", "metrics"], input=page, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def observe_nothing(_options: CallbackOptions) -> Iterator[Observation]:
    yield from ()


def test_an_instrument_without_values_is_left_out() -> None:
    """A gauge that observes nothing leaves no empty family on the page."""
    metrics = Metrics()
    metrics.meter.create_observable_gauge("breaker.state", [observe_nothing])
    assert read(metrics.scrape.page(OM)[1]) == {}
