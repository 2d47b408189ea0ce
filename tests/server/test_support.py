"""`/ops/support` on a real server: what runs and what just happened, without a secret, a user or anybody's words."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.ops.support_routes import TURNS_SHOWN
from telemetry.recent_errors import KEPT, MAX_LINE_CHARS
from tests.server.neighbours import database_host, model_host
from tests.server.process import AT_ONCE, ServerProcess, running, until

SECRETS = {
    "OPS_TOKEN": "canary-ops-token",
    "OPENAI_API_KEY": "sk-canary-model-key",
    "SUPABASE_KEY": "sb_secret_canary-database-key",
    "TELEMETRY_HASH_KEY": "canary-hash-key",
}
BEARER = {"authorization": f"Bearer {SECRETS['OPS_TOKEN']}"}
TEXT, USER = "canary: why do leaves turn red?", "demo"


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    folder = tmp_path_factory.mktemp("supported")
    with (
        model_host() as model,
        database_host(folder / "supabase.sqlite3") as database,
        running(
            folder / "server",
            OPENAI_BASE_URL=f"{model.url.replace('//', '//me:canary@canary-password@')}/v1",
            SUPABASE_URL=database.url,
            AUTH_MODE="dev",
            CANARY_USERS="canary-user-1,canary-user-2",
            **SECRETS,
        ) as process,
    ):
        yield process


def support(server: ServerProcess) -> dict[str, object]:
    response = server.http.get("/ops/support", headers=BEARER)
    assert response.status_code == 200
    body: dict[str, object] = response.json()
    return body


def test_it_says_what_runs_and_how(guarded: ServerProcess) -> None:
    """Versions of what we stand on, since when, with which settings; the same instance as every other answer."""
    body = support(guarded)
    versions, settings = body["versions"], body["settings"]
    assert isinstance(versions, dict)
    assert isinstance(settings, dict)
    assert {"nursery-chat", "python", "trio", "quart-trio", "hypercorn", "httpx", "opentelemetry-sdk"} <= set(versions)
    assert versions["trio"].count(".") >= 1
    assert settings["LLM_TIMEOUT"] == 40.0
    assert settings["CANARY_USERS"] == "2 users"
    assert body["rollout"] == {
        "chat": {"optimized": True, "percent": 100.0},
        "agent": {"optimized": True, "percent": 100.0},
        "by": "user",
        "users": 2,
    }
    assert body["instance"] == guarded.http.get("/ops/turns", headers=BEARER).json()["instance"]


def test_it_says_what_happens_at_once(guarded: ServerProcess) -> None:
    """Users, turns and connections now; breakers, readiness and the outbox, as the other routes have them."""
    guarded.answer(f"{TEXT} {AT_ONCE}")
    body = support(guarded)
    now = body["now"]
    assert isinstance(now, dict)
    assert (now["turns_inflight"], now["users_active"]) == (0, 1)
    assert now["connections"] >= 1
    assert now["tasks"] > 3
    assert now["memory_bytes"] > 1 << 20
    assert body["breakers"] == {"model": "closed", "database": "closed"}
    assert body["readiness"] == guarded.http.get("/readyz").json()
    limiter = guarded.http.get("/ops/limiter", headers=BEARER).json()
    changing = ("last_minute", "oldest_wait_seconds", "mean_service_seconds", "changes")
    shown = body["limiter"]
    assert isinstance(shown, dict)
    assert {name: value for name, value in shown.items() if name not in changing} == {
        name: limiter[name] for name in shown if name not in changing
    }


def test_errors_lead_to_their_turns(guarded: ServerProcess) -> None:
    """A turn that fails leaves its lines here, with its trace; so does one that is given up and retried."""
    response = guarded.ask(f"{TEXT} [[fault: http 401 invalid_api_key]]")
    body = support(guarded)
    errors, turns = body["errors"], body["turns"]
    assert isinstance(errors, list)
    assert isinstance(turns, list)
    trace = response.headers["x-trace-id"]
    assert turns[0]["trace_id"] == trace
    assert turns[0]["error_type"] == "invalid_api_key"
    (line,) = [line for line in errors if line.get("trace_id") == trace]
    assert (line["level"], line["error"]) == ("warning", "invalid_api_key")


def test_who_changed_the_limiter_and_why_is_not_told(guarded: ServerProcess) -> None:
    """Of a change there are the figures and its time; what people wrote beside them stays with `/ops/limiter`."""
    change = {"total_tokens": 12, "who": "canary-who", "why": "canary-why: somebody@school.example blocks all"}
    assert guarded.http.put("/ops/limiter", json=change, headers=BEARER).status_code == 200
    told = guarded.http.get("/ops/limiter", headers=BEARER).json()["changes"][-1]
    body = support(guarded)
    assert (told.pop("who"), told.pop("why")) == (change["who"], change["why"])
    assert isinstance(limiter := body["limiter"], dict)
    assert limiter["changes"][-1] == told
    assert "canary-wh" not in json.dumps(body)


def test_it_holds_nobodys_words_and_no_secret(guarded: ServerProcess) -> None:
    """Neither what was asked and answered, nor by whom, nor a key, whatever went wrong with it."""
    answer = guarded.answer(f"{TEXT} {AT_ONCE}", context="canary: a page")["response"]
    for fault in ("http 400", "http 500 server_error", "cut", "http 401 invalid_api_key"):
        guarded.ask(f"{TEXT} [[fault: {fault}]]")
    guarded.http.post("/chat", content=b'{"message": "canary', headers={"content-type": "application/json"})
    until(lambda: len(support(guarded)["errors"]) >= 2, "errors")  # type: ignore[arg-type]  # it is a list
    text = json.dumps(support(guarded), ensure_ascii=False)
    assert "canary-" not in text.replace("canary-user", "")
    assert "canary-user" not in text
    assert "leaves turn red" not in text
    assert answer[:40] not in text
    assert f'"{USER}"' not in text


def test_it_is_bounded(guarded: ServerProcess) -> None:
    """Of however many turns and errors, so many are shown, and all of it is a document of some hundred kilobytes."""
    for _ in range(TURNS_SHOWN + 5):
        guarded.answer(f"Again {AT_ONCE}")
    response = guarded.http.get("/ops/support", headers=BEARER)
    body = response.json()
    assert len(body["turns"]) == TURNS_SHOWN
    assert len(body["errors"]) <= KEPT
    assert all(len(json.dumps(line)) <= MAX_LINE_CHARS for line in body["errors"])
    assert len(response.content) < 400_000


def test_a_server_without_an_outbox_says_so(tmp_path: Path) -> None:
    """With OUTBOX=off there is null in its place; the log level is that of these lines too."""
    with running(tmp_path, OUTBOX="off") as server:
        body = server.http.get("/ops/support").json()
        assert body["outbox"] is None
        assert [line["event"] for line in body["errors"]] == ["telemetry.hash_key.random"]
