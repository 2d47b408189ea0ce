"""`TURN_LOG`: one JSON line per turn, for `python -m app whatif` and for whoever counts tokens.

A turn only puts its line into a bounded queue; one task writes, in a thread. When the disk is too slow, or full, lines
are lost rather than turns held up or memory filled: they are counted, and logged once.

The file is renamed to `.1`, `.1` to `.2` and so on when it is full; the oldest one goes. Several processes may write
one file, as an old one and its successor do for a while: each write is whole lines at the file's end, whoever finds
the file gone or renamed opens it anew, and a lock on the file itself lets one process at a time rename.
"""

import fcntl
import json
import logging
import os
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import trio

from app.errors import StartError
from telemetry.turn_facts import TurnFacts

log = logging.getLogger(__name__)

MAX_FILE_BYTES, ROTATED = 64 << 20, 4
"""320 MiB in all: 1.7 million turns of some 190 bytes."""
QUEUE_LINES = 10_000
"""Some 3 MB; a disk that hangs for ten seconds at a thousand turns a second."""
PAUSE_S = 0.1
"""Between two writes: a thread for each single line would cost a busy server some per cent."""
LAST_WRITE_S = 2.0
"""For what is queued when the server ends; a disk that hangs must not hold that up."""
DOOR_REASONS = frozenset({"predicted_wait", "queue_full"})
"""Refusals for the gate's sake that the door may have given, before the turn came to the gate."""


def turn_line(facts: TurnFacts) -> dict[str, Any]:
    """Return what the log says of a turn: times in seconds, `arrived` since the epoch, None where there is none.

    `arrived` is when the turn came to the gate; where the door refused it for the gate's sake, when it came to the
    door; None for a turn that never wanted a slot. `service_s` is how long it held one. `reason` is the fault's, and
    `heuristic` where the call failed but rules answered.
    """
    gate, arrived_ns = facts.gate, None
    stood_in = "heuristic" if facts.details.get("fallback") == "heuristic" else None
    if gate is not None:
        arrived_ns = gate.arrived_at_ns
    elif facts.error_type in DOOR_REASONS:
        arrived_ns = facts.ended_at_ns - round(facts.timings["total_time"] * 1e9)
    return {
        "turn": facts.turn_id,
        "arrived": None if arrived_ns is None else arrived_ns / 1e9,
        "wait_s": None if gate is None else round(gate.wait_s, 6),
        "service_s": None if gate is None or gate.service_s is None else round(gate.service_s, 6),
        "tokens_in": facts.details.get("prompt_tokens"),
        "tokens_out": facts.details.get("completion_tokens"),
        "outcome": facts.outcome,
        "reason": facts.error_type or stood_in,
        "plan": facts.plan,
    }


class RotatingFile:
    """Appends whole lines to `path`, and keeps it and `rotated` older ones under `max_bytes` each. Blocks.

    Args:
        path: of the file; its folder is made where it is not there.
        max_bytes: of one file; a single write may go over by its own length.
        rotated: older files kept.
    """

    def __init__(self, path: Path, max_bytes: int = MAX_FILE_BYTES, rotated: int = ROTATED) -> None:
        self._path = path
        self._max_bytes = max_bytes
        self._rotated = rotated
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = self._open()

    def write(self, data: bytes) -> None:
        """Append lines.

        Raises:
            OSError: they are not, or not all, in the file.
        """
        self._follow()
        if os.fstat(self._file).st_size >= self._max_bytes:
            self._rotate()
        data = b"\n" * self._is_torn() + data
        while data:
            data = data[os.write(self._file, data) :]

    def close(self) -> None:
        """Let go of the file."""
        os.close(self._file)

    def _open(self) -> int:
        return os.open(self._path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)

    def _follow(self) -> None:
        """Open the path anew where it is another file by now, or none."""
        if not self._is_current():
            opened = self._open()
            os.close(self._file)
            self._file = opened

    def _is_torn(self) -> bool:
        """Tell whether half a line is last: of a full disk's, or of a process, this one or another, that was killed."""
        size = os.fstat(self._file).st_size
        return size > 0 and os.pread(self._file, 1, size - 1) != b"\n"

    def _is_current(self) -> bool:
        with suppress(FileNotFoundError):
            return os.path.samestat(os.stat(self._path), os.fstat(self._file))
        return False

    def _rotate(self) -> None:
        fcntl.flock(self._file, fcntl.LOCK_EX)
        try:
            if self._is_current():
                for number in range(self._rotated, 0, -1):
                    with suppress(FileNotFoundError):
                        os.replace(self._numbered(number - 1), self._numbered(number))
        finally:
            fcntl.flock(self._file, fcntl.LOCK_UN)
        self._follow()

    def _numbered(self, number: int) -> Path:
        return self._path.with_name(f"{self._path.name}.{number}") if number else self._path


class TurnLog:
    """Takes turns that ended, and writes them when it can.

    Args:
        file: takes the lines; asked in a thread.
        queue_lines: that wait at most.
    """

    def __init__(self, file: RotatingFile, queue_lines: int = QUEUE_LINES) -> None:
        self._file = file
        self._queue_lines = queue_lines
        self._queue: deque[bytes] = deque()
        self._some = trio.Event()
        self._closing = trio.Event()
        self._held = 0  # lines that the thread has
        self.dropped = 0
        """Lines that were lost."""

    def add(self, facts: TurnFacts) -> None:
        """Queue a turn's line; where too many wait, it is lost."""
        if len(self._queue) >= self._queue_lines:
            self._drop(1, "the queue is full")
            return
        self._queue.append(json.dumps(turn_line(facts), separators=(",", ":")).encode() + b"\n")
        self._some.set()

    async def run(self) -> None:
        """Write until `close`, and then what is left. Cancelled, it leaves a thread that hangs to itself."""
        try:
            while self._queue or not self._closing.is_set():
                await self._some.wait()
                await self._write_queued()
                with trio.move_on_after(PAUSE_S):
                    await self._closing.wait()
            self._file.close()
        finally:
            self.dropped += self._held + len(self._queue)
            if self.dropped:
                log.warning("turn_log.dropped", extra={"lines": self.dropped})

    def close(self) -> None:
        """Let `run` come to its end; no more turns."""
        self._closing.set()
        self._some.set()

    async def _write_queued(self) -> None:
        self._some = trio.Event()
        lines = [*self._queue]
        self._queue.clear()
        self._held = len(lines)
        if lines:
            try:
                await trio.to_thread.run_sync(self._file.write, b"".join(lines), abandon_on_cancel=True)
            except OSError as error:
                self._drop(len(lines), error.strerror or type(error).__name__)
        self._held = 0

    def _drop(self, lines: int, why: str) -> None:
        if not self.dropped:
            log.warning("turn_log.dropping", extra={"reason": why, "hint": "lines of TURN_LOG are lost; told once"})
        self.dropped += lines


@asynccontextmanager
async def open_turn_log(path: Path | None) -> AsyncIterator[TurnLog | None]:
    """Yield the log, writing until the block ends, and then what is left; None without a path.

    Raises:
        StartError: the file cannot be written.
    """
    if path is None:
        yield None
        return
    try:
        file = RotatingFile(path)
    except OSError as exc:
        raise StartError(f"TURN_LOG: cannot write {path}: {exc.strerror or exc}") from None
    turn_log = TurnLog(file)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(turn_log.run)
        yield turn_log
        turn_log.close()
        nursery.cancel_scope.deadline = trio.current_time() + LAST_WRITE_S
