"""Whether a collector takes what we export: one empty export, by the SDK's own exporter as the environment sets it up.

It blocks, for `LONGEST_S` at the most; the SDK reads the standard OTEL_* variables by itself, as in
`telemetry/providers.py`.
"""

import time
from typing import Any
from urllib.parse import urlsplit

import requests
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.metrics.export import MetricsData

from app.clients.probing import HostAnswer, NoteClock, Signal

LONGEST_S = 3.0
COLLECTOR = "the collector"


def export_nothing(signal: Signal, note: NoteClock) -> HostAnswer:
    """Export nothing, and return how that was answered; `note` is told of the answer."""
    with _Noting(note) as session:
        try:
            if signal == "traces":
                OTLPSpanExporter(session=session, timeout=LONGEST_S).export(())
            else:
                OTLPMetricExporter(session=session, timeout=LONGEST_S).export(MetricsData(resource_metrics=[]))
        except (ValueError, OSError) as exc:  # a variable that the SDK cannot read, a certificate that is not there
            return HostAnswer(host=COLLECTOR, code=type(exc).__name__)
        return session.noted


class _Noting(requests.Session):
    """Notes the first answer, or the error that there was instead."""

    def __init__(self, note: NoteClock) -> None:
        super().__init__()
        self.noted = HostAnswer(host=COLLECTOR, code="nothing was sent")
        self._note = note
        self._asked = False

    def send(self, request: requests.PreparedRequest, **options: Any) -> requests.Response:
        """Send, and note what comes of it."""
        parts = urlsplit(request.url or "")
        host, first, self._asked = parts.netloc.rpartition("@")[2], not self._asked, True
        where, asked_at = f"{host}{parts.path}", time.time()
        try:
            response = super().send(request, **options)
        except requests.RequestException as exc:
            if first:
                self.noted = HostAnswer(host=where, code=type(exc).__name__)
            raise
        if first:
            seconds = response.elapsed.total_seconds()
            self.noted = HostAnswer(host=where, status=response.status_code, seconds=seconds)
            self._note(host, response.headers, asked_at, seconds)
        return response
