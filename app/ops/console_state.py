"""What the console shows, worked out of what the server's parts say of themselves. Pure.

Notes are words from closed lists, for the page to put into its reader's language; a paused outbox's is the error type.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from heapq import nlargest
from typing import Literal
from urllib.parse import quote

from telemetry.turn_facts import TurnFacts

State = Literal["ok", "trying", "down", "off"]
Name = Literal["model", "database", "identity", "outbox"]

CONSIDERED, SHOWN = 100, 12
"""Of the last turns, and of those the slowest: what was slow long ago is no news, and a dozen fits on a screen."""
TEMPO = "tempo"
"""The data source's uid, as `grafana/provisioning` gives it."""
TRACE = "{trace_id}"
"""Stands for the trace in a link."""
_BREAKERS: dict[str, State] = {"closed": "ok", "half_open": "trying", "open": "down"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Dependency:
    """Something that turns need, and how it is; `down` is left alone for now, `trying` is on its way to `ok`."""

    name: Name
    state: State
    note: str | None = None


def slowest(turns: Sequence[TurnFacts], most: int = SHOWN) -> list[TurnFacts]:
    """Return the turns that took longest, at most so many, slowest first; of equals, what came first stays first."""
    return nlargest(most, turns, key=lambda turn: turn.timings["total_time"])


def of_model(breaker: str, *, ready: bool, embedded: bool) -> Dependency:
    """Return how the model is; one that still loads is not asked, whatever its breaker says."""
    if not ready:
        return Dependency(name="model", state="trying", note="loading")
    return Dependency(name="model", state=_BREAKERS[breaker], note="embedded" if embedded else None)


def of_database(breaker: str, *, embedded: bool) -> Dependency:
    """Return how the database is."""
    return Dependency(name="database", state=_BREAKERS[breaker], note="embedded" if embedded else None)


def of_identity(keys: tuple[bool, bool] | None) -> Dependency:
    """Return how the keys are that tokens are verified with: whether there are any, and whether they may be stale.

    None without tokens.
    """
    if keys is None:
        return Dependency(name="identity", state="off", note="dev")
    arrived, degraded = keys
    if not arrived:
        return Dependency(name="identity", state="trying", note="no_keys")
    return Dependency(name="identity", state="trying" if degraded else "ok", note="stale_keys" if degraded else None)


def of_outbox(*, paused: str | None, has_room: bool, behind: bool) -> Dependency:
    """Return how an outbox is; one without room keeps new turns out, one that is behind catches up by itself."""
    if paused is not None or not has_room:
        return Dependency(name="outbox", state="down", note=paused or "no_room")
    return Dependency(name="outbox", state="trying" if behind else "ok", note="behind" if behind else None)


OUTBOX_OFF = Dependency(name="outbox", state="off")


def jaeger_link(base: str) -> str:
    """Return the address of a trace in Jaeger."""
    return f"{base.rstrip('/')}/trace/{TRACE}"


def grafana_link(base: str) -> str:
    """Return the address of a trace in Grafana's Explore, which reads a query that is an id as that trace."""
    source = {"type": "tempo", "uid": TEMPO}
    query = {"refId": "A", "datasource": source, "queryType": "traceql", "query": TRACE}
    panes = {"trace": {"datasource": TEMPO, "queries": [query], "range": {"from": "now-1h", "to": "now"}}}
    encoded = quote(json.dumps(panes, separators=(",", ":")), safe="").replace(quote(TRACE), TRACE)
    return f"{base.rstrip('/')}/explore?schemaVersion=1&panes={encoded}&orgId=1"
