"""Two model hosts that are not ours, as processes on loopback: aimock (from npm) and llmock (from PyPI).

They share a name, so neither is searched on PATH: each has a place of its own under the project.
"""

import json
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio

from app.clients.breaker import Breaker
from app.clients.openai import OpenAIModel
from app.clients.ports import ModelEnd
from app.clients.resilient import ResilientModel
from app.clients.transport import TrioTransport
from app.errors import Fault
from tests.clients.asking import asked
from tests.needs import lack, need_program

ROOT = Path(__file__).resolve().parents[2]
AIMOCK = ROOT / "tests/clients/npm/node_modules/@copilotkit/aimock/dist/cli.js"
LLMOCK = ROOT / ".venv-mocks/bin/llmock"
GET_AIMOCK = "aimock is not installed; to run this test: make mock-hosts"
GET_LLMOCK = "llmock is not installed; to run this test: make mock-hosts"
START_S = 60.0  # a second for one, three for the other, on an idle machine
ASK_S = 30.0


@dataclass
class MockHost:
    """A running host."""

    url: str
    control: httpx.Client

    def journal(self) -> list[dict[str, Any]]:
        """Return what aimock was asked, oldest first."""
        return list(self.control.get("/__aimock/journal").raise_for_status().json())

    def plan(self, *behaviours: dict[str, Any]) -> None:
        """Make llmock forget what was, and do this to the next requests."""
        self.control.post("/_llmock/reset").raise_for_status()
        if behaviours:
            self.control.post("/_llmock/scenario", json={"behaviors": behaviours}).raise_for_status()

    def requests(self) -> list[dict[str, Any]]:
        """Return what llmock was asked since the plan, oldest first."""
        return list(self.control.get("/_llmock/requests").raise_for_status().json()["requests"])

    def verdict(self) -> dict[str, Any]:
        """Return what llmock thinks of its client."""
        return dict(self.control.get("/_llmock/verdict").raise_for_status().json())


@contextmanager
def aimock(fixtures: list[dict[str, Any]], folder: Path) -> Iterator[MockHost]:
    """Serve `fixtures` with aimock, whose file is written to `folder`."""
    node = need_program("node", "install Node.js 20.15 or later")
    if not AIMOCK.exists():
        lack(GET_AIMOCK)
    path = folder / "fixtures.json"
    path.write_text(json.dumps({"fixtures": fixtures}))
    with _running([node, str(AIMOCK), "-p", "0", "-f", str(path)], "listening on ") as host:
        yield host


@contextmanager
def llmock() -> Iterator[MockHost]:
    """Serve llmock."""
    if not LLMOCK.exists():
        lack(GET_LLMOCK)
    with _running([str(LLMOCK), "serve", "--port", "0", "--response-style", "echo"], "running on ") as host:
        yield host


@contextmanager
def _running(command: list[str], before_url: str) -> Iterator[MockHost]:
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    lines: list[str] = []
    listening = threading.Event()

    def read() -> None:
        assert process.stdout
        for line in process.stdout:
            lines.append(line)
            if before_url in line:
                listening.set()
        listening.set()

    reader = threading.Thread(target=read)
    reader.start()
    try:
        assert listening.wait(START_S), lines
        (line,) = [line for line in lines if before_url in line]
        url = line.partition(before_url)[2].split()[0]
        with httpx.Client(base_url=url, trust_env=False, timeout=ASK_S) as control:
            yield MockHost(f"{url}/v1", control)
    finally:
        process.kill()  # asked to end, it would wait for calls that a test left
        process.wait()
        reader.join()
        assert process.stdout
        process.stdout.close()


def quick(retry: int) -> float:
    """Return short waits, for the tests of everything but the wait."""
    return 0.05 * (retry + 1)


@dataclass
class Asked:
    """A question that was asked as the server asks it, and what came of it."""

    said: list[str] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    end: ModelEnd | None = None
    fault: Fault | None = None
    seconds: float = 0.0
    connections: int = 0

    @property
    def text(self) -> str:
        """All that was said."""
        return "".join(self.said)

    @property
    def ended(self) -> str:
        """The code of the fault, or `answered`."""
        return self.fault.code if self.fault else "answered"


async def ask(
    host: MockHost, question: str, *, model: str = "some-model", breaker: Breaker | None = None, **options: Any
) -> Asked:
    """Ask over our own transport, with the retries of production but `quick`, unless the options say otherwise."""
    result, started = Asked(), time.monotonic()

    def on_text(text: str) -> None:
        if text:
            result.said.append(text)
            result.times.append(time.monotonic() - started)

    async with TrioTransport() as transport:
        plain = OpenAIModel(transport, host.url, "sk-test", model)
        resilient = ResilientModel(plain, breaker or Breaker("model", failures=99), **{"wait_s": quick, **options})
        with trio.fail_after(ASK_S):
            try:
                result.end = await resilient.answer(asked(question, model=model), on_text)
            except Fault as fault:
                result.fault = fault
        result.seconds = time.monotonic() - started
        result.connections, _idle = transport.statistics()
    return result


def needs_answer(result: Asked) -> ModelEnd:
    """Return the end of what must have been answered."""
    if result.end is None:
        pytest.fail(f"not answered: {result.fault}")
    return result.end
