"""Delivers by hand what a process that is gone has left behind, where none will come to take it over."""

from collections.abc import Callable
from pathlib import Path

from app.clients.ports import Database
from app.save.outbox_delivery import OutboxDelivery
from app.save.outbox_file import open_orphan
from app.save.outbox_rules import DeliveryRules
from app.save.outbox_values import OutboxStatistics
from telemetry.replay_trace import ReplayOutcome, ReplayTelemetry


async def deliver_file(
    path: Path,
    database: Database,
    rules: DeliveryRules | None = None,
    told: Callable[[ReplayOutcome, int], None] = lambda outcome, entries: None,
    telemetry: ReplayTelemetry | None = None,
) -> OutboxStatistics:
    """Deliver what a process that is gone has left behind, and return what is left: entries that were set aside.

    Emptied, the file is removed. `told` and `telemetry` are as of `OutboxDelivery`.

    Raises:
        OutboxError: there is no such file, it belongs to a process that runs, or the database does not take it.
    """
    async with open_orphan(path) as outbox:
        await OutboxDelivery(outbox, database, rules, told=told, telemetry=telemetry).empty()
        return outbox.statistics()
