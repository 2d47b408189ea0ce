"""`/ops/limiter` on a real server: what it tells, and what changes it takes while turns run and wait."""

import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.server.process import AT_ONCE, ServerProcess, running
from tests.server.streaming import STALLS, is_text, opened
from tests.server.wire import problem

CHANGES = 'llm_limiter_changes_total{reason="manual"}'
BUSY = "Busy? [[fault: http 429 rate_limit_exceeded]]"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ServerProcess]:
    with running(tmp_path, OPENAI_API_POOL_SIZE="2", LLM_QUEUE_TIMEOUT="30", LLM_PER_USER_MAX="1") as process:
        yield process


def look(server: ServerProcess) -> dict[str, Any]:
    response = server.http.get("/ops/limiter")
    assert response.status_code == 200, response.text
    return dict(response.json())


def put(server: ServerProcess, **body: Any) -> httpx.Response:
    return server.http.put("/ops/limiter", json=body)


def test_a_quiet_limiter(server: ServerProcess) -> None:
    """A server that has served nobody tells its rules, and noughts."""
    body = look(server)
    assert len(body.pop("instance")) == 12
    assert body == {
        "scope": "process",
        "reverts_on_restart": True,
        "mode": "fixed",
        "min": 1,
        "max": 64,
        "total_tokens": 2,
        "borrowed": 0,
        "studies": 0,
        "waiting": 0,
        "oldest_wait_seconds": 0.0,
        "users": 0,
        "users_at_cap": 0,
        "mean_service_seconds": 1.0,
        "last_minute": dict.fromkeys(
            ("wait_p50_seconds", "wait_p95_seconds", "service_p50_seconds", "service_p95_seconds")
        ),
        "admitted": 0,
        "abandoned": 0,
        "shed": {"queue_full": 0, "predicted_wait": 0, "queue_timeout": 0},
        "queue_max": 64,
        "queue_timeout_seconds": 30.0,
        "per_user_max": 1,
        "rejections": {"overload": 0, "quota": 0, "quota_wait": 0},
        "pacer": None,
        "changes": [],
    }


def test_a_slot_more_lets_the_next_one_in(server: ServerProcess) -> None:
    """With turns in line, a larger size is the first one's slot at once; the calls in flight go on under a smaller."""
    with ExitStack() as streams:
        turns = [streams.enter_context(opened(server, STALLS, user=user)) for user in "abc"]
        server.wait_for_gauge("llm_limiter_waiting", 1)
        body = look(server)
        assert (body["borrowed"], body["waiting"], body["users"], body["users_at_cap"]) == (2, 1, 3, 2)
        assert body["oldest_wait_seconds"] > 0
        body = put(server, total_tokens=3, who="ann", why="504s at noon").json()
        assert (body["total_tokens"], body["borrowed"], body["waiting"]) == (3, 3, 0)
        turns[2].until(is_text)
        assert put(server, total_tokens=1).json()["borrowed"] == 3
    first, second = look(server)["changes"]
    assert first.pop("at") < second.pop("at")
    assert first == {"before": 2, "after": 3, "reason": "manual", "mode": "fixed"} | {
        "who": "ann",
        "why": "504s at noon",
        "times": 1,
    }
    assert (second["before"], second["after"], second["who"]) == (3, 1, "")
    assert server.gauge(CHANGES) == 2
    line = server.wait_for_log("ops.limiter.changed", who="ann")
    assert (line["level"], line["why"]) == ("warning", "504s at noon")
    assert (line["before"]["total"], line["after"]["total"]) == (2, 3)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ([], "the body"),
        ({}, "the body"),
        ({"who": "ann"}, "the body"),
        ({"total_tokens": 0}, "total_tokens"),
        ({"total_tokens": 10_001}, "total_tokens"),
        ({"total_tokens": 10**30}, "total_tokens"),
        ({"total_tokens": 2.5}, "total_tokens"),
        ({"total_tokens": "3"}, "total_tokens"),
        ({"total_tokens": True}, "total_tokens"),
        ({"mode": "auto"}, "mode"),
        ({"mode": "adaptive", "total_tokens": 4}, "total_tokens"),
        ({"min": 65}, "min"),
        ({"min": 3, "max": 2}, "min"),
        ({"total_tokens": 3, "total": 3}, "total"),
        ({"total_tokens": 3, "why": "w" * 201}, "why"),
    ],
    ids=lambda value: json.dumps(value)[:40],
)
def test_a_wrong_change_changes_nothing(quiet: ServerProcess, body: Any, field: str) -> None:
    """What is not valid is 422, which names the field; nothing changes, is noted or counted."""
    before = look(quiet)
    told = problem(quiet.http.put("/ops/limiter", json=body), 422, "invalid_request")
    assert [sentence.partition(":")[0] for sentence in told["errors"]] == [field]
    assert look(quiet) == before


