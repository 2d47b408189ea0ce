"""What those who run the server see: health, metrics, turns, settings; and who may see it."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import httpx
import pytest

from app.edge.connection import MAX_AHEAD_BYTES
from app.turn import Shortfall
from telemetry import names
from tests.server.neighbours import database_host, model_host
from tests.server.process import AT_ONCE, ServerProcess, running
from tests.server.streaming import stream
from tests.server.wire import chat_head, connected, problem
from tests.telemetry.exposition import Read, read

OPENMETRICS = {"accept": "application/openmetrics-text; version=1.0.0"}
OPS_PATHS = ("/metrics", "/ops/turns", "/ops/settings", "/ops/outbox", "/ops/support", "/ops/console")
HISTOGRAMS = {
    names.HTTP_SERVER_DURATION: "http_server_request_duration_seconds",
    names.TURN_DURATION: "chat_turn_duration_seconds",
    names.TURN_OVERHEAD: "chat_turn_overhead_duration_seconds",
    names.TURN_FIRST_TOKEN: "chat_turn_time_to_first_token_seconds",
    names.HISTORY_SIZE: "chat_history_size_bytes",
    names.STAGE_DURATION: "chat_stage_duration_seconds",
    names.GEN_AI_DURATION: "gen_ai_client_operation_duration_seconds",
    names.GEN_AI_FIRST_CHUNK: "gen_ai_client_operation_time_to_first_chunk_seconds",
    names.GEN_AI_TOKENS: "gen_ai_client_token_usage",
    names.LIMITER_WAIT: "llm_limiter_wait_duration_seconds",
    names.TRIO_LOOP_LAG: "trio_loop_lag_seconds",
}
GAUGES = {
    names.USERS_ACTIVE: "chat_users_active",
    names.LIMITER_TOTAL_GAUGE: "llm_limiter_total",
    names.LIMITER_BORROWED_GAUGE: "llm_limiter_borrowed",
    names.LIMITER_WAITING_GAUGE: "llm_limiter_waiting",
    names.PACER_WAITING_GAUGE: "llm_pacer_waiting",
    names.TURNS_INFLIGHT: "edge_turns_inflight",
    names.CONNECTIONS: "edge_connections",
    names.DRAINING: "edge_draining",
    names.BREAKER_STATE: "breaker_state",
    names.OUTBOX_DEPTH: "outbox_depth",
    names.OUTBOX_AGE: "outbox_oldest_age_seconds",
    names.OUTBOX_PAUSED: "outbox_paused",
    names.UPSTREAM_CONNECTIONS: "upstream_connections",
    names.UPSTREAM_WAITING: "upstream_waiting",
    names.TRIO_TASKS: "trio_tasks_living",
    names.MEMORY_USAGE: "process_memory_usage_bytes",
}
COUNTERS = {
    names.WARNINGS: "chat_warnings",
    names.PACER_REFUSALS: "llm_pacer_refusals",
    names.UPSTREAM_REJECTIONS: "llm_upstream_rejections",
    names.FALLBACKS: "chat_fallbacks",
    names.RATE_LIMITED: "chat_rate_limited",
    names.REFUSALS: "edge_refusals",
    names.DROPS: "edge_drops",
    names.OUTBOX_REPLAYS: "outbox_replays",
    names.OTEL_DROPPED: "otel_dropped",
    names.LIMITER_CHANGES: "llm_limiter_changes",
    names.CPU_TIME: "process_cpu_time_seconds",
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with running(tmp_path_factory.mktemp("data"), CHAT_PROMPT_MAX_CHARS="1500") as process:
        for _ in range(2):  # the second one's history does not fit: a warning
            process.answer(f"{AT_ONCE} What is a hypothesis? ".ljust(500, "?"), user="ops")
        stream(process, f"Stream {AT_ONCE}", user="ops")
        refused = {"message": "Fail [[fault: http 401 invalid_api_key]]"}
        process.ask(refused["message"], user="ops")
        process.http.post(
            "/conversation-agent/chat", json={**refused, "mock_mode": False}, headers={"authorization": "Bearer ops"}
        )
        with connected(process) as wire:
            wire.send(b"no HTTP at all\r\n\r\n")
            assert wire.response().status_code == 400
        with connected(process) as wire:
            ask = b'{"message": "Wait [[fault: stall after=1]]"}'
            wire.send(chat_head(len(ask), "ops") + ask + b"x" * (MAX_AHEAD_BYTES + 1))
            process.wait_for_log("connection.dropped", reason="sent_ahead")
        process.wait_for_gauge("edge_turns_inflight", 0)
        yield process


def metrics(server: ServerProcess) -> dict[str, Read]:
    return read(server.http.get("/metrics", headers=OPENMETRICS).text)


def turns(server: ServerProcess, **query: Any) -> list[dict[str, Any]]:
    response = server.http.get("/ops/turns", params=query)
    assert response.status_code == 200, response.text
    found: list[dict[str, Any]] = response.json()["turns"]
    return found


@pytest.mark.parametrize(
    ("path", "body"), [("/healthz", {"status": "alive"}), ("/readyz", {"status": "ready", "degraded": []})]
)
def test_health_is_words_only(server: ServerProcess, path: str, body: dict[str, Any]) -> None:
    """Whoever asks, from any host, is told words and no figures."""
    response = server.http.get(path, headers={"host": "load-balancer.internal"})
    assert (response.status_code, response.json()) == (200, body)


def test_every_metric_is_on_the_page(server: ServerProcess) -> None:
    """Each metric of `telemetry/names.py` stands in /metrics under its Prometheus name, as what it is."""
    families = metrics(server)
    tables = {"histogram": HISTOGRAMS, "gauge": GAUGES, "counter": COUNTERS}
    kinds = {name: kind for kind, table in tables.items() for name in table.values()}
    assert {name: family.kind for name, family in families.items() if name != "target"} == kinds


def test_no_metric_is_forgotten_here() -> None:
    """The tables above name every metric that `telemetry/names.py` has in its chapter of metrics."""
    source = Path(names.__file__).read_text()
    chapter = source.partition("# Metrics.\n")[2].partition("\n\n")[0]
    constants = {getattr(names, line.partition(":")[0]) for line in chapter.splitlines()}
    assert constants == {*HISTOGRAMS, *GAUGES, *COUNTERS}


def test_the_labels_are_the_documented_ones(server: ServerProcess) -> None:
    """Histograms have the documented labels and no others, so that no id can be among them."""
    families = metrics(server)
    labels = {
        name: {label for _, pairs in families[name].samples for label, _ in pairs} - {"le"}
        for name in HISTOGRAMS.values()
    }
    model = {"gen_ai_operation_name", "gen_ai_provider_name", "gen_ai_request_model"}
    assert labels == {
        "http_server_request_duration_seconds": {
            "http_request_method",
            "http_route",
            "http_response_status_code",
            "url_scheme",
        }
        | ({"error_type"} & labels["http_server_request_duration_seconds"]),
        "chat_turn_duration_seconds": {"plan", "surface", "outcome"},
        "chat_turn_overhead_duration_seconds": {"plan", "outcome"},
        "chat_turn_time_to_first_token_seconds": {"plan", "surface"},
        "chat_history_size_bytes": set(),
        "chat_stage_duration_seconds": {"stage", "outcome", "plan"},
        "gen_ai_client_operation_duration_seconds": {*model, "error_type"},
        "gen_ai_client_operation_time_to_first_chunk_seconds": model,
        "gen_ai_client_token_usage": {*model, "gen_ai_token_type"},
        "llm_limiter_wait_duration_seconds": {"outcome"},
        "trio_loop_lag_seconds": set(),
    }


def test_the_classic_page_has_the_same_samples(server: ServerProcess) -> None:
    """Who does not ask for OpenMetrics gets the classic text, which tells of the same series."""
    response = server.http.get("/metrics")
    assert response.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    counters = "|".join(COUNTERS.values())
    as_openmetrics = re.sub(rf"^(# \w+ (?:{counters}))_total ", r"\1 ", response.text, flags=re.MULTILINE)
    classic = read(as_openmetrics + "# EOF\n")
    families = metrics(server)
    assert set(classic) == {"target_info" if name == "target" else name for name in families}
    for name in HISTOGRAMS.values():
        assert set(families[name].samples) >= set(classic[name].samples)


def test_the_openmetrics_page_says_what_it_is(server: ServerProcess) -> None:
    """Who asks for OpenMetrics is given it, by its own content type."""
    response = server.http.get("/metrics", headers=OPENMETRICS)
    assert response.headers["content-type"] == "application/openmetrics-text; version=1.0.0; charset=utf-8"


def test_an_exemplar_leads_to_the_turn(server: ServerProcess) -> None:
    """The exemplar on a turn's duration is that turn's trace id and exactly its total time."""
    body = server.answer("Lead me there [[fault: slow first=0.35 each=0]]", user="exemplar")
    found = metrics(server)["chat_turn_duration_seconds"].exemplars.values()
    exemplars = {labels["trace_id"]: value for labels, value, _ in found}
    assert exemplars[body["trace_id"]] == body["performance_metrics"]["total_time"]


def test_a_scrape_is_no_exemplar(server: ServerProcess) -> None:
    """What is only read at a scrape carries no trace: the scrape's own would lead nowhere."""
    families = metrics(server)
    for name in ("process_cpu_time_seconds", "llm_limiter_changes", "otel_dropped"):
        assert families[name].samples
        assert not families[name].exemplars


