"""The requests that our own client sends, and the finer points of what comes back."""

import json
from typing import Any
from uuid import uuid4

import httpx
import pytest

LOG = {"user_id": "demo", "sender": "user", "message": "m"}
KEYS = "conversation_id", "turn_id"
HISTORY = (
    "/chat_conversations?select=id,title,chat_logs(id,sender,message,created_at,context_data,turn_id)"
    "&user_id=eq.demo&page_id=eq.{page}&chat_logs.order=created_at.desc,id.desc&chat_logs.limit=20"
)


async def conversation(api: httpx.AsyncClient, page: str) -> str:
    """Make a conversation on `page` and return its id."""
    body = {"user_id": "demo", "page_id": page}
    response = await api.post("/chat_conversations", json=body, headers={"prefer": "return=representation"})
    return str(response.json()[0]["id"])


async def test_conversation_and_newest_history_come_in_one_request(api: httpx.AsyncClient) -> None:
    """The history request has the newest 20 messages of each conversation, newest first, ties by id."""
    for page in ("a", "b"):
        parent = await conversation(api, page)
        times = [f"2026-01-01T00:00:{number // 2:02}Z" for number in range(50)]
        rows = [{**LOG, "message": str(n), "conversation_id": parent, "created_at": at} for n, at in enumerate(times)]
        assert (await api.post("/chat_logs", json=rows)).status_code == 201
    (found,) = (await api.get(HISTORY.format(page="b"))).json()
    assert [log["message"] for log in found["chat_logs"]] == [str(n) for n in range(49, 29, -1)]
    both = (await api.get(HISTORY.format(page="b").replace("&page_id=eq.b", ""))).json()
    assert [len(each["chat_logs"]) for each in both] == [20, 20]


async def test_a_new_conversation_has_an_empty_history(api: httpx.AsyncClient) -> None:
    """A conversation without messages has an empty list, and an unknown page no conversation."""
    await conversation(api, "a")
    assert (await api.get(HISTORY.format(page="a"))).json()[0]["chat_logs"] == []
    assert (await api.get(HISTORY.format(page="x"))).json() == []


async def test_the_same_turn_is_stored_once(api: httpx.AsyncClient) -> None:
    """An idempotent insert sent twice is one row, and both times acknowledged without a body."""
    row = {**LOG, "turn_id": str(uuid4())}
    headers = {"prefer": "resolution=ignore-duplicates,return=minimal"}
    for _ in range(2):
        response = await api.post("/chat_logs?on_conflict=turn_id,sender", json=row, headers=headers)
        assert (response.status_code, response.content) == (201, b"")
        assert response.headers["preference-applied"] == "resolution=ignore-duplicates, return=minimal"
    assert len((await api.get("/chat_logs?select=id")).json()) == 1


async def test_the_loser_of_a_first_message_reads_the_winners_conversation(api: httpx.AsyncClient) -> None:
    """A second upsert of one (user, page) returns nothing, and the first one's row stays."""
    headers = {"prefer": "resolution=ignore-duplicates,return=representation"}
    ids = [str(uuid4()), str(uuid4())]
    answers = [
        await api.post(
            "/chat_conversations?on_conflict=user_id,page_id",
            json={"id": each, "user_id": "demo", "page_id": "p"},
            headers=headers,
        )
        for each in ids
    ]
    assert [[row["id"] for row in answer.json()] for answer in answers] == [[ids[0]], []]


async def test_a_bulk_insert_reads_its_columns(api: httpx.AsyncClient) -> None:
    """`columns=` decides what is written: other keys are ignored, absent ones take their defaults when asked."""
    rows = [{**LOG, "extra": 1, "created_at": "2026-01-01T00:00:00Z"}, LOG]
    headers = {"prefer": "missing=default,return=representation"}
    target = "/chat_logs?columns=user_id,sender,message,created_at&select=message,created_at"
    first, second = (await api.post(target, json=rows, headers=headers)).json()
    assert first == {"message": "m", "created_at": "2026-01-01T00:00:00+00:00"}
    assert second["created_at"] > "2026-01-02"


async def test_a_project_is_found_through_a_memo(api: httpx.AsyncClient) -> None:
    """The inner embed leaves only the project that has the memo, and only for its user."""
    target = "/projects?select=id,theme,question,hypothesis,memos!inner(id)&memos.id=eq.{}&user_id=eq.{}&limit=1"
    (project,) = (await api.get(target.format(1, "demo"))).json()
    assert (project["id"], project["memos"]) == (1, [{"id": 1}])
    assert project.keys() == {"id", "theme", "question", "hypothesis", "memos"}
    assert (await api.get(target.format(2, "demo"))).json() == []
    assert (await api.get(target.format(1, "someone"))).json() == []


