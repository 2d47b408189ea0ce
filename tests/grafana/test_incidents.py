"""Each of ten incidents, on real servers under a real Prometheus, turns its alert and its panels, and no others."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from _pytest.mark import ParameterSet

import grafana
from tests.grafana.incident_play import History, played
from tests.grafana.incidents import CONTROL, INCIDENTS, Incident, Panel
from tests.prometheus import shortened

FOLDER = Path(grafana.__file__).parent
RULES = FOLDER / "alerts" / "rules.yaml"
RUNBOOK = FOLDER / "RUNBOOK.md"
WINDOW_S = 15
"""In place of every longer range of a rule, so that minutes and days of an incident pass in seconds."""
SCALED = {
    "OutboxOld": ("> 30", "> 3"),
    "TurnsSlowFastBurn": (">= 30", ">= 5"),
    "TurnsSlowSlowBurn": (">= 30", ">= 5"),
}
"""Of thresholds that grow with time or with a machine's size: as the rule has them, and as they are here."""
LONG = pytest.mark.soak


def played_out(incident: Incident, *more: Any) -> ParameterSet:
    """Return a test's parameters, for `make test` or for `make soak` only."""
    name = "-".join([incident.name, *(panel.title for panel in more)])
    return pytest.param(incident, *more, marks=() if incident.quick else LONG, id=name)


EACH = pytest.mark.parametrize("incident", [played_out(incident) for incident in INCIDENTS])


def rules() -> list[dict[str, Any]]:
    """Return the alert rules as they are committed."""
    groups = yaml.safe_load(RULES.read_text())["groups"]
    return [rule for group in groups for rule in group["rules"] if "alert" in rule]


def quick_rules() -> str:
    """Return the rule file with short ranges, seconds of patience for minutes, and the thresholds that are `SCALED`."""
    document = yaml.safe_load(RULES.read_text())
    for group in document["groups"]:
        group.pop("interval", None)
        for rule in group["rules"]:
            before, after = SCALED.get(rule.get("alert", ""), ("", ""))
            assert before in rule["expr"], f"{rule['alert']} has another threshold now"
            rule["expr"] = shortened(rule["expr"].replace(before, after), WINDOW_S)
            if "for" in rule:
                rule["for"] = rule["for"].replace("m", "s")
    return yaml.safe_dump(document)


def filled_in(text: str, incident: Incident) -> str:
    """Return a panel's expression for one deployment."""
    window = f"{WINDOW_S}s"
    return grafana.substitute(text, rate_interval=window, shown=window, values={"job": incident.name})


@pytest.fixture(scope="module")
def history(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[History]:
    """Play the incidents that the chosen tests ask for, all at once."""
    items = [item for item in request.session.items if isinstance(item, pytest.Function)]
    mine = [item for item in items if item.module is request.module and "history" in item.fixturenames]
    wanted = [item.callspec.params.get("incident") for item in mine if hasattr(item, "callspec")]
    incidents = [incident for incident in INCIDENTS if incident in wanted]
    with played(tmp_path_factory.mktemp("play"), (CONTROL, *incidents), quick_rules()) as seen:
        yield seen


@EACH
def test_nothing_fires_before_the_fault(history: History, incident: Incident) -> None:
    """The same server under its usual load turns no alert."""
    assert history.fired(incident.name, history.began_at, history.broken_at) == set()


@EACH
def test_the_fault_turns_its_alerts(history: History, incident: Incident) -> None:
    """Each alert of the incident fires, for this deployment."""
    fired = history.fired(incident.name, history.broken_at, history.ended_at)
    assert fired >= set(incident.alerts), history.answers[incident.name]


@EACH
def test_the_fault_turns_nothing_else(history: History, incident: Incident) -> None:
    """No alert fires that would lead whoever is woken to another place."""
    fired = history.fired(incident.name, history.broken_at, history.ended_at)
    assert fired <= {*incident.alerts, *incident.also}, history.answers[incident.name]


@pytest.mark.parametrize(
    ("incident", "panel"), [played_out(incident, panel) for incident in INCIDENTS for panel in incident.panels]
)
def test_the_fault_turns_its_panels(history: History, incident: Incident, panel: Panel) -> None:
    """The panel shows more than twice as much of this deployment as before."""
    texts = [
        each.text for each in grafana.expressions() if (each.dashboard, each.panel) == (panel.dashboard, panel.title)
    ]
    assert texts, "no such panel"
    window = f"{WINDOW_S}s"
    given = [
        grafana.substitute(text, rate_interval=window, shown=window, values={"job": incident.name}) for text in texts
    ]
    before = max(history.highest(text, history.began_at, history.broken_at) for text in given)
    after = max(history.highest(text, history.broken_at, history.ended_at) for text in given)
    assert after > 2 * before


def test_a_server_on_which_nothing_is_wrong_turns_no_alert(history: History) -> None:
    """It stood beside the others all the time, and answered everybody."""
    assert history.fired(CONTROL.name, history.began_at, history.ended_at) == set()
    assert set(history.answers[CONTROL.name]["before"]) == {200}


@pytest.mark.parametrize("incident", [each for each in INCIDENTS if each.name == "greedy-user"], ids=["greedy-user"])
def test_a_greedy_user_is_held_back_alone(history: History, incident: Incident) -> None:
    """While one asks for more than their share, and is told so, everybody else is answered."""
    answers = history.answers[incident.name]
    assert set(answers["before"]) == {200}
    assert answers["during"][429] > 0


def test_the_ten_incidents_are_all_here() -> None:
    """There is a fault for each; a pool can be too small in front of the model and of the database."""
    assert len({incident.title for incident in INCIDENTS}) == 10


def test_every_alert_that_is_named_here_is_one() -> None:
    """The table speaks of alerts that the rules have."""
    known = {rule["alert"] for rule in rules()}
    assert {name for incident in INCIDENTS for name in (*incident.alerts, *incident.also)} <= known


@pytest.mark.parametrize("incident", INCIDENTS, ids=lambda incident: incident.name)
def test_the_runbook_says_what_turns(incident: Incident) -> None:
    """The incident's row in the runbook's table names its alerts and panels."""
    rows = [line for line in RUNBOOK.read_text().splitlines() if re.match(rf"\|\s*{incident.title}\s*\|", line, re.I)]
    (row,) = rows
    wanted = [*incident.alerts, *(panel.title for panel in incident.panels)]
    assert [name for name in wanted if name not in row] == []
