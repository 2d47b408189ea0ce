"""A database's host and a model's host with delays, in a process of their own: `python -m bench.upstreams`.

Prints one JSON line with both URLs, serves until stdin ends. The database is the embedded dialect on a file of its own,
the model the scripted tutor; what is added is time: `--database` seconds per request, and `--model` seconds per answer,
drawn evenly within `--spread` of that, from `--seed`.
"""

import argparse
import json
import random
import sqlite3
import sys
import tempfile
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import cast

import trio
from hypercorn.config import Config
from hypercorn.trio import serve
from hypercorn.typing import Framework

from app.clients.in_process import AsgiApp, Message
from app.embedded.postgrest import open_embedded_supabase
from app.embedded.postgrest.app import Receive, Send
from app.embedded.scripted_model import ScriptedModel

USERS = 1000
"""Users `bench-0` to `bench-999` are known."""


def delayed(app: AsgiApp, seconds: float) -> AsgiApp:
    """Return `app`, each request of which waits first."""

    async def wait_first(scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await trio.sleep(seconds)
        await app(scope, receive, send)

    return wait_first


def drawn(mean_s: float, spread: float, draws: random.Random) -> AsgiApp:
    """Return a model each of whose answers takes its own time, before its first token."""

    async def answer(scope: Message, receive: Receive, send: Send) -> None:
        whole_s = mean_s * draws.uniform(1 - spread, 1 + spread)
        await ScriptedModel(first_token_s=whole_s, per_token_s=0.0)(scope, receive, send)

    return answer


async def run(options: argparse.Namespace) -> None:
    """Serve both hosts until stdin ends."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "bench.sqlite3"
        async with open_embedded_supabase(file) as database, trio.open_nursery() as nursery:
            _add_users(file)
            apps = {
                "database": delayed(database, options.database),
                "model": drawn(options.model, options.spread, random.Random(options.seed)),
            }
            urls = {name: (await nursery.start(_serve, app))[0] for name, app in apps.items()}
            sys.stdout.write(json.dumps(urls) + "\n")
            sys.stdout.flush()
            await trio.to_thread.run_sync(sys.stdin.read, abandon_on_cancel=True)
            nursery.cancel_scope.cancel()


def _add_users(file: Path) -> None:
    with closing(sqlite3.connect(file)) as connection, connection:
        rows = [(f"bench-{number}", f"bench-{number}") for number in range(USERS)]
        connection.executemany("insert into users (id, username) values (?, ?)", rows)


async def _serve(app: AsgiApp, task_status: trio.TaskStatus[list[str]] = trio.TASK_STATUS_IGNORED) -> None:
    config = Config()
    config.bind = ["127.0.0.1:0"]
    config.backlog = 1024
    config.errorlog = config.accesslog = None
    framework = cast("Framework", app)  # the same protocol, in looser types
    await serve(framework, config, shutdown_trigger=trio.sleep_forever, task_status=task_status, mode="asgi")


def main() -> None:
    """Read the options and serve."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--database", type=float, default=0.0)
    parser.add_argument("--model", type=float, default=0.0)
    parser.add_argument("--spread", type=float, default=0.0)
    parser.add_argument("--seed", type=int, default=1)
    trio.run(partial(run, parser.parse_args()))


if __name__ == "__main__":
    main()
