"""The last turns of this process, for `/ops/turns`."""

from collections import deque
from collections.abc import Iterator
from itertools import islice
from typing import Any

from app.respond.chat_body import iso_timestamp
from telemetry.turn_facts import TurnFacts

KEPT = 500
_AS_IT_IS = ("turn_id", "trace_id", "conversation_id", "plan", "surface", "outcome", "error_type")


class RecentTurns:
    """Keeps the facts of the last `KEPT` turns."""

    def __init__(self) -> None:
        self._turns: deque[TurnFacts] = deque(maxlen=KEPT)

    def add(self, facts: TurnFacts) -> None:
        """Remember a turn that ended."""
        self._turns.append(facts)

    def listing(self, min_seconds: float = 0.0, outcome: str | None = None) -> list[dict[str, Any]]:
        """Return the turns, newest first, that took at least `min_seconds` and, when asked, ended as `outcome`."""
        return [shown_turn(turn) for turn in self._matching(min_seconds, outcome)]

    def newest(self, count: int) -> list[TurnFacts]:
        """Return the last turns, at most so many, newest first."""
        return [*islice(reversed(self._turns), count)]

    def _matching(self, min_seconds: float, outcome: str | None) -> Iterator[TurnFacts]:
        for turn in reversed(self._turns):
            if turn.timings["total_time"] >= min_seconds and outcome in (None, turn.outcome):
                yield turn


def shown_turn(turn: TurnFacts) -> dict[str, Any]:
    """Return a turn as ops see it. Spelled out: `asdict` took ten times as long, and the console asks each second."""
    return {
        **{name: getattr(turn, name) for name in _AS_IT_IS},
        "details": dict(turn.details),
        "ended_at": iso_timestamp(turn.ended_at_ns),
        "performance_metrics": dict(turn.timings),
        "stages": [{"stage": each.stage, "at": each.at, "seconds": each.seconds} for each in turn.stages],
        "time_to_first_token": turn.time_to_first_token,
    }
