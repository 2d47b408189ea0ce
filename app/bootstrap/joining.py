"""The parts of a server, joined around a database and a model; nothing runs yet."""

import logging
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path

import trio
from quart_trio import QuartTrio

from app.admit.adaptive import LimitBounds
from app.admit.door import Door
from app.admit.gate import Gate
from app.admit.limiter import MOST, Limiter
from app.admit.rollout import Rollout, RolloutRules, Share
from app.admit.steered_model import Steering
from app.bootstrap.outbox import is_degraded
from app.bootstrap.upstreams import Breakers, ChosenModel
from app.chat_turn import ChatTurn
from app.clients.ports import Database
from app.edge.application import allow_origins, build_application
from app.edge.observe import Observe
from app.edge.serve import Edge
from app.edge.turns import Turns
from app.errors import OverloadFault, StartError
from app.fetch.earlier import EarlierFetch
from app.fetch.grounding import GroundingFetch
from app.fetch.history import ConversationReader, HistoryFetch
from app.fetch.project import ProjectFetch
from app.fetch.prompt import PromptRules
from app.generate.agent_speaker import AgentSpeaker
from app.generate.model_call import Generate, ModelRules
from app.generate.speaker import TutorSpeaker
from app.ops.limiter_routes import limiter_routes
from app.ops.outbox_routes import outbox_routes
from app.ops.recent_turns import RecentTurns
from app.ops.rollout_routes import rollout_routes
from app.ops.routes import OpsRules, ops_routes
from app.ops.turn_log import TurnLog
from app.receive.history_routes import history_routes
from app.receive.identity import DevIdentity
from app.receive.payload import PayloadRules
from app.receive.routes import Readiness, agent_routes, chat_routes, health_routes
from app.receive.stream_routes import stream_routes
from app.respond.agent_body import agent_status
from app.save.outbox_file import Outbox
from app.save.turn_record import Save
from app.settings import Settings
from app.turn import Feature
from telemetry import names
from telemetry.active_users import ActiveUsers
from telemetry.metrics import Instruments, build_instruments, watch, watch_counts, watch_each, watch_memory
from telemetry.openmetrics import Scrape
from telemetry.providers import Providers
from telemetry.turn_trace import TurnFacts, TurnTelemetry

log = logging.getLogger(__name__)

PROMPT_FILE = Path(__file__).parents[1] / "fetch" / "tutor_prompt.txt"


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


def join(
    settings: Settings,
    providers: Providers,
    database: Database,
    model: ChosenModel,
    turn_nursery: trio.Nursery,
    instance: str,
    breakers: Breakers | None = None,
    outbox: Outbox | None = None,
    turn_log: TurnLog | None = None,
    steering: Steering | None = None,
) -> Parts:
    """Join the parts of a server; nothing runs yet. `steering` is of the model's host, where `model` tells it."""
    instruments = build_instruments(providers.meter)
    gate = _gate(settings, model)
    limiter = _limiter(settings, model, gate, steering or Steering())
    check_queue = partial(_check_queue, gate, instruments)
    door = Door(model.ready, outbox.has_room if outbox else lambda: True, check_queue)
    chat_turns = _chat_turns(settings, database, outbox, model, door, gate)
    rollout = Rollout(_rollout_rules(settings), on_rollback=limiter.roll_back)
    recent, users = RecentTurns(), ActiveUsers(time.monotonic)
    telemetry = TurnTelemetry(
        tracer=providers.tracer,
        instruments=instruments,
        user_key=_user_key(settings),
        active_users=users,
        listeners=(recent.add, _log_turn, *([turn_log.add] if turn_log else ())),
    )
    turns = Turns(turn_nursery, chat_turns, telemetry, rollout.plan)
    edge = Edge(
        max_connections=settings.max_connections,
        send_timeout_s=settings.client_send_timeout,
        refused=lambda reason: instruments.edge_refusals.add(1, {names.REASON: reason}),
        dropped=lambda reason: instruments.edge_drops.add(1, {names.REASON: reason}),
    )
    breakers = breakers or Breakers()
    _watch(providers, limiter, turns, edge, door, users, breakers)
    quart = _application(
        settings, providers, database, model, turns, door, recent, rollout, limiter, instance, breakers, outbox
    )
    app = Observe(quart, providers.tracer, instruments.http_duration, settings.trusted_networks)
    return Parts(app=app, quart=quart, edge=edge, door=door, gate=gate, turns=turns, recent=recent)


def _gate(settings: Settings, model: ChosenModel) -> Gate:
    return Gate(
        min(settings.openai_api_pool_size, model.slots or settings.openai_api_pool_size),
        settings.llm_queue_timeout,
        queue_max=settings.llm_queue_max,
        per_user_max=settings.llm_per_user_max,
    )


def _limiter(settings: Settings, model: ChosenModel, gate: Gate, steering: Steering) -> Limiter:
    bounds = LimitBounds(minimum=settings.llm_limiter_min, maximum=settings.llm_limiter_max)
    return Limiter(gate, steering, settings.llm_limiter_mode, bounds, most=model.slots or MOST)


def _check_queue(gate: Gate, instruments: Instruments) -> None:
    """Refuse at the door who would be refused at the gate; the metric of waits has both."""
    try:
        gate.check()
    except OverloadFault:
        instruments.limiter_wait.record(0.0, {names.OUTCOME: "shed"})
        raise


