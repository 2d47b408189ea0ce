"""Our client's lists and pages on a real PostgreSQL: what it costs in blocks and rows, and that literal is literal."""

import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, LiteralString

import psycopg
import pytest

from app.clients.supabase import SupabaseDatabase
from app.conversations import MessageName, Place
from tests.supabase.migrations import load_legacy, migrate
from tests.supabase.postgrest_sql import PostgresTransport, buffers, nodes, plan_of

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
LONG, TIED, SHORT = (uuid.UUID(int=number, version=4) for number in (1, 2, 3))
LONG_MESSAGES, TIED_MESSAGES = 100_000, 20_000
LOG_INDEX = "chat_logs_conversation_id_created_at_id_idx"
LIST_INDEX = "chat_conversations_user_id_updated_at_id_idx"

FILL: LiteralString = """
    insert into chat_logs (user_id, sender, message, conversation_id, created_at)
    select 'u', case n %% 2 when 0 then 'user' else 'assistant' end, 'message ' || n || repeat(' words', 30), %s,
           %s::timestamptz + n / %s * %s::interval
    from generate_series(1, %s) n
"""
FILL_LIST: LiteralString = """
    insert into chat_conversations (id, user_id, title, page_id, updated_at)
    select gen_random_uuid(), case n %% 2 when 0 then 'u' else 'v' end, 'title ' || n, 'page ' || n,
           %s::timestamptz - n / 5 * interval '1 hour'
    from generate_series(1, 20000) n
"""


@pytest.fixture(scope="module")
def filled(postgres_cluster: Any) -> Iterator[psycopg.Connection]:
    """A migrated database with a conversation of 100,000 messages, and one in which 20,000 share their time."""
    with psycopg.connect(f"host={postgres_cluster} user=postgres dbname=postgres", autocommit=True) as connection:
        connection.execute("create database pages")
    conninfo = f"host={postgres_cluster} user=postgres dbname=pages"
    migrate(conninfo)
    with psycopg.connect(conninfo, autocommit=True) as connection:
        connection.execute("set session_replication_role = replica")  # no trigger a row: this is a filling
        connection.execute("insert into users (id) values ('u'), ('v')")
        for id_, title in ((LONG, "long"), (TIED, "tied"), (SHORT, "short")):
            connection.execute(
                "insert into chat_conversations (id, user_id, title, page_id, updated_at) values (%s, 'u', %s, %s, %s)",
                (id_, title, title, NOON),
            )
        for filling in (
            (LONG, NOON, 1, "1 second", LONG_MESSAGES),
            (TIED, NOON, 1, "0", TIED_MESSAGES),
            (SHORT, NOON, 4, "4 seconds", 200),
        ):
            connection.execute(FILL, filling)
        connection.execute(FILL_LIST, (NOON,))
        connection.execute("vacuum analyze")
        connection.execute("set statement_timeout = '10s'")
        yield connection


@pytest.fixture
def asked(filled: psycopg.Connection) -> tuple[SupabaseDatabase, PostgresTransport]:
    transport = PostgresTransport(filled)
    return SupabaseDatabase(transport, "https://project.supabase.test", "sb_secret_test"), transport


def log_scans(plan: dict[str, Any]) -> list[dict[str, Any]]:
    return nodes(plan, lambda node: node.get("Relation Name") == "chat_logs")


