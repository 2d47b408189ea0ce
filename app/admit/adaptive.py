"""The adaptive limit: how many calls at once the provider takes, learnt from what it accepts and what it refuses.

Only overload answers (429 `rate_limit_exceeded`, 503, 529) cut it. Total latency is no signal, because it grows with
the answer's length; a quota that is used up is none either, because fewer calls at once would not bring it back.

    refused:   w_max = min(limit, calls in flight); limit = 0.95^n w_max; t0 = now; K = cbrt((w_max - limit) / C)
    accepted:  limit = w_max + C (now - t0 - K)^3, at most 1.5 times as much as it was; before the first cut, limit + 1

So it comes back quickly to where it was refused, stays there a while, and then asks for more ever faster. Source:
CUBIC, RFC 9438, section 4.2. C and the cut are other ones, because calls last seconds, not milliseconds.

* One cut for each epoch: a refusal of a call that was sent before the last cut says nothing of the limit since. The nth
  epoch in a row in which nothing was accepted cuts by 0.95^n: a drop is over sooner, and costs fewer refusals.
* No cut while more calls are in flight than the limit: retries are sent in slots that are held, and what they are told
  then is about the limit of before.
* No growth while the application is the bound: with fewer calls in flight than the limit nothing was tried.
* A sample is one of the provider's answers. Cancelled calls give none, and no call in flight is ever touched.
* All refused for `OUTAGE_S`: the limit is the minimum at once, one probe a `PROBE_S` may go, and K is of the whole way
  back, so that the first answer after it starts the steep part of the curve.

Rejected: Gradient2 on total latency and Vegas on time to first token (each a third to two thirds of the goodput: the
times vary more from call to call than with the load); AIMD, which is refused ten times as often (see bench/limiter);
counting as accepted only what has begun to answer (a tenth of the goodput: the newest calls are always missing).
"""

from dataclasses import dataclass
from math import cbrt, inf

C = 0.04
"""Calls per cubic second. In an event simulation, with a second tenant that comes and goes, 0.02 gives 94.9 % of the
oracle's goodput at 1.9 % refused, 0.04 gives 95.7 % at 2.3 %, 0.06 no more. RFC 9438 has 0.4, for segments.
"""
CUT = 0.95
"""Of what was accepted. RFC 9438 has 0.7, for a queue that must drain; a provider that refuses has none."""
MOST_GROWTH = 1.5
"""For one sample, so that a long silence does not end in a burst."""
OUTAGE_S = 4.0
"""A drop to a third is over by then, with calls of some four seconds; what is refused still is an outage."""
OUTAGE_REFUSALS = 3
PROBE_S = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitBounds:
    """The limit stays between them, both included; `minimum` is at least 1."""

    minimum: int = 1
    maximum: int = 64


class AdaptiveLimit:
    """The limit, fed with samples; `now` and `sent_at` are seconds of one clock, which need not be the real one.

    Args:
        start: the limit before the first sample.
        bounds: which it never leaves.
    """

    def __init__(self, start: float, bounds: LimitBounds) -> None:
        self.bounds = bounds
        self._limit = self._clamped(start)
        self._w_max = self._limit
        self._k = 0.0
        self._w_before = self._limit
        self._cut_at: float | None = None
        self._refused_since = inf
        self._refusals = self._cuts = 0
        self._probe_at = -inf

    @property
    def total(self) -> int:
        """How many calls may be in flight."""
        return int(self._clamped(self._limit))

    def accepted(self, now: float, sent_at: float, inflight: int, *, queued: bool = False) -> None:
        """Hear that the provider began to answer a call, while so many were in flight.

        `queued`: it let the call wait first (silent_queue.py), which is a refusal but for the word.
        """
        if sent_at >= self._refused_since:
            self._refused_since, self._refusals, self._cuts = inf, 0, 0
        if queued:
            if self._is_new(sent_at):
                self._cut(now, min(self._limit, max(1, inflight)))
            return
        if inflight < self._limit - 1:
            return
        if self._cut_at is None:
            self._limit = self._clamped(self._limit + 1)
            return
        aim = self._w_max + C * (now - self._cut_at - self._k) ** 3
        self._limit = self._clamped(max(self._limit, min(aim, MOST_GROWTH * self._limit)))

    def refused(self, now: float, sent_at: float, inflight: int) -> None:
        """Hear that the provider was too busy for a call, while so many others were in flight."""
        if self._refusals == 0:
            self._refused_since, self._w_before = sent_at, self._limit
        self._refusals += 1
        if not self._is_outage(now) and self._is_new(sent_at) and inflight < self._limit:
            self._cuts += 1
            self._cut(now, min(self._limit, max(1, inflight)))
        self.ended(now)

    def ended(self, now: float) -> None:
        """Hear that a call ended, however. An outage is noticed then, too: the limit may let no new call find out."""
        if self._is_outage(now):
            self._back_from(now, self._w_before, self.bounds.minimum)

    def ask(self, now: float) -> float:
        """Return 0 for a call that may be made now, else how long to wait before asking again.

        Only while everything is refused is there a wait; then a 0 is the one probe of the next `PROBE_S`.
        """
        if not self._is_outage(now):
            return 0.0
        if now < self._probe_at:
            return self._probe_at - now
        self._probe_at = now + PROBE_S
        return 0.0

    def _is_outage(self, now: float) -> bool:
        return self._refusals >= OUTAGE_REFUSALS and now - self._refused_since >= OUTAGE_S

    def _is_new(self, sent_at: float) -> bool:
        return self._cut_at is None or sent_at > self._cut_at

    def _cut(self, now: float, w_max: float) -> None:
        self._back_from(now, w_max, CUT ** max(1, self._cuts) * w_max)

    def _back_from(self, now: float, w_max: float, limit: float) -> None:
        self._w_max, self._limit, self._cut_at = w_max, self._clamped(limit), now
        self._k = cbrt(max(0.0, w_max - self._limit) / C)

    def _clamped(self, limit: float) -> float:
        return float(min(self.bounds.maximum, max(self.bounds.minimum, limit)))
