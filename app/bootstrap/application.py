"""The server's addresses: every route, with what stands behind it."""

from functools import partial

from quart import Blueprint
from quart_trio import QuartTrio

from app.bootstrap.console import console_now
from app.bootstrap.outbox import is_degraded
from app.bootstrap.parts import Machinery, Resources
from app.bootstrap.support import support_now
from app.clients.ports import Database
from app.contract.routes import contract_routes
from app.edge.application import allow_origins, build_application
from app.fetch.conversations import Conversations
from app.fetch.history import ConversationReader
from app.fetch.history_page import MessagePages
from app.ops.console_routes import console_routes
from app.ops.limiter_routes import limiter_routes
from app.ops.outbox_routes import outbox_routes
from app.ops.rollout_routes import rollout_routes
from app.ops.routes import OpsRules, ops_routes
from app.ops.support_routes import TURNS_SHOWN, support_routes
from app.receive.auth.key_source import Keys
from app.receive.auth.supabase_identity import SupabaseIdentity
from app.receive.auth.tokens import TokenRules
from app.receive.auth_failures import GuardedIdentity
from app.receive.conversation_routes import ConversationDeadlines, conversation_routes
from app.receive.history_routes import history_routes
from app.receive.identity import DevIdentity, Identity
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
    turns, limit = machinery.turns, machinery.limits.turns
    identity = GuardedIdentity(_identity(settings, database, resources.keys), machinery.limits.failures)
    enabled = settings.enable_conversation_agent
    payload = PayloadRules(
        settings.max_chat_message_length,
        settings.chat_history_limit_max if enabled else None,
        settings.on_disconnect,
    )
    pages = MessagePages(database, ConversationReader(database, outbox), outbox)
    deadlines = ConversationDeadlines(fetch_s=settings.db_fetch_timeout, save_s=settings.db_save_timeout)
    status = agent_status(enabled=enabled, model=resources.model.chat.name)
    return [
        health_routes(lambda: _readiness(resources, machinery)),
        contract_routes(),
        chat_routes(identity, turns, payload, limit),
        stream_routes(identity, turns, payload, limit),
        history_routes(identity, turns, pages, settings.db_fetch_timeout),
        conversation_routes(identity, Conversations(database, outbox), deadlines, limit),
        agent_routes(identity, turns, payload, limit, status),
    ]


def _of_ops(
    settings: Settings, providers: Providers, resources: Resources, machinery: Machinery, instance: str
) -> list[Blueprint]:
    token = settings.ops_token.get_secret_value() if settings.ops_token else None
    watch = machinery.limits.failures.watch
    ready, last_turns = partial(_readiness, resources, machinery), partial(machinery.recent.newest, TURNS_SHOWN)
    ops = OpsRules(token=token, on_loopback=settings.on_loopback, instance=instance, watch=watch)
    return [
        ops_routes(ops, machinery.recent, settings.masked, Scrape(providers.scrape).page),
        rollout_routes(ops, machinery.rollout),
        limiter_routes(ops, machinery.limiter),
        *([outbox_routes(ops, resources.outbox)] if resources.outbox else ()),
        support_routes(ops, support_now(settings, resources, machinery, ready), last_turns, machinery.users.count),
        *(console_routes(ops, console_now(settings, resources, machinery, ready)) if settings.console else ()),
    ]


def _readiness(resources: Resources, machinery: Machinery) -> Readiness:
    keys = resources.keys
    ready = "ready" if resources.model.ready() and (keys is None or keys.arrived) else "loading"
    others = {"outbox": is_degraded(resources.outbox), "identity": keys is not None and keys.degraded}
    return Readiness(
        status="draining" if machinery.door.draining else ready,
        degraded=(*resources.breakers.degraded(), *(name for name, degraded in others.items() if degraded)),
    )


def _identity(settings: Settings, database: Database, keys: Keys | None) -> Identity:
    make_users, timeout_s = settings.embedded_database, settings.db_fetch_timeout
    if keys is None:
        return DevIdentity(database, make_users=make_users, timeout_s=timeout_s)
    rules = TokenRules(audience=settings.supabase_jwt_audience, issuer=settings.token_issuer)
    pass_on = settings.supabase_rls_passthrough
    return SupabaseIdentity(keys, rules, database, make_users=make_users, timeout_s=timeout_s, pass_on=pass_on)
