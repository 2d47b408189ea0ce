"""OTLP receivers for tests: one in this process that misbehaves on demand, and the independent agent rotel."""

import gzip
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Literal

import rotel
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.metrics.v1.metrics_pb2 import HistogramDataPoint

Mode = Literal["normal", "fail", "swallow"]
WAIT_S = 20.0  # far beyond any export here: a test that reaches it has found a fault


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceivedSpan:
    """A span as it arrived; ids in hex, `parent_id` empty for a root. Links are trace id, span id and attributes."""

    name: str
    kind: int
    trace_id: str
    span_id: str
    parent_id: str
    attributes: dict[str, Any]
    events: list[tuple[str, dict[str, Any]]]
    links: list[tuple[str, str, dict[str, Any]]]
    status: tuple[int, str]
    start_ns: int
    end_ns: int
    resource: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceivedMetric:
    """A metric as one export told it. `points`: attributes, with a histogram's count and sum, else count 1 and value.

    `bounds` are a histogram's; `rises` is whether a sum is monotonic.
    """

    name: str
    unit: str
    kind: str
    rises: bool
    bounds: tuple[float, ...]
    points: list[tuple[dict[str, Any], int, float]]


@dataclass(slots=True)
class OtlpReceiver:
    """An OTLP/HTTP collector on a loopback port. Set `mode` at any time; it holds for the requests that come then."""

    mode: Mode = "normal"
    url: str = ""
    spans: list[ReceivedSpan] = field(default_factory=list)
    metrics: list[str] = field(default_factory=list)
    exports: list[list[ReceivedMetric]] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    requests: int = 0
    changed: threading.Condition = field(default_factory=threading.Condition)
    closing: threading.Event = field(default_factory=threading.Event)

    def wait_for(self, predicate: Callable[[], bool], timeout_s: float = WAIT_S) -> None:
        """Return as soon as `predicate` holds; it is asked again after each request. Blocks: not for the Trio loop."""
        with self.changed:
            assert self.changed.wait_for(predicate, timeout_s), (
                f"not received: have {[span.name for span in self.spans]}"
            )

    def named(self, name: str) -> list[ReceivedSpan]:
        """Return the spans called `name`, in order of arrival."""
        return [span for span in self.spans if span.name == name]

    def take(self, path: str, body: bytes) -> int:
        """Note a request and return the status to answer with, or 0 to never answer."""
        with self.changed:
            self.requests += 1
            if self.mode == "normal":
                self.bodies.append(body)
                if path == "/v1/traces":
                    self.spans.extend(_spans(ExportTraceServiceRequest.FromString(body)))
                else:
                    self.exports.append(list(_metrics(ExportMetricsServiceRequest.FromString(body))))
                    self.metrics.extend(metric.name for metric in self.exports[-1])
            self.changed.notify_all()
        return {"normal": 200, "fail": 500, "swallow": 0}[self.mode]


