"""The official `postgrest` client over a real socket: each operation that the dialect promises."""

from collections.abc import Callable
from functools import partial
from typing import Any
from uuid import uuid4

import pytest
from postgrest import APIError, CountMethod, ReturnMethod, SyncPostgrestClient

from tests.embedded.postgrest.serving import in_thread

Rows = list[dict[str, Any]]


async def data(build: Callable[[], Any]) -> Any:
    """Return what the built request is answered."""
    return (await in_thread(lambda: build().execute())).data


async def refusal(build: Callable[[], Any]) -> APIError:
    """Return the error that the built request is answered."""
    with pytest.raises(APIError) as caught:
        await in_thread(lambda: build().execute())
    return caught.value


@pytest.fixture
async def logs(client: SyncPostgrestClient) -> Rows:
    """Four messages: three on page `a` by two senders, one on no page."""
    rows: Rows = [
        {"user_id": "demo", "page": "a", "sender": "user", "message": "Alpha", "created_at": "2026-01-01T00:00:00Z"},
        {"user_id": "demo", "page": "a", "sender": "bot", "message": "beta", "created_at": "2026-01-02T00:00:00Z"},
        {"user_id": "demo", "page": "a", "sender": "user", "message": "Ärger", "created_at": "2026-01-03T00:00:00Z"},
        {"user_id": "demo", "page": None, "sender": "bot", "message": "50%*", "created_at": "2026-01-04T00:00:00Z"},
    ]
    inserted: Rows = await data(lambda: client.from_("chat_logs").insert(rows))
    return inserted


FILTERS: list[tuple[str, Callable[[Any], Any], list[str]]] = [
    ("eq", lambda q: q.eq("message", "beta"), ["beta"]),
    ("neq", lambda q: q.neq("sender", "user"), ["beta", "50%*"]),
    ("neq leaves nulls out", lambda q: q.neq("page", "b"), ["Alpha", "beta", "Ärger"]),
    ("lt", lambda q: q.lt("created_at", "2026-01-02T00:00:00Z"), ["Alpha"]),
    ("lte", lambda q: q.lte("created_at", "2026-01-02T09:00:00+09:00"), ["Alpha", "beta"]),
    ("gt", lambda q: q.gt("created_at", "2026-01-03T00:00:00Z"), ["50%*"]),
    ("gte", lambda q: q.gte("created_at", "2026-01-03T00:00:00Z"), ["Ärger", "50%*"]),
    ("in", lambda q: q.in_("message", ["beta", "Ärger", "a,b"]), ["beta", "Ärger"]),
    ("in nothing", lambda q: q.in_("message", []), []),
    ("is null", lambda q: q.is_("page", None), ["50%*"]),
    ("is not null", lambda q: q.not_.is_("page", "null"), ["Alpha", "beta", "Ärger"]),
    ("like", lambda q: q.like("message", "%a"), ["Alpha", "beta"]),
    ("like minds the case", lambda q: q.like("message", "a%"), []),
    ("like with stars", lambda q: q.like("message", "Al*a"), ["Alpha"]),
    ("like one character", lambda q: q.like("message", "b_ta"), ["beta"]),
    ("like escaped", lambda q: q.like("message", "50\\%_"), ["50%*"]),
    ("ilike", lambda q: q.ilike("message", "a%"), ["Alpha"]),
    ("ilike beyond ASCII", lambda q: q.ilike("message", "äRG%"), ["Ärger"]),
    ("imatch is a text whose signs are escaped", lambda q: q.filter("message", "imatch", "50\\%\\*"), ["50%*"]),
    ("imatch minds no case", lambda q: q.filter("message", "imatch", "äRG"), ["Ärger"]),
    ("not", lambda q: q.not_.in_("message", ["beta", "50%*"]), ["Alpha", "Ärger"]),
    ("or", lambda q: q.or_("message.eq.beta,page.is.null"), ["beta", "50%*"]),
    ("not or", lambda q: q.not_.or_("message.eq.beta,page.is.null"), ["Alpha", "Ärger"]),
    ("nested", lambda q: q.or_("and(sender.eq.user,message.not.eq.Alpha),message.eq.beta"), ["beta", "Ärger"]),
    ("and", lambda q: q.eq("sender", "user").gt("created_at", "2026-01-02"), ["Ärger"]),
]


@pytest.mark.parametrize(("narrow", "found"), [case[1:] for case in FILTERS], ids=[case[0] for case in FILTERS])
async def test_a_filter_finds_what_postgres_would(
    narrow: Callable[[Any], Any], found: list[str], client: SyncPostgrestClient, logs: Rows
) -> None:
    """Every filter method of the client chooses the rows that it names."""
    rows = await data(lambda: narrow(client.from_("chat_logs").select("message")).order("id"))
    assert [row["message"] for row in rows] == found


