"""The database client against the embedded dialect on a real file: every method of the port, for its own user only."""

import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio

from app.clients.breaker import Breaker
from app.clients.in_process import InProcessTransport
from app.clients.ports import Database, LogRow
from app.clients.supabase import SupabaseDatabase
from app.embedded.postgrest import open_embedded_supabase
from app.errors import DatabaseFault
from app.fetch.history import conversation_id
from app.turn import Conversation, Project

URL = "http://supabase.embedded"
NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
KEYED = uuid.uuid5(uuid.NAMESPACE_OID, "a key")


@dataclass
class Place:
    """The client under test, and a bare one with which a test looks and meddles behind its back."""

    database: Database
    http: httpx.AsyncClient

    async def insert(self, table: str, *rows: dict[str, Any]) -> list[dict[str, Any]]:
        response = await self.http.post(f"/rest/v1/{table}", json=rows, headers={"prefer": "return=representation"})
        assert response.is_success, response.text
        return list(response.json())

    async def rows(self, table: str, **where: str) -> list[dict[str, Any]]:
        response = await self.http.get(f"/rest/v1/{table}", params={"select": "*", **where})
        assert response.is_success, response.text
        return list(response.json())


@pytest.fixture
async def place(tmp_path: Path, nursery: trio.Nursery) -> AsyncIterator[Place]:
    async with (
        open_embedded_supabase(tmp_path / "supabase.sqlite3") as app,
        InProcessTransport(app, nursery) as transport,
        httpx.AsyncClient(transport=transport, base_url=URL, timeout=None) as http,
    ):
        place = Place(SupabaseDatabase(transport, URL, "embedded"), http)
        for user in ("ann", "bob"):
            await place.database.ensure_user(user)
        yield place


def row(conversation: uuid.UUID, sender: Any = "user", minute: int = 0, **fields: Any) -> LogRow:
    base: dict[str, Any] = {
        "turn_id": uuid.uuid4(),
        "user_id": "ann",
        "page": "general",
        "message": f"{sender} {minute}",
        "context_data": {},
        "created_at": NOON + timedelta(minutes=minute),
    }
    return LogRow(conversation_id=conversation, sender=sender, **{**base, **fields})


async def make(place: Place, user: str = "ann", page: str = "general") -> uuid.UUID:
    return await place.database.ensure_conversation(user, page, conversation_id(user, page), "A title")


def said(conversation: Conversation | None) -> list[str]:
    assert conversation is not None
    return [message.message for message in conversation.messages]


async def test_a_user_is_made_once(place: Place) -> None:
    """`ensure_user` makes the user, and leaves one that is there as it is."""
    assert not await place.database.user_exists("new")
    await place.database.ensure_user("new")
    await place.http.patch("/rest/v1/users?id=eq.new", json={"username": "Nina"})
    await place.database.ensure_user("new")
    assert await place.database.user_exists("new")
    assert await place.rows("users", id="eq.new") == [{"id": "new", "username": "Nina"}]


@pytest.mark.parametrize("user", ["", "nobody", "'; drop table users", "a,b", "ann&id=eq.bob", "アン", "*"])
async def test_an_unknown_user_does_not_exist(place: Place, user: str) -> None:
    """Whatever its spelling, an id is looked up as it is."""
    assert not await place.database.user_exists(user)
    await place.database.ensure_user(user)
    assert await place.database.user_exists(user)


async def test_an_auth_id_leads_to_its_user(place: Place) -> None:
    """By the mapping's row, whatever characters it has; who has none is nobody known."""
    await place.insert("user_id_mapping", {"auth_id": "auth0|a,b", "user_id": "ann"})
    assert await place.database.user_of_auth_id("auth0|a,b") == "ann"
    assert await place.database.user_of_auth_id("auth0|a") is None
    assert await place.database.user_of_auth_id("*") is None


