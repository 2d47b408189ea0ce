"""What nobody but its owner is to read shows nowhere: not in a log, span, metric, error or answer to ops.

Each server is given canaries, words that occur nowhere else, wherever a caller or an operator can put a text; turns of
every outcome are run; then everything that left the process, but for good answers to the caller, is searched at once.
That the search sees everything is proven by a word that must be in each place: the trace id that every request joins.
"""

import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.receive.auth.tokens import TokenRules, mint
from tests.receivers import OtlpReceiver, otlp_receiver
from tests.server.database_faults import Weather
from tests.server.faulty_database import RemoteFaultyDatabase, faulty_database
from tests.server.neighbours import Neighbour, model_host
from tests.server.outbox_town import NO_WRITES, REFUSED, WELL
from tests.server.process import AT_ONCE, ServerProcess, running
from tests.server.rows import stored
from tests.server.streaming import STALLS, opened

USER = "CanaryUser5e1f"
SECRETS = {
    "OPS_TOKEN": "CanaryOpsToken77aa",
    "OPENAI_API_KEY": "sk-CanaryModelKey01cd",
    "SUPABASE_JWT_SECRET": "CanaryJwtSecret93b2-of-32-bytes-or-more",
    "TELEMETRY_HASH_KEY": "CanaryHashKey4402",
}
DATABASE_KEY = "sb_secret_CanaryDatabaseKey8d2e"
TEXTS = {
    "message": "CanaryMessage0a4b",
    "context": "CanaryContext6b6b",
    "project": "CanaryProject2c9d",
    "page": "CanaryPage31f0",
    "chat": "CanaryChat7d7d",
    "title": "CanaryTitle88e1",
    "search": "CanarySearch19c3",
    "key": "CanaryIdempotency5f5f",
    "forwarded": "203.0.113.177",
    "wrong": "CanaryWrongToken6a2c",
    "field": "CanaryField3e3e",
    "query": "CanaryQuery9b9b",
    "code": "CanaryCode4d4d",
}
FAULTS = {
    "ok": AT_ONCE,
    "upstream_error": "[[fault: http 500 server_error]]",
    "a code of the host's own": f"[[fault: http 400 {TEXTS['code']}]]",
    "an error within the stream": f"[[fault: error after=2 code={TEXTS['code']}]]",
    "not JSON": "[[fault: garbage after=2]]",
    "cut": "[[fault: cut after=2]]",
    "timeout": STALLS,
}
FOR_GOOD = "[[fault: http 401 invalid_api_key]]"
"""After which the model's host is left alone."""
OPS_PATHS = ("/ops/turns", "/ops/limiter", "/ops/settings", "/ops/rollout", "/ops/outbox", "/ops/console")
METRICS = ("text/plain", "application/openmetrics-text; version=1.0.0")
TRACE = "c0ffee5eed" * 3 + "01"
"""Joined by every request, so it is to be found wherever there is something of a request."""
SLOWLY = "[[fault: slow first=0.05 each=0.05]]"