MIDDLE = NOON + timedelta(seconds=LONG_MESSAGES // 2)
DEEP = [
    (LONG, Place(at=MIDDLE)),
    (LONG, Place(at=MIDDLE, id=LONG_MESSAGES // 2)),
    (LONG, Place(at=NOON + timedelta(seconds=60), id=60)),
    (TIED, Place(at=NOON, id=LONG_MESSAGES + TIED_MESSAGES // 2)),
    (SHORT, Place(at=NOON + timedelta(seconds=100), id=LONG_MESSAGES + TIED_MESSAGES + 100)),
]


@pytest.mark.parametrize(("conversation", "place"), DEEP)
async def test_a_page_costs_what_a_page_costs(
    asked: tuple[SupabaseDatabase, PostgresTransport], filled: psycopg.Connection, conversation: uuid.UUID, place: Place
) -> None:
    """Deep in 100,000 messages, among 20,000 of one time, or in a short conversation: 51 entries of the index."""
    database, transport = asked
    found = await database.messages_before("u", conversation, place, 51)
    assert found
    assert len(found.messages) == 51
    plan = plan_of(filled, transport.statements[0])
    scans = log_scans(plan)
    assert {scan["Index Name"] for scan in scans} == {LOG_INDEX}
    assert sum(scan["Actual Rows"] for scan in scans) <= 102
    assert [scan.get("Rows Removed by Filter", 0) for scan in scans] == [0] * len(scans)
    assert nodes(plan, lambda node: "Sort" in node["Node Type"] or node["Node Type"] == "Seq Scan") == []
    assert buffers(plan) < 50


async def test_the_newest_page_costs_the_same(
    asked: tuple[SupabaseDatabase, PostgresTransport], filled: psycopg.Connection
) -> None:
    """The first page of 100,000 messages is 51 entries of the index too."""
    database, transport = asked
    await database.conversation("u", LONG, 51)
    plan = plan_of(filled, transport.statements[0])
    (scan,) = log_scans(plan)
    assert (scan["Index Name"], scan["Actual Rows"]) == (LOG_INDEX, 51)
    assert buffers(plan) < 50


@pytest.mark.parametrize("place", [None, *(Place(at=NOON - timedelta(hours=h), id=SHORT) for h in (0, 1000, 3000))])
async def test_a_page_of_the_list_costs_what_a_page_costs(
    asked: tuple[SupabaseDatabase, PostgresTransport], filled: psycopg.Connection, place: Place | None
) -> None:
    """However many conversations a user has and however deep the page, its index is walked for as many as are shown."""
    database, transport = asked
    found = await database.heads("u", 51, place)
    assert len(found) == 51
    plan = plan_of(filled, transport.statements[0])
    (scan,) = nodes(plan, lambda node: node.get("Relation Name") == "chat_conversations")
    assert scan["Index Name"] == LIST_INDEX
    assert scan["Actual Rows"] + scan.get("Rows Removed by Filter", 0) <= 60
    assert nodes(plan, lambda node: "Sort" in node["Node Type"]) == []
    assert buffers(plan) < 120


async def test_a_message_is_found_by_its_key(
    asked: tuple[SupabaseDatabase, PostgresTransport], filled: psycopg.Connection
) -> None:
    """The place of a message, by its row's id, is one look at the primary key."""
    database, transport = asked
    found = await database.place_of("u", MessageName(id=77))
    assert found == (LONG, Place(at=NOON + timedelta(seconds=77), id=77))
    assert await database.place_of("v", MessageName(id=77)) is None
    (scan,) = log_scans(plan_of(filled, transport.statements[0]))
    assert scan["Index Name"] == "chat_logs_pkey"


async def test_all_pages_are_the_conversation(asked: tuple[SupabaseDatabase, PostgresTransport]) -> None:
    """PostgreSQL's order is that in which places go on: of 200 messages, by fours of one time, each is on one page."""
    database, _ = asked
    newest = await database.conversation("u", SHORT, 7)
    pages = [newest]
    while pages[-1] and pages[-1].messages:
        first = pages[-1].messages[0]
        assert isinstance(first.id, int)
        pages.append(await database.messages_before("u", SHORT, Place(at=first.created_at, id=first.id), 7))
    ids = [message.id for page in reversed(pages) if page for message in page.messages]
    assert ids == list(range(LONG_MESSAGES + TIED_MESSAGES + 1, LONG_MESSAGES + TIED_MESSAGES + 201))


TEXTS = [
    "100%",
    "_",
    "\\",
    "*",
    "a*b",
    '"',
    "'",
    "(",
    ")",
    ",",
    ".",
    "a,b",
    "{x}",
    "[y]",
    "^",
    "$",
    "|",
    "?",
    "+",
    "川の",
    "Ä",
    "\\d*",
]
DECOY = "100 percent aXb 5 d line"


@pytest.fixture(scope="module")
def searchable(filled: psycopg.Connection) -> psycopg.Connection:
    """For each text a conversation with it in its title and one with it in a message, of a user with decoys."""
    filled.execute("insert into users (id) values ('s')")
    for number, text in enumerate(["", *TEXTS]):
        title = f"title {DECOY} {text}" if text else DECOY
        row = (uuid.UUID(int=1000 + number, version=4), title, f"s{number}")
        filled.execute("insert into chat_conversations (id, user_id, title, page_id) values (%s, 's', %s, %s)", row)
        spoken = (uuid.UUID(int=2000 + number, version=4), DECOY, f"m{number}")
        filled.execute("insert into chat_conversations (id, user_id, title, page_id) values (%s, 's', %s, %s)", spoken)
        filled.execute(
            "insert into chat_logs (user_id, sender, message, conversation_id) values ('s', 'user', %s, %s)",
            (f"{DECOY} {text}", spoken[0]),
        )
    return filled


@pytest.mark.parametrize("text", TEXTS)
async def test_a_search_text_is_taken_literally(
    asked: tuple[SupabaseDatabase, PostgresTransport], searchable: psycopg.Connection, text: str
) -> None:
    """No sign of LIKE, of a regular expression or of PostgREST's grammar means anything but itself."""
    database, _ = asked
    expected = {
        uuid.UUID(int=base + number, version=4)
        for number, each in enumerate(["", *TEXTS])
        for base in (1000, 2000)
        if text in f"{DECOY} {each}"
    }
    found = await database.heads("s", 100, text=text)
    assert {head.id for head in found} == expected
    assert len(found) == len(expected)
    assert found == sorted(found, key=lambda head: (head.updated_at, head.id), reverse=True)


@pytest.mark.parametrize(
    ("text", "found"), [("TITLE 19999", 0), ("TITLE 19998", 1), ("LONG", 1), ("MESSAGE 99999 ", 1)]
)
async def test_a_search_minds_no_case_and_no_other_user(
    asked: tuple[SupabaseDatabase, PostgresTransport], text: str, found: int
) -> None:
    """Titles and messages are found in either case; the other user's are not."""
    assert len(await asked[0].heads("u", 10, text=text)) == found


@pytest.mark.parametrize("name", ["integer_ids", "uuid_ids"])
async def test_older_deployments_are_read_page_by_page(postgres_database: str, name: str) -> None:
    """Where rows are counted or have UUIDs, and times no zone: places in either form lead through all messages."""
    load_legacy(postgres_database, name)
    migrate(postgres_database)
    with psycopg.connect(postgres_database, autocommit=True) as connection:
        database = SupabaseDatabase(PostgresTransport(connection), "https://project.supabase.test", "sb_secret_test")
        rows = connection.execute(
            "select user_id::text, conversation_id, count(*) from chat_logs l join chat_conversations c"
            " on c.id = conversation_id where c.is_active group by 1, 2 having count(*) > 1".replace(
                "user_id::text", "c.user_id::text"
            )
        ).fetchall()
        assert rows
        for user_id, conversation_id, count in rows:
            seen = []
            place = Place(at=datetime(9999, 1, 1, tzinfo=UTC))
            while (page := await database.messages_before(user_id, conversation_id, place, 1)) and page.messages:
                (message,) = page.messages
                seen.append(message.id)
                row_id = message.id if isinstance(message.id, int) else uuid.UUID(str(message.id))
                place = Place(at=message.created_at, id=row_id)
                assert await database.place_of(user_id, MessageName(id=row_id)) == (conversation_id, place)
            assert len(seen) == len(set(seen)) == count
            other: Any = uuid.uuid4() if isinstance(seen[0], int) else 17
            assert await database.place_of(user_id, MessageName(id=other)) is None
            assert await database.messages_before(user_id, conversation_id, Place(at=NOON, id=other), 9) is None
        assert await database.heads(rows[0][0], 9)