async def test_a_message_touches_its_conversation_forward_only(api: httpx.AsyncClient) -> None:
    """A newer message moves `updated_at` to its own time, an older one does not move it."""
    parent = await conversation(api, "a")
    for time in ("2090-01-01T00:00:00.5+09:00", "2020-01-01T00:00:00Z"):
        await api.post("/chat_logs", json={**LOG, "conversation_id": parent, "created_at": time})
    (row,) = (await api.get("/chat_conversations?select=updated_at")).json()
    assert row["updated_at"] == "2089-12-31T15:00:00.5+00:00"


async def test_a_soft_delete_frees_the_page(api: httpx.AsyncClient) -> None:
    """Conversations without a page do not meet in the unique key, so the page can be used again."""
    for _ in range(3):
        parent = await conversation(api, "a")
        response = await api.patch(f"/chat_conversations?id=eq.{parent}", json={"is_active": False, "page_id": None})
        assert response.status_code == 204
    rows = (await api.get("/chat_conversations?select=page_id&is_active=is.false")).json()
    assert rows == [{"page_id": None}] * 3


async def test_times_sort_as_times(api: httpx.AsyncClient) -> None:
    """Times of many spellings are one instant's order, shown in UTC without idle zeros."""
    spelled = {
        "2026-11-22T14:00:00+09:00": "2026-11-22T05:00:00+00:00",
        "2026-11-22 05:00:00.1Z": "2026-11-22T05:00:00.1+00:00",
        "2026-11-22T05:00:00.123456789Z": "2026-11-22T05:00:00.123457+00:00",
        "2026-11-22T00:30:01-0430": "2026-11-22T05:00:01+00:00",
        "2026-11-23": "2026-11-23T00:00:00+00:00",
    }
    rows = [{**LOG, "message": text, "created_at": text} for text in reversed(spelled)]
    await api.post("/chat_logs", json=rows)
    found = (await api.get("/chat_logs?select=message,created_at&order=created_at")).json()
    assert {row["message"]: row["created_at"] for row in found} == spelled
    assert [row["message"] for row in found] == list(spelled)


@pytest.mark.parametrize(
    "document", [{"a": [1, 2.5, None, {"b": '”\\"'}]}, [], "text", 12, 1.0, 10**30, True, False, "12", "null"]
)
async def test_json_columns_hold_any_json(document: Any, api: httpx.AsyncClient) -> None:
    """A JSON column gives back what was put in, numbers and texts that look like numbers included."""
    headers = {"prefer": "return=representation"}
    response = await api.post("/chat_logs?select=context_data", json={**LOG, "context_data": document}, headers=headers)
    (row,) = response.json()
    assert json.dumps(row["context_data"]) == json.dumps(document)


async def test_a_json_null_is_null(api: httpx.AsyncClient) -> None:
    """A JSON null in the body is SQL's NULL."""
    await api.post("/chat_logs", json={**LOG, "context_data": None})
    assert (await api.get("/chat_logs?select=context_data&context_data=is.null")).json() == [{"context_data": None}]


async def test_values_are_raw_at_the_top_and_quoted_in_groups(api: httpx.AsyncClient) -> None:
    """At the top a value runs to the end whatever it holds; in a list or group quotes keep what would end it."""
    name = 'a,b).eq."\\*'
    await api.post("/users", json={"id": "u", "username": name})
    escaped = name.replace("\\", "\\\\").replace('"', '\\"')
    for key, value in (
        ("username", f"eq.{name}"),
        ("username", f'in.(x,"{escaped}")'),
        ("or", f'(id.eq.x,username.eq."{escaped}")'),
    ):
        rows = (await api.get("/users", params={"select": "id", key: value})).json()
        assert rows == [{"id": "u"}], value


async def test_booleans_filter_by_is_and_eq(api: httpx.AsyncClient) -> None:
    """`is.true`, `eq.true` and their negations choose by the boolean."""
    await conversation(api, "a")
    for wanted, filters in (
        (1, ["is.true", "eq.true", "eq.t", "not.is.false", "neq.false", "in.(true)"]),
        (0, ["is.false", "is.unknown", "is.null", "not.eq.on"]),
    ):
        for text in filters:
            rows = (await api.get("/chat_conversations", params={"is_active": text})).json()
            assert len(rows) == wanted, text


