"""What a real server really answers is what the contract says: each good answer, and each error within reach."""

import re
import uuid
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from app.contract.operations import OPERATIONS
from tests.contract.judge import Judge, Recorder, committed
from tests.server.database_faults import Weather
from tests.server.faulty_database import faulty_database
from tests.server.outbox_town import NO_WRITES, Town
from tests.server.process import AT_ONCE, ServerProcess, running
from tests.server.streaming import STALLS, opened
from tests.server.wire import connected

OPS = "the-ops-token"
SLOWLY = "Slowly [[fault: slow first=0.05 each=0.05]]"
ASKED = {"message": f"Why? {AT_ONCE}"}
QUESTION = {"id": "q1", "role": "user", "parts": [{"type": "text", "text": f"Why? {AT_ONCE}"}]}
SDK = {"id": "sdk-page", "messages": [QUESTION]}
KEYED = {"idempotency-key": "once"}
STRANGE = str(uuid.uuid4())
FAULTS = {  # what the model does -> the status that a turn then has
    "http 500 server_error": 502,
    "http 429 rate_limit_exceeded header=retry-after=30": 503,
}


@pytest.fixture(scope="module")
def recorder() -> Recorder:
    return Recorder(Judge(committed()))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    settings = {"OPS_TOKEN": OPS, "LLM_IDLE_TIMEOUT": "0.5", "LLM_FIRST_TOKEN_TIMEOUT": "0.5", "MAX_BODY_BYTES": "9999"}
    with running(tmp_path_factory.mktemp("data"), **settings) as process:
        yield process


@pytest.fixture(scope="module")
def user(server: ServerProcess, recorder: Recorder) -> Iterator[httpx.Client]:
    with recorder.client(server.url, authorization="Bearer demo") as client:
        yield client


@pytest.fixture(scope="module")
def ops(server: ServerProcess, recorder: Recorder) -> Iterator[httpx.Client]:
    with recorder.client(server.url, authorization=f"Bearer {OPS}") as client:
        yield client


def come(recorder: Recorder, *statuses: int, of: str) -> None:
    """Check that an operation has answered with these statuses, and all that came so far was as described."""
    assert recorder.wrong == []
    assert {status for name, status, _media in recorder.seen if name == of} >= set(statuses)


@pytest.mark.parametrize(("path", "name"), [("/chat", "chat"), ("/chat/stream", "chatStream")])
def test_turns(user: httpx.Client, recorder: Recorder, path: str, name: str) -> None:
    """Turns that are answered, streamed, repeated, refused and failed."""
    wrong: list[object] = [{"message": " "}, {"message": "x" * 3000}, {}, [], {"messages": 1, "id": "a"}]
    for body in (ASKED, SDK, *wrong):
        user.post(path, json=body)
    for headers in (KEYED, KEYED, {**KEYED, "accept-language": "ja"}):
        user.post(path, json=ASKED, headers=headers)
    user.post(path, json={"message": f"Other {AT_ONCE}"}, headers=KEYED)
    user.post(path, json={**ASKED, "conversation_id": STRANGE})
    user.post(path, json={**SDK, "trigger": "regenerate-message"})
    user.post(path, json={**SDK, "messages": [{**QUESTION, "parts": [{"type": "file"}]}]})
    user.post(path, content=b"{", headers={"content-type": "application/json"})
    user.post(path, content=b"{}", headers={"content-type": "text/plain"})
    user.post(path, json={"message": "x" * 10_000})
    user.post(path, json=ASKED, headers={"authorization": ""})
    user.post(path, json=SDK, headers={"authorization": ""})
    come(recorder, 200, 400, 401, 404, 413, 415, 422, of=name)


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_of_the_model(user: httpx.Client, recorder: Recorder, fault: str) -> None:
    """A turn that the model fails, as JSON, in a stream, and to the AI SDK."""
    message = f"Why? [[fault: {fault}]]"
    assert user.post("/chat", json={"message": message}).status_code == FAULTS[fault]
    parts = [{"type": "text", "text": message}]
    for body in ({"message": message}, {"id": "failing", "messages": [{**QUESTION, "id": fault, "parts": parts}]}):
        user.post("/chat", json=ASKED)  # too many failures in a row, and the host would be left alone
        user.post("/chat/stream", json=body)
    user.post("/chat", json=ASKED)
    come(recorder, FAULTS[fault], of="chat")


