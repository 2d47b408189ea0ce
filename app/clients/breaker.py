"""A circuit breaker: after a run of failures a host is left alone for a while, then one call at a time may try it.

Closed: calls pass, and `failures` in a row open it. Open: calls are refused for `open_s`. Then half-open: one call at a
time passes, as a probe; the breaker closes as soon as that has good news, which a long answer has at its first word,
and opens again when it fails. What calls that began before the opening find out after it is old: only that the host
refuses for good still counts.
Source: Nygard, Release It!, "Circuit Breaker".
"""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal

import trio

log = logging.getLogger(__name__)

State = Literal["closed", "half_open", "open"]
_VALUES: dict[State, float] = {"closed": 0.0, "half_open": 1.0, "open": 2.0}


class BreakerOpenError(Exception):
    """The host is left alone; it may be tried again after `retry_after_s`."""

    def __init__(self, retry_after_s: float) -> None:
        super().__init__(f"for {retry_after_s:.1f} s")
        self.retry_after_s = retry_after_s


class Verdict:
    """What a call found out about its host; one that was cut off before it knew says nothing."""

    __slots__ = ("_tell", "failed", "open_s")

    def __init__(self, tell: "Callable[[Verdict], None]") -> None:
        self._tell = tell
        self.failed: bool | None = None
        self.open_s: float | None = None

    def good(self) -> None:
        """The host answered as it should, so far."""
        if self.failed is None:
            self._tell(self)
        self.failed = False

    def bad(self, open_s: float | None = None) -> None:
        """The host failed; with `open_s`, so thoroughly that it is to be left alone at once, for so long."""
        self.failed = True
        self.open_s = open_s


class Breaker:
    """Guards one host.

    Args:
        target: what telemetry calls it.
        failures: in a row, before it opens.
        open_s: how long it stays open.
    """

    def __init__(self, target: str, *, failures: int = 5, open_s: float = 10.0) -> None:
        self.target = target
        self._limit = failures
        self._open_s = open_s
        self._run = 0
        self._open_until: float | None = None
        self._probe: Verdict | None = None

    @property
    def state(self) -> State:
        """The state now: half-open while a probe is under way. Safe to read from any thread."""
        if self._open_until is None:
            return "closed"
        return "open" if self._probe is None else "half_open"

    def state_value(self) -> float:
        """Return the state as a gauge shows it."""
        return _VALUES[self.state]

    @contextmanager
    def call(self) -> Iterator[Verdict]:
        """Let one call pass, and learn from its verdict.

        Raises:
            BreakerOpenError: not now.
        """
        verdict = Verdict(self._hear_good_news)
        self.check()
        if self._open_until is not None:
            self._probe = verdict
        try:
            yield verdict
        finally:
            probing = self._probe is verdict
            if probing:
                self._probe = None
            self._learn(verdict, probing)

    def check(self) -> None:
        """Find out whether a call would pass, without making one.

        Raises:
            BreakerOpenError: not now.
        """
        if self._open_until is not None:
            left_s = self._open_until - trio.current_time()
            if left_s > 0 or self._probe is not None:
                raise BreakerOpenError(max(left_s, 1.0))

    def _hear_good_news(self, verdict: Verdict) -> None:
        if self._probe is verdict:
            self._probe = self._open_until = None
            self._run = 0
            log.info("breaker.closed", extra={"target": self.target})

    def _learn(self, verdict: Verdict, probing: bool) -> None:
        if verdict.failed:
            self._run += 1
            if probing or verdict.open_s is not None or (self._run >= self._limit and self._open_until is None):
                self._open(verdict.open_s or self._open_s, probing)
        elif verdict.failed is False and self._open_until is None:
            self._run = 0

    def _open(self, open_s: float, probing: bool) -> None:
        until = trio.current_time() + open_s
        if not probing and self._open_until is not None and until < self._open_until + 1.0:
            return  # several were told the same
        self._open_until = until
        log.warning("breaker.opened", extra={"target": self.target, "failures": self._run, "open_s": open_s})
