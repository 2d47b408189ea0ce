"""The rate limit: exactly the leaky bucket, key by key, in memory that has a bound which nobody can use."""

import sys
from collections.abc import Iterable
from fractions import Fraction

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from app.admit.rate_limit import MAX_KEYS, SHARED, RateLimit

START = 1_000_000.0
"""A moment as Trio's clock has them: seconds since some day."""
TICKS = 16
"""A second's; floats have these exactly."""


class Bucket:
    """The leaky bucket as it is defined, by the times of all that was let in: so many at once, and the rate after that.

    n requests from the ith on, the one that asks among them, may be at most `most` and what leaks meanwhile.
    """

    def __init__(self, most: int, window_s: int) -> None:
        self._most = most
        self._rate = Fraction(most, window_s)
        self._let_in: list[Fraction] = []

    def spend(self, now: Fraction) -> bool:
        if not self.allows(now):
            return False
        self._let_in.append(now)
        return True

    def allows(self, now: Fraction, more: int = 1) -> bool:
        """Return whether so many could be let in now."""
        times = [*self._let_in, *[now] * more]
        return all(len(times) - i <= self._most + (now - at) * self._rate for i, at in enumerate(times))

    def remaining(self, now: Fraction) -> int:
        return next(n for n in range(self._most, -1, -1) if n == 0 or self.allows(now, n))


LIMITS = st.tuples(st.integers(1, 12), st.integers(1, 40))
ASKED = st.lists(st.tuples(st.integers(0, 40), st.sampled_from("abc")), max_size=40)


@given(LIMITS, ASKED)
def test_it_is_the_leaky_bucket(limits: tuple[int, int], asked: list[tuple[int, str]]) -> None:
    """Whoever asks whenever: let in, refused, and told what is left exactly as the bucket's definition has it."""
    limit, buckets = RateLimit(*limits), {key: Bucket(*limits) for key in "abc"}
    tick = int(START) * TICKS
    for wait, key in asked:
        tick += wait
        told = limit.spend(key, tick / TICKS)
        assert told.allowed == buckets[key].spend(Fraction(tick, TICKS))
        assert told.remaining == buckets[key].remaining(Fraction(tick, TICKS))
        assert told.limit == limits[0]


@given(LIMITS, ASKED)
def test_who_waits_as_long_as_told_is_let_in(limits: tuple[int, int], asked: list[tuple[int, str]]) -> None:
    """One who is refused would be let in after `retry_after_s`, not just before it, and has all after `reset_s`."""
    limit, now = RateLimit(*limits), START
    interval_s = limits[1] / limits[0]
    for wait, key in asked:
        now += wait / TICKS
        told = limit.spend(key, now)
        assert 0 <= told.retry_after_s <= interval_s * (1 + 1e-5) <= limits[1] * (1 + 1e-5)
        assert (told.retry_after_s == 0) == told.allowed
        assert told.retry_after_s <= told.reset_s <= limits[1] * (1 + 1e-5)
        if not told.allowed:
            assert limit.look(key, now + told.retry_after_s).allowed
            assert not limit.look(key, now + told.retry_after_s - 0.01 * interval_s).allowed
        assert limit.look(key, now + told.reset_s).remaining == limits[0]


async def test_twenty_at_once_and_then_one_every_three_seconds(autojump_clock: trio.abc.Clock) -> None:
    """Of somebody who asks ten times a second for half a minute: 20 at the start, and one each 3 s after that."""
    limit, let_in, start = RateLimit(20, 60), [], trio.current_time()
    for tenth in range(301):
        await trio.sleep_until(start + tenth / 10)
        if limit.spend("ann", trio.current_time()).allowed:
            let_in.append(tenth / 10)
    burst = [tenth / 10 for tenth in range(20)]
    assert let_in == [*burst, 3.0, *[float(second) for second in range(6, 31, 3)]]


async def test_a_client_that_obeys_is_never_refused_twice(autojump_clock: trio.abc.Clock) -> None:
    """Waiting exactly as long as told, again and again, nothing is lost or won by rounding."""
    limit, start = RateLimit(7, 60), trio.current_time()
    for _ in range(7):
        assert limit.spend("ann", trio.current_time()).allowed
    for _ in range(700):
        await trio.sleep(limit.spend("ann", trio.current_time()).retry_after_s)
        assert limit.spend("ann", trio.current_time()).allowed
    assert trio.current_time() - start == pytest.approx(6000)


def test_looking_costs_nothing() -> None:
    """Who looks is told what spending would be told first, as often as he likes."""
    limit = RateLimit(3, 60)
    assert [limit.look("ann", START).remaining for _ in range(5)] == [3] * 5
    assert [limit.spend("ann", START).remaining for _ in range(5)] == [2, 1, 0, 0, 0]
    assert (limit.look("ann", START).allowed, limit.look("ben", START).allowed) == (False, True)
    assert len(limit) == 1


