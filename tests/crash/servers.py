"""Servers that are killed and started again: real processes, each with its log in a file.

A warm one is forked from a process that has the modules loaded already, which saves most of the 0.7 s of a start; a
cold one is started as an operator does. Both run `tests.crash.nimble` from its first setting on.
"""

import json
import multiprocessing
import subprocess
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import httpx
import trio

from tests.crash import nimble
from tests.crash.left_over import SUPERSEDED
from tests.server.process import WAIT_S, environment

POLL_S = 0.005
ALL = 1000
"""Entries: far more than a run has."""


class Process(Protocol):
    """What a process can be told."""

    def kill(self) -> None:
        """Send SIGKILL."""


Start = Callable[[Path, Path, dict[str, str]], tuple[Process, Callable[[], object]]]
"""Starts a server in a folder, with a log and an environment; returns its process, and what waits for its end."""


def warm(folder: Path, log: Path, variables: dict[str, str]) -> tuple[Process, Callable[[], object]]:
    """Fork a server."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([nimble.__name__])
    process = context.Process(target=nimble.main_in, args=(folder, log, variables), daemon=True)
    process.start()
    return process, process.join


def cold(folder: Path, log: Path, variables: dict[str, str]) -> tuple[Process, Callable[[], object]]:
    """Start a server from nothing."""
    with log.open("ab") as sink:
        process = subprocess.Popen(
            [sys.executable, "-m", nimble.__name__, "serve"],
            cwd=folder, env=variables, stdin=subprocess.DEVNULL, stdout=sink, stderr=sink,
        )  # fmt: skip
    return process, process.wait


class Server:
    """A server's place: its settings and folder stay, its process comes and goes."""

    def __init__(self, number: int, data_dir: Path, start: Start, **settings: str) -> None:
        self.number = number
        self.url = ""
        self.up = trio.Event()
        self._data_dir = data_dir
        self._start = start
        self._variables = environment(data_dir, **settings)
        self._logs: list[Path] = []
        self._process: Process | None = None
        self._killed = False
        self._wait: Callable[[], object] = lambda: None

    async def start(self) -> None:
        """Start it and wait until it listens."""
        log = self._data_dir / f"server-{self.number}-{len(self._logs)}.log"
        log.touch()
        self._logs.append(log)
        starting = partial(self._start, self._data_dir, log, self._variables)
        self._process, self._wait = await trio.to_thread.run_sync(starting)
        self._killed = False
        with trio.move_on_after(WAIT_S):
            self.url = await _listening(log)
            self.up.set()
            return
        raise AssertionError(f"no server:\n{log.read_text()}")

    def kill(self) -> None:
        """Kill it, at once; there is none afterwards."""
        if self._process is not None and not self._killed:
            self._killed, self.url, self.up = True, "", trio.Event()
            self._process.kill()

    async def ended(self) -> None:
        """Wait until a killed one is gone."""
        await trio.to_thread.run_sync(self._wait)
        self._process = None

    @property
    def log_text(self) -> str:
        """What its processes wrote."""
        return "\n".join(f"-- {log.name}\n{log.read_text()}" for log in self._logs)

    def stacks(self) -> list[str]:
        """Return the stacks that are in the logs, and what is no log line: no fault of a neighbour's explains them."""
        lines = [line for log in self._logs for line in _lines(log)]
        return [
            *(line["stack"] for line in lines if "stack" in line),
            *(line["stray"] for line in lines if "stray" in line),
        ]


async def _listening(log: Path) -> str:
    """Return the URL that a log tells, as soon as it does; a file tells nobody by itself that it grew."""
    while True:
        for line in _lines(log):
            if line.get("event") == "server.listening":
                return str(line["url"])
        await trio.sleep(POLL_S)


def _lines(log: Path) -> list[dict[str, Any]]:
    """Return a log's whole lines; what is none of ours as `stray`. The last one may have been cut off by a kill."""
    return [_line(text) for text in log.read_text().split("\n")[:-1]]


def _line(text: str) -> dict[str, Any]:
    try:
        line: dict[str, Any] = json.loads(text)
    except ValueError:
        return {"stray": text}
    return line


class NotDeliveredError(Exception):
    """An outbox does not become empty, or does not say so."""


async def until_delivered(client: httpx.AsyncClient, url: str) -> None:
    """Wait until nothing waits in the server's outbox any more.

    Raises:
        NotDeliveredError: it does not answer as it should, has set a row aside though none is wrong (another one of
            its key may be stored in its place), or takes longer than `WAIT_S`.
    """
    told = ""
    with trio.move_on_after(WAIT_S):
        while True:
            response = await client.get(f"{url}/ops/outbox?limit={ALL}")
            told = f"{response.status_code} {response.text}"
            if response.status_code != 200 or _refused(response.json()):
                break
            if response.json()["waiting"] == 0:
                return
            await trio.sleep(POLL_S)
    raise NotDeliveredError(told)


def _refused(outbox: Mapping[str, Any]) -> bool:
    """Return whether an outbox says that the database refuses a row."""
    superseded = sum(entry["reason"] == SUPERSEDED for entry in outbox["entries"])
    return bool(outbox["set_aside"] != superseded)
