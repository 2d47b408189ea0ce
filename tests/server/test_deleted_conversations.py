"""What comes after a conversation was deleted, over sockets: its page begins another, and nothing of it comes back."""

import sqlite3
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from urllib.parse import urlencode

import pytest

from tests.server.database_faults import Weather
from tests.server.faulty_database import faulty_database
from tests.server.outbox_town import NO_WRITES, WELL, Town, deferred, delivered
from tests.server.process import AT_ONCE, ServerProcess
from tests.server.rows import stored, turn_rows
from tests.server.streaming import get, stream
from tests.server.wire import problem

SIGNED_IN = {"authorization": "Bearer demo"}


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    folder = tmp_path_factory.mktemp("town")
    with faulty_database(folder / "supabase.sqlite3") as database:
        yield Town(folder, database)


@pytest.fixture(scope="module")
def server(town: Town) -> Iterator[ServerProcess]:
    with town.server() as process:
        yield process


def delete(server: ServerProcess, conversation_id: str) -> None:
    response = server.http.delete(f"/conversations/{conversation_id}", headers=SIGNED_IN)
    assert response.status_code == 204, response.text


def delete_elsewhere(folder: Path, conversation_id: str) -> None:
    """Delete a conversation as another process does it, while this one cannot write."""
    with closing(sqlite3.connect(folder / "supabase.sqlite3")) as database, database:
        changed = database.execute(
            "update chat_conversations set is_active = 0, page_id = null where id = ?", (conversation_id,)
        )
        assert changed.rowcount == 1


def make_elsewhere(folder: Path, like: str, page: str, conversation_id: str) -> None:
    """Make a conversation for the page of the user who has the conversation `like`, as another process does it."""
    with closing(sqlite3.connect(folder / "supabase.sqlite3")) as database, database:
        database.execute(
            "insert into chat_conversations (id, user_id, page_id) "
            "select ?, user_id, ? from chat_conversations where id = ?",
            (conversation_id, page, like),
        )


def messages(server: ServerProcess, path: str) -> list[str]:
    response = get(server, path)
    assert response.status_code == 200, response.text
    return [row["message"] for row in response.json()]


def test_a_stream_names_the_conversation_in_which_it_is_stored(town: Town, server: ServerProcess) -> None:
    """However many of its page's conversations were deleted before, its `start` has the id of the one that stands."""
    named: list[str] = []
    for _ in range(4):
        parts = stream(server, f"Begin {AT_ONCE}", page_id="again")
        told = {part["messageMetadata"]["conversation_id"] for part in parts if "conversation_id" in str(part)}
        (row,) = stored(town.folder, "chat_conversations", page_id="again")
        assert told == {row["id"]}
        assert len(messages(server, f"/conversations/{row['id']}/messages")) == 2
        named.append(row["id"])
        delete(server, row["id"])
    assert len(set(named)) == 4


def test_a_page_whose_many_conversations_were_deleted(server: ServerProcess) -> None:
    """More than are asked about at once: they are all passed over, by whoever makes the next one."""
    made = []
    for _ in range(23):
        made.append(server.http.post("/conversations", json={"page_id": "many"}, headers=SIGNED_IN).json()["id"])
        delete(server, made[-1])
    assert len(set(made)) == 23
    start = stream(server, f"Begin {AT_ONCE}", page_id="many")[0]
    assert get(server, f"/conversations/{start['messageMetadata']['conversation_id']}").json()["page_id"] == "many"


def test_racers_for_a_page_that_was_given_up_agree(server: ServerProcess) -> None:
    """Of several at the same instant every `start` names the one conversation in which they all end."""
    delete(server, server.answer(f"Old {AT_ONCE}", page_id="raced")["conversation_id"])

    def race(number: int) -> str:
        return str(stream(server, f"{number} {AT_ONCE}", page_id="raced")[0]["messageMetadata"]["conversation_id"])

    with ThreadPoolExecutor(4) as pool:
        (id_,) = set(pool.map(race, range(4)))
    assert len(messages(server, "/chat/history?page_id=raced")) == 8
    assert get(server, f"/conversations/{id_}").json()["page_id"] == "raced"


