"""What routes have in common: who asks, and the reply to a turn that is over."""

import time
from typing import Any, Protocol

from quart import Response, request

from app.edge.application import json_response, reply_language, request_facts
from app.edge.turn_feed import TurnEnd
from app.errors import Fault
from app.loopback import is_from_here
from app.receive.identity import Identity
from app.respond.chat_body import server_timing
from app.respond.language import Language
from app.respond.problem import problem_body, problem_headers
from app.turn import TurnOutcome, TurnRequest
from telemetry.stage_clock import StageClock

NEXT_BEFORE = "x-next-before"
"""Of a list that goes on: what `before` is for its next page."""


async def user_of(identity: Identity) -> str:
    """Return who sent the current request.

    Raises:
        CallerFault: `unauthenticated`.
    """
    return await identity.user(request.headers.get("authorization", ""), from_here=is_from_here(request.headers))


def idempotency_key() -> str | None:
    """Return the current request's `Idempotency-Key`, if it has one."""
    return request.headers.get("idempotency-key")


class Body(Protocol):
    """Makes the body of an answered turn."""

    def __call__(
        self, outcome: TurnOutcome, clock: StageClock, trace_id: str, language: Language, now_ns: int
    ) -> dict[str, Any]:
        """Return it, ready for JSON."""


def nothing() -> Response:
    """Return an answer without a body."""
    response = Response(b"", 204)
    del response.headers["content-type"], response.headers["content-length"]  # of what there is not (RFC 9110, 8.6)
    return response


def reply(turn: TurnRequest, end: TurnEnd, body_of: Body) -> Response:
    """Return the reply to a turn: its answer, or why there is none."""
    if isinstance(end.result, Fault):
        return fault_reply(turn, end.result, end.clock)
    body = body_of(end.result, end.clock, request_facts().trace_id, reply_language(), time.time_ns())
    response = json_response(body)
    response.headers["server-timing"] = server_timing(end.clock)
    return response


def fault_reply(turn: TurnRequest, fault: Fault, clock: StageClock) -> Response:
    """Return why a turn was not answered."""
    metrics, trace_id = clock.performance_metrics(), request_facts().trace_id
    body = problem_body(fault, trace_id, reply_language(), turn_id=turn.turn_id, performance_metrics=metrics)
    response = json_response(body, fault.kind.status)
    response.headers.update({**problem_headers(fault), "server-timing": server_timing(clock)})
    return response
