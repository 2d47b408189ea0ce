"""The pacer: requests and tokens per minute, reserved ahead of time and settled after. Its core has no clock."""

import pytest
import trio
import trio.lowlevel
from trio.testing import MockClock, wait_all_tasks_blocked

from app.admit.pacer import LONGEST_HOLD_S, STALE_S, Line, Pacer, Reservation
from app.clients.ports import Quota, RateLimits
from app.errors import ModelFault


def flowing(left: int, limit: int = 6000) -> RateLimits:
    """A token quota that refills all the time."""
    return RateLimits(tokens=Quota(limit=limit, remaining=left, reset_s=(limit - left) * 60 / limit))


def window(left: int, reset_s: float, limit: int = 6000) -> RateLimits:
    """A token quota that comes back at once."""
    return RateLimits(tokens=Quota(limit=limit, remaining=left, reset_s=reset_s))


def told(limits: RateLimits, now: float = 0.0) -> Pacer:
    """Return a pacer that had one call of no tokens, and its answer."""
    pacer = Pacer()
    reservation = pacer.reserve(now, 0)
    pacer.learn(now, reservation, limits)
    pacer.settle(now, reservation, 0)
    return pacer


def test_it_is_off_until_a_quota_is_named() -> None:
    """Without headers nobody waits, however much is asked for."""
    pacer = Pacer()
    for _ in range(1000):
        pacer.reserve(0.0, 1e6)
    assert (pacer.is_on, pacer.wait_s(0.0, 1e6)) == (False, 0.0)


def test_a_flowing_quota_comes_back_as_it_flows() -> None:
    """With 1,000 of 6,000 a minute left, 3,000 are there in twenty seconds."""
    pacer = told(flowing(1000))
    assert pacer.wait_s(0.0, 1000) == 0.0
    assert pacer.wait_s(0.0, 3000) == pytest.approx(20.0)
    assert pacer.wait_s(5.0, 3000) == pytest.approx(15.0)


@pytest.mark.parametrize("reset_s", [41.0, 50.0, 59.0])
def test_a_small_quota_flows_though_the_host_rounds_down(reset_s: float) -> None:
    """Of three requests a minute one comes back every twenty seconds, whatever part of one `remaining` leaves out."""
    pacer = told(RateLimits(requests=Quota(limit=3, remaining=0, reset_s=reset_s)))
    assert pacer.requests.wait_s(0.0, 1) == pytest.approx(20.0)


def test_a_window_gives_nothing_before_its_end() -> None:
    """With 1,000 left and thirty seconds to go, 3,000 are there in thirty seconds, and not a moment sooner."""
    pacer = told(window(1000, 30.0))
    assert pacer.wait_s(0.0, 1000) == 0.0
    assert pacer.wait_s(10.0, 3000) == pytest.approx(20.0)
    assert pacer.wait_s(30.0, 6000) == 0.0


def test_what_is_reserved_is_gone_and_what_was_not_used_comes_back() -> None:
    """5,000 of 6,000 reserved, 1,000 used: 5,000 are left."""
    pacer = told(window(6000, 30.0))
    pacer.learn(0.0, Reservation(0, heard=True), window(6000, 30.0))
    reservation = pacer.reserve(0.0, 5000)
    assert pacer.wait_s(0.0, 2000) > 0
    pacer.settle(1.0, reservation, 1000)
    assert pacer.tokens.left(1.0) == pytest.approx(5000, abs=101)


def test_a_call_of_which_nothing_is_known_keeps_what_it_reserved() -> None:
    """A cancelled call may have been counted: the host's next word decides, and it is no longer held against it."""
    pacer = told(window(3000, 15.0))
    reservation = pacer.reserve(0.0, 2000)
    pacer.settle(1.0, reservation, None)
    assert pacer.tokens.left(1.0) == pytest.approx(1000)
    asked = pacer.reserve(1.0, 0)
    pacer.learn(1.0, asked, window(3000, 14.0))
    assert pacer.tokens.left(1.0) == pytest.approx(3000)


def test_a_refused_call_has_cost_no_tokens() -> None:
    """What the refusal says is left, is left; its own reservation is not taken off it, nor added to it."""
    pacer = told(window(3000, 15.0))
    reservation = pacer.reserve(0.0, 2000)
    limits = RateLimits(tokens=Quota(limit=6000, remaining=500, reset_s=29.0), refused=True)
    pacer.learn(1.0, reservation, limits)
    pacer.give_back(1.0, reservation)
    assert pacer.tokens.left(1.0) == pytest.approx(500)
    assert pacer.tokens.in_flight == 0


def test_calls_that_the_host_has_not_counted_yet_are_taken_off_what_it_says() -> None:
    """An answer that was written before the other calls came knows nothing of them."""
    pacer = told(window(6000, 30.0))
    first, *_others = [pacer.reserve(0.0, 1000) for _ in range(4)]
    pacer.learn(0.2, first, window(5000, 29.8))
    assert pacer.tokens.left(0.2) == pytest.approx(2000)


