"""The routes of front ends and of load balancers. Thin: who asks, what they ask, follow the turn, reply."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

from quart import Blueprint, Response, request

from app.edge.application import json_response, read_json_body, reply_language, request_facts
from app.edge.turns import TurnEnd, Turns
from app.errors import Fault
from app.receive.identity import Identity
from app.receive.payload import PayloadRules, parse_agent, parse_chat
from app.respond.agent_body import agent_body
from app.respond.chat_body import chat_body, server_timing
from app.respond.language import Language
from app.respond.problem import problem_body, problem_headers
from app.turn import TurnOutcome, TurnRequest
from telemetry.stage_clock import StageClock


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


def chat_routes(identity: Identity, turns: Turns, rules: PayloadRules) -> Blueprint:
    """Return `POST /chat`."""
    routes = Blueprint("chat", __name__)

    @routes.post("/chat")
    async def chat() -> Response:
        user_id = await _user(identity)
        turn = parse_chat(await read_json_body(), user_id, rules)
        await identity.admit(user_id)
        return _reply(turn, await turns.follow(turn, request_facts().trace_id), chat_body)

    return routes


def agent_routes(identity: Identity, turns: Turns, rules: PayloadRules, status: Mapping[str, Any]) -> Blueprint:
    """Return `POST /conversation-agent/chat`, and `GET /conversation-agent/status`, which answers `status`."""
    routes = Blueprint("agent", __name__)

    @routes.post("/conversation-agent/chat")
    async def agent_chat() -> Response:
        user_id = await _user(identity)
        turn, debug = parse_agent(await read_json_body(), user_id, rules)
        await identity.admit(user_id)
        body = partial(agent_body, turn, debug=debug)
        return _reply(turn, await turns.follow(turn, request_facts().trace_id), body)

    @routes.get("/conversation-agent/status")
    async def agent_status() -> Response:
        await _user(identity)
        return json_response(status)

    return routes


async def _user(identity: Identity) -> str:
    return await identity.user(request.headers.get("authorization", ""), request.headers.get("host", ""))


class Body(Protocol):
    """Makes the body of an answered turn."""

    def __call__(
        self, outcome: TurnOutcome, clock: StageClock, trace_id: str, language: Language, now_ns: int
    ) -> dict[str, Any]:
        """Return it, ready for JSON."""


def _reply(turn: TurnRequest, end: TurnEnd, body_of: Body) -> Response:
    trace_id, language = request_facts().trace_id, reply_language()
    if isinstance(end.result, Fault):
        metrics = end.clock.performance_metrics()
        body = problem_body(end.result, trace_id, language, turn_id=turn.turn_id, performance_metrics=metrics)
        response = json_response(body, end.result.kind.status)
        response.headers.update(problem_headers(end.result))
    else:
        response = json_response(body_of(end.result, end.clock, trace_id, language, time.time_ns()))
    response.headers["server-timing"] = server_timing(end.clock)
    return response
