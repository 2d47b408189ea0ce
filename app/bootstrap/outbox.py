"""The outbox of this process, opened, delivering while the server runs, and closed after its last turn.

Its delivery has a nursery of its own, inside the services': when the last turn has ended, it is given a moment to
deliver what that left, and has ended itself before the file is closed.
"""

import logging
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import trio
from opentelemetry.metrics import Meter

from app.bootstrap.upstreams import open_database
from app.clients.ports import Database
from app.errors import StartError
from app.save.outbox_by_hand import deliver_file
from app.save.outbox_delivery import OutboxDelivery
from app.save.outbox_file import Outbox, open_outbox
from app.save.outbox_rules import DeliveryRules
from app.save.outbox_values import OutboxError, OutboxLimits, OutboxStatistics
from app.settings import Settings
from telemetry import names
from telemetry.metrics import watch, watch_each
from telemetry.providers import Providers
from telemetry.replay_trace import ReplayOutcome, ReplayTelemetry

log = logging.getLogger(__name__)

FOLDER = "outbox"
RULES, LIMITS = DeliveryRules(), OutboxLimits()
LAST_DELIVERY_S = 2.0
"""After the last turn. Most of what is put is delivered within some 10 ms."""
BEHIND_S = 5.0
"""How old a row may be before `/readyz` tells of it; a delivery that fails is tried again well before that."""


@asynccontextmanager
async def open_delivering_outbox(
    settings: Settings, database: Database, providers: Providers
) -> AsyncIterator[Outbox | None]:
    """Yield the outbox under `DATA_DIR`, with what earlier processes left there, delivering; None when it is off.

    Raises:
        StartError: its folder or file cannot be made or written.
    """
    if not settings.outbox:
        yield None
        return
    async with AsyncExitStack() as opened:
        opening = open_outbox(settings.data_dir / FOLDER, sync=settings.outbox_sync, limits=LIMITS)
        try:
            outbox = await opened.enter_async_context(opening)
        except OutboxError as exc:
            raise StartError(f"DATA_DIR: {exc}; where there is no volume, set OUTBOX=off") from None
        telemetry = ReplayTelemetry(providers.tracer)
        delivery = OutboxDelivery(outbox, database, RULES, told=_Told(providers.meter), telemetry=telemetry)
        _watch(providers.meter, outbox)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(delivery.run)
            nursery.start_soon(outbox.adopt_for_ever)
            yield outbox
            nursery.cancel_scope.cancel()
        await _deliver_the_last(outbox, delivery)


async def _deliver_the_last(outbox: Outbox, delivery: OutboxDelivery) -> None:
    with trio.move_on_after(LAST_DELIVERY_S), suppress(OutboxError):
        await delivery.empty(patience=1)
    left = outbox.statistics()
    if left.waiting or left.set_aside:
        facts = {"file": str(outbox.path), "waiting": left.waiting, "set_aside": left.set_aside}
        log.warning("outbox.left", extra={**facts, "hint": "the next process on this DATA_DIR delivers it"})


class _Told:
    """Counts what becomes of entries; every outcome is on the page from the start, so that a first one is a rise."""

    def __init__(self, meter: Meter) -> None:
        self._replays = meter.create_counter(names.OUTBOX_REPLAYS, description="Rows that left the outbox, or did not.")
        for outcome in get_args(ReplayOutcome):
            self(outcome, 0)

    def __call__(self, outcome: ReplayOutcome, entries: int) -> None:
        self._replays.add(entries, {names.OUTCOME: outcome})


def _watch(meter: Meter, outbox: Outbox) -> None:
    look = outbox.statistics
    states = {"waiting": lambda: float(look().waiting), "set_aside": lambda: float(look().set_aside)}
    watch_each(meter, names.OUTBOX_DEPTH, names.STATE, states, "Rows in the outbox: to be delivered, or refused.")
    watch(meter, names.OUTBOX_AGE, lambda: look().oldest_age_s, "Since the oldest waiting row was queued.", unit="s")
    watch(meter, names.OUTBOX_PAUSED, lambda: float(look().paused is not None), "1 while the database refuses all.")


def is_degraded(outbox: Outbox | None) -> bool:
    """Return whether somebody should look at the outbox: it is full, paused, or behind."""
    if outbox is None:
        return False
    now = outbox.statistics()
    return now.paused is not None or is_behind(now) or not outbox.has_room()


def is_behind(now: OutboxStatistics) -> bool:
    """Return whether a row waits for longer than its delivery should take."""
    return now.oldest_age_s > BEHIND_S


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivered:
    """What became of an orphan's rows. `problem`: why some wait in it still, as a sentence."""

    delivered: int
    set_aside: int
    problem: str | None = None

    def text(self) -> str:
        """Return it as one line."""
        rows = f"delivered {self.delivered} rows"
        if self.problem is not None:
            return f"{rows}, the rest is still there: {self.problem}"
        if self.set_aside:
            return f"{rows}; {self.set_aside} are still there, because the database refuses them (outbox.set_aside)"
        return f"{rows}; the file is removed"


async def deliver(settings: Settings, file: Path, providers: Providers) -> Delivered:
    """Deliver what a process that is gone left in `file` to the configured database, or to the embedded one.

    Raises:
        StartError: there is no such file, it is no outbox, a process has it open, or the database is not configured.
    """
    told: Counter[ReplayOutcome] = Counter()

    def count(outcome: ReplayOutcome, entries: int) -> None:
        told[outcome] += entries

    problem, set_aside, telemetry = None, 0, ReplayTelemetry(providers.tracer)
    async with trio.open_nursery() as services, open_database(settings, services, providers) as database:
        try:
            set_aside = (await deliver_file(file, database, told=count, telemetry=telemetry)).set_aside
        except OutboxError as exc:
            if exc.reason in ("unopenable", "in_use", "not_ours"):
                raise StartError(str(exc)) from None
            problem = str(exc)
        services.cancel_scope.cancel()
    return Delivered(delivered=told["delivered"], set_aside=set_aside, problem=problem)