async def test_the_newest_messages_come_oldest_first(place: Place) -> None:
    """Of seven messages, written in no order, the newest three are read in the order in which they were said."""
    made = await make(place)
    for minute in (3, 0, 6, 1, 5, 2, 4):
        await place.database.write_rows([row(made, minute=minute)])
    for found in (
        await place.database.conversation_for_page("ann", "general", 3),
        await place.database.conversation("ann", made, 3),
    ):
        assert said(found) == ["user 4", "user 5", "user 6"]
        assert found is not None
        assert (found.id, found.is_new) == (made, False)


async def test_messages_of_one_instant_keep_the_order_of_their_rows(place: Place) -> None:
    """Where times are equal, the row's id decides."""
    made = await make(place)
    await place.database.write_rows([row(made, message=text) for text in ("one", "two", "three")])
    assert said(await place.database.conversation("ann", made, 2)) == ["two", "three"]


async def test_a_message_is_read_as_it_was_written(place: Place) -> None:
    """Sender, text of any script, time to the microsecond, turn id and context survive the way there and back."""
    made = await make(place)
    at = NOON + timedelta(microseconds=123_456)
    text = "川「'; drop\" \\ \n\t<b>&data: x\n\n🌊"
    written = row(
        made, "assistant", message=text, context_data={"finish": "stop", "n": [1, {"あ": None}]}, created_at=at
    )
    await place.database.write_rows([written])
    found = await place.database.conversation("ann", made, 20)
    assert found is not None
    (message,) = found.messages
    assert (message.sender, message.message, message.created_at) == ("assistant", text, at)
    assert (message.turn_id, message.context_data) == (str(written.turn_id), written.context_data)


async def test_rows_of_an_older_back_end_are_read(place: Place) -> None:
    """No turn id, no context, a context that is no object, and `ai` as the sender: they are messages all the same."""
    made = await make(place)
    old = {"user_id": "ann", "conversation_id": str(made), "created_at": "2025-01-01T00:00:00+00:00"}
    await place.insert(
        "chat_logs",
        {**old, "sender": "user", "message": "Why?"},
        {**old, "sender": "ai", "message": "Because."},
    )
    await place.insert("chat_logs", {**old, "sender": "ai", "message": "", "context_data": [1, 2]})
    found = await place.database.conversation("ann", made, 20)
    assert found is not None
    assert [(m.sender, m.message, m.turn_id, m.context_data) for m in found.messages] == [
        ("user", "Why?", None, {}),
        ("assistant", "Because.", None, {}),
        ("assistant", "", None, {}),
    ]
    assert all(message.created_at == datetime(2025, 1, 1, tzinfo=UTC) for message in found.messages)


async def test_writing_again_changes_nothing(place: Place) -> None:
    """A row whose key is there stays as it is, alone or beside a new one."""
    made = await make(place)
    question = row(made, message="first")
    again = row(made, message="second", turn_id=question.turn_id)
    reply = row(made, "assistant", 1, turn_id=question.turn_id)
    for rows in ([question], [question], [again], [again, reply], [reply, question]):
        await place.database.write_rows(rows)
    assert said(await place.database.conversation("ann", made, 20)) == ["first", "assistant 1"]


async def test_a_turn_is_read_by_its_id(place: Place) -> None:
    """Its rows with their conversation, whichever are there; not another user's."""
    made = await make(place)
    question = row(made, message="first", turn_id=KEYED)
    reply = row(made, "assistant", 1, turn_id=KEYED)
    assert await place.database.turn("ann", KEYED) is None
    await place.database.write_rows([question, row(made)])
    alone = await place.database.turn("ann", KEYED)
    await place.database.write_rows([reply])
    whole = await place.database.turn("ann", KEYED)
    assert alone is not None
    assert whole is not None
    assert (alone.conversation_id, alone.question and alone.question.message, alone.answer) == (made, "first", None)
    assert whole.answer is not None
    assert (whole.answer.message, whole.answer.created_at) == (reply.message, reply.created_at)
    assert await place.database.turn("bob", KEYED) is None


