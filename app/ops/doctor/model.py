"""The model: whether its host answers, takes our key, has the model, and how soon it says a word."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import trio

from app.clients.ports import ChatModel, ModelRequest
from app.clients.probing import HostAnswer, ModelList, ModelProbe
from app.errors import CallerFault, ModelFault
from app.ops.doctor.finding import Finding, fail, ok, warn
from app.turn import PromptMessage

QUESTION = "Say OK."
ANSWER_TOKENS = 8
SLOW_FIRST_TOKEN_S = 3.0
"""Half a minute would be within the default deadline, and nobody waits for it."""
KEY_CODES = frozenset({"http_401", "http_403", "invalid_api_key", "authentication_error", "permission_error"})
MODEL_CODES = frozenset({"http_404", "model_not_found", "not_found_error"})
MONEY_CODES = frozenset(
    {"insufficient_quota", "billing_hard_limit_reached", "credit_balance_exhausted"}
    | {"organization_spend_limit_exceeded", "project_spend_limit_exceeded", "organization_usage_limit_exceeded"}
)
SET_KEY = "set OPENAI_API_KEY to a key of this host"


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelChecks:
    """What is asked of a model's host.

    Args:
        name: the model that turns ask for.
        fallback: the one they ask for where that fails, if any.
        probe: asks for the list of models; None where there is no host outside.
        chat: answers.
        wait_ready: returns as soon as it can.
        remark: what is to be known of an embedded one.
    """

    name: str
    chat: ChatModel
    wait_ready: Callable[[], Awaitable[None]]
    probe: ModelProbe | None = None
    fallback: str | None = None
    remark: str = ""

    async def host(self) -> list[Finding]:
        """Ask for the list of models, which costs nothing."""
        if self.probe is None:
            return [ok("model.host", f"embedded: {self.name}; {self.remark}")]
        return judge_list(await self.probe.models(), self.name, self.fallback)

    async def answer(self) -> list[Finding]:
        """Have it say a word."""
        await self.wait_ready()
        started, first = trio.current_time(), list[float]()

        def note(text: str) -> None:
            if text and not first:
                first.append(trio.current_time() - started)

        messages = (PromptMessage(role="user", content=QUESTION),)
        request = ModelRequest(messages=messages, model=self.name, max_tokens=ANSWER_TOKENS)
        try:
            await self.chat.answer(request, note)
        except (ModelFault, CallerFault) as fault:
            return [judge_fault(fault.error_type, self.name)]
        first_s, whole_s = first[0] if first else None, trio.current_time() - started
        return [judge_answer(first_s, whole_s, self.name, embedded=self.probe is None)]


def judge_list(models: ModelList, name: str, fallback: str | None) -> list[Finding]:
    """Return what a host's list, or its refusal, says of our key and of our models."""
    answer = models.answer
    if answer.status is None:
        return [_no_answer(answer)]
    if answer.status == 401:
        return [fail("model.host", f"{answer.host} refuses the key ({answer.word})", SET_KEY)]
    if answer.status == 403:  # a restricted key may answer chats all the same, which the next check finds out
        return [ok("model.host", f"{answer.host} answers, and does not show its models to this key ({answer.word})")]
    if answer.status == 429 or answer.status >= 500:
        todo = "look at the provider's status page and limits, and run the doctor again"
        return [warn("model.host", f"{answer.host} does not list its models for now ({answer.word})", todo)]
    if models.names is None:
        return [ok("model.host", f"{answer.host} answers, and has no list of models ({answer.word})")]
    wanted = {"OPENAI_MODEL": name} | ({"OPENAI_FALLBACK_MODEL": fallback} if fallback else {})
    missing = [f"{variable} {model}" for variable, model in wanted.items() if model not in models.names]
    if missing:
        said = f"{answer.host} lists {answer.items} models, and among them no {' and no '.join(missing)}"
        return [warn("model.host", said, "set a model of the list, unless the host knows more than it lists")]
    return [ok("model.host", f"{answer.host} answers in {answer.seconds * 1000:.0f} ms, and lists {name}")]


def _no_answer(answer: HostAnswer) -> Finding:
    said = f"{answer.host} does not answer ({answer.code})"
    return fail("model.host", said, "check OPENAI_BASE_URL, DNS and the way there, or HTTPS_PROXY")


def judge_fault(error_type: str, name: str) -> Finding:
    """Return what a failed answer says."""
    check = "model.answer"
    if error_type in KEY_CODES:
        return fail(check, f"the host refuses the key ({error_type})", SET_KEY)
    if error_type in MODEL_CODES:
        said = f"the host has no model {name}, or OPENAI_BASE_URL lacks its version ({error_type})"
        return fail(check, said, "set OPENAI_MODEL to one that it has, and the URL to one like https://host/v1")
    if error_type in MONEY_CODES:
        return fail(check, f"the account has no credit left ({error_type})", "pay, or raise the limit at the provider")
    if error_type in ("http_429", "rate_limit_exceeded", "rate_limit_error"):
        return warn(check, f"the host is too busy for us ({error_type})", "ask it for a higher rate limit")
    return fail(check, f"{name} does not answer ({error_type})", "look at the provider's status page and the URL")


def judge_answer(first_s: float | None, whole_s: float, name: str, *, embedded: bool = False) -> Finding:
    """Return whether an answer was one, and came soon; nobody expects that of an embedded model."""
    check = "model.answer"
    if first_s is None:
        said = f"{name} answers without a text within {ANSWER_TOKENS} tokens"
        return warn(check, said, "a model that thinks first needs OPENAI_MAX_TOKENS for that too; try a turn")
    said = f"{name} says its first word after {first_s:.2f} s, and is done after {whole_s:.2f} s"
    if first_s > SLOW_FIRST_TOKEN_S and not embedded:
        return warn(check, said, "take a smaller model, or one closer by; turns are no faster")
    return ok(check, said)
