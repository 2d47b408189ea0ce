"""`/conversations` and pages of messages, over sockets: what each verb does, to whom, and what stays as it is."""

import threading
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from typing import Any

import httpx
import pytest

from app.conversations import title_of
from app.receive.conversation_query import MAX_SEARCH_CHARS
from tests.server.conversations import call, listed, made, pages
from tests.server.holding import HALF, Holding, asked, question_of
from tests.server.neighbours import model_host
from tests.server.process import AT_ONCE, ServerProcess, running, until
from tests.server.rows import stored, turn_rows
from tests.server.streaming import opened
from tests.server.wire import problem

HELD = Holding(question_of, HALF)
"""Around the model of `server`: a turn whose answer is held goes on when a test says so."""
ID = uuid.UUID("6f2f8b0e-0000-4000-8000-000000000001")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with (
        model_host(HELD.around) as model,
        running(tmp_path_factory.mktemp("data"), OPENAI_BASE_URL=f"{model.url}/v1", MAX_BODY_BYTES="4096") as process,
    ):
        yield process


def everything(server: ServerProcess) -> list[list[dict[str, Any]]]:
    """Return all that the database holds of chats."""
    return [stored(server.data_dir, table) for table in ("users", "chat_conversations", "chat_logs")]


def test_a_new_conversation(server: ServerProcess) -> None:
    """Its own id is its page key, unless it is made for a page: then it is the one in which messages there end."""
    alone, other = made(server, "new"), made(server, "new", title="  川の\u3000研究 ")
    assert (alone["page_id"], alone["title"]) == (alone["id"], None)
    assert (other["page_id"], other["title"]) == (other["id"], "川の\u3000研究")
    of_page = made(server, "new", page_id="notes", title="Notes")
    assert made(server, "new", 200, page_id="notes", title="Ignored") == of_page
    answered = server.answer(f"Hello {AT_ONCE}", user="new", page_id="notes")
    assert answered["conversation_id"] == of_page["id"]
    assert server.answer(f"Hello {AT_ONCE}", user="new", page_id=alone["id"])["conversation_id"] == alone["id"]
    assert call(server, "GET", f"/conversations/{of_page['id']}", "new").json()["title"] == "Notes"
    assert made(server, "someone", page_id="notes")["id"] != of_page["id"]


def test_the_first_question_names_one_without_a_title(server: ServerProcess) -> None:
    """In one line, as it names one that it makes; later questions do not."""
    alone, question = made(server, "namer"), f"What   is\n a　hypothesis? {AT_ONCE}"
    server.answer(question, user="namer", page_id=alone["page_id"])
    server.answer(f"And why? {AT_ONCE}", user="namer", page_id=alone["page_id"])
    made_by_it = server.answer(question, user="namer", page_id="another")["conversation_id"]
    titles = {each["id"]: each["title"] for each in call(server, "GET", "/conversations", "namer").json()}
    assert titles[alone["id"]] == titles[made_by_it] == title_of(question)


def test_a_page_that_was_talked_on_has_one_already(server: ServerProcess) -> None:
    """Made by its first message, it is found."""
    answered = server.answer(f"Hello {AT_ONCE}", user="talked")
    assert made(server, "talked", 200, page_id="general")["id"] == answered["conversation_id"]


def test_racers_for_a_page_end_in_one(server: ServerProcess) -> None:
    """Of ten at the same instant one makes it, and all are given the same."""
    start = threading.Barrier(10)

    def race(_: int) -> httpx.Response:
        start.wait()
        return call(server, "POST", "/conversations", "racer", json={"page_id": "race"})

    with ThreadPoolExecutor(10) as pool:
        answers = list(pool.map(race, range(10)))
    assert sorted(answer.status_code for answer in answers) == [200] * 9 + [201]
    assert len({answer.text for answer in answers}) == 1


WRONG_BODIES: list[tuple[dict[str, Any], int, str, list[str]]] = [
    ({"json": {"title": "  "}}, 422, "invalid_request", ["title"]),
    ({"json": {"title": "a" * 201}}, 422, "invalid_request", ["title"]),
    ({"json": {"title": "a\nb"}}, 422, "invalid_request", ["title"]),
    ({"json": {"title": ["a"]}}, 422, "invalid_request", ["title"]),
    ({"content": b'{"title": "\\ud800"}'}, 422, "invalid_request", ["title"]),
    ({"json": []}, 422, "invalid_request", ["the body must be an object"]),
    ({"content": b"{"}, 400, "bad_json", []),
    ({"content": b""}, 400, "bad_json", []),
    ({"content": b"{}", "headers": {"content-type": "text/plain"}}, 415, "unsupported_media_type", []),
    ({"content": b" " * 5000}, 413, "body_too_large", []),
]


