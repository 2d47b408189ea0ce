"""Simulated model hosts: so many calls at once, or so much per minute. They are `ChatModel`s on virtual time."""

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from math import inf, log
from typing import Literal

import trio

from app.clients.ports import ModelEnd, ModelRequest, OnText, Quota, RateLimits
from app.errors import ModelFault
from app.turn import PromptMessage, TokenUsage

TRIP_S = 0.03
"""One way."""
LOOK_S = 0.05
"""How often the first of those who wait at a host looks."""
MEAN_S, SPREAD = 4.0, 0.5
"""Of the answers' lognormal lengths."""
TOKENS_PER_S = 60.0
MAX_TOKENS = 800
_TEXT = "four" * 8192


@dataclass(frozen=True, slots=True)
class Call:
    """What a call would be like at an idle host."""

    prompt_tokens: int
    first_s: float
    whole_s: float

    @property
    def used_tokens(self) -> int:
        return self.prompt_tokens + self.answer_tokens

    @property
    def answer_tokens(self) -> int:
        return min(MAX_TOKENS, round(TOKENS_PER_S * self.whole_s))


def draw_request(draw: random.Random) -> ModelRequest:
    """Return a request with a prompt of some 500 tokens."""
    prompt_tokens = min(4000, round(draw.lognormvariate(log(500), 0.6)))
    message = PromptMessage("user", _TEXT[: 4 * prompt_tokens])
    return ModelRequest(messages=(message,), model="m", max_tokens=MAX_TOKENS)


@dataclass
class Seen:
    """What a host has done, with times."""

    accepted: int = 0
    finished: list[float] = field(default_factory=list)
    refused: list[float] = field(default_factory=list)
    first_token_s: list[float] = field(default_factory=list)


class Host:
    """What the hosts have in common.

    Args:
        seed: of the answers' lengths; the nth that is accepted is as long in every run.
        patient: lets calls wait in place of refusing them, first come first.
    """

    name, host, provider = "m", ("host.test", 443), "test"

    def __init__(self, seed: int, *, patient: bool = False) -> None:
        self._random = random.Random(f"host {seed}")
        self.patient = patient
        self.busy = 0
        self.seen = Seen()
        self.on_end: Callable[[float, int], None] | None = None
        self._first = trio.StrictFIFOLock()

    def room(self, now: float, prompt_tokens: int) -> bool:
        """Return whether the host takes the call now."""
        raise NotImplementedError

    def begin(self, now: float, call: Call) -> None:
        """Count a call that is taken."""

    def end(self, now: float, call: Call) -> None:
        """Count a call that ended."""

    def limits(self, now: float, prompt_tokens: int, refused: bool) -> RateLimits | None:
        """Return what the answer's headers say."""
        return None

    def _draw(self, prompt_tokens: int) -> Call:
        first_s = 0.15 + prompt_tokens / 4000 + self._random.expovariate(20)
        whole_s = self._random.lognormvariate(log(MEAN_S) - SPREAD**2 / 2, SPREAD)
        return Call(prompt_tokens, first_s, max(first_s, whole_s))

    async def answer(self, request: ModelRequest, on_text: OnText) -> ModelEnd:
        asked, tokens = trio.current_time(), len(request.messages[0].content) // 4
        await trio.sleep(TRIP_S)
        if self.patient:
            async with self._first:
                while not self.room(trio.current_time(), tokens):  # noqa: ASYNC110 - capacity is a function of time
                    await trio.sleep(LOOK_S)
                call = self._begin(tokens)
        elif self.room(trio.current_time(), tokens):
            call = self._begin(tokens)
        else:
            raise await self._refusal(request, tokens)
        return await self._speak(request, call, on_text, asked)

    def _begin(self, prompt_tokens: int) -> Call:
        self.busy += 1
        self.seen.accepted += 1
        call = self._draw(prompt_tokens)
        self.begin(trio.current_time(), call)
        return call

    async def _refusal(self, request: ModelRequest, tokens: int) -> ModelFault:
        limits = self.limits(trio.current_time(), tokens, True)
        await trio.sleep(TRIP_S)
        self.seen.refused.append(trio.current_time())
        if limits is not None and request.on_limits is not None:
            request.on_limits(limits)
        wait_s = limits.retry_after_s if limits else None
        fault = ModelFault("model_busy", retry_after_s=wait_s, error_type="rate_limit_exceeded")
        fault.ask_again, fault.names_wait = True, wait_s is not None
        return fault

    async def _speak(self, request: ModelRequest, call: Call, on_text: OnText, asked: float) -> ModelEnd:
        begun, limits = trio.current_time(), self.limits(trio.current_time(), call.prompt_tokens, False)
        try:
            await trio.sleep(TRIP_S)
            if limits is not None and request.on_limits is not None:
                request.on_limits(limits)
            await trio.sleep_until(begun + call.first_s + TRIP_S)
            self.seen.first_token_s.append(trio.current_time() - asked)
            on_text("Yes.")
            await trio.sleep_until(begun + call.whole_s)
        finally:
            self.busy -= 1
            self.end(trio.current_time(), call)
        await trio.sleep(TRIP_S)
        self.seen.finished.append(trio.current_time())
        if self.on_end is not None:
            self.on_end(trio.current_time() - asked, self.busy + 1)
        usage = TokenUsage(
            prompt_tokens=call.prompt_tokens, completion_tokens=call.answer_tokens, total_tokens=call.used_tokens
        )
        return ModelEnd(finish_reason="stop", usage=usage)