async def test_a_write_tells_which_keys_were_taken(place: Place) -> None:
    """Of turns whose id is made of a key; nobody else can have a random one."""
    made = await make(place)
    question, reply = row(made, turn_id=KEYED), row(made, "assistant", 1, turn_id=KEYED)
    random = row(made)
    taken = [
        set(await place.database.write_rows(rows)) for rows in ([question, random], [question, reply, random], [reply])
    ]
    assert taken == [set(), {question.key}, {reply.key}]


async def test_an_answer_is_replaced_once(place: Place) -> None:
    """Only as it was seen: who comes second with the same sight of it changes nothing."""
    made = await make(place)
    half = row(made, "assistant", 1, message="Hal", turn_id=KEYED)
    first, second = (replace(half, message=text, created_at=NOON + timedelta(minutes=2)) for text in ("One", "Two"))
    await place.database.write_rows([row(made, turn_id=KEYED), half])
    assert await place.database.replace_row(first, half.created_at)
    assert not await place.database.replace_row(second, half.created_at)
    found = await place.database.turn("ann", KEYED)
    assert found is not None
    assert found.answer is not None
    assert (found.answer.message, found.answer.created_at) == ("One", first.created_at)
    assert not await place.database.replace_row(replace(first, turn_id=uuid.uuid4()), half.created_at)


async def test_rows_are_written_together_or_not_at_all(place: Place) -> None:
    """One bad row takes the good one down with it, as one transaction does."""
    made = await make(place)
    with pytest.raises(DatabaseFault) as caught:
        await place.database.write_rows([row(made), row(uuid.uuid4(), "assistant")])
    assert caught.value.error_type == "23503"
    assert await place.rows("chat_logs") == []


async def test_another_users_conversation_is_absent(place: Place) -> None:
    """By id or by page, only the owner finds it; an unknown one is as absent."""
    made = await make(place)
    assert await place.database.conversation("bob", made, 20) is None
    assert await place.database.conversation_for_page("bob", "general", 20) is None
    assert await place.database.conversation("ann", uuid.uuid4(), 20) is None
    assert await place.database.conversation_for_page("ann", "project-1", 20) is None


async def test_another_users_projects_are_absent(place: Place) -> None:
    """By id, by memo, or as the latest: none of them leads to somebody else's project."""
    (project,) = await place.insert("projects", {"user_id": "ann", "theme": "rivers"})
    (memo,) = await place.insert("memos", {"user_id": "ann", "project_id": project["id"]})
    (strange,) = await place.insert("memos", {"user_id": "bob", "project_id": project["id"]})
    found = Project(id=project["id"], theme="rivers")
    for user, expected in (("ann", found), ("bob", None)):
        assert await place.database.project(user, str(project["id"])) == expected
        assert await place.database.project_of_memo(user, str(memo["id"])) == expected
        assert await place.database.latest_project(user) == expected
    assert await place.database.project_of_memo("bob", str(strange["id"])) is None, "his memo, her project"
    assert await place.database.project_of_memo("ann", str(strange["id"])) is None, "her project, his memo"


ODD_IDS = ["", "0", "-1", "1.5", "9" * 18, "9" * 30, "abc", "'; drop table projects", "1)", "null", "１",
           "0b5c7f2e-3f0e-4a53-9d3c-000000000001", "1,2", "1&user_id=eq.ann", "(1)", "eq.1"]  # fmt: skip


@pytest.mark.parametrize("odd", ODD_IDS)
async def test_an_id_of_an_odd_form_names_nothing(place: Place, odd: str) -> None:
    """What is no number, or too large for one, is as unknown as a number that nothing has."""
    assert await place.database.project("ann", odd) is None
    assert await place.database.project_of_memo("ann", odd) is None
    assert await place.rows("projects", user_id="eq.demo"), "and the table is still there"


async def test_the_latest_project_is_the_one_changed_last(place: Place) -> None:
    """By the time of the change, then by the id; a project whose texts are missing is one too."""
    assert await place.database.latest_project("ann") is None
    for theme, time in (
        ("old", "2026-01-01"),
        ("new", "2026-03-01"),
        ("newer twin", "2026-03-01"),
        ("mid", "2026-02-01"),
    ):
        await place.insert("projects", {"user_id": "ann", "theme": theme, "updated_at": f"{time}T00:00:00Z"})
    found = await place.database.latest_project("ann")
    assert found is not None
    assert (found.theme, found.question, found.hypothesis) == ("newer twin", "", "")


