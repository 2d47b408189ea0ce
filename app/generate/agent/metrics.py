"""Figures about a conversation, from its stored rows alone: nothing is remembered between two turns."""

from collections.abc import Sequence
from typing import Any

from app.generate.agent.progress import UNITS_CHARS
from app.generate.agent.reading import has
from app.generate.agent.values import Snapshot
from app.turn import StoredMessage

WINDOW = 5
"""Own messages that make a window of activity."""


def metrics(history: Sequence[StoredMessage], snapshot: Snapshot) -> dict[str, Any]:
    """Return the conversation's figures.

    `turns_count` is the student's stored messages among those that were read, and `answered_turns` the answers with
    text. `momentum_delta` is the share of the newest `WINDOW` stored own messages that report something done, minus
    that share of the `WINDOW` before them: -1 to 1, and 0 until both windows have a message. The others are the
    snapshot's.

    Args:
        history: the messages before the last one, oldest first.
        snapshot: of this turn.
    """
    own = [row for row in reversed(history) if row.sender == "user"]
    signal = snapshot.progress_signal
    return {
        "turns_count": len(own),
        "answered_turns": sum(row.sender == "assistant" and bool(row.message.strip()) for row in history),
        "momentum_delta": _momentum_delta(own),
        "actions_in_last_7_days": signal.actions_in_last_7_days,
        "novelty_ratio": signal.novelty_ratio,
        "looping": bool(signal.looping_signals),
    }


def _momentum_delta(own: Sequence[StoredMessage]) -> float:
    newest, before = own[:WINDOW], own[WINDOW : 2 * WINDOW]
    return round(_activity(newest) - _activity(before), 3) if before else 0.0


def _activity(rows: Sequence[StoredMessage]) -> float:
    return sum(has(row.message[:UNITS_CHARS], "action") for row in rows) / len(rows)
