"""What the console shows: the slowest turns, how dependencies are, and where a trace can be seen."""

import json
import uuid
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as some

from app.ops.console_state import (
    Dependency,
    grafana_link,
    jaeger_link,
    of_database,
    of_identity,
    of_model,
    of_outbox,
    slowest,
)
from telemetry.turn_facts import TurnFacts

TRACE = "0af7651916cd43dd8448eb211c80319c"


def turn(seconds: float) -> TurnFacts:
    return TurnFacts(
        turn_id=str(uuid.uuid4()),
        trace_id=TRACE,
        conversation_id=None,
        plan="concurrent",
        surface="chat",
        outcome="ok",
        error_type=None,
        timings={"total_time": seconds},
        details={},
        ended_at_ns=0,
    )


@given(some.lists(some.sampled_from([0.0, 0.5, 1.0, 1.5, 60.0]), max_size=40), some.integers(0, 15))
def test_the_slowest_come_first(seconds: list[float], most: int) -> None:
    """At most so many, none of the rest is slower, and of equals the newer one, which came first, stays first."""
    turns = [turn(each) for each in seconds]
    expected = sorted(turns, key=lambda each: -each.timings["total_time"])[:most]
    assert slowest(turns, most) == expected


def test_a_dozen_is_shown() -> None:
    """Unless more are asked for."""
    assert len(slowest([turn(each) for each in range(30)])) == 12


@pytest.mark.parametrize(
    ("found", "state", "note"),
    [
        (of_model("closed", ready=True, embedded=False), "ok", None),
        (of_model("closed", ready=True, embedded=True), "ok", "embedded"),
        (of_model("half_open", ready=True, embedded=False), "trying", None),
        (of_model("open", ready=True, embedded=False), "down", None),
        (of_model("closed", ready=False, embedded=True), "trying", "loading"),
        (of_database("closed", embedded=False), "ok", None),
        (of_database("half_open", embedded=True), "trying", "embedded"),
        (of_database("open", embedded=False), "down", None),
        (of_identity(None), "off", "dev"),
        (of_identity((True, False)), "ok", None),
        (of_identity((True, True)), "trying", "stale_keys"),
        (of_identity((False, True)), "trying", "no_keys"),
        (of_outbox(paused=None, has_room=True, behind=False), "ok", None),
        (of_outbox(paused=None, has_room=True, behind=True), "trying", "behind"),
        (of_outbox(paused=None, has_room=False, behind=True), "down", "no_room"),
        (of_outbox(paused="http_401", has_room=False, behind=True), "down", "http_401"),
    ],
)
def test_a_dependency_is_a_word_and_why(found: Dependency, state: str, note: str | None) -> None:
    """What is worse goes before what is better, and a note says what the state alone does not."""
    assert (found.state, found.note) == (state, note)


@pytest.mark.parametrize(
    "base", ["http://127.0.0.1:16686", "http://127.0.0.1:16686/", "https://t.school.example/jaeger//"]
)
def test_a_trace_is_a_page_of_jaegers(base: str) -> None:
    """Below the address that is set, whether or not that ends with a slash."""
    assert jaeger_link(base).replace("{trace_id}", TRACE) == f"{base.rstrip('/')}/trace/{TRACE}"


@pytest.mark.parametrize("base", ["http://127.0.0.1:3000", "https://school.example/grafana/"])
def test_a_trace_is_a_query_of_grafanas(base: str) -> None:
    """Explore is opened with the id as the query; all but the place of the id is encoded."""
    link = grafana_link(base)
    assert link.count("{") == link.count("}") == 1
    parts = urlsplit(link.replace("{trace_id}", TRACE))
    query = parse_qs(parts.query, strict_parsing=True)
    panes: dict[str, Any] = json.loads(query["panes"][0])
    (pane,) = panes.values()
    assert link.startswith(f"{base.rstrip('/')}/explore?")
    assert (query["schemaVersion"], query["orgId"]) == (["1"], ["1"])
    assert (pane["datasource"], pane["queries"][0]["datasource"]["uid"]) == ("tempo", "tempo")
    assert pane["queries"][0]["query"] == TRACE
