"""What the gate tells of itself, and what it notes to that end. Seconds, and counts since the start where nothing else
is said. Pure; one thread notes, any may ask.
"""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import inf
from typing import Literal, get_args

from app.admit.last_minute import WINDOW_S, LastMinute

KEPT_CHANGES = 20
FIRST_MEAN_S, LEAST_WEIGHT = 1.0, 0.1
"""Of the mean service time: what is taken for it where nothing is known, and how far each slot that is given back moves
it. The first ten are averaged, so that the guess is gone with the first.
"""
KNOWN_FOR_S = WINDOW_S
"""When no service has ended for so long, the mean is forgotten: calls of the night say nothing of the morning's."""

Mode = Literal["fixed", "adaptive"]
"""Who decides the number of slots: people, or the adaptive limit."""
Reason = Literal["manual", "grow", "cut", "fleet"]
"""Who changes the number of slots: a person, the adaptive limit upwards or downwards, or the share of a fleet."""
Shed = Literal["queue_full", "predicted_wait", "queue_timeout"]
"""Why a turn was refused: too many waited, they would have taken too long, or they did."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LimiterChange:
    """A change of the number of slots.

    Args:
        at_s: when, in seconds since the epoch; the last time, where there were more.
        before: slots before it; before the first time, where there were more.
        after: slots since.
        reason: what kind of change.
        mode: who decides since.
        who: who asked for it, where somebody did.
        why: what they said of it.
        times: how many changes of the adaptive limit, one after the other in the same direction, this stands for.
    """

    at_s: float
    before: int
    after: int
    reason: Reason
    mode: Mode = "fixed"
    who: str = ""
    why: str = ""
    times: int = 1

    def continues(self, earlier: "LimiterChange") -> bool:
        """Return whether this is another step of the adaptive limit in the direction of the one before."""
        return self.reason in {"grow", "cut"} and self.reason == earlier.reason and earlier.after == self.before

    def after_all(self, earlier: "LimiterChange") -> "LimiterChange":
        """Return the one change that both are together."""
        return replace(self, before=earlier.before, times=earlier.times + self.times)


@dataclass(frozen=True, slots=True, kw_only=True)
class GateStatistics:
    """The gate at one moment.

    Args:
        total: slots.
        borrowed: slots in use, by turns and by studies; more than `total` for a while after a cut.
        studies: of these, those that no turn wanted, and that studies of the conversation agent have.
        waiting: turns in line.
        oldest_wait_s: how long the first of these has been waiting; 0 when nobody is.
        users: how many users have a turn that waits or has a slot.
        users_at_cap: how many of them have as many calls as a user may have.
        mean_service_s: how long a turn is expected to keep its slot; every prediction is made with it. It is the mean
            of the last services, the newest counting most, without those that failed or were left sooner than that;
            1 when none has ended for a minute. Where half of the calls in flight have lasted longer already, it is
            what these have.
        wait_p50_s: of the turns that got their slot in the last minute, half waited no longer; None when there is none.
        wait_p95_s: likewise, 95 of 100.
        service_p50_s: of the slots that turns gave back in the last minute, half were kept no longer.
        service_p95_s: likewise, 95 of 100.
        admitted: turns that got a slot.
        abandoned: turns that left the line by themselves.
        shed: turns that were refused, by why; those that the door refused are among them.
        changes: of the number of slots, by reason. Both have every key from the start on.
    """

    total: int
    borrowed: int
    studies: int
    waiting: int
    oldest_wait_s: float
    users: int
    users_at_cap: int
    mean_service_s: float
    wait_p50_s: float | None
    wait_p95_s: float | None
    service_p50_s: float | None
    service_p95_s: float | None
    admitted: int
    abandoned: int
    shed: Mapping[Shed, int]
    changes: Mapping[Reason, int]


class GateNotes:
    """Counts, durations and changes, noted as they happen."""

    def __init__(self) -> None:
        self.admitted = self.abandoned = 0
        self.shed: dict[Shed, int] = dict.fromkeys(get_args(Shed), 0)
        self.change_counts: dict[Reason, int] = dict.fromkeys(get_args(Reason), 0)
        self.changes: deque[LimiterChange] = deque(maxlen=KEPT_CHANGES)
        self._mean_s, self._services, self._ended_at = FIRST_MEAN_S, 0, -inf
        self._waits, self._holds = LastMinute(), LastMinute()

    def wait(self, now: float, wait_s: float) -> None:
        """Note that a turn got its slot."""
        self.admitted += 1
        self._waits.add(now, wait_s)

    def mean_s(self, now: float) -> float:
        """Return the mean of the services of late, or the guess where none is known."""
        return self._mean_s if now - self._ended_at <= KNOWN_FOR_S else FIRST_MEAN_S

    def service(self, now: float, held_s: float, *, whole: bool = True) -> None:
        """Note that a turn gave its slot back; one that failed or was left early says only that it would be longer."""
        self._holds.add(now, held_s)
        mean_s = self.mean_s(now)
        if not whole and held_s < mean_s:
            return
        self._services = self._services + 1 if now - self._ended_at <= KNOWN_FOR_S else 1
        self._mean_s = mean_s + max(LEAST_WEIGHT, 1 / self._services) * (held_s - mean_s)
        self._ended_at = now

    def change(self, change: LimiterChange) -> None:
        """Note that the number of slots is another one."""
        self.change_counts[change.reason] += 1
        if self.changes and change.continues(self.changes[-1]):
            self.changes[-1] = change.after_all(self.changes[-1])
        else:
            self.changes.append(change)

    def wait_quantiles(self, now: float) -> list[float | None]:
        """Return p50 and p95 of the waits of the last minute."""
        return self._waits.quantiles(now, 0.5, 0.95)

    def service_quantiles(self, now: float) -> list[float | None]:
        """Return the same of the times that turns kept their slots."""
        return self._holds.quantiles(now, 0.5, 0.95)
