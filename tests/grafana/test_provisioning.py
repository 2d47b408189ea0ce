"""What Prometheus and Grafana are told: scrapes, data sources and dashboards, and how they lead to each other."""

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import promql_parser

from tests.grafana.composed import (
    FOLDER,
    PROVISIONING,
    SERVICES,
    data_sources,
    environment_of,
    leaves,
    outside,
    prometheus_file,
    read_yaml,
)
from tests.grafana.documented_keys import DASHBOARD_PROVIDER, DATA_SOURCES
from tests.needs import need_program
from tests.server.test_ops import COUNTERS, GAUGES, HISTOGRAMS


def test_prometheus_takes_its_configuration(tmp_path: Path) -> None:
    """`promtool check config` finds it right, with the rules and the token's file where the container has them."""
    promtool = need_program("promtool", "apt-get install prometheus")
    done = subprocess.run(
        [promtool, "check", "config", prometheus_file(tmp_path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "--enable-feature=exemplar-storage" in SERVICES["prometheus"]["command"]


def test_a_trace_leads_to_its_metrics_by_the_service_name() -> None:
    """The job under which the server is scraped is the name under which it traces."""
    jobs = {scrape["job_name"]: scrape for scrape in read_yaml(FOLDER / "prometheus.yaml")["scrape_configs"]}
    server = jobs[environment_of("server")["OTEL_SERVICE_NAME"]]
    assert server["static_configs"] == [{"targets": ["server:8000"]}]
    tags = [
        source["jsonData"]["tracesToMetrics"]["tags"] for source in (data_sources()["tempo"], data_sources()["jaeger"])
    ]
    assert tags == [[{"key": "service.name", "value": "job"}]] * 2


def test_data_sources_lead_to_each_other() -> None:
    """A metric's exemplar leads to its trace in Tempo and in Jaeger, and a span of either to metrics."""
    sources = data_sources()
    assert sources.keys() == {"prometheus", "tempo", "jaeger"}
    destinations = sources["prometheus"]["jsonData"]["exemplarTraceIdDestinations"]
    assert [(to["name"], to["datasourceUid"]) for to in destinations] == [("trace_id", "tempo"), ("trace_id", "jaeger")]
    assert {sources[uid]["jsonData"]["tracesToMetrics"]["datasourceUid"] for uid in ("tempo", "jaeger")} == {
        "prometheus"
    }
    assert [uid for uid, source in sources.items() if source.get("isDefault")] == ["prometheus"]


def test_provisioned_keys_are_documented() -> None:
    """Each key of each data source and of the dashboards' provider stands in Grafana's documentation."""
    for uid, source in data_sources().items():
        assert {key for key, _ in leaves(source)} - DATA_SOURCES[source["type"]] == set(), uid
    (file,) = (PROVISIONING / "dashboards").glob("*.yaml")
    for provider in read_yaml(file)["providers"]:
        assert {key for key, _ in leaves(provider)} - DASHBOARD_PROVIDER == set()


def test_every_dollar_of_grafanas_is_written_twice() -> None:
    """Provisioning files read a single `$` as the environment's, and would leave nothing of `$__tags`."""
    for path in PROVISIONING.rglob("*.yaml"):
        text = re.sub(r"(?m)#.*$", "", path.read_text("utf-8"))
        assert "$" not in text.replace("$$", ""), path.name


def test_the_queries_from_a_trace_are_about_metrics_that_exist() -> None:
    """Each query behind a span parses, and asks for series that /metrics has."""
    known = {f"{name}_{end}" for name in HISTOGRAMS.values() for end in ("bucket", "count", "sum")}
    known |= {*GAUGES.values(), *(f"{name}_total" for name in COUNTERS.values())}
    queries = [query["query"] for query in data_sources()["tempo"]["jsonData"]["tracesToMetrics"]["queries"]]
    assert queries == [query["query"] for query in data_sources()["jaeger"]["jsonData"]["tracesToMetrics"]["queries"]]
    for query in queries:
        asked = query.replace("$$__tags", 'job="nursery-chat"')
        promql_parser.parse(asked)
        assert set(re.findall(r"([a-z_]+)\{", asked)) <= known, query


def test_dashboards_are_where_grafana_looks() -> None:
    """The provider's folder is the mounted one; its files are the five dashboards, and ask provisioned data sources."""
    (file,) = (PROVISIONING / "dashboards").glob("*.yaml")
    (provider,) = read_yaml(file)["providers"]
    dashboards = [
        json.loads(path.read_text("utf-8")) for path in outside("grafana", provider["options"]["path"]).glob("*.json")
    ]
    assert {dashboard["uid"] for dashboard in dashboards} == {
        "nursery-turns", "nursery-limiter", "nursery-canary", "nursery-data-safety", "nursery-process",
    }  # fmt: skip
    asked = {
        uid for dashboard in dashboards for uid in _data_source_uids(dashboard) if not uid.startswith(("$", "-- "))
    }
    assert asked <= data_sources().keys()
    assert outside("grafana", "/etc/grafana/provisioning") == PROVISIONING


def _data_source_uids(part: Any) -> Iterator[str]:
    if isinstance(part, dict):
        source = part.get("datasource")
        if isinstance(source, dict) and "uid" in source:
            yield source["uid"]
        for inner in part.values():
            yield from _data_source_uids(inner)
    elif isinstance(part, list):
        for inner in part:
            yield from _data_source_uids(inner)
