"""The alert rules: promtool and their own unit tests find them right, and they name what there is."""

import itertools
import re
import subprocess
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import promql_parser as promql
import pytest
import yaml

from tests.grafana import series
from tests.needs import lack, need_program

ROOT = Path(__file__).parents[2]
ALERTS = ROOT / "grafana" / "alerts"
GROUPS = yaml.safe_load((ALERTS / "rules.yaml").read_text())["groups"]
RULES: list[dict[str, Any]] = [rule for group in GROUPS for rule in group["rules"]]
RECORDED = {rule["record"]: rule["expr"] for rule in RULES if "record" in rule}
ALERT = {rule["alert"]: rule for rule in RULES if "alert" in rule}
NAMES = frozenset(
    {"TurnsSlowFastBurn", "TurnsSlowSlowBurn", "TurnsUnansweredFastBurn", "TurnsUnansweredSlowBurn", "QueueWaitLong"}
    | {"TurnsShed", "ProviderRejects", "ModelSilent", "BreakerOpen", "OneUserCrowdsOut", "ProjectContextMissing"}
    | {"OutboxOld", "OutboxSetAside", "CanaryWorse", "NoProcessServes", "ProcessDown", "DrainStuck"}
    | {"TelemetryDropped", "MemoryHigh", "LoopStalled"}
)
PAGES = frozenset({"TurnsUnansweredFastBurn", "OutboxOld", "NoProcessServes"})
UNIT_TESTS = sorted(ALERTS.glob("*.test.yaml"))
CASES = {path.name: yaml.safe_load(path.read_text())["tests"] for path in UNIT_TESTS}
OUR_SERIES = series.LABELS | {"up": series.TARGETS}
per_alert = pytest.mark.parametrize("name", ALERT)
per_rule = pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.get("alert") or rule["record"])


