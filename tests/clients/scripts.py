"""A host that answers from a script, on virtual time: an httpx transport without a socket, and what it answers."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from math import inf
from typing import Any

import httpx
import pytest
import trio

from app.clients.breaker import Breaker
from app.clients.openai import OpenAIModel
from app.clients.ports import ModelEnd
from app.clients.resilient import ResilientModel
from app.errors import Fault
from tests.clients.asking import DONE, FINISH, URL, asked, delta, event


@dataclass(frozen=True, slots=True)
class Step:
    """What becomes of one request: `wait_s`, then an answer of `pieces`, or `error` in its place.

    The pieces end as `end` says: properly, with an error, or (None) never.
    """

    status: int = 200
    pieces: tuple[bytes, ...] = ()
    headers: tuple[tuple[str, str], ...] = ()
    wait_s: float = 0.0
    error: httpx.HTTPError | None = None
    end: httpx.HTTPError | str | None = "properly"


class _Pieces(httpx.AsyncByteStream):
    """The body of a step."""

    def __init__(self, step: Step, note: Callable[[], None]) -> None:
        self._pieces = iter(step.pieces)
        self._end = step.end
        self._note = note

    def __aiter__(self) -> "_Pieces":
        return self

    async def __anext__(self) -> bytes:
        self._note()
        await trio.lowlevel.checkpoint()
        for piece in self._pieces:
            return piece
        if isinstance(self._end, httpx.HTTPError):
            raise self._end
        if self._end is None:
            await trio.sleep_forever()
        raise StopAsyncIteration


@dataclass
class Script(httpx.AsyncBaseTransport):
    """Plays its steps in order, the last one for ever; keeps the requests, and when they came.

    `read` counts how often a piece of an answer's body was asked for.
    """

    steps: Sequence[Step]
    requests: list[httpx.Request] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    read: int = 0

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        step = self.steps[min(len(self.requests), len(self.steps) - 1)]
        self.requests.append(request)
        self.times.append(trio.current_time())
        await trio.sleep(step.wait_s) if step.wait_s < inf else await trio.sleep_forever()
        if step.error is not None:
            raise step.error
        headers = [(name.encode(), value.encode("latin-1")) for name, value in step.headers]
        return httpx.Response(step.status, headers=headers, stream=_Pieces(step, self._note_read))

    def _note_read(self) -> None:
        self.read += 1

    @property
    def waits(self) -> list[float]:
        """The time between each request and the next."""
        return [later - earlier for earlier, later in zip(self.times, self.times[1:], strict=False)]

    def models(self) -> list[str]:
        """Return the names of the models that were asked, in order."""
        return [json.loads(request.content)["model"] for request in self.requests]

    def model(self, breaker: Breaker | None = None, **options: Any) -> ResilientModel:
        """Return a resilient model at this host, which gives no jitter unless the options say otherwise."""
        plain = OpenAIModel(self, URL, "", "some-model")
        return ResilientModel(plain, breaker or Breaker("model"), **options)


@dataclass
class Told:
    """What became of a question: the text that was passed on, and the end."""

    said: list[str] = field(default_factory=list)
    end: ModelEnd | None = None

    async def ask(self, model: ResilientModel) -> "Told":
        """Ask `model`."""

        def on_text(text: str) -> None:
            self.said.append(text)

        self.end = await model.answer(asked("Why?"), on_text)
        return self

    @property
    def text(self) -> str:
        """All that was said."""
        return "".join(self.said)


async def fault_of(script: Script, told: Told | None = None, **options: Any) -> Fault:
    """Ask, and return the fault in which that ends."""
    with pytest.raises(Fault) as caught:
        await (told or Told()).ask(script.model(**options))
    return caught.value


def answers(*texts: str, **fields: Any) -> Step:
    """Return a whole answer."""
    words = tuple(delta(text) for text in texts or ("Yes.",))
    return Step(pieces=(delta(""), *words, FINISH, DONE), **fields)


def refuses(status: int, code: str | None = None, /, body: bytes | None = None, **headers: Any) -> Step:
    """Return a refusal with OpenAI's error body, or with `body` for one; `retry_after="1"` is a header."""
    error = json.dumps({"error": {"message": "no", "type": None, "param": None, "code": code}}).encode()
    names = tuple((name.replace("_", "-"), value) for name, value in headers.items())
    return Step(status=status, headers=names, pieces=(error if body is None else body,))


def breaks(error: httpx.HTTPError) -> Step:
    """Return a request that gets no answer."""
    return Step(error=error)


def errs(code: str, *texts: str) -> Step:
    """Return an answer that ends with an error inside its 200."""
    return Step(pieces=(delta(""), *(delta(text) for text in texts), event({"error": {"code": code}})))


def cut(*texts: str) -> Step:
    """Return an answer that breaks off."""
    return Step(pieces=(delta(""), *(delta(text) for text in texts)), end=httpx.ReadError("reset"))


def short(*texts: str, done: bool = False) -> Step:
    """Return an answer whose body ends properly, but too early."""
    return Step(pieces=(delta(""), *(delta(text) for text in texts), *([DONE] if done else [])))


def hangs(*texts: str) -> Step:
    """Return an answer that stays open and says no more."""
    return Step(pieces=(delta(""), *(delta(text) for text in texts)), end=None)


SILENT = Step(wait_s=inf)
"""No answer at all."""


def fields_of(records: Sequence[Any], event: str) -> Iterator[dict[str, Any]]:
    """Yield the fields of each log record of an event."""
    return (record.__dict__ for record in records if record.getMessage() == event)
