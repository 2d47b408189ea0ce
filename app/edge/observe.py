"""Around every request: its server span, its duration, and the two ids that every response carries.

Outermost in the app, so that the span is current for all that happens inside. An incoming `traceparent` joins the
trace; whether it may also decide the sampling depends on who sent it (telemetry/sampling.py).
"""

import ipaddress
import re
import secrets
import time
import uuid
from collections.abc import Awaitable, Callable, Sequence
from contextlib import nullcontext, suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

import trio
from hypercorn.typing import ASGIFramework, ASGIReceiveCallable, ASGISendCallable, ASGISendEvent, Scope
from opentelemetry import context as otel_context
from opentelemetry.context import Context
from opentelemetry.metrics import Histogram
from opentelemetry.trace import (
    Span,
    SpanKind,
    Status,
    StatusCode,
    Tracer,
    format_trace_id,
    get_current_span,
    set_span_in_context,
)
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from app.deadlines import shielded
from telemetry import names
from telemetry.sampling import untrusted

LAST_SEND_S = 10.0
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
REQUEST_ID = re.compile(r"[A-Za-z0-9._:/+=-]{1,128}")


@dataclass(slots=True)
class RequestFacts:
    """What the edge knows of a request; the router fills in the route."""

    request_id: str
    trace_id: str
    route: str | None = None
    status: int | None = None


REQUEST: ContextVar[RequestFacts] = ContextVar("nursery_chat.request")
"""The request that the current task serves."""


@dataclass(frozen=True, slots=True)
class Observe:
    """An ASGI app around `app`."""

    app: ASGIFramework
    tracer: Tracer
    duration: Histogram
    trusted: Sequence[ipaddress.IPv4Network | ipaddress.IPv6Network] = ()
    _propagator: TraceContextTextMapPropagator = field(default_factory=TraceContextTextMapPropagator)

    async def __call__(self, scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        """Serve one request, observed. There are no websockets here, so their handshakes are refused (403)."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":
            await receive()
            await send({"type": "websocket.close", "code": 1000, "reason": ""})
            return
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        parent = self._parent(headers, scope.get("client"))
        method = scope["method"] if scope["method"] in METHODS else "_OTHER"
        start = time.perf_counter()
        span = self.tracer.start_span(
            method, parent, SpanKind.SERVER, {names.HTTP_METHOD: method, names.URL_SCHEME: scope["scheme"]}
        )
        facts = RequestFacts(_request_id(headers), _trace_id(span, parent))
        REQUEST.set(facts)
        context = set_span_in_context(span)
        token = otel_context.attach(context)
        try:
            await self.app(scope, receive, _with_ids(send, facts))
        finally:
            otel_context.detach(token)
            self._end(span, facts, method, time.perf_counter() - start, context)

    def _parent(self, headers: dict[str, str], client: Any) -> Context:
        context = self._propagator.extract(headers, Context())
        return context if self._trusts(client) else untrusted(context)

    def _trusts(self, client: Any) -> bool:
        try:
            address = ipaddress.ip_address(client[0])
        except (TypeError, ValueError, IndexError):
            return False
        return any(address in network for network in self.trusted)

    def _end(self, span: Span, facts: RequestFacts, method: str, seconds: float, context: Context) -> None:
        labels: dict[str, str | int] = {names.HTTP_METHOD: method}
        if facts.route is not None:
            labels[names.HTTP_ROUTE] = facts.route
            span.update_name(f"{method} {facts.route}")
        if facts.status is not None:
            labels[names.HTTP_STATUS] = facts.status
        error = "cancelled" if facts.status is None else str(facts.status) if facts.status >= 500 else None
        if error is not None:
            labels[names.ERROR_TYPE] = error
            span.set_status(Status(StatusCode.ERROR))
        span.set_attributes(labels)
        span.end()
        self.duration.record(seconds, labels, context=context)


def _with_ids(send: ASGISendCallable, facts: RequestFacts) -> Callable[[ASGISendEvent], Awaitable[None]]:
    async def send_with_ids(message: ASGISendEvent) -> None:
        if message["type"] == "http.response.start":
            facts.status = message["status"]
            ids = [(b"x-request-id", facts.request_id.encode()), (b"x-trace-id", facts.trace_id.encode())]
            message = {**message, "headers": [*message["headers"], *ids]}
        last = message["type"] == "http.response.body" and not message.get("more_body", False)
        # The last send, cut off, would leave its connection blocked; a busy connection is one that is being closed.
        with shielded(LAST_SEND_S) if last else nullcontext(), suppress(trio.BusyResourceError):
            await send(message)

    return send_with_ids


def _request_id(headers: dict[str, str]) -> str:
    given = headers.get("x-request-id", "")
    return given if REQUEST_ID.fullmatch(given) else str(uuid.uuid4())


def _trace_id(span: Span, parent: Context) -> str:
    """Return the trace's id; with telemetry off, the caller's, or a random one."""
    for context in (span.get_span_context(), get_current_span(parent).get_span_context()):
        if context.is_valid:
            return format_trace_id(context.trace_id)
    return secrets.token_hex(16)
