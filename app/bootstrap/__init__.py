"""The composition root: the only package that picks real clients or embedded ones, and joins the parts.

`upstreams` picks, `joining` joins the machinery of a turn, `application` gives it addresses, and here it runs.
"""

import gc
import logging
import os
import secrets
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path

import trio

from app.admit.silent_queue import SilentQueue
from app.admit.steered_model import Steering
from app.bootstrap.joining import join
from app.bootstrap.outbox import FOLDER, Delivered, deliver, open_delivering_outbox
from app.bootstrap.parts import Parts, Resources
from app.bootstrap.upstreams import Breakers, ChosenModel, open_database, open_keys, open_model
from app.clients.pools import Pools
from app.edge.serve import DrainRules, listener_url, open_listener
from app.ops.turn_log import open_turn_log
from app.ops.versions import VERSION
from app.settings import Settings, otel_disabled, otel_exports, otel_refusal, otel_span_queue
from app.welcome import Welcome
from telemetry.logs import forget_unwritten
from telemetry.providers import DEFAULT_SPAN_QUEUE, Providers, build_providers
from telemetry.recent_errors import RecentErrors
from telemetry.redaction import redaction
from telemetry.trio_instrument import loop_watched

__all__ = [
    "Breakers",
    "ChosenModel",
    "Parts",
    "Resources",
    "deliver_orphan",
    "join",
    "open_database",
    "open_model",
    "run",
]

log = logging.getLogger(__name__)

TELEMETRY_FLUSH_S = 5.0
GC_THRESHOLD = 20_000
"""Objects between two collections of the youngest. Most of what a turn leaves is freed by counting; of the rest, cycles
through tasks and tracebacks, there are some hundred a turn. Looking for them at CPython's 700 took 8 % of a turn."""
LAST_ANSWERS_S = 1.0
"""Beside their saves, of the question and of the answer, what turns that outlast the drain have to say so."""
LAST_SAVES_S = 5.0
"""After the drain, turns whose clients are gone have this long for their saves."""


async def run(
    settings: Settings, say: Callable[[str], None], extend: Callable[[Parts], None] = lambda parts: None
) -> None:
    """Serve until a signal. `say` is told, once the server is ready, what runs and how to try it.

    `extend` may add routes of its own before serving begins.

    Raises:
        StartError: the server cannot start as it is configured (bare, or in an exception group).
    """
    listener = open_listener(*settings.address)
    url = listener_url(listener)
    instance = secrets.token_hex(6)
    providers = _providers(instance, metrics=otel_exports("metrics"))
    breakers, pools = Breakers(), Pools()
    steering = Steering(silent_queue=SilentQueue() if settings.llm_limiter_silent_queue else None)
    errors = RecentErrors(redaction(settings.secrets))
    errors.install()
    if not settings.outbox:
        _tell_of_stranded(settings.data_dir / FOLDER)
    try:
        async with (
            trio.open_nursery() as services,
            open_database(settings, services, providers, breakers.database, pools) as database,
            open_model(settings, services, providers, breakers.model, steering, pools) as model,
            open_keys(settings, services, providers) as keys,
        ):
            async with (
                open_delivering_outbox(settings, database, providers) as outbox,
                open_turn_log(settings.turn_log) as turn_log,
                trio.open_nursery() as turn_nursery,
            ):
                resources = Resources(
                    database=database,
                    model=model,
                    breakers=breakers,
                    outbox=outbox,
                    turn_log=turn_log,
                    steering=steering,
                    keys=keys,
                    pools=pools,
                    errors=errors,
                )
                for sentence in settings.doubts:
                    log.warning("settings.doubtful", extra={"hint": sentence})
                parts = join(settings, providers, resources, turn_nursery, instance)
                extend(parts)
                with _loop_watched(providers):
                    async with trio.open_nursery() as edge:
                        await edge.start(parts.edge.serve, parts.app, listener, _drain_rules(settings, parts))
                        _spare_the_collector()
                        log.info("server.listening", extra={"url": url, "instance": instance, "pid": os.getpid()})
                        services.start_soon(_welcome, settings, model, url, say)
                turn_nursery.cancel_scope.deadline = trio.current_time() + LAST_SAVES_S
            services.cancel_scope.cancel()
    finally:
        await providers.shutdown(TELEMETRY_FLUSH_S)
        errors.remove()
    log.info("server.stopped", extra={"instance": instance})
    forget_unwritten()


async def deliver_orphan(settings: Settings, file: Path) -> Delivered:
    """Deliver what a process that is gone left in `file`, an outbox, and remove that once it is empty.

    Its traces are exported as a server's are.

    Raises:
        StartError: it cannot be opened, or the database is not configured (bare, or in an exception group).
    """
    providers = _providers(secrets.token_hex(6), metrics=False)  # it is gone before a second reading
    try:
        return await deliver(settings, file, providers)
    finally:
        await providers.shutdown(TELEMETRY_FLUSH_S)


def _tell_of_stranded(folder: Path) -> None:
    """Say what processes that had an outbox have left, which one without does not look at."""
    if files := len(list(folder.glob("*.sqlite3"))):
        hint = "deliver each: python -m app outbox deliver FILE; or start once without OUTBOX=off"
        log.warning("outbox.off", extra={"folder": str(folder), "files": files, "hint": hint})


def _spare_the_collector() -> None:
    """Leave what is there for good, code and parts, out of every collection to come: a full one took 60 ms for it."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(GC_THRESHOLD, 10, 10)


def _loop_watched(providers: Providers) -> AbstractContextManager[object]:
    """Measure the loop while it serves, unless telemetry is off."""
    return loop_watched(providers.meter) if providers.enabled else nullcontext()


def _drain_rules(settings: Settings, parts: Parts) -> DrainRules:
    return DrainRules(
        grace_s=settings.drain_grace,
        timeout_s=settings.graceful_timeout,
        last_call_s=min(settings.graceful_timeout / 2, 2 * settings.db_save_timeout + LAST_ANSWERS_S),
        on_drain=partial(setattr, parts.door, "draining", True),
        on_last_call=parts.turns.end,
        turns_over=parts.turns.over,
    )


async def _welcome(settings: Settings, model: ChosenModel, url: str, say: Callable[[str], None]) -> None:
    await model.wait_ready()
    database = f"embedded, {settings.data_dir / 'supabase.sqlite3'}" if settings.embedded_database else "Supabase"
    token = "demo" if settings.auth == "dev" else "$TOKEN"
    shown = Welcome(
        url=url, model=model.chat.name, remark=model.remark, database=database, token=token, console=settings.console
    )
    say(shown.text())


def _providers(instance: str, *, metrics: bool) -> Providers:
    try:
        return build_providers(
            service_version=VERSION,
            instance=instance,
            traces_endpoint_set=otel_exports("traces"),
            metrics_endpoint_set=metrics,
            sdk_disabled=otel_disabled(),
            span_queue_max=otel_span_queue() or DEFAULT_SPAN_QUEUE,
        )
    except ValueError as exc:  # the SDK's, of what it read itself
        raise otel_refusal(exc) from None
