"""Models that refuse a parameter which others know alone: it is found out once, and they are asked as they want it."""

import json
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
import trio
from trio.testing import MockClock

from app.clients.breaker import Breaker
from app.clients.in_process import Message
from app.clients.openai import OpenAIModel
from app.clients.retry import RetryBudget
from app.errors import ModelFault
from tests.clients.asking import URL, asked, served
from tests.clients.scripts import Script, Step, Told, answers, fields_of, refuses

WORDS = "No."


def refusal(code: object, param: object, status: int = 400) -> Step:
    """Return OpenAI's refusal of a parameter, whose words say nothing."""
    error = {"message": WORDS, "type": "invalid_request_error", "param": param, "code": code}
    return refuses(status, body=json.dumps({"error": error}).encode())


MAX_TOKENS = refusal("unsupported_parameter", "max_tokens")
TEMPERATURE = refusal("unsupported_value", "temperature")


@dataclass
class Choosy:
    """A host whose models take `max_completion_tokens` alone, and no temperature; it keeps what it was sent."""

    bodies: list[dict[str, Any]] = field(default_factory=list)

    async def __call__(self, scope: Message, receive: Any, send: Any) -> None:
        assert scope["type"] == "http"  # or the server goes on without a lifespan
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message["body"], message["more_body"]
        self.bodies.append(json.loads(body))
        step = next((step for name, step in REFUSED.items() if name in self.bodies[-1]), answers())
        await send({"type": "http.response.start", "status": step.status, "headers": []})
        await send({"type": "http.response.body", "body": b"".join(step.pieces)})


REFUSED = {"max_tokens": MAX_TOKENS, "temperature": TEMPERATURE}


class Spent(RetryBudget):
    """A budget with nothing left."""

    def spend(self) -> bool:
        return False


def sent(script: Script) -> list[set[str]]:
    """Return which of the parameters in question each request had."""
    names = {"max_tokens", "max_completion_tokens", "temperature"}
    return [names & json.loads(request.content).keys() for request in script.requests]


async def test_a_model_is_asked_as_it_wants_it() -> None:
    """Over a socket: one call finds out, and answers; from then on each is one request."""
    host, said = Choosy(), list[str]()
    async with served(host) as url, httpx.AsyncHTTPTransport() as transport:
        model = OpenAIModel(transport, url, "", "some-model")
        for _ in range(2):
            await model.answer(asked("Why?", temperature=0.2), said.append)
    assert "".join(said) == "Yes.Yes."
    assert len(host.bodies) == 4
    assert host.bodies[2] == host.bodies[3]
    assert host.bodies[3].keys() == {"model", "messages", "max_completion_tokens", "stream", "stream_options"}
    assert host.bodies[3]["max_completion_tokens"] == 40


async def test_it_is_no_retry_and_no_failure(autojump_clock: MockClock, caplog: pytest.LogCaptureFixture) -> None:
    """Nothing is waited for, no budget is needed, a breaker that opens at once stays closed; one line says so."""
    host, breaker = Script([MAX_TOKENS, answers()]), Breaker("model", failures=1)
    with caplog.at_level("INFO"):
        told = await Told().ask(host.model(breaker, budget=Spent()))
    assert (told.text, breaker.state, host.waits) == ("Yes.", "closed", [0])
    assert sent(host) == [{"max_tokens"}, {"max_completion_tokens"}]
    (line,) = fields_of(caplog.records, "model.parameter_refused")
    assert (line["parameter"], line["instead"], line["model"]) == ("max_tokens", "max_completion_tokens", "some-model")


async def test_each_model_is_found_out_by_itself(autojump_clock: MockClock) -> None:
    """A host may have some that know the old name alone: a fallback model is asked by that first."""
    host = Script([MAX_TOKENS, answers()])
    model = OpenAIModel(host, URL, "", "some-model")
    await model.answer(asked("Why?"), lambda _text: None)
    await model.answer(asked("Why?", model="another"), lambda _text: None)
    assert sent(host) == [{"max_tokens"}, {"max_completion_tokens"}, {"max_tokens"}]


async def test_calls_at_once_find_it_out_together(autojump_clock: MockClock, caplog: pytest.LogCaptureFixture) -> None:
    """Each is refused, asked again and answered; one line says so."""
    host = Script([MAX_TOKENS, MAX_TOKENS, answers()])
    model, told = host.model(), [Told(), Told()]
    with caplog.at_level("INFO"):
        async with trio.open_nursery() as nursery:
            for one in told:
                nursery.start_soon(one.ask, model)
    assert [one.text for one in told] == ["Yes.", "Yes."]
    assert len(host.requests) == 4
    assert len(list(fields_of(caplog.records, "model.parameter_refused"))) == 1


@pytest.mark.parametrize(
    "step",
    [
        refusal("unsupported_parameter", "messages"),
        refusal("unsupported_parameter", None),
        refusal("unsupported_parameter", ["max_tokens"]),
        refusal("unsupported_value", "max_tokens"),
        refusal("invalid_value", "temperature"),
        refusal(["unsupported_parameter"], "max_tokens"),
        refusal("unsupported_parameter", "max_tokens", status=422),
        refusal("unsupported_parameter", "max_completion_tokens"),
        refuses(400, body=b'{"error": "Unsupported parameter: max_tokens. Use max_completion_tokens."}'),
    ],
)
async def test_any_other_refusal_stays_one(step: Step, autojump_clock: MockClock) -> None:
    """By its code and parameter, never by its words; it is a fault at once."""
    host = Script([step, answers()])
    with pytest.raises(ModelFault) as caught:
        await Told().ask(host.model())
    assert (caught.value.code, caught.value.ask_again, len(host.requests)) == ("model_error", False, 1)


async def test_a_parameter_that_was_not_sent_is_not_left_out(autojump_clock: MockClock) -> None:
    """A host that refuses what it was not sent gets no further request."""
    host = Script([MAX_TOKENS, MAX_TOKENS, answers()])
    with pytest.raises(ModelFault):
        await Told().ask(host.model())
    assert sent(host) == [{"max_tokens"}, {"max_completion_tokens"}]
