"""When to ask again: how long to wait, how often at most, and a budget that keeps retries from becoming a storm."""

import random
import time
from collections import deque
from collections.abc import Callable

MAX_RETRIES = 2
LONGEST_NAMED_WAIT_S = 5.0
"""A host that names a longer one is not waited for: the caller is told instead."""
FIRST_WAIT_S, LONGEST_WAIT_S = 0.5, 8.0
"""OpenAI's own clients wait so when the host names nothing."""
BUDGET_SHARE, BUDGET_FLOOR, BUDGET_WINDOW_S = 0.1, 5, 60.0
"""Retries are a tenth of the calls of the last minute at most; a quiet server may still retry a few.

Precedent: Finagle's RetryBudget (a share of the calls, and a floor).
"""


def backoff_s(retry: int, jitter: Callable[[float, float], float] = random.uniform) -> float:
    """Return the wait before retry 0, 1, ...: doubling, with jitter, so that those who failed together part."""
    wait: float = min(FIRST_WAIT_S * 2.0**retry, LONGEST_WAIT_S) * jitter(0.75, 1.0)
    return wait


class RetryBudget:
    """Counts calls and retries of the last minute; `clock` gives seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._calls: deque[float] = deque()
        self._retries: deque[float] = deque()

    def call(self) -> None:
        """Count a call that is no retry."""
        now = self._clock()
        self._forget(now)
        self._calls.append(now)

    def spend(self) -> bool:
        """Count a retry, if one more is within the budget; return whether it is."""
        now = self._clock()
        self._forget(now)
        if len(self._retries) + 1 > max(BUDGET_FLOOR, BUDGET_SHARE * len(self._calls)):
            return False
        self._retries.append(now)
        return True

    def _forget(self, now: float) -> None:
        for times in (self._calls, self._retries):
            while times and times[0] <= now - BUDGET_WINDOW_S:
                times.popleft()
