"""The limiter over the last minute, as far as a client has looked: what grew since, how fast, and lines of it. Pure."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from app.ops.limiter_cli.document import Limiter

KEPT_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What was seen at a time, in seconds of any clock that only goes forwards."""

    at_s: float
    limiter: Limiter


Value = Callable[[Limiter], int]


def kept(looks: Sequence[Look]) -> list[Look]:
    """Return the looks of the last minute, oldest first, without those at a process that the newest is no more."""
    newest = looks[-1]
    return [
        look for look in looks if newest.at_s - look.at_s <= KEPT_S and look.limiter.instance == newest.limiter.instance
    ]


def grown(looks: Sequence[Look], value: Value) -> int:
    """Return how much a count grew in the last minute; from a single look, how much since the server's start."""
    first = value(looks[0].limiter) if len(looks) > 1 else 0
    return max(0, value(looks[-1].limiter) - first)


def per_second(looks: Sequence[Look], value: Value) -> float | None:
    """Return how fast a count grew between the last two looks; None when there are no two."""
    if len(looks) < 2 or looks[-1].at_s <= looks[-2].at_s:
        return None
    before, now = looks[-2:]
    return max(0, value(now.limiter) - value(before.limiter)) / (now.at_s - before.at_s)


def line(looks: Sequence[Look], value: Value, cells: int) -> list[int | None]:
    """Return the highest value seen in each `cells`th of the last minute, the newest last; None where nobody looked."""
    seen: list[int | None] = [None] * cells
    for look in looks:
        back = int((looks[-1].at_s - look.at_s) / KEPT_S * cells)
        if back < cells:
            seen[-1 - back] = max(seen[-1 - back] or 0, value(look.limiter))
    return seen
