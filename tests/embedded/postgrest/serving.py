"""The dialect behind a real HTTP server on a free loopback port, for a test's length."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import trio
from hypercorn.config import Config
from hypercorn.trio import serve

from app.embedded.postgrest import SHIPPED_SCHEMA, open_embedded_supabase

T = TypeVar("T")

CAPTURED_SCHEMA = Path(__file__).parent / "captured.sql"


@asynccontextmanager
async def served(path: Path, *, schema: Sequence[Path] = SHIPPED_SCHEMA) -> AsyncIterator[str]:
    """Serve the database at `path`; yields `http://127.0.0.1:<port>`."""
    config = Config()
    config.bind = ["127.0.0.1:0"]
    config.graceful_timeout = 0.2
    stop = trio.Event()
    async with open_embedded_supabase(path, schema=schema) as app, trio.open_nursery() as nursery:
        # Hypercorn types its callables more narrowly than ASGI does.
        start: Any = partial(serve, app, config, shutdown_trigger=stop.wait)  # type: ignore[arg-type]
        urls = await nursery.start(start)
        try:
            yield urls[0]
        finally:
            stop.set()


async def in_thread(call: Callable[[], T]) -> T:
    """Run a blocking client call in a thread."""
    return await trio.to_thread.run_sync(call)
