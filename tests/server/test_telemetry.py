"""Telemetry as it leaves the process: one turn between real hosts, and everything a collector received of it."""

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from telemetry import names
from tests.receivers import OtlpReceiver, ReceivedSpan, otlp_receiver
from tests.server.neighbours import Neighbour, database_host, model_host
from tests.server.process import ServerProcess, run_command, running
from tests.server.rows import turn_rows
from tests.telemetry.exposition import Read, read

SERVER, CLIENT, INTERNAL = 2, 3, 1  # kinds of spans, in OTLP's numbers
OPENMETRICS = {"accept": "application/openmetrics-text; version=1.0.0"}
USER, MESSAGE, CONTEXT = "canary-user", "canary-message", "canary-context"
SECRETS = {"OPENAI_API_KEY": "sk-canary-model-key", "SUPABASE_KEY": "canary-head.canary-payload.canary-signature"}
STAGE_SPANS = {
    "db_fetch": "db_fetch_time",
    "llm.queue": "llm_queue_time",
    "chat some-model": "llm_response_time",
    "db_save": "db_save_time",
    "chat.turn": "total_time",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Witnessed:
    """One turn, and what was left of it everywhere."""

    body: dict[str, Any]
    receiver: OtlpReceiver
    families: dict[str, Read]
    pages: str
    server: ServerProcess
    user_hash: str
    row: dict[str, Any]

    @property
    def spans(self) -> list[ReceivedSpan]:
        """The turn's spans."""
        return [span for span in self.receiver.spans if span.trace_id == self.body["trace_id"]]

    def span(self, name: str) -> ReceivedSpan:
        """Return the turn's one span of that name."""
        (span,) = [span for span in self.spans if span.name == name]
        return span


def know(database: Neighbour, server: ServerProcess) -> None:
    """Make the user and a project of theirs at the database's host."""
    for table, row in (("users", {"id": USER}), ("projects", {"id": 7, "user_id": USER, "theme": "Canaries"})):
        assert server.http.post(f"{database.url}/rest/v1/{table}", json=row).status_code == 201


@pytest.fixture(scope="module")
def turn(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Witnessed]:
    folder = tmp_path_factory.mktemp("watched")
    with otlp_receiver() as receiver, model_host() as model, database_host(folder / "supabase.sqlite3") as database:
        settings = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url,
            "OPENAI_BASE_URL": f"{model.url}/v1",
            "OPENAI_MODEL": "some-model",
            "SUPABASE_URL": database.url,
            "AUTH_MODE": "dev",
            "TELEMETRY_HASH_KEY": "k",
            **SECRETS,
        }
        with running(folder / "server", **settings) as server:
            know(database, server)
            body = server.answer(f"Is this {MESSAGE} heard?", user=USER, context=CONTEXT, page_id="project-7")
            pages = [server.http.get(path, headers=OPENMETRICS).text for path in ("/metrics", "/ops/turns")]
            assert server.end() == 0  # which sends what is left
        user_hash = run_command(folder, "hash-user", USER, TELEMETRY_HASH_KEY="k").stdout.strip()
        yield Witnessed(
            body=body,
            receiver=receiver,
            families=read(pages[0]),
            pages="".join(pages),
            server=server,
            user_hash=user_hash,
            row=turn_rows(folder, body["turn_id"])[1],
        )


def test_the_spans_are_the_documented_tree(turn: Witnessed) -> None:
    """A turn's spans arrive once each, under the documented parents, with a span per upstream request."""
    by_id = {span.span_id: span.name for span in turn.spans}
    assert Counter((by_id.get(span.parent_id, ""), span.name) for span in turn.spans) == {
        ("", "POST /chat"): 1,
        ("POST /chat", "GET"): 1,  # is there such a user?
        ("POST /chat", "chat.turn"): 1,
        ("chat.turn", "db_fetch"): 1,
        ("db_fetch", "fetch.conversation"): 1,
        ("fetch.conversation", "GET"): 2,  # is it there, and which of its page's ids is free?
        ("db_fetch", "fetch.project"): 1,
        ("fetch.project", "GET"): 1,
        ("chat.turn", "llm.queue"): 1,
        ("chat.turn", "chat some-model"): 1,
        ("chat some-model", "POST"): 1,
        ("chat.turn", "save.user"): 1,
        ("save.user", "POST"): 2,  # the conversation, then the row
        ("chat.turn", "db_save"): 1,
        ("db_save", "POST"): 1,
    }


def test_the_spans_have_their_kinds(turn: Witnessed) -> None:
    """The request is SERVER, the model and every upstream request CLIENT, the stages INTERNAL; none is an error."""
    kinds = {"POST /chat": SERVER, "chat some-model": CLIENT, "GET": CLIENT, "POST": CLIENT}
    for span in turn.spans:
        assert span.kind == kinds.get(span.name, INTERNAL), span.name
        assert span.status[0] != 2, span


def test_the_spans_are_as_long_as_the_reply_says(turn: Witnessed) -> None:
    """Each stage's span lasts exactly what performance_metrics says, to the nanosecond."""
    lengths = {name: turn.span(name).end_ns - turn.span(name).start_ns for name in STAGE_SPANS}
    said = {name: round(turn.body["performance_metrics"][key] * 1e9) for name, key in STAGE_SPANS.items()}
    assert lengths == said


