"""Who that waits would go when, if every call took the mean service time and none were added. Pure.

Calls end in the order in which they began; each lets the first one in that came and whose user has fewer calls than a
user may have. Where no user has more turns here than that, it is the plain line: the nth goes after n calls have
ended, n mean service times divided by the slots. Otherwise the line is played through: a user that waits behind itself
holds up nobody else, and comes after turns that came later.
"""

from collections import Counter, defaultdict, deque
from collections.abc import Sequence
from heapq import heapify, heappop, heappush
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


def forecast(waiting: Sequence[str], running: Sequence[str], total: int, per_user_max: int) -> list[Place]:
    """Return the place of each turn that waits.

    Args:
        waiting: users of the turns that wait, in the order of their coming.
        running: users of the calls in flight, in the order of their beginning; after a cut more than `total`.
        total: slots.
        per_user_max: calls of one user at once; none of `running` has more.
    """
    here = Counter(waiting)
    here.update(running)
    if max(here.values(), default=0) > per_user_max:
        return _played(waiting, running, total, per_user_max)
    free = total - len(running)
    too_many = [1 / (len(running) - ended) for ended in range(-free)]
    longer, first = sum(too_many), (too_many[0] if too_many else 1 / total)
    return [
        Place(number, wait := longer + number / total, wait - first) if number > 0 else AT_ONCE
        for number in range(1 - max(0, free), len(waiting) + 1 - max(0, free))
    ]


def _played(waiting: Sequence[str], running: Sequence[str], total: int, per_user_max: int) -> list[Place]:
    calls, held, free = deque(running), Counter(running), total - len(running)
    turns: defaultdict[str, deque[int]] = defaultdict(deque)
    for index, user in enumerate(waiting):
        turns[user].append(index)
    heads = [own[0] for user, own in turns.items() if held[user] < per_user_max]  # each user's first that may go
    heapify(heads)
    places: dict[int, Place] = {}
    number, wait, first = 0, 0.0, 0.0
    while len(places) < len(waiting):
        while free > 0 and heads:
            index = heappop(heads)
            user = waiting[index]
            number += wait > 0
            places[index] = Place(number, wait, wait - first)
            free -= 1
            held[user] += 1
            calls.append(user)
            turns[user].popleft()
            if turns[user] and held[user] < per_user_max:
                heappush(heads, turns[user][0])
        if calls:
            wait += 1 / len(calls)
            first = first or wait
            user = calls.popleft()
            free += 1
            if turns[user] and held[user] == per_user_max:
                heappush(heads, turns[user][0])
            held[user] -= 1
    return [places[index] for index in range(len(waiting))]