@pytest.fixture(scope="module")
def quiet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with running(tmp_path_factory.mktemp("quiet")) as process:
        yield process


def test_no_json_is_no_change(quiet: ServerProcess) -> None:
    """A body that is no JSON is 400, one of another type 415."""
    sent = {"content-type": "application/json"}
    problem(quiet.http.put("/ops/limiter", content=b"{", headers=sent), 400, "bad_json")
    problem(quiet.http.put("/ops/limiter", content=b"total_tokens=3"), 415, "unsupported_media_type")


def test_only_ops_may(tmp_path: Path) -> None:
    """With an OPS_TOKEN it takes that token to look or to change."""
    with running(tmp_path, OPS_TOKEN="let me in") as server:
        for headers in ({}, {"authorization": "Bearer demo"}):
            assert server.http.get("/ops/limiter", headers=headers).status_code == 401
            assert server.http.put("/ops/limiter", json={"total_tokens": 3}, headers=headers).status_code == 401
        headers = {"authorization": "Bearer let me in"}
        body = server.http.put("/ops/limiter", json={"total_tokens": 3}, headers=headers).json()
        assert body["total_tokens"] == 3


def test_adaptive_at_once(server: ServerProcess) -> None:
    """Made adaptive, it is cut by the host's next refusals; gauges, counters and the noted changes say so."""
    assert put(server, mode="adaptive", max=8, who="ann").json()["mode"] == "adaptive"
    assert server.gauge('llm_limiter_total{mode="adaptive"}') == 2
    for number in range(2):
        assert server.ask(f"{BUSY} {number}", user=f"u{number}").status_code == 503
    body = look(server)
    assert body["total_tokens"] == 1
    assert body["rejections"]["overload"] >= 2
    assert [(each["reason"], each["mode"]) for each in body["changes"]] == [("manual", "adaptive"), ("cut", "adaptive")]
    assert server.gauge('llm_upstream_rejections_total{code="rate_limit_exceeded"}') == body["rejections"]["overload"]
    body = put(server, mode="fixed", total_tokens=5).json()
    assert (body["mode"], body["total_tokens"]) == ("fixed", 5)


def test_adaptive_from_the_start(tmp_path: Path) -> None:
    """The settings can say so; the size is within the bounds, and a rollback of the plan fixes what is configured."""
    settings = {"LLM_LIMITER_MODE": "adaptive", "LLM_LIMITER_MAX": "6", "OPENAI_API_POOL_SIZE": "9"}
    with running(tmp_path, **settings) as server:
        server.answer(f"Why? {AT_ONCE}")
        body = look(server)
        assert (body["mode"], body["total_tokens"], body["min"], body["max"]) == ("adaptive", 6, 1, 6)
        server.http.put("/ops/rollout", json={"chat": {"optimized": False}})
        body = look(server)
        assert (body["mode"], body["total_tokens"], body["changes"][-1]["who"]) == ("fixed", 9, "rollout")
