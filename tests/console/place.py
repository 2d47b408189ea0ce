"""A server beside a model host that says what a test has written down for it, and holds its answers half-way."""

import json
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.clients.in_process import AsgiApp, Message
from tests.server.holding import HALF, Holding, asked, question_of
from tests.server.neighbours import model_host
from tests.server.process import ServerProcess, running, until
from tests.server.rows import stored

PATIENT = {"LLM_FIRST_TOKEN_TIMEOUT": "100", "LLM_IDLE_TIMEOUT": "100", "LLM_TIMEOUT": "100", "TURN_TIMEOUT": "200"}
"""A turn that is held is held for as long as a test looks."""


class Dictated:
    """Goes around the model: a question with a script is answered with that, a piece at a time, the others as ever."""

    def __init__(self) -> None:
        self.scripts: dict[str, Sequence[str]] = {}

    def around(self, app: AsgiApp) -> AsgiApp:
        """Return `app`, with the scripts."""

        async def dictated(
            scope: Message, receive: Callable[[], Awaitable[Message]], send: Callable[[Message], Any]
        ) -> None:
            message = await receive()
            question = question_of(scope, message["body"])
            if question in self.scripts:
                await _say(self.scripts[question], send)
                return
            told: list[Message] = [message]

            async def receive_again() -> Message:
                return told.pop() if told else await receive()

            await app(scope, receive_again, send)

        return dictated


async def _say(pieces: Sequence[str], send: Callable[[Message], Any]) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]})
    for piece in pieces:
        await send({"type": "http.response.body", "body": _chunk({"content": piece}), "more_body": True})
    await send({"type": "http.response.body", "body": _chunk({}, "stop") + b"data: [DONE]\n\n", "more_body": False})


def _chunk(delta: dict[str, str], finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    fields = {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "dictated", "choices": [choice]}
    return f"data: {json.dumps(fields)}\n\n".encode()


@dataclass(frozen=True, slots=True)
class Place:
    """The server, and the two that stand around its model."""

    server: ServerProcess
    held: Holding
    dictated: Dictated

    def hold(self, question: str) -> str:
        """Have the answer to a question stop half-way until it is let go; return what to ask."""
        self.held.holds.add(question)
        return asked(question)

    def dictate(self, question: str, pieces: Sequence[str]) -> str:
        """Have a question answered with these pieces; return what to ask."""
        self.dictated.scripts[question] = pieces
        return asked(question)

    def answer_row(self, question: str) -> dict[str, Any]:
        """Return the row of the answer to a question, as soon as it is stored."""
        of_question = {"message": asked(question), "sender": "user"}
        until(lambda: bool(stored(self.server.data_dir, **of_question)), "the question is stored")
        (asked_row,) = stored(self.server.data_dir, **of_question)
        where = {"turn_id": asked_row["turn_id"], "sender": "assistant"}
        until(lambda: bool(stored(self.server.data_dir, **where)), "the answer is stored")
        (row,) = stored(self.server.data_dir, **where)
        return row

    def facts(self, trace_id: str) -> dict[str, Any]:
        """Return what `/ops/turns` has of a turn, as soon as it is over."""

        def found() -> list[dict[str, Any]]:
            turns = self.server.http.get("/ops/turns").json()["turns"]
            return [turn for turn in turns if turn["trace_id"] == trace_id]

        until(lambda: bool(found()), f"turn {trace_id} is over")
        return found()[0]

    def limiter(self) -> dict[str, Any]:
        """Return what `/ops/limiter` has."""
        state: dict[str, Any] = self.server.http.get("/ops/limiter").json()
        return state


@contextmanager
def open_place(folder: Path, **settings: str) -> Iterator[Place]:
    """Run both until the block ends."""
    held, dictated = Holding(question_of, HALF), Dictated()

    def around(app: AsgiApp) -> AsgiApp:
        return held.around(dictated.around(app))

    with (
        model_host(around) as model,
        running(folder, OPENAI_BASE_URL=f"{model.url}/v1", **{**PATIENT, **settings}) as server,
    ):
        yield Place(server, held, dictated)
