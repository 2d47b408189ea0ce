"""Every expression of the dashboards and the rules, in a real Prometheus that scraped real servers under a load."""

import json
import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import yaml

import grafana
from tests.grafana import expected_empty
from tests.grafana.load import Load, played
from tests.grafana.load_script import ROUNDS
from tests.grafana.pieces import named_values, pieces_of, wanted_values
from tests.grafana.series import LABELS
from tests.prometheus import shortened

WINDOW_S = 5
"""What all ranges are cut to: a few scrapes, and short enough that an offset by as much stays within the load."""
RULES = Path(grafana.__file__).parent / "alerts" / "rules.yaml"


def rules() -> list[dict[str, Any]]:
    """Return every rule as it is committed."""
    return [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]


def quick_rules() -> str:
    """Return the rule file for a load of seconds."""
    document = yaml.safe_load(RULES.read_text())
    for group in document["groups"]:
        group.pop("interval", None)
        for rule in group["rules"]:
            rule["expr"] = shortened(rule["expr"], WINDOW_S)
            rule.pop("for", None)
            rule.pop("keep_firing_for", None)
    return json.dumps(document)


def filled_in(text: str) -> str:
    """Return a panel's expression with its variables' values."""
    window = f"{WINDOW_S}s"
    filled = grafana.substitute(text, rate_interval=window, shown=window, interval="1s")
    assert "$" not in filled.replace('"$1"', ""), f"a variable without a value: {filled}"
    return shortened(filled, WINDOW_S)


PANELS = {f"{shown.dashboard}/{shown.panel}/{shown.ref_id}": filled_in(shown.text) for shown in grafana.expressions()}
NAMED_RULES = {rule.get("alert") or rule["record"]: shortened(rule["expr"], WINDOW_S) for rule in rules()}
EVERYTHING = PANELS | NAMED_RULES
WITH_EXEMPLARS = {
    (shown.dashboard, shown.panel): filled_in(shown.text) for shown in grafana.expressions() if shown.exemplar
}


@pytest.fixture(scope="module")
def load(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Load]:
    with played(tmp_path_factory.mktemp("load"), quick_rules()) as seen:
        yield seen


def has_data(load: Load, expression: str) -> bool:
    """Return whether an expression has a finite value at any time of the load."""
    series = load.prometheus.query_range(expression, load.ended_at - load.length_s, load.ended_at)
    return any(math.isfinite(float(value)) for each in series for _, value in each["values"])


def silent_pieces(load: Load, expression: str) -> list[str]:
    """Return the pieces of an expression that have no data."""
    return [piece for piece in pieces_of(expression) if not has_data(load, piece)]


def listed(pieces: Sequence[str]) -> list[str]:
    """Return those of the pieces that are expected to be empty."""
    values = set(expected_empty.VALUES)
    return [piece for piece in pieces if piece in expected_empty.PIECES or values & set(wanted_values(piece))]


def test_the_load_was_as_the_script_says(load: Load) -> None:
    """Prometheus counted each turn once, under the outcome that the script expected."""
    counted = load.prometheus.query("sum by (outcome) (chat_turn_duration_seconds_count)", load.ended_at)
    assert {series.labels["outcome"]: series.value for series in counted} == load.turns


@pytest.mark.parametrize("name", PANELS)
def test_a_panel_has_data(load: Load, name: str) -> None:
    """What a panel shows has a finite value in the load, unless a part of it is expected to be empty."""
    expression = PANELS[name]
    assert has_data(load, expression) or listed(pieces_of(expression)), expression


@pytest.mark.parametrize("name", EVERYTHING)
def test_each_piece_has_data(load: Load, name: str) -> None:
    """Each side of a comparison, an `or`, an `and`, an `unless` has data, but for what is listed, and only for that."""
    expression = EVERYTHING[name]
    assert silent_pieces(load, expression) == listed(pieces_of(expression))


@pytest.mark.parametrize(
    ("metric", "label", "value"), dict.fromkeys(found for text in EVERYTHING.values() for found in named_values(text))
)
def test_each_label_has_the_value(load: Load, metric: str, label: str, value: str) -> None:
    """A label's value that an expression picks, or leaves out, exists, but for what is listed, and only for that."""
    exists = has_data(load, f'{metric}{{{label}="{value}"}}')
    assert exists != ((metric, label, value) in expected_empty.VALUES)


def test_variables_have_values(load: Load) -> None:
    """Each list to choose from has what it offers, or finds something to offer."""
    variables = [found for document in grafana.documents() for found in document["templating"]["list"]]
    for variable in (found for found in variables if found["type"] == "query"):
        asked = re.fullmatch(r"label_values\((.+), (\w+)\)", variable["query"]["query"])
        assert asked, variable
        assert load.prometheus.ask(f"label/{asked[2]}/values", **{"match[]": filled_in(asked[1])}), variable
    choices = {(found["name"], value) for found in variables if found["type"] == "custom" for value in values_of(found)}
    assert {name for name, _ in choices} == {"plan", "surface"}
    for name, value in choices:
        assert has_data(load, f'chat_turn_duration_seconds_count{{{name}="{value}"}}'), value


