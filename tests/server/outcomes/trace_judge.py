"""Judges one turn's trace by what TELEMETRY.md says of it, and what `/metrics` counted by the trace.

A case says what cannot be derived (`Turn`); the rest must follow from the spans: one record per stage, as long as its
span, under its outcome; one turn, one wait for a slot, the model's calls, first chunks and tokens.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass, field
from typing import Any

from tests.receivers import ReceivedSpan
from tests.server.outcomes.house import MODEL
from tests.telemetry.exposition import Labels, Read

CHAT = f"chat {MODEL}"
ERROR = 2  # a span's status, in OTLP's numbers
HTTP_CALLS = ("GET", "POST", "PATCH")
ERRORS = {
    "cancelled": "cancelled",
    "not_found": "refused",
    "idempotency_mismatch": "refused",
    "queue_full": "shed",
    "queue_timeout": "shed",
    "predicted_wait": "shed",
    "XX000": "upstream_error",
    "invalid_api_key": "upstream_error",
    "RemoteProtocolError": "upstream_error",
    **{
        f"timeout.{stage}": "timeout"
        for stage in ("db_fetch", "llm", "llm.first_token", "llm.idle", "save.user", "db_save")
    },
}
"""Every `error.type` that a stage has in these cases, and the outcome under which its histogram counts it."""

REFUSED_AT_THE_DOOR = ("queue_full", "predicted_wait")
"""What counts as a wait of no time: the gate has its say before anything is read."""

Samples = Counter[tuple[str, Labels]]
"""How often a histogram or counter counted, by its name on the page and its labels."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """What is to be seen of one turn.

    Args:
        tree: the paths of the spans under `chat.turn`, with those of the requests to the hosts.
        error: the turn's `error.type`.
        failed: the other spans that are errors, with their `error.type`, or what it may be.
        says: what spans say besides, by path.
        events: of the model's span.
        finish: how the stored answer ended; None where nothing is stored.
        known: whether the turn came to know its conversation.
        status: of the HTTP answer; None where the client left before it.
    """

    tree: tuple[str, ...]
    outcome: str = "ok"
    error: str | None = None
    plan: str = "concurrent"
    surface: str = "chat"
    fallback: str | None = None
    failed: Mapping[str, str | tuple[str | None, ...]] = field(default_factory=dict)
    says: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    events: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    finish: str | None = "stop"
    known: bool = True
    route: str = "/chat"
    status: int | None = 200


class Trace:
    """The spans of one trace; the paths of those under its turn's span begin there."""

    def __init__(self, spans: Iterable[ReceivedSpan]) -> None:
        self.spans = list(spans)
        self._by_id = {span.span_id: span for span in self.spans}
        assert len(self._by_id) == len(self.spans), "a span came twice"
        (self.root,) = [span for span in self.spans if not span.parent_id]
        (self.turn,) = [span for span in self.spans if span.name == "chat.turn"]
        self.paths: dict[str, list[ReceivedSpan]] = {}
        for span in self.spans:
            self.paths.setdefault(self._path(span), []).append(span)

    def under_turn(self) -> Counter[str]:
        """Return how often there is each path under the turn's span."""
        top = f"{self.root.name}/chat.turn/"
        return Counter(self._path(span)[len(top) :] for span in self.spans if self._path(span).startswith(top))

    def at(self, path: str) -> list[ReceivedSpan]:
        """Return the spans of a path under the turn's span."""
        return self.paths[f"{self.root.name}/chat.turn/{path}"]

    def stages(self) -> list[tuple[str, ReceivedSpan]]:
        """Return every stage with its span, the turn's own not among them."""
        return [(_stage(path), span) for path in self.under_turn() if _is_ours(path) for span in self.at(path)]

    def _path(self, span: ReceivedSpan) -> str:
        if not span.parent_id:
            return span.name
        assert span.parent_id in self._by_id, f"the parent of {span.name} never arrived"
        return f"{self._path(self._by_id[span.parent_id])}/{span.name}"


def _is_ours(path: str) -> bool:
    return path.rpartition("/")[2] not in HTTP_CALLS


def _stage(path: str) -> str:
    """Return the stage of a span: the model's is the reply, or the study beside it, which lies right under `agent`."""
    parent, _, name = path.rpartition("/")
    return name if name != CHAT else "agent.study" if parent == "agent" else "llm"


def seconds(span: ReceivedSpan) -> float:
    return (span.end_ns - span.start_ns) / 1e9


def judge_spans(trace: Trace, turn: Turn, users: Set[str]) -> None:
    """Check tree, statuses, attributes and events of a turn's trace."""
    assert trace.root.name == f"POST {turn.route}"
    assert trace.root.attributes.get("http.response.status_code") == turn.status
    assert trace.under_turn() == Counter(turn.tree)
    own = {
        "chat.outcome": turn.outcome,
        "chat.plan": turn.plan,
        "chat.surface": turn.surface,
        "chat.fallback": turn.fallback,
        "error.type": turn.error,
    }
    assert {name: trace.turn.attributes.get(name) for name in own} == own
    assert {name for name in trace.turn.attributes if name.startswith("chat.")} - own.keys() == {"chat.turn.id"}
    _judge_errors(trace, turn)
    for path, attributes in turn.says.items():
        (span,) = trace.at(path)
        assert {name: span.attributes.get(name) for name in attributes} == dict(attributes), path
    events = tuple(name for path, span in _ours(trace) if _stage(path) == "llm" for name, _ in span.events)
    assert events == turn.events, [span.events for path, span in _ours(trace) if _stage(path) == "llm"]
    _judge_ids(trace, turn, users)


