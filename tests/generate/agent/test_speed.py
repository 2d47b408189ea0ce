"""What all rules of a turn cost."""

import statistics
from collections.abc import Callable, Sequence
from datetime import timedelta
from time import perf_counter

import pytest

from app.generate.agent.reply import rule_reply
from app.generate.agent.rules import rule_view
from app.turn import StoredMessage
from tests.generate.agent.histories import EVERY, NOW

MEDIAN_S = 0.01
"""Ten times what is measured on an idle machine: a floor for a busy one, not the figure."""
REPLY = "まず、観察できることと、そこから考えたことを分けると整理できます。" * 4
WORST_S = 2.0
"""A thousand messages, each 2,000 characters of what makes matching slowest."""


def conversation(rows: int) -> Sequence[StoredMessage]:
    """Return `rows` messages, a student's and an answer by turns, an hour apart."""
    return [
        StoredMessage(
            sender="assistant" if place % 2 else "user",
            message=REPLY if place % 2 else EVERY[place % len(EVERY)].message,
            created_at=NOW - timedelta(hours=rows - place),
        )
        for place in range(rows)
    ]


def test_fifty_messages(capsys: pytest.CaptureFixture[str], record_property: Callable[[str, object], None]) -> None:
    """View and reply on a 50-message history take a fraction of a hundredth of a second in the median."""
    history = conversation(50)
    taken: list[float] = []
    for item in EVERY:
        start = perf_counter()
        rule_reply(rule_view(history, item.message, None, NOW), item.message)
        taken.append(perf_counter() - start)
    median_us = round(statistics.median(taken) * 1e6)
    record_property("median_us", median_us)
    with capsys.disabled():
        print(f"\n  conversation agent's rules, median on a 50-message history: {median_us} us", end="")  # noqa: T201
    assert statistics.median(taken) < MEDIAN_S


@pytest.mark.parametrize(
    "piece", ["か、", "a ", " ", "a, ", "and what ", "同じ", "i could ", "not ", "「", "1", "\n", "か"]
)
def test_no_text_is_slow(piece: str) -> None:
    """No repetition of a piece, at full length in every message, makes the rules take seconds."""
    text = (piece * 2000)[:2000]
    history = [StoredMessage(sender="user", message=text, created_at=NOW) for _ in range(50)]
    start = perf_counter()
    rule_view(history, text, None, NOW)
    assert perf_counter() - start < WORST_S
