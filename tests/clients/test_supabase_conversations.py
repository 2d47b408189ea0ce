"""The database client's requests about conversations and pages, field by field, and what is made of their answers."""

import json
import uuid
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qsl

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

from app.clients.ports import ChatDatabase
from app.clients.supabase import SupabaseDatabase
from app.clients.supabase_conversations import containing
from app.conversations import ConversationHead, MessageName, Place
from app.embedded.postgrest.filters import parse_condition
from app.embedded.postgrest.patterns import glob_of, text_of
from app.errors import DatabaseFault
from tests.clients.test_supabase_wire import Recorder, rows

ID, OTHER, TURN = (uuid.UUID(f"6f2f8b0e-0000-4000-8000-00000000000{number}") for number in (1, 2, 3))
NOON = datetime(2026, 11, 22, 12, 0, 0, 123456, tzinfo=UTC)
AT = "2026-11-22T12:00:00.123456+00:00"
COLUMNS = "id,sender,message,created_at,context_data,turn_id"
HEAD = "id,title,page_id,is_active,created_at,updated_at"
ROW = {"id": str(ID), "title": "川", "page_id": "p", "is_active": True, "created_at": AT, "updated_at": AT}
SHOWN = ConversationHead(id=ID, title="川", page_id="p", created_at=NOON, updated_at=NOON)

ONE = {"user_id": "eq.ann", "limit": "1"}
LIST = {"select": HEAD, "user_id": "eq.ann", "is_active": "is.true", "order": "updated_at.desc,id.desc", "limit": "3"}
OLDER = {
    "select": f"id,older:chat_logs({COLUMNS})",
    "older.order": "created_at.desc,id.desc",
    "older.limit": "3",
    **ONE,
}
READS: dict[str, tuple[Callable[[SupabaseDatabase], Awaitable[object]], str, list[dict[str, str]]]] = {
    "before a time": (
        lambda database: database.messages_before("ann", ID, Place(at=NOON), 3),
        "chat_conversations",
        [{**OLDER, "id": f"eq.{ID}", "is_active": "is.true", "older.created_at": f"lt.{AT}"}],
    ),
    "before what waits, of a page": (
        lambda database: database.messages_before("ann", "p,)", Place(at=NOON, after_ties=True), 3),
        "chat_conversations",
        [{**OLDER, "page_id": "eq.p,)", "older.created_at": f"lte.{AT}"}],
    ),
    "before a row": (
        lambda database: database.messages_before("ann", ID, Place(at=NOON, id=17), 3),
        "chat_conversations",
        [
            {
                **OLDER,
                "select": f"id,ties:chat_logs({COLUMNS}),older:chat_logs({COLUMNS})",
                "id": f"eq.{ID}",
                "is_active": "is.true",
                "ties.created_at": f"eq.{AT}",
                "ties.id": "lt.17",
                "ties.order": "created_at.desc,id.desc",
                "ties.limit": "3",
                "older.created_at": f"lt.{AT}",
            }
        ],
    ),
    "a message by its turn, then by its row": (
        lambda database: database.place_of("ann", MessageName(id=TURN, turn_id=TURN)),
        "chat_logs",
        [
            {**ONE, "select": "id,created_at,conversation_id", "turn_id": f"eq.{TURN}", "sender": "eq.assistant"},
            {**ONE, "select": "id,created_at,conversation_id", "id": f"eq.{TURN}"},
        ],
    ),
    "the list": (lambda database: database.heads("ann", 3), "chat_conversations", [LIST]),
    "the list after a time": (
        lambda database: database.heads("ann", 3, Place(at=NOON)),
        "chat_conversations",
        [{**LIST, "updated_at": f"lt.{AT}"}],
    ),
    "the list after a place, of these": (
        lambda database: database.heads("ann", 3, Place(at=NOON, id=ID), among=[ID, OTHER]),
        "chat_conversations",
        [
            {
                **LIST,
                "id": f"in.({ID},{OTHER})",
                "updated_at": f"lte.{AT}",
                "or": f'(updated_at.lt."{AT}",id.lt.{ID})',
            }
        ],
    ),
    "a search": (
        lambda database: database.heads("ann", 3, text='50%_\\,")('),
        "chat_conversations",
        [
            {**LIST, "title": 'ilike.%50\\%\\_\\\\,")(%'},
            {
                **LIST,
                "select": f"{HEAD},chat_logs!inner(id)",
                "chat_logs.message": 'ilike.%50\\%\\_\\\\,")(%',
                "chat_logs.order": "created_at.desc,id.desc",
                "chat_logs.limit": "1",
            },
        ],
    ),
    "some, by their ids": (
        lambda database: database.heads_of("ann", [ID, OTHER]),
        "chat_conversations",
        [{"select": HEAD, "user_id": "eq.ann", "id": f"in.({ID},{OTHER})"}],
    ),
}


