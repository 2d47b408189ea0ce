"""The hosts that the server calls, as real servers on loopback ports that write down what they are asked.

They are the embedded model and the embedded database themselves, so what they answer is right.
"""

import threading
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import httpx
import trio
from hypercorn.config import Config
from hypercorn.trio import serve

from app.clients.in_process import AsgiApp, Message
from app.embedded.postgrest import SHIPPED_SCHEMA, open_embedded_supabase
from app.embedded.scripted_model import ScriptedModel

START_S = 10.0


@dataclass(slots=True, kw_only=True)
class Heard:
    """A request as it came in; `client` is the port it came from, so one connection has one."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    client: int
    body: bytearray = field(default_factory=bytearray)


@dataclass(slots=True)
class Neighbour:
    """A host at `url`, and what it has heard so far."""

    url: str = ""
    heard: list[Heard] = field(default_factory=list)

    def requests(self, method: str, path: str) -> list[Heard]:
        """Return what was heard of a method and a path."""
        return [heard for heard in self.heard if (heard.method, heard.path) == (method, path)]

    def recording(self, app: AsgiApp) -> AsgiApp:
        """Return `app`, with every HTTP request written down."""

        async def record(scope: Message, receive: Callable[[], Any], send: Callable[[Message], Any]) -> None:
            if scope["type"] != "http":
                await app(scope, receive, send)
                return
            heard = _heard(scope)
            self.heard.append(heard)

            async def receive_recorded() -> Message:
                message: Message = await receive()
                heard.body += message.get("body", b"")
                return message

            await app(scope, receive_recorded, send)

        return record


def _heard(scope: Message) -> Heard:
    return Heard(
        method=scope["method"],
        path=scope["path"],
        query=dict(parse_qsl(scope["query_string"].decode(), keep_blank_values=True)),
        headers={name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]},
        client=scope["client"][1],
    )


Around = Callable[[AsgiApp], AsgiApp]


def _as_it_is(app: AsgiApp) -> AsgiApp:
    return app


@contextmanager
def model_host(around: Around = _as_it_is) -> Iterator[Neighbour]:
    """Serve the scripted model, with something `around` it; `OPENAI_BASE_URL` is its URL with `/v1`."""

    @asynccontextmanager
    async def opened() -> AsyncIterator[AsgiApp]:
        yield around(ScriptedModel())

    with _served(opened) as neighbour:
        yield neighbour


@contextmanager
def database_host(
    path: Path, around: Around = _as_it_is, schema: Sequence[Path] = SHIPPED_SCHEMA
) -> Iterator[Neighbour]:
    """Serve the embedded database at `path`, with something `around` it; `SUPABASE_URL` is its URL."""

    @asynccontextmanager
    async def opened() -> AsyncIterator[AsgiApp]:
        async with open_embedded_supabase(path, schema=schema) as app:
            yield around(app)

    with _served(opened) as neighbour:
        yield neighbour


@contextmanager
def proxy_host(hosts: Mapping[str, str]) -> Iterator[Neighbour]:
    """Serve an HTTP forward proxy that knows `hosts`, by name, at these URLs; `HTTP_PROXY` is its URL."""

    @asynccontextmanager
    async def opened() -> AsyncIterator[AsgiApp]:
        async with httpx.AsyncClient(trust_env=False, timeout=None) as client:
            yield partial(_forward, client, hosts)

    with _served(opened) as neighbour:
        yield neighbour


async def _forward(
    client: httpx.AsyncClient,
    hosts: Mapping[str, str],
    scope: Message,
    receive: Callable[[], Any],
    send: Callable[[Message], Any],
) -> None:
    if scope["type"] != "http":
        raise RuntimeError("no lifespan")
    target, body, more = httpx.URL(scope["path"]), b"", True
    while more:
        message = await receive()
        body, more = body + message.get("body", b""), message.get("more_body", False)
    headers = [pair for pair in scope["headers"] if pair[0] != b"host"]
    response = await client.request(scope["method"], hosts[target.host] + target.path, content=body, headers=headers)
    kind = [(b"content-type", response.headers["content-type"].encode())]
    await send({"type": "http.response.start", "status": response.status_code, "headers": kind})
    await send({"type": "http.response.body", "body": response.content})


@contextmanager
def _served(open_app: Callable[[], AbstractAsyncContextManager[AsgiApp]]) -> Iterator[Neighbour]:
    """Serve an app from a thread with a Trio loop of its own, which has ended afterwards."""
    neighbour, started, stops = Neighbour(), threading.Event(), list[Callable[[], None]]()

    async def main() -> None:
        stop, token = trio.Event(), trio.lowlevel.current_trio_token()
        config = Config()
        config.bind = ["127.0.0.1:0"]
        config.graceful_timeout = 0.1
        async with open_app() as app, trio.open_nursery() as nursery:
            # Hypercorn types its callables more narrowly than ASGI does.
            start: Any = partial(serve, neighbour.recording(app), config, shutdown_trigger=stop.wait)  # type: ignore[arg-type]
            neighbour.url = (await nursery.start(start))[0]
            stops.append(partial(token.run_sync_soon, stop.set))
            started.set()

    thread = threading.Thread(target=trio.run, args=(main,))
    thread.start()
    try:
        assert started.wait(START_S)
        yield neighbour
    finally:
        for stop in stops:
            stop()
        thread.join(START_S)
    assert not thread.is_alive()
