"""Limit and capacity over time, as SVGs with a panel for each run.

A unit of each path is a pixel, and all points are whole ones, so that a figure has no more bytes than it has to.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from itertools import groupby, pairwise

POINTS, POINT_PX = 400, 2
CALL_PX, MOST_CALLS = 2, 70
LEFT, TOP, PANEL_PX = 44, 34, 196
WIDTH = LEFT + POINTS * POINT_PX + 20
LIMIT, CAPACITY, BUSY, GREY, INK = "#1f6fa8", "#c98a1b", "#cfe1ee", "#8a8f98", "#22272e"
LEGEND = ((BUSY, "calls that the host works on", 9), (CAPACITY, "what it could take", 3), (LIMIT, "limit", 1.5))


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """What one panel shows, with a value for each second of the run.

    Args:
        limit: the controller's.
        busy: calls that the host works on.
        capacity: of calls at once, or how many the host works on for the oracle.
    """

    title: str
    limit: Sequence[float]
    busy: Sequence[float]
    capacity: Sequence[float]


def as_svg(panels: Sequence[Panel]) -> str:
    """Return one figure, with the panels under each other."""
    height = TOP + PANEL_PX * len(panels)
    legend = [
        f'<path d="M{LEFT + 240 * place} 13h22" stroke="{colour}" stroke-width="{wide}"/>'
        + _text(LEFT + 240 * place + 29, 17, name)
        for place, (colour, name, wide) in enumerate(LEGEND)
    ]
    drawn = [part for place, panel in enumerate(panels) for part in _panel(panel, TOP + PANEL_PX * place)]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
        'font-family="system-ui, Helvetica, Arial, sans-serif" font-size="12" fill="none">\n'
        f'<rect width="{WIDTH}" height="{height}" fill="#fff"/>\n' + "\n".join([*legend, *drawn]) + "\n</svg>\n"
    )


def _panel(panel: Panel, top: int) -> list[str]:
    bottom, seconds = top + 16 + CALL_PX * MOST_CALLS, len(panel.limit) - 1
    right = LEFT + POINTS * POINT_PX
    busy = _points(panel.busy)
    grid = "".join(f"M{LEFT} {bottom - CALL_PX * calls}H{right}" for calls in range(20, MOST_CALLS, 20))
    ticks = range(0, seconds + 1, 300 if seconds > 900 else 100)
    return [
        _text(LEFT, top + 10, panel.title, weight="600"),
        f'<path d="{_steps(busy, bottom)}V{bottom}H{LEFT}z" fill="{BUSY}"/>',
        f'<path d="{grid}" stroke="#000" stroke-opacity=".08"/>',
        f'<path d="{_steps(_points(panel.capacity), bottom)}" stroke="{CAPACITY}" stroke-width="2.4"/>',
        f'<path d="{_steps(_points(panel.limit), bottom)}" stroke="{LIMIT}" stroke-width="1.2"/>',
        f'<path d="M{LEFT} {bottom}H{right}" stroke="{GREY}"/>',
        *(_text(LEFT - 6, bottom + 4 - CALL_PX * calls, str(calls), "end") for calls in range(0, MOST_CALLS, 20)),
        *(
            _text(LEFT + round(POINTS * POINT_PX * time / seconds), bottom + 14, f"{time} s", "middle")
            for time in ticks
        ),
    ]


def _points(values: Sequence[float]) -> list[int]:
    """Return the means of `POINTS` parts of equal length, in pixels: nothing shorter can be seen."""
    edges = [len(values) * point // POINTS for point in range(POINTS + 1)]
    parts = [values[start : max(end, start + 1)] for start, end in pairwise(edges)]
    return [round(CALL_PX * min(MOST_CALLS, sum(part) / len(part))) for part in parts]


def _steps(points: Sequence[int], bottom: int) -> str:
    """Return a path with a step wherever the next point is another one."""
    path, before = f"M{LEFT} {bottom - points[0]}", points[0]
    for value, run in groupby(points):
        path += f"v{before - value}" if value != before else ""
        path += f"h{POINT_PX * len(list(run))}"
        before = value
    return path


def _text(x: float, y: float, text: str, anchor: str = "start", weight: str = "400") -> str:
    return f'<text x="{x}" y="{y}" text-anchor="{anchor}" fill="{INK}" font-weight="{weight}">{escape(text)}</text>'
