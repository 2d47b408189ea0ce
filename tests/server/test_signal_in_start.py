"""A signal in the second that a start takes, before the server takes signals itself."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from signal import SIGINT, SIGTERM, Signals

import pytest

from tests.needs import lack, need_program
from tests.server.process import WAIT_S, environment, until

SERVE = [sys.executable, "-m", "app", "serve"]
NAMESPACE = ["unshare", "--pid", "--fork", "--kill-child"]
"""What it is given runs as process 1, for which the kernel drops signals that it does not handle."""


def handles_signals(pid: int) -> bool:
    """Return whether a process handles SIGTERM; Python's own does not."""
    caught = Path(f"/proc/{pid}/status").read_text().partition("SigCgt:")[2].split()[0]
    return bool(int(caught, 16) & 1 << SIGTERM - 1)


def child_of(pid: int) -> int | None:
    """Return the process that another has started, once it is there."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return int(children[0]) if children else None


@contextmanager
def starting(folder: Path, command: list[str]) -> Iterator[subprocess.Popen[str]]:
    """Run a command whose output is kept, and end it by all means."""
    env, pipe = environment(folder), subprocess.PIPE
    with subprocess.Popen(command, cwd=folder, env=env, stdout=pipe, stderr=pipe, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def end_of(process: subprocess.Popen[str], pid: int, number: Signals) -> tuple[int, str, str]:
    """Signal a process as soon as it handles that; return the exit code of what was started, and its output."""
    until(lambda: handles_signals(pid), "it handles signals")
    os.kill(pid, number)
    stdout, stderr = process.communicate(timeout=WAIT_S)
    return process.returncode, stdout, stderr


@pytest.mark.parametrize("number", [SIGTERM, SIGINT], ids=lambda number: number.name)
def test_a_signal_in_the_start_ends_it_quietly(tmp_path: Path, number: Signals) -> None:
    """The process dies of it, without a word."""
    with starting(tmp_path, SERVE) as process:
        assert end_of(process, process.pid, number) == (-number, "", "")


@pytest.mark.parametrize("number", [SIGTERM, SIGINT], ids=lambda number: number.name)
def test_a_containers_first_process_ends_too(tmp_path: Path, number: Signals) -> None:
    """As process 1 it has to end itself: with the exit code that a shell has for the signal, without a word."""
    need_program("unshare", "apt-get install util-linux")
    if subprocess.run([*NAMESPACE, "true"], capture_output=True).returncode:
        lack("only root can start a process 1 here")
    with starting(tmp_path, [*NAMESPACE, *SERVE]) as process:
        until(lambda: child_of(process.pid) is not None, "process 1 is started")
        first = child_of(process.pid)
        assert first is not None
        assert end_of(process, first, number) == (128 + number, "", "")
