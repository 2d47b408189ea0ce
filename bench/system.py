"""What the operating system knows of a process: its CPU time, its memory, how many files it may open."""

import os
import resource
from collections.abc import Iterable
from pathlib import Path

_TICK_S = 1 / os.sysconf("SC_CLK_TCK")


def allow_files(number: int) -> None:
    """Let this process, and those that it starts from now on, open so many files, as far as that is allowed."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = number if hard == resource.RLIM_INFINITY else min(number, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def cpu_s(pids: Iterable[int]) -> float:
    """Return the CPU seconds, user and system, that the processes and all their threads have used."""
    return sum(_cpu_s(pid) for pid in pids)


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * _TICK_S


def rss_mb(pids: Iterable[int]) -> float:
    """Return the resident megabytes of the processes."""
    return sum(_rss_kb(pid) for pid in pids) / 1024


def _rss_kb(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    return 0