@pytest.mark.parametrize("is_new", [False, True], ids=["stored", "unstored"])
def test_what_waits_for_a_deleted_conversation_is_gone_with_it(town: Town, server: ServerProcess, is_new: bool) -> None:
    """Its rows that are only in the outbox are on no page, in no prompt and no list, and are delivered into it."""
    page = f"gone-{is_new}"
    kept = server.answer(f"Before {AT_ONCE}", page_id=page)
    id_ = kept["conversation_id"]
    town.database.become(NO_WRITES)
    try:
        late = deferred(server, "Late", page_id=page)
        assert len(messages(server, f"/chat/history?page_id={page}")) == 4
        delete_elsewhere(town.folder, id_)
        for path in (f"/conversations/{id_}", f"/conversations/{id_}/messages", f"/chat/history?conversation_id={id_}"):
            problem(get(server, path), 404, "not_found")
        for before in ("", "&before=2099-01-01T00:00:00Z"):
            assert messages(server, f"/chat/history?page_id={page}{before}") == []
        problem(get(server, f"/chat/history?page_id={page}&before={late['turn_id']}"), 404, "not_found")
        if not is_new:
            town.database.become(WELL)
            delivered(server)
        new = server.answer(f"New {AT_ONCE}", page_id=page)
        assert new["saved"] == ("outbox" if is_new else "database")
        assert (new["conversation_id"] != id_, new["context_metadata"]["history_count"]) == (True, 0)
        assert messages(server, f"/chat/history?page_id={page}") == [f"New {AT_ONCE}", new["response"]]
        listed = [each["id"] for each in get(server, "/conversations").json() if each["page_id"] == page]
        assert listed == [new["conversation_id"]]
    finally:
        town.database.become(WELL)
    delivered(server)
    for turn, conversation in ((late, id_), (new, new["conversation_id"])):
        assert {row["conversation_id"] for row in turn_rows(town.folder, turn["turn_id"])} == {conversation}
    assert len(messages(server, f"/chat/history?page_id={page}")) == 2


def test_an_answer_is_not_given_again_out_of_a_deleted_conversation(town: Town, server: ServerProcess) -> None:
    """Its key belongs to that conversation, also while the answer waits in the outbox."""
    server.answer(f"Before {AT_ONCE}", page_id="keyed")
    keyed = {"idempotency-key": str(uuid.uuid4())}
    town.database.become(NO_WRITES)
    try:
        waiting = deferred(server, "Keyed", page_id="keyed", headers=keyed)
        assert deferred(server, "Keyed", page_id="keyed", headers=keyed)["response"] == waiting["response"]
        delete_elsewhere(town.folder, waiting["conversation_id"])
        again = server.ask(f"Keyed {AT_ONCE}", page_id="keyed", headers=keyed)
    finally:
        town.database.become(WELL)
    problem(again, 422, "idempotency_mismatch")
    delivered(server)


@pytest.mark.parametrize("weather", [WELL, NO_WRITES], ids=["await", "outbox"])
@pytest.mark.parametrize("named", [False, True], ids=["page", "named"])
def test_an_id_that_once_lost_its_page_may_be_the_next_conversations(
    town: Town, server: ServerProcess, named: bool, weather: Weather
) -> None:
    """This process knows the page's first id as that of a conversation that is deleted since; another process made the
    page's next one with that very id. What is said in it is stored in it, at once or later, and it is found by its id.
    """
    page = f"lost-{named}-{weather is WELL}"
    anybodys = server.answer(f"Here {AT_ONCE}", page_id="anybodys")["conversation_id"]
    town.database.become(NO_WRITES)
    lost, won = deferred(server, "Early", page_id=page), str(uuid.uuid4())
    make_elsewhere(town.folder, anybodys, page, won)
    town.database.become(WELL)
    delivered(server)
    assert {row["conversation_id"] for row in turn_rows(town.folder, lost["turn_id"])} == {won}
    id_ = lost["conversation_id"]
    assert get(server, f"/conversations/{id_}").json()["id"] == won
    delete(server, won)
    make_elsewhere(town.folder, anybodys, page, id_)
    where = {"conversation_id": id_} if named else {"page_id": page}
    town.database.become(weather)
    try:
        turns = [server.answer(f"{text} {AT_ONCE}", **{"page_id": page, **where}) for text in ("New", "Newer")]
        for before in ({}, {"before": "2099-01-01T00:00:00Z"}):
            assert len(messages(server, f"/chat/history?{urlencode({**where, **before})}")) == 4
    finally:
        town.database.become(WELL)
    delivered(server)
    assert [turn["saved"] for turn in turns] == ["database" if weather is WELL else "outbox"] * 2
    assert {turn["conversation_id"] for turn in turns} == {id_}
    for turn in turns:
        assert {row["conversation_id"] for row in turn_rows(town.folder, turn["turn_id"])} == {id_}
    renamed = server.http.patch(f"/conversations/{id_}", json={"title": "Found"}, headers=SIGNED_IN)
    assert (renamed.status_code, renamed.json()["id"]) == (200, id_)
    delete(server, id_)


def test_what_the_next_conversation_costs(town: Town, server: ServerProcess) -> None:
    """A page's first message asks once more than others, for which of its ids is free; its next ones do not."""
    found: set[str] = set()

    def reads() -> int:
        before = town.database.hits["slow"]
        found.add(server.answer(f"Hello {AT_ONCE}", page_id="first")["conversation_id"])
        return town.database.hits["slow"] - before

    town.database.become(Weather(reads={"slow": 1.0}, slow_s=0.0))  # so that they are counted
    try:
        assert [reads(), reads(), reads()] == [2, 1, 1]
        delete(server, found.pop())
        assert [reads(), reads()] == [2, 1]
    finally:
        town.database.become(WELL)