def _judge_errors(trace: Trace, turn: Turn) -> None:
    failed: dict[str, Any] = {}
    for path, span in [("", trace.turn), *_ours(trace)]:
        error = span.attributes.get("error.type")
        assert (error is not None) == (span.status[0] == ERROR), path
        assert trace.turn.start_ns <= span.start_ns <= span.end_ns <= trace.turn.end_ns, path
        if error is not None:
            failed[path] = error
    allowed = {"": turn.error, **turn.failed}
    for path in failed.keys() | allowed.keys():
        may = allowed.get(path)
        assert failed.get(path) in (may if isinstance(may, tuple) else (may,)), path


def _ours(trace: Trace) -> list[tuple[str, ReceivedSpan]]:
    return [(path, span) for path in trace.under_turn() if _is_ours(path) for span in trace.at(path)]


def _judge_ids(trace: Trace, turn: Turn, users: Set[str]) -> None:
    assert trace.turn.attributes["user.id"] in users
    ids = {trace.turn.attributes.get("session.id")}
    for _path, span in [("chat.turn", trace.turn), *_ours(trace)]:
        assert span.attributes["user.id"] == trace.turn.attributes["user.id"]
        assert span.attributes["chat.plan"] == turn.plan
        ids |= {span.attributes.get("session.id"), span.attributes.get("gen_ai.conversation.id")}
    assert len(ids) == 1
    assert (ids != {None}) == turn.known
    all_of_turn = [trace.root, *(span for path in trace.under_turn() for span in trace.at(path))]
    assert {span.attributes.get("chat.plan") for span in all_of_turn} == {turn.plan}


def due(traces: Iterable[tuple[Trace, Turn]]) -> tuple[Samples, Mapping[tuple[str, Labels], float]]:
    """Return what turns must have counted, and the sums of their stages and of themselves."""
    counts: Samples = Counter()
    sums: dict[tuple[str, Labels], float] = {}

    def add(name: str, length: float | None = None, /, times: int = 1, **labels: str) -> None:
        key = name, tuple(sorted(labels.items()))
        counts[key] += times
        if length is not None:
            sums[key] = sums.get(key, 0.0) + length

    for trace, turn in traces:
        plan, surface, outcome = turn.plan, turn.surface, turn.outcome
        add("chat_turn_duration_seconds", seconds(trace.turn), plan=plan, surface=surface, outcome=outcome)
        add("chat_turn_overhead_duration_seconds", plan=plan, outcome=outcome)
        if turn.error in REFUSED_AT_THE_DOOR and not turn.tree:
            add("llm_limiter_wait_duration_seconds", 0.0, outcome="shed")
        for stage, span in trace.stages():
            ended = _outcome(span)
            add("chat_stage_duration_seconds", seconds(span), stage=stage, outcome=ended, plan=plan)
            if stage == "agent.study" and ended != "ok":
                add("chat_fallbacks_total", kind="study")
            if stage == "llm.queue":
                how = {"ok": "admitted", "shed": "shed"}.get(ended, "abandoned")
                add("llm_limiter_wait_duration_seconds", seconds(span), outcome=how)
            elif span.name == CHAT:
                _of_the_model(span, add)
        if turn.known:
            add("chat_history_size_bytes")
        if surface == "stream" and "first_chunk" in turn.events:
            add("chat_turn_time_to_first_token_seconds", plan=plan, surface=surface)
        for warning in turn.warnings:
            add("chat_warnings_total", kind=warning)
        if turn.fallback is not None:
            add("chat_fallbacks_total", kind=turn.fallback)
    return counts, sums


def _outcome(span: ReceivedSpan) -> str:
    return ERRORS[span.attributes["error.type"]] if "error.type" in span.attributes else "ok"


def _of_the_model(span: ReceivedSpan, add: Any) -> None:
    labels = {
        "gen_ai_operation_name": "chat",
        "gen_ai_provider_name": "127.0.0.1",
        "gen_ai_request_model": span.attributes["gen_ai.request.model"],
    }
    failed = {"error_type": span.attributes["error.type"]} if "error.type" in span.attributes else {}
    add("gen_ai_client_operation_duration_seconds", seconds(span), **labels, **failed)
    for name, _attributes in span.events:
        if name == "first_chunk":
            waited_s = span.attributes["gen_ai.response.time_to_first_chunk"]
            add("gen_ai_client_operation_time_to_first_chunk_seconds", waited_s, **labels)
    for kind in ("input", "output"):
        if (tokens := span.attributes.get(f"gen_ai.usage.{kind}_tokens")) is not None:
            add("gen_ai_client_token_usage", tokens, **labels, gen_ai_token_type=kind)


COUNTED = (
    "chat_turn_duration_seconds",
    "chat_turn_overhead_duration_seconds",
    "chat_turn_time_to_first_token_seconds",
    "chat_stage_duration_seconds",
    "chat_history_size_bytes",
    "chat_warnings",
    "chat_fallbacks",
    "gen_ai_client_operation_duration_seconds",
    "gen_ai_client_operation_time_to_first_chunk_seconds",
    "gen_ai_client_token_usage",
    "llm_limiter_wait_duration_seconds",
)
"""The families that turns count in, each of which is judged whole."""


def risen(before: Mapping[str, Read], after: Mapping[str, Read], suffixes: tuple[str, ...]) -> dict[Any, float]:
    """Return by how much the samples of `COUNTED` rose, by name and labels; those that did not are left out."""
    found: dict[Any, float] = {}
    for name in COUNTED:
        old = before[name].samples if name in before else {}
        for (suffix, labels), value in (after[name].samples if name in after else {}).items():
            if suffix in suffixes and (rise := value - old.get((suffix, labels), 0.0)):
                found[name + suffix.replace("_count", "").replace("_sum", ""), tuple(sorted(labels))] = rise
    return found
