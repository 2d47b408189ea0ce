"""The composition root: the only file that picks real clients or embedded ones, and joins the parts."""

import logging
import os
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import httpx
import trio
from quart_trio import QuartTrio

from app.admit.door import Door
from app.admit.gate import Gate
from app.admit.rollout import Rollout, RolloutRules, Share
from app.chat_turn import ChatTurn
from app.clients.in_process import InProcessTransport
from app.clients.openai import OpenAIModel
from app.clients.ports import ChatModel, Database
from app.clients.supabase import SupabaseDatabase
from app.edge.application import allow_origins, build_application
from app.edge.observe import Observe
from app.edge.serve import DrainRules, Edge, listener_url, open_listener
from app.edge.turns import Turns
from app.embedded import local_model
from app.embedded.postgrest import EmbeddedDatabaseError, open_embedded_supabase
from app.embedded.scripted_model import MODEL_NAME as SCRIPTED_NAME
from app.embedded.scripted_model import ScriptedModel
from app.errors import StartError
from app.fetch.grounding import GroundingFetch
from app.fetch.history import HistoryFetch
from app.fetch.project import ProjectFetch
from app.fetch.prompt import PromptRules
from app.generate.agent_speaker import AgentSpeaker
from app.generate.model_call import Generate, ModelRules
from app.generate.speaker import TutorSpeaker
from app.ops.recent_turns import RecentTurns
from app.ops.rollout_routes import rollout_routes
from app.ops.routes import OpsRules, ops_routes
from app.receive.identity import DevIdentity
from app.receive.payload import PayloadRules
from app.receive.routes import Readiness, agent_routes, chat_routes, health_routes
from app.respond.agent_body import agent_status
from app.save.turn_record import Save
from app.settings import EMBEDDED_SUPABASE_URL, Settings, otel_disabled, otel_exports, otel_span_queue
from app.turn import Feature
from app.welcome import Welcome
from telemetry import names
from telemetry.active_users import ActiveUsers
from telemetry.http_client import traced_transport
from telemetry.logs import forget_unwritten
from telemetry.metrics import build_instruments, watch, watch_memory
from telemetry.openmetrics import Scrape
from telemetry.providers import DEFAULT_SPAN_QUEUE, Providers, build_providers
from telemetry.turn_trace import TurnFacts, TurnTelemetry

log = logging.getLogger(__name__)

VERSION = "0.1.0"
OPENAI_URL = "https://api.openai.com/v1"
SCRIPTED_URL = "http://scripted-model.embedded/v1"
PROMPT_FILE = Path(__file__).parent / "fetch" / "tutor_prompt.txt"
MAX_TOKENS, PROMPT_MAX_CHARS = 800, 48_000
"""For any model but the local one, whose context holds less."""
TELEMETRY_FLUSH_S = 5.0
LAST_ANSWERS_S = 1.0
"""Beside their saves, of the question and of the answer, what turns that outlast the drain have to say so."""
LAST_SAVES_S = 5.0
"""After the drain, turns whose clients are gone have this long for their saves."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChosenModel:
    """The model that serves: its client, its bounds, whether it can be asked now, and what a newcomer is told of it.

    `slots` is how many answers it gives at once, None for as many as are asked for; `studies`, whether the agent may
    have it work out a state and plan beside its replies.
    """

    chat: ChatModel
    max_tokens: int = MAX_TOKENS
    prompt_max_chars: int = PROMPT_MAX_CHARS
    slots: int | None = None
    studies: bool = True
    ready: Callable[[], bool] = lambda: True
    wait_ready: Callable[[], Awaitable[None]] = trio.lowlevel.checkpoint
    remark: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """The server's parts, joined: what serving and tests need hold of."""

    app: Observe
    quart: QuartTrio
    edge: Edge
    door: Door
    gate: Gate
    turns: Turns
    recent: RecentTurns


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
    providers = _providers(instance)
    try:
        async with (
            trio.open_nursery() as services,
            open_database(settings, services, providers) as database,
            open_model(settings, services, providers) as model,
        ):
            async with trio.open_nursery() as turn_nursery:
                parts = join(settings, providers, database, model, turn_nursery, instance)
                extend(parts)
                async with trio.open_nursery() as edge:
                    await edge.start(parts.edge.serve, parts.app, listener, _drain_rules(settings, parts))
                    log.info("server.listening", extra={"url": url, "instance": instance, "pid": os.getpid()})
                    services.start_soon(_welcome, settings, model, url, say)
                turn_nursery.cancel_scope.deadline = trio.current_time() + LAST_SAVES_S
            services.cancel_scope.cancel()
    finally:
        await providers.shutdown(TELEMETRY_FLUSH_S)
    log.info("server.stopped", extra={"instance": instance})
    forget_unwritten()


