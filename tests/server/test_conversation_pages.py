"""Pages of messages, over sockets: whole, in order, and each message once, whatever arrives or waits meanwhile."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.server.conversations import call, listed, made, pages
from tests.server.faulty_database import faulty_database
from tests.server.outbox_town import NO_WRITES, WELL, Town, deferred, delivered
from tests.server.process import AT_ONCE, ServerProcess, running, until
from tests.server.rows import stored
from tests.server.wire import problem


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with running(tmp_path_factory.mktemp("data")) as process:
        yield process


@pytest.fixture(scope="module")
def long(server: ServerProcess) -> ServerProcess:
    """The server, whose user `long` has a conversation of 24 messages."""
    for number in range(12):
        server.answer(f"Question {number} {AT_ONCE}", user="long")
    return server


@pytest.mark.parametrize("limit", [1, 5, 23, 24, 100])
def test_pages_of_messages(long: ServerProcess, limit: int) -> None:
    """By either address, back to the first message; the last page says that it is the last."""
    rows = [row["id"] for row in stored(long.data_dir, user_id="long")]
    id_ = stored(long.data_dir, "chat_conversations", user_id="long")[0]["id"]
    for path in ("/chat/history", f"/conversations/{id_}/messages"):
        found = [[each["id"] for each in page] for page in pages(long, path, "long", limit=limit)]
        assert [each for page in reversed(found) for each in page] == rows
        assert len(found) == -(-len(rows) // limit)
        as_ui = list(pages(long, path, "long", limit=limit, format="ui"))
        assert [len(page) for page in as_ui] == [len(page) for page in found]


def test_before_is_a_time_or_a_message(long: ServerProcess) -> None:
    """A row's id, an id of the AI SDK's list, or a time, which leaves out what is of that very time."""
    rows = stored(long.data_dir, user_id="long")
    question, answer = rows[10], rows[11]
    shown = call(long, "GET", "/chat/history", "long", params={"format": "ui"}).json()
    ui_ids = [each["id"] for each in shown[10:12]]
    time = question["created_at"].replace("+00:00", "Z")
    for before, count in (
        (question["id"], 10), (answer["id"], 11), (ui_ids[0], 10), (ui_ids[1], 11), (time, 10),
        (question["created_at"], 10), (f"{time}~{question['id'] + 1}", 11), ("2000-01-01T00:00:00Z", 0),
    ):  # fmt: skip
        found = call(long, "GET", "/chat/history", "long", params={"before": before, "limit": 100}).json()
        assert [each["id"] for each in found] == [row["id"] for row in rows[:count]], before


def grown(written: list[str]) -> None:
    """Wait until there is one more."""
    count = len(written) + 1
    until(lambda: len(written) >= count, "a message between two pages")


def test_pages_while_messages_arrive(server: ServerProcess) -> None:
    """A writer goes on while a reader pages back: each message that was there at the start is shown once, in order."""
    for number in range(10):
        server.answer(f"There {number} {AT_ONCE}", user="busy")
    there = [row["id"] for row in stored(server.data_dir, user_id="busy")]
    stop = threading.Event()
    written: list[str] = []

    def write() -> None:
        while not stop.is_set():
            written.append(server.answer(f"More {len(written)} {AT_ONCE}", user="busy")["turn_id"])

    with ThreadPoolExecutor(1) as pool:
        writer = pool.submit(write)
        try:
            readings = []
            for _ in range(3):
                found: list[int] = []
                for page in pages(server, "/chat/history", "busy", limit=3):
                    found = [each["id"] for each in page] + found
                    grown(written)
                readings.append(found)
        finally:
            stop.set()
        writer.result()
    for found in readings:
        assert found[: len(there)] == there
        assert found == sorted(set(found))


def test_what_waits_is_on_its_page(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Rows in the outbox are in their place on every page and in the list, before they are delivered and after."""
    folder = tmp_path_factory.mktemp("town")
    with faulty_database(folder / "supabase.sqlite3") as database, Town(folder, database).server() as server:
        for number in range(2):
            server.answer(f"Stored {number} {AT_ONCE}")
        made(server, page_id="other", title="Other")
        database.become(NO_WRITES)
        for number in range(2):
            deferred(server, f"Waiting {number}")
        waiting_only = deferred(server, "Unmade", page_id="unmade")["conversation_id"]
        whole = call(server, "GET", "/chat/history", params={"limit": 100}).json()
        assert [each["id"] is None for each in whole] == [False] * 4 + [True] * 4
        reading = pages(server, "/chat/history", "demo", limit=3)
        first = next(reading)
        heads = list(pages(server, "/conversations", "demo", limit=1))
        assert [page[0]["page_id"] for page in heads] == ["unmade", "general", "other"]
        path = f"/conversations/{waiting_only}"
        assert call(server, "GET", path).json() == heads[0][0]
        assert len(call(server, "GET", f"{path}/messages").json()) == 2
        problem(call(server, "DELETE", path), 503, "database_unavailable")
        problem(call(server, "GET", path, "stranger"), 404, "not_found")
        database.become(WELL)
        delivered(server)
        found = [each for page in reversed([first, *reading]) for each in page]
        keys = [(each["turn_id"], each["sender"]) for each in found]
        assert keys == [(each["turn_id"], each["sender"]) for each in whole]
        assert listed(server, "demo", limit=1) == [page[0]["id"] for page in heads]
        assert call(server, "DELETE", path).status_code == 204