@contextmanager
def otlp_receiver(mode: Mode = "normal") -> Iterator[OtlpReceiver]:
    """Run an `OtlpReceiver`; its thread and sockets are gone afterwards."""
    receiver = OtlpReceiver(mode)
    server = _Server(("127.0.0.1", 0), _handler(receiver))
    receiver.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield receiver
    finally:
        receiver.closing.set()
        server.shutdown()
        thread.join()
        server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = False  # so that closing waits for them

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Be silent: a client that has gone is what some tests are about."""


def _handler(receiver: OtlpReceiver) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = 5

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            if self.headers.get("content-encoding") == "gzip":
                body = gzip.decompress(body)
            status = receiver.take(self.path, body)
            if not status:
                receiver.closing.wait()
                return
            self.send_response(status)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
            """Be silent."""

    return Handler


def _spans(request: ExportTraceServiceRequest) -> Iterator[ReceivedSpan]:
    for resource in request.resource_spans:
        for scope in resource.scope_spans:
            for span in scope.spans:
                yield ReceivedSpan(
                    name=span.name,
                    kind=span.kind,
                    trace_id=span.trace_id.hex(),
                    span_id=span.span_id.hex(),
                    parent_id=span.parent_span_id.hex(),
                    attributes=_attributes(span.attributes),
                    events=[(event.name, _attributes(event.attributes)) for event in span.events],
                    links=[(to.trace_id.hex(), to.span_id.hex(), _attributes(to.attributes)) for to in span.links],
                    status=(span.status.code, span.status.message),
                    start_ns=span.start_time_unix_nano,
                    end_ns=span.end_time_unix_nano,
                    resource=_attributes(resource.resource.attributes),
                )


def _metrics(request: ExportMetricsServiceRequest) -> Iterator[ReceivedMetric]:
    for resource in request.resource_metrics:
        for scope in resource.scope_metrics:
            for metric in scope.metrics:
                kind = metric.WhichOneof("data")
                data = getattr(metric, kind)
                yield ReceivedMetric(
                    name=metric.name,
                    unit=metric.unit,
                    kind=kind,
                    rises=getattr(data, "is_monotonic", False),
                    bounds=tuple(data.data_points[0].explicit_bounds) if kind == "histogram" else (),
                    points=[(_attributes(point.attributes), *_reading(point)) for point in data.data_points],
                )


def _reading(point: Any) -> tuple[int, float]:
    if isinstance(point, HistogramDataPoint):
        return point.count, point.sum
    return 1, getattr(point, point.WhichOneof("value"))


def _attributes(pairs: Any) -> dict[str, Any]:
    return {pair.key: _value(pair.value) for pair in pairs if isinstance(pair, KeyValue)}


def _value(value: AnyValue) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_value(item) for item in value.array_value.values]
    return getattr(value, kind) if kind else None


class RotelReceiver:
    """The agent rotel on a loopback port: a second opinion, which prints each span that reaches it."""

    def __init__(self, process: subprocess.Popen[str], port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.lines: list[str] = []
        self._process = process
        self._changed = threading.Condition()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    @property
    def text(self) -> str:
        """Everything printed so far."""
        return "".join(self.lines)

    def wait_for(self, predicate: Callable[[str], bool], timeout_s: float = WAIT_S) -> str:
        """Return what was printed, as soon as `predicate` of it holds. Blocks: not for the Trio loop."""
        with self._changed:
            assert self._changed.wait_for(lambda: predicate(self.text), timeout_s), self.text
            return self.text

    def spans(self) -> list[str]:
        """Return the printed spans, one text each."""
        return [f"Span #{part}" for part in self.text.split("\nSpan #")[1:]]

    def close(self) -> None:
        """End the agent and its reader."""
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join()
        assert self._process.stdout
        self._process.stdout.close()

    def _read(self) -> None:
        assert self._process.stdout
        for line in self._process.stdout:
            with self._changed:
                self.lines.append(line)
                self._changed.notify_all()


@contextmanager
def rotel_receiver() -> Iterator[RotelReceiver]:
    """Run rotel until the block ends; it listens when this yields."""
    http, grpc = _free_port(), _free_port()
    command = [str(Path(rotel.__file__).with_name("rotel-agent")), "start", "--exporter", "blackhole"]
    command += ["--otlp-http-endpoint", f"127.0.0.1:{http}", "--otlp-grpc-endpoint", f"127.0.0.1:{grpc}"]
    command += ["--debug-log", "traces", "--debug-log-verbosity", "detailed", "--disable-batching"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    agent = RotelReceiver(process, http)
    try:
        _until_listening(http, process)
        yield agent
    finally:
        agent.close()


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def _until_listening(port: int, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + WAIT_S
    while process.poll() is None and time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except ConnectionRefusedError:
            threading.Event().wait(0.02)  # the agent offers no readiness but its port
        else:
            return
    raise AssertionError(f"rotel does not listen; exit code {process.poll()}")
