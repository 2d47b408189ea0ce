"""Who decides how many calls there are at once: people, or the adaptive limit. Virtual time."""

import logging
from functools import partial
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from app.admit.adaptive import LimitBounds
from app.admit.gate import Gate
from app.admit.gate_statistics import LimiterChange, Mode
from app.admit.limiter import Limiter, LimiterWish
from app.admit.rollout import Rollout, RolloutRules, Share
from app.admit.steered_model import SteeredModel, Steering
from app.clients.ports import ModelEnd, ModelRequest, OnText
from app.errors import ModelFault
from app.turn import PromptMessage

REQUEST = ModelRequest(messages=(PromptMessage("user", "Why?"),), model="m", max_tokens=10)


def limiter(slots: int = 10, mode: Mode = "fixed", low: int = 2, high: int = 12, **rules: Any) -> Limiter:
    return Limiter(
        Gate(slots, 10.0, wall=lambda: 0.0), Steering(), mode, LimitBounds(minimum=low, maximum=high), **rules
    )


def state(each: Limiter) -> tuple[str, int, int, int]:
    return each.mode, each.gate.total, each.bounds.minimum, each.bounds.maximum


def noted(each: Limiter) -> list[tuple[int, int, str, str, str]]:
    return [_short(change) for change in each.gate.changes]


def _short(change: LimiterChange) -> tuple[int, int, str, str, str]:
    return change.before, change.after, change.reason, change.who, change.why


class Host:
    """A model that answers, or refuses, after a second."""

    name, host, provider = "m", ("model.test", 443), "test"

    def __init__(self) -> None:
        self.busy = False

    async def answer(self, request: ModelRequest, on_text: OnText) -> ModelEnd:
        await trio.sleep(1.0)
        if self.busy:
            raise ModelFault("model_busy", error_type="rate_limit_exceeded")
        on_text("Because.")
        return ModelEnd(finish_reason="stop")


async def ask(each: Limiter, host: Host, calls: int) -> None:
    """Make so many calls at once, and wait until all have ended."""
    model = SteeredModel(host, each.steering)

    async def call() -> None:
        try:
            await model.answer(REQUEST, lambda text: None)
        except ModelFault:
            await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        for _ in range(calls):
            nursery.start_soon(call)


async def test_a_fixed_limiter_heeds_no_host(autojump_clock: MockClock) -> None:
    """Neither answers nor refusals move a number that somebody chose."""
    each, host = limiter(), Host()
    await ask(each, host, 10)
    host.busy = True
    await ask(each, host, 10)
    assert (state(each), noted(each)) == (("fixed", 10, 2, 12), [])


async def test_an_adaptive_limiter_follows_the_host(autojump_clock: MockClock) -> None:
    """Answers at the limit make it grow up to its maximum, refusals cut it; each is noted with its reason."""
    each, host = limiter(mode="adaptive"), Host()
    await ask(each, host, 10)
    await ask(each, host, 12)
    assert state(each) == ("adaptive", 12, 2, 12)
    host.busy = True
    await ask(each, host, 12)
    assert each.gate.total < 12
    assert [(change.reason, change.mode) for change in each.gate.changes] == [("grow", "adaptive"), ("cut", "adaptive")]
    assert each.gate.statistics().changes["manual"] == 0


@pytest.mark.parametrize(("slots", "total"), [(1, 2), (50, 12), (7, 7)])
async def test_an_adaptive_limiter_starts_within_its_bounds(slots: int, total: int) -> None:
    """The configured number is where it begins, as far as the bounds allow."""
    assert limiter(slots, "adaptive").gate.total == total


async def test_a_host_that_takes_few_calls_bounds_everything() -> None:
    """Nobody can ask for more calls at once than the embedded model gives answers."""
    each = limiter(2, "adaptive", low=3, high=64, most=2)
    assert state(each) == ("adaptive", 2, 2, 2)
    for wish in (LimiterWish(maximum=3), LimiterWish(mode="fixed", total=3)):
        with pytest.raises(ValueError, match="from 1 to 2"):
            each.change(wish)


