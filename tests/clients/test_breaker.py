"""The circuit breaker on virtual time: every way from closed to open to half-open and back."""

import logging
from collections.abc import Callable
from contextlib import ExitStack

import pytest
import trio
from trio.testing import MockClock

from app.clients.breaker import Breaker, BreakerOpenError, State, Verdict
from tests.clients.scripts import fields_of

LIMIT, OPEN_S = 3, 10.0
Say = Callable[[Verdict], None]


def good(verdict: Verdict) -> None:
    verdict.good()


def bad(verdict: Verdict) -> None:
    verdict.bad()


def used_up(verdict: Verdict) -> None:
    verdict.bad(60.0)


def nothing(verdict: Verdict) -> None:
    """Say nothing: the call was cut off, or met what says nothing about its host."""


def state_of(breaker: Breaker) -> State:
    """Return its state; a call, so that a type checker does not take the last one for granted."""
    return breaker.state


def calls(breaker: Breaker, *verdicts: Say) -> None:
    """Make calls, one after the other, each with its verdict."""
    for say in verdicts:
        with breaker.call() as verdict:
            say(verdict)


def opened() -> Breaker:
    """Return a breaker that has just opened."""
    breaker = Breaker("model", failures=LIMIT, open_s=OPEN_S)
    calls(breaker, bad, bad, bad)
    assert state_of(breaker) == "open"
    return breaker


async def half_open() -> Breaker:
    """Return a breaker that would let a probe pass."""
    breaker = opened()
    await trio.sleep(OPEN_S)
    return breaker


def refused_for(breaker: Breaker) -> float:
    """Return for how long the breaker says that it refuses calls."""
    with pytest.raises(BreakerOpenError) as caught, breaker.call():
        pass
    return caught.value.retry_after_s


RUNS: list[tuple[list[Say], State]] = [
    ([], "closed"),
    ([bad, bad], "closed"),
    ([bad, bad, bad], "open"),
    ([bad, bad, good, bad, bad], "closed"),
    ([bad, bad, good, bad, bad, bad], "open"),
    ([bad, nothing, bad, nothing], "closed"),
    ([bad, nothing, bad, nothing, bad], "open"),
    ([nothing] * 10, "closed"),
    ([used_up], "open"),
    ([good, used_up], "open"),
]


@pytest.mark.parametrize(("run", "state"), RUNS)
async def test_a_run_of_failures_opens_it(run: list[Say], state: State, autojump_clock: MockClock) -> None:
    """So many in a row, which only good news ends; a host that refuses for good needs to say so once."""
    breaker = Breaker("model", failures=LIMIT, open_s=OPEN_S)
    calls(breaker, *run)
    assert breaker.state == state
    assert breaker.state_value() == {"closed": 0, "open": 2}[state]


async def test_while_it_is_open_calls_are_refused(autojump_clock: MockClock) -> None:
    """They are told how long the rest is, a second at the least."""
    breaker = opened()
    assert refused_for(breaker) == pytest.approx(OPEN_S)
    await trio.sleep(4)
    assert refused_for(breaker) == pytest.approx(OPEN_S - 4)
    await trio.sleep(5.9)
    assert refused_for(breaker) == 1


async def test_then_one_call_at_a_time_may_try(autojump_clock: MockClock) -> None:
    """While the probe is under way others are refused, and the state is half-open."""
    breaker = await half_open()
    with breaker.call():
        assert (breaker.state, breaker.state_value()) == ("half_open", 1)
        assert refused_for(breaker) == 1
        assert refused_for(breaker) == 1
    assert state_of(breaker) == "open", "it was told nothing"


async def test_a_good_probe_closes_it(autojump_clock: MockClock) -> None:
    """And the run of failures begins anew."""
    breaker = await half_open()
    calls(breaker, good)
    assert state_of(breaker) == "closed"
    calls(breaker, bad, bad)
    assert state_of(breaker) == "closed"
    calls(breaker, bad)
    assert state_of(breaker) == "open"


async def test_a_probe_closes_it_at_its_first_good_news(autojump_clock: MockClock) -> None:
    """Nobody waits for the end of a long answer; what it finds out later counts as any other call's."""
    breaker = await half_open()
    with breaker.call() as probe:
        probe.good()
        assert state_of(breaker) == "closed"
        calls(breaker, good, bad, bad)
        probe.bad()
    assert state_of(breaker) == "open", "the third in a row"


