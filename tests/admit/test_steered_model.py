"""The model behind pacer and adaptive limit: what each of its answers tells them. Virtual time."""

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace

import pytest
import trio
from opentelemetry.sdk.trace import Span, TracerProvider
from opentelemetry.trace import use_span
from trio.testing import MockClock

from app.admit.adaptive import AdaptiveLimit, LimitBounds
from app.admit.silent_queue import SAMPLES, SilentQueue
from app.admit.steered_model import SteeredModel, Steering
from app.clients.breaker import Breaker
from app.clients.ports import ModelEnd, ModelRequest, OnText, Quota, RateLimits
from app.clients.resilient import ResilientModel
from app.errors import ModelFault
from app.turn import PromptMessage, TokenUsage
from tests.standins import Before as Step
from tests.standins import after, failing, never

REQUEST = ModelRequest(messages=(PromptMessage("user", "abcd" * 100),), model="m", max_tokens=400)
USAGE = TokenUsage(prompt_tokens=100, completion_tokens=50, total_tokens=150)


class Told:
    """A model that does one step, says one word, and tells of a quota; and what steering made of it."""

    name, host, provider = "m", ("model.test", 443), "test"

    def __init__(self, step: Step, *, quota: int | None = None, refused: bool = False) -> None:
        self.step, self.quota, self.refused = step, quota, refused
        self.changes: list[tuple[int, str]] = []
        self.limit = AdaptiveLimit(10, LimitBounds())
        self.steering = Steering(lambda total, reason: self.changes.append((total, reason)), self.limit)
        self.steered = SteeredModel(self, self.steering)
        self.asked: list[float] = []

    async def answer(self, request: ModelRequest, on_text: OnText) -> ModelEnd:
        self.asked.append(trio.current_time())
        if self.quota is not None and request.on_limits is not None:
            quota = Quota(limit=6000, remaining=self.quota, reset_s=30.0)
            request.on_limits(RateLimits(tokens=quota, refused=self.refused))
        await self.step()
        on_text("Yes.")
        return ModelEnd(finish_reason="stop", usage=USAGE)

    async def ask(self) -> None:
        await self.steered.answer(REQUEST, lambda text: None)


def busy() -> ModelFault:
    fault = ModelFault("model_busy", error_type="rate_limit_exceeded")
    fault.ask_again = True
    return fault


async def test_an_answer_at_the_limit_makes_room_for_one_more(autojump_clock: MockClock) -> None:
    """Ten calls at once at a limit of ten, all answered: the gate is told to grow."""
    told = Told(after(1.0))
    async with trio.open_nursery() as nursery:
        for _ in range(10):
            nursery.start_soon(told.ask)
    assert told.changes[0] == (11, "grow")
    assert told.steering.inflight == 0


@pytest.mark.parametrize(
    ("error", "changes"),
    [
        (busy(), [(8, "cut")]),
        (ModelFault("model_error", error_type="insufficient_quota"), []),
        (ModelFault("model_error", error_type="http_500"), []),
        (KeyError("bug"), []),
    ],
    ids=["busy", "quota", "error", "bug"],
)
async def test_only_being_busy_cuts(
    error: Exception, changes: list[tuple[int, str]], autojump_clock: MockClock
) -> None:
    """A quota that is used up is the breaker's, an error nobody's."""
    told = Told(failing(error))
    told.steering.inflight = 9
    with pytest.raises(type(error)):
        await told.ask()
    assert (told.changes, told.steering.inflight) == (changes, 9)


async def test_a_cancelled_call_says_nothing(autojump_clock: MockClock) -> None:
    """No sample, nothing in flight, and no reservation left."""
    told = Told(after(10.0), quota=3000)
    with trio.move_on_after(1.0):
        await told.ask()
    assert (told.changes, told.steering.inflight, told.limit.total) == ([], 0, 10)
    pacer = told.steering.line("m").pacer
    assert pacer.tokens.in_flight == pacer.requests.in_flight == 0


async def test_a_refusal_for_want_of_tokens_is_the_pacers(autojump_clock: MockClock) -> None:
    """It does not cut the number of calls; the next call waits."""
    told = Told(failing(busy()), quota=100, refused=True)
    told.steering.inflight = 9
    with pytest.raises(ModelFault):
        await told.ask()
    assert told.changes == []
    with pytest.raises(ModelFault, match="over the quota"):
        await told.ask()
    assert len(told.asked) == 1


async def test_what_was_not_used_is_there_for_the_next(autojump_clock: MockClock) -> None:
    """500 tokens were reserved and 150 used: the account has the rest back."""
    told = Told(after(1.0), quota=3000)
    await told.ask()
    assert told.steering.line("m").pacer.tokens.left(trio.current_time()) >= 3000 - 150


