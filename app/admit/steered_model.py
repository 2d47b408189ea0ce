"""A chat model that is paced by its host's quotas, and whose answers teach the adaptive limit.

It stands right before the client that asks once, behind the one that asks again: so every attempt is one sample.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Literal, Protocol, get_args

import trio
from opentelemetry.trace import get_current_span

from app.admit.bucket import Bucket
from app.admit.pacer import PATIENCE_S, Line, Pacer, Reservation, tokens_of
from app.admit.silent_queue import SilentQueue
from app.clients.ports import ChatModel, ModelEnd, ModelRequest, OnHeld, OnText, RateLimits
from app.errors import ModelFault
from telemetry import names


class Limit(Protocol):
    """What `AdaptiveLimit` is; the benchmark puts others in its place."""

    @property
    def total(self) -> int:
        """How many calls may be in flight."""

    def ask(self, now: float) -> float:
        """Return 0 for a call that may be made now, else how long to wait before asking again."""

    def accepted(self, now: float, sent_at: float, inflight: int, *, queued: bool = False) -> None:
        """Hear that the host began to answer a call."""

    def refused(self, now: float, sent_at: float, inflight: int) -> None:
        """Hear that the host was too busy for a call."""

    def ended(self, now: float) -> None:
        """Hear that a call ended, however."""


Change = Literal["grow", "cut"]
Resize = Callable[[int, Change], None]
Why = Literal["overload", "quota", "quota_wait"]
"""Why a call was not taken: the host had too much to do, it refused for want of requests or tokens a minute, or the
call was not even sent because these are known to be used up.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class QuotaLeft:
    """One quota of the host's: how much there is of it in each period, and about how much of that is left now."""

    limit: float
    left: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SteeringStatistics:
    """What the host has told until now.

    Args:
        inflight: calls that it works on.
        refused: calls that were not taken, by why; every key is there from the start on.
        failures: attempts that failed, however, by the host's code or by what broke.
        paced: calls that wait for a quota.
        requests: its quota of requests, where it has told one: of the model with the least share left.
        tokens: that model's quota of tokens, where it has told one.
    """

    inflight: int
    refused: Mapping[Why, int]
    failures: Mapping[str, int]
    paced: int
    requests: QuotaLeft | None
    tokens: QuotaLeft | None


TOLD_S = 0.05
"""A shorter wait is no event: a busy machine may have made it, between two lines that wait for nothing (7 ms seen)."""


def _nobody(_total: int, _change: Change) -> None:
    """Change nothing."""


class Steering:
    """What is known of the host, and how many calls it is being asked for now.

    Args:
        resize: told when the adaptive limit is another one, and whether it grew; may be assigned later.
        adaptive: the limit; None leaves the number of calls to others.
        silent_queue: the guard against a host that takes calls and lets them wait.
        make_pacer: makes the account of one model's quotas.
    """

    def __init__(
        self,
        resize: Resize = _nobody,
        adaptive: Limit | None = None,
        silent_queue: SilentQueue | None = None,
        make_pacer: Callable[[], Pacer] = Pacer,
    ) -> None:
        self._lines: defaultdict[str, Line] = defaultdict(lambda: Line(make_pacer()))
        self.inflight = 0
        self.resize = resize
        self._silent_queue = silent_queue
        self._refused: dict[Why, int] = dict.fromkeys(get_args(Why), 0)
        self._failures: Counter[str] = Counter()
        self._news = trio.Event()
        self.follow(adaptive)

    @property
    def adaptive(self) -> Limit | None:
        """The limit that decides how many calls there are at once, if one does."""
        return self._adaptive

    def follow(self, adaptive: Limit | None) -> None:
        """Let `adaptive` decide from now on; None leaves the number of calls to others."""
        self._adaptive = adaptive
        self._tell_news()
        self._total = adaptive.total if adaptive else 0

    def line(self, model: str) -> Line:
        """Return where calls of `model` wait: hosts have quotas for each. Few are configured; none is forgotten."""
        return self._lines[model]

    def statistics(self) -> SteeringStatistics:
        """Return what the host has told until now; of several models' quotas, those with the least share left."""
        now = trio.current_time()
        pacers = [line.pacer for line in self._lines.values() if line.pacer.is_on]
        scarcest = min(pacers, key=lambda pacer: pacer.share_left(now), default=None)
        return SteeringStatistics(
            inflight=self.inflight,
            refused=self.not_taken_calls(),
            failures=self.failures(),
            paced=self.paced(),
            requests=_quota_left(scarcest.requests, now) if scarcest else None,
            tokens=_quota_left(scarcest.tokens, now) if scarcest else None,
        )

    def paced(self) -> int:
        """Return how many calls wait for a quota; safe to call from any thread."""
        return sum(line.waiting for line in list(self._lines.values()))

    def not_taken_calls(self) -> Mapping[Why, int]:
        """Return how many calls were not taken, by why; safe to call from any thread."""
        return dict(self._refused)

    def failures(self) -> Mapping[str, int]:
        """Return how many attempts have failed, by code; safe to call from any thread."""
        return dict(self._failures)

    async def room(self) -> None:
        """Wait until the adaptive limit has room for one more call; while everything is refused, one a second goes.

        A turn that was refused keeps its slot while the limit is cut: its next attempt would be one too many.
        """
        while self._adaptive is not None:
            if self.inflight >= self._adaptive.total:
                await self._news.wait()
            elif (wait_s := self._adaptive.ask(trio.current_time())) > 0:
                await trio.sleep(wait_s)
            else:
                return

    def accepted(self, sent_at: float, prompt_tokens: float) -> None:
        """Hear that the host began to answer a call, now."""
        now = trio.current_time()
        queued = self._silent_queue is not None and self._silent_queue.has_queued(now - sent_at, prompt_tokens)
        if self._adaptive is not None:
            self._adaptive.accepted(now, sent_at, self.inflight, queued=queued)
            self._apply()

    def failed(self, code: str) -> None:
        """Hear that an attempt failed."""
        self._failures[code] += 1

    def not_taken(self, why: Why) -> None:
        """Hear that a quota forbids a call, by the host's word or by our account."""
        self._refused[why] += 1

    def refused(self, sent_at: float) -> None:
        """Hear that the host was too busy for a call."""
        self.not_taken("overload")
        if self._adaptive is not None:
            self._adaptive.refused(trio.current_time(), sent_at, self.inflight - 1)

    def ended(self) -> None:
        """Hear that a call ended, however."""
        self.inflight -= 1
        if self._adaptive is not None:
            self._adaptive.ended(trio.current_time())
            self._apply()

    def _tell_news(self) -> None:
        self._news.set()
        self._news = trio.Event()

    def _apply(self) -> None:
        assert self._adaptive is not None
        self._tell_news()
        before, self._total = self._total, self._adaptive.total
        if self._total != before:
            self.resize(self._total, "grow" if self._total > before else "cut")


