"""`PUT /ops/rollout` and what is logged of it."""

import logging
from typing import Any

import pytest
from quart_trio import QuartTrio

from app.admit.rollout import Rollout, RolloutRules, Share
from app.edge.application import build_application
from app.edge.observe import REQUEST, RequestFacts
from app.ops.rollout_routes import rollout_routes
from app.ops.routes import OpsRules

WHOLE = Share(optimized=True, percent=100.0)


@pytest.fixture
def quart() -> QuartTrio:
    rules = OpsRules(token=None, on_loopback=True, instance="test")
    rollout = Rollout(RolloutRules(chat=WHOLE, agent=WHOLE, by="user", users=frozenset()))
    REQUEST.set(RequestFacts("request", "trace"))
    return build_application([rollout_routes(rules, rollout)], max_body_bytes=1000, body_timeout_s=1)


async def test_the_log_does_not_say_who_is_listed(quart: QuartTrio, caplog: pytest.LogCaptureFixture) -> None:
    """A change of the listed users is shown to who made it; the log has how many there are, and no user's id."""
    change: dict[str, Any] = {"users": ["ann-canary", "ben-canary"]}
    with caplog.at_level(logging.WARNING):
        response = await quart.test_client().put("/ops/rollout", json=change, headers={"host": "127.0.0.1"})
    assert (await response.get_json())["users"] == ["ann-canary", "ben-canary"]
    (record,) = [record for record in caplog.records if record.message == "ops.rollout.changed"]
    assert (vars(record)["before"]["users"], vars(record)["after"]["users"]) == (0, 2)
    assert "canary" not in str(vars(record))