async def test_a_wait_for_a_quota_is_told_of(autojump_clock: MockClock) -> None:
    """The model's span says how long a call was kept back, because that is not the host's time."""
    told = Told(after(1.0), quota=3000)
    span = TracerProvider().get_tracer("test").start_span("chat m")
    with use_span(span):
        await told.ask()
        assert isinstance(span, Span)
        assert len(span.events) == 0
        told.steering.line("m").pacer.reserve(trio.current_time(), 2600)
        await told.ask()
    (event,) = span.events
    assert event.name == "paced"
    assert dict(event.attributes or {}) == {"llm.paced.wait": pytest.approx(told.asked[1] - 1.0)}
    assert told.asked[1] > 1.0
    assert told.steering.statistics().refused == {"overload": 0, "quota": 0, "quota_wait": 0}


async def test_what_the_machine_took_is_no_wait_for_a_quota(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some milliseconds that pass where nobody waits, on a busy machine, are not told of."""

    async def preempted(_steering: Steering) -> None:
        autojump_clock.jump(0.007)

    monkeypatch.setattr(Steering, "room", preempted)
    span = TracerProvider().get_tracer("test").start_span("chat m")
    with use_span(span):
        await Told(after(1.0)).ask()
    assert paced_waits(span) == []


def paced_waits(span: object) -> list[object]:
    assert isinstance(span, Span)
    return [(event.attributes or {}).get("llm.paced.wait") for event in span.events]


@pytest.mark.parametrize("cut_off", [True, False], ids=["cancelled", "refused"])
async def test_a_wait_in_vain_is_told_of(cut_off: bool, autojump_clock: MockClock) -> None:
    """A call that is given up or refused after some time in line was kept back too, and none of it was the host's."""
    told, held = Told(after(1.0), quota=3000), list[float]()
    await told.ask()
    pacer = told.steering.line("m").pacer
    pacer.reserve(trio.current_time(), pacer.tokens.left(trio.current_time()) - 100)
    request = replace(REQUEST, on_held=held.append)
    span = TracerProvider().get_tracer("test").start_span("chat m")
    with use_span(span):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(asked, told, request, ModelFault if not cut_off else None, 2.0 if cut_off else 20.0)
            await trio.sleep(2.0)
            pacer.reserve(trio.current_time(), 2000)
            told.steering.line("m").changed()
    assert held == paced_waits(span) == [pytest.approx(2.0)]
    assert len(told.asked) == 1


async def asked(told: Told, request: ModelRequest, error: type[Exception] | None, seconds: float) -> None:
    """Ask for so long, and see `error`, where one is to be expected."""
    with trio.move_on_after(seconds), pytest.raises(error) if error else nullcontext():
        await told.steered.answer(request, lambda text: None)


async def test_a_call_that_is_cancelled_while_everything_is_refused_was_never_sent(autojump_clock: MockClock) -> None:
    """Neither a request nor a token of the host's quotas is taken for it."""
    told = Told(after(1.0), quota=3000)
    pacer = told.steering.line("m").pacer
    first = pacer.reserve(0.0, 0)
    requests = Quota(limit=10, remaining=9, reset_s=600.0)
    pacer.learn(0.0, first, RateLimits(requests=requests, tokens=Quota(limit=6000, remaining=3000, reset_s=600.0)))
    pacer.settle(0.0, first, 0)
    told.limit.ask = lambda now: 1.0  # type: ignore[method-assign]  # as while everything is refused
    for _ in range(5):
        with trio.move_on_after(0.1):
            await told.ask()
    left = [quota.left(0.5) for quota in (pacer.requests, pacer.tokens)]
    assert left == pytest.approx([9, 3000], abs=0.01)
    assert told.asked == []


async def test_a_call_that_is_given_up_unsent_lets_the_next_one_go(autojump_clock: MockClock) -> None:
    """What it had reserved is there at once for the first in line."""
    told = Told(after(1.0))
    pacer = told.steering.line("m").pacer
    window = RateLimits(tokens=Quota(limit=6000, remaining=500, reset_s=4.9))
    pacer.learn(0.0, pacer.reserve(0.0, 0), window)
    told.limit.ask = lambda now: float(now < 1.0)  # type: ignore[method-assign]  # as while everything is refused
    async with trio.open_nursery() as nursery:
        nursery.start_soon(asked, told, REQUEST, None, 0.5)
        await trio.sleep(0.1)
        nursery.start_soon(told.ask)
    assert told.asked == [pytest.approx(1.5)]


async def test_each_model_has_its_own_quotas(autojump_clock: MockClock) -> None:
    """One model's are used up, and another's call goes at once; what is shown is the one with the least share left."""
    told = Told(after(1.0), quota=3000)
    await told.ask()
    pacer = told.steering.line("m").pacer
    pacer.reserve(trio.current_time(), 3000)
    with pytest.raises(ModelFault) as caught:
        await told.ask()
    assert (caught.value.error_type, caught.value.ask_again) == ("quota_wait", True)
    await told.steered.answer(replace(REQUEST, model="other"), lambda text: None)
    assert len(told.asked) == 2
    tokens = told.steering.statistics().tokens
    assert tokens is not None
    assert tokens.left == pytest.approx(max(0.0, pacer.tokens.left(trio.current_time())))


async def test_the_fallback_is_asked_where_a_quota_forbids_the_model(autojump_clock: MockClock) -> None:
    """At once: a call that was kept back is not tried again, for its wait was too long already."""
    told = Told(after(1.0), quota=3000)
    await told.ask()
    told.steering.line("m").pacer.reserve(trio.current_time(), 3000)
    resilient = ResilientModel(told.steered, Breaker("model"), fallback="other")
    before = trio.current_time()
    end = await resilient.answer(REQUEST, lambda text: None)
    assert end.fallback
    assert trio.current_time() - before == pytest.approx(1.0)
    assert told.steering.statistics().refused["quota_wait"] == 1


@pytest.mark.parametrize(("cut_off_s", "state"), [(2.5, "closed"), (4.5, "closed"), (6.0, "open")])
async def test_a_wait_for_a_quota_is_not_the_hosts_silence(
    cut_off_s: float, state: str, autojump_clock: MockClock
) -> None:
    """Whoever waits three seconds in line has no host's silence behind them then, and two seconds of it at five."""
    told = Told(never, quota=3000)
    pacer = told.steering.line("m").pacer
    pacer.learn(0.0, pacer.reserve(0.0, 0), RateLimits(tokens=Quota(limit=6000, remaining=200, reset_s=58.0)))
    resilient = ResilientModel(told.steered, breaker := Breaker("model", failures=1), silent_s=2.0)
    with trio.move_on_after(cut_off_s):
        await resilient.answer(REQUEST, lambda text: None)
    assert told.asked == ([] if cut_off_s < 3 else [pytest.approx(3.0, abs=0.1)])
    assert breaker.state == state


async def test_what_the_host_said_is_counted(autojump_clock: MockClock) -> None:
    """Attempts that failed, by code; and calls that were not taken, by why. Each answer's quota is there to be read."""
    told = Told(failing(busy()), quota=100, refused=True)
    with pytest.raises(ModelFault):
        await told.ask()
    with pytest.raises(ModelFault):
        await told.ask()
    seen = told.steering.statistics()
    assert (seen.inflight, seen.paced, seen.requests) == (0, 0, None)
    assert (seen.refused, seen.failures) == (
        {"overload": 0, "quota": 1, "quota_wait": 1},
        {"rate_limit_exceeded": 1},
    )
    assert seen.tokens is not None
    assert (seen.tokens.limit, round(seen.tokens.left)) == (6000, 100)


async def test_while_all_is_refused_a_call_a_second_goes(autojump_clock: MockClock) -> None:
    """However many ask, and whether or not they hold slots."""
    told = Told(failing(busy()))

    async def ask_again() -> None:
        while True:
            with pytest.raises(ModelFault):
                await told.ask()
            await trio.sleep(0.1)

    with trio.move_on_after(30.0):
        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(ask_again)
    late = [time for time in told.asked if time > 5.0]
    assert 20 <= len(late) <= 25
    assert told.changes[-1] == (1, "cut")


def ordinary(guard: SilentQueue) -> None:
    for _ in range(SAMPLES):
        assert not guard.has_queued(0.5, 500)


@pytest.mark.parametrize(
    ("first_s", "tokens", "queued"),
    [(0.5, 500, False), (2.0, 500, True), (2.0, 3000, False), (0.6, 500, False)],
    ids=["ordinary", "late", "long prompt", "a little late"],
)
def test_a_silent_queue_is_seen(first_s: float, tokens: int, queued: bool) -> None:
    """By twice the ordinary time to the first token, for prompts of that length, over some calls."""
    guard = SilentQueue()
    ordinary(guard)
    seen: Callable[[], bool] = lambda: guard.has_queued(first_s, tokens)  # noqa: E731 - shorter to read
    assert [seen() for _ in range(10)][-1] is queued


def full(first_s: float) -> Told:
    """Return a model that takes so long for a call, and a limit of one."""
    told = Told(after(first_s))
    told.limit.bounds = LimitBounds(maximum=1)
    return told


async def test_an_attempt_too_many_waits_for_room(autojump_clock: MockClock) -> None:
    """A turn that has its slot from before a cut asks again once another call has ended, and not above the limit."""
    told = full(1.0)
    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(told.ask)
    assert told.asked == [0.0, 1.0, 2.0]


async def test_who_decides_no_more_holds_nobody_up(autojump_clock: MockClock) -> None:
    """Made fixed while an attempt waits for room, the limiter lets it go at once."""
    told = full(3.0)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(told.ask)
        nursery.start_soon(told.ask)
        await trio.sleep(0.5)
        told.steering.follow(None)
    assert told.asked == [0.0, 0.5]


async def test_room_is_not_waited_for_for_ever(autojump_clock: MockClock) -> None:
    """After five seconds the caller is told to come back; the host was not asked, and nothing stays reserved."""
    told = full(30.0)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(told.ask)
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(ModelFault) as caught:
            await told.ask()
        nursery.cancel_scope.cancel()
    assert (caught.value.code, caught.value.error_type, trio.current_time()) == ("model_busy", "limit_wait", 5.0)
    assert (told.asked, told.steering.inflight) == ([0.0], 0)
