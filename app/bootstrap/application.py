"""The server's addresses: every route, with what stands behind it."""

from quart import Blueprint
from quart_trio import QuartTrio

from app.bootstrap.outbox import is_degraded
from app.bootstrap.parts import Machinery, Resources
from app.edge.application import allow_origins, build_application
from app.fetch.history import ConversationReader
from app.ops.limiter_routes import limiter_routes
from app.ops.outbox_routes import outbox_routes
from app.ops.rollout_routes import rollout_routes
from app.ops.routes import OpsRules, ops_routes
from app.receive.history_routes import history_routes
from app.receive.identity import DevIdentity
from app.receive.payload import PayloadRules
from app.receive.routes import Readiness, agent_routes, chat_routes, health_routes
from app.receive.stream_routes import stream_routes
from app.respond.agent_body import agent_status
from app.settings import Settings
from telemetry.openmetrics import Scrape
from telemetry.providers import Providers


def address_all(
    settings: Settings, providers: Providers, resources: Resources, machinery: Machinery, instance: str
) -> QuartTrio:
    """Return the application with all routes."""
    return build_application(
        [
            *(
                allow_origins(blueprint, settings.cors_origins)
                for blueprint in _of_front_ends(settings, resources, machinery)
            ),
            *_of_ops(settings, providers, resources, machinery, instance),
        ],
        max_body_bytes=settings.max_body_bytes,
        body_timeout_s=settings.body_timeout,
    )


def _of_front_ends(settings: Settings, resources: Resources, machinery: Machinery) -> list[Blueprint]:
    database, outbox = resources.database, resources.outbox
    turns = machinery.turns
    identity = DevIdentity(database, make_users=settings.embedded_database, timeout_s=settings.db_fetch_timeout)
    enabled = settings.enable_conversation_agent
    payload = PayloadRules(
        settings.max_chat_message_length,
        settings.chat_history_limit_max if enabled else None,
        settings.on_disconnect,
    )
    status = agent_status(enabled=enabled, model=resources.model.chat.name)
    return [
        health_routes(lambda: _readiness(resources, machinery)),
        chat_routes(identity, turns, payload),
        stream_routes(identity, turns, payload),
        history_routes(identity, turns, ConversationReader(database, outbox), settings.db_fetch_timeout),
        agent_routes(identity, turns, payload, status),
    ]


def _of_ops(
    settings: Settings, providers: Providers, resources: Resources, machinery: Machinery, instance: str
) -> list[Blueprint]:
    token = settings.ops_token.get_secret_value() if settings.ops_token else None
    ops = OpsRules(token=token, on_loopback=settings.on_loopback, instance=instance)
    return [
        ops_routes(ops, machinery.recent, settings.masked, Scrape(providers.scrape).page),
        rollout_routes(ops, machinery.rollout),
        limiter_routes(ops, machinery.limiter),
        *([outbox_routes(ops, resources.outbox)] if resources.outbox else ()),
    ]


def _readiness(resources: Resources, machinery: Machinery) -> Readiness:
    ready = "ready" if resources.model.ready() else "loading"
    return Readiness(
        status="draining" if machinery.door.draining else ready,
        degraded=(*resources.breakers.degraded(), *(("outbox",) if is_degraded(resources.outbox) else ())),
    )
