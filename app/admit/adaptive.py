"""The adaptive limit: how many calls at once the provider takes, learnt from what it accepts and what it refuses.

Only overload answers (429 `rate_limit_exceeded`, 503, 529) cut it. Total latency is no signal, because it grows with
the answer's length; a quota that is used up is none either, because fewer calls at once would not bring it back.

    refused:   w_max = min(limit, max(1, other calls in flight)); limit = 0.95^n w_max
               t0 = now; K = cbrt((w_max - limit) / C)
    accepted:  limit = max(limit, min(w_max + min(2, C (now - t0 - K)^3), 1.5 limit))
               before the first cut, and from w_max + 2 on: limit + 1
    always:    minimum <= limit <= maximum

So it comes back quickly to where it was refused, stays there a while, and then asks for one more, and one more. Where
these are accepted the host takes more than it did, nobody knows how much, and each answer adds one. Source of the
curve: CUBIC, RFC 9438, section 4.2; of what comes before and above it: slow start, RFC 5681, section 3.1. C and the cut
are other ones, because calls last seconds, not milliseconds. After a cut by the guard against silent queues the curve
goes on in place of that: such a host accepts whatever comes, so that its answers are no news.

* n counts cuts in a row: the row ends when a call is accepted that was sent no earlier than the first that was refused.
  So a drop is over sooner, and costs fewer refusals.
* One cut for each epoch: a refusal of a call that was sent before the last cut says nothing of the limit since.
* With as many other calls in flight as the limit a refusal is no sample, neither of a cut nor of an outage: retries are
  sent in slots that are held, and what they are told then is about the limit of before.
* No growth while the application is the bound: with fewer calls in flight than limit - 1 nothing was tried.
* A sample is one of the provider's answers. Cancelled calls give none, and no call in flight is ever touched.
* All refused for `OUTAGE_S`: the limit is the minimum at once, one probe a `PROBE_S` may go, w_max is the limit of
  before, and t0 is when the last call ended: so the first answer after it starts the steep part of the curve.

Rejected: Gradient2 on total latency, because the times vary more from call to call than with the load, and a host that
refuses is no slower (83 to 89 % of the goodput, three to four answers in five refused); Vegas on time to first token (a
third of the goodput in an event simulation); AIMD, which is refused eight times as often, and with its default timeout
has half the goodput (see bench/LIMITER.md); counting as accepted only what has begun to answer (a tenth of the goodput:
the newest calls are always missing).
"""

from dataclasses import dataclass
from math import cbrt, inf

C = 0.04
"""Calls per cubic second. RFC 9438 has 0.4, for segments. With a second tenant that comes and goes, the worst of 24
seeds in an event simulation has, of the oracle's goodput and refused: with 0.02, 94.7 % and 2.6 %; with 0.04, 95.3 %
and 2.9 %; with 0.06, 95.9 % and 3.2 %.
"""
NEWS = 2.0
"""Calls above w_max at which the curve ends. In the same simulation: with 1, which every round tries, 95.5 % and 3.9 %;
with 3, 95.0 % and 2.9 %; with the curve going on, 94.4 % and 2.7 %.
"""
CUT = 0.95
"""Of what was accepted. RFC 9438 has 0.7, for a queue that must drain; a provider that refuses has none."""
MOST_GROWTH = 1.5
"""For one sample, so that the first answer after an outage does not bring back all of the limit."""
OUTAGE_S = 4.0
"""A drop to a third is over by then, with calls of some four seconds; what is refused still is an outage."""
OUTAGE_REFUSALS = 3
"""Fewer are no outage: where little is asked, two in four seconds are chance."""
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
        self._bounds = bounds
        self._limit = self._w_max = self._w_before = self._clamped(start)
        self._k, self._news = 0.0, NEWS
        self._cut_at: float | None = None
        self._refused_since = inf
        self._refusals = self._cuts = 0
        self._probe_at = -inf

    @property
    def bounds(self) -> LimitBounds:
        """Which it never leaves; other ones hold at once."""
        return self._bounds

    @bounds.setter
    def bounds(self, bounds: LimitBounds) -> None:
        self._bounds = bounds
        self._limit, self._w_max, self._w_before = map(self._clamped, (self._limit, self._w_max, self._w_before))

    @property
    def total(self) -> int:
        """How many calls may be in flight."""
        return int(self._limit)

    def accepted(self, now: float, sent_at: float, inflight: int, *, queued: bool = False) -> None:
        """Hear that the provider began to answer a call, while so many were in flight.

        `queued`: it let the call wait first (silent_queue.py), which is a refusal but for the word.
        """
        if sent_at >= self._refused_since:
            self._refused_since, self._refusals, self._cuts = inf, 0, 0
        if queued:
            if self._is_new(sent_at):
                self._cut(now, min(self._limit, max(1, inflight)))
                self._news = inf
            return
        if inflight < self._limit - 1:
            return
        if self._cut_at is None or self._limit >= self._w_max + self._news:
            self._limit = self._clamped(self._limit + 1)
            return
        aim = self._w_max + min(self._news, C * (now - self._cut_at - self._k) ** 3)
        self._limit = self._clamped(max(self._limit, min(aim, MOST_GROWTH * self._limit)))

    def refused(self, now: float, sent_at: float, inflight: int) -> None:
        """Hear that the provider was too busy for a call, while so many others were in flight."""
        if inflight < self._limit:
            if self._refusals == 0:
                self._refused_since, self._w_before = sent_at, self._limit
            self._refusals += 1
            if not self._is_outage(now) and self._is_new(sent_at):
                self._cuts += 1
                self._cut(now, min(self._limit, max(1, inflight)))
        self.ended(now)

    def ended(self, now: float) -> None:
        """Hear that a call ended, however. An outage is noticed then, too: the limit may let no new call find out."""
        if self._is_outage(now):
            self._back_from(now, self._w_before, self._bounds.minimum)

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
        self._news = NEWS
        self._w_max, self._limit, self._cut_at = w_max, self._clamped(limit), now
        self._k = cbrt(max(0.0, w_max - self._limit) / C)

    def _clamped(self, limit: float) -> float:
        return float(min(self._bounds.maximum, max(self._bounds.minimum, limit)))
