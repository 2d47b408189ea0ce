"""`before` and the other fields of lists, titles and search texts: each wrong one is named, each right one read."""

import uuid
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.conversations import MessageName, Place, iso_time
from app.errors import CallerFault
from app.fetch.conversations import before_of as before_of_head
from app.fetch.history_page import before_of as before_of_message
from app.receive.before import conversation_before, message_before
from app.receive.conversation_query import (
    conversation_named,
    parse_conversations,
    read_new_conversation,
    read_new_title,
)
from app.receive.history_query import parse_history
from app.turn import StoredMessage
from tests.fetch.page_table import head

ID = uuid.UUID("6f2f8b0e-0000-4000-8000-000000000001")
TOKYO = timezone(timedelta(hours=9))
NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
TIMES: dict[str, datetime] = {
    "2026-11-22T12:00:00Z": NOON,
    "2026-11-22t12:00:00.5z": NOON + timedelta(milliseconds=500),
    "2026-11-22 12:00:00.000001+00:00": NOON + timedelta(microseconds=1),
    "2026-11-22T12:00": NOON,
    "2026-11-22T21:00:00+09:00": NOON,
    "2026-11-22T21:00:00 09:00": NOON,
    "2026-11-22T07:30:00-0430": NOON,
}
NO_PLACES = (
    "", "yesterday", "2026-11-22", "2026-13-01T00:00:00Z", "2026-11-22T12:00:00.1234567Z", "0001-01-01T00:00:00+14:00",
    "2026-11-22T12:00:00Z~", "~", "~17", "2026-11-22T12:00:00Z~-1", "2026-11-22T12:00:00Z~1~2",
    "２０２６-11-22T12:00:00Z",
    "2026-11-22T12:00:00Z),id.gt.(0", "2026-11-22T12:00:00Z" + "0" * 500,
)  # fmt: skip
NO_MESSAGES = (
    "-1",
    "1.0",
    "1" * 19,
    "１",
    "q1",
    str(ID)[:-1],
    f"{{{ID}}}",
    ID.hex,
    f"{ID}:",
    f"{ID}:bot",
    f"{ID}:user:user",
)


@pytest.mark.parametrize(("text", "at"), TIMES.items())
def test_a_time_is_the_place_before_all_of_that_time(text: str, at: datetime) -> None:
    """In every usual spelling; without a zone it is UTC, and a `+` that a query turned into a space is one."""
    assert message_before(text) == conversation_before(text) == Place(at=at)


@pytest.mark.parametrize(("text", "name"), [
    ("17", MessageName(id=17)),
    (str(ID), MessageName(id=ID, turn_id=ID)),
    (str(ID).upper(), MessageName(id=ID, turn_id=ID)),
    (f"{ID}:user", MessageName(turn_id=ID, sender="user")),
    (f"{ID}:assistant", MessageName(turn_id=ID)),
])  # fmt: skip
def test_a_message_is_named_by_its_row_or_its_turn(text: str, name: MessageName) -> None:
    """A row's id, or what the AI SDK's list calls a message."""
    assert message_before(text) == name


@pytest.mark.parametrize("text", [*NO_PLACES, *NO_MESSAGES])
def test_anything_else_is_no_message(text: str) -> None:
    """It is refused before the database is asked."""
    with pytest.raises(ValueError, match="must be"):
        message_before(text)


@pytest.mark.parametrize("text", [*NO_PLACES, "17", str(ID), f"{ID}:user", "2026-11-22T12:00:00Z~17"])
def test_a_conversation_is_no_place_in_its_list(text: str) -> None:
    """It moves to the top while the list is read: only a time, or a time with an id, is a place that stays."""
    with pytest.raises(ValueError, match="must be"):
        conversation_before(text)


@given(
    st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30), timezones=st.sampled_from([UTC, TOKYO])),
    st.integers(0, 10**18 - 1) | st.uuids(),
)  # fmt: skip
def test_what_a_page_gives_leads_back_to_its_place(at: datetime, row_id: int | uuid.UUID) -> None:
    """`x-next-before` is read as the time and id that it was made of, to the microsecond."""
    given_id = row_id if isinstance(row_id, int) else str(row_id)
    stored = StoredMessage(sender="user", message="", created_at=at, id=given_id)
    assert message_before(before_of_message(stored)) == Place(at=at, id=row_id)
    if isinstance(row_id, uuid.UUID):
        assert conversation_before(before_of_head(head(row_id, at))) == Place(at=at, id=row_id)
    waiting = StoredMessage(sender="user", message="", created_at=at, turn_id=str(ID))
    assert message_before(before_of_message(waiting)) == MessageName(turn_id=ID, sender="user")
    assert datetime.fromisoformat(iso_time(at)) == at


