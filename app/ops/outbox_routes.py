"""`/ops/outbox`: what waits to be delivered and what the database refuses; retried or given up by hand.

No texts and no users: an entry leads to its turn, its conversation and its trace.
"""

import logging
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, Protocol

from quart import Blueprint, Response, request

from app.errors import CallerFault, OverloadFault
from app.ops.routes import OpsRules, guarded, ops_answer
from app.save.outbox_values import OutboxEntry, OutboxError, OutboxStatistics

log = logging.getLogger(__name__)

SHOWN, MOST_SHOWN = 100, 1000
"""Entries of a listing, unless `limit` says otherwise; and how many that may be."""


class Watched(Protocol):
    """What ops ask of an outbox (`outbox_file.Outbox` is one)."""

    def entries(self, limit: int) -> Sequence[OutboxEntry]:
        """Return the first entries in the order of delivery, those set aside too."""

    def statistics(self) -> OutboxStatistics:
        """Return how the outbox is now."""

    async def retry(self, entry_id: int) -> bool:
        """Have the entry's whole turn delivered; return whether there is such an entry."""

    async def delete(self, entry_id: int) -> bool:
        """Give one entry up; return whether there was one."""


def outbox_routes(rules: OpsRules, outbox: Watched) -> Blueprint:
    """Return the routes; each change is logged."""
    routes = guarded(Blueprint("outbox", __name__), rules)

    @routes.get("/ops/outbox")
    async def look() -> Response:
        entries = [_shown(entry) for entry in outbox.entries(_limit())]
        return ops_answer(rules, {**asdict(outbox.statistics()), "entries": entries})

    @routes.post("/ops/outbox/<int:entry_id>/retry")
    async def retry(entry_id: int) -> Response:
        await _act(outbox.retry, entry_id)
        log.warning("ops.outbox.retried", extra={"entry": entry_id})
        return _changed(rules, outbox)

    @routes.delete("/ops/outbox/<int:entry_id>")
    async def delete(entry_id: int) -> Response:
        await _act(outbox.delete, entry_id)  # which logs what is lost
        return _changed(rules, outbox)

    return routes


class _Act(Protocol):
    async def __call__(self, entry_id: int) -> bool:
        """Act on an entry; return whether there is one."""


async def _act(act: _Act, entry_id: int) -> None:
    try:
        found = await act(entry_id)
    except OutboxError as exc:
        raise OverloadFault("overloaded", str(exc), error_type=f"outbox_{exc.reason}") from exc
    if not found:
        raise CallerFault("not_found")


def _changed(rules: OpsRules, outbox: Watched) -> Response:
    return ops_answer(rules, {**asdict(outbox.statistics()), "reverts_on_restart": False})


def _limit() -> int:
    text = request.args.get("limit", str(SHOWN))
    limit = int(text) if text.isascii() and text.isdecimal() and len(text) <= len(str(MOST_SHOWN)) else 0
    if not 1 <= limit <= MOST_SHOWN:
        raise CallerFault("invalid_request", fields=[f"limit: must be a number from 1 to {MOST_SHOWN}"])
    return limit


def _shown(entry: OutboxEntry) -> dict[str, Any]:
    row = entry.row
    return {
        "id": entry.id,
        "turn_id": str(row.turn_id),
        "sender": row.sender,
        "conversation_id": str(row.conversation_id),
        "trace_id": row.context_data.get("trace_id"),
        "queued_at": entry.queued_at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "bytes": entry.size,
        "attempts": entry.attempts,
        "state": "waiting" if entry.reason is None else "set_aside",
        "reason": entry.reason,
    }
