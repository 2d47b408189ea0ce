"""A chat model that asks again when that may help, asks another model once, and leaves a dead host alone.

Nothing is asked twice once the first piece of text was passed on: it could be billed, and shown, twice.
"""

import logging
from collections.abc import Callable
from dataclasses import replace

import trio
from opentelemetry.trace import get_current_span

from app.clients.breaker import Breaker, BreakerOpenError, Verdict
from app.clients.ports import QUOTA_WAIT, ChatModel, ModelEnd, ModelRequest, OnText
from app.clients.retry import LONGEST_NAMED_WAIT_S, MAX_RETRIES, RetryBudget, backoff_s
from app.errors import ModelFault
from telemetry import names

log = logging.getLogger(__name__)

REFUSED_FOR_GOOD_S = 60.0
"""A host whose quota is used up has nothing to say for a while; somebody has to pay first."""
SILENT_S = 10.0
"""For half of the default deadline for the first token: whoever waited so long in vain has found out something."""


class ResilientModel:
    """`ChatModel` around another one.

    Args:
        model: asks once.
        breaker: of its host.
        fallback: the name of another model of that host, asked once where the first fails in a way that may pass.
        wait_s: gives the wait before a retry, where the host names none.
        silent_s: a call that is cut off after so long without a word counts as the host's failure, whoever cut it off;
            what it was kept back before it was sent (`on_held`) is not the host's time.
    """

    def __init__(
        self,
        model: ChatModel,
        breaker: Breaker,
        *,
        fallback: str | None = None,
        budget: RetryBudget | None = None,
        wait_s: Callable[[int], float] = backoff_s,
        silent_s: float = SILENT_S,
    ) -> None:
        self.name, self.host, self.provider = model.name, model.host, model.provider
        self._model = model
        self._breaker = breaker
        self._fallback = fallback
        self._budget = budget or RetryBudget()
        self._wait_s = wait_s
        self._silent_s = silent_s

    async def answer(self, request: ModelRequest, on_text: OnText) -> ModelEnd:
        """Ask, pass each piece on, and return how it ended.

        Raises:
            ModelFault, CallerFault: as the model does; `model_busy` while its host is left alone.
        """
        spoken = False

        def heard(text: str) -> None:
            nonlocal spoken
            spoken = spoken or bool(text)
            on_text(text)

        try:
            return await self._with_retries(request, heard, lambda: spoken)
        except ModelFault as fault:
            if spoken or not fault.ask_again or self._fallback is None or self._breaker.state != "closed":
                raise
            _event(names.FALLBACK_EVENT, fault, {names.GEN_AI_REQUEST_MODEL: self._fallback})
            end = await self._once(replace(request, model=self._fallback), heard)
            return replace(end, fallback=True, model=end.model or self._fallback)

    async def _with_retries(self, request: ModelRequest, on_text: OnText, spoken: Callable[[], bool]) -> ModelEnd:
        self._budget.call()
        for retry in range(MAX_RETRIES):
            try:
                return await self._once(request, on_text)
            except ModelFault as fault:
                wait_s = fault.retry_after_s if fault.names_wait else self._wait_s(retry)
                assert wait_s is not None
                has_waited = fault.error_type == QUOTA_WAIT  # as long as is reasonable, or would have to
                if spoken() or not fault.ask_again or has_waited or wait_s > LONGEST_NAMED_WAIT_S:
                    raise
                if not self._affordable(wait_s):
                    raise
                _event(names.RETRY_EVENT, fault, {names.RETRY_WAIT: wait_s})
                await trio.sleep(wait_s)
        return await self._once(request, on_text)

    def _affordable(self, wait_s: float) -> bool:
        """Whether a retry may be worth it: there is as much time for its answer as for the wait, and room for one."""
        in_time = trio.current_time() + 2 * wait_s < trio.current_effective_deadline()
        return in_time and self._breaker.state == "closed" and self._budget.spend()

    async def _once(self, request: ModelRequest, on_text: OnText) -> ModelEnd:
        try:
            with self._breaker.call() as verdict:
                return await self._judged(request, on_text, verdict)
        except BreakerOpenError as exc:
            raise ModelFault(
                "model_busy", "the host is left alone", retry_after_s=exc.retry_after_s, error_type="breaker_open"
            ) from None

    async def _judged(self, request: ModelRequest, on_text: OnText, verdict: Verdict) -> ModelEnd:
        came, held_s = trio.current_time(), 0.0

        def heard(text: str) -> None:
            if text:
                verdict.good()
            on_text(text)

        def held(seconds: float) -> None:
            nonlocal held_s
            held_s = seconds

        try:
            end = await self._model.answer(replace(request, on_held=held), heard)
        except ModelFault as fault:
            if fault.for_good:
                verdict.bad(REFUSED_FOR_GOOD_S)
            elif fault.host_failed:
                verdict.bad()
            raise
        except trio.Cancelled:
            if verdict.failed is None and trio.current_time() - came - held_s >= self._silent_s:
                verdict.bad()
            raise
        verdict.good()
        return end


def _event(name: str, fault: ModelFault, facts: dict[str, str | float]) -> None:
    if fault.request_id is not None:
        facts = {**facts, names.UPSTREAM_REQUEST_ID: fault.request_id}
    get_current_span().add_event(name, {names.ERROR_TYPE: fault.error_type, **facts})
    log.warning(name, extra={"error": fault.error_type, **facts})
