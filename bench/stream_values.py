"""What the load of streams is told, and what it finds (bench/streams.py)."""

from dataclasses import dataclass

KEPT_UP, LATE_S = 0.95, 0.5
SENT_ENOUGH = 0.9
"""Of what a step wants: with less, the stand-ins are at their end, not the server."""


@dataclass(frozen=True)
class StreamPlan:
    """What to do. `rates` are tokens per second of all streams together; streams that are timed begin at the first."""

    url: str
    upstream: str
    pids: tuple[int, ...]
    rates: tuple[float, ...]
    streams: int = 1000
    ramp_s: float = 10.0
    database_s: float = 0.1
    first_s: float = 0.3
    begun_per_s: float = 20.0
    begun_s: float = 15.0
    begun_tokens: int = 10
    step_s: float = 3.0


@dataclass
class Step:
    """At one rate: tokens per second wanted, sent and delivered, in so many pieces; how late they were; CPU share.

    `with_turns`: turns began and ended beside them, whose cost the CPU share has too.
    """

    wanted_per_s: float
    sent_per_s: float
    delivered_per_s: float
    pieces_per_s: float
    late_ms: float
    cpu: float
    with_turns: bool = False

    @property
    def kept_up(self) -> bool:
        """Whether the server delivered what it was sent."""
        return self.delivered_per_s >= KEPT_UP * self.sent_per_s and self.late_ms <= 1e3 * LATE_S

    @property
    def was_sent(self) -> bool:
        """Whether the stand-ins could send what was wanted."""
        return self.sent_per_s >= SENT_ENOUGH * self.wanted_per_s


@dataclass
class StreamResult:
    """What came of it: milliseconds that the server added to the first token, megabytes, and the steps."""

    streams: int
    begun: int
    first_p50: float
    first_p99: float
    rss_before_mb: float
    rss_mb: float
    tokens: int
    steps: list[Step]
