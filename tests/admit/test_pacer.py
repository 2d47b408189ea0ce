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
    """Retry-After is held to for a minute at most; after a minute without a word one call finds out, as it is told."""
    pacer = told(window(0, 86400.0))
    reservation = pacer.reserve(0.0, 1000)
    nothing = RateLimits(tokens=Quota(limit=6000, remaining=0), refused=True, retry_after_s=1e9)
    assert pacer.explains(0.0, reservation, nothing)
    assert pacer.wait_s(1.0, 1) == LONGEST_HOLD_S
    pacer.settle(0.0, reservation, None)
    assert pacer.wait_s(1.0, 1) == STALE_S - 1.0
    assert pacer.wait_s(STALE_S, 1) == 0.0
    pacer.reserve(STALE_S, 1)
    assert pacer.wait_s(STALE_S, 1) > 0


@pytest.mark.parametrize("status", ["overloaded", "no refusal"])
def test_only_a_429_can_be_for_want_of_a_quota(status: str) -> None:
    """A 503 for being busy holds nothing up, whatever else it says is left; nor does an answer that breaks off."""
    pacer = told(window(6000, 30.0))
    little = Quota(limit=6000, remaining=900)
    limits = RateLimits(
        tokens=little, refused=status == "overloaded", overloaded=status == "overloaded", retry_after_s=7.0
    )
    assert not pacer.explains(0.0, pacer.reserve(0.0, 1000), limits)
    assert pacer.wait_s(0.0, 1) == 0.0


@pytest.mark.parametrize(("left", "refused", "wait_s"), [(5000, False, 0.0), (900, False, 19.0), (5000, True, 19.0)])
def test_a_hold_ends_when_the_host_has_enough(left: int, refused: bool, wait_s: float) -> None:
    """An answer that comes after the refusal, and is none itself, ends its wait; not one that names too little."""
    pacer = told(window(5000, 30.0))
    answered, asked = pacer.reserve(0.0, 0), pacer.reserve(0.0, 1000)
    refusal = RateLimits(tokens=Quota(limit=6000, remaining=0, reset_s=30.0), refused=True, retry_after_s=20.0)
    pacer.learn(0.0, asked, refusal)
    assert pacer.explains(0.0, asked, refusal)
    pacer.give_back(0.0, asked)
    quota = Quota(limit=6000, remaining=left, reset_s=29.0)
    pacer.learn(1.0, answered, RateLimits(tokens=quota, refused=refused))
    assert pacer.wait_s(1.0, 1) == wait_s


def test_a_call_that_was_never_sent_is_returned_whole() -> None:
    """Its request too, unlike one that the host refused."""
    pacer = told(RateLimits(requests=Quota(limit=10, remaining=9, reset_s=600.0)))
    pacer.take_back(0.0, pacer.reserve(0.0, 0))
    assert (pacer.requests.left(0.0), pacer.requests.in_flight, pacer.requests.unanswered) == (9, 0, 0)
    pacer.give_back(0.0, pacer.reserve(0.0, 0))
    assert pacer.requests.left(0.0) == 8


def test_an_estimate_over_the_whole_quota_is_no_estimate() -> None:
    """Such a call reserves no tokens, and needs what such calls have used; nothing where that is over the quota too."""
    pacer, now = told(flowing(6000)), 0.0
    needed = list[float]()
    for used in (600, 600, 20_000):
        needed.append(pacer.needed(9000))
        reservation = pacer.reserve(now, 9000)
        pacer.learn(now, reservation, flowing(6000))
        pacer.settle(now, reservation, used)
    assert needed == [0, 600, 600]
    assert pacer.needed(9000) == pytest.approx(4480)
    pacer.settle(now, pacer.reserve(now, 9000), 20_000)
    assert (pacer.needed(9000), pacer.needed(6000)) == (0, 6000)
    assert (pacer.tokens.left(now), pacer.tokens.in_flight) == (6000, 0)


def test_what_was_reserved_before_the_quota_was_known_is_let_go() -> None:
    """The first call's estimate was over the quota that its answer names: it is not held against the next one."""
    pacer = Pacer()
    pacer.learn(0.0, pacer.reserve(0.0, 9000), flowing(6000))
    assert pacer.wait_s(0.0, 5000) == 0.0


@pytest.mark.parametrize(("told_of", "wait_s"), [(flowing(3000), 120.0), (window(3000, 50.0), 110.0)])
def test_many_calls_may_need_more_than_one_full_quota(told_of: RateLimits, wait_s: float) -> None:
    """15,000 tokens of 6,000 a minute: those that come last wait for all of them, one quota after another."""
    pacer = told(told_of)
    assert pacer.tokens.wait_s(0.0, 15_000) == pytest.approx(wait_s)


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


async def test_a_large_call_does_not_starve_the_small_one_behind_it(autojump_clock: MockClock) -> None:
    """It is refused when it is clear that its wait is too long; the small one then goes within its patience."""
    pacer, came = told(flowing(5500), trio.current_time()), list[tuple[str, float]]()
    line = Line(pacer)

    async def call(name: str, tokens: float) -> None:
        try:
            await line.reserve(tokens)
            came.append((name, trio.current_time()))
        except ModelFault as fault:
            assert fault.retry_after_s is not None
            came.append((f"{name} refused", trio.current_time()))

    async with trio.open_nursery() as nursery:
        for name, tokens in (("first", 5800.0), ("second", 5800.0), ("small", 50.0)):
            nursery.start_soon(call, name, tokens)
            await wait_all_tasks_blocked()
    assert [name for name, _ in came] == ["second refused", "first", "small"]
    assert [time for _, time in came] == pytest.approx([0.0, 3.0, 3.5], abs=0.05)


async def test_a_wait_that_becomes_too_long_is_refused_then(autojump_clock: MockClock) -> None:
    """Three seconds were to be waited; after two the host says that it is fifty."""
    pacer = told(flowing(5500), trio.current_time())
    line = Line(pacer)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_say_less, line)
        with trio.fail_after(2.1), pytest.raises(ModelFault) as caught:
            await line.reserve(5800.0)
    assert caught.value.retry_after_s == pytest.approx(48.0, abs=0.1)
    assert (caught.value.error_type, line.waiting, pacer.tokens.in_flight) == ("quota_wait", 0, 0)


async def _say_less(line: Line) -> None:
    await trio.sleep(2.0)
    line.pacer.learn(trio.current_time(), Reservation(0, heard=True), flowing(1000))
    line.changed()


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
