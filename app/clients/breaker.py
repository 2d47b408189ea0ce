"""A circuit breaker: after a run of failures a host is left alone for a while, then one call at a time may try it.

Closed: calls pass, and `failures` in a row open it. Open: calls are refused for `open_s`. Then half-open: one call at a
time passes, as a probe; if it succeeds the breaker closes, if it fails the breaker opens again.
Source: Nygard, Release It!, "Circuit Breaker".
"""

import logging
from collections.abc import Iterator
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

    __slots__ = ("failed", "open_s")

    def __init__(self) -> None:
        self.failed: bool | None = None
        self.open_s: float | None = None

    def good(self) -> None:
        """The host answered as it should."""
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
        self._probing = False

    @property
    def state(self) -> State:
        """The state now: half-open while a probe is under way. Safe to read from any thread."""
        if self._open_until is None:
            return "closed"
        return "half_open" if self._probing else "open"

    def state_value(self) -> float:
        """Return the state as a gauge shows it."""
        return _VALUES[self.state]

    @contextmanager
    def call(self) -> Iterator[Verdict]:
        """Let one call pass, and learn from its verdict.

        Raises:
            BreakerOpenError: not now.
        """
        probe = self._open_until is not None
        if probe:
            self._claim_probe()
        verdict = Verdict()
        try:
            yield verdict
        finally:
            if probe:
                self._probing = False
            if verdict.failed is not None:
                self._learn(verdict)

    def _claim_probe(self) -> None:
        assert self._open_until is not None
        left_s = self._open_until - trio.current_time()
        if left_s > 0 or self._probing:
            raise BreakerOpenError(max(left_s, 1.0))
        self._probing = True

    def _learn(self, verdict: Verdict) -> None:
        if not verdict.failed:
            self._run = 0
            if self._open_until is not None:
                self._open_until = None
                log.info("breaker.closed", extra={"target": self.target})
            return
        self._run += 1
        if verdict.open_s is not None or self._run >= self._limit or self._open_until is not None:
            open_s = verdict.open_s or self._open_s
            self._open_until = trio.current_time() + open_s
            log.warning("breaker.opened", extra={"target": self.target, "failures": self._run, "open_s": open_s})