def promtool_test(promtool: str, path: Path) -> "subprocess.Popen[str]":
    """Begin to run a file of unit tests."""
    command = [promtool, "test", "rules", path.name]
    return subprocess.Popen(command, cwd=ALERTS, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


@pytest.fixture(scope="module")
def verdicts() -> dict[str, tuple[int, str]]:
    """Return what promtool says of each file of unit tests: its exit code and its words."""
    promtool = need_program("promtool", "apt-get install prometheus")
    if not re.search(r"version 2\.", subprocess.run([promtool, "--version"], capture_output=True, text=True).stdout):
        lack(
            "another promtool than 2: from 3 on a range does not hold its first moment, and the steps are as long as it"
        )
    asked = {path.name: promtool_test(promtool, path) for path in UNIT_TESTS}
    said = {name: process.communicate()[0] for name, process in asked.items()}
    return {name: (process.returncode, said[name]) for name, process in asked.items()}


def test_promtool_finds_no_fault() -> None:
    """`promtool check rules` has nothing to say, of which it is that strict."""
    promtool = need_program("promtool", "apt-get install prometheus")
    command = [promtool, "check", "rules", "--lint=all", "--lint-fatal", str(ALERTS / "rules.yaml")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert f"{len(RULES)} rules found" in done.stdout


@pytest.mark.parametrize("path", UNIT_TESTS, ids=lambda path: path.name)
def test_the_unit_tests_pass(verdicts: dict[str, tuple[int, str]], path: Path) -> None:
    """Every alert fires at the minutes that its cases say, with these words, and at no other minute of theirs."""
    code, said = verdicts[path.name]
    assert code == 0, said


def groups_of(name: str) -> list[dict[str, Any]]:
    """Return the groups of unit tests that look at an alert."""
    groups = itertools.chain.from_iterable(CASES.values())
    return [group for group in groups if name in {moment["alertname"] for moment in group["alert_rule_test"]}]


def asked_of(name: str) -> list[dict[str, Any]]:
    """Return the moments at which the unit tests look at an alert."""
    moments = itertools.chain.from_iterable(group["alert_rule_test"] for group in groups_of(name))
    return [moment for moment in moments if moment["alertname"] == name]


def jobs_of(name: str) -> set[str]:
    """Return the deployments of an alert's unit tests: its cases."""
    given = " ".join(each["series"] for group in groups_of(name) for each in group["input_series"])
    return set(re.findall(r'job="([^"]+)"', given))


@per_alert
def test_every_alert_is_tried_both_ways(name: str) -> None:
    """The unit tests of each alert see it fire for a deployment and later no more, and stay silent for another."""
    moments = asked_of(name)
    firing = [{alert["exp_labels"]["job"] for alert in moment.get("exp_alerts", ())} for moment in moments]
    fired = set().union(*firing)
    assert any(job in earlier - later for job in fired for earlier, later in itertools.pairwise(firing))
    assert len(jobs_of(name) - fired) >= 1
    assert firing[0] == set()


@per_alert
def test_the_unit_tests_say_how_an_alert_reads(name: str) -> None:
    """Where an alert fires in them, its words are given: no template is left, and labels are those of a deployment."""
    for moment in asked_of(name):
        for alert in moment.get("exp_alerts", ()):
            words = alert["exp_annotations"]
            assert set(words) == set(ALERT[name]["annotations"])
            assert not re.search(r"\{\{|<no value>|<error|%!", " ".join(words.values()))
            assert {"job", "severity"} <= set(alert["exp_labels"])


def test_the_alerts_are_these() -> None:
    """Nothing is missing of what somebody may have a route or a silence for."""
    assert set(ALERT) == NAMES
    assert {name for name, rule in ALERT.items() if rule["labels"]["severity"] == "page"} == PAGES


@per_alert
def test_an_alert_says_what_whoever_is_woken_needs(name: str) -> None:
    """How urgent it is, what is wrong and where, what that means, and where to read on."""
    rule = ALERT[name]
    assert rule["labels"]["severity"] in ("page", "ticket")
    words = rule["annotations"]
    assert set(words) == {"summary", "description", "runbook_url", "dashboard", "panel"}
    assert "{{ $labels.job }}" in words["summary"]
    assert words["runbook_url"] == (
        f"https://github.com/nursery-chat/nursery-chat/blob/main/grafana/RUNBOOK.md#{name.lower()}"
    )


@per_alert
def test_a_summary_names_labels_that_its_alert_has(name: str) -> None:
    """What the templates fill in comes out of the expression; so does `job`, and of one process its `instance`."""
    labels = set(labels_of(ALERT[name]["expr"]))
    named = set(re.findall(r"\$labels\.(\w+)", " ".join(ALERT[name]["annotations"].values())))
    assert {"job"} <= named <= labels
    assert ("instance" in named) == ("instance" in labels)


@per_alert
def test_an_alert_leads_to_what_it_is_about(name: str) -> None:
    """Its panel is opened for the deployment, for the process where it is one's, and for three days if those tell."""
    rule = ALERT[name]
    asked = parse_qs(urlsplit(rule["annotations"]["dashboard"]).query)
    labels = {label: [f"{{{{ $labels.{label} }}}}"] for label in series.TARGETS & set(labels_of(rule["expr"]))}
    assert {label: asked.get(f"var-{label}") for label in labels} == labels
    assert {key for key in asked if key.startswith("var-")} == {f"var-{label}" for label in labels}
    assert (asked.get("from") == ["now-3d"]) == ("3d" in rule["expr"])


def labels_of(expression: str) -> set[str]:
    """Return the labels of an expression's values, whatever rules recorded it."""
    return series.labels_below(series.parse(written_out(expression)))


def written_out(expression: str) -> str:
    """Return an expression with every recorded series replaced by what was recorded: it need not be valid PromQL."""
    for record in sorted(RECORDED, key=len, reverse=True):
        if record in expression:
            pattern = rf"{re.escape(record)}(\{{[^}}]*\}})?(\[\w+\])?"
            expression = re.sub(pattern, f"({RECORDED[record]})".replace("\\", r"\\"), expression)
            return written_out(expression)
    return re.sub(r"\b(?:rate|increase|avg_over_time)\((?=\()", "abs(", expression)


@per_rule
def test_a_rule_names_what_is_on_the_metrics_page(rule: dict[str, Any]) -> None:
    """Every series is one of ours, or recorded above, and has the labels that are matched."""
    for selector in series.selectors(series.parse(rule["expr"])):
        matched = {matcher.name for matcher in selector.matchers.matchers}
        if selector.name in RECORDED:
            assert matched <= labels_of(RECORDED[selector.name]), selector.name
        else:
            assert matched <= OUR_SERIES[selector.name], selector.name


@per_rule
def test_a_rule_is_about_our_processes(rule: dict[str, Any]) -> None:
    """What another program may call so, too, counts only where `edge_draining` is, or was: names of ours begin so."""
    named = {selector.name for selector in series.selectors(series.parse(rule["expr"]))}
    doubtful = {name for name in named if not re.match("chat_|llm_|edge_|job_|job:", name)}
    matched = re.search(
        r"and on \(job, instance\) (last_over_time\()?(edge_draining|increase\(job_instance:)", rule["expr"]
    )
    assert not doubtful or matched


@per_rule
def test_a_rule_names_no_deployment(rule: dict[str, Any]) -> None:
    """Rules match no `job` and no `instance`, and keep the first: each deployment has alerts of its own."""
    tree = series.parse(rule["expr"])
    matched = {matcher.name for selector in series.selectors(tree) for matcher in selector.matchers.matchers}
    assert not matched & {"job", "instance"}
    groupings = [series.grouping(node) for node in series.nodes(tree) if isinstance(node, promql.AggregateExpr)]
    assert all("job" in grouping for grouping in groupings)


@pytest.mark.parametrize("record", RECORDED)
def test_a_recorded_name_says_what_it_is(record: str) -> None:
    """level:metric:operations, the level being the labels that are left."""
    level, metric, operations = record.split(":")
    assert set(level.split("_")) == labels_of(RECORDED[record])
    assert re.fullmatch("[a-z_]+", metric)
    window = operations.removeprefix("ratio_rate")
    assert window in ("sum", "bool") or RECORDED[record].count(f"[{window}]") == 2
