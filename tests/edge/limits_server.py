"""The extended server with what tests of its limits need: a turn as large as they like, and a process with little room.

    python -m tests.edge.limits_server serve

`POST /test/padded/<size>`    what a turn tells of itself, each piece filled up to so many bytes
`GET /test/block/<size>`      so many bytes at once, not in pieces as `/test/flood` has them
`TEST_DESCRIPTORS=n`          the process may open so many files, and cannot raise that
`TEST_STDERR=path`            the log goes there, from the start
`TEST_KEEP_ALIVE=seconds`     in place of `KEEP_ALIVE_S`
"""

import os
import resource
from collections.abc import AsyncIterator

import trio
from quart import Blueprint, Response, request

from app import bootstrap
from app.edge import serve
from app.edge.application import read_json_body, request_facts
from app.receive.payload import PayloadRules, read_chat, read_json
from app.settings import load_settings
from telemetry.logs import log_to
from tests.server import extended


def add_routes(parts: bootstrap.Parts) -> None:
    """Add the routes to a server that does not serve yet."""
    extended.add_routes(parts)
    routes = Blueprint("limits", __name__)

    @routes.post("/test/padded/<int:size>")
    async def padded(size: int) -> Response:
        user = request.headers.get("authorization", "Bearer demo").removeprefix("Bearer ")
        turn = read_chat(read_json(await read_json_body()), user, PayloadRules(2000, None))
        running = parts.turns.begin(turn, request_facts().trace_id)
        request_facts().at_end.append(running.leave)

        async def pieces() -> AsyncIterator[bytes]:
            follower = running.feed.follower()
            while news := await follower.more():
                for told in news:
                    yield str(told).encode().ljust(size)

        return Response(pieces(), content_type="text/plain")

    @routes.get("/test/block/<int:size>")
    async def block(size: int) -> Response:
        return Response(bytes(size), content_type="application/octet-stream")

    parts.quart.register_blueprint(routes)


def main() -> None:
    if count := os.environ.get("TEST_DESCRIPTORS"):
        resource.setrlimit(resource.RLIMIT_NOFILE, (int(count), int(count)))
    if path := os.environ.get("TEST_STDERR"):
        os.dup2(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT), 2)
    serve.KEEP_ALIVE_S = float(os.environ.get("TEST_KEEP_ALIVE", serve.KEEP_ALIVE_S))
    settings = load_settings()
    log_to(level=settings.log_level)
    trio.run(bootstrap.run, settings, lambda text: print(text, flush=True), add_routes)  # noqa: T201 - its stdout is what tests read


if __name__ == "__main__":
    main()
