"""The dashboards: the committed JSON, what their panels ask for, and whether what they advise exists."""

import json
import re
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import promql_parser as promql
import pytest
import yaml

import grafana
from app.settings import Settings
from grafana.reading import panels_of
from tests.grafana import series

ROOT = Path(__file__).parents[2]
BOARDS = {board["uid"]: board for board in grafana.documents()}
PANELS = {uid: {panel["title"]: panel for panel in panels_of(board)} for uid, board in BOARDS.items()}
TITLES = {title for panels in PANELS.values() for title in panels} | {board["title"] for board in BOARDS.values()}
EXPRESSIONS = grafana.expressions()
SETTINGS = {name.upper() for name in Settings.model_fields}
VERBS = frozenset(
    {"Ask", "Check", "Compare", "Find", "Follow", "Go", "Look", "Lower", "Open", "Raise"}
    | {"Read", "Run", "Set", "Start", "Take", "Wait"}
)
COLUMNS = 24
per_board = pytest.mark.parametrize("uid", BOARDS)


@cache
def tree_of(expression: str) -> Any:
    """Return an expression's syntax tree, its variables filled in."""
    return series.parse(grafana.substitute(expression))


def of_board(uid: str) -> list[grafana.Expression]:
    """Return the expressions of a dashboard."""
    return [found for found in EXPRESSIONS if found.dashboard == uid]


def act_of(panel: dict[str, Any]) -> str:
    """Return what a panel's description says is to be done."""
    return re.split(r"\*\*When it (?:is red|stands out):\*\* ", panel["description"])[1]


def can_be_red(panel: dict[str, Any]) -> bool:
    """Return whether a level or a word of the panel is red."""
    defaults = panel.get("fieldConfig", {}).get("defaults", {})
    steps = [step["color"] for step in defaults.get("thresholds", {}).get("steps", ())]
    words = [word["color"] for mapping in defaults.get("mappings", ()) for word in mapping["options"].values()]
    return "red" in (*steps, *words)


def test_the_committed_json_is_what_the_code_makes() -> None:
    """`grafana/dashboards/` has exactly the files that `python -m grafana` would write; it has been run."""
    committed = {path.name: path.read_text() for path in (ROOT / "grafana/dashboards").iterdir()}
    made = grafana.files()
    assert set(committed) == set(made)
    for name in made:
        assert committed[name] == made[name], f"{name} is old: run `make dashboards`"


def test_the_dashboards_are_the_five() -> None:
    """Each dashboard has an address of its own, which alerts and bookmarks go to."""
    assert {uid: board["title"] for uid, board in BOARDS.items()} == {
        "nursery-turns": "Turns",
        "nursery-limiter": "Limiter",
        "nursery-canary": "Canary",
        "nursery-data-safety": "Data safety",
        "nursery-process": "Process",
    }


@per_board
def test_panels_are_told_apart(uid: str) -> None:
    """Titles and ids of a dashboard, its rows' among them, occur once: links name a panel by its id."""
    for key in ("title", "id"):
        counts = Counter(panel[key] for panel in BOARDS[uid]["panels"])
        assert [value for value, count in counts.items() if count > 1] == []


@per_board
def test_panels_fill_the_grid_and_do_not_overlap(uid: str) -> None:
    """No place of a dashboard is taken twice, and no line of panels ends before the last column."""
    taken = Counter(
        (x, y)
        for panel in BOARDS[uid]["panels"]
        for at in (panel["gridPos"],)
        for x in range(at["x"], at["x"] + at["w"])
        for y in range(at["y"], at["y"] + at["h"])
    )
    assert set(taken.values()) == {1}
    assert set(taken) == {(x, y) for x in range(COLUMNS) for y in range(1 + max(y for _, y in taken))}


