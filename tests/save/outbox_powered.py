"""A process that uses an outbox, and writes to a file each turn that it was told is kept. Its file calls are recorded.

python -m tests.save.outbox_powered FOLDER ACKS full|normal TURNS
"""

import os
import sys
from pathlib import Path
from typing import Any

import trio

from app.save.outbox_file import Outbox, open_outbox
from tests.save.outbox_rows import turn_rows

WRITERS = 3
PAGES_TO_CHECKPOINT = 12
"""A thousand by default; so few that the log is written back and begun anew several times."""


async def put(outbox: Outbox, acks: int, numbers: range) -> None:
    for number in numbers:
        await outbox.put(turn_rows(number, conversation=number % 3))
        os.write(acks, f"kept {number}\n".encode())


async def main(folder: Path, acks: int, sync: Any, turns: int) -> None:
    """Put turns in a few tasks, and have some settled in between."""
    async with open_outbox(folder, sync=sync) as outbox:
        pragma = f"PRAGMA wal_autocheckpoint = {PAGES_TO_CHECKPOINT}"
        await outbox._writer.alone(lambda connection: connection.execute(pragma).fetchall(), lambda _: None)
        adopted = {entry.row.turn_id.int for entry in outbox.entries(10**6)}
        for half in (range(turns // 2), range(turns // 2, turns)):
            async with trio.open_nursery() as nursery:
                for writer in range(WRITERS):
                    nursery.start_soon(put, outbox, acks, half[writer::WRITERS])
            settled = [entry for entry in outbox.entries(6) if entry.row.turn_id.int not in adopted]
            for entry in settled:
                os.write(acks, f"settling {entry.row.turn_id.int} {entry.row.sender}\n".encode())
            await outbox.settle(delivered=[entry.id for entry in settled])


if __name__ == "__main__":
    handle = os.open(sys.argv[2], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    trio.run(main, Path(sys.argv[1]), handle, sys.argv[3], int(sys.argv[4]))
