"""When a host is asked again: waits that it names or does not, deadlines, and the budget that keeps retries few."""

import random
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import httpx
import pytest
import trio
from trio.testing import MockClock

from app.clients.breaker import Breaker
from app.clients.retry import BUDGET_FLOOR, RetryBudget, backoff_s
from app.errors import ModelFault
from tests.clients.scripts import SILENT, Script, Step, Told, answers, breaks, fault_of, hangs, refuses

NOBODY = httpx.ConnectError("refused")


@pytest.mark.parametrize(("retry", "most_s"), [(0, 0.5), (1, 1.0), (2, 2.0), (3, 4.0), (4, 8.0), (5, 8.0), (60, 8.0)])
def test_the_wait_doubles_up_to_eight_seconds(retry: int, most_s: float) -> None:
    """`min(0.5 * 2^n, 8)`, times a random share between three quarters and the whole."""
    assert backoff_s(retry, lambda least, _most: least) == most_s * 0.75
    assert backoff_s(retry, lambda _least, most: most) == most_s
    random.seed(5)
    waits = [backoff_s(retry) for _ in range(500)]
    assert most_s * 0.75 <= min(waits) < most_s * 0.76
    assert most_s * 0.99 < max(waits) <= most_s
    assert len(set(waits)) == 500


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def spend_all(budget: RetryBudget) -> int:
    """Return how many retries the budget allows now."""
    spent = 0
    while budget.spend():
        spent += 1
        assert spent < 10_000
    return spent


@pytest.mark.parametrize(("calls", "retries"), [(0, 5), (1, 5), (50, 5), (59, 5), (60, 6), (69, 6), (1000, 100)])
def test_retries_are_a_tenth_of_the_calls(calls: int, retries: int) -> None:
    """Of the last minute's; a server that had few of them may still retry five times."""
    budget = RetryBudget(Clock())
    for _ in range(calls):
        budget.call()
    assert spend_all(budget) == retries
    assert not budget.spend()


def test_calls_and_retries_count_for_a_minute() -> None:
    """After it a retry may be spent again, and calls no longer allow any."""
    clock = Clock()
    budget = RetryBudget(clock)
    for _ in range(100):
        budget.call()
    assert spend_all(budget) == 10
    clock.now += 59.9
    assert not budget.spend()
    clock.now += 0.2
    assert spend_all(budget) == BUDGET_FLOOR


def test_a_refused_retry_costs_nothing() -> None:
    """What was not spent does not lengthen the pause."""
    clock = Clock()
    budget = RetryBudget(clock)
    assert spend_all(budget) == BUDGET_FLOOR
    for _ in range(100):
        clock.now += 0.5
        assert not budget.spend()
    clock.now += 10.1
    assert spend_all(budget) == BUDGET_FLOOR


def test_over_any_minute_at_most_a_tenth_is_extra() -> None:
    """A storm: every call of ten minutes wants two retries, at an uneven pace."""
    clock, pace = Clock(), random.Random(7)
    budget = RetryBudget(clock)
    calls: list[float] = []
    retries: list[float] = []
    for _ in range(6000):
        clock.now += pace.expovariate(10)
        budget.call()
        calls.append(clock.now)
        retries += [clock.now for _ in range(2) if budget.spend()]
    for end in retries[::50]:
        in_window = [sum(end - 60 < time <= end for time in times) for times in (calls, retries)]
        assert in_window[1] <= max(BUDGET_FLOOR, 0.1 * in_window[0] + 1)
    assert len(retries) > 0.08 * len(calls), "and that tenth is there to be used"


def test_what_is_long_past_is_forgotten() -> None:
    """A server that never retries does not remember every call it ever made."""
    clock = Clock()
    budget = RetryBudget(clock)
    for _ in range(100_000):
        clock.now += 0.1
        budget.call()
    assert len(budget._calls) <= 601


async def test_without_a_named_wait_the_waits_double(autojump_clock: MockClock) -> None:
    """Half a second, then one, of which up to a quarter is left off at random."""
    seconds = set()
    for seed in range(50):
        random.seed(seed)
        script = Script([breaks(NOBODY), refuses(502), answers()])
        await Told().ask(script.model())
        first, second = script.waits
        assert 0.375 <= first <= 0.5
        assert 0.75 <= second <= 1.0
        seconds |= {first, second}
    assert len(seconds) == 100


def in_seconds(seconds: float) -> str:
    """Return an HTTP date so many seconds from now."""
    return format_datetime(datetime.now(UTC) + timedelta(seconds=seconds), usegmt=True)


NAMED: list[tuple[dict[str, Any], float]] = [
    ({"retry_after_ms": "250"}, 0.25),
    ({"retry_after_ms": "250", "retry_after": "4"}, 0.25),
    ({"retry_after_ms": "soon", "retry_after": "4"}, 4),
    ({"retry_after": "2"}, 2),
    ({"retry_after": "1.5"}, 1.5),
    ({"retry_after": "5"}, 5),
]