def test_the_users_of_the_last_minutes_are_counted(server: ServerProcess) -> None:
    """`chat_users_active` counts no user twice; rarely the sketch takes one for another."""
    before = server.gauge("chat_users_active")
    for user in ("count-1", "count-2", "count-1"):
        server.answer(f"Count me {AT_ONCE}", user=user)
    assert server.gauge("chat_users_active") - before in (1, 2)


def test_the_last_turns_are_listed(server: ServerProcess) -> None:
    """/ops/turns has the newest turn first, with the reply's own ids and figures, and no text."""
    body = server.answer(f"List me, please {AT_ONCE}", user="listed")
    response = server.http.get("/ops/turns")
    assert re.fullmatch(r"[0-9a-f]{12}", response.json()["instance"])
    assert response.json()["scope"] == "process"
    newest = response.json()["turns"][0]
    for field in ("turn_id", "trace_id", "conversation_id", "performance_metrics"):
        assert newest[field] == body[field]
    assert (newest["outcome"], newest["error_type"], newest["surface"]) == ("ok", None, "chat")
    assert "List me" not in response.text
    assert "listed" not in response.text


def test_turns_are_filtered_by_outcome(server: ServerProcess) -> None:
    """`outcome` gives the turns that ended so."""
    (failed,) = turns(server, outcome="upstream_error")
    assert failed["error_type"] == "invalid_api_key"
    assert {turn["outcome"] for turn in turns(server, outcome="degraded")} == {"degraded"}
    assert turns(server, outcome="timeout") == []


