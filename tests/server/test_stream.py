"""A turn as a stream, over sockets: which parts come, when, and what becomes of what goes wrong."""

import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.errors import KINDS
from app.respond.ui_stream import HEADERS
from tests.respond.ui_wire import read_stream
from tests.server.parts import end_of, metadata_of, parts_of, text_of
from tests.server.process import AT_ONCE, ServerProcess, running
from tests.server.rows import row_counts, turn_rows
from tests.server.streaming import STALLS, opened, post, sdk_body, stream
from tests.server.wire import problem

PAGE = "https://school.example"
TIMINGS = {"db_fetch_time", "llm_queue_time", "llm_response_time", "db_save_time", "total_time", "time_to_first_token"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    settings = {"CORS_ALLOW_ORIGINS": PAGE, "OPENAI_API_POOL_SIZE": "3", "LLM_QUEUE_TIMEOUT": "2"}
    with running(tmp_path_factory.mktemp("data"), **settings) as process:
        process.answer(f"First {AT_ONCE}")
        yield process


ASKED: dict[str, tuple[str, dict[str, Any]]] = {
    "our body": ("/chat/stream", {"message": f"What is a river? {AT_ONCE}"}),
    "the SDK's body": ("/chat/stream", sdk_body(f"What is a river? {AT_ONCE}")),
    "the SDK's body to /chat": ("/chat", sdk_body(f"What is a river? {AT_ONCE}", "page-2")),
}


@pytest.mark.parametrize(("path", "body"), ASKED.values(), ids=ASKED)
def test_an_answer_as_a_stream(server: ServerProcess, path: str, body: dict[str, Any]) -> None:
    """Every part is as the protocol's first clients want it; the text is the row's, the metadata the JSON reply's."""
    response = post(server, body, path=path)
    assert response.status_code == 200
    assert {name: response.headers[name] for name in HEADERS} == HEADERS
    read = read_stream(response.content)
    assert (read.state, read.error) == ("done", None)
    question, answer = turn_rows(server.data_dir, str(read.message_id))
    assert (question["message"], answer["message"]) == (f"What is a river? {AT_ONCE}", read.text)
    assert read.metadata.keys() == server.answer(f"As JSON {AT_ONCE}").keys() - {"response"}
    assert (read.metadata["turn_id"], read.metadata["saved"]) == (read.message_id, "database")
    assert read.metadata["trace_id"] == response.headers["x-trace-id"] == question["context_data"]["trace_id"]
    assert read.metadata["conversation_id"] == question["conversation_id"]
    assert read.metadata["token_usage"]["total_tokens"] > 0
    assert read.metadata["performance_metrics"].keys() == TIMINGS
    assert 0 < read.metadata["performance_metrics"]["time_to_first_token"] < 20


def test_stages_show_up_live(server: ServerProcess) -> None:
    """Each stage is shown as it runs, when it is done, and when it began; the fetch is done at the stream's start."""
    parts = stream(server, f"Stages {AT_ONCE}")
    shown = [(part["data"]["stage"], part["data"]["state"]) for part in parts if part["type"] == "data-stage"]
    live = [(stage, state) for stage in ("llm.queue", "llm", "db_save") for state in ("running", "done")]
    assert shown[:2] == [("fetch.conversation", "done"), ("db_fetch", "done")]
    assert [each for each in live if each not in shown] in ([], [("llm.queue", "running")])  # over in 0.1 ms
    metrics = metadata_of(parts)["performance_metrics"]
    last = {part["data"]["stage"]: part["data"] for part in parts if part["type"] == "data-stage"}
    seconds = {stage: data["seconds"] for stage, data in last.items()}
    assert seconds["db_fetch"] == metrics["db_fetch_time"]
    assert seconds["llm"] == metrics["llm_response_time"]
    assert seconds["db_save"] == metrics["db_save_time"]
    began = [last[stage]["at"] for stage in ("db_fetch", "fetch.conversation", "llm.queue", "llm", "db_save")]
    assert began == sorted(began)
    (turn,) = [
        turn
        for turn in server.http.get("/ops/turns").json()["turns"]
        if turn["turn_id"] == metadata_of(parts)["turn_id"]
    ]
    assert {each["stage"]: (each["at"], each["seconds"]) for each in turn["stages"]} == {
        stage: (data["at"], data["seconds"]) for stage, data in last.items()
    }
    assert turn["time_to_first_token"] == metrics["time_to_first_token"]


def test_the_first_token_is_there_as_soon_as_the_model_said_it(server: ServerProcess) -> None:
    """With CORS and gzip asked for, each piece is read while the model pauses before the next one: nothing collects."""
    asked = {"origin": PAGE, "accept-encoding": "gzip, deflate, br"}
    with opened(server, "Go on [[fault: stall after=2 for=1]]", user="paced", headers=asked) as answer:
        headers = answer.response.headers
        assert (headers["access-control-allow-origin"], headers.get("content-encoding")) == (PAGE, None)
        assert answer.deltas(2)
        paused = time.monotonic()
        assert server.gauge("llm_limiter_borrowed") == 1
        assert answer.deltas(1)
        assert time.monotonic() - paused > 0.5
        assert end_of(answer.rest())["type"] == "finish"


def test_a_page_of_another_origin_may_ask(server: ServerProcess) -> None:
    """The preflights of all that the SDK asks for are granted, with the header that its 6.0.0 adds."""
    for method, path in (("POST", "/chat/stream"), ("POST", "/chat"), ("GET", "/chat/page-1/stream")):
        asked = {
            "origin": PAGE,
            "access-control-request-method": method,
            "access-control-request-headers": "authorization,content-type,user-agent",
        }
        response = server.http.options(path, headers=asked)
        assert response.headers["access-control-allow-origin"] == PAGE
        assert "user-agent" in response.headers["access-control-allow-headers"]


UNKNOWN = str(uuid.UUID(int=7))
# What is wrong -> our body, the SDK's, the user, status and code.
REFUSED: dict[str, tuple[dict[str, Any], dict[str, Any], str, int, str]] = {
    "nobody": ({"message": "a"}, sdk_body("a"), "not a user", 401, "unauthenticated"),
    "no such project": (
        {"message": "a", "project_id": 99}, sdk_body("a", "page-3", project_id=99), "demo", 404, "not_found",
    ),
    "an empty message": ({"message": " "}, sdk_body(" "), "demo", 400, "message_empty"),
    "a long message": ({"message": "a" * 2001}, sdk_body("a" * 2001), "demo", 400, "message_too_long"),
    "a wrong field": (
        {"message": "a", "on_disconnect": "stay"}, sdk_body("a", on_disconnect="stay"), "demo", 422, "invalid_request",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("ours", "sdks", "user", "status", "code"), REFUSED.values(), ids=REFUSED)
def test_what_is_refused_before_the_stream_keeps_its_status(
    server: ServerProcess, ours: dict[str, Any], sdks: dict[str, Any], user: str, status: int, code: str
) -> None:
    """As problem+json for our body; for the SDK's as the plain sentence that its page shows; nothing is stored."""
    before = row_counts(server.data_dir)
    problem(post(server, ours, user=user), status, code)
    for path in ("/chat", "/chat/stream"):
        japanese = post(server, sdks, user=user, path=path, **{"accept-language": "ja"})
        response = post(server, sdks, user=user, path=path)
        assert (response.status_code, response.headers["content-type"]) == (status, "text/plain; charset=utf-8")
        assert response.text.splitlines()[0] == KINDS[code].detail
        assert japanese.text.splitlines()[0] == KINDS[code].japanese
        assert response.headers["x-error-code"] == code
        assert len(response.headers["x-trace-id"]) == 32
    assert row_counts(server.data_dir) == before


def test_someone_elses_conversation_is_refused_before_the_stream(server: ServerProcess) -> None:
    """Our body names it: 404 with the turn's id and timings, and no stream begins."""
    body = problem(post(server, {"message": "a", "conversation_id": UNKNOWN}), 404, "not_found")
    assert {"turn_id", "performance_metrics"} <= body.keys()


@pytest.mark.parametrize("path", ["/chat", "/chat/stream"])
def test_a_body_that_is_none_is_a_problem(server: ServerProcess, path: str) -> None:
    """What is neither of the two bodies is answered as it is everywhere."""
    given = {"authorization": "Bearer demo", "content-type": "application/json"}
    problem(server.http.post(path, content=b"{", headers=given), 400, "bad_json")
    problem(server.http.post(path, content=b'{"id": "a"}', headers=given), 422, "invalid_request")
    problem(server.http.post(path, content=b"{}", headers={**given, "content-type": "text/plain"}), 415,
            "unsupported_media_type")  # fmt: skip


# What the model does -> the code that the metadata names, and whether there was text.
FAILING = {
    "breaks off": ("[[fault: error after=3]]", "model_error", True),
    "is cut off": ("[[fault: cut after=3]]", "model_error", True),
    "refuses": ("[[fault: http 400]]", "model_error", False),
    "says nothing": ("[[fault: end after=0 done=yes]]", "model_error", False),
}


@pytest.mark.parametrize(("message", "code", "spoke"), FAILING.values(), ids=FAILING)
def test_what_fails_after_the_beginning_is_an_error_part(
    server: ServerProcess, message: str, code: str, spoke: bool
) -> None:
    """The status is 200 already: the stream ends properly, with a safe sentence, the code, and the text so far kept."""
    response = post(server, {"message": message})
    read = read_stream(response.content)
    assert (response.status_code, read.state, read.error) == (200, "done", KINDS[code].detail)
    assert (read.metadata["error"]["code"], bool(read.text)) == (code, spoke)
    assert read.metadata["performance_metrics"].keys() == (TIMINGS if spoke else TIMINGS - {"time_to_first_token"})
    _question, answer = turn_rows(server.data_dir, str(read.message_id))
    assert (answer["message"], answer["context_data"]["finish"]) == (read.text, "error")
    assert ("llm", "failed") in [(data["data"]["stage"], data["data"]["state"]) for kind, data in stages(response)]


def stages(response: httpx.Response) -> list[tuple[str, dict[str, Any]]]:
    return [(part["type"], part) for part in parts_of(response.text) if part["type"] == "data-stage"]


def test_who_waits_for_the_model_is_told_where_it_stands(server: ServerProcess) -> None:
    """The place in the queue is shown live, with an estimate; who finds no slot in time is told so in the stream."""
    with (
        opened(server, STALLS, user="q1") as first,
        opened(server, STALLS, user="q2") as second,
        opened(server, STALLS, user="q3") as third,
    ):
        for each in (first, second, third):
            each.deltas(3)
        with opened(server, f"Next {AT_ONCE}", user="q4") as fourth, opened(server, "Late", user="q5") as fifth:
            assert fourth.until(lambda part: part["type"] == "data-queue")["data"]["position"] == 1
            told = fifth.until(lambda part: part["type"] == "data-queue")["data"]
            assert told.keys() == {"position", "estimated_wait"}
            assert told["position"] == 2
            assert told["estimated_wait"] > 0
            first.response.close()
            assert end_of(fourth.rest())["type"] == "finish"
            until_next = fifth.until(lambda part: part["type"] == "data-queue")
            assert until_next["data"]["position"] == 1
            assert text_of(fifth.rest()) or end_of(fifth.read)["type"] == "error"
        with opened(server, STALLS, user="q6") as sixth:
            sixth.deltas(3)
            refused = post(server, {"message": "No slot"}, user="q7")
    read = read_stream(refused.content)
    assert (read.error, read.metadata["error"]["code"]) == (KINDS["overloaded"].detail, "overloaded")
    assert (read.metadata["error"]["retryable"], read.metadata["error"]["stage"]) == (True, "llm.queue")


def test_a_silent_stream_shows_that_it_lives(tmp_path: Path) -> None:
    """While the model is silent comments come, before the first token and after; they disturb no reader."""
    with running(tmp_path, "tests.server.impatient") as server:
        response = post(server, {"message": "Hm [[fault: slow first=0.7 each=0]]"})
        before_text = response.text.partition("text-start")[0]
        assert before_text.count(": ping\n\n") >= 2
        assert read_stream(response.content).state == "done"
        assert ": ping" in post(server, {"message": "Hm [[fault: stall after=3 for=0.5]]"}).text


def test_the_agent_streams_too(tmp_path: Path) -> None:
    """With the agent on, its fields are in the metadata, follow-ups are the last delta; a fallback follows the half."""
    with running(tmp_path, ENABLE_CONVERSATION_AGENT="true") as server:
        response = post(server, {"message": f"My topic is too broad. How do I narrow it? {AT_ONCE}"})
        read = read_stream(response.content)
        assert read.error is None
        assert read.metadata["support_type"]
        assert read.metadata["performance_metrics"]["agent_processing_time"] > 0
        _question, answer = turn_rows(server.data_dir, str(read.message_id))
        assert answer["message"] == read.text
        half = read_stream(post(server, {"message": "My topic is too broad. [[fault: error after=3]]"}).content)
        assert (half.error, half.metadata["fallback_used"]) == (None, "heuristic")
        _question, answer = turn_rows(server.data_dir, str(half.message_id))
        assert answer["message"] == half.text, "what is stored is what was shown"
        assert "\n\n" in half.text
