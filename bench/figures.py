"""Figures of several rounds: a median and its range, and how they are written."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Figure:
    """A median of rounds, with their range."""

    values: tuple[float, ...]

    @property
    def median(self) -> float:
        return median(self.values) if self.values else math.nan

    def text(self, form: str = "{:,.0f}") -> str:
        """Return `median (least-most)`."""
        if not self.values:
            return "not measured"
        middle, least, most = (form.format(value) for value in (self.median, min(self.values), max(self.values)))
        return f"{middle} ({least} to {most})" if len(self.values) > 1 else middle


def figure(rounds: Sequence[T], of: Callable[[T], float]) -> Figure:
    """Return the figure that `of` takes from each round."""
    return Figure(tuple(of(each) for each in rounds))


def ratios(these: Sequence[T], those: Sequence[T], of: Callable[[T], float]) -> Figure:
    """Return the ratio round by round, so that what slowed both does not count; of the rounds that both have."""
    return Figure(tuple(of(this) / of(that) for this, that in zip(these, those, strict=False)))
