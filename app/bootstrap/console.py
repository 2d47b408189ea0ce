"""What `/ops/console` reads from the parts, at each request and at one moment: nothing here waits or asks a host."""

from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

from app.bootstrap.outbox import is_behind
from app.bootstrap.parts import Machinery, Resources
from app.ops.console_state import (
    CONSIDERED,
    OUTBOX_OFF,
    Dependency,
    grafana_link,
    jaeger_link,
    of_database,
    of_identity,
    of_model,
    of_outbox,
    slowest,
)
from app.ops.limiter_routes import limiter_state
from app.ops.recent_turns import shown_turn
from app.receive.routes import Readiness
from app.save.outbox_file import Outbox
from app.settings import Settings


def console_now(
    settings: Settings, resources: Resources, machinery: Machinery, readiness: Callable[[], Readiness]
) -> Callable[[], Mapping[str, Any]]:
    """Return what makes the document, without whose it is."""
    fixed = {"auth": settings.auth, "model": resources.model.chat.name, "links": _links(settings)}

    def now() -> Mapping[str, Any]:
        turns = machinery.recent.newest(CONSIDERED)
        outbox = resources.outbox
        return {
            **fixed,
            "status": readiness().status,
            "dependencies": [asdict(each) for each in _dependencies(settings, resources)],
            "limiter": {"reverts_on_restart": True, **limiter_state(machinery.limiter)},
            "outbox": None if outbox is None else asdict(outbox.statistics()),
            "turns": {"considered": len(turns), "slowest": [shown_turn(turn) for turn in slowest(turns)]},
        }

    return now


def _links(settings: Settings) -> dict[str, str | None]:
    return {
        "jaeger": settings.jaeger_url and jaeger_link(settings.jaeger_url),
        "grafana": settings.grafana_url and grafana_link(settings.grafana_url),
    }


def _dependencies(settings: Settings, resources: Resources) -> list[Dependency]:
    model, breakers, keys = resources.model, resources.breakers, resources.keys
    return [
        of_model(breakers.model.state, ready=model.ready(), embedded=settings.embedded_model is not None),
        of_database(breakers.database.state, embedded=settings.embedded_database),
        of_identity(None if keys is None else (keys.arrived, keys.degraded)),
        _outbox(resources.outbox),
    ]


def _outbox(outbox: Outbox | None) -> Dependency:
    if outbox is None:
        return OUTBOX_OFF
    now = outbox.statistics()
    return of_outbox(paused=now.paused, has_room=outbox.has_room(), behind=is_behind(now))