def _drain_rules(settings: Settings, parts: Parts) -> DrainRules:
    return DrainRules(
        grace_s=settings.drain_grace,
        timeout_s=settings.graceful_timeout,
        last_call_s=min(settings.graceful_timeout / 2, 2 * settings.db_save_timeout + LAST_ANSWERS_S),
        on_drain=partial(setattr, parts.door, "draining", True),
        on_last_call=parts.turns.end,
    )


async def _welcome(settings: Settings, model: ChosenModel, url: str, say: Callable[[str], None]) -> None:
    await model.wait_ready()
    database = f"embedded, {settings.data_dir / 'supabase.sqlite3'}" if settings.embedded_database else "Supabase"
    say(Welcome(url=url, model=model.chat.name, remark=model.remark, database=database).text())


def _providers(instance: str) -> Providers:
    return build_providers(
        service_version=VERSION,
        instance=instance,
        traces_endpoint_set=otel_exports("traces"),
        metrics_endpoint_set=otel_exports("metrics"),
        sdk_disabled=otel_disabled(),
        span_queue_max=otel_span_queue() or DEFAULT_SPAN_QUEUE,
    )


@asynccontextmanager
async def open_database(settings: Settings, services: trio.Nursery, providers: Providers) -> AsyncIterator[Database]:
    """Yield the database: the configured Supabase project, or the embedded one under `DATA_DIR`.

    Raises:
        StartError: the embedded database's file cannot be opened or written.
    """
    if settings.supabase_url and settings.supabase_key:
        limits = httpx.Limits(max_connections=settings.supabase_max_connections)
        async with _client(httpx.AsyncHTTPTransport(limits=limits), providers) as client:
            yield SupabaseDatabase(client, settings.supabase_url, settings.supabase_key.get_secret_value())
        return
    try:
        async with (
            open_embedded_supabase(settings.data_dir / "supabase.sqlite3") as embedded,
            _client(InProcessTransport(embedded, services), providers) as client,
        ):
            yield SupabaseDatabase(client, EMBEDDED_SUPABASE_URL, "embedded")
    except EmbeddedDatabaseError as exc:
        raise StartError(f"DATA_DIR: {exc}") from None


def _client(
    transport: httpx.AsyncBaseTransport, providers: Providers, *, send_traceparent: bool = True
) -> httpx.AsyncClient:
    """Return a client without timeouts of its own (the stages' deadlines end slow calls), and without proxies."""
    traced = traced_transport(transport, tracer_provider=providers.tracer_provider, send_traceparent=send_traceparent)
    return httpx.AsyncClient(transport=traced, timeout=None)  # noqa: S113 - see above


@asynccontextmanager
async def open_model(settings: Settings, services: trio.Nursery, providers: Providers) -> AsyncIterator[ChosenModel]:
    """Yield the model: the configured one, else the embedded one, whose tasks live in `services`."""
    missing = local_model.local_model_missing() if settings.embedded_model == "local" else None
    make: Callable[[httpx.AsyncClient], ChosenModel]
    if settings.embedded_model is None:
        # The limiter bounds the calls; a pool of its own would make some of them wait where nobody sees it.
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=settings.openai_api_pool_size)
        transport: httpx.AsyncBaseTransport = httpx.AsyncHTTPTransport(limits=limits)
        make = partial(_outside_model, settings)
    elif settings.embedded_model == "local" and missing is None:
        local = local_model.LocalModel()
        services.start_soon(local.run)
        transport = local.transport(httpx.AsyncHTTPTransport(trust_env=False))
        make = partial(_local_model, local)
    else:
        transport = InProcessTransport(ScriptedModel(), services)
        make = partial(_scripted_model, missing)
    async with _client(transport, providers, send_traceparent=False) as client:
        yield make(client)


