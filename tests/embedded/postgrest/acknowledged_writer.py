"""A process that inserts messages as fast as it can, prints the id of each once it is acknowledged, and is killed."""

import sys
from functools import partial
from pathlib import Path

import httpx
import trio

from app.clients.in_process import InProcessTransport
from app.embedded.postgrest import open_embedded_supabase

WRITERS = 4


async def write(client: httpx.AsyncClient) -> None:
    """Insert without end."""
    row = {"user_id": "demo", "sender": "user", "message": "m" * 200}
    while True:
        response = await client.post("/chat_logs?select=id", json=row, headers={"prefer": "return=representation"})
        response.raise_for_status()
        sys.stdout.write(f"{response.json()[0]['id']}\n")
        sys.stdout.flush()


async def main(path: Path) -> None:
    """Serve the database at `path` to some writers in this process."""
    async with open_embedded_supabase(path) as app, trio.open_nursery() as nursery:
        transport = InProcessTransport(app, nursery)
        client = httpx.AsyncClient(transport=transport, base_url="http://embedded/rest/v1")
        async with client, trio.open_nursery() as writers:
            for _ in range(WRITERS):
                writers.start_soon(write, client)


if __name__ == "__main__":
    trio.run(partial(main, Path(sys.argv[1])))
