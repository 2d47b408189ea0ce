"""The model client against llmock over sockets: a second host that is not ours, and its verdict on our retries."""

from collections.abc import Iterator
from typing import Any

import pytest
import trio

from app.clients.breaker import Breaker
from tests.clients.mock_hosts import MockHost, ask, llmock, needs_answer

Behaviour = dict[str, Any]
CLEAN = {"passed": True, "errors": 0, "warnings": 0, "findings": []}


@pytest.fixture(scope="module")
def host() -> Iterator[MockHost]:
    with llmock() as running:
        yield running


def fails(status: int, code: str | None = None, **fields: Any) -> Behaviour:
    named = {} if code is None else {"code": code}
    return {"type": "fail", "status": status, **named, **fields}


def breaks(kind: str, after_chunks: int, **fields: Any) -> Behaviour:
    """Return a fault of a stream, whose first chunk is the role and whose second the first token."""
    return {"type": "stream_fault", "kind": kind, "after_chunks": after_chunks, **fields}


def clean(host: MockHost) -> bool:
    """Return whether the host has nothing to say against us, not even a warning."""
    verdict = host.verdict()
    return {name: verdict[name] for name in CLEAN} == CLEAN


def doubling(retry: int) -> float:
    """Return waits of which a busy machine still sees the second to be longer."""
    return 0.4 * 2.0**retry


async def test_an_answer_is_read_whole(host: MockHost) -> None:
    """Text, reason, model and usage, over one connection; this host names no request."""
    host.plan()
    result = await ask(host, "What is mud?")
    end = needs_answer(result)
    assert "What is mud?" in result.text
    assert len(result.said) > 2
    assert (end.finish_reason, end.model, end.request_id) == ("stop", "some-model", None)
    assert end.usage is not None
    assert end.usage.completion_tokens > 0
    assert result.connections == 1
    assert clean(host)


AGAIN: dict[str, Behaviour] = {
    **{f"{status}": fails(status) for status in (408, 409, 500, 502)},
    "504, which names a wait": fails(504, retry_after=0.3),
    "429 rate_limit_exceeded": fails(429, "rate_limit_exceeded", retry_after=0.3),
    "429 slow_down": fails(429, "slow_down", retry_after=0.2),
    "503 server_is_overloaded": fails(503, "server_is_overloaded", retry_after=0.2),
    "529": fails(529, retry_after=0.1),
    "disconnect before the head": breaks("disconnect", 0),
    "disconnect before the first token": breaks("disconnect", 1),
    "truncation before the first token": breaks("truncate", 1),
    "an empty stream": breaks("truncate", 0),
}


async def test_what_may_pass_is_asked_again(host: MockHost) -> None:
    """Twice spoilt, the third time well: no caller notices, and the host finds nothing wrong with our ways."""
    host.plan(*[{**behaviour, "times": 2, "match": {"model": name}} for name, behaviour in AGAIN.items()])
    ended: dict[str, str] = {}

    async def one(name: str) -> None:
        result = await ask(host, "What is mud?", model=name, wait_s=doubling)
        ended[name] = result.ended if "What is mud?" in result.text else f"{result.ended}: {result.text}"

    async with trio.open_nursery() as questions:  # at once, for the waits are true ones
        for name in AGAIN:
            questions.start_soon(one, name)
    assert ended == dict.fromkeys(AGAIN, "answered")
    faults: dict[str, list[bool]] = {name: [] for name in AGAIN}
    for request in host.requests():
        faults[request["model"]].append(request["fault"] is not None)
    assert faults == {name: [True, True, False] for name in AGAIN}
    verdict = host.verdict()
    assert (verdict["calls"], verdict["attempts"]) == (len(AGAIN), 3 * len(AGAIN)), "retries are the same request"
    assert clean(host), verdict


async def test_what_does_not_pass_is_given_up(host: MockHost) -> None:
    """After three attempts; the host has seen backoff, and no storm."""
    host.plan(fails(500, times=None))
    result = await ask(host, "What is mud?", wait_s=doubling)
    assert (result.ended, len(host.requests())) == ("model_error", 3)
    assert clean(host), host.verdict()


