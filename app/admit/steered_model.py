"""A chat model that is paced by its host's quotas, and whose answers teach the adaptive limit.

It stands right before the client that asks once, behind the one that asks again: so every attempt is one sample.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Literal, Protocol

import trio

from app.admit.pacer import Line, Pacer, Reservation, tokens_of
from app.admit.silent_queue import SilentQueue
from app.clients.ports import ChatModel, ModelEnd, ModelRequest, OnText, RateLimits
from app.errors import ModelFault


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


class Steering:
    """What is known of the host, and how many calls it is being asked for now.

    Args:
        resize: told when the adaptive limit is another one, and whether it grew.
        adaptive: the limit; None leaves the number of calls to others. May be assigned at any time.
        silent_queue: the guard against a host that takes calls and lets them wait.
        pacer: the host's quotas.
    """

    def __init__(
        self,
        resize: Resize,
        adaptive: Limit | None = None,
        silent_queue: SilentQueue | None = None,
        pacer: Pacer | None = None,
    ) -> None:
        self.adaptive = adaptive
        self.pacer = pacer or Pacer()
        self.line = Line(self.pacer)
        self.inflight = 0
        self._resize = resize
        self._silent_queue = silent_queue
        self._total = adaptive.total if adaptive else 0

    async def probe(self) -> None:
        """Wait while everything is refused: then one call a second goes."""
        while self.adaptive is not None:
            wait_s = self.adaptive.ask(trio.current_time())
            if wait_s <= 0:
                return
            await trio.sleep(wait_s)

    def accepted(self, sent_at: float, prompt_tokens: float) -> None:
        """Hear that the host began to answer a call, now."""
        now = trio.current_time()
        queued = self._silent_queue is not None and self._silent_queue.has_queued(now - sent_at, prompt_tokens)
        if self.adaptive is not None:
            self.adaptive.accepted(now, sent_at, self.inflight, queued=queued)
            self._apply()

    def refused(self, sent_at: float) -> None:
        """Hear that the host was too busy for a call."""
        if self.adaptive is not None:
            self.adaptive.refused(trio.current_time(), sent_at, self.inflight - 1)

    def ended(self) -> None:
        """Hear that a call ended, however."""
        self.inflight -= 1
        if self.adaptive is not None:
            self.adaptive.ended(trio.current_time())
            self._apply()

    def _apply(self) -> None:
        assert self.adaptive is not None
        before, self._total = self._total, self.adaptive.total
        if self._total != before:
            self._resize(self._total, "grow" if self._total > before else "cut")


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
        tokens = tokens_of(request)
        reservation = await self._steering.line.reserve(tokens)
        call = _Call(self._steering, reservation, tokens - request.max_tokens, on_text)
        try:
            await self._steering.probe()
        except BaseException:
            self._steering.pacer.give_back(trio.current_time(), reservation)
            raise
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
            refused = fault.code == "model_busy"
            if refused and not pacer.explains(trio.current_time(), self._reservation, self._limits):
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
