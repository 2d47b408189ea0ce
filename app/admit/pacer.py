"""The pacer: keeps to the host's requests and tokens per minute, so that it need not refuse.

A call reserves one request and an estimate of its tokens before it is sent, and settles what it used when it ends. How
many calls run at once is no matter of the pacer's. It is off until an answer names a quota (`x-ratelimit-*`), and each
quota is off that is not named.

Where the estimate is more than the whole quota of tokens, one of the two is wrong. Such a call reserves no tokens: it
waits until there is what such calls have used until now, and what it takes is for the host's next word to tell. Where
even that is more than the quota, the quota is none, and only a refusal holds such calls up.

The core has no clock: every method is told `now`, in seconds of one clock. `Line` waits.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import trio

from app.admit.bucket import Bucket
from app.clients.ports import QUOTA_WAIT, ModelRequest, RateLimits
from app.errors import ModelFault

BYTES_PER_TOKEN = 4
"""Of UTF-8: English has some 4.2, Japanese 3 to 4 with today's vocabularies."""
STALE_S = 60.0
"""After so long without a word from the host one call is let through: what it said may never have been true."""
USED_SHARE = 0.2
"""Of the newest call in the mean of what calls use whose estimate is no good: some ten calls count."""
LONGEST_HOLD_S = 60.0
"""Of a refusal's `Retry-After`. These are limits per minute."""
TICK_S = 0.001
"""Shorter waits could be lost in the clock's rounding, and be waited for ever."""
PATIENCE_S = 5.0
"""Whoever would have to wait longer is refused at once, as when a host names such a wait (app/clients/retry.py)."""


@dataclass(slots=True, eq=False)
class Reservation:
    """What one call has reserved; `heard` once the host has begun to answer it, `ended` once it is settled.

    Args:
        tokens: the estimate.
        reserved: of them; none where the estimate is more than the quota.
        number: it was the pacer's so many-th.
    """

    tokens: float
    reserved: float = 0.0
    number: int = 0
    heard: bool = False
    ended: bool = False


class Pacer:
    """The host's two quotas, and what is reserved of them."""

    def __init__(self) -> None:
        self.requests = Bucket()
        self.tokens = Bucket()
        self._sent = 0
        self._mean_used = 0.0
        self._hold_until = 0.0
        self._held_tokens = 0.0
        self._heard_at = 0.0

    @property
    def is_on(self) -> bool:
        """Whether the host has named a quota."""
        return self.requests.is_on or self.tokens.is_on

    def share_left(self, now: float) -> float:
        """Return what is left of the quota that is used up most, as a share of it."""
        return min((quota.left(now) / quota.limit for quota in (self.requests, self.tokens) if quota.is_on), default=1)

    def needed(self, tokens: float) -> float:
        """Return how many tokens must be left for a call that is estimated to cost so many."""
        if not self._is_over(tokens):
            return tokens
        return 0.0 if self._is_over(self._mean_used) else self._mean_used

    def wait_s(self, now: float, tokens: float, calls: int = 1) -> float:
        """Return the seconds until `calls` calls that need `tokens` tokens together may be sent.

        Where the host is asked about nothing now, that is no longer than its last word holds.
        """
        if not self.is_on:
            return 0.0
        wait_s = max(self._hold_until - now, self.requests.wait_s(now, calls), self.tokens.wait_s(now, tokens))
        holds_s = self._heard_at + STALE_S - now if self.requests.unanswered <= 0 else STALE_S
        return max(0.0, min(wait_s, holds_s))

    def reserve(self, now: float, tokens: float) -> Reservation:
        """Reserve one request of so many tokens, for a call that is sent now."""
        reserved = 0.0 if self._is_over(tokens) else tokens
        self.requests.take(now, 1)
        self.tokens.take(now, reserved)
        self._sent += 1
        return Reservation(tokens, reserved, self._sent)

    def _is_over(self, tokens: float) -> bool:
        return self.tokens.is_on and tokens > self.tokens.limit

    def learn(self, now: float, reservation: Reservation, limits: RateLimits) -> None:
        """Hear the quotas that the answer to a call names; a refused one is settled with that."""
        if limits.refused:
            self.give_back(now, reservation)
        self.hear(reservation)
        self._heard_at = now
        if limits.requests is not None:
            # A request is counted when it comes, this one too; but answers overtake each other.
            sent_since = self._sent - reservation.number
            self.requests.learn(now, limits.requests, max(sent_since, self.requests.in_flight - 1))
        if limits.tokens is not None:
            if not reservation.ended and reservation.reserved > limits.tokens.limit:
                self.tokens.in_flight -= reservation.reserved
                reservation.reserved = 0.0
            self.tokens.learn(now, limits.tokens, self.tokens.in_flight)
        if not limits.refused and now < self._hold_until and self._has_enough(now, limits):
            self._hold_until = now

    def _has_enough(self, now: float, limits: RateLimits) -> bool:
        """Whether there is enough for the call whose refusal holds the others up: by the host and by our account."""
        waits_s = self.requests.wait_s(now, 1), self.tokens.wait_s(now, self.needed(self._held_tokens))
        return not _is_short(limits, self._held_tokens) and max(waits_s) <= 0

    def hear(self, reservation: Reservation) -> None:
        """Hear that the host has begun to answer a call."""
        if not reservation.heard:
            reservation.heard = True
            self.requests.heard(1)
            self.tokens.heard(reservation.reserved)

    def settle(self, now: float, reservation: Reservation, used_tokens: float | None) -> None:
        """End a reservation with what the call used. Unknown, as when it was cancelled, it used what was reserved.

        The host's next word puts right what was too much.
        """
        if not self._ends(reservation):
            return
        self.requests.settle(now, 1, 1)
        if not self._is_over(reservation.tokens):
            used = reservation.reserved if used_tokens is None else used_tokens
            self.tokens.settle(now, reservation.reserved, used)
            return
        self.tokens.settle(now, reservation.reserved, reservation.reserved)
        if used_tokens is not None:
            mean = self._mean_used or used_tokens
            self._mean_used = mean + USED_SHARE * (used_tokens - mean)

    def give_back(self, now: float, reservation: Reservation) -> None:
        """End the reservation of a call that the host never began to work on; a refused one counts as a request."""
        if self._ends(reservation):
            self.requests.settle(now, 1, 1)
            self.tokens.give_back(now, reservation.reserved)

    def take_back(self, now: float, reservation: Reservation) -> None:
        """End the reservation of a call that was never sent."""
        if self._ends(reservation):
            self.requests.give_back(now, 1)
            self.tokens.give_back(now, reservation.reserved)

    def _ends(self, reservation: Reservation) -> bool:
        self.hear(reservation)
        ended, reservation.ended = reservation.ended, True
        return not ended

    def explains(self, now: float, reservation: Reservation, limits: RateLimits | None) -> bool:
        """Return whether a refusal is for want of requests or tokens.

        Then no call is sent for the wait that it names, unless the host says in the meantime that there is enough.
        """
        if limits is None or not limits.refused or limits.overloaded or not _is_short(limits, reservation.tokens):
            return False
        if limits.retry_after_s is not None:
            self._hold_until = max(self._hold_until, now + min(limits.retry_after_s, LONGEST_HOLD_S))
            self._held_tokens = reservation.tokens
        return True


