"""The model client against aimock over sockets: each row of the retry table, and what a stream may suffer."""

from collections.abc import Iterator
from typing import Any

import pytest
import trio

from app.clients.breaker import Breaker
from tests.clients.mock_hosts import MockHost, aimock, ask, needs_answer

TEXT = "Rivers carry mud from the hills to the sea, and lay it down where they are slow."
PIECE_CHARS = 20  # aimock's own default
Fixture = dict[str, Any]

# Refusal -> how often it is asked in all when it does not pass, and the code in which it ends.
AGAIN = [
    *[(status, "", "model_error") for status in (408, 409, 500, 502, 504)],
    (429, "rate_limit_exceeded", "model_busy"),
    (429, "slow_down", "model_busy"),
    (503, "server_is_overloaded", "model_busy"),
    (529, "", "model_busy"),
]
NEVER = [
    *[(status, "", "model_error") for status in (400, 401, 403, 404, 422)],
    (400, "context_length_exceeded", "message_too_long"),
]
QUOTA = [
    (429, "insufficient_quota"),
    (429, "credit_balance_exhausted"),
    (429, "organization_spend_limit_exceeded"),
    (429, "project_spend_limit_exceeded"),
    (429, "organization_usage_limit_exceeded"),
]


def question(kind: str, *facts: object) -> str:
    return f"[{kind} {' '.join(map(str, facts))}]"


def says(asked: str, **fields: Any) -> Fixture:
    return {"match": {"userMessage": asked, **fields.pop("match", {})}, "response": {"content": TEXT}, **fields}


def refuses(asked: str, status: int, code: str, **match: Any) -> Fixture:
    error = {"message": "no", "type": "error", "code": code}
    response = {"error": error, "status": status, "retryAfter": 0.1}
    return {"match": {"userMessage": asked, **match}, "response": response}


def fixtures() -> Iterator[Fixture]:
    """Yield what aimock is to do, by question; of those with the same question the first that fits counts."""
    for status, code, _ in AGAIN:
        yield refuses(question("twice", status, code), status, code, sequenceIndex=0)
        yield refuses(question("twice", status, code), status, code, sequenceIndex=1)
        yield says(question("twice", status, code))
    for status, code in [*((status, code) for status, code, _ in (*AGAIN, *NEVER)), *QUOTA]:
        yield refuses(question("always", status, code), status, code)
    for wait in (1, 6):
        fixture = refuses(question("wait", wait), 429, "rate_limit_exceeded", sequenceIndex=0)
        fixture["response"]["retryAfter"] = wait
        yield fixture
        yield says(question("wait", wait))
    yield refuses("[fallback]", 500, "", model="some-model")
    once = {"sequenceIndex": 0}
    yield says("[cut before the head]", match=once, streamingProfile={"ttft": 60_000}, disconnectAfterMs=50)
    yield says("[cut before the first token]", match=once, latency=50, truncateAfterChunks=1)
    yield says("[cut after the first token]", latency=50, truncateAfterChunks=3)
    for chaos in ("drop", "malformed", "disconnect", "rateLimit"):
        yield says(f"[chaos {chaos}]", match=once, chaos={f"{chaos}Rate": 1})
    yield says("[slow]", latency=40)
    yield says("[late]", streamingProfile={"ttft": 300, "tps": 1000})
    yield {"match": {"userMessage": "[no reason]"}, "response": {"content": TEXT, "finishReason": ""}}
    yield {"match": {"userMessage": "[length]"}, "response": {"content": TEXT, "finishReason": "length"}}
    usage = {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18}
    yield {"match": {"userMessage": "[usage]"}, "response": {"content": TEXT, "usage": usage}}
    yield says("[")


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MockHost]:
    with aimock(list(fixtures()), tmp_path_factory.mktemp("aimock")) as running:
        yield running


def asked_of(host: MockHost, asked: str) -> list[dict[str, Any]]:
    """Return the journal's entries of a question."""
    return [entry for entry in host.journal() if entry["body"]["messages"][-1]["content"] == asked]


