"""Who that waits would go when, if every call took the mean service time and none were added. Pure.

Calls end in the order in which they began; each lets the first one in that came and whose user has fewer calls than a
user may have. Where no user has more turns here than that, it is the plain line: the nth goes after n calls have
ended, n mean service times divided by the slots. Otherwise the line is played through: a user that waits behind itself
holds up nobody else, and comes after turns that came later.
"""

from collections import Counter, defaultdict, deque
from collections.abc import Iterator, Sequence
from heapq import heappop, heappush
from typing import NamedTuple


class Place(NamedTuple):
    """Where a turn is in the line.

    Args:
        number: how many go before it, and itself; 0 for one that need not wait for a call to end.
        wait: until it goes, in mean service times.
        behind: of these, those after the first call's end: what it waits for the sake of others.
    """

    number: int
    wait: float
    behind: float


AT_ONCE = Place(0, 0.0, 0.0)


def forecast(
    waiting: Sequence[str], running: Sequence[str], total: int, per_user_max: int
) -> Iterator[tuple[int, Place]]:
    """Yield the place of each turn that waits, with its index in `waiting`, in the order in which they would go.

    Args:
        waiting: users of the turns that wait, in the order of their coming.
        running: users of the calls in flight, in the order of their beginning; after a cut more than `total`.
        total: slots.
        per_user_max: calls of one user at once; none of `running` has more.
    """
    if _is_crowded(waiting, running, per_user_max):
        for index, number, wait, first in _played(waiting, running, total, per_user_max):
            yield index, Place(number, wait, wait - first)
        return
    for index in range(len(waiting)):
        yield index, in_turn(index + 1, len(running), total)


def last_of(waiting: Sequence[str], running: Sequence[str], total: int, per_user_max: int) -> Place:
    """Return the place of the turn that came last. Args as for `forecast`."""
    if not _is_crowded(waiting, running, per_user_max):
        return in_turn(len(waiting), len(running), total)
    for index, number, wait, first in _played(waiting, running, total, per_user_max):
        if index == len(waiting) - 1:
            return Place(number, wait, wait - first)
    raise ValueError("nobody waits")


def in_turn(nth: int, running: int, total: int) -> Place:
    """Return the place of the nth that waits, where nobody waits behind itself."""
    number = nth - max(0, total - running)
    if number <= 0:
        return AT_ONCE
    too_many = [1 / calls for calls in range(running, total, -1)]
    wait = sum(too_many) + number / total
    return Place(number, wait, wait - (too_many[0] if too_many else 1 / total))


def _is_crowded(waiting: Sequence[str], running: Sequence[str], per_user_max: int) -> bool:
    here = Counter(waiting)
    here.update(running)
    return max(here.values(), default=0) > per_user_max


def _played(
    waiting: Sequence[str], running: Sequence[str], total: int, per_user_max: int
) -> Iterator[tuple[int, int, float, float]]:
    """Yield index, number and wait of each, and the wait for the first call's end; bare, for there may be many."""
    calls, free, held = deque(running), total - len(running), defaultdict(int, Counter(running))
    passed: defaultdict[str, deque[int]] = defaultdict(deque)  # by user, those that others went before
    again: list[int] = []  # a heap: of these, each user's first, where it may go now
    number, wait, first, after, left = 0, 0.0, 0.0, 0, len(waiting)
    while left:
        while free > 0:
            while not again and after < len(waiting) and held[waiting[after]] >= per_user_max:
                passed[waiting[after]].append(after)
                after += 1
            if again:
                index = heappop(again)
            elif after < len(waiting):
                index = after
                after += 1
            else:
                break
            number += wait > 0
            yield index, number, wait, first
            left -= 1
            free -= 1
            user = waiting[index]
            held[user] += 1
            calls.append(user)
            if user in passed and held[user] < per_user_max:
                _look_again(passed, user, again)
        if calls:
            wait += 1 / len(calls)
            first = first or wait
            user = calls.popleft()
            free += 1
            held[user] -= 1
            if user in passed and held[user] == per_user_max - 1:
                _look_again(passed, user, again)


def _look_again(passed: dict[str, deque[int]], user: str, again: list[int]) -> None:
    heappush(again, passed[user].popleft())
    if not passed[user]:
        del passed[user]
