"""`GET /chat/history`: a conversation's messages as JSON and as the AI SDK's, as a turn would read them."""

import re
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.clients.in_process import Message
from tests.server.database_faults import Weather
from tests.server.faulty_database import RemoteFaultyDatabase, faulty_database
from tests.server.holding import HALF, Holding, asked, question_of
from tests.server.neighbours import database_host, model_host
from tests.server.outbox_town import KEYS, NO_WRITES, WELL, Town, deferred, delivered
from tests.server.parts import end_of, text_of
from tests.server.process import AT_ONCE, ServerProcess, running, until
from tests.server.rows import row_counts, stored
from tests.server.streaming import get, opened, post, sdk_body, stream
from tests.server.wire import problem

PAGE = "https://page.example"
HELD = Holding(question_of, HALF)
"""Around the model of `server`: a turn whose answer is held goes on when a test says so."""


def ask_history(server: ServerProcess, user: str = "demo", **query: object) -> httpx.Response:
    """Ask for a history and return the response, whatever it is."""
    asked = {name: str(value) for name, value in query.items()}
    return server.http.get("/chat/history", params=asked, headers={"authorization": f"Bearer {user}"})


def history(server: ServerProcess, user: str = "demo", **query: object) -> list[dict[str, Any]]:
    """Return a history that is given."""
    response = ask_history(server, user, **query)
    assert (response.status_code, response.headers["content-type"]) == (200, "application/json"), response.text
    messages: list[dict[str, Any]] = response.json()
    return messages


def texts(messages: list[dict[str, Any]]) -> list[str]:
    return [message["message"].split(" [[")[0] for message in messages]


def shown(messages: list[dict[str, Any]]) -> list[tuple[str, str, str]]:
    """Return what a page shows of the SDK's messages."""
    return [(message["id"], message["role"], message["parts"][0]["text"]) for message in messages]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with (
        model_host(HELD.around) as model,
        running(tmp_path_factory.mktemp("data"), OPENAI_BASE_URL=f"{model.url}/v1", CORS_ALLOW_ORIGINS=PAGE) as process,
    ):
        yield process


@pytest.fixture(scope="module")
def long(server: ServerProcess) -> ServerProcess:
    """The server, whose user `long` has a conversation of 104 messages."""
    for number in range(52):
        server.answer(f"Question {number} {AT_ONCE}", user="long")
    return server


def test_the_rows_as_they_are_stored(server: ServerProcess) -> None:
    """Oldest first, each with its row's id, all that is stored beside it, and its time in UTC, to the microsecond."""
    for question in ("One", "二つ目"):
        server.answer(f"{question} {AT_ONCE}", user="rows")
    rows, messages = stored(server.data_dir, user_id="rows"), history(server, "rows")
    assert len(rows) == len(messages) == 4
    for row, message in zip(rows, messages, strict=True):
        assert list(message) == ["id", "sender", "message", "context_data", "created_at", "turn_id"]
        same = ("id", "sender", "message", "context_data", "turn_id")
        assert {name: message[name] for name in same} == {name: row[name] for name in same}
        assert datetime.fromisoformat(message["created_at"]) == datetime.fromisoformat(row["created_at"])
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", message["created_at"])
        assert datetime.fromisoformat(message["created_at"]).utcoffset() == timedelta()


@pytest.mark.parametrize(
    ("query", "count"), [({}, 50), ({"limit": ""}, 50), *(({"limit": n}, n) for n in (1, 3, 50, 51, 100))]
)
def test_the_newest_are_given(long: ServerProcess, query: dict[str, Any], count: int) -> None:
    """As many as were asked for, fifty without a word; the newest, in the order in which they were said."""
    rows = [row["id"] for row in stored(long.data_dir, user_id="long")]
    assert [message["id"] for message in history(long, "long", **query)] == rows[-count:]
    assert len(history(long, "long", format="ui", **query)) == count