@pytest.mark.parametrize(("body", "status", "code", "fields"), WRONG_BODIES)
def test_a_wrong_body_changes_nothing(
    server: ServerProcess, body: dict[str, Any], status: int, code: str, fields: list[str]
) -> None:
    """It is refused, its fields are named, and nobody is made a user by it."""
    id_ = made(server, "wrong", page_id="w", status=200 if listed(server, "wrong") else 201)["id"]
    before = everything(server)
    for method, path, user in (("POST", "/conversations", "nobody"), ("PATCH", f"/conversations/{id_}", "wrong")):
        given = {"headers": {"content-type": "application/json"}, **body}
        errors = problem(call(server, method, path, user, **given), status, code).get("errors", [])
        assert [error.partition(":")[0] for error in errors] == fields
    assert everything(server) == before


def test_both_fields_are_named_at_once(server: ServerProcess) -> None:
    """And a title must be there where it is all that is changed."""
    body = problem(call(server, "POST", "/conversations", json={"title": 1, "page_id": ""}), 422, "invalid_request")
    assert [error.partition(":")[0] for error in body["errors"]] == ["title", "page_id"]
    id_ = made(server, "titleless")["id"]
    for wrong in ({}, {"title": None}):
        response = call(server, "PATCH", f"/conversations/{id_}", "titleless", json=wrong)
        assert problem(response, 422, "invalid_request")["errors"][0].startswith("title: ")


def test_a_new_title(server: ServerProcess) -> None:
    """It is the conversation's from now on, and moves it nowhere in the list."""
    first, second = (made(server, "titles", title=title) for title in ("One", "Two"))
    response = call(server, "PATCH", f"/conversations/{first['id']}", "titles", json={"title": " 一番 "})
    assert (response.status_code, response.json()) == (200, {**first, "title": "一番"})
    assert call(server, "GET", f"/conversations/{first['id']}", "titles").json() == {**first, "title": "一番"}
    assert listed(server, "titles") == [second["id"], first["id"]]


def test_deleting_is_soft(server: ServerProcess) -> None:
    """The rows stay, the page is free: the next message there begins a conversation that knows nothing of it."""
    old = server.answer(f"Old {AT_ONCE}", user="deleter")["conversation_id"]
    path = f"/conversations/{old}"
    response = call(server, "DELETE", path, "deleter")
    assert (response.status_code, response.content, "content-type" in response.headers) == (204, b"", False)
    (row,) = stored(server.data_dir, "chat_conversations", id=old)
    assert (row["is_active"], row["page_id"], len(stored(server.data_dir, conversation_id=old))) == (0, None, 2)
    for method, where in (("GET", path), ("DELETE", path), ("PATCH", path), ("GET", f"{path}/messages")):
        problem(call(server, method, where, "deleter", **({"json": {"title": "t"}} if method == "PATCH" else {})),
                404, "not_found")  # fmt: skip
    problem(call(server, "GET", "/chat/history", "deleter", params={"conversation_id": old}), 404, "not_found")
    assert (listed(server, "deleter"), listed(server, "deleter", q="Old")) == ([], [])
    assert call(server, "GET", "/chat/history", "deleter").json() == []
    new = server.answer(f"New {AT_ONCE}", user="deleter")
    assert new["conversation_id"] != old
    assert new["context_metadata"]["history_count"] == 0
    assert listed(server, "deleter") == [new["conversation_id"]]


def test_a_turn_in_a_conversation_that_is_deleted_loses_nothing(server: ServerProcess) -> None:
    """It goes on to its end, and both of its rows are in the conversation that it began in."""
    id_ = server.answer(f"Before {AT_ONCE}", user="flight")["conversation_id"]
    HELD.holds.add("flying")
    with opened(server, asked("flying"), user="flight") as answer:
        answer.deltas(1)
        turn_id = str(answer.read[0]["messageId"])
        assert call(server, "DELETE", f"/conversations/{id_}", "flight").status_code == 204
        HELD.let_go("flying")
        assert answer.rest()[-1]["type"] == "finish"
    until(lambda: len(stored(server.data_dir, turn_id=turn_id)) == 2, "both rows are stored")
    assert {row["conversation_id"] for row in turn_rows(server.data_dir, turn_id)} == {id_}
    assert server.answer(f"After {AT_ONCE}", user="flight")["conversation_id"] != id_