def test_a_stage_that_takes_too_long(user: httpx.Client, recorder: Recorder) -> None:
    """504 names the stage; a stream has it as a part."""
    assert user.post("/chat", json={"message": f"Stall {STALLS}"}).status_code == 504
    user.post("/chat/stream", json={"message": f"Stall {STALLS}"})
    come(recorder, 504, of="chat")


def test_a_turn_that_runs(server: ServerProcess, user: httpx.Client, recorder: Recorder) -> None:
    """While a turn runs its repeat is 409; whoever left comes back to it, and its parts are told from the start."""
    key = {"idempotency-key": "slow"}
    with opened(server, SLOWLY, headers=key, page_id="slow", on_disconnect="continue") as answer:
        answer.deltas(1)
        again = user.post("/chat", json={"message": SLOWLY, "page_id": "slow"}, headers=key)
    assert again.status_code == 409
    assert user.get("/chat/slow/stream").status_code == 200
    for path in ("/chat/none/stream", "/chat/stream/none/stream"):
        assert user.get(path).status_code == 204
        user.get(path, headers={"authorization": ""})
    come(recorder, 409, of="chat")
    come(recorder, 200, 204, 401, of="resume")
    come(recorder, 204, 401, of="resumeStream")


def test_a_turn_that_is_stopped(server: ServerProcess, user: httpx.Client, recorder: Recorder) -> None:
    """Stopping says whether there was a turn; those who follow it are told by a part that is described."""
    with opened(server, SLOWLY, page_id="stops") as answer:
        answer.deltas(1)
        assert user.post("/chat/stops/stop").json() == {"stopped": True}
        assert answer.rest()[-1] == {"type": "abort"}
    part = {"$ref": "#/components/schemas/StreamPart"}
    assert [recorder.judge.faults(part, each) for each in answer.read] == [[]] * len(answer.read)
    for path in ("/chat/stops/stop", "/chat/stream/stops/stop"):
        assert user.post(path).json() == {"stopped": False}
        user.post(path, headers={"authorization": ""})
    come(recorder, 200, 401, of="stop")
    come(recorder, 200, 401, of="stopStream")


def test_the_agent(user: httpx.Client, recorder: Recorder) -> None:
    """The agent's own endpoints, with and without the model."""
    for body in ({"message": "Stuck"}, {"message": f"Stuck {AT_ONCE}", "mock_mode": False, "debug_mode": True}, {}):
        user.post("/conversation-agent/chat", json=body)
    user.post("/conversation-agent/chat", json={"message": "[[fault: http 500 server_error]]", "mock_mode": False})
    user.get("/conversation-agent/status")
    user.get("/conversation-agent/status", headers={"authorization": ""})
    come(recorder, 200, 422, of="agentChat")
    come(recorder, 200, 401, of="agentStatus")


def test_conversations(user: httpx.Client, recorder: Recorder) -> None:
    """Every verb, on one's own, on nobody's, and with what is wrong."""
    one = user.post("/conversations", json={"page_id": "project-1"}).json()["id"]
    bodies: list[object] = [{"page_id": "project-1"}, {"title": "A title"}, {"title": ""}, []]
    for body in bodies:
        user.post("/conversations", json=body)
    user.post("/chat", json={**ASKED, "conversation_id": one})
    for path in ("", f"/{one}", f"/{STRANGE}", "?limit=1", "?limit=0", "?q=why", f"/{one}/messages"):
        user.get(f"/conversations{path}")
        user.head(f"/conversations{path}")
    for query in ("limit=1", "format=ui", "before=1", "before=2099-01-01T00:00:00Z", "before=x"):
        user.get(f"/conversations/{one}/messages?{query}")
        user.get(f"/chat/history?conversation_id={one}&{query}")
    user.get(f"/chat/history?conversation_id={STRANGE}")
    user.get(f"/conversations/{STRANGE}/messages")
    for id_ in (one, STRANGE, "x"):
        user.patch(f"/conversations/{id_}", json={"title": "Another"})
        user.delete(f"/conversations/{id_}")
    user.patch(f"/conversations/{one}", json={})
    come(recorder, 200, 422, of="conversations")
    come(recorder, 200, 201, 422, of="makeConversation")
    come(recorder, 200, 404, of="conversation")
    come(recorder, 200, 404, 422, of="renameConversation")
    come(recorder, 204, 404, of="deleteConversation")
    come(recorder, 200, 404, 422, of="messages")
    come(recorder, 200, 404, 422, of="history")


