"""A tiny parent for a local model: writes the child's process id once it serves, then waits to be killed."""

import os

import trio

from app.embedded.local_model import LocalModel


async def main() -> None:
    """Run a model, and say who its child is."""
    model = LocalModel(slots=1)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(model.run)
        await model.wait_ready()
        os.write(1, f"{model.child_pid}\n".encode())


trio.run(main)
