"""How long things took in the last minute: quantiles out of a small bounded sketch. Pure.

A value is counted in the logarithmic bin it falls into, so a quantile is right to within `ERROR` of itself whatever the
distribution (DDSketch: Masson, Rim, Lee, PVLDB 12(12), 2019). Each `SLICE_S` of time has counts of its own; what is
older than a minute is not looked at, and its place is used again.

One thread adds; any may ask. A reader takes copies first, each in one step that no other thread can come between.
"""

from collections import Counter
from math import ceil, log

WINDOW_S = 60.0
SLICE_S = 5.0
ERROR = 0.02
SHORTEST_S, LONGEST_S = 1e-4, 3600.0
"""What is shorter counts as 0, and what is longer as an hour."""
_GAMMA = (1 + ERROR) / (1 - ERROR)
_SLICES = int(WINDOW_S / SLICE_S) + 1  # the one that is being filled, and a whole minute before it


class LastMinute:
    """Durations of the last 60 to 65 seconds, in at most 13 times 437 bins."""

    def __init__(self) -> None:
        self._slices: list[tuple[int, dict[int | None, int]]] = [(-1, {})] * _SLICES

    def add(self, now: float, seconds: float) -> None:
        """Count something that ended at `now` after so many seconds."""
        number = int(now // SLICE_S)
        begun, counts = self._slices[number % _SLICES]
        if begun != number:
            counts = {}
            self._slices[number % _SLICES] = number, counts
        place = _bin(seconds)
        counts[place] = counts.get(place, 0) + 1

    def quantiles(self, now: float, *shares: float) -> list[float | None]:
        """Return for each share (0.95 is p95) the seconds that so many were not over; None where nothing ended."""
        counts = self._counts(now)
        total = counts.total()
        if not total:
            return [None] * len(shares)
        ordered = sorted((_seconds(place), count) for place, count in counts.items())
        return [_at(ordered, share * (total - 1)) for share in shares]

    def _counts(self, now: float) -> Counter[int | None]:
        newest = int(now // SLICE_S)
        merged: Counter[int | None] = Counter()
        for number, counts in list(self._slices):
            if newest - _SLICES < number <= newest:
                merged.update(dict(counts))
        return merged


def _bin(seconds: float) -> int | None:
    return ceil(log(min(seconds, LONGEST_S), _GAMMA)) if seconds >= SHORTEST_S else None


def _seconds(place: int | None) -> float:
    return 2 * _GAMMA**place / (_GAMMA + 1) if place is not None else 0.0


def _at(ordered: list[tuple[float, int]], rank: float) -> float:
    passed = 0
    for seconds, count in ordered:
        passed += count
        if passed > rank:
            return seconds
    return ordered[-1][0]