VERBS = [
    ("GET", "/conversations/{}", {}),
    ("HEAD", "/conversations/{}", {}),
    ("PATCH", "/conversations/{}", {"json": {"title": "Mine now"}}),
    ("DELETE", "/conversations/{}", {}),
    ("GET", "/conversations/{}/messages", {}),
    ("GET", "/conversations/{}/messages?format=ui&before=2026-11-22T00:00:00Z", {}),
    ("GET", "/conversations/{}/messages?before={{row}}", {}),
    ("GET", "/chat/history?conversation_id={}", {}),
    ("GET", "/chat/history?conversation_id={}&before={{turn}}", {}),
]


@pytest.mark.parametrize(("method", "path", "options"), VERBS)
def test_someone_elses_is_as_unknown_as_nobodys(
    server: ServerProcess, method: str, path: str, options: dict[str, Any]
) -> None:
    """Never 403, never a hint: the answer for another user's id is that for nobody's, and nothing changes."""
    hers = server.answer(f"Hers {AT_ONCE}", user="ann")
    made(server, "ben", page_id="his", status=200 if listed(server, "ben") else 201)
    row = stored(server.data_dir, turn_id=hers["turn_id"])[0]["id"]
    before = everything(server)
    answers = [
        call(server, method, path.format(id_).format(row=row, turn=hers["turn_id"]), "ben", **options)
        for id_ in (hers["conversation_id"], uuid.uuid4())
    ]
    assert [answer.status_code for answer in answers] == [404, 404]
    if method != "HEAD":
        bodies = [problem(answer, 404, "not_found") for answer in answers]
        assert len({str({**body, "trace_id": ""}) for body in bodies}) == 1
    assert everything(server) == before


@pytest.mark.parametrize(
    ("method", "path", "options"), [each for each in VERBS if each[1].startswith("/conversations")]
)
@pytest.mark.parametrize("id_", ["general", "1", "%2e%2e", "a%00b", "{0}", ID.hex, f"{ID}x"])
def test_what_is_no_uuid_is_not_found(
    server: ServerProcess, method: str, path: str, options: dict[str, Any], id_: str
) -> None:
    """No such id was ever given out, so it is 404 as well, before the database is asked."""
    assert call(server, method, path.replace("{}", id_, 1), **options).status_code == 404


def test_someone_elses_message_is_no_place(server: ServerProcess) -> None:
    """In one's own conversation, a row or a turn of another user's is as unknown as one of nobody's; so is one's own of
    another conversation.
    """
    mine = server.answer(f"Mine {AT_ONCE}", user="ben", page_id="his")
    elsewhere = server.answer(f"Elsewhere {AT_ONCE}", user="ben", page_id="elsewhere")
    hers = server.answer(f"Hers {AT_ONCE}", user="ann")
    path, bodies = f"/conversations/{mine['conversation_id']}/messages", set()
    for turn in (hers["turn_id"], elsewhere["turn_id"], str(uuid.uuid4())):
        names = [turn, f"{turn}:user", *(row["id"] for row in stored(server.data_dir, turn_id=turn)), 10**15]
        for name in names:
            body = problem(call(server, "GET", path, "ben", params={"before": name}), 404, "not_found")
            bodies.add(str({**body, "trace_id": ""}))
    assert len(bodies) == 1
    own = [mine["turn_id"], f"{mine['turn_id']}:user", stored(server.data_dir, turn_id=mine["turn_id"])[1]["id"]]
    counts = [len(call(server, "GET", path, "ben", params={"before": name}).json()) for name in own]
    assert counts == [counts[0], counts[0] - 1, counts[0]]


@pytest.mark.parametrize(("method", "path"), [
    ("GET", "/conversations"), ("POST", "/conversations"), ("GET", "/conversations/x"), ("PATCH", "/conversations/x"),
    ("DELETE", "/conversations/x"), ("GET", "/conversations/x/messages"),
])  # fmt: skip
def test_who_asks_must_be_known(server: ServerProcess, method: str, path: str) -> None:
    """Without a token it is 401, whatever else is wrong."""
    problem(server.http.request(method, path, params={"limit": "0"}), 401, "unauthenticated")


