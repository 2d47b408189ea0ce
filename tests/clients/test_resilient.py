"""Each row of the retry table over a scripted host, on virtual time: is it asked again, and what comes of it."""

import httpx
import pytest
import trio
from trio.testing import MockClock

from app.clients import openai
from app.clients.breaker import Breaker
from app.errors import CallerFault, ModelFault
from tests.clients.scripts import (
    Script,
    Step,
    Told,
    answers,
    breaks,
    cut,
    errs,
    fault_of,
    refuses,
    short,
)

PAGE = b"<html><body>Bad gateway</body></html>"
NOBODY, RESET = httpx.ConnectError("refused"), httpx.ReadError("reset")

# Asked again, and the second answer is given: row by row of WIRE.md.
AGAIN: dict[str, Step] = {
    "connect error": breaks(NOBODY),
    "read error before the head": breaks(RESET),
    "write error": breaks(httpx.WriteError("reset")),
    "no proper response": breaks(httpx.RemoteProtocolError("nonsense")),
    "read error before the first token": cut(),
    "end before the first token": short(),
    "an empty 200": Step(),
    "a page with status 200": Step(pieces=(PAGE,)),
    **{f"{status}": refuses(status) for status in (408, 409, 500, 502, 504)},
    **{f"{status}, a page": refuses(status, body=PAGE) for status in (500, 502, 504)},
    **{f"{status}, nothing": refuses(status, body=b"") for status in (408, 409, 500, 502, 504)},
    "429 rate_limit_exceeded": refuses(429, "rate_limit_exceeded"),
    "429 slow_down": refuses(429, "slow_down"),
    "429 of no known code": refuses(429, "too_fast"),
    "429, a page": refuses(429, body=PAGE),
    "503 server_is_overloaded": refuses(503, "server_is_overloaded"),
    "503, nothing": refuses(503, body=b""),
    "529": refuses(529, "overloaded_error"),
    "529, a page": refuses(529, body=PAGE),
    "rate_limit_exceeded, whatever the status": refuses(400, "rate_limit_exceeded"),
    "an error inside the 200": errs("server_error"),
    "an error of no known code inside the 200": errs("oops"),
    "overload inside the 200": errs("server_is_overloaded"),
    "overload in another spelling inside the 200": errs("overloaded_error"),
}
BILLING = [
    "insufficient_quota", "credit_balance_exhausted", "organization_spend_limit_exceeded", "billing_hard_limit_reached",
    "project_spend_limit_exceeded", "organization_usage_limit_exceeded",
]  # fmt: skip
QUOTA: dict[str, Step] = {
    **{f"429 {code}": refuses(429, code) for code in BILLING},
    "quota with a wait": refuses(429, "insufficient_quota", retry_after="1"),
    "quota that says to retry": refuses(429, "insufficient_quota", x_should_retry="true"),
    "quota, whatever the status": refuses(500, "insufficient_quota"),
    "quota inside the 200": errs("insufficient_quota"),
}
NEVER: dict[str, Step] = {
    **{f"{status}": refuses(status) for status in (400, 401, 403, 404, 422, 501, 302)},
    **{f"{status}, a page": refuses(status, body=PAGE) for status in (400, 401, 403, 404, 422)},
    **{f"{status}, nothing": refuses(status, body=b"") for status in (400, 401, 403, 404, 422)},
    "401 whose body breaks off": Step(status=401, pieces=(b'{"er',), end=RESET),
    "401 whose body does not come": Step(status=401, end=None),
    "404 model_not_found": refuses(404, "model_not_found"),
    **{f"{code} inside the 200": errs(code) for code in ("invalid_api_key", "content_filter", "model_not_found")},
    "invalid request inside the 200": errs("invalid_request_error"),
    "a chunk that is no JSON": Step(pieces=(b"data: {\n\n",)),
}
SPOKEN: dict[str, Step] = {
    "read error": cut("Ye"),
    "end": short("Ye"),
    "error inside the 200": errs("server_error", "Ye"),
    "overload inside the 200": errs("server_is_overloaded", "Ye"),
    "no JSON": Step(pieces=(answers("Ye").pieces[1], b"data: {\n\n")),
}


