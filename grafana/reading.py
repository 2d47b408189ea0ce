"""Reads dashboards as Grafana would: every expression and every search for traces, and what stands for variables."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

_VARIABLE: Final = re.compile(r"\$\{(\w+)\}|\$(\w+)")
_OF_A_LABEL: Final = re.compile(r"\$\{__field\.labels\.\w+\}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Expression:
    """A PromQL expression, with its variables, and where it stands.

    Those that are `instant` are evaluated at the end of the shown time only, the others all along it. Of those with
    `exemplar` the exemplars are shown too.
    """

    dashboard: str
    panel: str
    ref_id: str
    text: str
    instant: bool = False
    exemplar: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """A search for traces in TraceQL, and where it stands."""

    dashboard: str
    panel: str
    text: str


def panels_of(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return a dashboard's panels, without the headings of its rows."""
    return [panel for panel in document["panels"] if panel["type"] != "row"]


def expressions_in(document: Mapping[str, Any]) -> Iterator[Expression]:
    """Yield every PromQL expression of a dashboard, its annotations' last."""
    uid = document["uid"]
    for panel in panels_of(document):
        for target in panel["targets"]:
            if "expr" in target:
                yield Expression(
                    dashboard=uid,
                    panel=panel["title"],
                    ref_id=target["refId"],
                    text=target["expr"],
                    instant=bool(target.get("instant")),
                    exemplar=bool(target.get("exemplar")),
                )
    for mark in document["annotations"]["list"]:
        yield Expression(dashboard=uid, panel=f"annotation {mark['name']}", ref_id="A", text=mark["expr"])


def searches_in(document: Mapping[str, Any]) -> Iterator[Search]:
    """Yield every search for traces of a dashboard: of its tables, and of the links of its panels."""
    for panel in panels_of(document):
        for target in panel["targets"]:
            if "query" in target:
                yield Search(dashboard=document["uid"], panel=panel["title"], text=target["query"])
        for link in panel.get("fieldConfig", {}).get("defaults", {}).get("links", ()):
            for text in _searches_of(link["url"]):
                yield Search(dashboard=document["uid"], panel=panel["title"], text=text)


def _searches_of(url: str) -> Iterator[str]:
    for panes in parse_qs(urlsplit(url).query).get("panes", ()):
        for pane in json.loads(panes).values():
            for query in pane["queries"]:
                yield _OF_A_LABEL.sub("ok", query["query"])


def substitute(
    text: str,
    *,
    rate_interval: str = "1m",
    shown: str = "1m",
    interval: str = "15s",
    values: Mapping[str, str] | None = None,
) -> str:
    """Return an expression with its variables filled in, as Grafana does when everything is chosen.

    Args:
        text: the expression.
        rate_interval: for `$__rate_interval`.
        shown: for `$__range`.
        interval: for `$__interval`.
        values: for the dashboard's own variables, by their names; a regular expression that fits all where not given.
    """
    known = {"job": ".*", "instance": ".*", "plan": ".*", "surface": ".*"} | dict(values or {})
    known |= {"__rate_interval": rate_interval, "__range": shown, "__interval": interval}
    return _VARIABLE.sub(lambda found: known.get(found[1] or found[2], found[0]), text)
