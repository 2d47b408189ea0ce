"""A disk as it would be after a power cut, rebuilt from the recorded file calls of a process.

Rules, stricter than any file system in use:

* What was written to a file is on the disk once the file was synced, and until then it is not: or, in the other
  variant, any of its sectors may be.
* That a file or folder is there, or is gone, is on the disk once its folder was synced, and until then it is not; or
  it may be.
"""

import random
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

HEADER = struct.Struct("<c3xiqq")
SECTOR = 512


@dataclass(frozen=True, slots=True)
class Call:
    """A recorded call; `text` is its path."""

    what: str
    fd: int
    offset: int
    data: bytes

    @property
    def text(self) -> str:
        return self.data.decode()


def read_calls(log: bytes) -> list[Call]:
    """Return what the recorder wrote."""
    calls, at = [], 0
    while at < len(log):
        what, fd, offset, size = HEADER.unpack_from(log, at)
        at += HEADER.size
        calls.append(Call(what.decode(), fd, offset, log[at : at + size]))
        at += size
    return calls


@dataclass
class File:
    """A file's bytes on the disk, and what was written since, in order; data None is a truncation to the offset."""

    durable: bytearray = field(default_factory=bytearray)
    pending: list[tuple[int, bytes | None]] = field(default_factory=list)

    def sync(self) -> None:
        self.durable = self.after(None)
        self.pending = []

    def after(self, pick: random.Random | None) -> bytearray:
        """Return the bytes with what was written since; with `pick`, with some sectors of it."""
        content = bytearray(self.durable)
        for offset, data in self.pending:
            if data is None:
                if pick is None or pick.random() < 0.5:
                    content[offset:] = bytes(max(0, offset - len(content)))
                continue
            for at in range(0, len(data), SECTOR):
                if pick is None or pick.random() < 0.5:
                    _place(content, offset + at, data[at : at + SECTOR])
        return content


def _place(content: bytearray, offset: int, data: bytes) -> None:
    content.extend(bytes(max(0, offset + len(data) - len(content))))
    content[offset : offset + len(data)] = data


class Disk:
    """Files and folders (None) by their paths: what processes see is `now`, what is on the disk is `durable`."""

    def __init__(self, root: Path) -> None:
        self._fds: dict[int, File | str] = {}
        self.now: dict[str, File | None] = {}
        for path in sorted(root.rglob("*")):
            self.now[str(path)] = None if path.is_dir() else File(bytearray(path.read_bytes()))
        self.durable = dict(self.now)

    def apply(self, call: Call) -> None:
        """Do what the process did."""
        if call.what == "O":
            self._open(call)
        elif call.what == "M":
            self.now[call.text] = None
        elif call.what == "U":
            del self.now[call.text]
        elif call.what == "S":
            self._sync(self._fds[call.fd])
        elif call.what in "WT":
            file = self._fds[call.fd]
            assert isinstance(file, File)
            file.pending.append((call.offset, call.data if call.what == "W" else None))

    def _open(self, call: Call) -> None:
        if call.offset:
            self.now[call.text] = File()
        self._fds[call.fd] = self.now.get(call.text) or call.text

    def _sync(self, what: File | str) -> None:
        if isinstance(what, File):
            what.sync()
            return
        inside = {path for path in {*self.now, *self.durable} if str(Path(path).parent) == what}
        for path in inside:
            if path in self.now:
                self.durable[path] = self.now[path]
            else:
                del self.durable[path]

    def after_power_cut(self, pick: random.Random | None) -> dict[str, bytes | None]:
        """Return what is there when the power is back; with `pick`, some of what was not synced is there too."""
        there = dict(self.durable)
        if pick is not None:
            for path in sorted({*self.now, *self.durable}):
                if pick.random() < 0.5:
                    there.pop(path, None)
                    there |= {path: self.now[path]} if path in self.now else {}
        return {
            path: None if file is None else bytes(file.after(pick) if pick else file.durable)
            for path, file in there.items()
        }


def cuts(disk: Disk, calls: list[Call], acks: str) -> Iterator[tuple[int, bytes]]:
    """Apply the calls one by one; yield after each its number, and all that had been acknowledged in file `acks`."""
    for number, call in enumerate(calls):
        disk.apply(call)
        file = disk.now.get(acks)
        yield number, bytes(file.after(None)) if file else b""


def rebuild(there: dict[str, bytes | None], root: Path, copy: Path) -> None:
    """Make `copy` what `root` is after the cut; what stands in a folder that is not there is lost."""
    copy.mkdir()
    for path, content in sorted(there.items()):
        new = copy / Path(path).relative_to(root)
        if not new.parent.exists():
            continue
        if content is None:
            new.mkdir()
        else:
            new.write_bytes(content)
