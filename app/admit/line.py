"""The line in front of the model: who waits, who has been let through, and who is next. Pure.

First come, first served among those that may go now: a turn whose user has as many calls as a user may have waits for
one of these to end, and those behind it pass. Nothing is kept of a user who has no turn here.
"""

from collections.abc import Iterator
from typing import Generic, Protocol, TypeVar

from app.admit.forecast import AT_ONCE, Place, forecast, last_of


class Ticket(Protocol):
    """A turn in the line or among the calls. It is itself, and equal to no other; `user` is whose it is."""

    user: str


T = TypeVar("T", bound=Ticket)


class Line(Generic[T]):
    """Those that wait and those that were let through, each in the order in which they came to that.

    Args:
        per_user_max: calls of one user at once, at least 1.
    """

    def __init__(self, per_user_max: int) -> None:
        self.per_user_max = per_user_max
        self.waiting: dict[T, None] = {}
        self.running: dict[T, None] = {}
        self._waiting_of: dict[str, int] = {}
        self._running_of: dict[str, int] = {}

    def join(self, ticket: T) -> None:
        """Add a turn at the end of the line."""
        self.waiting[ticket] = None
        self._waiting_of[ticket.user] = self._waiting_of.get(ticket.user, 0) + 1

    def next(self) -> T | None:
        """Return the turn that is to go first, if any may go."""
        return next(self._ready(), None)

    def start(self, ticket: T) -> None:
        """Let a turn that waits through."""
        del self.waiting[ticket]
        self.running[ticket] = None
        _less(self._waiting_of, ticket.user)
        self._running_of[ticket.user] = self._running_of.get(ticket.user, 0) + 1

    def leave(self, ticket: T) -> None:
        """Forget a turn, wherever it is; one that is gone already, too."""
        if ticket in self.waiting:
            del self.waiting[ticket]
            _less(self._waiting_of, ticket.user)
        elif ticket in self.running:
            del self.running[ticket]
            _less(self._running_of, ticket.user)

    def ready(self) -> int:
        """Return how many of those that wait could go at once, if there were slots enough."""
        return sum(
            min(count, self.per_user_max - self._running_of.get(user, 0)) for user, count in self._waiting_of.items()
        )

    def one_too_many(self, user: str) -> T | None:
        """Return who should give its place in a full line to a turn of `user`.

        It is the newest of the user with the most turns in line, if that has more even then than `user` would.
        """
        busiest = max(self._waiting_of, key=self._waiting_of.__getitem__, default=user)
        if self._waiting_of.get(busiest, 0) <= self._waiting_of.get(user, 0) + 1:
            return None
        return next(ticket for ticket in reversed(self.waiting) if ticket.user == busiest)

    def has(self, user: str) -> bool:
        """Return whether a turn of `user` waits or runs."""
        return user in self._waiting_of or user in self._running_of

    def place_of(self, user: str, total: int) -> Place:
        """Return the place that a turn of `user` would have if it came now."""
        if len(self.running) < total and not self.is_at_cap(user) and not self.ready():
            return AT_ONCE
        waiting, running = self._users()
        return last_of([*waiting, user], running, total, self.per_user_max)

    def places(self, total: int) -> Iterator[tuple[T, Place]]:
        """Yield those that wait, each with its place, in the order in which they would go."""
        turns = list(self.waiting)
        for index, place in forecast(*self._users(), total, self.per_user_max):
            yield turns[index], place

    def is_at_cap(self, user: str) -> bool:
        """Return whether a user has as many calls as a user may have."""
        return self._running_of.get(user, 0) >= self.per_user_max

    def users(self) -> int:
        """Return how many users have a turn here; safe to call from any thread, as is `users_at_cap`."""
        return len({*list(self._waiting_of), *list(self._running_of)})

    def users_at_cap(self) -> int:
        """Return how many users have as many calls as a user may have."""
        return sum(count >= self.per_user_max for count in list(self._running_of.values()))

    def _users(self) -> tuple[list[str], list[str]]:
        return [ticket.user for ticket in self.waiting], [ticket.user for ticket in self.running]

    def _ready(self) -> Iterator[T]:
        return (ticket for ticket in self.waiting if not self.is_at_cap(ticket.user))


def _less(counts: dict[str, int], user: str) -> None:
    counts[user] -= 1
    if not counts[user]:
        del counts[user]
