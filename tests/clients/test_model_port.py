"""What every client of a model's host promises the stages (`ChatModel`), on virtual time: one row for each wire."""

import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from app.clients.openai import OpenAIModel
from app.clients.ports import ChatModel, ModelEnd
from app.errors import Fault, ModelFault
from tests.clients.asking import DONE, FINISH, asked, delta, event
from tests.clients.scripts import Script, Step

BASE_URL = "http://model.test:1234/v1"
SECRET = "what a student wrote"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wire:
    """How one host's API spells what all of them have in common.

    Args:
        client: makes the client, of the model `some-model` at `BASE_URL`.
        pieces: a whole answer, `Yes. ` and `And you?`, of 5 and 2 tokens.
        cut_at_limit: the end of an answer that was cut off at its longest.
        error: an error in the middle of an answer, which quotes `SECRET`.
        garbage: what is none of this API's.
        asked: reads from a request's body the model, the texts, the most tokens and the temperature.
    """

    client: Callable[[httpx.AsyncBaseTransport], ChatModel]
    pieces: Sequence[bytes]
    cut_at_limit: bytes
    error: bytes
    garbage: bytes
    asked: Callable[[dict[str, Any]], tuple[str, list[str], int, float]]


WIRES = {
    "openai": Wire(
        client=lambda transport: OpenAIModel(transport, BASE_URL, "", "some-model"),
        pieces=(
            delta("Yes. "),
            delta("And you?"),
            FINISH,
            event({"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}}),
            DONE,
        ),
        cut_at_limit=event({"choices": [{"delta": {}, "finish_reason": "length"}]}) + DONE,
        error=event({"error": {"message": SECRET, "code": "server_error"}}),
        garbage=b"data: [\n\n",
        asked=lambda body: (
            body["model"],
            [message["content"] for message in body["messages"]],
            body["max_tokens"],
            body["temperature"],
        ),
    ),
}
per_wire = pytest.mark.parametrize("wire", WIRES.values(), ids=WIRES)

DEAD = httpx.ConnectError(SECRET)
CUT = httpx.ReadError(SECRET)
REFUSAL = json.dumps({"error": {"message": SECRET}}).encode()

# What a host does -> the fault's code, whether asking again may help, and whether that says something of its health
# (None: as the client thinks best).
FAILURES: dict[str, tuple[Callable[[Wire], Step], str, bool, bool | None]] = {
    "nobody there": (lambda wire: Step(error=DEAD), "model_error", True, True),
    "breaks off": (lambda wire: Step(pieces=(wire.pieces[0],), end=CUT), "model_error", True, True),
    "ends too early": (lambda wire: Step(pieces=(wire.pieces[0],)), "model_error", True, True),
    "an error inside": (lambda wire: Step(pieces=(wire.pieces[0], wire.error)), "model_error", True, True),
    "not its API": (lambda wire: Step(pieces=(wire.garbage,)), "model_error", False, None),
    "429": (lambda wire: Step(status=429, pieces=(REFUSAL,)), "model_busy", True, None),
    "503": (lambda wire: Step(status=503, pieces=(REFUSAL,)), "model_busy", True, None),
    "500": (lambda wire: Step(status=500, pieces=(REFUSAL,)), "model_error", True, True),
    "401": (lambda wire: Step(status=401, pieces=(REFUSAL,)), "model_error", False, False),
    "404": (lambda wire: Step(status=404, pieces=(REFUSAL,)), "model_error", False, False),
}


async def ask(wire: Wire, step: Step, said: list[str] | None = None) -> ModelEnd:
    """Ask a host that does as `step` says; what is passed on goes to `said`."""
    heard: list[str] = [] if said is None else said
    return await wire.client(Script([step])).answer(asked("Why?"), heard.append)


@per_wire
async def test_pieces_are_passed_on_as_they_come(wire: Wire, autojump_clock: MockClock) -> None:
    """Each piece is said when it comes; the end knows the reason and the tokens."""
    said: list[str] = []
    end = await ask(wire, Step(pieces=tuple(wire.pieces)), said)
    assert [text for text in said if text] == ["Yes. ", "And you?"]
    assert end.finish_reason == "stop"
    assert end.usage is not None
    assert end.usage.as_reply() == {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}


@per_wire
async def test_it_does_not_matter_where_the_network_cuts(wire: Wire, autojump_clock: MockClock) -> None:
    """The same answer byte by byte has the same text and the same end."""
    whole, said = b"".join(wire.pieces), list[str]()
    end = await ask(wire, Step(pieces=tuple(bytes([byte]) for byte in whole)), said)
    assert "".join(said) == "Yes. And you?"
    assert (end.finish_reason, end.usage is None) == ("stop", False)


@per_wire
async def test_an_answer_at_the_limit_says_so(wire: Wire, autojump_clock: MockClock) -> None:
    """`length` is the one other reason that the stages know."""
    assert (await ask(wire, Step(pieces=(wire.pieces[0], wire.cut_at_limit)))).finish_reason == "length"


@per_wire
async def test_what_is_asked_for_is_on_the_wire(wire: Wire, autojump_clock: MockClock) -> None:
    """Model, messages in their order, the longest answer and the temperature."""
    host = Script([Step(pieces=tuple(wire.pieces))])
    await wire.client(host).answer(asked("川？", temperature=0.5), list[str]().append)
    (request,) = host.requests
    assert request.headers["user-agent"].startswith("nursery-chat/")
    assert wire.asked(json.loads(request.content)) == ("some-model", ["You are a tutor.", "川？"], 40, 0.5)


@pytest.mark.parametrize("failure", FAILURES)
@per_wire
async def test_whatever_goes_wrong_is_one_fault(wire: Wire, failure: str, autojump_clock: MockClock) -> None:
    """It says whether asking again may help and whether the host is ill, and never what the host's error says."""
    step, code, again, host_failed = FAILURES[failure]
    with pytest.raises(Fault) as caught:
        await ask(wire, step(wire))
    fault = caught.value
    assert isinstance(fault, ModelFault)
    assert (fault.code, fault.ask_again) == (code, again)
    assert host_failed in (None, fault.host_failed)
    assert SECRET not in f"{fault} {fault.note} {fault.error_type}"


@dataclass
class Watching(httpx.AsyncBaseTransport):
    """Passes on to `inner`, and counts the responses that were closed."""

    inner: httpx.AsyncBaseTransport
    closed: int = field(default=0)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        response = await self.inner.handle_async_request(request)
        assert isinstance(response.stream, httpx.AsyncByteStream)
        return httpx.Response(response.status_code, headers=response.headers, stream=_Watched(response.stream, self))


@dataclass
class _Watched(httpx.AsyncByteStream):
    stream: httpx.AsyncByteStream
    watching: Watching

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self.stream.__aiter__()

    async def aclose(self) -> None:
        self.watching.closed += 1
        await self.stream.aclose()


@per_wire
async def test_whoever_stops_listening_leaves_nothing_open(wire: Wire, autojump_clock: MockClock) -> None:
    """A call that is cancelled in the middle of its answer closes it at once: the host need not go on."""
    host, said = Watching(Script([Step(pieces=(wire.pieces[0],), end=None)])), list[str]()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(wire.client(host).answer, asked("Why?"), said.append)
        await wait_all_tasks_blocked()
        assert ("".join(said), host.closed) == ("Yes. ", 0)
        nursery.cancel_scope.cancel()
    assert host.closed == 1


@per_wire
async def test_an_answer_is_closed_however_it_ends(wire: Wire, autojump_clock: MockClock) -> None:
    """A good one and a refusal alike: the connection is free for the next call, or closed."""
    for step in (Step(pieces=tuple(wire.pieces)), Step(status=401), Step(pieces=(wire.garbage,), end=None)):
        host = Watching(Script([step]))
        with suppress(ModelFault):
            await wire.client(host).answer(asked("Why?"), list[str]().append)
        assert host.closed == 1


@per_wire
def test_telemetry_is_told_where_the_model_is(wire: Wire) -> None:
    """Name, address and port, and who runs it: labels of every model span and metric."""
    model = wire.client(Script([]))
    assert (model.name, model.host) == ("some-model", ("model.test", 1234))
    assert model.provider
