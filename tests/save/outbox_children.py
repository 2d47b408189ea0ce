"""Processes that use an outbox and die: forked from one that has imported everything, some ten milliseconds each.

Children().run("write", folder, sync, seed)      puts and settles without end, and says what it was told
Children().run("adopt", folder, line)            opens an outbox, and is killed before that line of ours is run
"""

import os
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

import trio

from app.save import outbox_folder
from app.save.outbox_file import Outbox, open_outbox
from tests.save.outbox_rows import turn_rows

ROOT = Path(__file__).parents[2]
WRITERS = 4


class Children:
    """The test's end of it: runs one child at a time."""

    def __enter__(self) -> "Children":
        command = [sys.executable, "-m", "tests.save.outbox_children"]
        self._process = subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.communicate()

    def run(self, *words: object) -> Iterator[str]:
        """Start a child, and yield first its process id, then what it says, last `end` and how it ended."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(" ".join(map(str, words)) + "\n")
        for line in self._process.stdout:
            yield line.strip()
            if line.startswith("end "):
                return


def say(*words: object) -> None:
    """Write a line at once; nothing of it is lost with the process."""
    os.write(1, (" ".join(map(str, words)) + "\n").encode())


async def write(folder: str, sync: Any, seed: str) -> None:
    """Put turns, some of them already delivered, and say each as soon as it is kept."""
    async with open_outbox(Path(folder), sync=sync) as outbox, trio.open_nursery() as nursery:
        for writer in range(WRITERS):
            nursery.start_soon(put_for_ever, outbox, int(seed) * WRITERS + writer)
        nursery.start_soon(settle_for_ever, outbox, random.Random(seed))


async def put_for_ever(outbox: Outbox, writer: int) -> None:
    number = writer * 1_000
    while True:
        number += 1
        await outbox.put(turn_rows(number, conversation=writer))
        say("kept", number)


async def settle_for_ever(outbox: Outbox, pick: random.Random) -> None:
    while True:
        await trio.sleep(pick.uniform(0, 0.01))
        entries = [entry for entry in outbox.entries(8) if pick.random() < 0.5]
        for entry in entries:
            say("settling", entry.row.turn_id.int, entry.row.sender)
        await outbox.settle(delivered=[entry.id for entry in entries])
        for entry in entries:
            say("settled", entry.row.turn_id.int, entry.row.sender)


def adopt(folder: str, line: str) -> None:
    """Open an outbox; before the given one of the lines of ours that this takes, die."""
    left = int(line)

    def trace(frame: FrameType, event: str, _: object) -> Any:
        nonlocal left
        if "/app/save/outbox_" not in frame.f_code.co_filename:
            return None
        if event == "line":
            left -= 1
            if left < 0:
                os.kill(os.getpid(), signal.SIGKILL)
        return trace

    async def start() -> None:
        nonlocal left
        async with open_outbox(Path(folder)):
            left = sys.maxsize

    setattr(outbox_folder, "BATCH_ENTRIES", 3)  # noqa: B010 - in this process only, so that a turn is torn in two
    threading.settrace(trace)
    sys.settrace(trace)
    trio.run(start)


def child(words: list[str]) -> None:
    say(os.getpid())
    if words[0] == "write":
        trio.run(write, words[1], words[2], words[3])
    else:
        adopt(words[1], words[2])


def main() -> None:
    """Fork a child for each line of standard input, and wait for its end."""
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            try:
                child(line.split())
            finally:
                os._exit(0)
        _, status = os.waitpid(pid, 0)
        say("end", os.waitstatus_to_exitcode(status))


if __name__ == "__main__":
    main()