@per_board
def test_dashboards_lead_to_each_other_and_ask_where_to_look(uid: str) -> None:
    """Each has the same sources, a choice of deployment and process, and links to the others that keep all that."""
    board = BOARDS[uid]
    variables = {variable["name"]: variable for variable in board["templating"]["list"]}
    assert [variables[name]["query"] for name in ("datasource", "traces")] == ["prometheus", "tempo"]
    found = [variables[name] for name in ("job", "instance")]
    assert all(variable["multi"] and variable["includeAll"] for variable in found)
    assert not any(variable.get("allValue") for variable in found), "all is what was found, not what is in Prometheus"
    (link,) = board["links"]
    assert (link["type"], link["tags"]) == ("dashboards", board["tags"])
    assert (link["keepTime"], link["includeVars"]) == (True, True)


@per_board
def test_a_panel_is_whole(uid: str) -> None:
    """A panel has a unit and a query; it and each query take their source from a variable of the dashboard."""
    for title, panel in PANELS[uid].items():
        of_traces = panel["datasource"]["type"] == "tempo"
        assert of_traces or panel["fieldConfig"]["defaults"]["unit"], title
        assert panel["targets"], title
        assert all(target["query" if of_traces else "expr"] for target in panel["targets"]), title
        variable = "${traces}" if of_traces else "${datasource}"
        assert {source["datasource"]["uid"] for source in (panel, *panel["targets"])} == {variable}, title


@per_board
def test_a_description_says_what_to_do(uid: str) -> None:
    """After what is shown comes what to do, verb first; "when it is red" stands exactly where a panel can be red."""
    for title, panel in PANELS[uid].items():
        shows, act = panel["description"].split("\n\n")
        assert shows.endswith("."), title
        assert act.startswith("**When it is red:** " if can_be_red(panel) else "**When it stands out:** "), title
        assert act_of(panel).split()[0] in VERBS, title
        assert act.endswith("."), title


@per_board
def test_what_a_description_names_exists(uid: str) -> None:
    """Settings, commands, routes, panels and dashboards that it tells of are there under that name."""
    routes = json.loads((ROOT / "docs/openapi.json").read_text())["paths"]
    commands = set(re.findall(r'add_parser\(\s*"([\w-]+)"', (ROOT / "app/__main__.py").read_text()))
    for title, panel in PANELS[uid].items():
        said = panel["description"]
        settings = set(re.findall(r"\b[A-Z]+(?:_[A-Z]+)+\b", said))
        assert {name for name in settings if not name.startswith("OTEL_")} <= SETTINGS, title
        assert set(re.findall(r"python -m app ([\w-]+)", said)) <= commands, title
        for method, path in re.findall(r"\b([A-Z]{3,6}) (/[\w/{}]+)", said):
            assert method.lower() in routes.get(path, ()), (title, path)
        assert set(re.findall(r'"([^"]+)"', said)) <= TITLES, title
        assert settings or re.search(r'`|"|traces?\b', act_of(panel)), f"{title}: nothing to go by"


@per_board
def test_expressions_name_what_is_on_the_metrics_page(uid: str) -> None:
    """Each metric is one of `telemetry/names.py`, and has the labels that are matched and grouped by."""
    for found in of_board(uid):
        assert list(series.doubts(tree_of(found.text))) == [], found.panel


@per_board
def test_expressions_are_about_what_was_chosen(uid: str) -> None:
    """Every series is of the chosen deployments and processes, and every other choice is one of its board.

    Missing processes are those of the whole deployment: who is away for long is none that could be chosen.
    """
    variables = {variable["name"] for variable in BOARDS[uid]["templating"]["list"]}
    for found in of_board(uid):
        kept = {"job": "$job", "instance": "$instance"}
        if found.panel == "Processes missing":
            del kept["instance"]
        assert set(re.findall(r"\$\{?([a-z]\w*)", found.text)) <= variables, found.panel
        for selector in series.selectors(series.parse(grafana.substitute(found.text, values=kept))):
            matchers = {matcher.name: matcher.value for matcher in selector.matchers.matchers}
            assert kept.items() <= matchers.items(), found.panel


