"""What the collector and Tempo are told, judged by their documentation and by what the server's traces hold."""

import re
from typing import Any, get_args

import grafana
from app.settings import Settings
from telemetry import names
from tests.grafana.composed import FOLDER, SERVICES, data_sources, environment_of, leaves, read_yaml, seconds
from tests.grafana.documented_keys import COLLECTOR, COLLECTOR_SERVICE, OTTL_WORDS, POLICIES, STATUS_CODES, TEMPO

COLLECTOR_FILE = FOLDER / "otel-collector.yaml"


def policies() -> dict[str, dict[str, Any]]:
    found = read_yaml(COLLECTOR_FILE)["processors"]["tail_sampling"]["policies"]
    return {policy["name"]: policy[policy["type"]] for policy in found}


def _of_component(kind: str, name: str, value: Any) -> list[str]:
    """Return the keys of a component that its documentation does not have."""
    documented = COLLECTOR[kind][name.partition("/")[0]]
    return [f"{name}: {key}" for key, _ in leaves(value) if key not in documented]


def test_the_collectors_keys_are_documented() -> None:
    """Each key of each component stands in its documentation."""
    config = read_yaml(COLLECTOR_FILE)
    for policy in config["processors"]["tail_sampling"]["policies"]:
        inside = policy.pop(policy["type"], {})
        assert {key for key, _ in leaves(inside)} <= POLICIES[policy["type"]], policy["name"]
        assert policy.keys() == {"name", "type"}
    kinds = {kind: config[kind].items() for kind in COLLECTOR}
    assert [wrong for kind, all_of in kinds.items() for one in all_of for wrong in _of_component(kind, *one)] == []
    service = {key for key, _ in leaves(config["service"]) if not key.startswith("pipelines.")}
    assert service - COLLECTOR_SERVICE == set()
    assert config.keys() - COLLECTOR.keys() == {"service"}


def test_the_collectors_pipelines_are_whole() -> None:
    """Each pipeline names defined components, all that are defined are used, and nothing is batched undecided."""
    config = read_yaml(COLLECTOR_FILE)
    pipelines = config["service"]["pipelines"].values()
    for kind in ("receivers", "processors", "exporters"):
        assert {name for pipeline in pipelines for name in pipeline[kind]} == set(config[kind]), kind
    assert set(config["service"]["extensions"]) == set(config["extensions"])
    assert [pipeline["processors"] for pipeline in pipelines] == [["memory_limiter", "tail_sampling", "batch"]]


def test_sampling_waits_for_a_turn_to_end() -> None:
    """A trace is judged later than its turn's last span can come: by default, and as compose.yaml sets the server."""
    config = read_yaml(COLLECTOR_FILE)["processors"]["tail_sampling"]
    told = environment_of("server")
    turn = float(told.get("TURN_TIMEOUT", Settings.model_fields["turn_timeout"].default))
    batch = float(told.get("OTEL_BSP_SCHEDULE_DELAY", 5000)) / 1000
    assert seconds(config["decision_wait"]) >= turn + batch + 5
    assert min(config["decision_cache"].values()) >= 10 * config["num_traces"]


def test_what_went_wrong_is_kept() -> None:
    """Errors, slow turns, every outcome but `ok` and the caller's own faults are kept; in this demo the rest, too."""
    kept = policies()
    assert kept["errors"] == {"status_codes": ["ERROR"]}
    assert set(kept["errors"]["status_codes"]) <= STATUS_CODES
    (slow,) = [search.text for search in grafana.searches() if search.panel == "Slow turns"]
    (listed_s,) = re.findall(r"duration > (\d+)s", slow)
    assert kept["slow"]["threshold_ms"] == 1000 * int(listed_s)
    assert kept["not-ok"]["key"] == names.CHAT_OUTCOME
    assert set(kept["not-ok"]["values"]) == set(get_args(names.Outcome)) - {"ok", "refused"}
    assert kept["set-aside"]["key"] == names.OUTBOX_SET_ASIDE
    assert kept["set-aside"]["min_value"] == 1, "a round that delivered all its rows is one of the rest"
    assert kept["share"]["sampling_percentage"] == 100


def test_the_condition_names_spans_of_ours() -> None:
    """The condition on single spans has balanced brackets, documented words, and stages that have a span."""
    (condition,) = policies()["slow-without-the-model"]["span"]
    spans = re.findall(r'"([^"]*)"', condition)
    assert set(spans) == {names.DB_FETCH, names.LLM_QUEUE, names.DB_SAVE}
    assert set(re.findall(r"[a-z_]+", re.sub(r'"[^"]*"', "", condition))) <= OTTL_WORDS
    assert condition.count("(") == condition.count(")")


def test_both_trace_stores_are_sent_to_where_they_listen() -> None:
    """The collector's exporters name Jaeger and Tempo, and Tempo listens there."""
    sent = {one["endpoint"] for one in read_yaml(COLLECTOR_FILE)["exporters"].values()}
    tempo = read_yaml(FOLDER / "tempo.yaml")
    port = tempo["distributor"]["receivers"]["otlp"]["protocols"]["grpc"]["endpoint"].rpartition(":")[2]
    assert sent == {"jaeger:4317", f"tempo:{port}"}
    assert {source["url"] for source in data_sources().values()} >= {
        f"http://tempo:{tempo['server']['http_listen_port']}"
    }
    (volume,) = [text for text in SERVICES["tempo"]["volumes"] if text.startswith("tempo-data")]
    stored = tempo["storage"]["trace"]
    assert all(path.startswith(volume.split(":")[1]) for path in (stored["wal"]["path"], stored["local"]["path"]))


def test_tempos_keys_are_documented() -> None:
    """Each key of Tempo's file stands in its documentation."""
    assert {key for key, _ in leaves(read_yaml(FOLDER / "tempo.yaml"))} - TEMPO == set()