@pytest.mark.parametrize(
    ("behaviour", "ended"),
    [
        *[(fails(status), "model_error") for status in (400, 401, 403, 404, 422)],
        (fails(400, "context_length_exceeded"), "message_too_long"),
    ],
)
async def test_what_does_not_pass_by_itself_is_asked_once(host: MockHost, behaviour: Behaviour, ended: str) -> None:
    """Neither again nor of another model."""
    host.plan(behaviour)
    result = await ask(host, "What is mud?", fallback="other-model")
    assert (result.ended, len(host.requests())) == (ended, 1)
    assert clean(host), host.verdict()


async def test_a_quota_that_is_used_up_is_never_asked_about_again(host: MockHost) -> None:
    """Though it comes with the status of a rate limit and names a wait."""
    host.plan(fails(429, "insufficient_quota", retry_after=0.1, times=None))
    breaker = Breaker("model")
    for ended in ("model_error", "model_busy", "model_busy"):
        assert (await ask(host, "What is mud?", breaker=breaker)).ended == ended
    assert len(host.requests()) == 1


async def test_a_wait_over_five_seconds_is_not_waited_for(host: MockHost) -> None:
    """The caller is told of it."""
    host.plan(fails(429, retry_after=7.5))
    result = await ask(host, "What is mud?")
    assert result.fault is not None
    assert (result.ended, result.fault.retry_after_s, len(host.requests())) == ("model_busy", 7.5, 1)


MAY_BE_USED_AGAIN = {"disconnect": {0}, "truncate": {1}, "malformed": {0, 1}}
"""Connections afterwards: what ended properly as HTTP is used again, as a malformed answer may have by then, or not."""


@pytest.mark.parametrize("kind", ["disconnect", "truncate", "malformed"])
async def test_what_breaks_after_the_first_token_is_told(host: MockHost, kind: str) -> None:
    """Cut off, ended early without `[DONE]`, or no JSON: never taken for an answer, and never asked again."""
    host.plan(breaks(kind, 3))
    result = await ask(host, "What is mud?", fallback="other-model")
    assert result.ended == "model_error"
    assert result.text
    assert len(host.requests()) == 1
    assert result.connections in MAY_BE_USED_AGAIN[kind]


async def test_a_chunk_that_is_no_json_is_told(host: MockHost) -> None:
    """Before the first token too: what speaks another language will speak it again."""
    host.plan(breaks("malformed", 1))
    result = await ask(host, "What is mud?")
    assert (result.ended, result.said, len(host.requests())) == ("model_error", [], 1)


async def test_a_rate_limit_with_headers_is_kept_to(host: MockHost) -> None:
    """Ten questions at once, of which half are refused at first: each waits as it is told, and all are answered."""
    host.plan(*[fails(429, retry_after=0.2 + number / 10) for number in range(5)])
    answered = []

    async def one(number: int) -> None:
        answered.append((await ask(host, f"What is mud, {number}?")).ended)

    async with trio.open_nursery() as questions:
        for number in range(10):
            questions.start_soon(one, number)
    assert answered == ["answered"] * 10
    assert len(host.requests()) == 15
    assert clean(host), host.verdict()


@pytest.mark.parametrize("after_chunks", [0, 1, 3])
async def test_a_deadline_closes_the_connection_to_a_stalled_host(host: MockHost, after_chunks: int) -> None:
    """The host sees its client leave, in the middle of its stall; it is not asked again."""
    host.plan(breaks("stall", after_chunks, stall_seconds=30))
    with trio.move_on_after(0.5) as deadline:
        await ask(host, "What is mud?")
    assert deadline.cancelled_caught
    (request,) = host.requests()
    assert (request["completed"], request["stall_waited"] < 20) == (False, True)


async def test_a_slow_first_token_is_waited_for(host: MockHost) -> None:
    """Latency is no fault."""
    host.plan({"type": "slow_first_token", "seconds": 0.4})
    result = await ask(host, "What is mud?")
    assert result.ended == "answered"
    assert result.times[0] >= 0.39
    assert clean(host)