def values_of(variable: dict[str, Any]) -> list[str]:
    """Return what may be chosen, besides all."""
    return [option["value"] for option in variable["options"] if option["value"] != "$__all"]


def test_series_have_the_labels_that_expressions_may_name(load: Load) -> None:
    """On the real page each metric has the labels of the table that dashboards are judged by, and no others."""
    for name, labels in LABELS.items():
        found = load.prometheus.query_range(name, load.ended_at - load.length_s, load.ended_at)
        seen = {label for each in found for label in each["metric"]} - {"__name__"}
        assert (seen if name != "target_info" else seen & labels) == labels, name


def test_what_is_expected_empty_is_still_asked_for() -> None:
    """The lists name nothing that no expression has."""
    pieces = {piece for text in EVERYTHING.values() for piece in pieces_of(text)}
    assert pieces >= set(expected_empty.PIECES)
    assert {found for text in EVERYTHING.values() for found in named_values(text)} >= set(expected_empty.VALUES)
    assert set(WITH_EXEMPLARS) >= set(expected_empty.EXEMPLARS)


@pytest.mark.parametrize("counter", ["chat_warnings_total", "chat_fallbacks_total", "chat_rate_limited_total"])
def test_the_first_of_a_kind_is_a_rise(load: Load, counter: str) -> None:
    """Each kind that counts under the load was there with 0 before, which is what `rise` builds on."""
    lowest, highest = (
        load.prometheus.query(f"{which}_over_time({counter}[{load.length_s + 5}s])", load.ended_at)
        for which in ("min", "max")
    )
    assert any(series.value for series in highest)
    assert {series.labels["kind"]: series.value for series in lowest if series.value} == {}


def test_the_rules_evaluate(load: Load) -> None:
    """Prometheus evaluates every rule of the file without an error, round after round."""
    assert Counter(rule["name"] for rule in load.rules) == Counter(ROUNDS * list(NAMED_RULES))
    assert {(rule["health"], rule.get("lastError", "")) for rule in load.rules} == {("ok", "")}


def test_what_alerts_say_is_complete(load: Load) -> None:
    """Alerts are active under the load, and their annotations say values where templates stood."""
    texts = [text for alert in load.alerts for text in alert["annotations"].values()]
    assert texts
    assert not [text for text in texts if "<error" in text or "<no value>" in text or "{{" in text]


@pytest.mark.parametrize(("dashboard", "panel"), WITH_EXEMPLARS)
def test_exemplars_lead_to_traces(load: Load, dashboard: str, panel: str) -> None:
    """The exemplars behind a panel are traces that the OTLP receiver has."""
    found = load.prometheus.exemplars(WITH_EXEMPLARS[dashboard, panel], load.began_at, load.ended_at)
    traces = {exemplar["labels"]["trace_id"] for exemplar in found}
    assert bool(traces) != ((dashboard, panel) in expected_empty.EXEMPLARS)
    assert traces <= {span.trace_id for span in load.receiver.spans}


@pytest.mark.parametrize(
    ("expression", "pieces"),
    [
        ("sum(rate(a[5m])) or vector(0)", ["sum(rate(a{}[5m]))"]),
        ("(a or vector(0)) / (sum(b) > 0)", ["a{}", "sum(b{})"]),
        ("rate(a[5m]) > 2 and on (job) b unless c offset 1m", ["rate(a{}[5m])", "b{}", "c{} offset 1m"]),
        ("absent(a)", ["a{}"]),
        ("a > bool b * 2", ["a{}", "b{} * 2"]),
        ("max_over_time((a > 1)[30s:1s])", ["a{}"]),
        ('label_replace(sum(a) == 2 * (1 + sum(b)), "x", "y", "", "")', ["sum(a{})", "2 * (1 + sum(b{}))"]),
        ("a / on (job) group_left () b", ["a{} / on (job) group_left () b{}"]),
        ("1 + 2", []),
    ],
)
def test_an_expression_is_taken_apart(expression: str, pieces: list[str]) -> None:
    """What a filter, an `or` or an `absent` could hide is a piece of its own; what nothing hides stays whole."""
    assert pieces_of(expression) == pieces


@pytest.mark.parametrize(
    ("expression", "silent"),
    [
        ("sum(rate(chat_turn_durations_seconds_count[5s])) or vector(0)", True),
        ("sum(rate(chat_turn_duration_seconds_count[5s])) or vector(0)", False),
        ("breaker_state > 5", False),
        ("breaker_states > 5", True),
        ("absent(edge_draining)", False),
        ("absent(edge_drained)", True),
        ("0 * edge_draining / 0", True),
        ('histogram_quantile(0.5, rate(llm_limiter_wait_duration_seconds_bucket{outcome="shed", le="0"}[5s]))', True),
        ("edge_draining and on (job) (max(nothing) or vector(1))", True),
        ('edge_draining unless edge_draining{mode="no such"}', True),
    ],
)
def test_a_wrong_name_is_found(load: Load, expression: str, silent: bool) -> None:
    """A name that does not exist is found, also where the expression as a whole would hide it; NaN is no data."""
    promql_parser.parse(expression)
    assert bool(silent_pieces(load, expression)) == silent