def _quota_left(bucket: Bucket, now: float) -> QuotaLeft | None:
    return QuotaLeft(limit=bucket.limit, left=max(0.0, bucket.left(now))) if bucket.is_on else None


class SteeredModel:
    """`ChatModel` around another one.

    Args:
        model: asks once.
        steering: of its host.
    """

    def __init__(self, model: ChatModel, steering: Steering) -> None:
        self.name, self.host, self.provider = model.name, model.host, model.provider
        self._model = model
        self._steering = steering

    async def answer(self, request: ModelRequest, on_text: OnText) -> ModelEnd:
        """Ask when the host's quotas allow it, pass each piece on, and return how it ended.

        Raises:
            ModelFault, CallerFault: as the model does; `model_busy` when the quotas do not allow it soon.
        """
        tokens, line = tokens_of(request), self._steering.line(request.model)
        with _told_of(request.on_held):
            reservation = await self._let_through(line, tokens)
        return await _Call(self._steering, line, reservation, on_text).run(self._model, request)

    async def _let_through(self, line: Line, tokens: float) -> Reservation:
        try:
            reservation = await line.reserve(tokens)
        except ModelFault:
            self._steering.not_taken("quota_wait")
            raise
        try:
            with trio.move_on_after(PATIENCE_S) as patience:
                await self._steering.room()
            if patience.cancelled_caught:
                raise ModelFault("model_busy", "over the limit", retry_after_s=PATIENCE_S, error_type="limit_wait")
        except BaseException:
            line.pacer.take_back(trio.current_time(), reservation)
            line.changed()
            raise
        return reservation


@contextmanager
def _told_of(on_held: OnHeld | None) -> Iterator[None]:
    """Tell of the wait inside, however it ends: the model's span, where there was one, and `on_held`."""
    came = trio.current_time()
    try:
        yield
    finally:
        if (held_s := trio.current_time() - came) >= TOLD_S:
            get_current_span().add_event(names.PACED_EVENT, {names.PACED_WAIT: held_s})
        if on_held is not None:
            on_held(held_s)


class _Call:
    """One attempt, from its reservation to its end."""

    def __init__(self, steering: Steering, line: Line, reservation: Reservation, on_text: OnText) -> None:
        self._steering = steering
        self._line = line
        self._reservation = reservation
        self._prompt_tokens = 0.0
        self._on_text = on_text
        self._limits: RateLimits | None = None
        self._accepted = False
        self._sent_at = trio.current_time()

    async def run(self, model: ChatModel, request: ModelRequest) -> ModelEnd:
        """Ask `model`, and tell of it whatever there is to tell."""
        steering, pacer = self._steering, self._line.pacer
        self._prompt_tokens = self._reservation.tokens - request.max_tokens
        steering.inflight += 1
        used: float | None = None
        refused = False
        try:
            end = await model.answer(replace(request, on_limits=self._on_limits), self._heard)
            used = end.usage.total_tokens if end.usage else None
            return end
        except ModelFault as fault:
            steering.failed(fault.error_type)
            refused = fault.code == "model_busy"
            if refused and pacer.explains(trio.current_time(), self._reservation, self._limits):
                steering.not_taken("quota")
            elif refused:
                steering.refused(self._sent_at)
            raise
        finally:
            if refused:
                pacer.give_back(trio.current_time(), self._reservation)
            else:
                pacer.settle(trio.current_time(), self._reservation, used)
            self._line.changed()
            steering.ended()

    def _on_limits(self, limits: RateLimits) -> None:
        self._limits = limits
        self._line.pacer.learn(trio.current_time(), self._reservation, limits)
        self._line.changed()

    def _heard(self, text: str) -> None:
        if text and not self._accepted:
            self._accepted = True
            self._line.pacer.hear(self._reservation)
            self._steering.accepted(self._sent_at, self._prompt_tokens)
        self._on_text(text)
