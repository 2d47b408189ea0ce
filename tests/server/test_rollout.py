"""The rollout on a real server: flags, shares, lists, live changes, and where the plan can be seen."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.server.process import AT_ONCE, ServerProcess, running


def plan_of(server: ServerProcess, user: str = "demo") -> str:
    body = server.answer(f"Hello {AT_ONCE}", user=user)
    return str(server.wait_for_log("turn.finished", turn_id=body["turn_id"])["plan"])


def change(server: ServerProcess, body: Any) -> Any:
    return server.http.put("/ops/rollout", json=body)


def test_the_flag_sends_everybody_back(tmp_path: Path) -> None:
    """USE_OPTIMIZED_CHAT=false is the sequential plan, also for listed users; the reply is the same."""
    with running(tmp_path, USE_OPTIMIZED_CHAT="false", CANARY_USERS="demo") as server:
        assert plan_of(server) == "sequential"
        assert 'plan="sequential"' in server.http.get("/metrics").text


def test_a_canary_by_listed_users(tmp_path: Path) -> None:
    """At 0 % only the listed users take the concurrent plan."""
    with running(tmp_path, CHAT_CANARY_PERCENT="0", CANARY_USERS="ann, ben") as server:
        assert [plan_of(server, user) for user in ("ann", "ben", "cat")] == ["concurrent", "concurrent", "sequential"]


def test_ops_change_it_live(tmp_path: Path) -> None:
    """A change holds for the next turn, is logged with before and after, and says that a restart undoes it."""
    with running(tmp_path) as server:
        assert plan_of(server) == "concurrent"
        body = change(server, {"chat": {"percent": 0}}).json()
        assert (body["chat"], body["reverts_on_restart"], body["scope"]) == (
            {"optimized": True, "percent": 0.0},
            True,
            "process",
        )
        assert plan_of(server) == "sequential"
        line = server.wait_for_log("ops.rollout.changed")
        assert (line["before"]["chat"]["percent"], line["after"]["chat"]["percent"]) == (100.0, 0.0)
        change(server, {"users": ["demo"]})
        assert plan_of(server) == "concurrent"
        change(server, {"chat": {"optimized": False}})
        assert plan_of(server) == "sequential"
        assert server.http.get("/ops/rollout").json()["users"] == ["demo"]


@pytest.mark.parametrize(
    "body",
    [[], {"chat": {"percent": 101}}, {"chat": {"percent": "10"}}, {"chats": {}}, {"by": "day"}, {"users": "demo"}],
    ids=json.dumps,
)
def test_a_wrong_change_changes_nothing(tmp_path: Path, body: Any) -> None:
    """A change that is not valid is 422 and leaves the rules as they are."""
    with running(tmp_path) as server:
        before = server.http.get("/ops/rollout").json()
        assert change(server, body).status_code == 422
        assert server.http.get("/ops/rollout").json() == before
