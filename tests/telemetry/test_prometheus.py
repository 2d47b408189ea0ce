"""The page /metrics, judged by a real Prometheus that scrapes it."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import format_trace_id, set_span_in_context

from telemetry.openmetrics import Scrape
from tests.prometheus import WAIT_S, prometheus, shortened


@dataclass
class Target:
    """A page on a loopback port that counts its scrapes."""

    scrape: Scrape
    port: int = 0
    accepted: list[str] = field(default_factory=list)
    changed: threading.Condition = field(default_factory=threading.Condition)

    def wait_for_scrapes(self, count: int) -> None:
        """Block until the page was read `count` times."""
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.accepted) >= count, WAIT_S), self.accepted


@contextmanager
def target(scrape: Scrape) -> Iterator[Target]:
    """Serve `scrape` over HTTP."""
    serving = Target(scrape)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            content_type, text = serving.scrape.page(self.headers.get("accept", ""))
            self.send_response(200)
            self.send_header("content-type", content_type)
            self.end_headers()
            self.wfile.write(text.encode())
            with serving.changed:
                serving.accepted.append(content_type)
                serving.changed.notify_all()

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
            """Be silent."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    serving.port = server.server_port
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield serving
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_prometheus_stores_values_and_exemplars(tmp_path: Path) -> None:
    """Prometheus scrapes the OpenMetrics form without an error and finds buckets, counters and the trace of a turn."""
    reader = InMemoryMetricReader()
    resource = Resource({"service.name": "nursery-chat"})
    meter = MeterProvider([reader], resource, shutdown_on_exit=False).get_meter("test")
    span = TracerProvider(shutdown_on_exit=False).get_tracer("test").start_span("turn")
    meter.create_counter("chat.warnings").add(3, {"kind": 'odd "\\\n text'})
    duration = meter.create_histogram("chat.turn.duration", unit="s", explicit_bucket_boundaries_advisory=[0.1, 1, 10])
    duration.record(0.5, {"outcome": "ok"}, context=set_span_in_context(span))
    started = time.time()
    with target(Scrape(reader.get_metrics_data)) as page:
        url = f"http://127.0.0.1:{page.port}"
        with prometheus(tmp_path, [("chat", url, None)], scrape_interval="500ms") as asked:
            page.wait_for_scrapes(3)  # so that the first two are stored
            (scraped,) = asked.targets()
            (warnings,) = asked.query("chat_warnings_total")
            (bucket,) = asked.query('chat_turn_duration_seconds_bucket{le="1.0"}')
            (info,) = asked.query("target_info")
            (exemplar,) = asked.exemplars("chat_turn_duration_seconds_bucket", started - 60, started + 600)
    assert (scraped["health"], scraped["lastError"]) == ("up", "")
    assert set(page.accepted) == {"application/openmetrics-text; version=1.0.0; charset=utf-8"}
    assert (warnings.labels["kind"], warnings.value) == ('odd "\\\n text', 3)
    assert bucket.value == 1
    assert info.labels["service_name"] == "nursery-chat"
    assert exemplar["labels"]["trace_id"] == format_trace_id(span.get_span_context().trace_id)


@pytest.mark.parametrize(
    ("whole", "short"),
    [
        ("rate(x[5m]) > 2", "rate(x[20s]) > 2"),
        ("rate(x[5s])", "rate(x[5s])"),
        ("x[1h30m] offset 1d", "x[20s] offset 20s"),
        ("max_over_time(x[1h:5m])", "max_over_time(x[20s:1s])"),
        ("max_over_time(x[1h:])", "max_over_time(x[20s:1s])"),
        ("x offset 500ms", "x offset 500ms"),
        ('x{name=~"[5m]?"} offset 1w', 'x{name=~"[5m]?"} offset 20s'),
        ("a[6h] > 1 or b[3d] unless b offset 3d", "a[20s] > 1 or b[20s] unless b offset 20s"),
    ],
)
def test_ranges_are_cut(whole: str, short: str) -> None:
    """No range and no offset of an expression is longer than asked for; what only looks like one stays."""
    assert shortened(whole, 20) == short