async def test_order_puts_nulls_where_postgres_puts_them(client: SyncPostgrestClient, logs: Rows) -> None:
    """Nulls are last ascending and first descending, unless the order says otherwise."""

    async def pages(**order: Any) -> list[str | None]:
        rows = await data(lambda: client.from_("chat_logs").select("page").order("page", **order).order("id"))
        return [row["page"] for row in rows]

    assert await pages() == ["a", "a", "a", None]
    assert await pages(desc=True) == [None, "a", "a", "a"]
    assert await pages(nullsfirst=True) == [None, "a", "a", "a"]
    assert await pages(desc=True, nullsfirst=False) == ["a", "a", "a", None]


async def test_limit_offset_and_count_page_through_a_table(client: SyncPostgrestClient, logs: Rows) -> None:
    """A page has its rows, and the exact count is that of all rows."""
    query = client.from_("chat_logs").select("message", count=CountMethod.exact).order("id").range(1, 2)
    answer = await in_thread(query.execute)
    assert [row["message"] for row in answer.data if isinstance(row, dict)] == ["beta", "Ärger"]
    assert answer.count == 4


async def test_head_counts_without_rows(client: SyncPostgrestClient, logs: Rows) -> None:
    """HEAD answers the count and no body."""
    query = client.from_("chat_logs").select("*", count=CountMethod.exact, head=True)
    answer = await in_thread(query.execute)
    assert (answer.data, answer.count) == ([], 4)


async def test_single_gives_the_object(client: SyncPostgrestClient) -> None:
    """A single row is answered as an object, several or none are PGRST116."""
    row = await data(lambda: client.from_("users").select("*").eq("id", "demo").single())
    assert row == {"id": "demo", "username": "Demo"}
    error = await refusal(lambda: client.from_("projects").select("*").single())
    assert (error.code, error.details) == ("PGRST116", "The result contains 2 rows")


async def test_maybe_single_gives_the_object_or_none(client: SyncPostgrestClient) -> None:
    """`maybe_single` has the row, or None when there is none."""
    row = await data(lambda: client.from_("users").select("id").eq("id", "demo").maybe_single())
    assert row == {"id": "demo"}
    assert await in_thread(client.from_("users").select("id").eq("id", "x").maybe_single().execute) is None


async def test_insert_gives_the_row_with_its_defaults(client: SyncPostgrestClient) -> None:
    """An inserted row comes back with its id, its time, and JSON and booleans as themselves."""
    row = {"user_id": "demo", "title": "T", "page_id": "p"}
    (conversation,) = await data(lambda: client.from_("chat_conversations").insert(row))
    assert conversation["is_active"] is True
    log = {
        "user_id": "demo",
        "sender": "user",
        "message": "m",
        "conversation_id": conversation["id"],
        "context_data": {"finish": "stop", "n": [1, 2.5, None, True]},
        "created_at": "2026-11-22T14:00:00.123+09:00",
    }
    (stored,) = await data(lambda: client.from_("chat_logs").insert(log))
    assert stored == {**log, "id": 1, "page": None, "turn_id": None, "created_at": "2026-11-22T05:00:00.123+00:00"}


async def test_insert_minimal_gives_nothing(client: SyncPostgrestClient) -> None:
    """`return=minimal` stores the row and answers no body."""
    insert = client.from_("users").insert({"id": "u"}, returning=ReturnMethod.minimal)
    assert (await in_thread(insert.execute)).data == []
    assert await data(lambda: client.from_("users").select("id").eq("id", "u")) == [{"id": "u"}]


async def test_bulk_insert_is_all_or_nothing(client: SyncPostgrestClient) -> None:
    """A list of rows is one transaction: the last row's fault keeps the first one out."""
    error = await refusal(lambda: client.from_("users").insert([{"id": "new"}, {"id": "demo"}]))
    assert error.code == "23505"
    assert await data(lambda: client.from_("users").select("id").eq("id", "new")) == []


async def test_missing_default_fills_what_a_row_leaves_out(client: SyncPostgrestClient) -> None:
    """Absent columns of a bulk insert get their defaults when asked for, and are null otherwise."""
    rows: Rows = [{"user_id": "demo", "page_id": "a", "is_active": False}, {"user_id": "demo", "page_id": "b"}]
    inserted = await data(lambda: client.from_("chat_conversations").insert(rows, default_to_null=False))
    assert [row["is_active"] for row in inserted] == [False, True]
    others = [{**row, "page_id": f"other {row['page_id']}"} for row in rows]
    error = await refusal(lambda: client.from_("chat_conversations").insert(others))
    assert error.code == "23502"