def query_of(request: httpx.Request) -> dict[str, str]:
    pairs = parse_qsl(request.url.query.decode(), strict_parsing=True)
    assert len(pairs) == len(dict(pairs))
    return dict(pairs)


@pytest.mark.parametrize("name", READS)
async def test_a_read_is_these_requests(name: str, autojump_clock: MockClock) -> None:
    """Table, filters, order and limits are as written here; each names the user."""
    ask, table, queries = READS[name]
    recorder = Recorder(rows())
    await ask(recorder.database())
    assert [query_of(request) for request in recorder.requests] == queries
    assert {(each.method, each.url.path) for each in recorder.requests} == {("GET", f"/rest/v1/{table}")}
    assert {each.headers["accept-profile"] for each in recorder.requests} == {"public"}


def message(id_: int, at: datetime) -> dict[str, Any]:
    said = {"sender": "user", "message": str(id_), "context_data": None, "turn_id": None}
    return {"id": id_, "created_at": at.isoformat(), **said}


async def test_ties_come_before_what_is_older(autojump_clock: MockClock) -> None:
    """Both parts are one page, oldest first, of as many as were asked for."""
    ties = [message(16, NOON), message(15, NOON)]
    older = [message(id_, NOON - timedelta(seconds=1)) for id_ in (99, 98)]
    database = Recorder(rows({"id": str(ID), "ties": ties, "older": older})).database()
    found = await database.messages_before("ann", ID, Place(at=NOON, id=17), 3)
    assert found
    assert [each.id for each in found.messages] == [99, 15, 16]


async def test_a_place_is_a_rows_time_and_id(autojump_clock: MockClock) -> None:
    """Counted or a UUID; a message that is of no conversation has no place."""
    for id_ in (17, TURN):
        row = {"id": id_ if isinstance(id_, int) else str(id_), "created_at": AT, "conversation_id": str(ID)}
        found = await Recorder(rows(row)).database().place_of("ann", MessageName(id=id_))
        assert found == (ID, Place(at=NOON, id=id_))
        assert (
            await Recorder(rows({**row, "conversation_id": None})).database().place_of("ann", MessageName(id=id_))
            is None
        )


@pytest.mark.parametrize("code", ["22P02", "22003"])
async def test_an_id_that_the_column_cannot_hold_is_nobodys(code: str, autojump_clock: MockClock) -> None:
    """A UUID where rows are counted, or a number where they are not: nothing is found, and nothing is wrong."""
    refused = httpx.Response(400, json={"code": code, "message": ""})
    database = Recorder(refused).database()
    assert await database.place_of("ann", MessageName(id=17)) is None
    assert await database.messages_before("ann", ID, Place(at=NOON, id=TURN), 3) is None


async def test_a_search_finds_each_once_in_order(autojump_clock: MockClock) -> None:
    """What is found by its title and by a message is one; both answers are in one order, and no more than asked for."""
    heads = [{**ROW, "id": str(uuid.UUID(int=n)), "updated_at": (NOON + timedelta(seconds=s)).isoformat()}
             for n, s in ((1, 5), (2, 3), (3, 3), (4, 1))]  # fmt: skip
    database = Recorder(rows(heads[0], heads[1]), rows(heads[1], heads[2], heads[3])).database()
    assert [head.id.int for head in await database.heads("ann", 3, text="x")] == [1, 3, 2]


