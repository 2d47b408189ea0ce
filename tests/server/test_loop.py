"""What a server tells of its loop, its process and its connections, while somebody holds them up."""

from collections.abc import Iterator

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from app.bootstrap import _loop_watched
from app.bootstrap.gauges import watch_pools
from app.clients.pools import Pools
from telemetry import names
from telemetry.providers import build_providers
from tests.server.neighbours import database_host, model_host
from tests.server.process import AT_ONCE, ServerProcess, running
from tests.server.streaming import STALLS, opened
from tests.telemetry.exposition import Read, read

OPENMETRICS = {"accept": "application/openmetrics-text; version=1.0.0"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    folder = tmp_path_factory.mktemp("loop")
    with model_host() as model, database_host(folder / "supabase.sqlite3") as database:
        settings = {"OPENAI_BASE_URL": f"{model.url}/v1", "SUPABASE_URL": database.url, "SUPABASE_KEY": "k"}
        with running(folder / "server", "tests.server.extended", AUTH_MODE="dev", **settings) as process:
            process.answer(f"First {AT_ONCE}")
            assert (
                process.http.get("/test/stall/0.15").status_code == 200
            )  # the first observation: now there is a series
            yield process


def families(server: ServerProcess) -> dict[str, Read]:
    return read(server.http.get("/metrics", headers=OPENMETRICS).text)


def above(server: ServerProcess, bound: float) -> float:
    """Return how many observations of the loop's lag there were above a bound of its buckets."""
    samples = families(server)["trio_loop_lag_seconds"].samples
    return samples["_count", ()] - samples["_bucket", (("le", str(float(bound))),)]


def connections(server: ServerProcess) -> dict[tuple[str, ...], float]:
    """Return the connections to the hosts, by target and state."""
    samples = families(server)["upstream_connections"].samples
    return {(dict(labels)["target"], dict(labels)["state"]): value for (_, labels), value in samples.items()}


def test_each_stall_is_one_observation_of_its_length(server: ServerProcess) -> None:
    """A handler that blocks for 0.6 s is one more in the buckets above 0.5 s, and its time is in the sum."""
    before, sum_before = above(server, 0.5), server.gauge("trio_loop_lag_seconds_sum")
    for stalls in (1, 2, 3):
        assert server.http.get("/test/stall/0.6").status_code == 200
        assert above(server, 0.5) >= before + stalls
    assert server.gauge("trio_loop_lag_seconds_sum") - sum_before >= 1.8


def test_the_buckets_are_the_documented_ones(server: ServerProcess) -> None:
    """From a millisecond to ten seconds."""
    samples = families(server)["trio_loop_lag_seconds"].samples
    bounds = [dict(labels)["le"] for (suffix, labels) in samples if suffix == "_bucket"]
    assert bounds == [*(str(float(bound)) for bound in names.LOOP_BUCKETS), "+Inf"]


def test_who_computes_is_seen_in_the_cpu_time(server: ServerProcess) -> None:
    """Turns take CPU time, of both kinds, and the counter has it by `cpu_mode`."""

    def seconds() -> dict[str, float]:
        samples = families(server)["process_cpu_time_seconds"].samples
        return {dict(labels)["cpu_mode"]: value for (_, labels), value in samples.items()}

    before = seconds()
    assert before.keys() == {"user", "system"}
    server.answer(f"Again {AT_ONCE}")
    assert seconds()["user"] > before["user"]


def test_a_stream_has_a_task_and_a_connection_to_the_model(server: ServerProcess) -> None:
    """While a model's answer stalls, one connection to it is active and the turn's tasks live; afterwards not."""
    server.answer(f"First {AT_ONCE}")
    server.wait_for_gauge("edge_turns_inflight", 0)
    idle = families(server)["trio_tasks_living"].samples["", ()]
    before = connections(server)
    assert before["model", "active"] == before["database", "active"] == 0
    assert before["model", "idle"] >= 1
    assert before["database", "idle"] >= 1
    with opened(server, f"Wait {STALLS}") as stream:
        stream.deltas(1)
        assert connections(server)["model", "active"] == 1
        assert families(server)["trio_tasks_living"].samples["", ()] > idle
    server.wait_for_gauge("edge_turns_inflight", 0)
    assert connections(server)["model", "active"] == 0


def test_with_telemetry_off_nobody_watches_the_loop() -> None:
    """With OTEL_SDK_DISABLED the loop has no instrument; here, outside of Trio, making one would fail."""
    off = build_providers(
        service_version="test", instance="test", traces_endpoint_set=False, metrics_endpoint_set=False,
        sdk_disabled=True,
    )  # fmt: skip
    with _loop_watched(off) as watch:
        assert watch is None


def test_connections_and_requests_are_counted_in_their_units() -> None:
    """Exported metrics say what is counted; the names on `/metrics` are no longer for it."""
    reader = InMemoryMetricReader()
    watch_pools(MeterProvider([reader], shutdown_on_exit=False).get_meter("test"), Pools())
    data = reader.get_metrics_data()
    assert data
    units = {metric.name: metric.unit for metric in data.resource_metrics[0].scope_metrics[0].metrics}
    assert units == {names.UPSTREAM_CONNECTIONS: "{connection}", names.UPSTREAM_WAITING: "{request}"}
