"""Starting and ending the benchmark's processes; each ends with its block, and only what was started is ended."""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

from bench.load import Plan, Result
from bench.stream_values import Step, StreamPlan, StreamResult

ROOT = Path(__file__).parent.parent
PYTHON = ROOT / ".venv/bin/python"
"""The server's; the rest of the benchmark runs in its own environment, that of this process."""
READY_S = 240.0
"""LiteLLM imports for 20 s on an idle machine, and for minutes on a busy one."""
ROWS_S = 30.0
"""For rows that are stored after their answer."""


class BenchError(Exception):
    """The benchmark cannot go on, and why."""


@dataclass(frozen=True)
class Server:
    """A server that runs; `start_s` is from its start to its first readiness."""

    url: str
    pids: tuple[int, ...]
    start_s: float


@contextmanager
def process(command: list[str], folder: Path, **environment: str) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    """Run a command until the block ends; its stderr goes to the file that is yielded with it."""
    errors = Path(tempfile.mkstemp(dir=folder, suffix=".stderr")[1])
    base = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    with errors.open("wb") as sink:
        started = subprocess.Popen(
            command,
            cwd=folder,
            env={**base, "PYTHONPATH": str(ROOT), **environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=sink,
            start_new_session=True,
        )
    try:
        yield started, errors
    finally:
        _end(started)


def _end(started: subprocess.Popen[bytes]) -> None:
    assert started.stdin
    assert started.stdout
    started.stdin.close()
    started.terminate()
    try:
        started.wait(15)
    except subprocess.TimeoutExpired:
        os.killpg(started.pid, signal.SIGKILL)  # its own session, so its own group
        started.wait()
    started.stdout.close()


def first_line(pipe: IO[bytes] | None, errors: Path) -> str:
    """Return the first line that a process prints."""
    assert pipe
    line = pipe.readline().decode().strip()
    if not line:
        said = errors.read_text(errors="replace").strip()[-2000:]
        raise BenchError(f"a process ended early: {said.rpartition(chr(10))[2]}\n{said}")
    threading.Thread(target=lambda: [None for _ in pipe], daemon=True).start()
    return line


@contextmanager
def standin(folder: Path, tokens: int) -> Iterator["Standin"]:
    """Run the stand-ins."""
    command = [sys.executable, "-m", "bench.standin", "--tokens", str(tokens)]
    with process(command, folder) as (started, errors):
        yield Standin(first_line(started.stdout, errors), started.pid)


@dataclass(frozen=True)
class Standin:
    """The stand-ins' process."""

    url: str
    pid: int

    def delay(self, database: float = 0.0, model: float = 0.0) -> None:
        """Set the delays, in seconds."""
        self._control("PUT", f"?database={database}&model={model}")

    def counts(self) -> dict[str, int]:
        """Return how many model calls there were, and how many rows were inserted."""
        counts: dict[str, int] = json.loads(self._control("GET"))
        return {name: counts[name] for name in ("model", "rows")}

    def counts_once(self, wanted: dict[str, int]) -> dict[str, int]:
        """Return the counts as soon as they are as `wanted`, or what they are when that takes too long."""
        give_up = time.monotonic() + ROWS_S
        while (counts := self.counts()) != wanted and time.monotonic() < give_up:
            time.sleep(0.01)
        return counts

    def unpaced(self) -> None:
        """Pace no answer any more; what is paced now ends."""
        self._control("PUT", "?per_s=0&end=1")

    def _control(self, method: str, query: str = "") -> bytes:
        request = urllib.request.Request(f"{self.url}/control{query}", method=method)
        with urllib.request.urlopen(request, timeout=10) as response:
            answer: bytes = response.read()
            return answer


@contextmanager
def ours(folder: Path, **settings: str) -> Iterator[Server]:
    """Run our server; it is ready once it has logged `server.listening`, or answers, where that is not logged."""
    data = Path(tempfile.mkdtemp(dir=folder))
    environment = {"BIND": "127.0.0.1:0", "DATA_DIR": str(data), "ENABLE_CHAT_RATE_LIMIT": "false", **settings}
    if "LOG_LEVEL" in settings:
        command = [str(PYTHON), "-m", "app", "serve"]
        with other(folder, command, "/healthz", **{**environment, "BIND": "127.0.0.1:PORT"}) as server:
            yield server
        return
    begin = time.perf_counter()
    with process([str(PYTHON), "-m", "app", "serve"], folder, **environment) as (started, errors):
        threading.Thread(target=lambda: [None for _ in started.stdout or ()], daemon=True).start()
        url = _listening(started, errors)
        yield Server(url, (started.pid,), time.perf_counter() - begin)


def _listening(started: subprocess.Popen[bytes], errors: Path) -> str:
    deadline = time.monotonic() + READY_S
    while time.monotonic() < deadline and started.poll() is None:
        for line in errors.read_bytes().splitlines(keepends=True):
            if b'"server.listening"' in line and line.endswith(b"\n"):
                url: str = json.loads(line)["url"]
                return url
        time.sleep(0.005)
    raise BenchError(f"our server did not start:\n{errors.read_text(errors='replace')[-2000:]}")


@contextmanager
def other(folder: Path, command: list[str], health: str, **environment: str) -> Iterator[Server]:
    """Run a peer on a free port, put where `PORT` stands; it is ready once `health` answers 200."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    begin = time.perf_counter()
    words = [word.replace("PORT", str(port)) for word in command]
    variables = {name: value.replace("PORT", str(port)) for name, value in environment.items()}
    with process(words, folder, **variables) as (started, errors):
        threading.Thread(target=lambda: [None for _ in started.stdout or ()], daemon=True).start()
        url = f"http://127.0.0.1:{port}"
        while not _answers(url + health):
            if started.poll() is not None or time.perf_counter() - begin > READY_S:
                raise BenchError(f"{command} did not start:\n{errors.read_text(errors='replace')[-2000:]}")
            time.sleep(0.05)
        yield Server(url, (started.pid, *_children(started.pid)), time.perf_counter() - begin)


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as response:
            return bool(response.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def load(plan: Plan, folder: Path, *, may_fail: bool = False) -> Result:
    """Run the load generator to its end.

    Raises:
        BenchError: some answer was not a whole 200, unless that `may_fail`; or none came.
    """
    found = Result(**_loaded("bench.load", plan, folder))
    if not found.turns or (found.errors and not may_fail):
        raise BenchError(f"{found.errors} of {found.turns + found.errors} answers were wrong: {found.first_error}")
    return found


def load_streams(plan: StreamPlan, folder: Path) -> StreamResult:
    """Run the load of streams to its end.

    Raises:
        BenchError: some stream did not end complete, or some token never came.
    """
    found = _loaded("bench.streams", plan, folder)
    return StreamResult(**{**found, "steps": [Step(**step) for step in found["steps"]]})


def _loaded(module: str, plan: Plan | StreamPlan, folder: Path) -> dict[str, Any]:
    command = [sys.executable, "-m", module, json.dumps(asdict(plan))]
    with process(command, folder) as (started, errors):
        found: dict[str, Any] = json.loads(first_line(started.stdout, errors))
    return found
