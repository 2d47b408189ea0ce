"""The routes of front ends and of load balancers. Thin: who asks, what they ask, follow the turn, reply."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from quart import Blueprint, Response

from app.edge.application import json_response, read_json_body, request_facts
from app.edge.turns import Turns
from app.errors import Fault
from app.receive.identity import Identity
from app.receive.limits import TurnLimit
from app.receive.payload import PayloadRules, parse_agent
from app.receive.replies import idempotency_key, reply, user_of
from app.receive.streaming import refused, streamed, turn_asked
from app.respond.agent_body import agent_body
from app.respond.chat_body import chat_body


@dataclass(frozen=True, slots=True, kw_only=True)
class Readiness:
    """What `/readyz` says: `status` is ready, loading or draining."""

    status: str
    degraded: tuple[str, ...] = ()


def health_routes(readiness: Callable[[], Readiness]) -> Blueprint:
    """Return `/healthz` (the process lives) and `/readyz` (it can serve). Words only."""
    routes = Blueprint("health", __name__)

    @routes.get("/healthz")
    async def healthz() -> Response:
        return json_response({"status": "alive"})

    @routes.get("/readyz")
    async def readyz() -> Response:
        now = readiness()
        body = {"status": now.status, "degraded": list(now.degraded)}
        return json_response(body, 200 if now.status == "ready" else 503)

    return routes


def chat_routes(identity: Identity, turns: Turns, rules: PayloadRules, limit: TurnLimit) -> Blueprint:
    """Return `POST /chat`: our body is answered as JSON, the AI SDK's as a stream."""
    routes = limit.told_by(Blueprint("chat", __name__))
    routes.register_error_handler(Fault, refused)

    @routes.post("/chat")
    async def chat() -> Response:
        user_id = await user_of(identity)
        turn, for_sdk = await turn_asked(user_id, rules)
        await identity.admit(user_id)
        limit.spend(user_id)
        if for_sdk:
            return await streamed(turns, turn, for_sdk=True)
        return reply(turn, await turns.follow(turn, request_facts().trace_id), chat_body)

    return routes


def agent_routes(
    identity: Identity, turns: Turns, rules: PayloadRules, limit: TurnLimit, status: Mapping[str, Any]
) -> Blueprint:
    """Return `POST /conversation-agent/chat`, and `GET /conversation-agent/status`, which answers `status`."""
    routes = limit.told_by(Blueprint("agent", __name__))

    @routes.post("/conversation-agent/chat")
    async def agent_chat() -> Response:
        user_id = await user_of(identity)
        turn, debug = parse_agent(await read_json_body(), user_id, rules, idempotency_key())
        await identity.admit(user_id)
        limit.spend(user_id)
        body = partial(agent_body, turn, debug=debug)
        return reply(turn, await turns.follow(turn, request_facts().trace_id), body)

    @routes.get("/conversation-agent/status")
    async def agent_status() -> Response:
        await user_of(identity)
        return json_response(status)

    return routes