WRONG_QUERIES = [
    ({"limit": "0"}, ["limit"]),
    ({"limit": "101", "before": "1", "q": "x" * (MAX_SEARCH_CHARS + 1)}, ["limit", "before", "q"]),
    ({"before": str(uuid.uuid4())}, ["before"]),
    ({"q": "nul \0"}, ["q"]),
]


@pytest.mark.parametrize(("query", "fields"), WRONG_QUERIES)
def test_a_wrong_query_of_the_list(server: ServerProcess, query: dict[str, str], fields: list[str]) -> None:
    """Each wrong field is named, and what was sent is not repeated."""
    errors = problem(call(server, "GET", "/conversations", params=query), 422, "invalid_request")["errors"]
    assert [error.partition(":")[0] for error in errors] == fields


def test_the_list_is_the_newest_activity_first(server: ServerProcess) -> None:
    """A message brings its conversation to the top; pages go on where they were, each of the others once."""
    ids = [made(server, "many", page_id=f"p{number}")["id"] for number in range(7)]
    newest = list(reversed(ids))
    assert listed(server, "many") == listed(server, "many", limit=3) == newest
    reading = pages(server, "/conversations", "many", limit=2)
    shown = [each["id"] for each in next(reading)]
    for page_id in ("p5", "p0"):  # one that was shown, and one that was not
        server.answer(f"Up {AT_ONCE}", user="many", page_id=page_id)
    rest = [each["id"] for page in reading for each in page]
    assert shown + rest == [id_ for id_ in newest if id_ != ids[0]]
    assert listed(server, "many", limit=2)[:2] == [ids[0], ids[5]]
    (one,) = call(server, "GET", "/conversations", "many", params={"limit": 1}).json()
    newest_row = stored(server.data_dir, conversation_id=ids[0])[-1]
    assert datetime.fromisoformat(one["updated_at"]) == datetime.fromisoformat(newest_row["created_at"])


SEARCHED = {
    "川": 2,
    "100%": 1,
    "100": 2,
    "%": 1,
    "_x": 1,
    "\\": 1,
    "a,b": 1,
    '"(': 1,
    "*": 1,
    "ÄPFEL": 1,
    "tITLE": 2,
    "ない": 0,
}


@pytest.fixture(scope="module")
def searchable(server: ServerProcess) -> ServerProcess:
    for number, title in enumerate(("title 川", "100% \\ * title", 'a,b "(', "_x Äpfel")):
        made(server, "search", page_id=f"s{number}", title=title)
    server.answer(f"1000 川の水 {AT_ONCE}", user="search", page_id="s3")
    made(server, "other", title="title 川 100% a,b")
    return server


@pytest.mark.parametrize(("text", "count"), SEARCHED.items())
def test_a_search_is_for_the_text_itself(searchable: ServerProcess, text: str, count: int) -> None:
    """In titles and messages, of one's own, in either case, of any script; no sign has a meaning; page by page."""
    found = listed(searchable, "search", q=text)
    assert len(found) == len(set(found)) == count
    assert listed(searchable, "search", q=f" {text} ", limit=1) == found


def test_what_is_searched_for_is_nobody_elses_to_read(searchable: ServerProcess) -> None:
    """Neither logs nor metrics have the text, the title, or what was refused."""
    canary = "canary-4711"
    assert listed(searchable, "search", q=canary) == []
    problem(call(searchable, "GET", "/conversations", params={"q": canary * 20}), 422, "invalid_request")
    id_ = made(searchable, "search", title=canary)["id"]
    call(searchable, "PATCH", f"/conversations/{id_}", "search", json={"title": canary + "\n" + canary})
    assert canary not in searchable.log_text
    assert canary not in searchable.http.get("/metrics").text


def test_times_are_told_in_one_form(server: ServerProcess) -> None:
    """UTC, to the microsecond, as messages have them."""
    body = made(server, "timed")
    for name in ("created_at", "updated_at"):
        time = datetime.fromisoformat(body[name])
        assert body[name] == f"{time:%Y-%m-%dT%H:%M:%S.%f}Z"
        assert time.utcoffset() == timedelta()