@dataclass(slots=True)
class Town:
    """A server with canaries in it, its caller, and all that came out of it."""

    server: ServerProcess
    receiver: OtlpReceiver
    model: Neighbour
    token: str
    folder: Path
    database: RemoteFaultyDatabase | None = None
    errors: list[httpx.Response] = field(default_factory=list)
    streams: list[str] = field(default_factory=list)
    ops: list[httpx.Response] = field(default_factory=list)
    metrics: list[httpx.Response] = field(default_factory=list)

    def headers(self, token: str) -> dict[str, str]:
        """Return the headers of every request."""
        passed_on = {} if token == USER else {"x-forwarded-for": TEXTS["forwarded"]}  # `dev` answers this machine only
        return {
            "authorization": f"Bearer {token}",
            "traceparent": f"00-{TRACE}-00f067aa0ba902b7-01",
            **passed_on,
        }

    def ask(self, method: str, path: str, token: str | None = None, **request: Any) -> httpx.Response:
        """Ask as the caller; keep what is an error, and of a stream all but the answer's text."""
        headers = self.headers(token or self.token) | request.pop("headers", {})
        response = self.server.http.request(method, path, headers=headers, **request)
        if response.status_code >= 400:
            self.errors.append(response)
        elif response.headers.get("content-type", "").startswith("text/event-stream"):
            self.streams += [event for event in response.text.split("\n\n") if '"text-delta"' not in event]
        return response

    def turn(self, fault: str, path: str = "/chat", **fields: Any) -> httpx.Response:
        """Ask for a turn with a text in every field."""
        texts = {"message": f"{TEXTS['message']} {fault}", "page_id": TEXTS["page"], "context": TEXTS["context"]}
        return self.ask("POST", path, json={**texts, **fields})

    def look(self) -> None:
        """Ask what ops may ask."""
        bearer = self.headers(SECRETS["OPS_TOKEN"])
        self.ops += [self.server.http.get(path, headers=bearer) for path in OPS_PATHS]
        self.metrics += [self.server.http.get("/metrics", headers={**bearer, "accept": accept}) for accept in METRICS]

    def collected(self) -> dict[str, str]:
        """Return everything, by where it was found."""
        return {
            "log": self.server.log_text,
            "stdout": self.server.stdout,
            "exports": b"\n".join(self.receiver.bodies).decode("utf-8", "replace"),
            "spans": "\n".join(repr(span) for span in self.receiver.spans),
            "errors": _texts(self.errors),
            "streams": "\n".join(self.streams),
            "ops": _texts(self.ops),
            "metrics": _texts(self.metrics),
        }


def _texts(responses: list[httpx.Response]) -> str:
    return "\n".join(f"{response.headers}\n{response.text}" for response in responses)


def leaks(found: dict[str, str], canaries: list[str]) -> set[tuple[str, str]]:
    """Return each canary with where it is."""
    return {(where, canary) for where, text in found.items() for canary in canaries if canary.lower() in text.lower()}


@contextmanager
def with_a_project(folder: Path) -> Iterator[Town]:
    """Run a server on a database that can fail and on a model's host, with a key for each."""
    file = folder / "supabase.sqlite3"
    with otlp_receiver() as receiver, model_host() as model, faulty_database(file) as database:
        with closing(sqlite3.connect(file)) as rows:
            rows.execute("insert into users (id, username) values (?, ?)", (USER, TEXTS["title"]))
            rows.commit()
        hosts = {"SUPABASE_URL": database.url, "SUPABASE_KEY": DATABASE_KEY, "AUTH_MODE": "dev"}
        with server_of(folder, receiver, model, **hosts) as server:
            yield Town(server, receiver, model, USER, folder, database)


@contextmanager
def with_tokens(folder: Path) -> Iterator[Town]:
    """Run a server on the embedded database whose callers have signed tokens."""
    rules = TokenRules(audience="authenticated", issuer=None)
    token = mint(USER, SECRETS["SUPABASE_JWT_SECRET"], rules, now=time.time(), valid_s=3600)
    with (
        otlp_receiver() as receiver,
        model_host() as model,
        server_of(folder, receiver, model, AUTH_MODE="supabase") as server,
    ):
        yield Town(server, receiver, model, token, folder / "server")


@contextmanager
def server_of(folder: Path, receiver: OtlpReceiver, model: Neighbour, **settings: str) -> Iterator[ServerProcess]:
    given = {
        **SECRETS,
        "OPENAI_BASE_URL": f"{model.url}/v1",
        "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url,
        "LLM_IDLE_TIMEOUT": "0.5",
        "LOG_LEVEL": "debug",
        "MAX_BODY_BYTES": "9999",
        "AUTH_FAILURES_MAX": "5",
        "AUTH_FAILURES_WINDOW_SEC": "3600",
    }
    with running(folder / "server", **{**given, **settings}) as server:
        yield server


