"""The pacer: keeps to the host's requests and tokens per minute, so that it need not refuse.

A call reserves one request and an estimate of its tokens before it is sent, and settles what it used when it ends. How
many calls run at once is no matter of the pacer's. It is off until an answer names a quota (`x-ratelimit-*`), and each
quota is off that is not named.

The core has no clock: every method is told `now`, in seconds of one clock. `Line` waits.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import trio

from app.admit.bucket import Bucket
from app.clients.ports import ModelRequest, RateLimits
from app.errors import ModelFault

BYTES_PER_TOKEN = 4
"""Of UTF-8: English has some 4.2, Japanese 3 to 4 with today's vocabularies."""
STALE_S = 60.0
"""After so long without a word from the host one call is let through: what it said may never have been true."""
LONGEST_HOLD_S = 60.0
"""Of a refusal's `Retry-After`. These are limits per minute."""
TICK_S = 0.001
"""Shorter waits could be lost in the clock's rounding, and be waited for ever."""
PATIENCE_S = 5.0
"""Whoever would have to wait longer is refused at once, as when a host names such a wait (app/clients/retry.py)."""


@dataclass(slots=True, eq=False)
class Reservation:
    """What one call has reserved; `heard` once the host has begun to answer it, `ended` once it is settled.

    `number`: it was the pacer's so many-th.
    """

    tokens: float
    number: int = 0
    heard: bool = False
    ended: bool = False


class Pacer:
    """The host's two quotas, and what is reserved of them."""

    def __init__(self) -> None:
        self.requests = Bucket()
        self.tokens = Bucket()
        self._sent = 0
        self._hold_until = 0.0
        self._heard_at = 0.0

    @property
    def is_on(self) -> bool:
        """Whether the host has named a quota."""
        return self.requests.is_on or self.tokens.is_on

    def wait_s(self, now: float, tokens: float, calls: int = 1) -> float:
        """Return the seconds until `calls` calls of `tokens` tokens together may be sent."""
        if not self.is_on or (now - self._heard_at >= STALE_S and self.requests.unanswered <= 0):
            return 0.0
        return max(self._hold_until - now, self.requests.wait_s(now, calls), self.tokens.wait_s(now, tokens), 0.0)

    def reserve(self, now: float, tokens: float) -> Reservation:
        """Reserve one request of so many tokens, for a call that is sent now."""
        self.requests.take(now, 1)
        self.tokens.take(now, tokens)
        self._sent += 1
        return Reservation(tokens, self._sent)

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
            self.tokens.learn(now, limits.tokens, self.tokens.in_flight)

    def hear(self, reservation: Reservation) -> None:
        """Hear that the host has begun to answer a call."""
        if not reservation.heard:
            reservation.heard = True
            self.requests.heard(1)
            self.tokens.heard(reservation.tokens)

    def settle(self, now: float, reservation: Reservation, used_tokens: float | None) -> None:
        """End a reservation with what the call used. Unknown, as when it was cancelled, it used what was reserved.

        The host's next word puts right what was too much.
        """
        if self._ends(reservation):
            self.requests.settle(now, 1, 1)
            used = reservation.tokens if used_tokens is None else used_tokens
            self.tokens.settle(now, reservation.tokens, used)

    def give_back(self, now: float, reservation: Reservation) -> None:
        """End the reservation of a call that the host never began to work on; a refused one counts as a request."""
        if self._ends(reservation):
            self.requests.settle(now, 1, 1)
            self.tokens.give_back(now, reservation.tokens)

    def _ends(self, reservation: Reservation) -> bool:
        self.hear(reservation)
        ended, reservation.ended = reservation.ended, True
        return not ended

    def explains(self, now: float, reservation: Reservation, limits: RateLimits | None) -> bool:
        """Return whether a refusal is for want of requests or tokens; then no call is sent for the wait it names."""
        if limits is None:
            return False
        requests, tokens = limits.requests, limits.tokens
        short = (requests is not None and requests.remaining < 1) or (
            tokens is not None and tokens.remaining < min(reservation.tokens, tokens.limit)
        )
        if short and limits.retry_after_s is not None:
            self._hold_until = max(self._hold_until, now + min(limits.retry_after_s, LONGEST_HOLD_S))
        return short


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
        self._pacer = pacer
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
            ModelFault: `model_busy`, with `Retry-After`: that would take too long.
        """
        now = trio.current_time()
        if self._calls == 0 and self._pacer.wait_s(now, tokens) <= 0:
            return self._pacer.reserve(now, tokens)
        with self._in_line(tokens):
            wait_s = self._pacer.wait_s(now, self._tokens, self._calls)
            if wait_s > self._patience_s:
                raise ModelFault("model_busy", "over the quota", retry_after_s=wait_s, error_type="quota_wait")
            async with self._first:
                while (wait_s := self._pacer.wait_s(now := trio.current_time(), tokens)) > 0:
                    with trio.move_on_after(max(wait_s, TICK_S)):
                        await self._changed.wait()
                return self._pacer.reserve(now, tokens)
        raise AssertionError("unreachable")

    def changed(self) -> None:
        """Hear that the pacer knows more: the first in line looks again."""
        if self._calls:
            self._changed.set()
            self._changed = trio.Event()

    @contextmanager
    def _in_line(self, tokens: float) -> Iterator[None]:
        self._calls += 1
        self._tokens += tokens
        try:
            yield
        finally:
            self._calls -= 1
            self._tokens -= tokens