def test_ops(ops: httpx.Client, recorder: Recorder) -> None:
    """What the people who run the server are answered, before and after changes, and who they are not."""
    paths = ("limiter", "rollout", "turns", "settings", "outbox", "support", "console")
    for path in paths:
        ops.get(f"/ops/{path}")
        ops.get(f"/ops/{path}", headers={"authorization": "Bearer wrong"})
    for body in ({"total_tokens": 3, "who": "a", "why": "b"}, {"mode": "adaptive", "min": 2, "max": 9}, {}, {"min": 0}):
        ops.put("/ops/limiter", json=body)
    for change in ({"chat": {"percent": 50}, "users": ["u"]}, {"x": 1}):
        ops.put("/ops/rollout", json=change)
    ops.get("/ops/turns?outcome=ok&min_seconds=0.001")
    ops.get("/ops/turns?outcome=x")
    ops.get("/ops/outbox?limit=0")
    ops.post("/ops/outbox/1/retry")
    ops.delete("/ops/outbox/1")
    ops.get("/metrics")
    ops.get("/metrics", headers={"accept": "application/openmetrics-text; version=1.0.0"})
    for path in paths:
        come(recorder, 200, 401, of=path)
    come(recorder, 200, 422, of="changeLimiter")
    come(recorder, 200, 422, of="changeRollout")
    come(recorder, 404, of="retryOutboxEntry")
    assert ("metrics", 200, "application/openmetrics-text") in recorder.seen


def test_what_is_open(server: ServerProcess, recorder: Recorder) -> None:
    """Health, the contract and its pages need no token; elsewhere there is nothing, and no other method."""
    with recorder.client(server.url) as anyone:
        for path in ("/healthz", "/readyz", "/openapi.json", "/docs", "/docs/swagger-ui.css", "/docs/LICENSE.txt"):
            assert anyone.get(path).status_code == 200
        anyone.get("/docs/swagger-ui-bundle.js")
        assert anyone.get("/docs/index.html").status_code == 404
        assert anyone.get("/nothing").status_code == 404
        assert anyone.put("/chat").status_code == 405
    come(recorder, 200, of="openapi")


def test_the_console(server: ServerProcess, recorder: Recorder) -> None:
    """Its page and each of its files, which are open too, once more for who has them, and one that is not there."""
    with recorder.client(server.url) as anyone:
        page = anyone.get("/console")
        files = re.findall(r'(?:src|href)="(console/[0-9a-f]+/[\w.-]+)"', page.text)
        for path in ("/console", *(f"/{file}" for file in files)):
            tag = anyone.get(path).headers["etag"]
            assert anyone.get(path, headers={"if-none-match": tag}).status_code == 304
        anyone.get("/console/0123456789abcdef/console.js")
    come(recorder, 200, 304, of="consolePage")
    come(recorder, 200, 304, 404, of="consoleFile")


def test_what_is_sent_as_it_is_says_of_no_packing(server: ServerProcess) -> None:
    """`identity` is no coding that a `Content-Encoding` may name (RFC 9110, 8.4.1); who takes gzip gets it."""
    for path in ("/openapi.json", "/docs", "/docs/swagger-ui.css"):
        plain, packed = (server.http.get(path, headers={"accept-encoding": each}) for each in ("identity", "gzip"))
        assert "content-encoding" not in plain.headers
        assert (packed.headers["content-encoding"], packed.content) == ("gzip", plain.content)
        assert {plain.headers["vary"], packed.headers["vary"]} == {"accept-encoding"}


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"GET /healthz HTTP/1.1\r\nhost: a b\r\n\r\n", 400),
        (b"GET /healthz HTTP/1.1\r\nhost: a\r\nx: " + b"y" * 70_000 + b"\r\n\r\n", 431),
        (b"GET /healthz HTTP/1.1\r\nhost: a\r\ntransfer-encoding: gzip\r\n\r\n", 501),
        (b"GET /healthz HTTP/2.0\r\nhost: a\r\n\r\n", 505),
    ],
)
def test_what_the_edge_refuses(server: ServerProcess, recorder: Recorder, request_bytes: bytes, status: int) -> None:
    """Requests that reach no route are refused as the contract says of each operation."""
    with connected(server) as wire:
        wire.send(request_bytes)
        response = wire.response()
    assert response.status_code == status
    assert recorder.judge.verdict("GET", "/healthz", status, response.headers, response.text) == []


