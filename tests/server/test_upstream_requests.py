"""What the server really sends to the model's host and to the database's host: read there, request by request."""

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.server.neighbours import Heard, Neighbour, database_host, model_host
from tests.server.process import AT_ONCE, ServerProcess, running
from tests.server.rows import stored, turn_rows

LEGACY_KEY = "head.payload.signature"
SECRET_KEY = "sb_secret_0123456789abcdef"
MODEL_KEY = "sk-0123456789abcdef"
TRACE = "0af7651916cd43dd8448eb211c80319c"


@dataclass(frozen=True, slots=True)
class Town:
    """The server between its two hosts."""

    server: ServerProcess
    model: Neighbour
    database: Neighbour
    folder: Path

    def turn(self, message: str = f"What is a hypothesis? {AT_ONCE}", **fields: object) -> list[Heard]:
        """Have a message answered and return what the database's host heard meanwhile."""
        before = len(self.database.heard)
        self.server.answer(message, **fields)
        return self.database.heard[before:]


@pytest.fixture(scope="module", params=[LEGACY_KEY, SECRET_KEY], ids=["legacy-key", "secret-key"])
def key(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory, key: str) -> Iterator[Town]:
    folder = tmp_path_factory.mktemp("town")
    with (
        model_host() as model,
        database_host(folder / "supabase.sqlite3") as database,
        running(
            folder / "server",
            OPENAI_BASE_URL=f"{model.url}/v1",
            OPENAI_API_KEY=MODEL_KEY,
            OPENAI_MODEL="some-model",
            OPENAI_TEMPERATURE="0.5",
            SUPABASE_URL=database.url,
            SUPABASE_KEY=key,
            AUTH_MODE="dev",
            TELEMETRY_HASH_KEY="k",
        ) as server,
    ):
        yield Town(server, model, database, folder)


def test_the_turn_is_stored_at_the_database_host(town: Town) -> None:
    """With SUPABASE_URL set, the rows are in that host's database, and nothing but the outbox is under DATA_DIR."""
    body = town.server.answer(f"Over the network {AT_ONCE}", page_id="stored")
    question, answer = turn_rows(town.folder, body["turn_id"])
    assert (question["message"], answer["message"]) == (f"Over the network {AT_ONCE}", body["response"])
    assert [path.name for path in town.server.data_dir.iterdir()] == ["outbox"]


def test_an_unknown_user_is_not_made(town: Town) -> None:
    """A real project's unknown user is 401, is not made, and pays for nothing."""
    asked, before = len(town.model.heard), stored(town.folder, "users")
    response = town.server.ask("Who am I?", user="nobody")
    assert (response.status_code, response.json()["code"]) == (401, "unauthenticated")
    assert stored(town.folder, "users") == before
    assert len(town.model.heard) == asked


def test_a_user_who_joins_later_is_known(town: Town) -> None:
    """A user refused as unknown is let in once the database has them."""
    assert town.server.ask("Now?", user="late").status_code == 401
    with closing(sqlite3.connect(town.folder / "supabase.sqlite3")) as database, database:
        database.execute("insert into users (id) values ('late')")
    assert town.server.ask(f"Now? {AT_ONCE}", user="late").status_code == 200


def test_the_model_is_asked_once_and_streamed(town: Town) -> None:
    """A turn is one POST: streamed, with usage asked for, the configured model, and a bound on the answer."""
    before = len(town.model.heard)
    town.turn(page_id="asked")
    (heard,) = town.model.heard[before:]
    assert (heard.method, heard.path) == ("POST", "/v1/chat/completions")
    body = json.loads(heard.body)
    assert (body["stream"], body["stream_options"]) == (True, {"include_usage": True})
    assert (body["model"], body["max_tokens"], body["temperature"]) == ("some-model", 800, 0.5)
    assert [message["role"] for message in body["messages"]] == ["system", "user"]
    assert heard.headers["authorization"] == f"Bearer {MODEL_KEY}"
    assert heard.headers["content-type"] == "application/json"


