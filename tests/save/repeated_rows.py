"""Rows of one turn that was asked for more than once, told apart by who wrote them."""

import uuid
from datetime import timedelta
from typing import Any

from app.clients.ports import LogRow
from app.turn import Finish
from tests.save.outbox_rows import NOON, log_row

TURN = uuid.uuid5(uuid.NAMESPACE_DNS, "a turn of a key")


def question(second: int = 0, message: str = "Why?", **fields: Any) -> LogRow:
    """Return the turn's question, as an attempt of that second wrote it."""
    return log_row(TURN, "user", message=message, created_at=NOON + timedelta(seconds=second), **fields)


def answer(second: int = 1, message: str = "Because.", finish: Finish = "stop", **fields: Any) -> LogRow:
    """Return an answer of the turn, as an attempt of that second wrote it."""
    at = NOON + timedelta(seconds=second)
    return log_row(TURN, "assistant", message=message, created_at=at, context_data={"finish": finish}, **fields)