async def test_a_page_of_a_counted_read_is_partial_content(api: httpx.AsyncClient) -> None:
    """With an exact count a part of the rows is 206 and all of them 200; Content-Range says which."""
    counted = {"prefer": "count=exact"}
    part = await api.get("/projects?select=id&order=id&limit=1", headers=counted)
    assert (part.status_code, part.headers["content-range"]) == (206, "0-0/2")
    whole = await api.get("/projects", headers=counted)
    assert (whole.status_code, whole.headers["content-range"]) == (200, "0-1/2")
    none = await api.get("/projects?id=eq.9", headers=counted)
    assert (none.status_code, none.headers["content-range"]) == (200, "*/0")


async def test_a_range_header_pages_too(api: httpx.AsyncClient) -> None:
    """`Range: 1-1` is the second row."""
    response = await api.get("/projects?select=id&order=id", headers={"range-unit": "items", "range": "1-1"})
    assert (response.json(), response.headers["content-range"]) == ([{"id": 2}], "1-1/*")


async def test_headers_only_names_the_new_row(api: httpx.AsyncClient) -> None:
    """`return=headers-only` answers where the row is, and no body."""
    response = await api.post("/chat_logs", json=LOG, headers={"prefer": "return=headers-only"})
    assert (response.status_code, response.content) == (201, b"")
    assert response.headers["location"] == "/chat_logs?id=eq.1"


async def test_a_merge_of_rows_that_were_there_is_200(api: httpx.AsyncClient) -> None:
    """A merge that adds no row is 200, one that adds some is 201."""
    merge = {"prefer": "resolution=merge-duplicates"}
    statuses = [
        (await api.post("/users", json={"id": each, "username": "n"}, headers=merge)).status_code
        for each in ("demo", "new", "new")
    ]
    assert statuses == [200, 201, 200]


async def test_writes_count_and_touch_what_they_say(api: httpx.AsyncClient) -> None:
    """Content-Range of a write tells the rows it touched."""
    counted = {"prefer": "count=exact"}
    insert = await api.post("/users", json=[{"id": "a"}, {"id": "b"}], headers=counted)
    update = await api.patch("/users?id=in.(a,b)", json={"username": "x"}, headers=counted)
    delete = await api.delete("/users?id=in.(a,b)", headers=counted)
    assert [each.headers["content-range"] for each in (insert, update, delete)] == ["*/2", "0-1/2", "*/2"]


async def test_nothing_to_insert_or_change_is_no_fault(api: httpx.AsyncClient) -> None:
    """An empty list inserts nothing, an empty object changes nothing."""
    shown = {"prefer": "return=representation"}
    assert (await api.post("/users", json=[], headers=shown)).json() == []
    assert (await api.patch("/users?id=eq.demo", json={}, headers=shown)).json() == []


async def test_an_update_may_filter_by_what_it_changes(api: httpx.AsyncClient) -> None:
    """The changed row is answered although it no longer fits the filter."""
    response = await api.patch(
        "/projects?theme=like.Honey*&select=id,theme",
        json={"theme": "Bees"},
        headers={"prefer": "return=representation"},
    )
    assert response.json() == [{"id": 2, "theme": "Bees"}]


async def test_an_embed_without_columns_only_filters(api: httpx.AsyncClient) -> None:
    """`memos!inner()` narrows the projects and shows nothing of the memos."""
    assert (await api.get("/projects?select=id,memos!inner()")).json() == [{"id": 1}]


async def test_embeds_nest(api: httpx.AsyncClient) -> None:
    """An embed may embed, with inner all the way: users who have a project that has a memo with a word in it."""
    target = "/users?select=id,projects!inner(id,memos!inner(title))&projects.memos.title=eq.{}"
    (user,) = (await api.get(target.format("最初の観察"))).json()
    assert user == {"id": "demo", "projects": [{"id": 1, "memos": [{"title": "最初の観察"}]}]}
    assert (await api.get(target.format("x"))).json() == []


async def test_keys_and_tokens_are_accepted(api: httpx.AsyncClient) -> None:
    """Whoever asks is answered, with or without a key: the database serves its own process."""
    headers = {"apikey": "sb_secret_x", "authorization": "Bearer anything"}
    assert (await api.get("/users", headers=headers)).status_code == 200
