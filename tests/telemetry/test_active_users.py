"""The sketch of active users: close enough, never growing."""

import tracemalloc

import pytest

from telemetry.active_users import ActiveUsers

KEY = bytes(16)


class Clock:
    now = 1_000.0

    def __call__(self) -> float:
        return self.now


def users(clock: Clock, count: int, prefix: str = "user") -> ActiveUsers:
    active = ActiveUsers(clock, key=KEY)
    for n in range(count):
        active.seen(f"{prefix}-{n}")
    return active


def test_nobody_is_nobody() -> None:
    """Without users the count is 0."""
    assert ActiveUsers(Clock()).count() == 0


@pytest.mark.parametrize("count", [1, 2, 10, 50])
def test_dozens_are_counted_to_one(count: int) -> None:
    """The few dozen users that a process usually has are counted with an error of at most one."""
    assert abs(users(Clock(), count).count() - count) <= 1


@pytest.mark.parametrize("count", [1_000, 5_000, 20_000, 100_000])
def test_thousands_are_counted_within_three_standard_errors(count: int) -> None:
    """The estimate of thousands is within 7 %: three standard errors of 2048 registers."""
    assert abs(users(Clock(), count).count() - count) / count < 0.07


def test_a_user_is_counted_once() -> None:
    """A user who returns, also in another slot of the window, is one user."""
    clock = Clock()
    active = ActiveUsers(clock, key=KEY)
    for _ in range(9):
        active.seen("again")
        clock.now += 30
    assert active.count() == 1


def test_a_user_falls_out_after_the_window() -> None:
    """A user counts for at least four and a half minutes and no longer than five."""
    clock = Clock()
    active = users(clock, 5)
    clock.now += 269
    assert active.count() == 5
    clock.now += 31
    assert active.count() == 0
    active.seen("new")
    assert active.count() == 1


def test_memory_does_not_grow() -> None:
    """Twenty thousand users over a thousand slots of time keep less than 64 KiB."""
    clock = Clock()
    tracemalloc.start()
    try:
        active = ActiveUsers(clock)
        before = tracemalloc.get_traced_memory()[0]
        for n in range(20_000):
            active.seen(f"user-{n}")
            clock.now += 1.5
        assert tracemalloc.get_traced_memory()[0] - before < 64 * 1024
    finally:
        tracemalloc.stop()


def test_any_text_is_a_user() -> None:
    """An id that UTF-8 cannot hold is counted like any other."""
    active = ActiveUsers(Clock())
    active.seen("\ud800")
    active.seen("生徒")
    assert active.count() == 2