def test_the_model_host_learns_nothing_else(town: Town) -> None:
    """No trace header, no user, no id of ours and no database key reaches the model's host, even in a joined trace."""
    headers = {"traceparent": f"00-{TRACE}-00f067aa0ba902b7-01", "tracestate": "a=b", "baggage": "user=demo"}
    body = town.server.answer(f"Traced {AT_ONCE}", page_id="private", headers=headers)
    heard = town.model.heard[-1]
    assert body["trace_id"] == TRACE
    assert not {"traceparent", "tracestate", "baggage", "apikey", "cookie"} & set(heard.headers)
    told = f"{heard.headers} {heard.body.decode()}"
    for secret in (TRACE, body["turn_id"], body["conversation_id"], "demo", LEGACY_KEY, SECRET_KEY):
        assert secret not in told


def test_the_model_connection_is_used_again(town: Town) -> None:
    """The next turn's call goes over the same connection: an answer that was read to its end leaves it open."""
    for number in range(3):
        town.turn(page_id=f"again-{number}")
    assert len({heard.client for heard in town.model.heard[-3:]}) == 1


def test_a_turn_reads_its_conversation_in_one_request(town: Town) -> None:
    """Conversation and newest history come in ONE request of the documented spelling, the project in one beside it."""
    town.turn(page_id="project-1")
    reads = [heard for heard in town.turn(page_id="project-1") if heard.method == "GET"]
    queries = {heard.path: heard.query for heard in reads}
    assert sorted(heard.path for heard in reads) == ["/rest/v1/chat_conversations", "/rest/v1/projects"]
    assert queries["/rest/v1/chat_conversations"] == {
        "select": "id,title,chat_logs(id,sender,message,created_at,context_data,turn_id)",
        "user_id": "eq.demo",
        "page_id": "eq.project-1",
        "chat_logs.order": "created_at.desc,id.desc",
        "chat_logs.limit": "20",
        "limit": "1",
    }
    assert queries["/rest/v1/projects"]["user_id"] == "eq.demo"
    assert {heard.headers["accept-profile"] for heard in reads} == {"public"}


def test_saves_are_idempotent_inserts(town: Town) -> None:
    """A first turn upserts its conversation on its key, then writes each row on the turn's key, nothing returned."""
    writes = [heard for heard in town.turn(page_id=f"saves {len(town.database.heard)}") if heard.method == "POST"]
    assert [(heard.path, heard.query["on_conflict"], heard.headers["prefer"]) for heard in writes] == [
        ("/rest/v1/chat_conversations", "user_id,page_id", "resolution=ignore-duplicates,return=representation"),
        ("/rest/v1/chat_logs", "turn_id,sender", "resolution=ignore-duplicates,return=minimal"),
        ("/rest/v1/chat_logs", "turn_id,sender", "resolution=ignore-duplicates,return=minimal"),
    ]
    assert {heard.headers["content-profile"] for heard in writes} == {"public"}
    rows = [row for heard in writes[1:] for row in json.loads(heard.body)]
    assert [row["sender"] for row in rows] == ["user", "assistant"]
    assert len({(row["turn_id"], row["conversation_id"], row["user_id"]) for row in rows}) == 1


def test_keys_are_sent_in_their_own_form(town: Town, key: str) -> None:
    """Every database request has the apikey; only a legacy key, which is a JWT, is a bearer token too."""
    for heard in town.turn(page_id="keys"):
        assert heard.headers["apikey"] == key
        assert heard.headers.get("authorization") == (f"Bearer {key}" if key == LEGACY_KEY else None)


def test_the_user_agent_is_our_own(town: Town) -> None:
    """The database's host sees our name, not a browser's and not the library's."""
    assert {heard.headers["user-agent"] for heard in town.turn(page_id="agent")} == {"nursery-chat/0.1"}


def test_the_database_host_joins_the_trace(town: Town) -> None:
    """Every database request of a turn carries a traceparent of the turn's trace, each with a parent of its own."""
    before = len(town.database.heard)
    headers = {"traceparent": f"00-{TRACE}-00f067aa0ba902b7-01"}
    town.server.answer(f"Traced {AT_ONCE}", page_id="project-2", headers=headers)
    parts = [heard.headers["traceparent"].split("-") for heard in town.database.heard[before:]]
    assert {(version, trace, flags) for version, trace, _, flags in parts} == {("00", TRACE, "01")}
    assert len({span for _, _, span, _ in parts}) == len(parts) >= 4