async def test_a_probe_that_has_closed_it_is_a_probe_no_more(autojump_clock: MockClock) -> None:
    """When others have opened it again meanwhile, its late success does not close it."""
    breaker = await half_open()
    with breaker.call() as probe:
        probe.good()
        calls(breaker, bad, bad, bad)
        probe.good()
    assert state_of(breaker) == "open"
    assert refused_for(breaker) == pytest.approx(OPEN_S)


@pytest.mark.parametrize(("failure", "open_s"), [(bad, OPEN_S), (used_up, 60.0)])
async def test_a_bad_probe_opens_it_again(failure: Say, open_s: float, autojump_clock: MockClock) -> None:
    """At the first failure, for the whole time."""
    breaker = await half_open()
    calls(breaker, failure)
    assert refused_for(breaker) == pytest.approx(open_s)


async def test_a_short_opening_is_repeated_too(autojump_clock: MockClock) -> None:
    """A bad probe opens it again, however short the time is."""
    breaker = Breaker("model", failures=1, open_s=0.25)
    calls(breaker, bad)
    await trio.sleep(0.25)
    calls(breaker, bad)
    with pytest.raises(BreakerOpenError), breaker.call():
        pass


async def test_a_cancelled_probe_says_nothing(autojump_clock: MockClock) -> None:
    """The next call is the probe; it need not wait again."""
    breaker = await half_open()
    with trio.move_on_after(3) as scope, breaker.call():
        await trio.sleep_forever()
    assert scope.cancelled_caught
    assert state_of(breaker) == "open"
    calls(breaker, good)
    assert state_of(breaker) == "closed"


async def test_a_probe_that_raises_gives_its_place_back(autojump_clock: MockClock) -> None:
    """Even an error in our own code does not leave the breaker half-open for ever."""
    breaker = await half_open()
    with pytest.raises(KeyError), breaker.call():
        raise KeyError("a bug")
    calls(breaker, good)
    assert state_of(breaker) == "closed"


@pytest.mark.parametrize(
    ("opening", "late", "open_s"),
    [
        ([bad, bad, bad], good, 10.0 - 4),
        ([bad, bad, bad], bad, 10.0 - 4),
        ([bad, bad, bad], nothing, 10.0 - 4),
        ([bad, bad, bad], used_up, 60.0),
        ([used_up], good, 60.0 - 4),
        ([used_up], bad, 60.0 - 4),
    ],
)
async def test_a_call_that_began_before_the_opening_is_late(
    opening: list[Say], late: Say, open_s: float, autojump_clock: MockClock
) -> None:
    """Its success does not close, its failure neither lengthens nor shortens; but a refusal for good counts."""
    breaker = Breaker("model", failures=LIMIT, open_s=OPEN_S)
    with breaker.call() as straggler:
        calls(breaker, *opening)
        await trio.sleep(4)
        late(straggler)
    assert state_of(breaker) == "open"
    assert refused_for(breaker) == pytest.approx(open_s)


async def test_a_late_call_neither_is_the_probe_nor_ends_it(autojump_clock: MockClock) -> None:
    """It ends while the probe is under way, and changes nothing."""
    breaker = Breaker("model", failures=LIMIT, open_s=OPEN_S)
    for late in (good, bad, nothing):
        with ExitStack() as before:
            straggler = before.enter_context(breaker.call())
            calls(breaker, bad, bad, bad)
            await trio.sleep(OPEN_S)
            with breaker.call() as probe:
                late(straggler)
                before.close()
                assert state_of(breaker) == "half_open", late
                probe.good()
        assert state_of(breaker) == "closed"


async def test_it_says_so_once(autojump_clock: MockClock, caplog: pytest.LogCaptureFixture) -> None:
    """One line for each opening and closing, however many calls were told the same."""
    caplog.set_level(logging.INFO)
    breaker = Breaker("model", failures=LIMIT, open_s=OPEN_S)
    with ExitStack() as together:
        for verdict in [together.enter_context(breaker.call()) for _ in range(8)]:
            verdict.bad(60.0)
    await trio.sleep(60)
    calls(breaker, good, good)
    (line,) = fields_of(caplog.records, "breaker.opened")
    assert (line["levelname"], line["target"], line["failures"], line["open_s"]) == ("WARNING", "model", 1, 60.0)
    (line,) = fields_of(caplog.records, "breaker.closed")
    assert (line["levelname"], line["target"]) == ("INFO", "model")
