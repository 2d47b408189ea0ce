"""The dialect as an ASGI app: reads a request, asks the store, sends the answer."""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final

from app.clients.in_process import Message
from app.embedded.postgrest.answer import answer
from app.embedded.postgrest.body import MAX_BODY_BYTES
from app.embedded.postgrest.errors import DialectError
from app.embedded.postgrest.parse import parse_request
from app.embedded.postgrest.replies import Reply, refusal
from app.embedded.postgrest.store import Store

Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

LIFESPAN_ANSWERS: Final = {
    "lifespan.startup": "lifespan.startup.complete",
    "lifespan.shutdown": "lifespan.shutdown.complete",
}


class EmbeddedSupabase:
    """Answers `/rest/v1/<table>` from `store`; keys and tokens are accepted unread, as it serves its own process."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Serve one ASGI scope; what is neither HTTP nor lifespan is closed unanswered."""
        if scope["type"] == "lifespan":
            await _lifespan(receive, send)
        elif scope["type"] == "http":
            await self._http(scope, receive, send)

    async def _http(self, scope: Message, receive: Receive, send: Send) -> None:
        try:
            body = b"" if scope["method"] in ("GET", "HEAD") else await _body(receive)
            if body is None:
                return  # the caller left before its request was whole
            reply = await self._reply(scope, body)
        except DialectError as exc:
            reply = refusal(exc)
        await _send(send, reply, with_body=scope["method"] != "HEAD")

    async def _reply(self, scope: Message, body: bytes) -> Reply:
        request = parse_request(scope["method"], scope["path"], scope["query_string"], scope["headers"])
        job = partial(answer, catalog=self._store.catalog, request=request, body=body)
        return await (self._store.read(job) if request.verb == "read" else self._store.write(job))


async def _body(receive: Receive) -> bytes | None:
    chunks, size = [], 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        chunk = message.get("body", b"")
        size += len(chunk)
        if size > MAX_BODY_BYTES:
            raise DialectError("PGRST102", f"the body is larger than {MAX_BODY_BYTES} bytes", status=413)
        chunks.append(chunk)
        if not message.get("more_body", False):
            return b"".join(chunks)


async def _send(send: Send, reply: Reply, *, with_body: bool) -> None:
    headers = list(reply.headers)
    if with_body and reply.status != 204:
        headers.append((b"content-length", str(len(reply.body)).encode()))
    await send({"type": "http.response.start", "status": reply.status, "headers": headers})
    await send({"type": "http.response.body", "body": reply.body if with_body else b""})


async def _lifespan(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        await send({"type": LIFESPAN_ANSWERS[message["type"]]})
        if message["type"] == "lifespan.shutdown":
            return
