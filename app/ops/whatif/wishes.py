"""What is asked for on the command line, read: sizes, targets, a factor."""

import re
from typing import Literal

from app.ops.whatif.figures import Target

MOST_SIZES, LARGEST = 1000, 100_000
_TARGET = re.compile(r"(p\d{1,2}(?:\.\d+)?|shed|refused)\s*<=?\s*(\d+(?:\.\d+)?)\s*(ms|s|%)")


def read_sizes(text: str) -> list[int]:
    """Return the sizes of `1..80`, `8..64:8` or `8,12,16`, or of any of these by comma.

    Raises:
        ValueError: it is none of them, or too many.
    """
    sizes: set[int] = set()
    for part in text.split(","):
        found = re.fullmatch(r"\s*(\d{1,6})(?:\s*\.\.\s*(\d{1,6})(?::(\d{1,6}))?)?\s*", part)
        if found is None:
            raise ValueError(f"{part!r} is no size and no range such as 1..80")
        first, last, step = int(found[1]), int(found[2] or found[1]), int(found[3] or 1)
        if not 1 <= first <= last <= LARGEST or step < 1:
            raise ValueError(f"{part!r} must go upwards, from 1 at least to {LARGEST} at most")
        sizes.update(range(first, last + 1, step))
    if len(sizes) > MOST_SIZES:
        raise ValueError(
            f"{len(sizes)} sizes are too many, {MOST_SIZES} is the most; a range may have a step: 1..5000:50"
        )
    return sorted(sizes)


def read_targets(text: str) -> list[Target]:
    """Return the targets of `p95<2s`, `p99<500ms` or `shed<1%`, or of several by comma.

    Raises:
        ValueError: one of them is none.
    """
    return [_target(part.strip()) for part in text.split(",")]


def _target(text: str) -> Target:
    found = _TARGET.fullmatch(text)
    if found is None:
        raise ValueError(f"{text!r} is no target such as p95<2s, p99<500ms or shed<1%")
    what, limit, unit = found[1], float(found[2]), found[3]
    kind: Literal["wait", "refused"] = "wait" if what.startswith("p") else "refused"
    share = float(what[1:]) / 100 if kind == "wait" else 0.0
    if (kind == "refused") != (unit == "%") or (kind == "wait" and share <= 0):
        raise ValueError(f"{text!r}: a wait is in s or ms, what is shed in %")
    return Target(text=text, kind=kind, share=share, limit=limit / {"s": 1, "ms": 1000, "%": 100}[unit])


def read_factor(text: str) -> float:
    """Return the factor of `2x` or `1.5`.

    Raises:
        ValueError: it is none from 1 to 100.
    """
    found = re.fullmatch(r"(\d{1,3}(?:\.\d+)?)x?", text.strip())
    if found is None or not 1 <= float(found[1]) <= 100:
        raise ValueError(f"{text!r} is no factor from 1x to 100x")
    return float(found[1])


def read_seconds(text: str) -> float:
    """Return the seconds of `10` or `2.5`, above 0.

    Raises:
        ValueError: it is none.
    """
    found = re.fullmatch(r"(\d{1,6}(?:\.\d+)?)s?", text.strip())
    if found is None or float(found[1]) <= 0:
        raise ValueError(f"{text!r} must be a number of seconds above 0")
    return float(found[1])


def read_count(text: str) -> int:
    """Return the number of `64`, or 0.

    Raises:
        ValueError: it is none.
    """
    if not re.fullmatch(r"\d{1,6}", text.strip()):
        raise ValueError(f"{text!r} must be a whole number, 0 or more")
    return int(text)