@pytest.mark.parametrize(("headers", "wait_s"), NAMED)
@pytest.mark.parametrize("status", [429, 503, 529])
async def test_a_named_wait_is_waited_for(
    status: int, headers: dict[str, Any], wait_s: float, autojump_clock: MockClock
) -> None:
    """Milliseconds before seconds, neither more nor less; each time as it was named."""
    script = Script([refuses(status, **headers), refuses(status, retry_after="3"), answers()])
    await Told().ask(script.model())
    assert script.waits == pytest.approx([wait_s, 3])


async def test_a_date_is_waited_for(autojump_clock: MockClock) -> None:
    """`Retry-After` may be an HTTP date, which counts whole seconds."""
    script = Script([refuses(429, retry_after=in_seconds(4)), answers()])
    await Told().ask(script.model())
    (waited,) = script.waits
    assert 2 <= waited <= 4


@pytest.mark.parametrize(
    ("headers", "wait_s"),
    [
        ({"retry_after": "5.1"}, 5.1),
        ({"retry_after_ms": "7000"}, 7),
        ({"retry_after": "120"}, 120),
        ({"retry_after": "86400"}, 86400),
    ],
)
async def test_a_named_wait_over_five_seconds_is_passed_on(
    headers: dict[str, Any], wait_s: float, autojump_clock: MockClock
) -> None:
    """It is not waited for: the caller hears it, at once, as 503 `model_busy`."""
    script = Script([refuses(429, **headers), answers()])
    fault = await fault_of(script)
    assert (fault.code, fault.kind.status, fault.retry_after_s) == ("model_busy", 503, wait_s)
    assert (len(script.requests), trio.current_time()) == (1, 0)


@pytest.mark.parametrize(
    ("status", "code", "said", "asked"),
    [
        (400, "invalid_value", "true", 3),
        (401, None, "TRUE", 3),
        (500, None, "false", 1),
        (429, "rate_limit_exceeded", "false", 1),
        (503, None, "False", 1),
        (500, None, "perhaps", 3),
        (400, None, "perhaps", 1),
    ],
)
async def test_x_should_retry_overrides_the_table(
    status: int, code: str | None, said: str, asked: int, autojump_clock: MockClock
) -> None:
    """Both ways, in any case of letters; other words say nothing."""
    script = Script([refuses(status, code, x_should_retry=said)])
    await fault_of(script)
    assert len(script.requests) == asked


@pytest.mark.parametrize(
    ("deadline_s", "step", "asked"),
    [
        (0.9, refuses(500), 1),  # the first wait is half a second: a retry would have less than that
        (1.1, refuses(500), 2),
        (3.6, refuses(500), 3),
        (7, refuses(429, retry_after="4"), 1),
        (9, refuses(429, retry_after="4"), 2),
    ],
)
async def test_a_retry_that_would_be_late_is_left(
    deadline_s: float, step: Step, asked: int, autojump_clock: MockClock
) -> None:
    """Where less time is left after the wait than the wait itself, the fault is told at once, not at the deadline."""
    script = Script([step])
    with trio.move_on_after(deadline_s) as deadline:
        await fault_of(script, wait_s=lambda retry: 0.5 * 2**retry)
    assert len(script.requests) == asked
    assert not deadline.cancelled_caught


@pytest.mark.parametrize("step", [SILENT, hangs(), hangs("Ye")], ids=["silent", "headers", "a token"])
async def test_a_deadline_ends_whatever_it_meets(step: Step, autojump_clock: MockClock) -> None:
    """Cancelled during an attempt or a wait, the call is over at once, and nothing is asked after it."""
    for steps in ([step], [refuses(500), step]):
        script = Script(steps)
        started = trio.current_time()
        with trio.move_on_after(9) as deadline:
            await Told().ask(script.model())
        assert deadline.cancelled_caught
        assert trio.current_time() - started == pytest.approx(9)
        assert len(script.requests) == len(steps)


async def test_a_budget_that_is_spent_ends_the_retries(autojump_clock: MockClock) -> None:
    """A storm adds a tenth: of a hundred calls that all fail at once, five and then ten are asked again."""
    script, breaker, budget = Script([refuses(503)]), Breaker("model", failures=999), RetryBudget(trio.current_time)
    model = script.model(breaker, budget=budget)
    for _ in range(100):
        with pytest.raises(ModelFault):
            await Told().ask(model)
    assert 105 <= len(script.requests) <= 110
    await trio.sleep(61)
    with pytest.raises(ModelFault):
        await Told().ask(model)
    assert len(script.requests) <= 113, "and a minute later two more"


async def test_cancelling_a_wait_ends_the_call(autojump_clock: MockClock) -> None:
    """A client that leaves while the host is waited for is not asked about again."""
    script = Script([refuses(429, retry_after="4"), answers()])
    async with trio.open_nursery() as turn:
        turn.start_soon(Told().ask, script.model())
        await trio.sleep(1)
        turn.cancel_scope.cancel()
    await trio.sleep(10)
    assert len(script.requests) == 1