async def test_upsert_merges(client: SyncPostgrestClient) -> None:
    """A merge changes the row that is there and adds the one that is not."""
    rows = [{"id": "demo", "username": "Renamed"}, {"id": "new", "username": "New"}]
    assert await data(lambda: client.from_("users").upsert(rows)) == rows


async def test_upsert_ignores(client: SyncPostgrestClient) -> None:
    """The same key again is skipped, not returned and not changed; nulls in the key never conflict."""
    turn = str(uuid4())
    row: dict[str, Any] = {"user_id": "demo", "sender": "user", "message": "first", "turn_id": turn}
    rows: Rows = [row, {**row, "message": "second"}, {**row, "turn_id": None}, {**row, "turn_id": None}]
    upsert = client.from_("chat_logs").upsert(rows, ignore_duplicates=True, on_conflict="turn_id,sender")
    inserted = await data(lambda: upsert)
    assert [(each["message"], each["turn_id"]) for each in inserted] == [
        ("first", turn),
        ("first", None),
        ("first", None),
    ]


async def test_update_changes_the_rows_it_chooses(client: SyncPostgrestClient, logs: Rows) -> None:
    """An update answers the changed rows and leaves the others."""
    changed = await data(lambda: client.from_("chat_logs").update({"page": "z"}).eq("sender", "bot"))
    assert [(row["message"], row["page"]) for row in changed] == [("beta", "z"), ("50%*", "z")]
    rest = await data(lambda: client.from_("chat_logs").select("page").eq("sender", "user"))
    assert rest == [{"page": "a"}, {"page": "a"}]


async def test_delete_removes_the_rows_it_chooses(client: SyncPostgrestClient, logs: Rows) -> None:
    """A delete answers the rows as they were, and they are gone."""
    gone = await data(lambda: client.from_("chat_logs").delete().eq("sender", "bot"))
    assert [row["message"] for row in gone] == ["beta", "50%*"]
    assert len(await data(lambda: client.from_("chat_logs").select("id"))) == 2


async def test_max_affected_undoes_what_goes_too_far(client: SyncPostgrestClient, logs: Rows) -> None:
    """A delete of more rows than allowed is PGRST124, and deletes none."""
    error = await refusal(lambda: client.from_("chat_logs").delete().eq("page", "a").max_affected(2))
    assert error.code == "PGRST124"
    assert len(await data(lambda: client.from_("chat_logs").select("id"))) == 4


async def test_embeds_go_both_ways(client: SyncPostgrestClient) -> None:
    """A memo shows its one project, a project the list of its memos, also under other names."""
    memos = await data(lambda: client.from_("memos").select("id, project:projects(id, theme)"))
    assert memos == [{"id": 1, "project": {"id": 1, "theme": "川のプラスチックごみ"}}]
    projects = await data(lambda: client.from_("projects").select("id, notes:memos(id)").order("id"))
    assert projects == [{"id": 1, "notes": [{"id": 1}]}, {"id": 2, "notes": []}]


async def test_an_embed_has_filters_order_and_limit_of_its_own(client: SyncPostgrestClient, logs: Rows) -> None:
    """Order and limit of an embed count per parent row."""
    conversations = [{"user_id": "demo", "page_id": page} for page in "ab"]
    first, second = await data(lambda: client.from_("chat_conversations").insert(conversations))
    for parent, ids in ((first, [logs[0]["id"], logs[1]["id"]]), (second, [logs[2]["id"], logs[3]["id"]])):
        change = {"conversation_id": parent["id"]}
        await data(partial(client.from_("chat_logs").update(change).in_, "id", ids))
    query = client.from_("chat_conversations").select("page_id, chat_logs(message)").order("page_id")
    newest = await data(
        lambda: query.order("created_at", desc=True, foreign_table="chat_logs").limit(1, foreign_table="chat_logs")
    )
    assert newest == [
        {"page_id": "a", "chat_logs": [{"message": "beta"}]},
        {"page_id": "b", "chat_logs": [{"message": "50%*"}]},
    ]
    inner = client.from_("chat_conversations").select("page_id, chat_logs!inner(message)")
    assert await data(lambda: inner.eq("chat_logs.message", "beta")) == [
        {"page_id": "a", "chat_logs": [{"message": "beta"}]}
    ]


async def test_a_function_is_not_found(client: SyncPostgrestClient) -> None:
    """There are no functions: rpc is PGRST202."""
    assert (await refusal(lambda: client.rpc("match", {"q": "x"}))).code == "PGRST202"


async def test_another_schema_is_refused(client: SyncPostgrestClient) -> None:
    """Only the schema `public` is exposed: another is PGRST106."""
    assert (await refusal(lambda: client.schema("private").from_("users").select("*"))).code == "PGRST106"
