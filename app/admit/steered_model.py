"""A chat model that is paced by its host's quotas, and whose answers teach the adaptive limit.

It stands right before the client that asks once, behind the one that asks again: so every attempt is one sample.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Literal, Protocol, get_args

import trio
from opentelemetry.trace import get_current_span

from app.admit.bucket import Bucket
from app.admit.pacer import Line, Pacer, Reservation, tokens_of
from app.admit.silent_queue import SilentQueue
from app.clients.ports import ChatModel, ModelEnd, ModelRequest, OnText, RateLimits
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
        requests: its quota of requests, where it has told one.
        tokens: its quota of tokens, where it has told one.
    """

    inflight: int
    refused: Mapping[Why, int]
    failures: Mapping[str, int]
    paced: int
    requests: QuotaLeft | None
    tokens: QuotaLeft | None


def _nobody(_total: int, _change: Change) -> None:
    """Change nothing."""


class Steering:
    """What is known of the host, and how many calls it is being asked for now.

    Args:
        resize: told when the adaptive limit is another one, and whether it grew; may be assigned later.
        adaptive: the limit; None leaves the number of calls to others.
        silent_queue: the guard against a host that takes calls and lets them wait.
        pacer: the host's quotas.
    """

    def __init__(
        self,
        resize: Resize = _nobody,
        adaptive: Limit | None = None,
        silent_queue: SilentQueue | None = None,
        pacer: Pacer | None = None,
    ) -> None:
        self.pacer = pacer or Pacer()
        self.line = Line(self.pacer)
        self.inflight = 0
        self.resize = resize
        self._silent_queue = silent_queue
        self._refused: dict[Why, int] = dict.fromkeys(get_args(Why), 0)
        self._failures: Counter[str] = Counter()
        self.follow(adaptive)

    @property
    def adaptive(self) -> Limit | None:
        """The limit that decides how many calls there are at once, if one does."""
        return self._adaptive

    def follow(self, adaptive: Limit | None) -> None:
        """Let `adaptive` decide from now on; None leaves the number of calls to others."""
        self._adaptive = adaptive
        self._total = adaptive.total if adaptive else 0

    def statistics(self) -> SteeringStatistics:
        """Return what the host has told until now."""
        now = trio.current_time()
        return SteeringStatistics(
            inflight=self.inflight,
            refused=dict(self._refused),
            failures=self.failures(),
            paced=self.line.waiting,
            requests=_quota_left(self.pacer.requests, now),
            tokens=_quota_left(self.pacer.tokens, now),
        )

    def failures(self) -> Mapping[str, int]:
        """Return how many attempts have failed, by code; safe to call from any thread."""
        return dict(self._failures)

    async def probe(self) -> None:
        """Wait while everything is refused: then one call a second goes."""
        while self._adaptive is not None:
            wait_s = self._adaptive.ask(trio.current_time())
            if wait_s <= 0:
                return
            await trio.sleep(wait_s)

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

    def _apply(self) -> None:
        assert self._adaptive is not None
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
        tokens, came = tokens_of(request), trio.current_time()
        try:
            reservation = await self._steering.line.reserve(tokens)
        except ModelFault:
            self._steering.not_taken("quota_wait")
            raise
        call = _Call(self._steering, reservation, tokens - request.max_tokens, on_text)
        try:
            await self._steering.probe()
        except BaseException:
            self._steering.pacer.give_back(trio.current_time(), reservation)
            raise
        if (waited_s := trio.current_time() - came) > 0:
            get_current_span().add_event(names.PACED_EVENT, {names.PACED_WAIT: waited_s})
        return await call.run(self._model, request)


class _Call:
    """One attempt, from its reservation to its end."""

    def __init__(self, steering: Steering, reservation: Reservation, prompt_tokens: float, on_text: OnText) -> None:
        self._steering = steering
        self._reservation = reservation
        self._prompt_tokens = prompt_tokens
        self._on_text = on_text
        self._limits: RateLimits | None = None
        self._accepted = False
        self._sent_at = trio.current_time()

    async def run(self, model: ChatModel, request: ModelRequest) -> ModelEnd:
        """Ask `model`, and tell of it whatever there is to tell."""
        steering, pacer = self._steering, self._steering.pacer
        self._sent_at = trio.current_time()
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
            steering.line.changed()
            steering.ended()

    def _on_limits(self, limits: RateLimits) -> None:
        self._limits = limits
        self._steering.pacer.learn(trio.current_time(), self._reservation, limits)
        self._steering.line.changed()

    def _heard(self, text: str) -> None:
        if text and not self._accepted:
            self._accepted = True
            self._steering.pacer.hear(self._reservation)
            self._steering.accepted(self._sent_at, self._prompt_tokens)
        self._on_text(text)
