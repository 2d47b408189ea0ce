"""The real server, but that its breakers and its delivery try a host again after a moment: a run is short.

Its model, asked the same again, gives another answer, as real ones do: what is stored is then one certain answer.

    python -m tests.crash.nimble serve
"""

import os
import secrets
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from app import bootstrap
from app.bootstrap import outbox
from app.bootstrap.upstreams import Breakers
from app.clients.breaker import Breaker
from app.embedded.scripted import tutor
from app.embedded.scripted.request import Message
from app.save.outbox_rules import DeliveryRules
from tests.server import extended

OPEN_S = 0.05
ANSWER = tutor.answer
QUICK = DeliveryRules(attempt_s=0.5, back_off_s=(0.01, 0.1), pause_s=(0.02, 0.1))


def another(messages: Sequence[Message], schema: Mapping[str, Any] | None = None) -> str:
    """Return the tutor's words for a prompt, never the same twice."""
    return f"{ANSWER(messages, schema)} ({secrets.token_hex(4)})"


def main() -> None:
    """Serve."""
    quick = partial(Breakers, model=Breaker("model", open_s=OPEN_S), database=Breaker("database", open_s=OPEN_S))
    bootstrap.Breakers = quick  # type: ignore[misc,assignment]  # the one place that makes them
    outbox.RULES = QUICK
    tutor.answer = another
    extended.main()


def main_in(folder: Path, log: Path, environment: Mapping[str, str]) -> None:
    """Serve in this process, which was forked for it: with this environment, in this folder, what is said to `log`."""
    taken = os.open(log, os.O_CREAT | os.O_APPEND | os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(taken, stream)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    main()


if __name__ == "__main__":
    main()
