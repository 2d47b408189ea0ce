"""A host that fails is left alone, which readiness, metrics and log show, and is found again when it is well."""

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from statistics import median
from typing import Any

import httpx
import pytest

from tests.server.neighbours import Neighbour, database_host, model_host
from tests.server.process import AT_ONCE, ServerProcess, running, until
from tests.server.relay import Mode, Relay, relay_to
from tests.server.wire import problem

FETCH_S = 0.5
MODEL, DATABASE = 'breaker_state{target="model"}', 'breaker_state{target="database"}'


@dataclass(slots=True)
class Town:
    """The server between its two hosts, each behind a relay. `since` is where a test's part of the log begins."""

    server: ServerProcess
    model: Relay
    database: Relay
    model_host: Neighbour
    since: int = 0

    def ask(self, message: str = f"Why? {AT_ONCE}", **fields: Any) -> tuple[httpx.Response, float]:
        """Ask, and return the response and the seconds that it took."""
        started = time.monotonic()
        response = self.server.ask(message, **fields)
        return response, time.monotonic() - started

    def until_open(self, gauge: str) -> list[tuple[httpx.Response, float]]:
        """Ask until a breaker is open; return what came of it."""
        asked = []
        while self.server.gauge(gauge) == 0:
            asked.append(self.ask())
            assert len(asked) <= 5
        return asked

    def lines(self, event: str, count: int = 1) -> list[dict[str, Any]]:
        """Return the test's log lines of an event, which are to be so many."""

        def found() -> list[dict[str, Any]]:
            return [line for line in self.server.log[self.since :] if line["event"] == event]

        until(lambda: len(found()) >= count, f"{count} lines {event}")
        assert len(found()) == count
        return found()

    def degraded(self) -> list[str]:
        """Return what readiness calls degraded; the server is ready all the same."""
        response = self.server.http.get("/readyz")
        assert (response.status_code, response.json()["status"]) == (200, "ready")
        return list(response.json()["degraded"])

    def until_answered(self, message: str = f"Well? {AT_ONCE}", **fields: Any) -> None:
        """Ask until an answer comes, as users do."""
        until(lambda: self.ask(message, **fields)[0].status_code == 200, "an answer")


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    folder = tmp_path_factory.mktemp("town")
    with (
        model_host() as model,
        database_host(folder / "supabase.sqlite3") as database,
        relay_to(model.url) as model_relay,
        relay_to(database.url) as database_relay,
        running(
            folder / "server",
            "tests.server.quick_breakers",
            OPENAI_BASE_URL=f"{model_relay.url}/v1",
            SUPABASE_URL=database_relay.url,
            SUPABASE_KEY="sb_secret_x",
            AUTH_MODE="dev",
            DB_FETCH_TIMEOUT=str(FETCH_S),
        ) as server,
    ):
        yield Town(server, model_relay, database_relay, model)


@pytest.fixture
def here(town: Town) -> Town:
    """The town with both hosts well, both breakers closed, and a user that is known."""
    town.model.become("well")
    town.database.become("well")
    town.until_answered()
    assert town.degraded() == []
    assert (town.server.gauge(MODEL), town.server.gauge(DATABASE)) == (0, 0)
    town.since = len(town.server.log)
    return town


def test_a_model_that_is_down_is_left_alone_and_found_again(here: Town) -> None:
    """Five failures open the breaker: turns are refused at once, until one call finds the host well."""
    here.model.become("down")
    failed = here.until_open(MODEL)
    for response, _ in failed:
        problem(response, 502, "model_error")
    here.lines("retry_scheduled", 5 - len(failed))  # the other failures were met by retries
    (opened,) = here.lines("breaker.opened")
    assert (opened["level"], opened["target"], opened["failures"], opened["open_s"]) == ("warning", "model", 5, 1.0)
    response, _ = here.ask()
    assert problem(response, 503, "model_busy")["retryable"] is True
    assert response.headers["retry-after"] == "1"
    assert here.degraded() == ["model"]
    assert (here.server.gauge(MODEL), here.server.gauge(DATABASE)) == (2, 0)
    refused = median(here.ask()[1] for _ in range(5))
    assert refused < 0.3, "no wait, and no attempt"
    here.model.become("well")
    here.until_answered()
    (closed,) = here.lines("breaker.closed")
    assert (closed["level"], closed["target"]) == ("info", "model")
    assert (here.server.gauge(MODEL), here.degraded()) == (0, [])


def test_while_one_call_finds_out_others_are_refused(here: Town) -> None:
    """The state is half-open meanwhile, and the host hears of one call only."""
    here.model.become("down")
    here.until_open(MODEL)
    here.model.become("well")
    before = len(here.model_host.heard)
    found = threading.Thread(target=here.until_answered, args=("Slowly? [[fault: silent for=1]]",))
    found.start()
    here.server.wait_for_gauge(MODEL, 1)
    assert here.degraded() == ["model"]
    problem(here.ask(page_id="other")[0], 503, "model_busy")
    assert len(here.model_host.heard) == before + 1
    found.join()
    assert (here.server.gauge(MODEL), here.degraded()) == (0, [])
    assert here.ask(page_id="other")[0].status_code == 200


@pytest.mark.parametrize(
    ("mode", "status", "code"), [("down", 503, "database_unavailable"), ("silent", 504, "stage_timeout")]
)
def test_a_database_that_is_down_is_left_alone_and_found_again(here: Town, mode: Mode, status: int, code: str) -> None:
    """Whether it hangs up or says nothing: later turns fail fast, pay no model, and go on once it is back."""
    here.database.become(mode)
    asked = len(here.model_host.heard)
    for response, _ in here.until_open(DATABASE):
        problem(response, status, code)
    response, _ = here.ask()
    assert problem(response, 503, "database_unavailable")["retryable"] is True
    assert "retry-after" in response.headers
    assert here.degraded() == ["database"]
    assert (here.server.gauge(MODEL), here.server.gauge(DATABASE)) == (0, 2)
    refused = median(here.ask()[1] for _ in range(7))
    assert refused < FETCH_S / 4
    assert len(here.model_host.heard) == asked
    here.database.become("well")
    here.until_answered(page_id="project-1")  # two requests at once: one of them finds out for both
    assert [line["target"] for line in here.lines("breaker.closed")] == ["database"]
    assert (here.server.gauge(DATABASE), here.degraded()) == (0, [])
    assert here.ask()[0].status_code == 200


def test_clients_that_leave_do_not_open_it(here: Town) -> None:
    """Six turns are left by their clients while the model thinks: that is no failure of its host."""
    for number in range(6):
        with pytest.raises(httpx.ReadTimeout):
            here.server.http.post(
                "/chat",
                json={"message": "Slowly? [[fault: silent]]", "page_id": f"left-{number}"},
                headers={"authorization": "Bearer demo"},
                timeout=0.15,
            )
    here.server.wait_for_gauge("edge_turns_inflight", 0)
    assert (here.server.gauge(MODEL), here.degraded()) == (0, [])
    assert here.ask()[0].status_code == 200
