"""`/ops/support`: what is done on the loop, what is not, and what is left out for somebody outside."""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import pytest
from quart_trio import QuartTrio

from app.edge.application import build_application
from app.edge.observe import REQUEST, RequestFacts
from app.ops.routes import OpsRules
from app.ops.support_routes import limiter_for_support, settings_for_support, support_routes
from telemetry.turn_facts import TurnFacts

CHANGE = {"at": "2026-11-22T04:00:00.000Z", "before": 10, "after": 12, "reason": "manual", "mode": "fixed", "times": 1}


class Threads:
    """Notes which thread does what."""

    def __init__(self) -> None:
        self.of: dict[str, int] = {}

    def noting(self, what: str, value: Any) -> Callable[[], Any]:
        """Return what notes its thread, and gives a value."""

        def note() -> Any:
            self.of[what] = threading.get_ident()
            return value

        return note


class Turns(Sequence[TurnFacts]):
    """No turns; it takes some time to find that out."""

    def __init__(self, looked_at: Callable[[], Any]) -> None:
        self._looked_at = looked_at

    def __getitem__(self, _index: Any) -> Any:
        raise IndexError

    def __len__(self) -> int:
        return 0

    def __iter__(self) -> Iterator[TurnFacts]:
        self._looked_at()
        return iter(())


@pytest.fixture
def threads() -> Threads:
    return Threads()


@pytest.fixture
def quart(threads: Threads) -> QuartTrio:
    turns = threads.noting("turns", Turns(threads.noting("shown", None)))
    now = threads.noting("now", {"now": {"turns_inflight": 3}})
    rules = OpsRules(token=None, on_loopback=True, instance="test")
    routes = support_routes(rules, now, turns, threads.noting("users", 41))
    REQUEST.set(RequestFacts("request", "trace"))
    return build_application([routes], max_body_bytes=1000, body_timeout_s=1)


async def test_what_takes_longer_is_done_in_a_thread(quart: QuartTrio, threads: Threads) -> None:
    """The parts are read on the loop, where nothing changes meanwhile; counting users and writing it all is not."""
    response = await quart.test_client().get("/ops/support", headers={"host": "127.0.0.1"})
    body = await response.get_json()
    assert (body["instance"], body["now"], body["turns"]) == ("test", {"turns_inflight": 3, "users_active": 41}, [])
    here = threading.get_ident()
    assert {what for what, thread in threads.of.items() if thread == here} == {"now", "turns"}
    assert threads.of.keys() == {"now", "turns", "users", "shown"}


@pytest.mark.parametrize(("listed", "told"), [("", "0 users"), (None, "0 users"), ("ann, ben,,", "2 users")])
def test_users_are_counted_and_not_named(listed: str | None, told: str) -> None:
    """Of those who are listed a support request learns how many they are; other settings stay."""
    assert settings_for_support({"CANARY_USERS": listed, "BIND": "b"}) == {"CANARY_USERS": told, "BIND": "b"}


def test_what_people_said_of_a_change_is_left_out() -> None:
    """Its figures stay, and so does the rest of the limiter's state, which is not changed by that."""
    state: Mapping[str, Any] = {"mode": "fixed", "changes": [{**CHANGE, "who": "Mori", "why": "somebody blocks all"}]}
    assert limiter_for_support(state) == {"mode": "fixed", "changes": [CHANGE]}
    assert state["changes"][0]["who"] == "Mori"
