"""Reading the log and replaying it at many sizes, with as many processes as there are processors.

Python runs one replay per process at a time; a million turns at twenty sizes are worth a second process, some thousand
are not.
"""

import multiprocessing
import os
import sys
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from app.ops.whatif.figures import Figures, Target, figures_at
from app.ops.whatif.replay import GateRules
from app.ops.whatif.turns import Lines, read_lines

ALONE = 1_000_000
"""Turns times sizes that one process does in about a second; starting others takes a good part of that."""
PIECE_BYTES = 8 << 20
CONTEXT = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")
"""The command has no threads when it starts them, so forking is safe; a new interpreter imports for half a second."""
LONGEST_LINE = 1 << 20
"""Of a file that is none of ours; what is cut there is broken twice, and does no harm."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What is replayed, the sizes aside."""

    arrivals: Sequence[float]
    services: Sequence[float]
    rules: GateRules
    targets: tuple[Target, ...]
    rate: float

    def at(self, size: int) -> Figures:
        """Return the figures of one size."""
        return figures_at(size, self.arrivals, self.services, self.rules, self.targets, self.rate)


def processors() -> int:
    """Return how many processes can run at once."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def sweep(job: Job, sizes: Sequence[int], processes: int, told: Callable[[int, int], None]) -> list[Figures]:
    """Return the figures of each size. `told` hears after each how many of how many are done."""
    done: list[Figures] = []
    told(0, len(sizes))
    for figures in _each(job, sizes, processes):
        done.append(figures)
        told(len(done), len(sizes))
    return sorted(done, key=lambda each: each.size)


def _each(job: Job, sizes: Sequence[int], processes: int) -> Iterator[Figures]:
    if processes == 1 or len(job.arrivals) * len(sizes) <= ALONE:
        yield from map(job.at, sizes)
        return
    with ProcessPoolExecutor(processes, CONTEXT, _take_job, _packed(job)) as pool:
        for future in as_completed([pool.submit(_at, size) for size in sizes]):
            yield future.result()


def _packed(job: Job) -> tuple[bytes, bytes, GateRules, tuple[Target, ...], float]:
    arrivals, services = array("d", job.arrivals), array("d", job.services)
    return arrivals.tobytes(), services.tobytes(), job.rules, job.targets, job.rate


_job: Job | None = None


def _take_job(arrivals: bytes, services: bytes, rules: GateRules, targets: tuple[Target, ...], rate: float) -> None:
    global _job
    _job = Job(arrivals=_floats(arrivals), services=_floats(services), rules=rules, targets=targets, rate=rate)


def _floats(packed: bytes) -> list[float]:
    values = array("d")
    values.frombytes(packed)
    return values.tolist()


def _at(size: int) -> Figures:
    assert _job is not None
    return _job.at(size)


def log_files(path: Path) -> list[Path]:
    """Return a log's files, the oldest first: `path.2`, `path.1`, `path`; those that are there."""
    rotated = [other for other in path.parent.glob(f"{path.name}.*") if other.suffix[1:].isdecimal()]
    return [*sorted(rotated, key=lambda other: -int(other.suffix[1:])), *([path] if path.exists() else [])]


def read_files(files: Sequence[Path], processes: int, told: Callable[[int, int], None]) -> Lines:
    """Return what the files say, in their order. `told` hears how many of how many pieces are read.

    Raises:
        OSError: one of them cannot be read.
    """
    pieces = [piece for file in files for piece in _pieces(file)]
    whole = Lines()
    told(0, len(pieces))
    for number, read in enumerate(_read_each(pieces, processes), 1):
        whole.add(read)
        told(number, len(pieces))
    return whole


def _pieces(file: Path) -> list[tuple[Path, int, int]]:
    size = file.stat().st_size
    return [(file, start, start + PIECE_BYTES) for start in range(0, size, PIECE_BYTES)]


def _read_each(pieces: Sequence[tuple[Path, int, int]], processes: int) -> Iterable[Lines]:
    if processes == 1 or len(pieces) <= 2:
        yield from map(_read_piece, pieces)
        return
    with ProcessPoolExecutor(processes, CONTEXT) as pool:
        yield from pool.map(_read_piece, pieces)


def _read_piece(piece: tuple[Path, int, int]) -> Lines:
    """Read the lines that begin within a piece of a file; the last one may end behind it."""
    path, start, end = piece
    with path.open("rb") as file:
        if start:
            file.seek(start - 1)
            file.readline()
        return read_lines(line.decode("utf-8", "replace") for line in _until(file, end))


def _until(file: BinaryIO, end: int) -> Iterator[bytes]:
    at = file.tell()
    while at < end and (line := file.readline(LONGEST_LINE)):
        at += len(line)
        yield line
