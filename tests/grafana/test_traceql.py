"""The searches for traces, in dashboards and runbook, as Grafana's own grammar of TraceQL reads them."""

import json
import re
import subprocess
from pathlib import Path
from typing import Any, get_args

import pytest

import grafana
from telemetry import names
from tests.needs import lack, need_program

ROOT = Path(__file__).parents[2]
NPM = Path(__file__).parent / "npm"
GET_NODE = "install Node.js 20 or later"
GET_GRAMMAR = "Grafana's grammar of TraceQL is not installed; to run this test: make traceql"
CONSTANTS = {value for name, value in vars(names).items() if name.isupper() and isinstance(value, str)}
"""Every name of `telemetry/names.py`: attributes, spans, and what else there is."""
INTRINSICS = {"name", "duration", "status"}


def in_runbook() -> list[str]:
    """Return the searches of the runbook."""
    blocks = re.findall(r"```traceql\n(.*?)```", (ROOT / "grafana/RUNBOOK.md").read_text(), re.DOTALL)
    return [block.strip() for block in blocks]


def verdicts(searches: list[str]) -> list[dict[str, Any]]:
    """Return what the grammar says of each search."""
    node = need_program("node", GET_NODE)
    if not (NPM / "node_modules/@grafana/lezer-traceql").exists():
        lack(GET_GRAMMAR)
    asked = json.dumps(searches)
    done = subprocess.run(
        [node, str(NPM / "parse_traceql.mjs")], input=asked, capture_output=True, text=True, timeout=60, check=True
    )
    found: list[dict[str, Any]] = json.loads(done.stdout)
    assert len(found) == len(searches)
    return found


@pytest.mark.parametrize("place", ["dashboards", "runbook"])
def test_every_search_is_traceql_about_our_spans(place: str) -> None:
    """It parses without an error, and each attribute that it names is one of ours or a convention that we follow."""
    searches = in_runbook() if place == "runbook" else [found.text for found in grafana.searches()]
    assert searches
    for search, verdict in zip(searches, verdicts(searches), strict=True):
        assert verdict["errors"] == [], search
        assert {attribute.removeprefix("span.") for attribute in verdict["attributes"]} <= CONSTANTS, search
        assert set(verdict["intrinsics"]) <= INTRINSICS, search


@pytest.mark.parametrize("place", ["dashboards", "runbook"])
def test_spans_are_called_as_they_are(place: str) -> None:
    """A span that a search names is one of `telemetry/names.py`; links fill others in."""
    searches = in_runbook() if place == "runbook" else [found.text for found in grafana.searches()]
    spans = {span for search in searches for span in re.findall(r'(?<![.\w])name\s*=\s*"([^"]*)"', search)}
    assert spans - {"ok"} <= CONSTANTS  # a link fills in "ok" for its label


def test_outcomes_are_called_as_they_are() -> None:
    """An outcome that a search names is one of the closed list."""
    texts = [*in_runbook(), *(found.text for found in grafana.searches())]
    said = {text for search in texts for text in re.findall(r'chat\.outcome\s*!?=~?\s*"([^"]*)"', search)}
    assert {outcome for text in said for outcome in text.split("|")} <= set(get_args(names.Outcome))


def test_the_grammar_refuses_what_is_none() -> None:
    """The judge judges: what is no TraceQL has an error."""
    for broken in verdicts(["{ name = }", "{ span.chat.outcome = ok", "name = chat", ""]):
        assert broken["errors"]
