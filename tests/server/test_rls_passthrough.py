"""SUPABASE_RLS_PASSTHROUGH on a real server: whose token each request bears, read at a project's host on loopback."""

import json
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.clients.in_process import AsgiApp, Message
from tests.receivers import otlp_receiver
from tests.server.key_host import Auth, Project
from tests.server.neighbours import Heard, database_host
from tests.server.process import AT_ONCE, ServerProcess, run_command, running, until
from tests.server.rows import stored, turn_rows
from tests.server.wire import problem

LEGACY_KEY, SECRET_KEY = "head.payload.signature", "sb_secret_test"
REFUSALS = ("PGRST301", "PGRST302", "PGRST303")


@dataclass
class Strict:
    """What stands before the database: with `code` set, it refuses every read that bears a caller's token."""

    auth: Auth = field(default_factory=Auth)
    code: str = ""

    def before(self, app: AsgiApp) -> AsgiApp:
        async def serve(scope: Message, receive: Callable[[], Any], send: Callable[[Message], Any]) -> None:
            headers = dict(scope.get("headers", ()))
            own = headers.get(b"authorization", b"").removeprefix(b"Bearer ") != LEGACY_KEY.encode()
            if not self.code or scope.get("method") != "GET" or b"authorization" not in headers or not own:
                await app(scope, receive, send)
                return
            kind = [(b"content-type", b"application/json")]
            await send({"type": "http.response.start", "status": 401, "headers": kind})
            await send({"type": "http.response.body", "body": b'{"code":"%s","message":"no"}' % self.code.encode()})

        return self.auth.before(serve)


@dataclass
class Town:
    """The server and the project that it reads as its callers."""

    server: ServerProcess
    project: Project
    strict: Strict
    folder: Path

    def reads(self, user: str = "demo", **token: Any) -> httpx.Client:
        """Return a client that signs in as a user."""
        return httpx.Client(
            base_url=self.server.url,
            headers={"authorization": f"Bearer {self.project.token(sub=user, **token)}"},
            trust_env=False,
            timeout=20,
        )


@contextmanager
def town_with(folder: Path, key: str, **settings: str) -> Iterator[Town]:
    strict = Strict()
    with database_host(folder / "supabase.sqlite3", strict.before) as neighbour:
        project = Project(strict.auth, neighbour)
        given = {"SUPABASE_URL": neighbour.url, "SUPABASE_KEY": key, "SUPABASE_RLS_PASSTHROUGH": "true", **settings}
        for user in ("ann", "bob"):
            project.insert("users", id=user)
        with running(folder / "server", module="tests.server.extended", **given) as server:
            yield Town(server, project, strict, folder)


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Town]:
    with town_with(tmp_path_factory.mktemp("town"), getattr(request, "param", SECRET_KEY)) as town:
        yield town


@pytest.fixture
def heard(town: Town) -> Iterator[list[Heard]]:
    """What the database is asked during the test, once signing in has been paid for."""
    for user in ("ann", "bob"):
        with town.reads(user) as client:
            client.post("/conversations", json={"page_id": "general"}).raise_for_status()
    before = len(town.project.neighbour.heard)
    found: list[Heard] = []
    town.project.neighbour.heard, kept = found, town.project.neighbour.heard[:before]
    yield found
    town.project.neighbour.heard = kept + found


def bearer(request: Heard) -> str | None:
    return request.headers.get("authorization")


