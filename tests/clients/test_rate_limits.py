"""The quotas that a model host's headers name, and who is told of them."""

from typing import Any

import httpx
import pytest
from trio.testing import MockClock

from app.clients.openai import OpenAIModel
from app.clients.ports import Quota, RateLimits
from app.clients.rate_limits import duration_s, rate_limits
from app.errors import ModelFault
from tests.clients.asking import URL, asked
from tests.clients.scripts import Script, answers, refuses

HEADERS = {
    "x-ratelimit-limit-requests": "60",
    "x-ratelimit-remaining-requests": "59",
    "x-ratelimit-reset-requests": "1s",
    "X-RateLimit-Limit-Tokens": "150000",
    "X-RateLimit-Remaining-Tokens": "149984",
    "X-RateLimit-Reset-Tokens": "6m0s",
}
LIMITS = RateLimits(
    requests=Quota(limit=60, remaining=59, reset_s=1.0), tokens=Quota(limit=150000, remaining=149984, reset_s=360.0)
)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("12ms", 0.012), ("1s", 1.0), ("6m0s", 360.0), ("1h2m3.5s", 3723.5), ("2m59.56s", 179.56), ("7", 7.0),
        ("0.25", 0.25), ("0s", 0.0), ("1d", 86400.0), (" 3s ", 3.0), ("250us", 0.00025),
        ("", None), ("s", None), ("-1s", None), ("soon", None), ("1763862000", None), ("nan", None), ("1e3", None),
        ("9" * 40 + "s", None), ("٣s", None), ("1s1m", None),
    ],
)  # fmt: skip
def test_a_duration_is_read(text: str, seconds: float | None) -> None:
    """Days to microseconds in that order, or plain seconds; anything else, and a time of day, is none."""
    assert duration_s(text) == (None if seconds is None else pytest.approx(seconds))


def test_both_quotas_are_read() -> None:
    """Header names are read in any case."""
    assert rate_limits(httpx.Headers(HEADERS)) == LIMITS


@pytest.mark.parametrize(
    "changed",
    [
        {"x-ratelimit-limit-requests": "-1"},
        {"x-ratelimit-limit-requests": "0"},
        {"x-ratelimit-limit-requests": "many"},
        {"x-ratelimit-limit-requests": "9" * 400},
        {"x-ratelimit-remaining-requests": "-1"},
        {"x-ratelimit-remaining-requests": "1.5"},
    ],
)
def test_a_limit_of_nothing_is_no_quota(changed: dict[str, str]) -> None:
    """-1, 0 and nonsense switch that quota off, and leave the other."""
    found = rate_limits(httpx.Headers(HEADERS | changed))
    assert found == RateLimits(tokens=LIMITS.tokens)


@pytest.mark.parametrize("headers", [{}, {"x-request-id": "1"}, {"x-ratelimit-limit-requests": "60"}])
def test_without_headers_there_is_no_quota(headers: dict[str, str]) -> None:
    """Most servers send none."""
    assert rate_limits(httpx.Headers(headers)) is None


@pytest.mark.parametrize("reset", ["", "soon"])
def test_a_quota_may_lack_its_reset(reset: str) -> None:
    """What is left counts without it."""
    found = rate_limits(httpx.Headers(HEADERS | {"x-ratelimit-reset-requests": reset}))
    assert found is not None
    assert found.requests == Quota(limit=60, remaining=59)


def _with_quota(**headers: str) -> Any:
    return {"headers": tuple((HEADERS | headers).items())}


async def test_whoever_asks_is_told_before_the_first_word(autojump_clock: MockClock) -> None:
    """The quotas of an answer's head come before its text."""
    told: list[object] = []
    host = Script([answers("Yes.", **_with_quota())])
    await OpenAIModel(host, URL, "", "m").answer(asked("Why?", on_limits=told.append), told.append)
    assert told[0] == LIMITS
    assert "Yes." in told


async def test_a_refusal_tells_too(autojump_clock: MockClock) -> None:
    """With its status, and the wait it names."""
    told: list[RateLimits] = []
    headers: dict[str, Any] = {name.lower().replace("-", "_"): value for name, value in HEADERS.items()}
    host = Script([refuses(429, "rate_limit_exceeded", retry_after="2", **headers)])
    with pytest.raises(ModelFault):
        await OpenAIModel(host, URL, "", "m").answer(asked("Why?", on_limits=told.append), lambda text: None)
    (limits,) = told
    assert (limits.refused, limits.retry_after_s, limits.tokens) == (True, 2.0, LIMITS.tokens)


@pytest.mark.parametrize(("status", "overloaded"), [(429, False), (503, True), (529, True), (500, True)])
async def test_only_a_429_may_be_for_want_of_a_quota(status: int, overloaded: bool, autojump_clock: MockClock) -> None:
    """Any other refusal says that it is not, whatever it names besides."""
    told: list[RateLimits] = []
    headers: dict[str, Any] = {name.lower().replace("-", "_"): value for name, value in HEADERS.items()}
    host = Script([refuses(status, "rate_limit_exceeded", **headers)])
    with pytest.raises(ModelFault):
        await OpenAIModel(host, URL, "", "m").answer(asked("Why?", on_limits=told.append), lambda text: None)
    assert [(limits.refused, limits.overloaded) for limits in told] == [(True, overloaded)]


async def test_nobody_is_told_of_nothing(autojump_clock: MockClock) -> None:
    """An answer without such headers says nothing."""
    told: list[RateLimits] = []
    await OpenAIModel(Script([answers("Yes.")]), URL, "", "m").answer(
        asked("Why?", on_limits=told.append), lambda text: None
    )
    assert told == []