def requests_told(left: int) -> RateLimits:
    return RateLimits(requests=Quota(limit=60, remaining=left, reset_s=float(60 - left)))


def test_an_answered_request_is_counted() -> None:
    """With nothing else in flight what the host says is left is left, to the last request."""
    pacer = Pacer()
    pacer.learn(0.0, pacer.reserve(0.0, 0), requests_told(2))
    assert pacer.wait_s(0.0, 0, calls=2) == 0.0
    assert pacer.wait_s(0.0, 0, calls=3) == pytest.approx(1.0)


def test_an_answer_that_was_overtaken_gives_nothing_back() -> None:
    """Three calls at once, the last of which is answered first: what the first one's answer says is old by then."""
    pacer = Pacer()
    first, second, last = (pacer.reserve(0.0, 0) for _ in range(3))
    pacer.learn(0.0, last, requests_told(0))
    pacer.settle(0.0, last, 0)
    for reservation, left in ((first, 2), (second, 1)):
        pacer.learn(0.0, reservation, requests_told(left))
        pacer.settle(0.0, reservation, 0)
        assert pacer.wait_s(0.0, 0) > 0


def test_only_a_quota_explains_its_refusal() -> None:
    """A 429 with plenty left is about calls at once, and holds nothing up; one with too little left holds all."""
    pacer = told(window(6000, 30.0))
    reservation = pacer.reserve(0.0, 1000)
    plenty = RateLimits(tokens=Quota(limit=6000, remaining=5000), refused=True, retry_after_s=7.0)
    little = RateLimits(tokens=Quota(limit=6000, remaining=900), refused=True, retry_after_s=7.0)
    assert (pacer.explains(0.0, reservation, None), pacer.explains(0.0, reservation, plenty)) == (False, False)
    assert pacer.wait_s(0.0, 1) == 0.0
    assert pacer.explains(0.0, reservation, little)
    assert pacer.wait_s(0.0, 1) == 7.0


def test_a_wait_that_makes_no_sense_is_not_obeyed_for_ever() -> None:
    """Retry-After is held to for a minute at most, and after a minute without a word one call finds out."""
    pacer = told(window(0, 86400.0))
    reservation = pacer.reserve(0.0, 1000)
    pacer.explains(0.0, reservation, RateLimits(tokens=Quota(limit=6000, remaining=0), retry_after_s=1e9))
    pacer.settle(0.0, reservation, None)
    assert pacer.wait_s(1.0, 1) > LONGEST_HOLD_S
    assert pacer.wait_s(STALE_S, 1) == 0.0
    pacer.reserve(STALE_S, 1)
    assert pacer.wait_s(STALE_S, 1) > 0


def test_more_than_the_whole_quota_goes_when_that_is_full() -> None:
    """The host will say what it thinks of such a call."""
    assert told(flowing(6000)).wait_s(0.0, 9000) == 0.0


async def test_calls_go_in_the_order_in_which_they_came(autojump_clock: MockClock) -> None:
    """A small call does not pass a large one that waits."""
    pacer, order = told(flowing(100), trio.current_time()), list[tuple[str, float]]()
    line = Line(pacer)

    async def call(name: str, tokens: float) -> None:
        await line.reserve(tokens)
        order.append((name, trio.current_time()))

    async with trio.open_nursery() as nursery:
        for number, (name, tokens) in enumerate([("large", 300.0), ("small", 10.0), ("smaller", 5.0)]):
            await trio.sleep(0.01 * number)
            nursery.start_soon(call, name, tokens)
    assert [name for name, _ in order] == ["large", "small", "smaller"]
    assert [time for _, time in order] == pytest.approx([2.0, 2.1, 2.15], abs=0.05)


async def test_a_wait_that_is_too_long_is_refused_at_once(autojump_clock: MockClock) -> None:
    """Counting those before it; with the time after which it is worth trying again."""
    line = Line(told(flowing(100), trio.current_time()), patience_s=5.0)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(line.reserve, 500.0)
        await wait_all_tasks_blocked()
        with pytest.raises(ModelFault) as caught:
            await line.reserve(200.0)
        assert trio.current_time() == 0.0
    assert (caught.value.code, caught.value.error_type) == ("model_busy", "quota_wait")
    assert caught.value.retry_after_s == pytest.approx(6.0)


async def test_who_leaves_the_line_takes_nothing_with_it(autojump_clock: MockClock) -> None:
    """A cancelled wait has reserved nothing and holds nobody up; news wake the first in line."""
    pacer = told(window(0, 50.0), trio.current_time())
    line = Line(pacer, patience_s=100.0)
    async with trio.open_nursery() as nursery:
        with trio.move_on_after(1.0):
            await line.reserve(100.0)
        assert (line.waiting, pacer.tokens.in_flight) == (0, 0)
        nursery.start_soon(line.reserve, 100.0)
        await trio.sleep(1.0)
        pacer.learn(trio.current_time(), Reservation(0, heard=True), window(5000, 40.0))
        line.changed()
    assert trio.current_time() == pytest.approx(2.0)