@pytest.mark.parametrize("town", [LEGACY_KEY, SECRET_KEY], ids=["legacy-key", "secret-key"], indirect=True)
def test_reads_bear_the_callers_token_and_writes_the_key(town: Town, heard: list[Heard]) -> None:
    """Of a turn, lists and pages every read has the caller's token beside our key; every write our key alone."""
    with town.reads("ann") as client:
        token, keyed = client.headers["authorization"], {"idempotency-key": str(uuid.uuid4())}
        for _ in range(2):
            asked = {"message": f"Bees? {AT_ONCE}", "page_id": "project-7"}
            client.post("/chat", json=asked, headers=keyed).raise_for_status()
        made = client.post("/conversations", json={"title": "Talk"}).json()
        for path in ("/chat/history", "/conversations", "/conversations?q=bees", f"/conversations/{made['id']}"):
            client.get(path).raise_for_status()
        client.patch(f"/conversations/{made['id']}", json={"title": "Other"}).raise_for_status()
        client.delete(f"/conversations/{made['id']}").raise_for_status()
    reads, writes = ([one for one in heard if (one.method == "GET") == wanted] for wanted in (True, False))
    assert {one.path.rpartition("/")[2] for one in reads} == {"chat_conversations", "chat_logs", "projects"}
    assert {one.method for one in writes} == {"POST", "PATCH"}
    assert {bearer(one) for one in reads} == {token}
    (written_with,) = {bearer(one) for one in writes}
    (apikey,) = {one.headers["apikey"] for one in heard}
    assert written_with == (f"Bearer {apikey}" if apikey == LEGACY_KEY else None)


def test_each_user_reads_as_themselves(town: Town, heard: list[Heard]) -> None:
    """Two users' reads over the same connections bear each their own token, and one without a token reads nothing."""
    with town.reads("ann") as ann, town.reads("bob") as bob:
        for _ in range(3):
            for client in (ann, bob):
                client.get("/chat/history").raise_for_status()
        told = [ann.headers["authorization"], bob.headers["authorization"]] * 3
    assert [bearer(one) for one in heard] == told
    assert town.server.http.get("/chat/history").status_code == 401
    assert len(heard) == 6


def test_who_somebody_is_our_key_looks_up(town: Town) -> None:
    """Whose a new caller's token is, is asked with our key: it is not theirs to say, whatever the policies are."""
    user = f"new-{uuid.uuid4().hex}"
    town.project.insert("users", id=user)
    with town.reads(user) as client:
        client.get("/chat/history").raise_for_status()
        told = client.headers["authorization"]
    asked = [one for one in town.project.neighbour.heard if user in str(one.query)]
    by_table = {one.path.rpartition("/")[2]: bearer(one) == told for one in asked if one.method == "GET"}
    assert by_table == {"user_id_mapping": False, "users": False, "chat_conversations": True}


@pytest.mark.parametrize("code", REFUSALS)
def test_a_token_that_ends_meanwhile_is_its_callers_affair(town: Town, code: str) -> None:
    """A read that is refused for its token is 401 to the caller, often enough to open the breaker, which stays shut."""
    town.strict.code = code
    try:
        with town.reads("ann") as client:
            for _ in range(12):
                problem(client.get("/chat/history"), 401, "unauthenticated")
            problem(client.post("/chat", json={"message": f"Bees? {AT_ONCE}"}), 401, "unauthenticated")
            sdk = {"id": "p", "messages": [{"id": "1", "role": "user", "parts": [{"type": "text", "text": "Bees?"}]}]}
            refused = client.post("/chat/stream", json={**sdk, "trigger": "submit-message"})
            assert (refused.status_code, refused.headers["x-error-code"]) == (401, "unauthenticated")
    finally:
        town.strict.code = ""
    assert town.server.lines("database.token_refused", error=code)
    assert town.server.http.get("/readyz").json() == {"status": "ready", "degraded": []}
    with town.reads("ann") as client:
        client.get("/chat/history").raise_for_status()


