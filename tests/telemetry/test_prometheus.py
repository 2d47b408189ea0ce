"""The page /metrics, judged by a real Prometheus that scrapes it."""

import json
import socket
import subprocess
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import format_trace_id, set_span_in_context

from telemetry.openmetrics import Scrape
from tests.needs import need_program

WAIT_S = 30.0


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


@contextmanager
def prometheus(program: str, port: int, folder: Path) -> Iterator[str]:
    """Run a Prometheus that scrapes `port` twice a second; yields its API's address."""
    config = folder / "prometheus.yml"
    job = {"job_name": "chat", "scrape_interval": "500ms", "scrape_timeout": "500ms"}
    job["static_configs"] = [{"targets": [f"127.0.0.1:{port}"]}]  # type: ignore[assignment]
    config.write_text(json.dumps({"scrape_configs": [job]}))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        listen = f"127.0.0.1:{free.getsockname()[1]}"
    command = [program, f"--config.file={config}", f"--storage.tsdb.path={folder / 'data'}"]
    command += [f"--web.listen-address={listen}", "--enable-feature=exemplar-storage"]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            yield f"http://{listen}/api/v1"
        finally:
            process.terminate()
            process.wait(20)


def ask(api: str, path: str, **parameters: str) -> Any:
    """Return `data` of an answer of Prometheus's API."""
    with urllib.request.urlopen(f"{api}/{path}?{urllib.parse.urlencode(parameters)}", timeout=10) as answer:
        return json.load(answer)["data"]


def test_prometheus_stores_values_and_exemplars(tmp_path: Path) -> None:
    """Prometheus scrapes the OpenMetrics form without an error and finds buckets, counters and the trace of a turn."""
    program = need_program("prometheus", "apt-get install prometheus")
    reader = InMemoryMetricReader()
    resource = Resource({"service.name": "nursery-chat"})
    meter = MeterProvider([reader], resource, shutdown_on_exit=False).get_meter("test")
    span = TracerProvider(shutdown_on_exit=False).get_tracer("test").start_span("turn")
    meter.create_counter("chat.warnings").add(3, {"kind": 'odd "\\\n text'})
    duration = meter.create_histogram("chat.turn.duration", unit="s", explicit_bucket_boundaries_advisory=[0.1, 1, 10])
    duration.record(0.5, {"outcome": "ok"}, context=set_span_in_context(span))
    started = time.time()
    with target(Scrape(reader.get_metrics_data)) as page, prometheus(program, page.port, tmp_path) as api:
        page.wait_for_scrapes(3)  # so that the first two are stored
        (scraped,) = ask(api, "targets")["activeTargets"]
        (warnings,) = ask(api, "query", query="chat_warnings_total")["result"]
        (bucket,) = ask(api, "query", query='chat_turn_duration_seconds_bucket{le="1.0"}')["result"]
        (info,) = ask(api, "query", query="target_info")["result"]
        (found,) = ask(
            api,
            "query_exemplars",
            query="chat_turn_duration_seconds_bucket",
            start=str(started - 60),
            end=str(started + 600),
        )
    assert (scraped["health"], scraped["lastError"]) == ("up", "")
    assert set(page.accepted) == {"application/openmetrics-text; version=1.0.0; charset=utf-8"}
    assert (warnings["metric"]["kind"], warnings["value"][1]) == ('odd "\\\n text', "3")
    assert bucket["value"][1] == "1"
    assert info["metric"]["service_name"] == "nursery-chat"
    assert found["exemplars"][0]["labels"]["trace_id"] == format_trace_id(span.get_span_context().trace_id)