def _outside_model(settings: Settings, client: httpx.AsyncClient) -> ChosenModel:
    key = settings.openai_api_key.get_secret_value() if settings.openai_api_key else ""
    base_url = settings.openai_base_url or OPENAI_URL
    provider = "openai" if base_url == OPENAI_URL else ""
    return ChosenModel(chat=OpenAIModel(client, base_url, key, settings.openai_model, provider))


def _scripted_model(missing: str | None, client: httpx.AsyncClient) -> ChosenModel:
    if missing:
        log.warning("local_model.missing", extra={"reason": missing, "instead": SCRIPTED_NAME})
    remark = f"NOT A REAL MODEL: {missing}" if missing else "not a real model: a deterministic script for first looks"
    return ChosenModel(chat=OpenAIModel(client, SCRIPTED_URL, "", SCRIPTED_NAME), remark=remark)


def _local_model(local: local_model.LocalModel, client: httpx.AsyncClient) -> ChosenModel:
    return ChosenModel(
        chat=OpenAIModel(client, local_model.LOCAL_MODEL_URL, "", local_model.MODEL_NAME),
        max_tokens=local_model.MAX_TOKENS,
        prompt_max_chars=local_model.PROMPT_MAX_CHARS,
        slots=local_model.SLOTS,
        studies=False,
        ready=lambda: local.state == "ready",
        wait_ready=local.wait_ready,
        remark="a tiny English demo model; set OPENAI_BASE_URL (and OPENAI_API_KEY) for real use",
    )


def join(
    settings: Settings,
    providers: Providers,
    database: Database,
    model: ChosenModel,
    turn_nursery: trio.Nursery,
    instance: str,
) -> Parts:
    """Join the parts of a server; nothing runs yet."""
    door = Door(model.ready)
    slots = min(settings.openai_api_pool_size, model.slots or settings.openai_api_pool_size)
    gate = Gate(slots, settings.llm_queue_timeout)
    chat_turns = _chat_turns(settings, database, model, door, gate)
    rollout = Rollout(_rollout_rules(settings))
    instruments = build_instruments(providers.meter)
    recent, users = RecentTurns(), ActiveUsers(time.monotonic)
    telemetry = TurnTelemetry(
        tracer=providers.tracer,
        instruments=instruments,
        user_key=_user_key(settings),
        active_users=users,
        listeners=(recent.add, _log_turn),
    )
    turns = Turns(turn_nursery, chat_turns, telemetry, rollout.plan)
    edge = Edge(
        max_connections=settings.max_connections,
        send_timeout_s=settings.client_send_timeout,
        refused=lambda reason: instruments.edge_refusals.add(1, {names.REASON: reason}),
        dropped=lambda reason: instruments.edge_drops.add(1, {names.REASON: reason}),
    )
    _watch(providers, gate, turns, edge, door, users)
    quart = _application(settings, providers, database, model, turns, door, recent, rollout, instance)
    app = Observe(quart, providers.tracer, instruments.http_duration, settings.trusted_networks)
    return Parts(app=app, quart=quart, edge=edge, door=door, gate=gate, turns=turns, recent=recent)


def _rollout_rules(settings: Settings) -> RolloutRules:
    return RolloutRules(
        chat=Share(optimized=settings.use_optimized_chat, percent=settings.chat_canary_percent),
        agent=Share(optimized=settings.use_optimized_agent, percent=settings.agent_canary_percent),
        by=settings.canary_by,
        users=frozenset(filter(None, (user.strip() for user in settings.canary_users.split(",")))),
    )


