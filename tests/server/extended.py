"""The real server with routes that only tests need: a flood of bytes, handlers that fail.

    python -m tests.server.extended serve

`GET /test/flood/<size>`    so many bytes, as fast as they are taken
`GET /test/tokens`          how many callers' tokens there are in the process
`GET /test/fail/<how>`      `raises`; `cancelled`: fails in its clean-up when the client leaves; `late`: in its answer
`GET /test/stall/<s>`       holds the event loop for so many seconds
"""

import gc
import time
from collections.abc import AsyncIterator

import trio
from quart import Blueprint, Response

from app import bootstrap
from app.caller_token import CallerToken
from app.settings import load_settings
from telemetry.logs import log_to

PIECE = b"x" * 65_536


def add_routes(parts: bootstrap.Parts) -> None:
    """Add the routes to a server that does not serve yet."""
    routes = Blueprint("test", __name__)

    @routes.get("/test/flood/<int:size>")
    async def flood(size: int) -> Response:
        async def pieces() -> AsyncIterator[bytes]:
            for start in range(0, size, len(PIECE)):
                yield PIECE[: size - start]

        return Response(pieces(), content_type="application/octet-stream")

    @routes.get("/test/tokens")
    async def tokens() -> Response:
        gc.collect()
        return Response(str(sum(isinstance(held, CallerToken) for held in gc.get_objects())))

    @routes.get("/test/fail/<how>")
    async def fail(how: str) -> Response:
        if how == "raises":
            raise KeyError("a bug of the handler")
        if how == "late":
            return Response(failing_pieces(), content_type="text/plain")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            nursery.start_soon(failing_in_clean_up)
        raise AssertionError("never reached")

    @routes.get("/test/stall/<float:seconds>")
    async def stall(seconds: float) -> str:
        time.sleep(seconds)  # noqa: ASYNC251 - that is what it is for
        return "done"

    parts.quart.register_blueprint(routes)


async def failing_pieces() -> AsyncIterator[bytes]:
    yield b"begun "
    raise KeyError("a bug within the answer")


async def failing_in_clean_up() -> None:
    try:
        await trio.sleep_forever()
    finally:
        raise KeyError("a bug of the clean-up")


def main() -> None:
    settings = load_settings()
    log_to(level=settings.log_level)
    trio.run(bootstrap.run, settings, lambda _text: None, add_routes)


if __name__ == "__main__":
    main()
