"""The parts of a server, joined around what is open; nothing runs yet."""

import logging
import secrets
import time
from dataclasses import fields
from functools import partial
from pathlib import Path

import trio

from app.admit.adaptive import LimitBounds
from app.admit.door import Door
from app.admit.gate import Gate
from app.admit.limiter import MOST, Limiter
from app.admit.rollout import Rollout, RolloutRules, Share
from app.admit.steered_model import Steering
from app.bootstrap.application import address_all
from app.bootstrap.gauges import start_counts, watch_all
from app.bootstrap.limits import build_limits
from app.bootstrap.parts import Machinery, Parts, Resources
from app.bootstrap.upstreams import ChosenModel
from app.chat_turn import ChatTurn
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
from app.ops.recent_turns import RecentTurns
from app.save.turn_record import Save
from app.settings import Settings, otel_captures_messages
from app.turn import Feature
from telemetry import names
from telemetry.active_users import ActiveUsers
from telemetry.metrics import Instruments, build_instruments
from telemetry.providers import Providers
from telemetry.turn_facts import TurnFacts
from telemetry.turn_trace import TurnTelemetry

log = logging.getLogger(__name__)

PROMPT_FILE = Path(__file__).parents[1] / "fetch" / "tutor_prompt.txt"


def join(
    settings: Settings, providers: Providers, resources: Resources, turn_nursery: trio.Nursery, instance: str
) -> Parts:
    """Join the parts of a server; nothing runs yet."""
    instruments = build_instruments(providers.meter)
    gate = _gate(settings, resources.model)
    limiter = _limiter(settings, resources.model, gate, resources.steering)
    outbox, turn_log = resources.outbox, resources.turn_log
    check_queue = partial(_check_queue, gate, instruments)
    door = Door(resources.model.ready, outbox.has_room if outbox else lambda: True, check_queue)
    chat_turns = _chat_turns(settings, resources, door, gate)
    rollout = Rollout(_rollout_rules(settings), on_rollback=limiter.roll_back)
    recent, users = RecentTurns(), ActiveUsers(time.monotonic)
    telemetry = TurnTelemetry(
        tracer=providers.tracer,
        instruments=instruments,
        user_key=_user_key(settings),
        active_users=users,
        listeners=(recent.add, _log_turn, *([turn_log.add] if turn_log else ())),
    )
    machinery = Machinery(
        turns=Turns(turn_nursery, chat_turns, telemetry, rollout.plan),
        door=door,
        limiter=limiter,
        rollout=rollout,
        limits=build_limits(settings),
        edge=_edge(settings, instruments),
        recent=recent,
        users=users,
    )
    start_counts(instruments)
    watch_all(providers.meter, machinery, resources)
    quart = address_all(settings, providers, resources, machinery, instance)
    app = Observe(quart, providers.tracer, instruments.http_duration, settings.trusted_networks)
    return Parts(app=app, quart=quart, edge=machinery.edge, door=door, gate=gate, turns=machinery.turns, recent=recent)


def _edge(settings: Settings, instruments: Instruments) -> Edge:
    return Edge(
        max_connections=settings.max_connections,
        send_timeout_s=settings.client_send_timeout,
        refused=lambda reason: instruments.edge_refusals.add(1, {names.REASON: reason}),
        dropped=lambda reason: instruments.edge_drops.add(1, {names.REASON: reason}),
    )


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


def _chat_turns(settings: Settings, resources: Resources, door: Door, gate: Gate) -> dict[Feature, ChatTurn]:
    database, outbox, model = resources.database, resources.outbox, resources.model
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
        capture_messages=_captures_messages(),
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


def _captures_messages() -> bool:
    """Return whether what is said goes on spans, and have the log say so: it is other people's."""
    if otel_captures_messages():
        log.warning(
            "telemetry.messages_captured", extra={"hint": "prompts and answers go to the collector as they are"}
        )
        return True
    return False


def _instructions(settings: Settings) -> str:
    path = settings.system_prompt_file or PROMPT_FILE
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        raise StartError(f"SYSTEM_PROMPT_FILE: cannot read {path}: {exc}") from None


def _user_key(settings: Settings) -> bytes:
    if settings.telemetry_hash_key:
        return settings.telemetry_hash_key.get_secret_value().encode()[:64]
    log.warning("telemetry.hash_key.random", extra={"hint": "set TELEMETRY_HASH_KEY to keep user hashes over restarts"})
    return secrets.token_bytes(32)


_FACTS = tuple(field.name for field in fields(TurnFacts) if field.name not in ("gate", "stages"))


def _log_turn(facts: TurnFacts) -> None:
    log.info("turn.finished", extra={name: getattr(facts, name) for name in _FACTS})