def _chat_turns(
    settings: Settings, database: Database, model: ChosenModel, door: Door, gate: Gate
) -> dict[Feature, ChatTurn]:
    history = HistoryFetch(
        database,
        newest=settings.chat_history_limit_default,
        newest_for_long=settings.chat_history_limit_max,
    )
    rules = ModelRules(
        max_tokens=settings.openai_max_tokens or model.max_tokens,
        temperature=settings.openai_temperature,
        first_token_s=settings.llm_first_token_timeout,
        idle_s=settings.llm_idle_timeout,
        whole_s=settings.llm_timeout,
    )
    generate = Generate(model.chat, rules)
    stages = partial(
        ChatTurn,
        door=door,
        fetch=GroundingFetch(history, ProjectFetch(database), settings.db_fetch_timeout),
        prompt_rules=PromptRules(_instructions(settings), settings.chat_prompt_max_chars or model.prompt_max_chars),
        gate=gate,
        save=Save(database, settings.db_save_timeout),
        timeout_s=settings.turn_timeout,
    )
    return {
        "chat": stages(speaker=TutorSpeaker(generate)),
        "agent": stages(speaker=AgentSpeaker(generate, gate, studies=model.studies)),
    }


def _instructions(settings: Settings) -> str:
    path = settings.system_prompt_file or PROMPT_FILE
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        raise StartError(f"SYSTEM_PROMPT_FILE: cannot read {path}: {exc}") from None


def _application(
    settings: Settings,
    providers: Providers,
    database: Database,
    model: ChosenModel,
    turns: Turns,
    door: Door,
    recent: RecentTurns,
    rollout: Rollout,
    instance: str,
) -> QuartTrio:
    def readiness() -> Readiness:
        return Readiness(status="draining" if door.draining else "ready" if model.ready() else "loading")

    token = settings.ops_token.get_secret_value() if settings.ops_token else None
    ops = OpsRules(token=token, on_loopback=settings.on_loopback, instance=instance)
    enabled = settings.enable_conversation_agent
    payload = PayloadRules(settings.max_chat_message_length, settings.chat_history_limit_max if enabled else None)
    identity = DevIdentity(database, make_users=settings.embedded_database, timeout_s=settings.db_fetch_timeout)
    front_end = [
        health_routes(readiness),
        chat_routes(identity, turns, payload),
        agent_routes(identity, turns, payload, agent_status(enabled=enabled, model=model.chat.name)),
    ]
    return build_application(
        [
            *(allow_origins(blueprint, settings.cors_origins) for blueprint in front_end),
            ops_routes(ops, recent, settings.masked, Scrape(providers.scrape).page),
            rollout_routes(ops, rollout),
        ],
        max_body_bytes=settings.max_body_bytes,
        body_timeout_s=settings.body_timeout,
    )


def _watch(providers: Providers, gate: Gate, turns: Turns, edge: Edge, door: Door, users: ActiveUsers) -> None:
    meter, fixed = providers.meter, {names.MODE: "fixed"}
    watch(meter, names.LIMITER_TOTAL_GAUGE, lambda: gate.statistics().total, "Slots of the model limiter.", fixed)
    watch(meter, names.LIMITER_BORROWED_GAUGE, lambda: gate.statistics().borrowed, "Slots in use.", fixed)
    watch(meter, names.LIMITER_WAITING_GAUGE, lambda: gate.statistics().waiting, "Turns that wait for a slot.", fixed)
    watch(meter, names.TURNS_INFLIGHT, turns.in_flight, "Turns that run now.")
    watch(meter, names.CONNECTIONS, edge.connections, "Connections of clients that are open now.")
    watch(meter, names.DRAINING, lambda: float(door.draining), "1 while the server drains.")
    watch(meter, names.USERS_ACTIVE, users.count, "Distinct users in the last five minutes, estimated.")
    watch_memory(meter)


def _user_key(settings: Settings) -> bytes:
    if settings.telemetry_hash_key:
        return settings.telemetry_hash_key.get_secret_value().encode()[:64]
    log.warning("telemetry.hash_key.random", extra={"hint": "set TELEMETRY_HASH_KEY to keep user hashes over restarts"})
    return secrets.token_bytes(32)


def _log_turn(facts: TurnFacts) -> None:
    log.info("turn.finished", extra=asdict(facts))