def test_a_save_does_not_need_the_token(town: Town) -> None:
    """A turn whose token ends once it was let in is stored all the same, though its save must read what is there."""
    asked = {"message": "Bees? [[fault: slow first=0 each=0.02]]", "page_id": f"late-{uuid.uuid4().hex}"}
    refused = len(town.server.lines("database.token_refused"))
    with town.reads("ann") as client:
        keyed = {"idempotency-key": str(uuid.uuid4())}
        with client.stream("POST", "/chat/stream", json=asked, headers=keyed) as stream:
            parts = (json.loads(line[6:]) for line in stream.iter_lines() if line.startswith("data: {"))
            turn_id = next(part for part in parts if part["type"] == "start")["messageMetadata"]["turn_id"]
            next(part for part in parts if part["type"] == "text-delta")
            put_half_an_answer(town, turn_id)
            town.strict.code = "PGRST303"
            text = "".join(part["delta"] for part in parts if part["type"] == "text-delta")
        town.strict.code = ""
    _question, answer = turn_rows(town.folder, turn_id)
    assert answer["message"].endswith(text)
    assert len(town.server.lines("database.token_refused")) == refused


def put_half_an_answer(town: Town, turn_id: str) -> None:
    """Store what another process would have left of the same turn; it is to be read, and replaced."""
    until(lambda: bool(stored(town.folder, turn_id=turn_id)), "the question is stored")
    (question,) = stored(town.folder, turn_id=turn_id)
    same = {name: question[name] for name in ("user_id", "page", "conversation_id", "created_at", "turn_id")}
    town.project.insert("chat_logs", sender="assistant", message="half", context_data={"finish": "cancelled"}, **same)


def test_the_token_ends_with_its_turn(town: Town) -> None:
    """Once turns and requests are over, no caller's token is left in the process."""
    with town.reads("ann") as client:
        client.post("/chat", json={"message": f"Bees? {AT_ONCE}"}).raise_for_status()
        client.get("/conversations").raise_for_status()
    until(lambda: town.server.http.get("/test/tokens").text == "0", "no token is kept")


def test_the_token_is_told_to_nobody_else(tmp_path: Path) -> None:
    """It is in no log line, span, metric, answer or file of ours, whether reads go well or are refused."""
    with (
        otlp_receiver() as receiver,
        town_with(tmp_path, SECRET_KEY, OTEL_EXPORTER_OTLP_ENDPOINT=receiver.url, LOG_LEVEL="debug") as town,
        town.reads("ann") as client,
    ):
        token = client.headers["authorization"].removeprefix("Bearer ")
        answers = [client.post("/chat", json={"message": f"Bees? {AT_ONCE}"})]
        town.strict.code = "PGRST303"
        answers += [client.get("/chat/history"), client.get("/conversations")]
        answers += [client.get(path) for path in ("/ops/turns", "/ops/settings", "/ops/support", "/metrics")]
        client.close()
        town.server.end()
        parts = [part for part in token.split(".") if len(part) > 20]
        told = [town.server.log_text, repr(receiver.spans), *(f"{one.headers} {one.text}" for one in answers)]
        told += [file.read_bytes().decode("latin-1") for file in town.server.data_dir.rglob("*") if file.is_file()]
        assert not [part for part in parts for text in told if part in text]
        assert len(parts) == 3
        assert {span.kind for span in receiver.spans} >= {2, 3}, "server's and client's"


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"SUPABASE_URL": "http://127.0.0.1:9", "SUPABASE_KEY": "k", "AUTH_MODE": "dev"}, "AUTH_MODE=dev"),
        ({}, "SUPABASE_URL"),
        ({"AUTH_MODE": "supabase", "SUPABASE_JWT_SECRET": "s" * 32}, "SUPABASE_URL"),
    ],
)
def test_where_there_is_no_token_it_does_not_start(tmp_path: Path, settings: dict[str, str], named: str) -> None:
    """Without callers' tokens, or without a project to show them to, the server says so and does not start."""
    ended = run_command(tmp_path, "serve", SUPABASE_RLS_PASSTHROUGH="true", **settings)
    assert ended.returncode != 0
    assert "SUPABASE_RLS_PASSTHROUGH" in ended.stderr
    assert named in ended.stderr