def _is_short(limits: RateLimits, needed_tokens: float) -> bool:
    requests, tokens = limits.requests, limits.tokens
    return (requests is not None and requests.remaining < 1) or (
        tokens is not None and tokens.remaining < min(needed_tokens, tokens.limit)
    )


def tokens_of(request: ModelRequest) -> float:
    """Return how many tokens a request may cost: its prompt's, estimated, and all that the answer may have."""
    prompt = sum(len(message.content.encode(errors="replace")) for message in request.messages)
    return prompt / BYTES_PER_TOKEN + request.max_tokens


class Line:
    """Where calls wait for the pacer, first come first.

    Args:
        pacer: says how long.
        patience_s: longest wait.
    """

    def __init__(self, pacer: Pacer, patience_s: float = PATIENCE_S) -> None:
        self.pacer = pacer
        self._patience_s = patience_s
        self._first = trio.StrictFIFOLock()
        self._changed = trio.Event()
        self._calls = 0
        self._tokens = 0.0

    @property
    def waiting(self) -> int:
        """How many calls wait."""
        return self._calls

    async def reserve(self, tokens: float) -> Reservation:
        """Wait for the turn of a call of so many tokens, and reserve them.

        Raises:
            ModelFault: `model_busy`, with `Retry-After`: that would take too long, as far as is known when the call
                comes, or later. Another model may have a quota left.
        """
        pacer, came = self.pacer, trio.current_time()
        if self._calls == 0 and pacer.wait_s(came, pacer.needed(tokens)) <= 0:
            return pacer.reserve(came, tokens)
        with self._in_line(pacer.needed(tokens)):
            self._check(pacer.wait_s(came, self._tokens, self._calls), self._patience_s)
            async with self._first:
                while (wait_s := pacer.wait_s(now := trio.current_time(), pacer.needed(tokens))) > 0:
                    self._check(wait_s, came + self._patience_s - now)
                    with trio.move_on_after(max(wait_s, TICK_S)):
                        await self._changed.wait()
                return pacer.reserve(now, tokens)
        raise AssertionError("unreachable")

    def changed(self) -> None:
        """Hear that the pacer knows more: the first in line looks again."""
        if self._calls:
            self._changed.set()
            self._changed = trio.Event()

    def _check(self, wait_s: float, patience_s: float) -> None:
        if wait_s > patience_s + TICK_S:
            fault = ModelFault("model_busy", "over the quota", retry_after_s=wait_s, error_type=QUOTA_WAIT)
            fault.ask_again = True
            raise fault

    @contextmanager
    def _in_line(self, tokens: float) -> Iterator[None]:
        self._calls += 1
        self._tokens += tokens
        try:
            yield
        finally:
            self._calls -= 1
            self._tokens -= tokens
