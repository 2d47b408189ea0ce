"""The scripted model: a small deterministic OpenAI-compatible ASGI app, for tests and first looks.

`POST /v1/chat/completions` (streamed or not) and `GET /v1/models`. The same request gives the same bytes, in the
question's language (`scripted/tutor.py`); a marker in the question makes it misbehave (`scripted/faults.py`).
Its only clock is `trio.sleep`, so it keeps its pace on a virtual one.
"""

import math
from collections.abc import Awaitable, Callable

import trio

from app.clients.in_process import Message
from app.embedded.scripted.faults import UnknownFaultError, read_fault
from app.embedded.scripted.play import MODEL_NAME, Reply, Send, Stop, Wait, completion, models, refusal
from app.embedded.scripted.request import RefusedRequestError, read_request

__all__ = ["MODEL_NAME", "ScriptedModel"]

MAX_BODY_BYTES = 4 * 1024 * 1024  # four times the largest body the edge lets in

Receive = Callable[[], Awaitable[Message]]
SendMessage = Callable[[Message], Awaitable[None]]

_ALLOWED = {"/v1/chat/completions": "POST", "/v1/models": "GET"}


class ScriptedModel:
    """The ASGI app.

    Args:
        first_token_s: seconds until the first token of an answer.
        per_token_s: seconds before each other token (a token is four characters).
    """

    def __init__(self, *, first_token_s: float = 0.05, per_token_s: float = 0.005) -> None:
        self._first_token_s = first_token_s
        self._per_token_s = per_token_s

    async def __call__(self, scope: Message, receive: Receive, send: SendMessage) -> None:
        """Answer one request; a client that leaves ends it at once."""
        if scope["type"] == "lifespan":
            await _lifespan(receive, send)
            return
        if scope["type"] != "http":
            raise ValueError(f"the scripted model speaks HTTP only, not {scope['type']}")
        try:
            reply = await self._reply(scope["method"], scope["path"], receive)
        except RefusedRequestError as exc:
            reply = refusal(exc.status, exc.body)
        except _ClientGoneError:
            return
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_leave_with_client, receive, nursery.cancel_scope)
            await _play(reply, send)
            nursery.cancel_scope.cancel()

    async def _reply(self, method: str, path: str, receive: Receive) -> Reply:
        if path not in _ALLOWED:
            raise RefusedRequestError(404, f"Unknown request URL: {method} {path}.", code="unknown_url")
        if method != _ALLOWED[path]:
            raise RefusedRequestError(405, f"Not allowed to {method} on {path}.", code="method_not_supported")
        if path == "/v1/models":
            return models()
        request = read_request(await _body(receive))
        try:
            fault = read_fault(request.question)
        except UnknownFaultError as exc:
            raise RefusedRequestError(400, str(exc), param="messages", code="unknown_fault") from exc
        return completion(request, fault, first_s=self._first_token_s, each_s=self._per_token_s)


class _ClientGoneError(Exception):
    """The client left before its request was complete."""


async def _body(receive: Receive) -> bytes:
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise _ClientGoneError
        body += message.get("body", b"")
        if len(body) > MAX_BODY_BYTES:
            raise RefusedRequestError(413, f"The body is larger than {MAX_BODY_BYTES} bytes.")
        if not message.get("more_body", False):
            return bytes(body)


async def _leave_with_client(receive: Receive, answer: trio.CancelScope) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass  # the rest of a refused body
    answer.cancel()


async def _play(reply: Reply, send: SendMessage) -> None:
    """Send `reply` at its own pace; a broken-off body returns without the message that would complete it."""
    await _wait(reply.hold_s)
    headers = [(name.encode(), value.encode()) for name, value in reply.headers]
    await send({"type": "http.response.start", "status": reply.status, "headers": headers})
    for step in reply.steps:
        match step:
            case Wait(seconds=seconds):
                await _wait(seconds)
            case Send(data=data):
                await send({"type": "http.response.body", "body": data, "more_body": True})
            case Stop(complete=complete):
                if not complete:
                    return
                break
    await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _wait(seconds: float) -> None:
    if seconds == math.inf:
        await trio.sleep_forever()
    elif seconds > 0:
        await trio.sleep(seconds)


async def _lifespan(receive: Receive, send: SendMessage) -> None:
    while True:
        phase = (await receive())["type"]
        await send({"type": f"{phase}.complete"})
        if phase == "lifespan.shutdown":
            return
