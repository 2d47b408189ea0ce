"""`GET` and `PUT /ops/limiter`: the model limiter now, and another size or mode until the next restart."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, StrictInt, ValidationError, model_validator
from quart import Blueprint, Response

from app.admit.gate_statistics import GateStatistics, LimiterChange, Mode
from app.admit.limiter import Limiter, LimiterWish
from app.admit.steered_model import SteeringStatistics
from app.edge.application import read_json_body
from app.errors import CallerFault
from app.ops.routes import OpsRules, guarded, ops_answer
from app.receive.payload import read_json, sentences
from app.respond.chat_body import iso_timestamp

Told = Annotated[str, Field(max_length=200)]
CHANGES = ("total_tokens", "mode", "min", "max")


class LimiterBody(BaseModel):
    """What is to change, who wants it, and why; what is left out stays."""

    model_config = ConfigDict(extra="forbid")

    total_tokens: Annotated[StrictInt, Field(ge=1)] | None = None
    mode: Mode | None = None
    min: Annotated[StrictInt, Field(ge=1)] | None = None
    max: Annotated[StrictInt, Field(ge=1)] | None = None
    who: Told = ""
    why: Told = ""

    @model_validator(mode="after")
    def _is_a_change(self) -> Self:
        if all(getattr(self, name) is None for name in CHANGES):
            raise ValueError(f"one of {', '.join(CHANGES)} is needed")
        return self

    def wish(self) -> LimiterWish:
        """Return it as the limiter wants it."""
        return LimiterWish(total=self.total_tokens, mode=self.mode, minimum=self.min, maximum=self.max)


def limiter_routes(rules: OpsRules, limiter: Limiter) -> Blueprint:
    """Return the routes; each change is logged with what it was and what it is, who wanted it, and why."""
    routes = guarded(Blueprint("limiter", __name__), rules)

    @routes.get("/ops/limiter")
    async def look() -> Response:
        return _answer(rules, limiter)

    @routes.put("/ops/limiter")
    async def change() -> Response:
        try:
            body = LimiterBody.model_validate(read_json(await read_json_body()))
        except ValidationError as exc:
            raise CallerFault("invalid_request", fields=sentences(exc)) from None
        try:
            limiter.change(body.wish(), who=body.who, why=body.why)
        except ValueError as exc:
            raise CallerFault("invalid_request", fields=[str(exc)]) from None
        return _answer(rules, limiter)

    return routes


def _answer(rules: OpsRules, limiter: Limiter) -> Response:
    return ops_answer(rules, {"reverts_on_restart": True, **limiter_state(limiter)})


def limiter_state(limiter: Limiter) -> dict[str, Any]:
    """Return the limiter as it is now."""
    gate = limiter.gate
    return {
        "mode": limiter.mode,
        "min": limiter.bounds.minimum,
        "max": limiter.bounds.maximum,
        **_of_gate(gate.statistics()),
        "queue_max": gate.queue_max,
        "queue_timeout_seconds": gate.queue_timeout_s,
        "per_user_max": gate.per_user_max,
        **_of_host(limiter.steering.statistics()),
        "changes": [_shown(change) for change in gate.changes],
    }


def _of_gate(now: GateStatistics) -> dict[str, Any]:
    return {
        "total_tokens": now.total,
        "borrowed": now.borrowed,
        "studies": now.studies,
        "waiting": now.waiting,
        "oldest_wait_seconds": round(now.oldest_wait_s, 3),
        "users": now.users,
        "users_at_cap": now.users_at_cap,
        "mean_service_seconds": round(now.mean_service_s, 3),
        "last_minute": {
            "wait_p50_seconds": _rounded(now.wait_p50_s),
            "wait_p95_seconds": _rounded(now.wait_p95_s),
            "service_p50_seconds": _rounded(now.service_p50_s),
            "service_p95_seconds": _rounded(now.service_p95_s),
        },
        "admitted": now.admitted,
        "abandoned": now.abandoned,
        "shed": now.shed,
    }


def _of_host(now: SteeringStatistics) -> Mapping[str, Any]:
    quotas = {"requests": now.requests, "tokens": now.tokens}
    return {
        "rejections": now.refused,
        "pacer": None
        if now.requests is None and now.tokens is None
        else {
            "waiting": now.paced,
            **{
                name: None if quota is None else {"limit": quota.limit, "left": round(quota.left, 1)}
                for name, quota in quotas.items()
            },
        },
    }


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 3)


def _shown(change: LimiterChange) -> dict[str, Any]:
    shown = asdict(change)
    return {"at": iso_timestamp(round(shown.pop("at_s") * 1e9)), **shown}
