"""The one clock of a turn: two readings per stage, from which every figure about it comes.

Spans, histograms, `performance_metrics`, `Server-Timing` and the log line are all computed from these integers, so they
cannot disagree. The wall clock is read once, at the start, so a clock that is set back in the middle of a turn can make
no duration negative.

A stage that runs a second time (a turn that falls back to the sequential plan) keeps its last reading here; its spans
and histograms have both.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

from telemetry import names


@dataclass(frozen=True, slots=True)
class Reading:
    """A stage's start and end, in nanoseconds of the clock's own time."""

    start_ns: int
    end_ns: int

    @property
    def seconds(self) -> float:
        """The stage's length in seconds."""
        return (self.end_ns - self.start_ns) / 1e9


class StageClock:
    """Readings of one turn, by stage name.

    Args:
        now_ns: a monotonic clock, in nanoseconds; tests on virtual time give their own.
        wall_ns: the time of day, in nanoseconds since the epoch; read once.
    """

    def __init__(
        self, now_ns: Callable[[], int] = time.perf_counter_ns, wall_ns: Callable[[], int] = time.time_ns
    ) -> None:
        self.now = now_ns
        self.started_ns = now_ns()
        self._to_wall = wall_ns() - self.started_ns
        self.readings: dict[str, Reading] = {}
        self.first_token_ns: int | None = None

    def wall(self, reading_ns: int) -> int:
        """Return the time of day, in nanoseconds since the epoch, of a reading of this clock."""
        return reading_ns + self._to_wall

    def offset(self, reading_ns: int) -> float:
        """Return how many seconds after the turn's start a reading of this clock was; never less than none."""
        return max(0, reading_ns - self.started_ns) / 1e9

    def close(self, stage: str, start_ns: int) -> Reading:
        """Read the end of `stage`, which began at `start_ns`, and keep and return its reading."""
        reading = self.readings[stage] = Reading(start_ns, max(start_ns, self.now()))
        return reading

    def seconds(self, stage: str) -> float:
        """Return the stage's length in seconds, 0.0 when it did not run (or not to its end)."""
        reading = self.readings.get(stage)
        return reading.seconds if reading else 0.0

    def first_token(self) -> dict[str, float]:
        """Return what a streamed reply's `performance_metrics` have besides: the first token, if one came."""
        if self.first_token_ns is None:
            return {}
        return {names.FIRST_TOKEN_KEY: (self.first_token_ns - self.started_ns) / 1e9}

    def performance_metrics(self) -> dict[str, float]:
        """Return the reply's `performance_metrics`: seconds by key, every key present; the agent's when it ran."""
        metrics = {key: self.seconds(stage) for stage, key in names.PERFORMANCE_KEYS.items()}
        return metrics | ({names.AGENT_KEY: self.seconds(names.AGENT)} if names.AGENT in self.readings else {})