def test_an_outbox_and_a_database_that_is_down(tmp_path: Path, recorder: Recorder) -> None:
    """Entries are listed, retried and given up as described; what needs a database is 503 without one."""
    with (
        faulty_database(tmp_path / "supabase.sqlite3") as database,
        Town(tmp_path, database).server(OPS_TOKEN=OPS) as server,
        recorder.client(server.url, authorization="Bearer demo") as user,
        recorder.client(server.url, authorization=f"Bearer {OPS}") as ops,
    ):
        database.become(NO_WRITES)
        assert user.post("/chat", json=ASKED).json()["saved"] == "outbox"
        first = ops.get("/ops/outbox").json()["entries"][0]["id"]
        ops.post(f"/ops/outbox/{first}/retry")
        ops.delete(f"/ops/outbox/{first}")
        database.become(Weather(door="refused"))
        for path in ("/conversations", f"/conversations/{STRANGE}", f"/conversations/{STRANGE}/messages"):
            user.get(path)
        user.post("/chat", json={**ASKED, "conversation_id": STRANGE})
        ops.get("/readyz")
    come(recorder, 200, of="retryOutboxEntry")
    come(recorder, 200, of="deleteOutboxEntry")
    come(recorder, 503, of="conversations")


def test_who_is_over_a_limit(tmp_path: Path, recorder: Recorder) -> None:
    """429 says what is left and when to come again: of turns, by any address, and of wrong tokens."""
    limits = {"ENABLE_CHAT_RATE_LIMIT": "true", "CHAT_RATE_LIMIT_MAX": "1", "AUTH_FAILURES_MAX": "1", "OPS_TOKEN": OPS}
    with running(tmp_path, **limits) as server, recorder.client(server.url, authorization="Bearer demo") as user:
        assert user.post("/chat", json=ASKED).headers["ratelimit-remaining"] == "0"
        for path in ("/chat", "/chat/stream"):
            assert user.post(path, json=ASKED).headers["ratelimit-limit"] == "1"
            user.post(path, json=SDK)
        user.post("/conversation-agent/chat", json=ASKED)
        assert user.post("/conversations", json={}).headers["ratelimit-remaining"] == "0"
        for _ in range(2):
            user.get("/ops/turns", headers={"authorization": "Bearer wrong"})
    for name in ("chat", "chatStream", "agentChat", "makeConversation", "turns"):
        come(recorder, 429, of=name)


IDS = {"x-request-id": "r", "x-trace-id": "0" * 32, "content-type": "application/json"}
ALIVE = '{"status": "alive"}'
PART = {"$ref": "#/components/schemas/StreamPart"}


@pytest.mark.parametrize(
    ("status", "headers", "body", "is_right"),
    [
        (200, IDS, ALIVE, True),
        (418, IDS, ALIVE, False),
        (404, IDS, ALIVE, False),
        (200, {**IDS, "content-type": "text/html"}, ALIVE, False),
        (200, {**IDS, "x-trace-id": "0"}, ALIVE, False),
        (200, {"content-type": "application/json", "x-trace-id": "0" * 32}, ALIVE, False),
        (200, IDS, '{"status": "alive", "more": 1}', False),
        (200, IDS, '{"status": "dead"}', False),
        (200, IDS, "{}", False),
    ],
)
def test_the_judge_sees_what_is_wrong(status: int, headers: dict[str, str], body: str, is_right: bool) -> None:
    """The judge itself: a status, a type, a header and a field that are not described, or are missing, are told."""
    assert (not Judge(committed()).verdict("GET", "/healthz", status, headers, body)) is is_right


@pytest.mark.parametrize(
    "stream",
    [
        'data: {"type":"finish-step"}\n\n',
        'data: {"type":"finish","finishReason":"stop"}\n\ndata: [DONE]\n\n',
        'data: {"type":"text-delta","id":"text","delta":"a","more":1}\n\ndata: [DONE]\n\n',
        "data: [DONE]\n\ndata: {}\n\n",
        "",
    ],
)
def test_the_judge_sees_what_is_wrong_with_a_stream(stream: str) -> None:
    """A stream without its end, and parts with a field that clients do not know, are told."""
    assert Judge(committed()).stream_faults(PART, stream)


def test_every_route_is_asked(recorder: Recorder) -> None:
    """No operation is left out by the tests above."""
    assert {name for name, *_ in recorder.seen} >= {operation.id for operation in OPERATIONS}