@pytest.mark.parametrize(
    ("mode", "wish", "after"),
    [
        ("fixed", LimiterWish(total=3), ("fixed", 3, 2, 12)),
        ("fixed", LimiterWish(total=100), ("fixed", 100, 2, 12)),
        ("fixed", LimiterWish(minimum=4, maximum=5), ("fixed", 10, 4, 5)),
        ("fixed", LimiterWish(mode="fixed"), ("fixed", 10, 2, 12)),
        ("fixed", LimiterWish(mode="adaptive"), ("adaptive", 10, 2, 12)),
        ("fixed", LimiterWish(mode="adaptive", maximum=5), ("adaptive", 5, 2, 5)),
        ("adaptive", LimiterWish(minimum=11), ("adaptive", 11, 11, 12)),
        ("adaptive", LimiterWish(maximum=8), ("adaptive", 8, 2, 8)),
        ("adaptive", LimiterWish(mode="fixed"), ("fixed", 10, 2, 12)),
        ("adaptive", LimiterWish(mode="fixed", total=4), ("fixed", 4, 2, 12)),
    ],
    ids=str,
)
async def test_wishes(
    mode: Mode, wish: LimiterWish, after: tuple[str, int, int, int], caplog: pytest.LogCaptureFixture
) -> None:
    """Each wish is done at once, counted, noted and logged with who and why."""
    each = limiter(mode=mode)
    with caplog.at_level(logging.WARNING):
        each.change(wish, who="ann", why="504s")
    assert state(each) == after
    assert noted(each) == [(10, after[1], "manual", "ann", "504s")]
    assert each.gate.changes[0].mode == after[0]
    assert each.gate.statistics().changes["manual"] == 1
    (line,) = caplog.records
    assert (line.message, line.__dict__["who"], line.__dict__["why"]) == ("ops.limiter.changed", "ann", "504s")
    assert line.__dict__["before"] == {"total": 10, "mode": mode, "min": 2, "max": 12}
    assert line.__dict__["after"] == dict(zip(("mode", "total", "min", "max"), after, strict=True))


@pytest.mark.parametrize(
    ("mode", "wish", "field"),
    [
        ("fixed", LimiterWish(total=0), "total_tokens"),
        ("fixed", LimiterWish(total=10_001), "total_tokens"),
        ("fixed", LimiterWish(minimum=13), "min"),
        ("fixed", LimiterWish(total=3, maximum=1), "min"),
        ("fixed", LimiterWish(maximum=10_001), "max"),
        ("adaptive", LimiterWish(total=3), "total_tokens"),
        ("fixed", LimiterWish(total=3, mode="adaptive"), "total_tokens"),
    ],
    ids=str,
)
async def test_wishes_that_cannot_be(mode: Mode, wish: LimiterWish, field: str) -> None:
    """What cannot be is refused by its field's name, and nothing has changed."""
    each = limiter(mode=mode)
    before = state(each)
    with pytest.raises(ValueError, match=f"^{field}: "):
        each.change(wish, who="ann")
    assert (state(each), noted(each)) == (before, [])


async def test_what_was_learnt_outlives_other_bounds(autojump_clock: MockClock) -> None:
    """Other bounds do not make the adaptive limit forget that the host refused it a moment ago."""
    each, host = limiter(mode="adaptive", high=64), Host()
    host.busy = True
    await ask(each, host, 10)
    cut = each.gate.total
    host.busy = False
    each.change(LimiterWish(maximum=60))
    await ask(each, host, cut)
    assert each.gate.total <= cut + 1  # before its first cut it would be one more with each answer


async def test_a_rollback_fixes_the_configured_number(autojump_clock: MockClock) -> None:
    """Sending a feature back to the sequential plan is going back to a fixed limiter too; rolling out again is not."""
    each, host = limiter(8, "adaptive"), Host()
    rollout = Rollout(RolloutRules(), on_rollback=each.roll_back)
    await ask(each, host, 8)
    assert each.gate.total > 8
    rollout.rules = RolloutRules(chat=Share(optimized=False))
    assert state(each)[:2] == ("fixed", 8)
    assert noted(each)[-1][2:] == ("manual", "rollout", "a plan was rolled back")
    rollout.rules = RolloutRules()
    assert each.mode == "fixed"
    each.change(LimiterWish(total=5))
    rollout.rules = RolloutRules(agent=Share(optimized=False))
    assert each.gate.total == 5  # a number that somebody chose stays


async def test_a_server_that_starts_rolled_back_is_fixed() -> None:
    """The flag counts at the start, too."""
    each = limiter(8, "adaptive")
    Rollout(RolloutRules(chat=Share(optimized=False)), on_rollback=each.roll_back)
    assert state(each)[:2] == ("fixed", 8)


async def test_calls_in_flight_are_never_touched(autojump_clock: MockClock) -> None:
    """Ten calls run on while the limiter is cut to one, made adaptive and fixed again."""
    each, host = limiter(), Host()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(partial(ask, each, host, 10))
        await trio.sleep(0.5)
        for wish in (LimiterWish(total=1), LimiterWish(mode="adaptive"), LimiterWish(mode="fixed", total=2)):
            each.change(wish)
        assert each.steering.inflight == 10
    assert trio.current_time() == pytest.approx(1.0)
    assert each.steering.statistics().failures == {}