def test_turns_are_filtered_by_their_time(server: ServerProcess) -> None:
    """`min_seconds` gives the turns that took at least so long."""
    slow = server.answer("Slowly [[fault: slow first=0.6 each=0]]", user="slow")
    assert slow["turn_id"] in {turn["turn_id"] for turn in turns(server, min_seconds=0.6)}
    assert all(turn["performance_metrics"]["total_time"] >= 0.6 for turn in turns(server, min_seconds=0.6))
    assert turns(server, min_seconds=0.6, outcome="shed") == []
    assert turns(server, min_seconds=1e9) == []


@pytest.mark.parametrize("query", ["min_seconds=soon", "min_seconds=", "min_seconds=nan", "outcome=fine", "outcome="])
def test_a_filter_that_is_none_is_refused(server: ServerProcess, query: str) -> None:
    """A filter with a value that it cannot have is 422, and named."""
    body = problem(server.http.get(f"/ops/turns?{query}"), 422, "invalid_request")
    assert body["errors"][0].startswith(query.partition("=")[0])


@pytest.mark.parametrize("path", OPS_PATHS)
@pytest.mark.parametrize("host", ["evil.example", "localhost.evil.example"])
def test_without_a_token_a_foreign_host_finds_nothing(server: ServerProcess, path: str, host: str) -> None:
    """Without OPS_TOKEN, a page that points a name of its own at loopback is told that there is nothing."""
    problem(server.http.get(path, headers={"host": host}), 404, "not_found")


