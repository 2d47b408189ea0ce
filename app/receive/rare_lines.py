"""Log lines that strangers can cause: so many of a kind at once, then one a second, which says how many there were."""

from collections.abc import Callable

import trio

from app.admit.rate_limit import RateLimit


class RareLines:
    """Tells when a line of a kind is due. Kinds are few words of our own; what is counted is kept for each of them.

    Args:
        at_once: lines of a kind, when there was none for as many seconds.
        clock: seconds that do not go back.
    """

    def __init__(self, at_once: int = 1, clock: Callable[[], float] = trio.current_time) -> None:
        self._limit = RateLimit(at_once, float(at_once))
        self._clock = clock
        self._since: dict[str, int] = {}

    def due(self, kind: str) -> int | None:
        """Count one of a kind; return how many there were since its last line, or None when it is too early for one."""
        self._since[kind] = self._since.get(kind, 0) + 1
        return self._since.pop(kind) if self._limit.spend(kind, self._clock()).allowed else None
