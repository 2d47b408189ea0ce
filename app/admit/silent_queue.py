"""Sees a provider that takes every call and lets it wait: by its time to the first token. Off unless asked for.

The time is divided by the prompt's length, because a long prompt is read for longer. Ordinary is the lowest that the
smoothed time has been lately: an average would come to take the queue for ordinary. Where there is such a queue it
costs one and a half percent of the goodput, and first tokens come in a third of the time (p95; bench/LIMITER.md). Total
latency would measure the answers' lengths instead.
"""

from math import inf

SMOOTHING = 0.1
WINDOW = 1000
"""Samples after which the lowest is looked for anew; the one of the window before still counts."""
QUEUED = 2.0
"""Times the ordinary time to the first token."""
FIXED_TOKENS = 256
"""A call takes some time before the prompt's length matters: as long as so many tokens, roughly."""
SAMPLES = 20
"""Before so many nothing is ordinary."""


class SilentQueue:
    """Judges the times to the first token one by one."""

    def __init__(self) -> None:
        self._smoothed = 0.0
        self._lowest = self._lowest_before = inf
        self._samples = 0

    def has_queued(self, first_token_s: float, prompt_tokens: float) -> bool:
        """Return whether calls wait at the provider, with this one heard."""
        value = first_token_s / (FIXED_TOKENS + prompt_tokens)
        self._samples += 1
        self._smoothed += max(SMOOTHING, 1 / self._samples) * (value - self._smoothed)
        if self._samples <= SAMPLES:
            return False
        if self._samples % WINDOW == 0:
            self._lowest_before, self._lowest = self._lowest, inf
        self._lowest = min(self._lowest, self._smoothed)
        return self._smoothed > QUEUED * min(self._lowest, self._lowest_before)
