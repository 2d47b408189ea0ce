"""What the agent's rules cost: `python -m bench.agent_rules` (seconds).

1. View and reply on a 50-message history, median over all labelled messages.
2. For texts that repeat what makes matching slowest: the time at 2,000 characters in each of 50 messages, and its ratio
   to the time at 1,000: about 2 where the work grows with the text, 4 where it grows with its square.
"""

from collections.abc import Sequence
from datetime import timedelta
from statistics import median
from time import perf_counter

from app.generate.agent.reply import rule_reply
from app.generate.agent.rules import rule_view
from app.turn import StoredMessage
from tests.generate.agent.histories import EVERY, NOW

REPLY = "まず、観察できることと、そこから考えたことを分けると整理できます。" * 4
PIECES = ("か、", "a ", " ", "a, ", "and what ", "同じ", "i could ", "not ", "「", "1", "\n", "か")


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


def seconds(history: Sequence[StoredMessage], message: str) -> float:
    """Return how long the rules take for a message."""
    start = perf_counter()
    rule_reply(rule_view(history, message, None, NOW), message)
    return perf_counter() - start


def repeated(piece: str, chars: int) -> float:
    """Return the best of three times for a text of `chars` characters, 50 times in the history."""
    text = (piece * chars)[:chars]
    history = [StoredMessage(sender="user", message=text, created_at=NOW) for _ in range(50)]
    return min(seconds(history, text) for _ in range(3))


def main() -> None:
    """Measure and print."""
    history = conversation(50)
    print(
        f"50-message history, median of {len(EVERY)}: {median(seconds(history, i.message) for i in EVERY) * 1e3:.2f} ms"
    )
    for piece in PIECES:
        half, whole = repeated(piece, 1000), repeated(piece, 2000)
        print(f"{piece!r:12} x 2,000 characters: {whole * 1e3:7.1f} ms, {whole / half:.1f} times that of 1,000")


if __name__ == "__main__":
    main()