def turns_of_every_outcome(town: Town) -> None:
    """Answered, refused, failed, timed out: as JSON, as streams, by the agent, and asked twice."""
    for fault in FAULTS.values():
        for path in ("/chat", "/chat/stream"):
            town.turn(fault, path)
            town.turn(AT_ONCE)  # too many failures in a row, and the host would be left alone
        town.turn(fault, "/conversation-agent/chat", mock_mode=False, debug_mode=True)
        town.turn(AT_ONCE)
    town.turn(AT_ONCE, project_id=TEXTS["project"])
    message = f"{TEXTS['message']} {AT_ONCE}"
    for asked in (message, message, f"{message} again"):
        town.ask("POST", "/chat", json={"message": asked}, headers={"idempotency-key": TEXTS["key"]})


def turns_of_the_sdk(town: Town) -> None:
    """The AI SDK's body, right and wrong; what it is refused with is text."""
    question = {
        "id": TEXTS["key"],
        "role": "user",
        "parts": [{"type": "text", "text": f"{TEXTS['message']} {AT_ONCE}"}],
    }
    for asked in (question, {**question, "parts": [{"type": TEXTS["field"]}]}, {**question, "id": ""}):
        town.ask("POST", "/chat", json={"id": TEXTS["chat"], "messages": [asked], "trigger": "submit-message"})
    town.ask("POST", "/chat", json={"id": TEXTS["chat"], "messages": [question], "trigger": TEXTS["field"]})
    town.ask("POST", "/chat", token=TEXTS["wrong"] + "!", json={"id": TEXTS["chat"], "messages": [question]})


def a_turn_that_is_stopped(town: Town) -> None:
    """Stop a stream, and leave another."""
    asked: dict[str, Any] = {"user": town.token, "headers": town.headers(town.token), "page_id": TEXTS["chat"]}
    with opened(town.server, f"{TEXTS['message']} {SLOWLY}", **asked) as answer:
        answer.deltas(1)
        assert town.ask("POST", f"/chat/{TEXTS['chat']}/stop").json() == {"stopped": True}
        assert answer.rest()[-1] == {"type": "abort"}
    with opened(town.server, f"{TEXTS['message']} {SLOWLY}", **asked) as answer:
        answer.deltas(1)
    town.ask("GET", f"/chat/{TEXTS['chat']}/stream")


def what_is_wrong(town: Town) -> None:
    """Requests that are refused, each with a text where it is wrong."""
    json_type = {"content-type": "application/json"}
    town.ask("POST", "/chat", content=f'{{"message": "{TEXTS["message"]}'.encode(), headers=json_type)
    town.ask("POST", "/chat", json={"message": [TEXTS["message"]], "page_id": {TEXTS["field"]: 1}})
    town.ask("POST", "/chat", json={"message": TEXTS["message"] * 200})
    town.ask("POST", "/chat", json={"message": TEXTS["message"] * 2000})
    town.ask("POST", "/chat", json={"message": TEXTS["message"]}, headers={"content-type": TEXTS["field"]})
    town.ask("POST", "/chat", json={"message": TEXTS["message"], "conversation_id": TEXTS["field"]})
    for query in ("q={search}&limit={query}", "before={query}", "{query}={query}", "page_id={page}&limit=0"):
        town.ask("GET", "/conversations?" + query.format(**TEXTS))
        town.ask("GET", "/chat/history?" + query.format(**TEXTS))
    town.ask("GET", f"/ops/turns?outcome={TEXTS['query']}", token=SECRETS["OPS_TOKEN"])
    town.ask("PUT", "/ops/rollout", json={"by": TEXTS["query"]}, token=SECRETS["OPS_TOKEN"])
    town.ask("GET", f"/{TEXTS['query']}?{TEXTS['query']}")
    town.ask(TEXTS["query"].upper(), "/chat")


