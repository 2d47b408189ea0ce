"""Values refuse what is out of bounds."""

import math
import re
from collections.abc import Callable

import pytest

from app.generate.agent.values import Acts, Affect, NextAction, ProgressSignal, Snapshot, Support

ANY = re.compile("")
"""Whatever the reason: that it is a ValueError is the fact."""

WRONG: dict[str, Callable[[], object]] = {
    "affect over 5": lambda: Affect(anxiety=6),
    "affect under 0": lambda: Affect(interest=-1),
    "novelty over 1": lambda: ProgressSignal(novelty_ratio=1.1),
    "novelty not a number": lambda: ProgressSignal(novelty_ratio=math.nan),
    "breadth 0": lambda: ProgressSignal(scope_breadth=0),
    "six entries": lambda: Snapshot(blockers=("a",) * 6),
    "an empty entry": lambda: Snapshot(resources=("",)),
    "a long entry": lambda: Snapshot(uncertainties=("a" * 121,)),
    "a long line": lambda: Snapshot(goal="a" * 241),
    "a NUL": lambda: Snapshot(goal="\x00"),
    "a lone surrogate": lambda: Snapshot(options_considered=("\ud800",)),
    "confidence over 1": lambda: Support(type="絞り込み", reason="", confidence=2),
    "no act": lambda: Acts(acts=(), reason=""),
    "three acts": lambda: Acts(acts=("Act", "Probe", "Inform"), reason=""),
    "an act twice": lambda: Acts(acts=("Act", "Act"), reason=""),
    "urgency 0": lambda: NextAction(action="a", urgency=0, importance=1, reason="", expected_outcome=""),
}


@pytest.mark.parametrize("name", WRONG)
def test_out_of_bounds(name: str) -> None:
    """A value that is built is valid: each of these is refused."""
    with pytest.raises(ValueError, match=ANY):
        WRONG[name]()