@per_board
def test_expressions_treat_counters_and_gauges_as_such(uid: str) -> None:
    """A rise is asked of counters only, a counter's rise and nothing else, and a quantile of buckets."""
    for found in of_board(uid):
        calls = [node for node in series.nodes(tree_of(found.text)) if isinstance(node, promql.Call)]
        risen = [str(call.args[0].vector_selector) for call in calls if call.func.name in ("rate", "increase")]
        assert {selector.partition("{")[0] for selector in risen} <= series.RISING, found.panel
        for selector in series.selectors(tree_of(found.text)):
            selector.offset = None
            assert (selector.name in series.RISING) == (str(selector) in risen), found.panel
        for call in calls:
            if call.func.name == "histogram_quantile":
                assert "le" in series.labels_below(call.args[1]), found.panel
                assert all(each.name.endswith("_bucket") for each in series.selectors(call.args[1])), found.panel


@per_board
def test_what_is_recorded_is_looked_at_in_wide_windows(uid: str) -> None:
    """A curve of recorded sums has steps of a minute at least, hence windows of four: rules may run once a minute."""
    for title, panel in PANELS[uid].items():
        for target in (target for target in panel["targets"] if ":sum{" in target.get("expr", "")):
            step = panel["interval"] if target.get("instant") else target.get("interval")
            assert step == ("5m" if target.get("instant") else "1m"), title


@per_board
def test_legends_and_links_name_labels_that_their_series_have(uid: str) -> None:
    """What a legend or a link fills in is a label that comes out of every expression of the panel that uses it."""
    for title, panel in PANELS[uid].items():
        links = panel.get("fieldConfig", {}).get("defaults", {}).get("links", ())
        linked = set(re.findall(r"__field\.labels\.(\w+)", "".join(link["url"] for link in links)))
        for target in panel["targets"]:
            if "expr" in target:
                shown = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
                assert shown | linked <= series.labels_below(tree_of(target["expr"])), title


def test_every_metric_is_shown_somewhere() -> None:
    """No metric is exported that no dashboard shows."""
    shown = {selector.name for found in EXPRESSIONS for selector in series.selectors(tree_of(found.text))}
    families = {re.sub("_(bucket|count|sum)$", "", name) for name in shown}
    assert families - set(series.RECORDED) == {re.sub("_(bucket|count|sum)$", "", name) for name in series.LABELS}


def test_exemplars_are_on_where_they_lead_to_a_trace() -> None:
    """Exemplars are asked of duration histograms, and the stages, whole turns and waits have them."""
    asked = [found for found in EXPRESSIONS if found.exemplar]
    assert all("_seconds_bucket{" in found.text for found in asked)
    assert {"Stages, p50", "Stages, p95", "Whole turn, answered", "Wait for a slot"} <= {found.panel for found in asked}


def test_substitution_leaves_no_variable() -> None:
    """Everything that Grafana would fill in is filled in; a `$1` of label_replace is not Grafana's."""
    texts = [grafana.substitute(found.text, rate_interval="20s", shown="40s") for found in EXPRESSIONS]
    assert {left for text in texts for left in re.findall(r"\$[\w{]+", text)} == {"$1"}
    assert any("[20s]" in text for text in texts)
    assert any("[40s]" in text for text in texts)
    one = grafana.substitute('up{job=~"$job", plan=~"${plan}"}', values={"job": "here"})
    assert one == 'up{job=~"here", plan=~".*"}'


def test_every_alert_leads_to_its_panel() -> None:
    """The address that an alert gives is that of a panel, which has the title that it says."""
    rules = yaml.safe_load((ROOT / "grafana/alerts/rules.yaml").read_text())
    alerts = [rule for group in rules["groups"] for rule in group["rules"] if "alert" in rule]
    assert alerts
    for alert in alerts:
        address = urlsplit(alert["annotations"]["dashboard"])
        titles = {str(panel["id"]): title for title, panel in PANELS[address.path.removeprefix("/d/")].items()}
        (panel,) = parse_qs(address.query)["viewPanel"]
        assert titles.get(panel) == alert["annotations"]["panel"], alert["alert"]