def rows(table: dict[str, Step]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("step", list(table.values()), ids=list(table))


@rows(AGAIN)
async def test_what_may_pass_is_asked_again(step: Step, autojump_clock: MockClock) -> None:
    """The same request once more, and its answer is the turn's; the caller notices nothing."""
    script = Script([step, answers("Yes.")])
    told = await Told().ask(script.model())
    assert (told.text, len(script.requests)) == ("Yes.", 2)
    assert script.requests[0].content == script.requests[1].content
    assert told.end is not None
    assert not told.end.fallback


@rows(AGAIN)
async def test_what_does_not_pass_is_asked_three_times(step: Step, autojump_clock: MockClock) -> None:
    """Two retries at most; then the fault says that it may pass, and busy hosts are told apart from broken ones."""
    script = Script([step])
    fault = await fault_of(script)
    assert len(script.requests) == 3
    assert (type(fault), fault.retryable) == (ModelFault, True)
    busy = step.status in (429, 503, 529, 400) or b"overload" in b"".join(step.pieces)
    assert fault.code == ("model_busy" if busy else "model_error")


@rows(NEVER)
async def test_what_does_not_pass_by_itself_is_asked_once(step: Step, autojump_clock: MockClock) -> None:
    """Neither again nor of another model, which that host would refuse as well; and its breaker stays closed."""
    script, breaker = Script([step, answers()]), Breaker("model", failures=1)
    fault = await fault_of(script, breaker=breaker, fallback="other-model")
    assert (len(script.requests), fault.code, breaker.state) == (1, "model_error", "closed")
    assert trio.current_time() <= openai.ERROR_BODY_S


async def test_a_prompt_that_is_too_long_is_asked_once(autojump_clock: MockClock) -> None:
    """It is the caller's fault, and says nothing of the host."""
    script, breaker = Script([refuses(400, "context_length_exceeded"), answers()]), Breaker("model", failures=1)
    fault = await fault_of(script, breaker=breaker, fallback="other-model")
    assert isinstance(fault, CallerFault)
    assert (len(script.requests), breaker.state) == (1, "closed")


@rows(QUOTA)
async def test_a_quota_that_is_used_up_opens_the_breaker(step: Step, autojump_clock: MockClock) -> None:
    """The caller is told not to try again; the host is not asked for a minute, then once more."""
    script, breaker = Script([step, answers()]), Breaker("model")
    model = script.model(breaker, fallback="other-model")
    with pytest.raises(ModelFault) as caught:
        await Told().ask(model)
    assert (caught.value.code, caught.value.retryable, caught.value.retry_after_s) == ("model_error", False, None)
    assert (len(script.requests), breaker.state, caught.value.ask_again) == (1, "open", False)
    await trio.sleep(30)
    with pytest.raises(ModelFault) as caught:
        await Told().ask(model)
    fault = caught.value
    assert (fault.code, fault.error_type) == ("model_busy", "breaker_open")
    assert fault.retry_after_s == pytest.approx(30)
    assert len(script.requests) == 1
    await trio.sleep(30)
    assert (await Told().ask(model)).text == "Yes."
    assert (len(script.requests), breaker.state) == (2, "closed")


@rows(SPOKEN)
async def test_nothing_is_asked_again_after_the_first_token(step: Step, autojump_clock: MockClock) -> None:
    """It could be billed and shown twice: not again, and of no other model; what was said stands."""
    script, told = Script([step, answers()]), Told()
    fault = await fault_of(script, told, fallback="other-model")
    assert (len(script.requests), told.text) == (1, "Ye")
    assert fault.kind.blame == "model"


WHOLE: dict[str, Step] = {
    "without [DONE]": Step(pieces=answers().pieces[:-1]),
    "without [DONE], broken off": Step(pieces=answers().pieces[:-1], end=RESET),
    "broken off after [DONE]": Step(pieces=answers().pieces, end=RESET),
    "left open after [DONE]": Step(pieces=answers().pieces, end=None),
    "[DONE] without a finish reason": short("Yes.", done=True),
}


@rows(WHOLE)
async def test_an_answer_that_said_its_end_is_whole(step: Step, autojump_clock: MockClock) -> None:
    """A finish reason is an end, and so is `[DONE]`: what becomes of the body after it does not matter."""
    script = Script([step])
    told = await Told().ask(script.model())
    assert (told.text, len(script.requests)) == ("Yes.", 1)
    assert told.end is not None
    assert (told.end.finish_reason, told.end.usage) == ("stop", None)
