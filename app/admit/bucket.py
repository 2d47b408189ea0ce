"""One quota of the host's, as it must look from here: what is left now, and when there will be more.

Hosts have two kinds, and do not say which. A *flowing* one refills all the time (OpenAI): what is missing comes back at
limit / period, and `reset` says when it is full. A *window* gives everything back at `reset`, and nothing before. Each
answer votes: if `reset` is as long as a flowing quota would need for what is missing, it flows.

What the host told is old: calls that were sent since are not in it, and of those it has begun to answer it may have
counted all (OpenAI counts `max_tokens` at once) or nothing yet. So what is left lies between `remaining` less all that
may not be counted, and `remaining` less the calls without an answer; our own account is moved no further than into that
range.

Usage that a call did not use comes back in our account when it ends, unless the host is seen not to do the same.
"""

import math

from app.clients.ports import Quota

PERIODS_S = (60.0, 86400.0)
"""Of flowing quotas: a minute, and a day (Groq's requests)."""
ROUNDING_S, ROUNDING_SHARE = 1.0, 0.05
"""Some hosts name whole seconds."""
TELLING_SHARE = 0.02
"""Less than that missing and rounding decides the vote."""
SURE = 5
"""More votes than that on one side count no more."""


class Bucket:
    """An account of requests or of tokens; all times are seconds of one clock. Off until a quota is told."""

    def __init__(self) -> None:
        self.limit = 0.0
        self.in_flight = 0.0
        """Reserved for calls that have not ended."""
        self.unanswered = 0.0
        """Of it, for calls of which nothing has come."""
        self._left = 0.0
        self._at = 0.0
        self._period_s = PERIODS_S[0]
        self._full_at = 0.0
        self._flows = 0
        self._comes_back = 0
        self._returned = 0.0

    @property
    def is_on(self) -> bool:
        """Whether the host has told a quota."""
        return self.limit > 0

    def left(self, now: float) -> float:
        """Return what may be reserved now; below 0 where more was taken than there was."""
        if self._flows >= 0:
            self._left = min(self.limit, self._left + (now - self._at) * self.limit / self._period_s)
        elif now >= self._full_at:
            self._left, self._full_at = self.limit - self.unanswered, now + self._period_s
        self._at = now
        return self._left

    def wait_s(self, now: float, amount: float) -> float:
        """Return the seconds until so much has been left, at once or, where it is for many calls, one after another."""
        lack = amount - self.left(now) if self.is_on else 0.0
        if lack <= 0:
            return 0.0
        if self._flows >= 0:
            return lack * self._period_s / self.limit
        return self._full_at - now + max(0, math.ceil(lack / self.limit) - 1) * self._period_s

    def take(self, now: float, amount: float) -> None:
        """Reserve so much for a call that is about to be sent."""
        self.in_flight += amount
        self.unanswered += amount
        if self.is_on:
            self._left = self.left(now) - amount

    def heard(self, amount: float) -> None:
        """Hear that the host has begun to answer the call for which so much is reserved."""
        self.unanswered -= amount

    def settle(self, now: float, reserved: float, used: float) -> None:
        """End a call's reservation; what it was more than what is used comes back."""
        self.in_flight -= reserved
        if self.is_on:
            self._returned += max(0.0, reserved - used)
            if used > reserved or self._comes_back >= 0:
                self._left = min(self.limit, self.left(now) + reserved - used)

    def give_back(self, now: float, amount: float) -> None:
        """End the reservation of a call for which the host has counted nothing."""
        self.in_flight -= amount
        if self.is_on:
            self._left = min(self.limit, self.left(now) + amount)

    def learn(self, now: float, quota: Quota, uncounted: float) -> None:
        """Hear what the host says is left, from an answer that came just now.

        Args:
            now: when it came.
            quota: what it says.
            uncounted: so much of what was reserved may not be in it, at most.
        """
        least, most = quota.remaining - uncounted, quota.remaining - self.unanswered
        if quota.limit != self.limit:
            self.limit, self._left, self._at = float(quota.limit), least, now
            self._full_at = now + self._period_s
        self._vote(quota)
        left = self.left(now)
        if self._returned > 0:
            above = left - most if self._comes_back >= 0 else left + self._returned - most
            self._comes_back = _voted(self._comes_back, above < self._returned / 2)
            self._returned = 0.0
        self._left = min(max(left, least), most)
        if quota.reset_s is not None:
            self._full_at = now + quota.reset_s

    def _vote(self, quota: Quota) -> None:
        missing = (quota.limit - quota.remaining) / quota.limit
        if quota.reset_s is None or missing < TELLING_SHARE:
            return
        tolerance_s = ROUNDING_S + ROUNDING_SHARE * quota.reset_s
        for period_s in PERIODS_S:
            most_s = missing * period_s
            least_s = most_s - period_s / quota.limit  # `remaining` is rounded down
            if least_s - tolerance_s <= quota.reset_s <= most_s + tolerance_s:
                self._period_s = period_s
                self._flows = _voted(self._flows, True)
                return
        self._flows = _voted(self._flows, False)


def _voted(votes: int, yes: bool) -> int:
    return min(SURE, votes + 1) if yes else max(-SURE, votes - 1)