SECRETS = {
    "OPS_TOKEN": "canary-ops-token",
    "OPENAI_API_KEY": "sk-canary-model-key",
    "SUPABASE_KEY": "sb_secret_canary-database-key",
    "TELEMETRY_HASH_KEY": "canary-hash-key",
}
BEARER = {"authorization": f"Bearer {SECRETS['OPS_TOKEN']}"}


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    folder = tmp_path_factory.mktemp("guarded")
    with (
        model_host() as model,
        database_host(folder / "supabase.sqlite3") as database,
        running(
            folder / "server",
            OPENAI_BASE_URL=f"{model.url}/v1",
            SUPABASE_URL=database.url,
            AUTH_MODE="dev",
            **SECRETS,
        ) as process,
    ):
        yield process


@pytest.mark.parametrize("path", OPS_PATHS)
@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"authorization": "Bearer"},
        {"authorization": "Bearer demo"},
        {"authorization": "Bearer canary-ops-toke"},
        {"authorization": "Bearer canary-ops-token2"},
        {"authorization": "Bearer \u00e9"},
    ],
    ids=["none", "empty", "a user", "short", "long", "not ASCII"],
)
def test_with_a_token_set_nobody_else_looks(guarded: ServerProcess, path: str, headers: dict[str, str]) -> None:
    """With OPS_TOKEN set, who does not bear it is 401, on loopback too."""
    raw = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
    response = guarded.http.get(path, headers=raw)
    problem(response, 401, "unauthenticated")
    assert response.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize("path", OPS_PATHS)
def test_the_bearer_of_the_token_looks(guarded: ServerProcess, path: str) -> None:
    """Who bears OPS_TOKEN may look, by whatever name the server is reached."""
    assert guarded.http.get(path, headers=BEARER | {"host": "chat.internal"}).status_code == 200


@pytest.mark.parametrize(
    ("name", "label", "values"),
    [
        ("chat_warnings", "kind", frozenset(get_args(Shortfall))),
        ("chat_fallbacks", "kind", frozenset({"model", "heuristic", "plan", "study"})),
        ("llm_upstream_rejections", "code", frozenset({"rate_limit_exceeded", "slow_down", "insufficient_quota"})),
    ],
)
def test_what_has_not_happened_yet_is_counted_as_nothing(
    guarded: ServerProcess, name: str, label: str, values: frozenset[str]
) -> None:
    """Each kind stands on the page with 0 until it happens, so that Prometheus sees the first one as a rise."""
    page = read(guarded.http.get("/metrics", headers=BEARER | OPENMETRICS).text)
    counts = {dict(labels)[label]: value for (_, labels), value in page[name].samples.items()}
    assert {counts.get(value) for value in values} == {0}


def test_the_settings_are_shown_masked(guarded: ServerProcess) -> None:
    """/ops/settings shows every setting in force; secrets are asterisks."""
    shown = guarded.http.get("/ops/settings", headers=BEARER).json()["settings"]
    assert (shown["AUTH_MODE"], shown["LLM_TIMEOUT"], shown["REDIS_URL"]) == ("dev", 40.0, None)
    assert {name: shown[name] for name in SECRETS} == dict.fromkeys(SECRETS, "**********")


def test_a_secret_is_in_no_answer(guarded: ServerProcess) -> None:
    """No answer, body or header, of success or failure, holds a secret; nor does the log."""
    responses = [guarded.http.get(path, headers=BEARER) for path in (*OPS_PATHS, "/readyz", "/nowhere")]
    responses += [guarded.ask(text) for text in ("Secrets?", "Fail [[fault: http 401 invalid_api_key]]", "")]
    said = [f"{response.headers} {response.text}" for response in responses]
    assert [response.status_code for response in responses] == [200, 200, 200, 200, 200, 200, 200, 404, 200, 502, 400]
    for secret in SECRETS.values():
        assert not any(secret in text for text in [*said, guarded.log_text, guarded.stdout])


def test_ops_do_not_open_the_chat(guarded: ServerProcess) -> None:
    """The ops token is no user's token: a user it would name does not exist."""
    response: httpx.Response = guarded.ask("Let me in", user=SECRETS["OPS_TOKEN"])
    problem(response, 401, "unauthenticated")
