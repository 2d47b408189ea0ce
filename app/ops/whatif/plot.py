"""The sweep drawn, as an SVG of its own: wait against size, and under it the share of turns that was refused."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise

from app.ops.whatif.advice import Advice
from app.ops.whatif.figures import Figures, Target

WIDTH, HEIGHT = 920, 600
LEFT, RIGHT = 78, 890
WAITS, REFUSED = (76, 370), (424, 540)
"""Top and bottom of the two panels, in pixels."""
LINES = (("p50", "p50_s", "#7fb2d6"), ("p95", "p95_s", "#1f6fa8"), ("p99", "p99_s", "#0b2f4e"))
RED, GREEN, GREY, PALE, INK = "#c0492f", "#2c7a4b", "#8a8f98", "#e6e8eb", "#22272e"


@dataclass(frozen=True, slots=True)
class _Axis:
    """From values to pixels."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low)
        return round(self.start + share * (self.end - self.start), 1)


def as_svg(figures: Sequence[Figures], targets: Sequence[Target], advice: Advice, title: str) -> str:
    """Return the picture."""
    sizes = [each.size for each in figures]
    gap = min((b - a for a, b in pairwise(sizes)), default=1)
    across = _Axis(sizes[0] - gap / 2, sizes[-1] + gap / 2, LEFT, RIGHT)
    most_s = max(getattr(each, name) or 0.0 for each in figures for _label, name, _colour in LINES)
    waits = _Axis(0.0, _top(max(most_s, 0.1)), WAITS[1], WAITS[0])
    shares = _Axis(0.0, _top(max(0.01, *(each.refused_share for each in figures)), 1.0), REFUSED[1], REFUSED[0])
    parts = [
        _text(LEFT, 30, title, size=17, weight="600"),
        *_grid(waits, WAITS, lambda value: f"{value:g} s"),
        *_grid(shares, REFUSED, lambda value: f"{value * 100:g} %"),
        *_sizes(across, sizes),
        _band(figures, across, waits),
        *(_line(figures, across, waits, name, colour) for _label, name, colour in LINES),
        *_bars(figures, across, shares, 0.7 * gap),
        *_limits(targets, waits, shares),
        *_marks(advice, across),
        *_legend(any(each.p95_interval for each in figures)),
        _text(LEFT, WAITS[0] - 10, "wait for a slot, of the turns let in", colour=GREY),
        _text(LEFT, REFUSED[0] - 10, "turns refused", colour=GREY),
        _text((LEFT + RIGHT) / 2, HEIGHT - 14, "slots (OPENAI_API_POOL_SIZE)", anchor="middle"),
    ]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" '
        'font-family="system-ui, Helvetica, Arial, sans-serif" font-size="13">\n'
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>\n' + "\n".join(filter(None, parts)) + "\n</svg>\n"
    )