WRONG: list[tuple[dict[str, str], list[str]]] = [
    *(({"limit": text}, ["limit"]) for text in ("0", "101", "-1", "+5", "five", "5.0", "1e1", " 5", "５", "9" * 5000)),
    ({"format": "xml"}, ["format"]),
    *(({"before": text}, ["before"]) for text in ("yesterday", "2026-11-22", "-1", "q1", "1~2", "9" * 19, "~", "1.5")),
    ({"format": "UI"}, ["format"]),
    ({"conversation_id": "general"}, ["conversation_id"]),
    ({"page_id": "p" * 256}, ["page_id"]),
    ({"page_id": "nul \0"}, ["page_id"]),
    ({"limit": "0", "format": "json", "conversation_id": "1"}, ["conversation_id", "limit", "format"]),
]


@pytest.mark.parametrize(("query", "fields"), WRONG)
def test_a_wrong_query_is_refused(server: ServerProcess, query: dict[str, str], fields: list[str]) -> None:
    """Each field that is not as it should be is named, and what was sent is not repeated."""
    errors = problem(ask_history(server, **query), 422, "invalid_request")["errors"]
    assert [error.partition(":")[0] for error in errors] == fields
    assert not any(value in error for error, value in zip(errors, query.values(), strict=True) if len(value) > 2)


def test_who_asks_must_be_known(server: ServerProcess) -> None:
    """Without a token it is 401, as everywhere."""
    problem(server.http.get("/chat/history"), 401, "unauthenticated")


def test_a_conversation_by_its_id_or_its_page(server: ServerProcess) -> None:
    """The page is `general` unless one is named; a conversation's id wins, whatever the page."""
    notes = server.answer(f"Notes {AT_ONCE}", user="both", page_id="notes")
    general = server.answer(f"General {AT_ONCE}", user="both")
    for query, question in (
        ({}, "General"),
        ({"page_id": "general"}, "General"),
        ({"page_id": "", "conversation_id": ""}, "General"),
        ({"page_id": "notes"}, "Notes"),
        ({"conversation_id": notes["conversation_id"]}, "Notes"),
        ({"conversation_id": general["conversation_id"], "page_id": "notes"}, "General"),
    ):
        assert texts(history(server, "both", **query))[0] == question
        assert shown(history(server, "both", format="ui", **query))[0][2] == f"{question} {AT_ONCE}"


def test_a_page_without_a_conversation_has_none(server: ServerProcess) -> None:
    """The list is empty, in either format, and nothing is made by asking, no user either."""
    before, users = row_counts(server.data_dir), stored(server.data_dir, "users")
    for query in ({}, {"format": "ui"}, {"page_id": "nothing here"}):
        assert history(server, "newcomer", **query) == []
    assert (row_counts(server.data_dir), stored(server.data_dir, "users")) == (before, users)


def test_someone_elses_conversation_is_not_found(server: ServerProcess) -> None:
    """A stranger's and one of nobody's are the same 404; by the same page key everyone has their own."""
    hers = server.answer(f"Secret {AT_ONCE}", user="ann", page_id="shared")["conversation_id"]
    bodies = [
        problem(ask_history(server, "ben", conversation_id=wanted, format=form), 404, "not_found")
        for wanted in (hers, uuid.uuid4())
        for form in ("", "ui")
    ]
    assert len({str({**body, "trace_id": ""}) for body in bodies}) == 1
    assert history(server, "ben", page_id="shared") == []
    assert len(history(server, "ann", conversation_id=hers)) == 2


def test_the_sdks_messages(server: ServerProcess) -> None:
    """Ids are those that the SDK knows them by; a turn that was replaced is hidden here, and only here."""
    answers = [
        post(server, sdk_body(f"{text} {AT_ONCE}", "ui", **more), user="ui")
        for text, more in (("One", {}), ("Two", {"trigger": "regenerate-message"}))
    ]
    assert {answer.status_code for answer in answers} == {200}
    rows, messages = history(server, "ui", page_id="ui"), history(server, "ui", page_id="ui", format="ui")
    assert texts(rows)[::2] == ["One", "Two"]
    assert shown(messages) == [
        ("q1", "user", rows[2]["message"]),
        (rows[3]["turn_id"], "assistant", rows[3]["message"]),
    ]
    assert {message["metadata"]["conversation_id"] for message in messages} == {
        row["conversation_id"] for row in stored(server.data_dir, user_id="ui")
    }
    assert messages[1]["metadata"]["performance_metrics"] == rows[3]["context_data"]["performance_metrics"]