def _rollout_rules(settings: Settings) -> RolloutRules:
    return RolloutRules(
        chat=Share(optimized=settings.use_optimized_chat, percent=settings.chat_canary_percent),
        agent=Share(optimized=settings.use_optimized_agent, percent=settings.agent_canary_percent),
        by=settings.canary_by,
        users=frozenset(filter(None, (user.strip() for user in settings.canary_users.split(",")))),
    )


def _chat_turns(
    settings: Settings, database: Database, outbox: Outbox | None, model: ChosenModel, door: Door, gate: Gate
) -> dict[Feature, ChatTurn]:
    history = HistoryFetch(
        ConversationReader(database, outbox),
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
        fetch=GroundingFetch(
            history, ProjectFetch(database), EarlierFetch(database, outbox), settings.db_fetch_timeout
        ),
        prompt_rules=PromptRules(
            _instructions(settings),
            settings.chat_prompt_max_chars or model.prompt_max_chars,
            settings.chat_history_limit_default,
            settings.chat_history_limit_max,
        ),
        gate=gate,
        save=Save(database, settings.db_save_timeout, outbox, settings.save_mode),
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
    limiter: Limiter,
    instance: str,
    breakers: Breakers,
    outbox: Outbox | None,
) -> QuartTrio:
    def readiness() -> Readiness:
        status = "draining" if door.draining else "ready" if model.ready() else "loading"
        return Readiness(status=status, degraded=(*breakers.degraded(), *(("outbox",) if is_degraded(outbox) else ())))

    token = settings.ops_token.get_secret_value() if settings.ops_token else None
    ops = OpsRules(token=token, on_loopback=settings.on_loopback, instance=instance)
    enabled = settings.enable_conversation_agent
    payload = PayloadRules(
        settings.max_chat_message_length,
        settings.chat_history_limit_max if enabled else None,
        settings.on_disconnect,
    )
    identity = DevIdentity(database, make_users=settings.embedded_database, timeout_s=settings.db_fetch_timeout)
    front_end = [
        health_routes(readiness),
        chat_routes(identity, turns, payload),
        stream_routes(identity, turns, payload),
        history_routes(identity, turns, ConversationReader(database, outbox), settings.db_fetch_timeout),
        agent_routes(identity, turns, payload, agent_status(enabled=enabled, model=model.chat.name)),
    ]
    return build_application(
        [
            *(allow_origins(blueprint, settings.cors_origins) for blueprint in front_end),
            ops_routes(ops, recent, settings.masked, Scrape(providers.scrape).page),
            rollout_routes(ops, rollout),
            limiter_routes(ops, limiter),
            *([outbox_routes(ops, outbox)] if outbox else ()),
        ],
        max_body_bytes=settings.max_body_bytes,
        body_timeout_s=settings.body_timeout,
    )


def _watch(
    providers: Providers, limiter: Limiter, turns: Turns, edge: Edge, door: Door, users: ActiveUsers, breakers: Breakers
) -> None:
    meter, gate = providers.meter, limiter.gate

    def mode() -> Mapping[str, str]:
        return {names.MODE: limiter.mode}

    watch(meter, names.LIMITER_TOTAL_GAUGE, lambda: gate.total, "Slots of the model limiter.", mode)
    watch(meter, names.LIMITER_BORROWED_GAUGE, lambda: gate.inflight, "Slots in use.", mode)
    watch(meter, names.LIMITER_WAITING_GAUGE, lambda: gate.waiting, "Turns that wait for a slot.", mode)
    changes = "Changes of the number of slots."
    watch_counts(meter, names.LIMITER_CHANGES, names.REASON, lambda: gate.statistics().changes, changes)
    not_taken = "Model calls that the host was too busy for, that its quotas refused, or that were not sent for these."
    watch_counts(meter, names.PACER_REFUSALS, names.REASON, limiter.steering.not_taken_calls, not_taken)
    watch(meter, names.PACER_WAITING_GAUGE, limiter.steering.paced, "Model calls that wait for the host's quotas.")
    failures = "Attempts at a model call that failed, by the host's code or by what broke."
    watch_counts(meter, names.UPSTREAM_REJECTIONS, names.CODE, limiter.steering.failures, failures)
    watch(meter, names.TURNS_INFLIGHT, turns.in_flight, "Turns that run now.")
    watch(meter, names.CONNECTIONS, edge.connections, "Connections of clients that are open now.")
    watch(meter, names.DRAINING, lambda: float(door.draining), "1 while the server drains.")
    watch(meter, names.USERS_ACTIVE, users.count, "Distinct users in the last five minutes, estimated.")
    states = {each.target: each.state_value for each in (breakers.model, breakers.database)}
    watch_each(meter, names.BREAKER_STATE, names.TARGET, states, "0 closed, 1 half-open, 2 open.")
    watch_memory(meter)


def _user_key(settings: Settings) -> bytes:
    if settings.telemetry_hash_key:
        return settings.telemetry_hash_key.get_secret_value().encode()[:64]
    log.warning("telemetry.hash_key.random", extra={"hint": "set TELEMETRY_HASH_KEY to keep user hashes over restarts"})
    return secrets.token_bytes(32)


_FACTS = tuple(field.name for field in fields(TurnFacts) if field.name != "gate")


def _log_turn(facts: TurnFacts) -> None:
    log.info("turn.finished", extra={name: getattr(facts, name) for name in _FACTS})
