"""Dashboards as code: `python -m grafana` writes them to `grafana/dashboards/`, where Grafana finds them.

Each dashboard has a module that says what it shows; `building` makes Grafana's JSON of it, `reading` takes that apart.
"""

import json
from typing import Any

from grafana import canary, data_safety, limiter, process, turns
from grafana.building import to_json
from grafana.reading import Expression, Search, expressions_in, searches_in, substitute

BOARDS = (turns.BOARD, limiter.BOARD, canary.BOARD, data_safety.BOARD, process.BOARD)

__all__ = ["BOARDS", "Expression", "Search", "documents", "expressions", "files", "searches", "substitute"]


def files() -> dict[str, str]:
    """Return what is to stand in each file of `grafana/dashboards/`."""
    return {f"{board.uid.removeprefix('nursery-')}.json": to_json(board) for board in BOARDS}


def documents() -> tuple[dict[str, Any], ...]:
    """Return every dashboard as Grafana reads it."""
    return tuple(json.loads(text) for text in files().values())


def expressions() -> tuple[Expression, ...]:
    """Return every PromQL expression of every dashboard, with its variables; `substitute` fills them in."""
    return tuple(found for document in documents() for found in expressions_in(document))


def searches() -> tuple[Search, ...]:
    """Return every search for traces of every dashboard."""
    return tuple(found for document in documents() for found in searches_in(document))