async def test_making_one_is_this_one_request(autojump_clock: MockClock) -> None:
    """An insert that ignores what is there, with the whole row coming back."""
    recorder = Recorder(rows(ROW, status=201))
    assert await recorder.database().make_conversation("ann", "p", ID, None) == (SHOWN, True)
    (request,) = recorder.requests
    assert (request.method, query_of(request)) == ("POST", {"on_conflict": "user_id,page_id", "select": HEAD})
    assert json.loads(request.content) == [{"id": str(ID), "user_id": "ann", "page_id": "p", "title": None}]
    assert request.headers["prefer"] == "resolution=ignore-duplicates,return=representation"


@pytest.mark.parametrize(("asked", "made"), [(ID, True), (OTHER, False), (uuid.uuid5(ID, "derived"), False)])
async def test_one_that_is_there_is_read_back(asked: uuid.UUID, made: bool, autojump_clock: MockClock) -> None:
    """Nothing came of the insert: the page's is read. Under our own random id it is ours, and its answer was lost."""
    standing = {**ROW, "id": str(asked if asked != OTHER else ID)}
    recorder = Recorder(rows(status=201), rows(standing))
    head, is_new = await recorder.database().make_conversation("ann", "p", asked, None)
    assert (str(head.id), is_new) == (standing["id"], made)
    assert query_of(recorder.requests[1]) == {**ONE, "select": HEAD, "page_id": "eq.p"}


async def test_a_taken_id_is_no_new_conversation(autojump_clock: MockClock) -> None:
    """Made and deleted by another since it was found free: the page's is read, and without one it is a fault."""
    taken = httpx.Response(409, json={"code": "23505"})
    recorder = Recorder(taken, rows({**ROW, "id": str(OTHER)}))
    head, is_new = await recorder.database().make_conversation("ann", "p", ID, "t")
    assert (head.id, is_new) == (OTHER, False)
    with pytest.raises(DatabaseFault) as caught:
        await Recorder(taken, rows()).database().make_conversation("ann", "p", ID, "t")
    assert caught.value.error_type == "23505"


async def test_one_that_vanishes_is_a_fault_that_may_pass(autojump_clock: MockClock) -> None:
    """Neither made nor there: it was deleted in between."""
    with pytest.raises(DatabaseFault):
        await Recorder(rows(status=201), rows()).database().make_conversation("ann", "p", ID, "t")


async def test_changes_are_these_requests(autojump_clock: MockClock) -> None:
    """A new title only for one that is not deleted; what hides one may be sent again, and hides it again."""
    recorder = Recorder(rows(ROW), rows(), rows({"id": str(ID)}))
    database = recorder.database()
    assert await database.rename_conversation("ann", ID, "New") == SHOWN
    assert await database.rename_conversation("ann", ID, "New") is None
    await database.hide_conversation("ann", ID)
    rename, _, hide = recorder.requests
    mine = {"id": f"eq.{ID}", "user_id": "eq.ann"}
    assert (rename.method, query_of(rename)) == ("PATCH", {**mine, "is_active": "is.true", "select": HEAD})
    assert (hide.method, query_of(hide)) == ("PATCH", {**mine, "select": "id"})
    assert json.loads(rename.content) == {"title": "New"}
    assert json.loads(hide.content) == {"is_active": False, "page_id": None}


@pytest.mark.parametrize("wrong", [{"id": "x"}, {"title": 5}, {"updated_at": None}, {"created_at": "noon"}])
async def test_a_row_that_is_not_as_asked_for_is_a_fault(wrong: dict[str, object], autojump_clock: MockClock) -> None:
    """It is named as the database's, not as a bug of ours."""
    with pytest.raises(DatabaseFault) as caught:
        await Recorder(rows({**ROW, **wrong})).database().heads("ann", 3)
    assert caught.value.error_type == "bad_row"


@given(
    st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=60)
    | st.text('%_\\*.?[a(,"', min_size=1)
)
def test_a_search_text_is_nothing_but_itself(text: str) -> None:
    """The filter's value, read as LIKE or as a regular expression, has no sign left that would match anything else."""
    condition = parse_condition("title", containing(text))
    if condition.operator == "imatch":
        assert text_of(condition.operands[0]) == text
        return
    like = condition.operands[0]
    plain = "".join(f"[{char}]" if char in "*?[" else char for char in text)
    assert (condition.operator, glob_of(like.replace("*", "%"))) == ("ilike", f"*{plain}*")


def holds_protocol(database: SupabaseDatabase) -> ChatDatabase:
    """Have the type checker agree that the client is both halves of the port."""
    return database
