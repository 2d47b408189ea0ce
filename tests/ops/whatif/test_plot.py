"""The picture: well-formed, within its frame, and with all that the figures say."""

import xml.etree.ElementTree as ET
from dataclasses import replace

import pytest

from app.ops.whatif.advice import advise
from app.ops.whatif.figures import Figures
from app.ops.whatif.plot import HEIGHT, LEFT, RIGHT, WIDTH, as_svg
from app.ops.whatif.wishes import read_targets
from tests.ops.whatif.test_advice import BASE, sizes

SVG = "{http://www.w3.org/2000/svg}"
SLO = read_targets("p95<2s,shed<20%")


def drawn(figures: list[Figures], title: str = "turns") -> ET.Element:
    return ET.fromstring(as_svg(figures, SLO, advise(figures, SLO), title))


def texts(picture: ET.Element) -> list[str]:
    return [element.text or "" for element in picture.iter(f"{SVG}text")]


@pytest.mark.parametrize(
    "figures",
    [
        sizes(9, 5, 1.5, 0.2, 0, spread=0.5),
        [replace(each, p50_s=None, p95_s=None, p99_s=None, p95_interval=None) for each in sizes(1, 2)],
        [replace(BASE, size=16)],
        [replace(each, queue_full=1000) for each in sizes(*[3600.0] * 300)],
        sizes(*[0.0] * 30),
    ],
    ids=["usual", "nobody_let_in", "one_size", "all_refused", "no_waits"],
)
def test_everything_lies_within_the_frame(figures: list[Figures]) -> None:
    """Whatever the figures are, no point and no bar is outside of the picture."""
    picture = drawn(figures)
    points = [
        tuple(map(float, point.split(",")))
        for element in picture.iter()
        for point in (element.get("points") or "").split()
    ]
    bars = [
        tuple(float(bar.get(name, 0)) for name in ("x", "y", "width", "height")) for bar in picture.iter(f"{SVG}rect")
    ]
    corners = [(x + w, y + h) for x, y, w, h in bars] + [(x, y) for x, y, _w, _h in bars]
    labels = [(float(text.get("x", -1)), float(text.get("y", -1))) for text in picture.iter(f"{SVG}text")]
    for x, y in [*points, *corners, *labels]:
        assert 0 <= x <= WIDTH
        assert 0 <= y <= HEIGHT


def test_the_three_waits_the_refusals_and_the_marks_are_drawn() -> None:
    """A line per quantile with a point per size, a bar per size that refuses, the target, the knee and the size."""
    figures = sizes(9, 5, 1.5, 0.2, 0, spread=0.5)
    figures[0] = replace(figures[0], queue_timeout=250)
    picture = drawn(figures)
    lines = [element.get("points", "").split() for element in picture.iter(f"{SVG}polyline")]
    assert [len(line) for line in lines] == [5, 5, 5]
    assert len(lines[1]) == len(set(lines[1]))
    bars = [element for element in picture.iter(f"{SVG}rect") if element.get("opacity") == "0.8"]
    assert len(bars) == 1
    shown = texts(picture)
    assert {"p50", "p95", "p99", "p95<2s", "knee, and smallest that meets: 3"} <= set(shown)


def test_bars_keep_to_their_panel_however_far_apart_sizes_are() -> None:
    """At sizes in steps of eight, the first and the last bar do not reach over the axes."""
    figures = [replace(each, size=8 * each.size, queue_full=500) for each in sizes(9, 5, 2, 1)]
    bars = [bar for bar in drawn(figures).iter(f"{SVG}rect") if bar.get("opacity") == "0.8"]
    assert len(bars) == 4
    assert float(bars[0].get("x", 0)) >= LEFT
    assert float(bars[-1].get("x", 0)) + float(bars[-1].get("width", 0)) <= RIGHT


@pytest.mark.parametrize("longest_s", [0.05, 0.11, 0.5, 0.99, 1, 1.01, 2.2, 3.5, 5.5, 7, 9.9, 10, 59, 3600])
def test_an_axis_has_labels_whatever_its_length(longest_s: float) -> None:
    """The waits' axis has three to seven labels, the last one at or beyond the longest wait, up to twice as far."""
    labels = [float(text.removesuffix(" s")) for text in texts(drawn(sizes(longest_s, 0))) if text.endswith(" s")]
    assert 3 <= len(labels) <= 7
    assert longest_s <= 0.1 or 0.5 * max(labels) <= longest_s <= 1.5 * max(labels)


def test_a_title_is_text() -> None:
    """What would be markup is written out."""
    assert "a < b & c" in texts(drawn(sizes(1, 0), "a < b & c"))
