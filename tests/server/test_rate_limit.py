"""The limit of a user's turns, over sockets: who is over it is told when to come again, and no other pays for it."""

import math
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.errors import KINDS
from app.settings import Settings
from tests.respond.ui_wire import read_stream
from tests.server.key_host import project
from tests.server.process import AT_ONCE, ServerProcess, running
from tests.server.rows import stored
from tests.server.streaming import get, post, sdk_body, stop
from tests.server.wire import problem

MOST, WINDOW_S = 20, 3600
"""One comes back in three minutes, so that no pace of a test's changes what is let in."""
SETTINGS = {"ENABLE_CHAT_RATE_LIMIT": "true", "CHAT_RATE_LIMIT_MAX": "20", "CHAT_RATE_LIMIT_WINDOW_SEC": "3600"}
QUESTION = f"What is a hypothesis? {AT_ONCE}"
OURS = {"message": QUESTION}
WAYS: dict[str, tuple[str, dict[str, Any]]] = {
    "json": ("/chat", OURS),
    "stream": ("/chat/stream", OURS),
    "sdk": ("/chat", sdk_body(QUESTION)),
    "sdk to the stream": ("/chat/stream", sdk_body(QUESTION)),
    "agent": ("/conversation-agent/chat", OURS),
}
SDK = {"sdk", "sdk to the stream"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    settings = {**SETTINGS, "CORS_ALLOW_ORIGINS": "https://school.example"}
    with running(tmp_path_factory.mktemp("data"), **settings) as process:
        yield process


def limits(response: httpx.Response) -> tuple[int, int, int]:
    """Return limit, remaining and reset, as an answer has them."""
    limit, remaining, reset = (int(response.headers[f"ratelimit-{name}"]) for name in ("limit", "remaining", "reset"))
    return limit, remaining, reset


def has_none(response: httpx.Response) -> bool:
    return not any(name.startswith("ratelimit-") for name in response.headers)


def spend(server: ServerProcess, user: str, turns: int = MOST) -> None:
    """Ask so many turns, which are answered."""
    for _ in range(turns):
        server.answer(QUESTION, user=user)


def test_the_defaults_are_the_documented_ones() -> None:
    """Twenty at once, and then one every three seconds, unless somebody says otherwise."""
    chosen = Settings(_env_file=None)
    limit = (chosen.enable_chat_rate_limit, chosen.chat_rate_limit_max, chosen.chat_rate_limit_window_sec)
    assert limit == (True, 20, 60.0)


def test_twenty_pass_and_the_next_is_told_when_to_come(server: ServerProcess) -> None:
    """Each answer says what is left; the 21st is 429 with `Retry-After`, and neither stored nor a turn."""
    told = [limits(server.ask(QUESTION, user="ann")) for _ in range(MOST)]
    assert [(limit, remaining) for limit, remaining, _ in told] == [(MOST, MOST - n) for n in range(1, MOST + 1)]
    assert all(abs(reset - 180 * n) < 60 for n, (_, _, reset) in enumerate(told, 1))
    before = len(stored(server.data_dir))
    refused = server.ask(QUESTION, user="ann")
    body = problem(refused, 429, "rate_limited")
    assert (body["retryable"], body["detail"]) == (True, KINDS["rate_limited"].detail)
    wait_s = int(refused.headers["retry-after"])
    assert (wait_s, 0 < wait_s <= 180) == (math.ceil(body["retry_after"]), True)
    assert limits(refused)[:2] == (MOST, 0)
    assert WINDOW_S - 180 < limits(refused)[2] <= WINDOW_S
    assert len(stored(server.data_dir)) == before
    assert "turn_id" not in body


@pytest.mark.parametrize("way", WAYS)
def test_each_way_to_ask_has_the_headers_and_the_limit(server: ServerProcess, way: str) -> None:
    """Answers, streams too, say what is left; refusals come in the form that their reader can show."""
    (path, body), user = WAYS[way], f"way-{len(way)}"
    first = post(server, body, path=path, user=user)
    assert (first.status_code, limits(first)[:2]) == (200, (MOST, MOST - 1))
    if first.headers["content-type"].startswith("text/event-stream"):
        assert read_stream(first.content).state == "done"
    spend(server, user, MOST - 1)
    for language, sentence in (("en", KINDS["rate_limited"].detail), ("ja", KINDS["rate_limited"].japanese)):
        refused = post(server, body, path=path, user=user, **{"accept-language": language})
        assert (refused.status_code, limits(refused)[:2]) == (429, (MOST, 0))
        assert int(refused.headers["retry-after"]) > 0
        assert refused.headers["x-error-code"] == "rate_limited"
        if way in SDK:
            assert (refused.headers["content-type"], refused.text) == ("text/plain; charset=utf-8", sentence)
        else:
            assert problem(refused, 429, "rate_limited")["detail"] == sentence


def test_all_ways_are_one_limit_and_each_user_has_another(server: ServerProcess) -> None:
    """A user who asked here has so much less left there; the other has all."""
    for left, (path, body) in zip(range(MOST - 1, 0, -1), WAYS.values(), strict=False):
        assert limits(post(server, body, path=path, user="ben"))[1] == left
    spend(server, "ben", MOST - len(WAYS))
    problem(server.ask(QUESTION, user="ben"), 429, "rate_limited")
    assert limits(server.ask(QUESTION, user="cid"))[1] == MOST - 1


def test_fifty_at_once_admit_exactly_the_limit(server: ServerProcess) -> None:
    """Of 50 that one user sends in one moment 20 are answered, and 30 refused."""
    with ThreadPoolExecutor(50) as pool:
        statuses = Counter(pool.map(lambda _: server.ask(QUESTION, user="crowd").status_code, range(50)))
    assert statuses == {200: MOST, 429: 50 - MOST}


def test_reading_and_stopping_are_free(server: ServerProcess) -> None:
    """Who has none left still reads, comes back to a stream and stops one, and these say nothing of the limit."""
    spend(server, "dan")
    problem(server.ask(QUESTION, user="dan"), 429, "rate_limited")
    history, resumed = get(server, "/chat/history", "dan"), get(server, "/chat/page-1/stream", "dan")
    assert (history.status_code, len(history.json()), resumed.status_code) == (200, 2 * MOST, 204)
    assert has_none(history)
    assert has_none(resumed)
    assert stop(server, "/chat/page-1/stop", "dan") is False
    assert get(server, "/conversation-agent/status", "dan").status_code == 200


def test_a_conversation_costs_what_a_turn_costs(server: ServerProcess) -> None:
    """Made or found, it is one of the user's turns, since it writes rows; wrong bodies, lists and deletions are not."""

    def make(body: object) -> httpx.Response:
        return server.http.post("/conversations", json=body, headers={"authorization": "Bearer hal"})

    made, found = (make({"page_id": "page-1"}) for _ in range(2))
    assert [(each.status_code, limits(each)[:2]) for each in (made, found)] == [
        (201, (MOST, MOST - 1)),
        (200, (MOST, MOST - 2)),
    ]
    wrong = make({"title": 5})
    problem(wrong, 422, "invalid_request")
    assert has_none(wrong)
    spend(server, "hal", MOST - 2)
    refused = make({"page_id": "page-2"})
    problem(refused, 429, "rate_limited")
    assert (limits(refused)[:2], int(refused.headers["retry-after"]) > 0) == ((MOST, 0), True)
    listed = get(server, "/conversations", "hal")
    assert ([head["page_id"] for head in listed.json()].count("page-2"), has_none(listed)) == (0, True)
    deleted = server.http.delete(made.headers["location"], headers={"authorization": "Bearer hal"})
    assert (deleted.status_code, has_none(deleted)) == (204, True)


REFUSED = {
    "no JSON": ("{", 400, "bad_json"),
    "empty": ('{"message": " "}', 400, "message_empty"),
    "too long": (f'{{"message": "{"a" * 3000}"}}', 400, "message_too_long"),
    "a wrong field": ('{"message": 7}', 422, "invalid_request"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_body_that_is_refused_costs_nothing(server: ServerProcess, name: str) -> None:
    """A front end's mistake takes no turn away, and is told as such to who has none left, too."""
    body, status, code = REFUSED[name]
    headers = {"authorization": f"Bearer body-{len(name)}", "content-type": "application/json"}
    for _ in range(3):
        response = server.http.post("/chat", content=body, headers=headers)
        problem(response, status, code)
        assert has_none(response)
    assert limits(server.ask(QUESTION, user=f"body-{len(name)}"))[1] == MOST - 1


def test_who_turns_out_to_be_nobody_costs_nothing(tmp_path: Path) -> None:
    """Where users are not made, one that the database does not know is refused before a turn is taken off anything."""
    with (
        project(tmp_path) as school,
        running(tmp_path / "server", **SETTINGS, **school.settings, AUTH_MODE="dev") as server,
    ):
        for path, body in WAYS.values():
            refused = post(server, body, path=path, user="nobody")
            assert (refused.status_code, refused.headers["x-error-code"]) == (401, "unauthenticated")
            assert has_none(refused)
        school.insert("users", id="nobody", username="Nobody")
        assert limits(server.ask(QUESTION, user="nobody"))[:2] == (MOST, MOST - 1)


def test_a_repeat_costs_one_and_so_does_a_turn_that_fails(server: ServerProcess) -> None:
    """What is told again under a key cost a read, and a failed turn what it cost; both say what is left."""
    key = {"idempotency-key": "once"}
    first, again = (server.ask(QUESTION, user="eve", headers=key) for _ in range(2))
    assert (first.json()["turn_id"], limits(again)[1]) == (again.json()["turn_id"], MOST - 2)
    mismatch = server.ask("Another?", user="eve", headers=key)
    assert (mismatch.status_code, limits(mismatch)[1]) == (422, MOST - 3)
    failed = server.ask("Fail [[fault: http 401 invalid_api_key]]", user="eve")
    assert (failed.status_code, limits(failed)[1]) == (502, MOST - 4)


def test_a_page_may_read_the_headers(server: ServerProcess) -> None:
    """CORS exposes them, so that a front end can say how long to wait."""
    response = server.ask(QUESTION, user="fay", headers={"origin": "https://school.example"})
    exposed = {name.strip().lower() for name in response.headers["access-control-expose-headers"].split(",")}
    assert exposed >= {"retry-after", "ratelimit-limit", "ratelimit-remaining", "ratelimit-reset"}


def test_refusals_are_counted_and_logged_without_who(server: ServerProcess) -> None:
    """The counter has each by kind, the log a line of some, with a trace and without the user."""
    spend(server, "canary-gil")
    before = counted(server, "user")
    for _ in range(3):
        server.ask(QUESTION, user="canary-gil")
    assert (counted(server, "user"), counted(server, "address")) == (before + 3, 0)
    line = server.wait_for_log("turn.rate_limited", kind="user")
    assert set(line) == {
        "time", "level", "event", "logger", "trace_id", "span_id", "kind", "refused", "retry_after_s"
    }  # fmt: skip
    assert not any("canary-gil" in str(line) for line in server.lines("turn.rate_limited"))


def counted(server: ServerProcess, kind: str) -> float:
    """Return how many of a kind `/metrics` says were refused; both kinds are there from the start on."""
    lines = server.http.get("/metrics").text.splitlines()
    found = [line for line in lines if line.startswith("chat_rate_limited_total{")]
    assert len(found) == 2
    (value,) = (line.rpartition(" ")[2] for line in found if f'kind="{kind}"' in line)
    return float(value)


def test_who_waits_as_long_as_told_is_let_in(tmp_path: Path) -> None:
    """After `Retry-After` the next turn is answered."""
    settings = {**SETTINGS, "CHAT_RATE_LIMIT_MAX": "1", "CHAT_RATE_LIMIT_WINDOW_SEC": "1"}
    with running(tmp_path, **settings) as server:
        answers = (server.ask(QUESTION) for _ in range(100))
        refused = next(response for response in answers if response.status_code == 429)
        time.sleep(int(refused.headers["retry-after"]))
        assert server.ask(QUESTION).status_code == 200


def test_a_server_without_the_limit(tmp_path: Path) -> None:
    """Switched off there is none, and no header of it."""
    with running(tmp_path, **{**SETTINGS, "ENABLE_CHAT_RATE_LIMIT": "false", "CHAT_RATE_LIMIT_MAX": "1"}) as server:
        responses = [server.ask(QUESTION) for _ in range(3)]
        assert [response.status_code for response in responses] == [200] * 3
        assert all(has_none(response) for response in responses)
