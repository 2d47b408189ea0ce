"""What `/ops/support` reads from the parts, at each request: figures of this process, none of which makes it wait."""

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import trio

from app.bootstrap.parts import Machinery, Resources
from app.ops.limiter_routes import limiter_state
from app.ops.rollout_routes import rollout_counted
from app.ops.support_routes import limiter_for_support, settings_for_support
from app.receive.routes import Readiness
from app.settings import Settings
from telemetry.metrics import resident_bytes
from telemetry.redaction import redaction


def support_now(
    settings: Settings, resources: Resources, machinery: Machinery, readiness: Callable[[], Readiness]
) -> Callable[[], Mapping[str, Any]]:
    """Return what makes the document; the server starts now."""
    shown_settings = redaction(settings.secrets).of(settings_for_support(settings.masked()))
    started_at, started = datetime.now(UTC).isoformat(timespec="seconds"), time.monotonic()

    def now() -> Mapping[str, Any]:
        ready = readiness()
        return {
            "started_at": started_at,
            "uptime_seconds": round(time.monotonic() - started, 3),
            "readiness": {"status": ready.status, "degraded": list(ready.degraded)},
            "now": _figures(resources, machinery),
            "limiter": limiter_for_support(limiter_state(machinery.limiter)),
            "breakers": {each.target: each.state for each in (resources.breakers.model, resources.breakers.database)},
            "upstreams": {target: asdict(resources.pools.statistics(target)) for target in ("model", "database")},
            "outbox": None if resources.outbox is None else asdict(resources.outbox.statistics()),
            "rollout": rollout_counted(machinery.rollout.rules),
            "settings": shown_settings,
            "errors": resources.errors.newest(),
        }

    return now


def _figures(resources: Resources, machinery: Machinery) -> dict[str, Any]:
    """Return what goes on at once; the users are counted elsewhere, since that takes milliseconds."""
    return {
        "turns_inflight": machinery.turns.in_flight(),
        "connections": machinery.edge.connections(),
        "tasks": trio.lowlevel.current_statistics().tasks_living,
        "memory_bytes": resident_bytes(),
        "turn_log_dropped": resources.turn_log.dropped if resources.turn_log else 0,
        "refusals": machinery.limits.refusals.counts(),
        "model_failures": resources.steering.failures(),
    }
