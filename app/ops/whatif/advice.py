"""What to do about the figures: the knee, the smallest size that meets the targets, and one sentence."""

from collections.abc import Sequence
from dataclasses import dataclass

from app.ops.whatif.figures import Figures, Target

VARIABLE = "OPENAI_API_POOL_SIZE"


@dataclass(frozen=True, slots=True, kw_only=True)
class Advice:
    """Sizes, None where there is none: the knee; the smallest that meets the targets; and that meets them surely."""

    knee: int | None
    smallest: int | None
    sure: int | None
    sentence: str


def advise(figures: Sequence[Figures], targets: Sequence[Target]) -> Advice:
    """Return the advice that figures by size, ascending, give."""
    bend = knee([(each.size, each.cost_s) for each in figures])
    smallest = _smallest([(each.size, each.meets) for each in figures])
    sure = _smallest([(each.size, each.surely) for each in figures])
    by_size = {each.size: each for each in figures}
    wanted = " and ".join(target.text for target in targets)
    if smallest is None:
        sentence = _none_meets(figures, wanted)
    else:
        sentence = _take(by_size[smallest], f"meets {wanted}{', and the knee' if bend == smallest else ''}", sure)
    if bend not in (None, smallest):
        sentence += f"; beyond {bend}, the knee, each further slot buys little"
    return Advice(knee=bend, smallest=smallest, sure=sure, sentence=f"{sentence}.")


def knee(curve: Sequence[tuple[float, float]]) -> int | None:
    """Return the size beyond which more slots buy little, None where they change nothing.

    The point that lies farthest under the line from the curve's first point to its last, both axes scaled to 1.

    Source: V. Satopaa et al., "Finding a 'Kneedle' in a Haystack: Detecting Knee Points in System Behavior" (2011).

    Args:
        curve: size and cost, by size.
    """
    (first, _), (last, _) = curve[0], curve[-1]
    lowest, highest = min(cost for _, cost in curve), max(cost for _, cost in curve)
    if highest <= lowest or last <= first:
        return None
    under = [(1 - (size - first) / (last - first)) - (cost - lowest) / (highest - lowest) for size, cost in curve]
    return int(curve[under.index(max(under))][0])


def _smallest(meets: Sequence[tuple[int, bool]]) -> int | None:
    """Return the smallest size that meets, as all larger ones do."""
    found = None
    for size, met in reversed(meets):
        if not met:
            break
        found = size
    return found


def _take(figures: Figures, what_it_does: str, sure: int | None) -> str:
    expected = f"p95 wait {seconds(figures.p95_s)}"
    if figures.p95_interval is not None and figures.p95_interval[1] > 0:
        low, high = figures.p95_interval
        expected += f", 95 % interval {seconds(low)} to {seconds(high)}"
    expected += f", {percent(figures.refused_share)} refused"
    sentence = f"Set {VARIABLE} to {figures.size}, the smallest size here that {what_it_does} ({expected})"
    if sure not in (None, figures.size):
        sentence += f", or to {sure} to meet it at the interval's upper end too"
    return sentence


def _none_meets(figures: Sequence[Figures], wanted: str) -> str:
    largest = figures[-1]
    expected = f"p95 wait {seconds(largest.p95_s)}, {percent(largest.refused_share)} refused"
    sizes = f"No size from {figures[0].size} to {largest.size}"
    return f"{sizes} meets {wanted} (at {largest.size}: {expected}): try larger ones"


def seconds(value: float | None) -> str:
    """Return a wait as text."""
    if value is None:
        return "-"
    if value < 0.0005:
        return "0 s"
    return f"{value * 1000:.0f} ms" if value < 0.9995 else f"{value:.1f} s"


def percent(share: float) -> str:
    """Return a share as text, one that is not zero never as zero."""
    if 0 < share < 0.001:
        return "<0.1 %"
    return f"{share * 100:.1f} %" if share < 0.9995 else "100 %"
