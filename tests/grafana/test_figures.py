"""What panels show in moments that are easily shown wrongly: real expressions, on series made for promtool."""

import json
import re
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

import grafana
from grafana.promql import ALL_SLOW, ALL_UNANSWERED
from grafana.turn_queries import FEW_SLOW, FEW_UNANSWERED
from tests.needs import need_program

RULES = Path(grafana.__file__).parent / "alerts" / "rules.yaml"
TURNS = "chat_turn_duration_seconds_count"
OVERHEAD = "chat_turn_overhead_duration_seconds"
LAG = "trio_loop_lag_seconds"
INFO = "target_info"


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """Series, and what a panel must show of them.

    Args:
        series: by name and labels, in promtool's notation; one value a minute.
        minute: at which it is looked.
        dashboard: where the panel is.
        panel: its title.
        holds: what is asked of the panel's expression, which is `{}` in it; it must give 1.
        ref_id: which expression.
        empty: whether nothing must be there at all; `holds` is of no meaning then.
    """

    series: Mapping[str, str]
    minute: int
    dashboard: str
    panel: str
    holds: str = "{}"
    ref_id: str = "A"
    empty: bool = False


def labelled(metric: str, instance: str = "a", **labels: str) -> str:
    """Return a series of ours."""
    given = {"job": "school", "instance": instance} | labels
    return metric + "{" + ", ".join(f'{name}="{value}"' for name, value in given.items()) + "}"


def turns(outcome: str, whole: str, *, slow: bool = False) -> dict[str, str]:
    """Return the series of turns that ended so: `whole` are their numbers."""
    nothing = " ".join(part if part.startswith("_") else "0+0x" + part.rpartition("x")[2] for part in whole.split())
    of = {"plan": "concurrent", "outcome": outcome}
    return {
        labelled(TURNS, **of, surface="chat"): whole,
        labelled(f"{OVERHEAD}_count", **of): whole,
        labelled(f"{OVERHEAD}_bucket", **of, le="1.0"): nothing if slow else whole,
    }


ALIVE = {labelled("edge_draining"): "0+0x120"}
FIRST_FAILURES = ALIVE | turns("ok", "0+12x60") | turns("timeout", "_x20 6+0x40", slow=True)
"""Twelve turns a minute; six timeouts, the first since the start, come between two scrapes."""
ONE_FAILURE = ALIVE | turns("ok", "0+1x60") | turns("timeout", "_x20 1+0x40", slow=True)
HALF_OF_A_CLASS = ALIVE | turns("ok", "0+1x60") | turns("timeout", "_x20 40+0x40", slow=True)
STALLS = {
    **{labelled(f"{LAG}_bucket", le=le): "0+299x20" for le in ("0.005", "0.01", "0.1", "0.5", "1.0")},
    **{labelled(f"{LAG}_bucket", le=le): "0+300x20" for le in ("2.5", "5.0", "10.0", "+Inf")},
    labelled(f"{LAG}_count"): "0+300x20",
}
"""The loop looks around five times a second, but stands still for two seconds once a minute."""
THREE_OF_FOUR_DEAD = {
    labelled("edge_draining"): "0+0x120",
    **{labelled("edge_draining", each): "0+0x10 stale" for each in "bcd"},
    labelled("up"): "1+0x120",
    **{labelled("up", each): "1+0x10 0+0x109" for each in "bcd"},
    'up{job="school", instance="gateway"}': "0+0x120",
}
GAP = "5000+0x10 _x90 5000+0x20"
"""Counted long ago; for an hour and a half Prometheus saw nothing."""
RESTARTED = {
    labelled(INFO, service_instance_id="1"): "1+0x30 stale",
    labelled(INFO, service_instance_id="2"): "_x31 1+0x60",
}
MISSED = {labelled(INFO, service_instance_id="1"): "1+0x30 stale 1+0x60"}


def shown(dashboard: str, panel: str, holds: str, series: Mapping[str, str], minute: int, ref_id: str = "A") -> Any:
    """Return a case in which a panel shows something."""
    given = Moment(
        series=series, minute=minute, dashboard=f"nursery-{dashboard}", panel=panel, holds=holds, ref_id=ref_id
    )
    return pytest.param(given, id=f"{panel} {ref_id}: {holds}")


