"""Judges what spans and metrics are called by OpenTelemetry's own packages, and by our closed tables.

The packages have names, units and closed values; types, and what is required of whom, are copied from the conventions'
pages (HTTP spans and metrics 1.4x, stable; GenAI, in development; process metrics).
"""

import importlib
from collections.abc import Callable, Iterator, Mapping
from enum import Enum
from types import ModuleType
from typing import Any

from opentelemetry.semconv._incubating.attributes.cpu_attributes import CpuModeValues
from opentelemetry.semconv._incubating.attributes.gen_ai_attributes import (
    GenAiOperationNameValues,
    GenAiTokenTypeValues,
)
from opentelemetry.semconv._incubating.metrics import gen_ai_metrics, process_metrics
from opentelemetry.semconv.attributes.http_attributes import HttpRequestMethodValues
from opentelemetry.semconv.metrics import http_metrics

from tests.receivers import ReceivedMetric, ReceivedSpan

SERVER, CLIENT = 2, 3  # kinds of spans, in OTLP's numbers
ERROR = 2
STABLE = ("error", "http", "network", "server", "service", "telemetry", "url", "user_agent")
INCUBATING = ("cpu", "gen_ai", "session", "user")

OURS: Mapping[str, type] = {
    "chat.plan": str,
    "chat.surface": str,
    "chat.fallback": str,
    "chat.outcome": str,
    "chat.turn.id": str,
    "chat.history.count": int,
    "chat.context.present": bool,
    "limiter.total": int,
    "limiter.waiting": int,
    "queue.position": int,
    "save.mode": str,
    "save.deferred": bool,
    "outbox.rows": int,
    "outbox.delivered": int,
    "outbox.set_aside": int,
    "outbox.failed": int,
    "openai.response.request_id": str,  # which the conventions' openai.* do not have
}
THEIRS: Mapping[str, type] = {
    "error.type": str,
    "user.id": str,
    "session.id": str,
    "http.request.method": str,
    "http.response.status_code": int,
    "http.route": str,
    "url.full": str,
    "url.path": str,
    "url.scheme": str,
    "server.address": str,
    "server.port": int,
    "network.peer.address": str,
    "network.peer.port": int,
    "network.protocol.version": str,
    "gen_ai.operation.name": str,
    "gen_ai.provider.name": str,
    "gen_ai.conversation.id": str,
    "gen_ai.request.model": str,
    "gen_ai.request.temperature": float,
    "gen_ai.request.max_tokens": int,
    "gen_ai.request.stream": bool,
    "gen_ai.response.id": str,
    "gen_ai.response.model": str,
    "gen_ai.response.finish_reasons": list,
    "gen_ai.response.time_to_first_chunk": float,
    "gen_ai.usage.input_tokens": int,
    "gen_ai.usage.output_tokens": int,
    "gen_ai.usage.cache_read.input_tokens": int,
}
EVENTS: Mapping[str, Mapping[str, type]] = {
    "first_chunk": {},
    "retry_scheduled": {"error.type": str, "retry.wait": float, "openai.response.request_id": str},
    "fallback": {"error.type": str, "gen_ai.request.model": str, "openai.response.request_id": str},
    "paced": {"llm.paced.wait": float},
}
VALUES: Mapping[str, type[Enum]] = {
    "http.request.method": HttpRequestMethodValues,
    "gen_ai.operation.name": GenAiOperationNameValues,
    "gen_ai.token.type": GenAiTokenTypeValues,
    "cpu.mode": CpuModeValues,
}
"""Attributes whose values are closed; what is none of them must be one of our tables' own."""

HTTP_SERVER = {"http.request.method", "url.scheme"}
"""And `url.path`, but where no route matched: what a stranger wrote there is not exported, as an unknown method's
`http.request.method_original` is not."""
HTTP_CLIENT = {"http.request.method", "url.full", "server.address", "server.port"}
GEN_AI = {"gen_ai.operation.name", "gen_ai.provider.name", "gen_ai.request.model", "server.address", "server.port"}
GEN_AI_ANSWERED = {
    "gen_ai.response.id",
    "gen_ai.response.model",
    "gen_ai.response.finish_reasons",
    "gen_ai.response.time_to_first_chunk",
    "gen_ai.usage.input_tokens",
    "gen_ai.usage.output_tokens",
}


def defined() -> set[str]:
    """Return the attributes that the packages define: those that are stable, and of the others those we follow."""
    return {
        value
        for package, names in (("", STABLE), ("_incubating.", INCUBATING))
        for name in names
        for key, value in vars(_module(f"{package}attributes.{name}_attributes")).items()
        if key.isupper() and isinstance(value, str)
    }


def _module(name: str) -> ModuleType:
    return importlib.import_module(f"opentelemetry.semconv.{name}")


def wrong_with(span: ReceivedSpan) -> Iterator[str]:
    """Yield what is wrong with a span's attributes and events, as sentences."""
    known = {**OURS, **THEIRS}
    for name, value in span.attributes.items():
        if name not in known:
            yield f"{name} is unknown"
        elif type(value) is not known[name]:
            yield f"{name} is {value!r}"
        elif name in VALUES and value not in {each.value for each in VALUES[name]}:
            yield f"{name} has no value {value!r}"
    for name, attributes in span.events:
        if name not in EVENTS:
            yield f"event {name} is unknown"
        elif any(type(value) is not EVENTS[name].get(key) for key, value in attributes.items()):
            yield f"event {name} has {attributes}"
    if missing := required(span) - span.attributes.keys():
        yield f"{sorted(missing)} are missing"
    yield from _wrong_errors(span)