async def test_a_memo_without_a_project_names_none(place: Place) -> None:
    """The memo is the user's, but leads nowhere."""
    (memo,) = await place.insert("memos", {"user_id": "ann", "title": "loose"})
    assert await place.database.project_of_memo("ann", str(memo["id"])) is None


async def test_a_conversation_is_made_once(place: Place) -> None:
    """The second caller for the same user and page gets the first one's id, whatever id and title it came with."""
    made = await make(place)
    again = await place.database.ensure_conversation("ann", "general", uuid.uuid4(), "Another title")
    assert again == made == conversation_id("ann", "general")
    (stored,) = await place.rows("chat_conversations")
    assert (stored["title"], stored["page_id"], stored["is_active"]) == ("A title", "general", True)
    assert len({made, await make(place, "bob"), await make(place, "ann", "project-1")}) == 3


async def test_twenty_first_messages_at_once_make_one_conversation(place: Place) -> None:
    """However their ids came about, all racers end with the id of the one row."""
    ids: list[uuid.UUID] = []

    async def race(number: int) -> None:
        proposed = conversation_id("ann", "general") if number % 2 else uuid.uuid4()
        ids.append(await place.database.ensure_conversation("ann", "general", proposed, f"racer {number}"))

    async with trio.open_nursery() as racers:
        for number in range(20):
            racers.start_soon(race, number)
    (stored,) = await place.rows("chat_conversations")
    assert {str(one) for one in ids} == {stored["id"]}
    assert len(ids) == 20


async def test_a_deleted_conversation_makes_room_for_a_new_one(place: Place) -> None:
    """Deleting frees the page but keeps the id: what is made under another has none of the old messages, and who still
    has the old one gets no other.
    """
    old = await make(place)
    await place.database.write_rows([row(old)])
    await place.http.patch(f"/rest/v1/chat_conversations?id=eq.{old}", json={"is_active": False, "page_id": None})
    assert await place.database.conversation("ann", old, 20) is None
    assert await place.database.conversation_for_page("ann", "general", 20) is None
    assert await make(place) == old
    assert await place.database.conversation_for_page("ann", "general", 20) is None
    new = conversation_id("ann", "general", 2)
    for _ in range(2):
        assert await place.database.ensure_conversation("ann", "general", new, "A title") == new
    assert await make(place) == old, "whatever has its page"
    assert said(await place.database.conversation_for_page("ann", "general", 20)) == []


async def test_a_conversation_of_nobody_is_a_fault(place: Place) -> None:
    """A user that is gone is not a duplicate id, so nothing else is tried."""
    with pytest.raises(DatabaseFault) as caught:
        await make(place, user="ghost")
    assert caught.value.error_type == "23503"


async def test_a_database_that_has_stopped_is_a_fault(tmp_path: Path) -> None:
    """After its end every method says so, in the same way."""
    async with trio.open_nursery() as services, open_embedded_supabase(tmp_path / "one.sqlite3") as app:
        transport = InProcessTransport(app, services)
        database = SupabaseDatabase(transport, URL, "embedded", Breaker("database", failures=1000))
    calls = [
        database.user_exists("ann"), database.ensure_user("ann"), database.conversation("ann", uuid.uuid4(), 1),
        database.conversation_for_page("ann", "p", 1), database.project("ann", "1"),
        database.project_of_memo("ann", "1"), database.latest_project("ann"),
        database.ensure_conversation("ann", "p", uuid.uuid4(), "t"), database.write_rows([row(uuid.uuid4())]),
    ]  # fmt: skip
    for call in calls:
        with pytest.raises(DatabaseFault) as caught:
            await call
        assert (caught.value.code, caught.value.error_type) == ("database_unavailable", "ConnectError")
