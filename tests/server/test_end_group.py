"""The end of the server with all that belongs to it: its process group, its model's child, `make` and a terminal."""

import json
import os
import pty
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from signal import SIGINT, SIGTERM, Signals

import httpx
import pytest

from app.embedded.local_model import local_model_missing
from tests.needs import lack, need_program
from tests.server.ending import TALKING, report, seconds_to_end
from tests.server.own_session import members
from tests.server.process import PROJECT_ROOT, WAIT_S, ServerProcess, environment, running, until
from tests.server.rows import turn_rows

PATIENCE_S = 60.0
"""For the model to load, and to talk, on a machine that is busy with other things."""
PATIENT = {"LLM_FIRST_TOKEN_TIMEOUT": "60", "LLM_IDLE_TIMEOUT": "60", "LLM_TIMEOUT": "60", "GRACEFUL_TIMEOUT": "120"}
LONG = "Please tell me a long story about a dragon, a river and a very old castle."
MAKES = [3, pytest.param(30, marks=pytest.mark.soak)]


@contextmanager
def in_a_session(data_dir: Path, **settings: str) -> Iterator[ServerProcess]:
    """Run a server in a session of its own, of which nothing is left afterwards."""
    with running(data_dir, "tests.server.own_session", **settings) as server:
        yield server
    until(lambda: not members(server.process.pid), "the session is empty")


@contextmanager
def with_local_model(data_dir: Path) -> Iterator[tuple[ServerProcess, int]]:
    """Run a server with the local model in a session of its own; yield it and its child's process id."""
    if os.environ.get("NO_LOCAL_MODEL") == "1":
        pytest.skip("NO_LOCAL_MODEL=1: the local model is left out")
    if missing := local_model_missing():
        lack(missing)
    data_dir.mkdir(exist_ok=True)
    prompt = data_dir / "prompt.txt"
    prompt.write_text("You tell stories.")  # so short that it is read in no time
    settings = {"SYSTEM_PROMPT_FILE": str(prompt), "OPENAI_MAX_TOKENS": "40", "OPENAI_TEMPERATURE": "0", **PATIENT}
    with in_a_session(data_dir, EMBEDDED_LLM="local", **settings) as server:
        child = server.wait_for_log("local_model.ready", PATIENCE_S)["pid"]
        assert members(server.process.pid) == {server.process.pid, child}
        server.http.timeout = PATIENCE_S
        yield server, child


def begun(server: ServerProcess) -> None:
    """Wait until an answer has begun."""
    until(lambda: server.gauge(TALKING) == 1, "the model talks", PATIENCE_S)


@pytest.mark.parametrize(
    "number", [SIGTERM, pytest.param(SIGINT, marks=pytest.mark.soak)], ids=lambda number: number.name
)
def test_a_group_is_signalled_while_the_local_model_talks(tmp_path: Path, number: Signals) -> None:
    """The model's child goes on until the turn in flight is answered in full, and is gone after; exit code 0."""
    with with_local_model(tmp_path) as (server, child), ThreadPoolExecutor(1) as pool:
        turn = pool.submit(server.answer, LONG)
        begun(server)
        os.killpg(server.process.pid, number)
        server.wait_for_log("server.draining", signal=number.name)
        assert not turn.done()
        assert child in members(server.process.pid)
        body = turn.result()
        assert server.wait() == 0
        assert members(server.process.pid) == set()
        assert not server.lines("local_model.down")
    assert turn_rows(tmp_path, body["turn_id"])[1]["context_data"]["finish"] in ("stop", "length")


def test_a_second_signal_takes_the_child_along(tmp_path: Path) -> None:
    """While a turn is finished, a second signal to the group ends server and child at once."""
    with with_local_model(tmp_path) as (server, _child), ThreadPoolExecutor(1) as pool:
        turn = pool.submit(server.ask, LONG)
        begun(server)
        os.killpg(server.process.pid, SIGINT)
        server.wait_for_log("server.draining")
        os.killpg(server.process.pid, SIGINT)
        assert server.wait(timeout_s=5) == -SIGINT
        assert isinstance(turn.exception(), httpx.TransportError)


@pytest.mark.soak
def test_an_idle_server_with_its_child_ends_in_time(tmp_path: Path) -> None:
    """With the local model and nothing to do, the end takes less than 1.5 s."""
    took = []
    for name in "01234":
        with with_local_model(tmp_path / name) as (server, _child):
            took.append(seconds_to_end(server, SIGTERM))
    report("idle, with the local model", took)
    assert sorted(took)[2] < 1.5


class Made:
    """`make run LLM=scripted` in a session and, when it has a `terminal`, before one of its own."""

    def __init__(self, data_dir: Path, terminal: str = os.devnull) -> None:
        make = need_program("make", "apt-get install make")
        # The runtime is taken as it is; the first terminal that a session's first process opens becomes the session's.
        make_run = f"exec {make} --old-file=.venv/.runtime run LLM=scripted 'PY={sys.executable}' <{terminal}"
        self.process = subprocess.Popen(
            ["sh", "-c", make_run],
            cwd=PROJECT_ROOT,
            env=environment(data_dir),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.log = ""
        assert self.process.stderr
        self._timer = threading.Timer(WAIT_S, self.process.kill)
        self._timer.start()
        for line in self.process.stderr:
            self.log += line
            if "server.listening" in line:
                self.url: str = json.loads(line)["url"]
                break
        assert hasattr(self, "url"), self.log

    def ask(self, message: str) -> httpx.Response:
        """Ask the server."""
        headers = {"authorization": "Bearer demo"}
        return httpx.post(f"{self.url}/chat", json={"message": message}, headers=headers, timeout=WAIT_S)

    def borrowed(self) -> bool:
        """Return whether a turn is with the model."""
        return 'llm_limiter_borrowed{mode="fixed"} 1' in httpx.get(f"{self.url}/metrics").text

    def wait(self) -> None:
        """Wait for the end of the session; the server ended well, and no Python has complained."""
        _stdout, rest = self.process.communicate(timeout=WAIT_S)
        self._timer.cancel()
        until(lambda: not members(self.process.pid), "the session is empty")
        self.log += rest
        assert '"server.stopped"' in self.log, self.log
        strays = [line for line in self.log.splitlines() if not re.match(r"\{|make: \*\*\*", line)]
        assert not strays
        assert not re.search(r"Error \d", self.log)  # as make calls an exit code that is not 0


@pytest.mark.parametrize("count", MAKES)
def test_makes_echo_of_a_signal_is_no_second_one(tmp_path: Path, count: int) -> None:
    """`make` hands on the SIGTERM that its whole group was sent: the server drains all the same, every time."""
    for first in range(0, count, 3):
        started = [Made(tmp_path / str(first + number)) for number in range(3)]
        for made in started:
            os.killpg(made.process.pid, SIGTERM)
            made.wait()


def test_control_c_at_a_terminal(tmp_path: Path) -> None:
    """Ctrl-C in the terminal of `make run` lets the turn in flight finish, and leaves no process."""
    ours, theirs = pty.openpty()
    with ExitStack() as opened, ThreadPoolExecutor(1) as pool:
        opened.callback(os.close, ours)
        opened.callback(os.close, theirs)
        made = Made(tmp_path, os.ttyname(theirs))
        turn = pool.submit(made.ask, "Finish this [[fault: slow first=0.7 each=0]]")
        until(made.borrowed, "the model is asked")
        os.write(ours, b"\x03")
        assert turn.result().status_code == 200
        made.wait()
        assert '"signal": "SIGINT"' in made.log