def conversations(town: Town) -> None:
    """Make, name, search, read and delete conversations, one's own and none."""
    one = town.ask("POST", "/conversations", json={"title": TEXTS["title"], "page_id": TEXTS["page"]}).json()["id"]
    for id_ in (one, TEXTS["page"]):
        town.ask("GET", f"/conversations/{id_}")
        town.ask("GET", f"/conversations/{id_}/messages")
        town.ask("PATCH", f"/conversations/{id_}", json={"title": TEXTS["title"]})
    town.ask("PATCH", f"/conversations/{one}", json={"title": TEXTS["title"] * 99})
    town.ask("GET", f"/conversations?q={TEXTS['search']}")
    town.ask("DELETE", f"/conversations/{one}")


def a_database_that_fails(town: Town) -> None:
    """Rows that wait in the outbox and are refused, reads that fail, and a database that is down."""
    if town.database is None:
        return
    for weather in (NO_WRITES, REFUSED, Weather(reads={"internal": 1.0}), Weather(door="refused")):
        town.database.become(weather)
        town.turn(AT_ONCE)
        town.turn(AT_ONCE, "/chat/stream")
        town.ask("GET", f"/conversations?q={TEXTS['search']}")
        town.look()
    town.database.become(WELL)


def a_model_that_refuses_for_good(town: Town) -> None:
    """The host says that our key is wrong; the next turn is refused before it is asked."""
    for _ in range(2):
        town.turn(FOR_GOOD)


def strangers(town: Town) -> None:
    """Wrong tokens, until their address has none left."""
    for path in ("/chat/history", "/ops/turns", "/metrics"):
        for _ in range(6):
            town.ask("GET", path, token=TEXTS["wrong"])


STEPS: tuple[Callable[[Town], None], ...] = (
    turns_of_every_outcome,
    turns_of_the_sdk,
    a_turn_that_is_stopped,
    what_is_wrong,
    conversations,
    a_database_that_fails,
    a_model_that_refuses_for_good,
    strangers,
)
STATUSES = {400, 401, 404, 405, 413, 415, 422, 429, 502, 504}
OUTCOMES = {"ok", "refused", "upstream_error", "timeout", "cancelled"}


@pytest.mark.parametrize("town_of", [with_a_project, with_tokens])
def test_no_canary_is_seen(tmp_path: Path, town_of: Callable[[Path], AbstractContextManager[Town]]) -> None:
    """No canary is in anything that left the process, but for good answers to its owner, whatever came of the turns."""
    with town_of(tmp_path) as town:
        for step in STEPS:
            step(town)
        town.look()
        town.server.end()
        found = town.collected()
        check_the_search(town, found)
        assert leaks(found, [*SECRETS.values(), DATABASE_KEY, *TEXTS.values(), USER, town.token]) == set()


def check_the_search(town: Town, found: dict[str, str]) -> None:
    """Check that everything was searched, that the canaries went in, and that the turns ended in every way."""
    seen = {where for where, _word in leaks(found, [TRACE])}
    assert seen >= {"log", "spans", "errors", "streams", "ops", "metrics"}
    assert {where for where, _word in leaks(found, ["chat.turn"])} >= {"exports", "spans"}
    assert '"server.stopped"' in found["log"]
    assert TEXTS["message"].encode() in b"".join(bytes(heard.body) for heard in town.model.heard)
    rows = stored(town.folder, "chat_conversations")
    assert TEXTS["title"] in {row["title"] for row in rows}
    assert TEXTS["chat"] in {row["page_id"] for row in rows}
    assert {response.status_code for response in town.errors} >= STATUSES
    assert {line["outcome"] for line in town.server.lines("turn.finished")} >= OUTCOMES


def test_the_search_finds_a_word_in_any_place() -> None:
    """The search itself: a word is found wherever it is, whatever its case."""
    assert leaks({"a": "x CANARYMESSAGE0A4B y", "b": ""}, [TEXTS["message"], USER]) == {("a", TEXTS["message"])}
