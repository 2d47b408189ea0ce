"""The server as a process of its own, as an operator starts it: a small explicit environment, real sockets, signals."""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from signal import SIGTERM, Signals
from typing import IO, Any

import httpx

PROJECT_ROOT = Path(__file__).parents[2]
WAIT_S = 20.0  # far beyond anything that is waited for here: a test that reaches it has found a fault
AT_ONCE = "[[fault: slow first=0 each=0]]"
"""In a message: the scripted model answers without its pace."""


def environment(data_dir: Path, **settings: str) -> dict[str, str]:
    """Return a server's whole environment: nothing of ours is inherited but where programs are.

    Tests ask more than a user would, and fail to sign in more often, so limits on both are for tests of theirs only.
    """
    return {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(PROJECT_ROOT),
        "BIND": "127.0.0.1:0",
        "DATA_DIR": str(data_dir),
        "EMBEDDED_LLM": "scripted",
        "ENABLE_CHAT_RATE_LIMIT": "false",
        "AUTH_FAILURES_MAX": "0",
        **settings,
    }


def run_command(folder: Path, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """Run `python -m app ...` to its end in `folder`, with `folder / "data"` as `DATA_DIR` unless that is given."""
    variables = environment(folder / "data") | settings
    command = [sys.executable, "-m", "app", *arguments]
    return subprocess.run(command, cwd=folder, env=variables, capture_output=True, text=True, timeout=WAIT_S)


def until(condition: Callable[[], bool], what: str, timeout_s: float = WAIT_S) -> None:
    """Return as soon as `condition` holds; for what can only be asked, and tells nobody by itself."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {timeout_s} s: {what}"
        threading.Event().wait(0.01)


class ServerProcess:
    """`python -m app serve`, listening. `log` holds its log lines, `stray` what it wrote to stderr besides.

    It runs in its data's folder, where no `.env` of a developer's lies.
    """

    def __init__(self, data_dir: Path, module: str = "app", **settings: str) -> None:
        data_dir.mkdir(parents=True, exist_ok=True)
        self.data_dir = data_dir
        self.log: list[dict[str, Any]] = []
        self.stray: list[str] = []
        self.stdout = ""
        self._ended = 0
        self._changed = threading.Condition()
        self.process = subprocess.Popen(
            [sys.executable, "-m", module, "serve"],
            cwd=data_dir,
            env=environment(data_dir, **settings),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        sinks = ((self.process.stderr, self._take_log), (self.process.stdout, self._take_text))
        self._readers = [threading.Thread(target=self._read, args=sink) for sink in sinks]
        for reader in self._readers:
            reader.start()
        self.http = httpx.Client(timeout=WAIT_S, trust_env=False, limits=httpx.Limits(max_keepalive_connections=0))

    def learn_address(self) -> None:
        """Wait until it listens."""
        self.url: str = self.wait_for_log("server.listening")["url"]
        self.http.base_url = self.url

    @property
    def address(self) -> tuple[str, int]:
        """Host and port."""
        url = httpx.URL(self.url)
        assert url.port
        return url.host, url.port

    @property
    def log_text(self) -> str:
        """Everything that it wrote to stderr so far, for searching."""
        return "\n".join([*(json.dumps(line, ensure_ascii=False) for line in self.log), *self.stray])

    def ask(
        self, message: str, *, user: str = "demo", headers: dict[str, str] | None = None, **fields: Any
    ) -> httpx.Response:
        """Post a message to `/chat` and return the response, whatever it is."""
        given = {"authorization": f"Bearer {user}", **(headers or {})}
        return self.http.post("/chat", json={"message": message, **fields}, headers=given)

    def answer(self, message: str, **options: Any) -> dict[str, Any]:
        """Post a message that is answered, and return the body."""
        response = self.ask(message, **options)
        assert response.status_code == 200, response.text
        body: dict[str, Any] = response.json()
        return body

    def lines(self, event: str, **fields: Any) -> list[dict[str, Any]]:
        """Return the log lines of an event that have these fields."""
        wanted = {"event": event, **fields}
        return [line for line in self.log if all(line.get(key) == value for key, value in wanted.items())]

    def wait_for_log(self, event: str, timeout_s: float = WAIT_S, **fields: Any) -> dict[str, Any]:
        """Return the first log line of an event that has these fields, as soon as it is written."""
        self._wait(lambda: bool(self.lines(event, **fields)), f"log line {event} {fields}", timeout_s)
        return self.lines(event, **fields)[0]

    def wait_for_text(self, text: str) -> str:
        """Return what stands on stdout, as soon as `text` does."""
        self._wait(lambda: text in self.stdout, f"{text!r} on stdout", WAIT_S)
        return self.stdout

    def gauge(self, name: str) -> float:
        """Return the sum of what `/metrics` has for a name, 0 when it has nothing yet."""
        page = self.http.get("/metrics").text
        return sum(
            float(line.rpartition(" ")[2]) for line in page.splitlines() if line.startswith((f"{name}{{", f"{name} "))
        )

    def wait_for_gauge(self, name: str, value: float) -> None:
        """Wait until `/metrics` shows `value`."""
        until(lambda: self.gauge(name) == value, f"{name} is {value}")

    def send_signal(self, number: Signals) -> None:
        """Send a signal and return at once."""
        self.process.send_signal(number)

    def end(self, number: Signals = SIGTERM, timeout_s: float = WAIT_S) -> int:
        """Send a signal, wait for the end, and return the exit code."""
        self.send_signal(number)
        return self.wait(timeout_s)

    def wait(self, timeout_s: float = WAIT_S) -> int:
        """Wait for the end and for the last of its output, and return the exit code."""
        code = self.process.wait(timeout_s)
        for reader in self._readers:
            reader.join()
        return code

    def close(self) -> None:
        """End it by all means, and close what it is reached by."""
        self.http.close()
        with suppress(subprocess.TimeoutExpired):
            if self.process.poll() is None:
                self.end(timeout_s=10)
        if self.process.poll() is None:
            self.process.kill()
        self.wait()
        for pipe in (self.process.stdout, self.process.stderr):
            assert pipe
            pipe.close()

    def _wait(self, condition: Callable[[], bool], what: str, timeout_s: float) -> None:
        with self._changed:
            self._changed.wait_for(lambda: condition() or self._ended == len(self._readers), timeout_s)
            assert condition(), f"not seen: {what}\n{self.log_text}"

    def _read(self, pipe: IO[str], take: Callable[[str], None]) -> None:
        for line in pipe:
            with self._changed:
                take(line)
                self._changed.notify_all()
        with self._changed:
            self._ended += 1
            self._changed.notify_all()

    def _take_text(self, line: str) -> None:
        self.stdout += line

    def _take_log(self, line: str) -> None:
        try:
            self.log.append(json.loads(line))
        except ValueError:
            self.stray.append(line.rstrip("\n"))


@contextmanager
def running(data_dir: Path, module: str = "app", **settings: str) -> Iterator[ServerProcess]:
    """Run a server until the block ends. It must have written log lines only, and no stack.

    `module` is what is run: `tests.server.extended` is the server with the tests' own routes.
    """
    server = ServerProcess(data_dir, module, **settings)
    try:
        server.learn_address()
        yield server
    finally:
        server.close()
    stacks = [line["stack"] for line in server.log if "stack" in line]
    assert not [*server.stray, *stacks], "\n".join([*server.stray, *stacks])
