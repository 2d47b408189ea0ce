"""`GET /ops/support`: one document for a support request. No texts, no users, no secrets; bounded in size.

What is read off the parts is read at one moment, on the loop; all that takes longer is done in a thread.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import trio
from quart import Blueprint, Response

from app.ops.recent_turns import shown_turn
from app.ops.routes import OpsRules, guarded
from app.ops.versions import versions
from telemetry.turn_facts import TurnFacts

TURNS_SHOWN = 50
PEOPLES_WORDS = frozenset({"who", "why"})


def support_routes(
    rules: OpsRules,
    now: Callable[[], Mapping[str, Any]],
    turns: Callable[[], Sequence[TurnFacts]],
    users: Callable[[], int],
) -> Blueprint:
    """Return the route.

    Args:
        rules: who may look.
        now: the document without versions, users and turns; must not wait.
        turns: the last turns, newest first.
        users: counts the users of late, in a thread.
    """
    routes = guarded(Blueprint("support", __name__), rules)

    @routes.get("/ops/support")
    async def support() -> Response:
        whose = {"instance": rules.instance, "scope": "process"}
        text = await trio.to_thread.run_sync(partial(_rendered, {**whose, **now()}, turns(), users))
        return Response(text, content_type="application/json")

    return routes


def _rendered(document: Mapping[str, Any], turns: Sequence[TurnFacts], users: Callable[[], int]) -> str:
    whole = {
        **document,
        "now": {"users_active": users(), **document["now"]},
        "versions": versions(),
        "turns": [shown_turn(turn) for turn in turns],
    }
    return json.dumps(whole, ensure_ascii=False)


def settings_for_support(masked: Mapping[str, Any]) -> dict[str, Any]:
    """Return masked settings for somebody outside: who is listed is nobody's business there, but how many are."""
    users = [user for user in str(masked.get("CANARY_USERS") or "").split(",") if user.strip()]
    return {**masked, "CANARY_USERS": f"{len(users)} users"}


def limiter_for_support(state: Mapping[str, Any]) -> dict[str, Any]:
    """Return the limiter's state without what people said of its changes."""
    changes = [{name: value for name, value in each.items() if name not in PEOPLES_WORDS} for each in state["changes"]]
    return {**state, "changes": changes}
