"""The routes of the people who run the server. Behind `OPS_TOKEN`; without one, open to this machine, 404 elsewhere."""

import hmac
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from math import isnan, nan
from typing import Any, get_args

import trio
from quart import Blueprint, Response, request

from app.edge.application import json_response
from app.errors import CallerFault
from app.loopback import is_from_here
from app.ops.recent_turns import RecentTurns
from telemetry import names


@dataclass(frozen=True, slots=True, kw_only=True)
class OpsRules:
    """Who may look: bearers of `token`; when it is None, who asks on this machine, if the server is bound to it.

    `watch` is given the header of who must bear it, and counts in its block who does not.
    """

    token: str | None
    on_loopback: bool
    instance: str
    watch: Callable[[str], AbstractContextManager[None]] = lambda _authorization: nullcontext()

    def check(self, authorization: str, *, from_here: bool) -> None:
        """Let the request pass.

        Raises:
            CallerFault: `unauthenticated`, `not_found` where there is nothing to find, or what `watch` raises.
        """
        if self.token is None:
            if not self.on_loopback or not from_here:
                raise CallerFault("not_found")
            return
        given = authorization.partition(" ")[2].strip()
        with self.watch(authorization):
            if not hmac.compare_digest(given.encode(), self.token.encode()):
                raise CallerFault("unauthenticated")


def ops_routes(
    rules: OpsRules,
    turns: RecentTurns,
    settings: Callable[[], Mapping[str, Any]],
    metrics_page: Callable[[str], tuple[str, str]],
) -> Blueprint:
    """Return `/metrics`, `/ops/turns` and `/ops/settings`.

    Args:
        rules: who may look.
        turns: the last turns.
        settings: gives the settings, masked.
        metrics_page: from an `Accept` header to content type and body; may block, so it runs in a thread.
    """
    routes = guarded(Blueprint("ops", __name__), rules)

    @routes.get("/metrics")
    async def metrics() -> Response:
        content_type, page = await trio.to_thread.run_sync(metrics_page, request.headers.get("accept", ""))
        return Response(page, content_type=content_type)

    @routes.get("/ops/turns")
    async def recent_turns() -> Response:
        return ops_answer(rules, {"turns": turns.listing(_seconds(), _outcome())})

    @routes.get("/ops/settings")
    async def masked_settings() -> Response:
        return ops_answer(rules, {"settings": settings()})

    return routes


def guarded(routes: Blueprint, rules: OpsRules) -> Blueprint:
    """Return `routes`, open only to those that `rules` let pass."""

    @routes.before_request
    async def check() -> None:
        rules.check(request.headers.get("authorization", ""), from_here=is_from_here(request.headers))

    return routes


def ops_answer(rules: OpsRules, body: Mapping[str, Any]) -> Response:
    """Return an answer of this process to ops, which says so."""
    return json_response({"instance": rules.instance, "scope": "process", **body})


def _seconds() -> float:
    text = request.args.get("min_seconds", "0")
    try:
        seconds = float(text)
    except ValueError:
        seconds = nan
    if isnan(seconds):
        raise CallerFault("invalid_request", fields=["min_seconds: must be a number"])
    return seconds


def _outcome() -> str | None:
    outcome = request.args.get("outcome")
    if outcome is not None and outcome not in get_args(names.Outcome):
        known = ", ".join(get_args(names.Outcome))
        raise CallerFault("invalid_request", fields=[f"outcome: must be one of {known}"])
    return outcome