def size_of(limit: RateLimit) -> int:
    """Return what a limit's tables take, with all that is in them, in bytes."""
    kept, shared = limit._rest_at, limit._shared
    entries: Iterable[tuple[int, float]] = kept.items()
    return sys.getsizeof(kept) + sys.getsizeof(shared) + sum(sys.getsizeof(k) + sys.getsizeof(v) for k, v in entries)


@pytest.mark.parametrize("users", [100_000, pytest.param(1_000_000, marks=pytest.mark.soak)])
def test_a_million_keys_take_no_more_than_the_bound(users: int) -> None:
    """A million users at one moment: 50,000 are remembered one by one, in under 16 MB, and all were let in."""
    limit, refused = RateLimit(20, 60), 0
    for number in range(users):
        refused += not limit.spend(f"user-{number}", START).allowed
    assert len(limit) == MAX_KEYS
    assert len(limit._shared) == SHARED
    assert size_of(limit) < 16e6
    assert refused == 0


def test_keys_at_rest_are_forgotten() -> None:
    """With a hundred new users a second, those of one window are remembered; once they rest, one is as good as none."""
    limit, most = RateLimit(20, 3), 0
    for number in range(2000):
        limit.spend(f"user-{number}", START + number / 100)
        most = max(most, len(limit))
    assert most <= 0.15 * 100 + 2
    for number in range(20):
        limit.spend("user-0", START + 30 + number / 1000)
    limit.spend("user-1", START + 40)
    assert len(limit) == 1


def test_a_full_line_gets_shorter() -> None:
    """With each new key two that are at rest are forgotten, so that what a flood has left goes, and not only stays."""
    limit = RateLimit(20, 3)
    for number in range(1000):
        limit.spend(f"flood-{number}", START)
    for number in range(500):
        limit.spend(f"later-{number}", START + 10 + number / 1000)
        assert len(limit) == 1000 - (number + 1)


def test_who_asks_on_is_not_pushed_out() -> None:
    """The line is that of last spending: one who asks again goes to its end, and others leave before him."""
    limit = RateLimit(20, 60, max_keys=3)
    for name in ("ann", "ben", "cid", "ann", "dan"):
        limit.spend(name, START)
    assert limit._hashed("ann") in limit._rest_at
    assert limit._hashed("ben") not in limit._rest_at


def test_a_place_keeps_the_most_that_was_left_there() -> None:
    """Of two that share one the later rest counts, whichever was pushed out last: no debt is paid by another's."""
    for first, then in ((19, 1), (1, 19)):
        limit = RateLimit(20, 60, max_keys=2, shared=1)
        for name, turns in (("ann", first), ("ben", then), ("cid", 1), ("dan", 1)):
            for _ in range(turns):
                assert limit.spend(name, START).allowed
        assert limit.look("ann", START).remaining == limit.look("ben", START).remaining == 1


def test_a_long_key_takes_no_more_room() -> None:
    """Keys are kept as a number of fixed size, so that nobody pays in memory for a name of 8 KB; nor is it kept."""
    short, long = RateLimit(20, 60), RateLimit(20, 60)
    short.spend("a", START)
    long.spend("a" * 8192, START)
    assert abs(size_of(short) - size_of(long)) < 64
    assert all(key < 1 << 64 for key in long._rest_at)


@pytest.mark.parametrize("before", [0.0, 59.0], ids=["at once", "a minute later"])
def test_who_is_pushed_out_has_nothing_back(before: float) -> None:
    """With 10 places, and a thousand other names to push him out by, a user who has none left still has none."""
    limit = RateLimit(20, 60, max_keys=10)
    for _ in range(20):
        assert limit.spend("ann", START).allowed
    for number in range(1000):
        limit.spend(f"other-{number}", START + before * number / 1000)
    assert len(limit) == 10
    now = START + before
    assert limit.look("ann", now).remaining <= before // 3
    assert limit.look("ann", START + 63).remaining == 20


def test_a_flood_locks_few_others_out() -> None:
    """Of 60,000 names that spend all they have, 10,000 are put together: some of the new ones suffer, most do not."""
    limit = RateLimit(4, 60)
    for number in range(60_000):
        for _ in range(4):
            limit.spend(f"flood-{number}", START)
    new = sum(limit.look(f"new-{number}", START).allowed for number in range(1000))
    assert 780 < new < 920


def test_nobody_can_know_whose_place_is_shared() -> None:
    """The hash has a secret of each process's own, so names that share a place here do not elsewhere."""
    one, other = RateLimit(4, 60), RateLimit(4, 60)
    assert one._hashed("ann") != other._hashed("ann")
    assert RateLimit(4, 60, secret=b"s")._hashed("ann") == RateLimit(4, 60, secret=b"s")._hashed("ann")