def _top(value: float, at_most: float = math.inf) -> float:
    """Return the end of an axis that a value fits under: 1, 2, 2.5 or 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(value))
    return min(at_most, next(step * power for step in (1, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10) if step * power >= value))


def _ticks(axis: _Axis) -> list[float]:
    span = axis.high - axis.low
    power = 10.0 ** math.floor(math.log10(span))
    step = next(part * power for part in (0.1, 0.2, 0.25, 0.5, 1.0, 2.0, 2.5) if span / (part * power) <= 5.01)
    return [step * number for number in range(int(span / step + 0.01) + 1)]


def _grid(axis: _Axis, panel: tuple[int, int], label: Callable[[float], str]) -> list[str]:
    parts = []
    for value in _ticks(axis):
        y = axis(value)
        parts.append(f'<path d="M{LEFT} {y}H{RIGHT}" stroke="{PALE if value else GREY}"/>')
        parts.append(_text(LEFT - 8, y + 4, label(round(value, 10)), anchor="end"))
    return [*parts, f'<path d="M{LEFT} {panel[0]}V{panel[1]}" stroke="{GREY}"/>']


def _sizes(across: _Axis, sizes: Sequence[int]) -> list[str]:
    """Label round sizes under both panels, some ten of them."""
    span = sizes[-1] - sizes[0]
    step = next((step for step in _steps() if span / step <= 12), span or 1)
    shown = [size for size in range(sizes[0], sizes[-1] + 1) if size % step == 0 or span < 12]
    return [
        _text(across(size), bottom + 18, str(size), anchor="middle")
        for size in shown or sizes[:1]
        for bottom in (WAITS[1], REFUSED[1])
    ]


def _steps() -> list[int]:
    return [part * 10**power for power in range(6) for part in (1, 2, 5)]


def _line(figures: Sequence[Figures], across: _Axis, waits: _Axis, name: str, colour: str) -> str:
    points = [(across(each.size), waits(value)) for each in figures if (value := getattr(each, name)) is not None]
    if not points:
        return ""
    path = " ".join(f"{x},{y}" for x, y in points)
    dots = "".join(f'<circle cx="{x}" cy="{y}" r="2.4"/>' for x, y in points) if len(points) <= 40 else ""
    line = f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2.2" stroke-linejoin="round"/>'
    return f'{line}<g fill="{colour}">{dots}</g>'


def _band(figures: Sequence[Figures], across: _Axis, waits: _Axis) -> str:
    known = [(each.size, each.p95_interval) for each in figures if each.p95_interval is not None]
    if len(known) < 2:
        return ""
    highest = [f"{across(size)},{waits(min(high, waits.high))}" for size, (_low, high) in known]
    lowest = [f"{across(size)},{waits(min(low, waits.high))}" for size, (low, _high) in reversed(known)]
    return f'<polygon points="{" ".join([*highest, *lowest])}" fill="{LINES[1][2]}" opacity="0.16"/>'


def _bars(figures: Sequence[Figures], across: _Axis, shares: _Axis, share_of_gap: float) -> list[str]:
    wide = round(min(34.0, share_of_gap * (RIGHT - LEFT) / (across.high - across.low)), 1)
    return [
        f'<rect x="{round(across(each.size) - wide / 2, 1)}" y="{shares(each.refused_share)}" width="{max(wide, 1)}" '
        f'height="{round(REFUSED[1] - shares(each.refused_share), 1)}" fill="{RED}" opacity="0.8"/>'
        for each in figures
        if each.refused
    ]


def _limits(targets: Sequence[Target], waits: _Axis, shares: _Axis) -> list[str]:
    parts = []
    for target in targets:
        axis = waits if target.kind == "wait" else shares
        if target.limit <= axis.high:
            y = axis(target.limit)
            parts.append(f'<path d="M{LEFT} {y}H{RIGHT}" stroke="{RED}" stroke-dasharray="6 4"/>')
            parts.append(_text(RIGHT, y - 5, target.text, anchor="end", colour=RED))
    return parts


def _marks(advice: Advice, across: _Axis) -> list[str]:
    """Draw the knee and the recommended size from top to bottom; where they are one, one."""
    marks = {advice.knee: (GREY, "knee"), advice.smallest: (GREEN, "smallest that meets")}
    if advice.knee == advice.smallest:
        marks[advice.knee] = (GREEN, "knee, and smallest that meets")
    parts = []
    for row, (size, (colour, name)) in enumerate((size, mark) for size, mark in marks.items() if size is not None):
        x, late = across(size), across(size) > RIGHT - 200
        parts.append(f'<path d="M{x} {WAITS[0]}V{REFUSED[1]}" stroke="{colour}" stroke-width="1.4"/>')
        label, side = f"{name}: {size}", -6 if late else 6
        y = WAITS[0] + 14 + 17 * row
        parts.append(
            _text(x + side, y, label, anchor="end" if late else "start", colour=colour, weight="600", halo=True)
        )
    return parts


def _legend(banded: bool) -> list[str]:
    names = [(name, colour) for name, _attribute, colour in LINES]
    parts, x = [], RIGHT - 78 * len(names) - (150 if banded else 0)
    if banded:
        parts.append(f'<rect x="{x}" y="{WAITS[0] - 22}" width="22" height="12" fill="{LINES[1][2]}" opacity="0.16"/>')
        parts.append(_text(x + 28, WAITS[0] - 11, "p95, 95 % interval"))
        x += 165
    for name, colour in names:
        parts.append(f'<path d="M{x} {WAITS[0] - 16}h22" stroke="{colour}" stroke-width="2.4"/>')
        parts.append(_text(x + 28, WAITS[0] - 11, name))
        x += 74
    return parts


def _text(
    x: float,
    y: float,
    text: str,
    *,
    anchor: str = "start",
    colour: str = INK,
    size: int | None = None,
    weight: str | None = None,
    halo: bool = False,
) -> str:
    extra = f' font-size="{size}"' if size else ""
    extra += f' font-weight="{weight}"' if weight else ""
    extra += ' paint-order="stroke" stroke="#ffffff" stroke-width="4"' if halo else ""
    return f'<text x="{x}" y="{y}" text-anchor="{anchor}" fill="{colour}"{extra}>{escape(text)}</text>'
