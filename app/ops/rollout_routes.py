"""`GET` and `PUT /ops/rollout`: who takes which plan, changed live until the next restart."""

import logging
from dataclasses import replace
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictBool, ValidationError
from quart import Blueprint, Response

from app.admit.rollout import Rollout, RolloutRules, Share
from app.edge.application import read_json_body
from app.errors import CallerFault
from app.ops.routes import OpsRules, guarded, ops_answer
from app.receive.payload import read_json, sentences

log = logging.getLogger(__name__)


class ShareChange(BaseModel):
    """What of a feature's share is to change."""

    model_config = ConfigDict(extra="forbid")

    optimized: StrictBool | None = None
    percent: Annotated[float, Field(ge=0, le=100, strict=True)] | None = None

    def applied_to(self, share: Share) -> Share:
        """Return the share with the change."""
        return replace(share, **self.model_dump(exclude_none=True))


class RolloutChange(BaseModel):
    """What is to change; a field that is left out stays."""

    model_config = ConfigDict(extra="forbid")

    chat: ShareChange = Field(default_factory=ShareChange)
    agent: ShareChange = Field(default_factory=ShareChange)
    by: Literal["user", "request"] | None = None
    users: Annotated[list[Annotated[str, Field(max_length=255)]], Field(max_length=10_000)] | None = None

    def applied_to(self, rules: RolloutRules) -> RolloutRules:
        """Return the rules with the change."""
        return RolloutRules(
            chat=self.chat.applied_to(rules.chat),
            agent=self.agent.applied_to(rules.agent),
            by=self.by or rules.by,
            users=rules.users if self.users is None else frozenset(self.users),
        )


def rollout_routes(rules: OpsRules, rollout: Rollout) -> Blueprint:
    """Return the routes; each change is logged with what it was and what it is."""
    routes = guarded(Blueprint("rollout", __name__), rules)

    @routes.get("/ops/rollout")
    async def look() -> Response:
        return _answer(rules, rollout)

    @routes.put("/ops/rollout")
    async def change() -> Response:
        try:
            wanted = RolloutChange.model_validate(read_json(await read_json_body()))
        except ValidationError as exc:
            raise CallerFault("invalid_request", fields=sentences(exc)) from None
        before, rollout.rules = rollout.rules, wanted.applied_to(rollout.rules)
        counted = {"before": rollout_counted(before), "after": rollout_counted(rollout.rules)}
        log.warning("ops.rollout.changed", extra=counted)
        return _answer(rules, rollout)

    return routes


def _answer(rules: OpsRules, rollout: Rollout) -> Response:
    return ops_answer(rules, {**rollout_state(rollout.rules), "reverts_on_restart": True})


def rollout_state(rules: RolloutRules) -> dict[str, Any]:
    """Return the rules as they are now."""
    return {
        **{name: {"optimized": share.optimized, "percent": share.percent} for name, share in _features(rules)},
        "by": rules.by,
        "users": sorted(rules.users),
    }


def rollout_counted(rules: RolloutRules) -> dict[str, Any]:
    """Return the rules for the log and for support, which are not told who is listed, but how many."""
    return {**rollout_state(rules), "users": len(rules.users)}


def _features(rules: RolloutRules) -> list[tuple[str, Share]]:
    return [("chat", rules.chat), ("agent", rules.agent)]
