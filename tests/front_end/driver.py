"""Runs drive.mjs, the AI SDK's real useChat, and reads what its user would have seen."""

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.needs import lack, need_program

HERE = Path(__file__).parent
SDKS = ("sdk5", "sdk5first", "sdk6", "sdk6first")
"""The newest and the first of lines 5 and 6; the first ones take no field that the protocol has not."""
GET_NODE = "install Node.js 20 or later"
GET_SDK = "the AI SDK is not installed; to run this test: make front-end"
DRIVE_S = 60.0
Message = dict[str, Any]
Step = dict[str, Any]


@dataclass(slots=True)
class Seen:
    """What one step of a scenario came to."""

    status: str = ""
    error: str | None = None
    messages: list[Message] = field(default_factory=list)
    shown: list[dict[str, Any]] = field(default_factory=list)
    """Each change on the screen: status, the last message's role and text, error."""
    data: list[dict[str, Any]] = field(default_factory=list)
    requests: list[dict[str, Any]] = field(default_factory=list)
    answers: list[dict[str, Any]] = field(default_factory=list)

    @property
    def texts(self) -> list[str]:
        """The messages' texts; a message of several text parts has them joined by bars."""
        return [text_of(message) for message in self.messages]

    @property
    def growth(self) -> list[str]:
        """The answer's text as it grew, without what came before it."""
        texts = [str(change["text"]) for change in self.shown if change["role"] == "assistant" and change["text"]]
        return list(dict.fromkeys(texts))

    @property
    def body(self) -> dict[str, Any]:
        """The body of its only request."""
        (request,) = self.requests
        return dict(request["body"])


def text_of(message: Message) -> str:
    """Return a message's text."""
    return "|".join(part["text"] for part in message["parts"] if part["type"] == "text")


def program(name: str) -> list[str]:
    """Return the command that runs a script of this folder; skips where Node.js or the SDK is missing."""
    node = need_program("node", GET_NODE)
    if not (HERE / "npm/node_modules/sdk6").exists():
        lack(GET_SDK)
    return [node, str(HERE / name)]


def drive(sdk: str, base: str, token: str, steps: list[Step], **scenario: Any) -> list[Seen]:
    """Play a scenario (see drive.mjs) against the server at `base`, and return what each step came to.

    `api` is /chat and `chat` is page-1 unless the scenario says otherwise.
    """
    told = json.dumps({"api": "/chat", "chat": "page-1", **scenario, "steps": steps})
    done = subprocess.run(
        [*program("drive.mjs"), sdk, base, token, told], capture_output=True, text=True, timeout=DRIVE_S, check=False
    )
    seen = list(_by_step(done.stdout))
    assert done.returncode == 0, (done.returncode, done.stderr, done.stdout[-2000:])
    assert len(seen) == len(steps), (done.stderr, done.stdout[-2000:])
    return seen


def _by_step(lines: str) -> Iterator[Seen]:
    seen = Seen()
    for line in lines.splitlines():
        event = json.loads(line)
        match event["event"]:
            case "shown":
                seen.shown.append({"role": None, "text": None, "error": None} | event)
            case "data":
                seen.data.append({"type": event["type"], "data": event["data"]})
            case "request":
                seen.requests.append(event)
            case "answered":
                seen.answers.append(event)
            case "settled":
                seen.status, seen.error, seen.messages = event["status"], event.get("error"), event["messages"]
                yield seen
                seen = Seen()


@contextmanager
def judge(*arguments: str) -> Iterator["Judge"]:
    """Start the SDK's own parsers, all versions in one process, for as many cases as there are."""
    with subprocess.Popen(
        [*program("parse.mjs"), *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        yield Judge(process)
        assert process.stdin
        process.stdin.close()


@dataclass(slots=True)
class Judge:
    """The running parsers."""

    process: "subprocess.Popen[str]"

    def verdicts(self, case: str) -> dict[str, Any]:
        """Return what each version says of a case."""
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(json.dumps(case) + "\n")
        self.process.stdin.flush()
        return dict(json.loads(self.process.stdout.readline()))
