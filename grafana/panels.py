"""What dashboards are made of, as plain values: queries, levels, panels, rows. `building` makes Grafana's of them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Final, Literal

Kind = Literal["stat", "series", "states", "traces"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """A PromQL expression, how its series are called, and whether its exemplars are shown.

    `step` is the shortest one of a curve, where the scrape interval is too short; rates look back four of them.
    """

    expr: str
    legend: str = ""
    exemplar: bool = False
    step: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Levels:
    """From where on a value is amber, and red if it ever is; `low_is_bad` turns that round: from where on downwards."""

    amber: float
    red: float | None = None
    low_is_bad: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """A link of a panel's series to the traces that `traceql` finds; it may name labels: `${__field.labels.plan}`."""

    title: str
    traceql: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """A panel.

    Args:
        title: in plain words; unique in its dashboard, because its id is made of it.
        shows: what the figures are.
        act: what to do when it is red, beginning with the verb.
        unit: as Grafana calls it.
        queries: of which at least one; none where `traceql` is given.
        traceql: what a table of traces lists.
        width: in columns of 24.
        words: what single values are called, with their colours.
        colours: of series, by their names.
        empty: what a stat says when there is no value.
        stacked: whether the series are parts of a whole.
        decimals: shown; None leaves it to Grafana.
    """

    title: str
    shows: str
    act: str
    unit: str = "short"
    queries: tuple[Query, ...] = ()
    traceql: str = ""
    kind: Kind = "series"
    width: int = 8
    levels: Levels | None = None
    links: tuple[Link, ...] = ()
    words: Mapping[int, tuple[str, str]] = field(default_factory=dict)
    colours: Mapping[str, str] = field(default_factory=dict)
    empty: str = "no turns"
    stacked: bool = False
    decimals: int | None = None

    @property
    def description(self) -> str:
        """Return what the panel shows and what to do about it, as Markdown."""
        can_be_red = self.words or (self.levels and self.levels.red is not None)
        when = "When it is red" if can_be_red else "When it stands out"
        return f"{self.shows}\n\n**{when}:** {self.act}"


stat = partial(Panel, kind="stat", width=3)
"""A panel with one figure: the value of now, not a curve."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A heading, and the panels below it."""

    title: str
    panels: tuple[Panel, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """A variable of a dashboard whose values are known; any number of them may be chosen."""

    name: str
    label: str
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Board:
    """A dashboard."""

    uid: str
    title: str
    description: str
    rows: tuple[Row, ...]
    choices: tuple[Choice, ...] = ()


PLAN: Final = Choice(name="plan", label="Plan", values=("concurrent", "sequential"))
SURFACE: Final = Choice(name="surface", label="Surface", values=("chat", "stream", "agent"))

OUTCOME_COLOURS: Final = {
    "ok": "green",
    "degraded": "yellow",
    "refused": "blue",
    "cancelled": "text",
    "shed": "orange",
    "timeout": "red",
    "upstream_error": "dark-red",
    "internal_error": "purple",
}
"""The same in every panel, so that a colour is read and not looked up."""