def required(span: ReceivedSpan) -> set[str]:
    """Return what a span must have, by its kind and by what it says already."""
    attributes = span.attributes
    if span.kind == SERVER:
        return HTTP_SERVER | ({"url.path"} if "http.route" in attributes else set())
    if span.kind != CLIENT:
        return set()
    if "gen_ai.operation.name" not in attributes:
        return HTTP_CLIENT
    return GEN_AI | (GEN_AI_ANSWERED if span.status[0] != ERROR else set())


def _wrong_errors(span: ReceivedSpan) -> Iterator[str]:
    """`error.type` stands where the status is ERROR, and nowhere else, but for calls that were given up."""
    error, status = span.attributes.get("error.type"), span.attributes.get("http.response.status_code")
    given_up = span.kind == CLIENT and error == "cancelled"
    if (span.status[0] == ERROR) != (error is not None) and not given_up:
        yield f"error.type is {error}, the status {span.status[0]}"
    if status is not None and status >= (400 if span.kind == CLIENT else 500) and error != str(status):
        yield f"error.type is {error} at {status}"


PLAN, OUTCOME = "plan", "outcome"
METRICS: Mapping[str, tuple[set[str], set[str]]] = {
    "http.server.request.duration": (
        {"http.request.method", "url.scheme"},
        {"http.route", "http.response.status_code", "error.type"},
    ),
    "gen_ai.client.operation.duration": (
        {"gen_ai.operation.name", "gen_ai.provider.name", "gen_ai.request.model"},
        {"error.type"},
    ),
    "gen_ai.client.operation.time_to_first_chunk": (
        {"gen_ai.operation.name", "gen_ai.provider.name", "gen_ai.request.model"},
        set(),
    ),
    "gen_ai.client.token.usage": (
        {"gen_ai.operation.name", "gen_ai.provider.name", "gen_ai.request.model", "gen_ai.token.type"},
        set(),
    ),
    "process.cpu.time": ({"cpu.mode"}, set()),
    "process.memory.usage": (set(), set()),
    "chat.turn.duration": ({PLAN, "surface", OUTCOME}, set()),
    "chat.turn.overhead.duration": ({PLAN, OUTCOME}, set()),
    "chat.turn.time_to_first_token": ({PLAN, "surface"}, set()),
    "chat.stage.duration": ({"stage", OUTCOME, PLAN}, set()),
    "chat.history.size": (set(), set()),
    "chat.fallbacks": ({"kind"}, set()),
    "chat.warnings": ({"kind"}, set()),
    "chat.users.active": (set(), set()),
    "chat.rate_limited": ({"kind"}, set()),
    "llm.limiter.total": ({"mode"}, set()),
    "llm.limiter.borrowed": ({"mode"}, set()),
    "llm.limiter.waiting": ({"mode"}, set()),
    "llm.limiter.wait.duration": ({OUTCOME}, set()),
    "llm.limiter.changes": ({"reason"}, set()),
    "llm.pacer.refusals": ({"reason"}, set()),
    "llm.pacer.waiting": (set(), set()),
    "llm.upstream.rejections": ({"code"}, set()),
    "edge.turns.inflight": (set(), set()),
    "edge.connections": (set(), set()),
    "edge.draining": (set(), set()),
    "edge.refusals": ({"kind"}, set()),
    "edge.drops": ({"kind"}, set()),
    "breaker.state": ({"target"}, set()),
    "upstream.connections": ({"target", "state"}, set()),
    "upstream.waiting": ({"target"}, set()),
    "outbox.depth": ({"state"}, set()),
    "outbox.oldest.age": (set(), set()),
    "outbox.paused": (set(), set()),
    "outbox.replays": ({OUTCOME}, set()),
    "otel.dropped": ({"signal"}, set()),
    "trio.loop.lag": (set(), set()),
    "trio.tasks.living": (set(), set()),
}
"""Every metric, with the attributes that it must have and those that it may have besides."""


class _Catalogue:
    """A meter that tells what the packages would have made with it."""

    def __init__(self) -> None:
        self.made: dict[str, tuple[str, bool, str]] = {}

    def create_histogram(self, *, name: str, unit: str, **_more: Any) -> None:
        self.made[name] = ("histogram", False, unit)

    def create_counter(self, *, name: str, unit: str, **_more: Any) -> None:
        self.made[name] = ("sum", True, unit)

    def create_up_down_counter(self, *, name: str, unit: str, **_more: Any) -> None:
        self.made[name] = ("sum", False, unit)

    def __getattr__(self, _name: str) -> Callable[..., None]:
        return lambda **_more: None


def catalogue() -> Mapping[str, tuple[str, bool, str]]:
    """Return what the packages define: by name the kind, whether it only rises, and the unit."""
    meter = _Catalogue()
    for module in (http_metrics, gen_ai_metrics, process_metrics):
        for name, create in vars(module).items():
            if name.startswith("create_"):
                create(meter, *([None] if "callbacks" in create.__code__.co_varnames else []))
    meter.made["http.server.request.duration"] = ("histogram", False, "s")  # there by name only
    return meter.made


def wrong_with_metric(metric: ReceivedMetric) -> Iterator[str]:
    """Yield what is wrong with a metric, as sentences."""
    if metric.name not in METRICS:
        yield "it is unknown"
        return
    must, may = METRICS[metric.name]
    for attributes, _count, _value in metric.points:
        if must - attributes.keys() or attributes.keys() - must - may:
            yield f"it has {sorted(attributes)}"
        for name, value in attributes.items():
            if name in VALUES and value not in {each.value for each in VALUES[name]}:
                yield f"{name} has no value {value!r}"
    told = (metric.kind, metric.rises, metric.unit)
    if told != catalogue().get(metric.name, told):
        yield f"it is {told}"