class SlotHost(Host):
    """Takes `capacity(now)` calls at once."""

    def __init__(self, seed: int, capacity: Callable[[float], float], *, patient: bool = False) -> None:
        super().__init__(seed, patient=patient)
        self.capacity = capacity

    def room(self, now: float, prompt_tokens: int) -> bool:
        return self.busy < int(self.capacity(now))


Counts = Literal["reserved", "used", "reserved, then used"]
"""What of a call a host counts: all it may use, when it comes; what it used, when it ends; or one, then the other."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QuotaRules:
    """A host's quota per minute; in windows it comes back all at once."""

    requests: int
    tokens: int
    windows: bool = False
    counts: Counts = "reserved"


class QuotaHost(Host):
    """Takes so many requests and tokens per minute, and tells in its headers what is left."""

    def __init__(self, seed: int, rules: QuotaRules, *, patient: bool = False) -> None:
        super().__init__(seed, patient=patient)
        self.rules = rules
        self._requests, self._tokens = float(rules.requests), float(rules.tokens)
        self._at = 0.0

    def room(self, now: float, prompt_tokens: int) -> bool:
        self._advance(now)
        return self._requests >= 1 and self._tokens >= self._needs(prompt_tokens)

    def begin(self, now: float, call: Call) -> None:
        self._requests -= 1
        if self.rules.counts != "used":
            self._tokens -= self._needs(call.prompt_tokens)

    def end(self, now: float, call: Call) -> None:
        self._advance(now)
        if self.rules.counts == "used":
            self._tokens -= call.used_tokens
        elif self.rules.counts != "reserved":
            self._tokens = min(self.rules.tokens, self._tokens + self._needs(call.prompt_tokens) - call.used_tokens)

    def limits(self, now: float, prompt_tokens: int, refused: bool) -> RateLimits:
        self._advance(now)
        needs = self._needs(prompt_tokens)
        lacks = ((1, self._requests, self.rules.requests), (needs, self._tokens, self.rules.tokens))
        wait_s = max(self._back_s(now, lack - left, limit) if left < lack else 0.0 for lack, left, limit in lacks)
        return RateLimits(
            requests=self._quota(now, self.rules.requests, self._requests),
            tokens=self._quota(now, self.rules.tokens, self._tokens),
            refused=refused,
            retry_after_s=wait_s if refused else None,
        )

    def _needs(self, prompt_tokens: int) -> float:
        return 1 if self.rules.counts == "used" else prompt_tokens + MAX_TOKENS

    def _quota(self, now: float, limit: int, left: float) -> Quota:
        return Quota(limit=limit, remaining=max(0, int(left)), reset_s=self._back_s(now, limit - left, limit))

    def _back_s(self, now: float, amount: float, limit: float) -> float:
        return 60 - now % 60 if self.rules.windows else amount * 60 / limit

    def _advance(self, now: float) -> None:
        if not self.rules.windows:
            share = (now - self._at) / 60
        else:
            share = inf if now // 60 > self._at // 60 else 0.0
        self._requests = min(self.rules.requests, self._requests + (share and share * self.rules.requests))
        self._tokens = min(self.rules.tokens, self._tokens + (share and share * self.rules.tokens))
        self._at = now
