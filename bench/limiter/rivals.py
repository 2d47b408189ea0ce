"""Other limits, for comparison, with the bounds of ours. Source: Netflix's concurrency-limits 0.5, their defaults."""

from collections import deque

SMALLEST, LARGEST = 1, 64


class Fixed:
    """A number that somebody guessed."""

    def __init__(self, total: int) -> None:
        self._limit = float(total)

    @property
    def total(self) -> int:
        return int(self._limit)

    def ask(self, now: float) -> float:
        return 0.0

    def accepted(self, now: float, sent_at: float, inflight: int, *, queued: bool = False) -> None:
        pass

    def refused(self, now: float, sent_at: float, inflight: int) -> None:
        pass

    def ended(self, now: float) -> None:
        pass

    def finished(self, took_s: float, inflight: int) -> None:
        """Hear how long a whole answer took."""

    def _set(self, limit: float) -> None:
        self._limit = min(LARGEST, max(SMALLEST, limit))


class Aimd(Fixed):
    """`AIMDLimit`: one more with each answer, a tenth less with each refusal, or with one that takes `timeout_s`."""

    def __init__(self, timeout_s: float = 5.0) -> None:
        super().__init__(20)
        self._timeout_s = timeout_s

    def refused(self, now: float, sent_at: float, inflight: int) -> None:
        self._set(int(0.9 * self._limit))

    def finished(self, took_s: float, inflight: int) -> None:
        if took_s > self._timeout_s:
            self._set(int(0.9 * self._limit))
        elif inflight * 2 >= self._limit:
            self._set(self._limit + 1)


class Gradient2(Fixed):
    """`Gradient2Limit`: by the ratio of the long average of the total latency to the newest one."""

    def __init__(self) -> None:
        super().__init__(20)
        self._long_s = 0.0
        self._warm: deque[float] | None = deque()

    def finished(self, took_s: float, inflight: int) -> None:
        long_s = self._long(took_s)
        if long_s / took_s > 2:
            self._long_s *= 0.95
        if inflight < self._limit / 2:
            return
        gradient = max(0.5, min(1.0, 1.5 * long_s / took_s))
        self._set(0.8 * self._limit + 0.2 * (self._limit * gradient + 4))

    def _long(self, took_s: float) -> float:
        if self._warm is not None:
            self._warm.append(took_s)
            self._long_s = sum(self._warm) / len(self._warm)
            if len(self._warm) >= 10:
                self._warm = None
        else:
            self._long_s += 2 / 601 * (took_s - self._long_s)
        return self._long_s
