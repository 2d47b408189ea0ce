"""Around every request: its server span, its duration, and the two ids that every response carries.

Outermost in the app, so that the span is current for all that happens inside. An incoming `traceparent` joins the
trace; whether it may also decide the sampling depends on who sent it (telemetry/sampling.py).
"""

import ipaddress
import logging
import re
import secrets
import time
import uuid
from collections.abc import Awaitable, Callable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from hypercorn.typing import ASGIFramework, ASGIReceiveCallable, ASGISendCallable, ASGISendEvent, HTTPScope, Scope
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

from app.edge.reply import SAFE_HEADERS, edge_reply
from app.errors import Contained, InternalFault
from app.respond.language import preferred_language
from telemetry import names
from telemetry.sampling import untrusted

log = logging.getLogger(__name__)

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
REQUEST_ID = re.compile(r"[A-Za-z0-9._:/+=-]{1,128}")


@dataclass(slots=True)
class RequestFacts:
    """What the edge knows of a request; the router fills in the route, a turn its plan."""

    request_id: str
    trace_id: str
    route: str | None = None
    status: int | None = None
    plan: str | None = None
    at_end: list[Callable[[], None]] = field(default_factory=list)
    """What is to be done when the request is over, however it ended: its answer may never have begun."""


REQUEST: ContextVar[RequestFacts] = ContextVar("nursery_chat.request")
"""The request that the current task serves."""


@dataclass(frozen=True, slots=True)
class Observe:
    """An ASGI app around `app`."""

    app: ASGIFramework
    tracer: Tracer
    duration: Histogram
    trusted: Sequence[Network] = ()
    _propagator: TraceContextTextMapPropagator = field(default_factory=TraceContextTextMapPropagator)

    async def __call__(self, scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        """Serve one request, observed."""
        if scope["type"] != "http":  # the lifespan; there are no websockets here (app/edge/http1.py)
            await self.app(scope, receive, send)
            return
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        parent = self._parent(headers, scope.get("client"))
        method = scope["method"] if scope["method"] in METHODS else "_OTHER"
        start = time.perf_counter()
        span = self.tracer.start_span(
            method if method in METHODS else "HTTP",
            parent,
            SpanKind.SERVER,
            {names.HTTP_METHOD: method, names.URL_SCHEME: scope["scheme"]},
        )
        facts = RequestFacts(_request_id(headers), _trace_id(span, parent))
        REQUEST.set(facts)
        context = set_span_in_context(span)
        token = otel_context.attach(context)
        try:
            await self._answer(scope, receive, send, facts, headers)
        finally:
            otel_context.detach(token)
            for act in facts.at_end:
                act()
            self._end(span, facts, method, scope, time.perf_counter() - start, context)

    async def _answer(
        self,
        scope: HTTPScope,
        receive: ASGIReceiveCallable,
        send: ASGISendCallable,
        facts: RequestFacts,
        headers: dict[str, str],
    ) -> None:
        """Have the app answer. What it fails with is logged once, here; what it has not begun to answer is a 500."""
        with Contained(log_failure):
            await self.app(scope, receive, _with_headers(send, facts))
            return
        if facts.status is None:
            language = preferred_language(headers.get("accept-language", ""))
            reply = edge_reply(InternalFault("internal_error"), facts.trace_id, facts.request_id, language)
            facts.status = reply.status
            await send({"type": "http.response.start", "status": reply.status, "headers": reply.headers})
            body = reply.body if scope["method"] != "HEAD" else b""
            await send({"type": "http.response.body", "body": body, "more_body": False})

    def _parent(self, headers: dict[str, str], client: Any) -> Context:
        context = self._propagator.extract(headers, Context())
        return context if self._trusts(client) else untrusted(context)

    def _trusts(self, client: Any) -> bool:
        try:
            return _within(client[0], tuple(self.trusted))
        except (TypeError, ValueError, IndexError):
            return False

    def _end(
        self, span: Span, facts: RequestFacts, method: str, scope: HTTPScope, seconds: float, context: Context
    ) -> None:
        labels: dict[str, str | int] = {names.HTTP_METHOD: method, names.URL_SCHEME: scope["scheme"]}
        if facts.route is not None:
            labels[names.HTTP_ROUTE] = facts.route
            span.set_attribute(names.URL_PATH, facts.route)
            span.update_name(f"{method} {facts.route}")
        if facts.status is not None:
            labels[names.HTTP_STATUS] = facts.status
        error = "cancelled" if facts.status is None else str(facts.status) if facts.status >= 500 else None
        if error is not None:
            labels[names.ERROR_TYPE] = error
            span.set_status(Status(StatusCode.ERROR))
        span.set_attributes(labels)
        if facts.plan is not None:
            span.set_attribute(names.CHAT_PLAN, facts.plan)
        span.end()
        self.duration.record(seconds, labels, context=context)


@lru_cache(1024)
def _within(address: str, networks: tuple[Network, ...]) -> bool:
    parsed = ipaddress.ip_address(address)
    return any(parsed in network for network in networks)


def _with_headers(send: ASGISendCallable, facts: RequestFacts) -> Callable[[ASGISendEvent], Awaitable[None]]:
    async def send_with_headers(message: ASGISendEvent) -> None:
        if message["type"] == "http.response.start":
            facts.status = message["status"]
            own = {name.lower() for name, _value in message["headers"]}
            safe = [pair for pair in SAFE_HEADERS if pair[0] not in own]
            ids = [(b"x-request-id", facts.request_id.encode()), (b"x-trace-id", facts.trace_id.encode())]
            message = {**message, "headers": [*message["headers"], *ids, *safe]}
        await send(message)

    return send_with_headers


def log_failure(error: BaseException) -> None:
    """Log what a handler failed with, under the ids that its caller was given."""
    facts = REQUEST.get()
    ids = {"trace_id": facts.trace_id, "request_id": facts.request_id, "route": facts.route}
    log.error("request.failed", exc_info=error, extra=ids)


def _request_id(headers: dict[str, str]) -> str:
    given = headers.get("x-request-id", "")
    return given if REQUEST_ID.fullmatch(given) else str(uuid.uuid4())


def _trace_id(span: Span, parent: Context) -> str:
    """Return the trace's id; with telemetry off, the caller's, or a random one."""
    for context in (span.get_span_context(), get_current_span(parent).get_span_context()):
        if context.is_valid:
            return format_trace_id(context.trace_id)
    return secrets.token_hex(16)