async def test_an_answer_is_read_whole(host: MockHost) -> None:
    """Text, reason, model, ids and usage; and the connection is there for the next call."""
    result = await ask(host, "[plain]")
    end = needs_answer(result)
    assert result.text == TEXT
    assert len(result.said) <= -(-len(TEXT) // PIECE_CHARS)  # what came in one read is passed on as one
    assert (end.finish_reason, end.model, end.fallback) == ("stop", "some-model", False)
    (entry,) = asked_of(host, "[plain]")
    assert end.request_id == entry["headers"]["x-request-id"]
    assert (end.response_id or "").startswith("chatcmpl-")
    assert end.usage is not None
    assert end.usage.total_tokens == end.usage.prompt_tokens + end.usage.completion_tokens
    assert result.connections == 1


async def test_the_hosts_usage_and_reason_are_the_turns(host: MockHost) -> None:
    """As it says them."""
    end = needs_answer(await ask(host, "[usage]"))
    assert end.usage is not None
    assert (end.usage.prompt_tokens, end.usage.completion_tokens) == (11, 7)
    assert needs_answer(await ask(host, "[length]")).finish_reason == "length"


@pytest.mark.parametrize(("status", "code", "_ended"), AGAIN)
async def test_what_may_pass_is_asked_again(host: MockHost, status: int, code: str, _ended: str) -> None:
    """Refused twice, answered the third time: the caller notices nothing."""
    asked = question("twice", status, code)
    result = await ask(host, asked)
    assert (result.ended, result.text) == ("answered", TEXT)
    assert [entry["response"]["status"] for entry in asked_of(host, asked)] == [status, status, 200]


@pytest.mark.parametrize(("status", "code", "ended"), [*AGAIN, *NEVER])
async def test_what_does_not_pass_is_told(host: MockHost, status: int, code: str, ended: str) -> None:
    """After two retries, or at once where another try could not help."""
    asked = question("always", status, code)
    result = await ask(host, asked)
    assert (result.ended, result.said) == (ended, [])
    assert len(asked_of(host, asked)) == (3 if (status, code, ended) in AGAIN else 1)


@pytest.mark.parametrize(("status", "code"), QUOTA)
async def test_a_quota_that_is_used_up_is_never_asked_about_again(host: MockHost, status: int, code: str) -> None:
    """It opens the breaker, so that the next question does not reach the host."""
    asked, breaker = question("always", status, code), Breaker("model")
    result = await ask(host, asked, breaker=breaker, fallback="other-model")
    assert result.fault is not None
    assert (result.ended, result.fault.retryable, breaker.state) == ("model_error", False, "open")
    assert (await ask(host, asked, breaker=breaker)).ended == "model_busy"
    assert len(asked_of(host, asked)) == 1


async def test_a_named_wait_is_waited_for(host: MockHost) -> None:
    """A second, by the host's clock."""
    result = await ask(host, question("wait", 1))
    assert result.text == TEXT
    first, second = (entry["timestamp"] for entry in asked_of(host, question("wait", 1)))
    assert second - first >= 990  # whole milliseconds on both sides
    assert result.seconds < 20


async def test_a_named_wait_over_five_seconds_is_told(host: MockHost) -> None:
    """At once, and it is the caller's to wait."""
    result = await ask(host, question("wait", 6))
    assert result.fault is not None
    assert (result.ended, result.fault.retry_after_s) == ("model_busy", 6)
    assert len(asked_of(host, question("wait", 6))) == 1


async def test_the_fallback_answers(host: MockHost) -> None:
    """When the model's retries are over the other one is asked, once, and its answer says so."""
    result = await ask(host, "[fallback]", fallback="other-model")
    end = needs_answer(result)
    assert (result.text, end.fallback, end.model) == (TEXT, True, "other-model")
    models = [entry["body"]["model"] for entry in asked_of(host, "[fallback]")]
    assert models == ["some-model"] * 3 + ["other-model"]


@pytest.mark.parametrize("asked", ["[cut before the head]", "[cut before the first token]"])
async def test_a_connection_that_breaks_before_the_first_token(host: MockHost, asked: str) -> None:
    """It is asked again, on a new connection."""
    result = await ask(host, asked)
    assert (result.ended, result.text) == ("answered", TEXT)
    assert len(asked_of(host, asked)) == 2


async def test_a_connection_that_breaks_after_the_first_token(host: MockHost) -> None:
    """What was said stands, and nothing is asked again, nor of another model."""
    result = await ask(host, "[cut after the first token]", fallback="other-model")
    assert result.ended == "model_error"
    assert result.text in (TEXT[:PIECE_CHARS], TEXT[: 2 * PIECE_CHARS]), "the host resets with its last piece"
    assert len(asked_of(host, "[cut after the first token]")) == 1
    assert result.connections == 0


@pytest.mark.parametrize("chaos", ["drop", "malformed", "disconnect", "rateLimit"])
async def test_chaos_before_an_answer_is_survived(host: MockHost, chaos: str) -> None:
    """A 500, a body that is no stream, a broken connection and a 429 of no known code: the next try is answered."""
    result = await ask(host, f"[chaos {chaos}]")
    assert (result.ended, result.text) == ("answered", TEXT)
    assert len(asked_of(host, f"[chaos {chaos}]")) == 2


async def test_an_end_without_a_reason_is_an_end(host: MockHost) -> None:
    """The stream says `[DONE]`, and no finish reason before it."""
    result = await ask(host, "[no reason]")
    assert (needs_answer(result).finish_reason, result.text) == ("stop", TEXT)


async def test_pieces_come_when_they_are_sent(host: MockHost) -> None:
    """With forty milliseconds between them, the last is heard so much later than the first."""
    result = await ask(host, "[slow]")
    assert len(result.times) == 4
    assert result.times[-1] - result.times[0] >= 3 * 0.04 * 0.8


async def test_a_host_that_takes_its_time_is_waited_for(host: MockHost) -> None:
    """No timeout of the client's own ends a slow answer; the turn's deadlines do."""
    result = await ask(host, "[late]")
    assert result.text == TEXT
    assert result.times[0] >= 0.29
    with trio.move_on_after(0.1) as deadline:
        await ask(host, "[late]")
    assert deadline.cancelled_caught