@given(st.text(max_size=120))
def test_no_text_breaks_the_reading(text: str) -> None:
    """Whatever is sent is a place, a name, or a `ValueError` that does not repeat it."""
    for read in (message_before, conversation_before):
        try:
            assert isinstance(read(text), Place | MessageName)
        except ValueError as exc:
            assert str(exc).startswith("must be a time")


def refused(query: dict[str, str]) -> list[str]:
    with pytest.raises(CallerFault) as caught:
        parse_conversations(query)
    assert caught.value.kind.status == 422
    return [field.partition(":")[0] for field in caught.value.fields]


def test_the_fields_of_a_list() -> None:
    """Fifty unless a limit is named; a search text without the space around it; each wrong field is named."""
    assert (parse_conversations({}).limit, parse_conversations({}).q, parse_conversations({"q": "  "}).q) == (
        50,
        "",
        "",
    )
    assert parse_conversations({"q": " 川 "}).q == "川"
    assert parse_conversations({"q": "あ" * 100}).q == "あ" * 100
    wrong = {"limit": "0", "before": "17", "q": "あ" * 101}
    assert refused(wrong) == ["limit", "before", "q"]
    for text in ("nul \0", "lone \ud800"):
        assert refused({"q": text}) == ["q"]
    assert parse_history({"before": "17"}).before == MessageName(id=17)


def test_a_text_that_is_too_long_is_told_in_characters() -> None:
    """What is counted is named, in a query as in a body."""
    with pytest.raises(CallerFault) as caught:
        parse_conversations({"q": "a" * 101})
    assert caught.value.fields == ("q: string should have at most 100 characters",)
    for page_id, told in (("p" * 256, "at most 255 characters"), ("", "at least 1 character")):
        with pytest.raises(CallerFault) as caught:
            read_new_conversation({"page_id": page_id})
        assert caught.value.fields == (f"page_id: string should have {told}",)


GOOD_TITLES = {" a ": "a", "あ" * 200: "あ" * 200, "\t川\n": "川", "👩‍🔬 lab": "👩‍🔬 lab"}
BAD_TITLES: list[Any] = [
    "", "   ", "a" * 201, "a\nb", "a\tb", "a\x7fb", "a\u2028b", "nul \0", "lone \ud800", 5, ["a"],
]  # fmt: skip


@pytest.mark.parametrize(("sent", "kept"), GOOD_TITLES.items())
def test_a_title_is_kept_without_the_space_around_it(sent: str, kept: str) -> None:
    """Up to two hundred characters, of any script."""
    assert read_new_title({"title": sent, "unknown": 1}) == kept
    assert read_new_conversation({"title": sent}).title == kept


@pytest.mark.parametrize("title", BAD_TITLES)
def test_a_wrong_title_is_refused(title: Any) -> None:
    """Empty, too long, of more than a line, or no text."""
    for read in (read_new_title, read_new_conversation):
        with pytest.raises(CallerFault) as caught:
            read({"title": title})
        (field,) = caught.value.fields
        assert field.startswith("title: ")


def test_a_new_conversation_may_have_neither() -> None:
    """Title and page may be missing or null; an empty page key is refused, and a new title must be there."""
    for body in ({}, {"title": None, "page_id": None}):
        assert (read_new_conversation(body).title, read_new_conversation(body).page_id) == (None, None)
    wrong: Any
    for wrong in ({"page_id": ""}, {"page_id": "p" * 256}, {"page_id": 5}, [], None):
        with pytest.raises(CallerFault):
            read_new_conversation(wrong)
    for wrong in ({}, {"title": None}, "title"):
        with pytest.raises(CallerFault):
            read_new_title(wrong)


@pytest.mark.parametrize(
    "text", ["", "general", "..", ID.hex, f"{{{ID}}}", f"urn:uuid:{ID}", f"{ID} ", "６" + str(ID)[1:]]
)
def test_what_is_no_uuid_names_no_conversation(text: str) -> None:
    """It is 404, as an unknown one is; only the usual spelling is one."""
    with pytest.raises(CallerFault) as caught:
        conversation_named(text)
    assert caught.value.code == "not_found"
    assert conversation_named(str(ID).upper()) == ID