def test_a_page_of_another_origin_reads_it(server: ServerProcess) -> None:
    """Answers and problems, from an origin that is allowed."""
    for query, status in (({}, 200), ({"limit": "0"}, 422)):
        response = server.http.get(
            "/chat/history", params=query, headers={"authorization": "Bearer demo", "origin": PAGE}
        )
        assert response.status_code == status
        assert response.headers["access-control-allow-origin"] == PAGE


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ServerProcess, RemoteFaultyDatabase]]:
    folder = tmp_path_factory.mktemp("town")
    with (
        faulty_database(folder / "supabase.sqlite3") as database,
        Town(folder, database).server(DB_FETCH_TIMEOUT="1") as process,
    ):
        yield process, database


def test_what_is_on_its_way_is_there(town: tuple[ServerProcess, RemoteFaultyDatabase]) -> None:
    """Rows that wait in the outbox are in their place, without an id; delivered, they are the same rows with one."""
    server, database = town
    first = server.answer(asked("Before"))
    database.become(NO_WRITES)
    deferred(server, "One")
    new = deferred(server, "Elsewhere", page_id="notes")
    ids = [body["conversation_id"] for body in (first, new)]
    ways: list[dict[str, str]] = [{}, {"conversation_id": ids[0]}, {"page_id": "notes"}, {"conversation_id": ids[1]}]
    waiting, screens = ([history(server, format=form, **way) for way in ways] for form in ("", "ui"))
    assert [texts(messages)[::2] for messages in waiting] == [["Before", "One"]] * 2 + [["Elsewhere"]] * 2
    assert [message["id"] is None for message in waiting[0]] == [False, False, True, True]
    assert waiting[2][1]["message"] == new["response"]
    assert texts(history(server, limit=1)) == texts(waiting[0])[-1:]
    problem(ask_history(server, "stranger", conversation_id=ids[1]), 404, "not_found")
    database.become(WELL)
    delivered(server)
    arrived = [history(server, **way) for way in ways]
    assert [history(server, format="ui", **way) for way in ways] == screens
    assert all(message["id"] is not None for messages in arrived for message in messages)
    unnamed = [[{**message, "id": 0} for message in messages] for messages in (*waiting, *arrived)]
    assert unnamed[:4] == unnamed[4:]


def test_a_database_that_cannot_be_read(town: tuple[ServerProcess, RemoteFaultyDatabase]) -> None:
    """Refused it is 503, and silent it is 504 once its one deadline is over, with the stage's name."""
    server, database = town
    database.become(Weather(reads={"internal": 1.0}))
    problem(ask_history(server), 503, "database_unavailable")
    database.become(Weather(reads={"unheard": 1.0}))
    late = ask_history(server, format="ui")
    assert problem(late, 504, "stage_timeout")["stage"] == "db_fetch"
    assert late.elapsed < timedelta(seconds=10), "far beyond the one second that it may take"
    database.become(WELL)


def half_told(server: ServerProcess, held: Holding, question: str, **fields: Any) -> str:
    """Ask, leave half-way, and return the id of the turn, which goes on once its answer is let go."""
    held.holds.add(question)
    with opened(server, asked(question), on_disconnect="continue", **fields) as answer:
        answer.deltas(1)
    return str(answer.read[0]["messageId"])


def ends(server: ServerProcess, held: Holding, question: str, turn_id: str) -> None:
    """Let a turn come to its end."""
    held.let_go(question)
    server.wait_for_log("turn.finished", turn_id=turn_id)
    server.wait_for_gauge("edge_turns_inflight", 0)