MOMENTS: Sequence[Any] = (
    shown("turns", "Answered", "({}) < bool 0.95", FIRST_FAILURES, 22),
    shown("turns", "Share answered", "({}) < bool 0.95", FIRST_FAILURES, 22),
    shown("turns", "Overhead under 1 s", "({}) < bool 0.95", FIRST_FAILURES, 22),
    shown("turns", "Share with an overhead under 1 s", "({}) < bool 0.95", FIRST_FAILURES, 22),
    shown("turns", "Answered: budget burn", "({}) > bool 6", FIRST_FAILURES, 22),
    shown("turns", "Failed turns by outcome", 'max(({}) and on (outcome) x{outcome="timeout"}) > bool 0.05',
          FIRST_FAILURES | {'x{outcome="timeout"}': "0+0x60"}, 22),
    shown("turns", "Answered: budget burn", "({}) == bool 0", ONE_FAILURE, 22),
    shown("turns", "Overhead: budget burn", "({}) == bool 0", FIRST_FAILURES, 22),
    shown("turns", "Overhead: budget burn", "({}) > bool 6", HALF_OF_A_CLASS, 22),
    shown("process", "Loop stalls", "({}) > bool 2.5", STALLS, 15),
    shown("process", "Loop lag", "max({}) >= bool 2", STALLS, 15, "C"),
    shown("process", "Processes", "({}) == bool 1", THREE_OF_FOUR_DEAD, 100),
    shown("process", "Processes missing", "({}) == bool 3", THREE_OF_FOUR_DEAD, 100),
    shown("process", "Processes missing", "({}) == bool 0", {labelled("up"): "1+0x20", **ALIVE}, 15),
    shown("process", "Breakers open", "({}) == bool 1", {labelled("breaker_state", target="model"): "1+0x20"}, 15),
    shown("data-safety", "Telemetry dropped", "({}) == bool 0", {labelled("otel_dropped_total", signal="traces"): GAP},
          110),
    shown("data-safety", "Failed saves", "round({}) == bool 1",
          {labelled("chat_warnings_total", kind="save_failed"): "0+0x20 1+0x60"}, 50),
    shown("turns", "annotation Starts", "count({}) == bool 1", RESTARTED, 34),
)  # fmt: skip
SILENT: Sequence[Any] = [
    pytest.param(
        Moment(series=MISSED, minute=minute, dashboard="nursery-turns", panel="annotation Starts", empty=True),
        id=f"a missed scrape, minute {minute}",
    )
    for minute in (32, 33)
]


def expression_of(moment: Moment) -> str:
    """Return a panel's expression as Grafana asks it over the last hour, every five minutes."""
    (text,) = [
        found.text
        for found in grafana.expressions()
        if (found.dashboard, found.panel, found.ref_id) == (moment.dashboard, moment.panel, moment.ref_id)
    ]
    values = {"job": "school"}
    filled = grafana.substitute(text, rate_interval="5m", shown="1h", interval="5m", values=values)
    return filled if moment.empty else moment.holds.replace("{}", filled)


def counts() -> str:
    """Return the recording rules that panels ask for: the first group of the file."""
    return json.dumps({"groups": yaml.safe_load(RULES.read_text())["groups"][:1]})


@pytest.mark.parametrize(("bad", "few"), [(ALL_SLOW, FEW_SLOW), (ALL_UNANSWERED, FEW_UNANSWERED)])
def test_a_budget_burns_from_as_many_turns_on_as_alert(bad: str, few: int) -> None:
    """A burn is red where an alert is near: each alert of an objective needs as many bad turns as its panel."""
    needed = re.findall(rf"increase\({bad}\[\w+\]\)\) >= (\d+)", RULES.read_text())
    assert needed
    assert set(needed) == {str(few)}


@pytest.mark.parametrize("moment", [*MOMENTS, *SILENT])
def test_a_panel_shows_what_was(tmp_path: Path, moment: Moment) -> None:
    """In this moment the panel shows this, under the committed recording rules."""
    promtool = need_program("promtool", "apt-get install prometheus")
    expected = [] if moment.empty else [{"labels": "{}", "value": 1}]
    asked = {"expr": expression_of(moment), "eval_time": f"{moment.minute}m", "exp_samples": expected}
    series = [{"series": name, "values": values} for name, values in moment.series.items()]
    case = {"interval": "1m", "input_series": series, "promql_expr_test": [asked]}
    (tmp_path / "rules.json").write_text(counts())
    told = {"rule_files": ["rules.json"], "evaluation_interval": "1m", "tests": [case]}
    (tmp_path / "test.json").write_text(json.dumps(told))
    done = subprocess.run(
        [promtool, "test", "rules", "test.json"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