def test_the_histograms_recorded_what_the_reply_says(turn: Witnessed) -> None:
    """After one turn, the sums of the histograms are exactly its performance_metrics."""
    metrics = turn.body["performance_metrics"]
    stages = {
        dict(labels)["stage"]: value
        for (suffix, labels), value in turn.families["chat_stage_duration_seconds"].samples.items()
        if suffix == "_sum"
    }
    assert {stage: stages[stage] for stage in ("db_fetch", "llm.queue", "llm", "db_save")} == {
        stage: metrics[names.PERFORMANCE_KEYS[stage]] for stage in ("db_fetch", "llm.queue", "llm", "db_save")
    }
    samples = turn.families["chat_turn_duration_seconds"].samples
    assert [value for (suffix, _), value in samples.items() if suffix == "_sum"] == [metrics["total_time"]]


def test_stages_lie_within_their_parents(turn: Witnessed) -> None:
    """No span of ours begins before the turn or ends after it, and the question is saved while the model works."""
    whole, model, save = turn.span("chat.turn"), turn.span("chat some-model"), turn.span("save.user")
    for name in (*STAGE_SPANS, "save.user", "fetch.conversation", "fetch.project"):
        assert whole.start_ns <= turn.span(name).start_ns <= turn.span(name).end_ns <= whole.end_ns
    assert save.start_ns < model.end_ns
    assert turn.span("fetch.project").start_ns < turn.span("fetch.conversation").end_ns


def test_every_span_of_a_turn_has_its_ids(turn: Witnessed) -> None:
    """The turn's spans carry session, conversation and the user's keyed hash, which `hash-user` gives ops."""
    assert re.fullmatch("[0-9a-f]{16}", turn.user_hash)
    ours = ("chat.turn", *STAGE_SPANS, "fetch.conversation", "fetch.project", "save.user")
    for span in map(turn.span, ours):
        assert span.attributes["user.id"] == turn.user_hash
        assert span.attributes["session.id"] == turn.body["conversation_id"], span.name
        assert span.attributes["gen_ai.conversation.id"] == turn.body["conversation_id"]


def test_the_turns_span_leads_to_its_rows_and_back(turn: Witnessed) -> None:
    """The turn's span names the turn, its plan, surface and outcome; the stored row names the trace."""
    expected = {
        "chat.turn.id": turn.body["turn_id"],
        "chat.plan": "concurrent",
        "chat.surface": "chat",
        "chat.outcome": "ok",
    }
    assert expected.items() <= turn.span("chat.turn").attributes.items()
    assert turn.row["context_data"]["trace_id"] == turn.span("chat.turn").trace_id


def test_the_models_span_follows_the_conventions(turn: Witnessed) -> None:
    """The model's span has the GenAI attributes, the usage of the reply, and the event of the first chunk."""
    span = turn.span("chat some-model")
    usage = turn.body["token_usage"]
    expected = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "127.0.0.1",
        "gen_ai.request.model": "some-model",
        "gen_ai.request.max_tokens": 800,
        "gen_ai.request.stream": True,
        "gen_ai.response.model": "scripted-tutor",
        "gen_ai.response.finish_reasons": ["stop"],
        "gen_ai.usage.input_tokens": usage["prompt_tokens"],
        "gen_ai.usage.output_tokens": usage["completion_tokens"],
        "server.address": "127.0.0.1",
    }
    assert expected.items() <= span.attributes.items()
    assert span.attributes["gen_ai.response.id"].startswith("chatcmpl-")
    assert 0.05 <= span.attributes["gen_ai.response.time_to_first_chunk"] < 5  # the scripted model's own pace
    assert [name for name, _ in span.events] == ["first_chunk"]


def test_the_other_spans_have_their_attributes(turn: Witnessed) -> None:
    """Fetch, queue, save and request say what the documentation promises of them."""
    promised: dict[str, dict[str, Any]] = {
        "db_fetch": {"chat.history.count": 0, "chat.context.present": True},
        "llm.queue": {"limiter.total": 10, "limiter.waiting": 0},
        "db_save": {"save.mode": "await", "save.deferred": False},
        "POST /chat": {"http.route": "/chat", "http.request.method": "POST", "http.response.status_code": 200},
    }
    for name, attributes in promised.items():
        assert attributes.items() <= turn.span(name).attributes.items(), name


def test_no_url_has_a_query(turn: Witnessed) -> None:
    """Upstream spans name the address that was asked, without its query, where user ids would stand."""
    urls = [span.attributes["url.full"] for span in turn.spans if span.name in ("GET", "POST")]
    assert len(urls) == 8
    assert not [url for url in urls if "?" in url]
    assert {url.partition("/rest/v1/")[2] for url in urls} == {
        "",
        "users",
        "chat_conversations",
        "projects",
        "chat_logs",
    }


def test_the_metrics_are_exported_too(turn: Witnessed) -> None:
    """The collector is sent the turn's metrics under their OpenTelemetry names."""
    expected = {names.TURN_DURATION, names.STAGE_DURATION, names.GEN_AI_DURATION, names.GEN_AI_TOKENS}
    assert expected | {names.HTTP_SERVER_DURATION, names.LIMITER_BORROWED_GAUGE} <= set(turn.receiver.metrics)


def test_the_resource_says_which_process_it_was(turn: Witnessed) -> None:
    """Spans name the service and the instance that `/ops` answers with."""
    resource = turn.span("chat.turn").resource
    (listening,) = turn.server.lines("server.listening")
    assert (resource["service.name"], resource["service.instance.id"]) == ("nursery-chat", listening["instance"])


@pytest.mark.parametrize("canary", [USER, MESSAGE, CONTEXT, *SECRETS.values(), "canary", "Canaries"])
def test_nothing_private_leaves(turn: Witnessed, canary: str) -> None:
    """User id, message, context, project and keys are in no byte sent to the collector, no log line, no ops page."""
    assert len(turn.receiver.bodies) >= 2
    assert not any(canary.encode() in body for body in turn.receiver.bodies)
    assert canary not in turn.server.log_text
    assert canary not in turn.server.stdout
    assert canary not in turn.pages