def left(server: ServerProcess, user: str, **fields: Any) -> str:
    """Ask, leave, and return the turn's id once it has ended with nobody there to see it."""
    question = f"{user} {fields}"
    turn_id = half_told(server, HELD, question, user=user, **fields)
    ends(server, HELD, question, turn_id)
    return turn_id


@pytest.mark.parametrize("form", ["", "ui"])
def test_what_the_history_has_shown_is_not_resumed(server: ServerProcess, form: str) -> None:
    """A turn that nobody saw end is in the history, and then no page is told of it again."""
    user = f"shown{form}"
    turn_id = left(server, user)
    left(server, user, page_id="other")
    left(server, f"{user}2")
    problem(ask_history(server, user, conversation_id=uuid.uuid4()), 404, "not_found")
    history(server, f"{user}3")
    headers = {"authorization": f"Bearer {user}2"}
    assert server.http.head("/chat/history", headers=headers).status_code == 200, "which shows nobody anything"
    assert len(history(server, user, format=form)) == 2
    assert get(server, "/chat/general/stream", user).status_code == 204
    for name, page in ((user, "other"), (f"{user}2", "general")):
        with opened(server, method="GET", path=f"/chat/{page}/stream", user=name) as back:
            assert back.rest()[0]["messageId"] != turn_id


def test_a_turn_beyond_what_was_given_is_resumed(server: ServerProcess) -> None:
    """Only answers that are among the rows were shown."""
    turn_id = left(server, "beyond")
    stream(server, f"Next {AT_ONCE}", user="beyond")
    history(server, "beyond", limit=2)
    with opened(server, method="GET", path="/chat/general/stream", user="beyond") as back:
        assert back.rest()[0]["messageId"] == turn_id


def test_a_turn_that_runs_goes_on_being_found(server: ServerProcess) -> None:
    """Its question is in the history, its answer is followed from there: each is on the page once."""
    half_told(server, HELD, "runs", user="runs")
    until(lambda: len(history(server, "runs")) == 1, "the question is stored")
    (question,) = history(server, "runs", format="ui")
    with opened(server, method="GET", path="/chat/general/stream", user="runs") as back:
        HELD.let_go("runs")
        parts = back.rest()
    assert (question["role"], end_of(parts)["type"]) == ("user", "finish")
    assert shown(history(server, "runs", format="ui"))[1][::2] == (parts[0]["messageId"], text_of(parts))


def read_for_history(scope: Message, body: bytes) -> str | None:
    """Call that request to the database `history` that asks for as many messages, and one more, as no turn does."""
    return "history" if b"chat_logs.limit=78&" in scope["query_string"] else None


def test_a_turn_that_ends_while_the_history_is_read_is_resumed(tmp_path: Path) -> None:
    """What the database had no answer of when it was asked was shown to nobody."""
    reads, answers = Holding(read_for_history), Holding(question_of, HALF)
    reads.holds.add("history")
    with (
        model_host(answers.around) as model,
        database_host(tmp_path / "supabase.sqlite3", reads.around) as database,
        running(tmp_path / "server", OPENAI_BASE_URL=f"{model.url}/v1", SUPABASE_URL=database.url, **KEYS) as server,
        ThreadPoolExecutor(1) as pool,
    ):
        turn_id = half_told(server, answers, "Go on")
        until(lambda: len(history(server)) == 1, "the question is stored")
        reading = pool.submit(history, server, limit=77)
        reads.wait_for_held("history")
        ends(server, answers, "Go on", turn_id)
        reads.let_go("history")
        assert [message["sender"] for message in reading.result()] == ["user"]
        with opened(server, method="GET", path="/chat/general/stream") as back:
            parts = back.rest()
        assert (parts[0]["messageId"], end_of(parts)["type"]) == (turn_id, "finish")
        assert [message["message"] for message in history(server)][1:] == [text_of(parts)]
