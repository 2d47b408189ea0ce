"""The model behind pacer and adaptive limit: what each of its answers tells them. Virtual time."""

from collections.abc import Callable

import pytest
import trio
from opentelemetry.sdk.trace import Span, TracerProvider
from opentelemetry.trace import use_span
from trio.testing import MockClock

from app.admit.adaptive import AdaptiveLimit, LimitBounds
from app.admit.silent_queue import SAMPLES, SilentQueue
from app.admit.steered_model import SteeredModel, Steering
from app.clients.ports import ModelEnd, ModelRequest, OnText, Quota, RateLimits
from app.errors import ModelFault
from app.turn import PromptMessage, TokenUsage
from tests.standins import Before as Step
from tests.standins import after, failing

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
    assert told.steering.pacer.tokens.in_flight == told.steering.pacer.requests.in_flight == 0


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
    assert told.steering.pacer.tokens.left(trio.current_time()) >= 3000 - 150


async def test_a_wait_for_a_quota_is_told_of(autojump_clock: MockClock) -> None:
    """The model's span says how long a call was kept back, because that is not the host's time."""
    told = Told(after(1.0), quota=3000)
    span = TracerProvider().get_tracer("test").start_span("chat m")
    with use_span(span):
        await told.ask()
        assert isinstance(span, Span)
        assert len(span.events) == 0
        told.steering.pacer.reserve(trio.current_time(), 2600)
        await told.ask()
    (event,) = span.events
    assert event.name == "paced"
    assert dict(event.attributes or {}) == {"paced.wait": pytest.approx(told.asked[1] - 1.0)}
    assert told.asked[1] > 1.0
    assert told.steering.statistics().refused == {"overload": 0, "quota": 0, "quota_wait": 0}


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
