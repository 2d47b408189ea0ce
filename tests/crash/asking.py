"""What the clients of a run send, and what is an answer to it. Pure."""

import json
import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from app.errors import KINDS
from tests.crash.plan import ClientPlan, Way
from tests.crash.verdict import Received
from tests.server.parts import DONE, metadata_of, parts_of, text_of
from tests.server.process import AT_ONCE

SLOW = "[[fault: slow first=0.03 each=0.001]]"
REFUSED_FOR_NOW = {502, 503, 504}
IN_PROGRESS = 409
"""Who repeats may be told so."""
END = f"data: {DONE}\n\n"
PATHS: Mapping[Way, str] = {"json": "/chat", "stream": "/chat/stream", "sdk": "/chat/stream"}


class OddityError(Exception):
    """An answer for which no fault of the database is a reason."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A client's `number`th question. It may be sent as often as its client likes, and is the same each time."""

    client: ClientPlan
    number: int
    page: str
    text: str

    @property
    def key(self) -> str:
        """Return what no other question is called."""
        return f"{self.client.name}-{self.number}"

    @property
    def path(self) -> str:
        """Return where it is sent."""
        return PATHS[self.client.way]

    @property
    def headers(self) -> dict[str, str]:
        """Return what its request has besides its body. The AI SDK's has its key in there."""
        named = self.client.repeats and self.client.way != "sdk"
        return {"authorization": f"Bearer {self.client.user_id}"} | ({"idempotency-key": self.key} if named else {})

    @property
    def body(self) -> dict[str, Any]:
        """Return what is sent."""
        if self.client.way == "sdk":
            message = {"id": self.key, "role": "user", "parts": [{"type": "text", "text": self.text}]}
            asked: dict[str, Any] = {"id": self.page, "messages": [message], "trigger": "submit-message"}
        else:
            asked = {"message": self.text, "page_id": self.page}
        return asked | {"on_disconnect": self.client.on_disconnect}


def make_question(seed: int, client: ClientPlan, number: int) -> Question:
    """Return a client's `number`th question in the run of a seed."""
    draw = random.Random(f"{seed} {client.name} {number}")
    pace = draw.choice((AT_ONCE, AT_ONCE, SLOW) if client.patience_s is None else (AT_ONCE, SLOW))
    text = f"{seed}.{client.name}.{number}: Why? {pace}"
    return Question(client=client, number=number, page=draw.choice(client.pages), text=text)


def is_whole(text: str) -> bool:
    """Return whether what was read of a stream is all of it; of JSON, only its end tells."""
    return text.endswith(END)


def received(question: Question, text: str) -> Received | None:
    """Return the answer that is in what a 200 said, which came to its proper end; None when it told of a failure.

    Raises:
        OddityError: a stream without its end, of which a front end would think that it was answered; or a failure that
            is no neighbour's.
    """
    told = json.loads(text) if question.client.way == "json" else _streamed(text)
    if told is None:
        return None
    names = ("turn_id", "conversation_id", "saved")
    superseded = any(warning["code"] == "superseded" for warning in told["warnings"])
    return Received(
        text=told["response"],
        superseded=superseded,
        replayed=told.get("replayed") is not None,
        **{name: told[name] for name in names},
    )


def _streamed(text: str) -> dict[str, Any] | None:
    if not is_whole(text):
        raise OddityError(f"a stream ended without {DONE}: {text[-300:]}")
    parts = parts_of(text)
    told, end = metadata_of(parts), parts[-1]["type"]
    if end == "finish":
        return told | {"response": text_of(parts)}
    if end == "error" and KINDS[told["error"]["code"]].status in REFUSED_FOR_NOW:
        return None
    raise OddityError(f"a stream ended with {parts[-1]}: {told.get('error')}")


def refused(question: Question, status: int, headers: Mapping[str, str], text: str) -> float:
    """Return for how many seconds a client is asked to wait; 0 when it is not.

    Raises:
        OddityError: it was refused for no reason that there is.
    """
    known = status in REFUSED_FOR_NOW or (status == IN_PROGRESS and question.client.repeats)
    if not known or (status == IN_PROGRESS and "retry-after" not in headers):
        raise OddityError(f"{status}: {text}")
    return float(headers.get("retry-after", 0))
