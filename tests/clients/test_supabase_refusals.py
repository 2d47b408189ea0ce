"""What the database's client makes of every answer that is not the promised one."""

import logging
import socket
from collections.abc import AsyncIterator
from itertools import product

import httpx
import pytest
from trio.testing import MockClock

from app.clients.supabase import SupabaseDatabase
from app.errors import DatabaseFault
from tests.clients.test_supabase_wire import CALLS, ID, READS, SECRET, Answer, Recorder, message, rows

PRIVATE = "private words of a student"


def refusal(code: object, status: int) -> httpx.Response:
    return httpx.Response(status, json={"code": code, "message": PRIVATE, "details": PRIVATE, "hint": PRIVATE})


# What comes back -> the bounded name that telemetry gets.
REFUSALS: list[tuple[Answer, str]] = [
    (refusal("PGRST000", 503), "PGRST000"),
    (refusal("PGRST003", 504), "PGRST003"),
    (refusal("PGRST301", 401), "PGRST301"),
    (refusal("57014", 500), "57014"),
    (refusal("40001", 500), "40001"),
    (refusal("42501", 403), "42501"),
    (refusal("42P01", 404), "42P01"),
    (refusal(42501, 403), "42501"),
    (refusal(PRIVATE, 400), "http_400"),
    (refusal(None, 400), "http_400"),
    (refusal(["42501"], 400), "http_400"),
    (httpx.Response(400, json=[PRIVATE]), "http_400"),
    (httpx.Response(401, json={"message": PRIVATE}), "http_401"),
    (httpx.Response(502, text=f"<html>{PRIVATE}</html>"), "http_502"),
    (httpx.Response(503), "http_503"),
    (httpx.Response(500, content=b"\xff\xfe"), "http_500"),
    (httpx.Response(302, headers={"location": "https://elsewhere.test/"}), "http_302"),
    (httpx.ConnectError(PRIVATE), "ConnectError"),
    (httpx.ReadError(PRIVATE), "ReadError"),
    (httpx.RemoteProtocolError(PRIVATE), "RemoteProtocolError"),
    (httpx.PoolTimeout(PRIVATE), "PoolTimeout"),
    (refusal("[" * 50, 500), "http_500"),
    (httpx.Response(500, content=b"[" * 100_000), "http_500"),
]


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize(("answer", "error_type"), REFUSALS, ids=lambda value: value if isinstance(value, str) else "")
async def test_every_refusal_is_a_fault_with_a_bounded_name(
    name: str, answer: Answer, error_type: str, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever method met it; and no text of the other side is in the fault or in a log."""
    caplog.set_level(logging.DEBUG)
    with pytest.raises(DatabaseFault) as caught:
        await CALLS[name](Recorder(answer).database())
    fault = caught.value
    assert (fault.code, fault.kind.status, fault.retryable) == ("database_unavailable", 503, True)
    assert fault.error_type == error_type
    assert PRIVATE not in f"{fault} {fault.note} {fault.fields} {caplog.text}"
    assert SECRET not in f"{fault} {fault.note} {caplog.text}"


class Garbled(httpx.AsyncByteStream):
    """A body that is not what its content encoding says."""

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield b"no gzip at all"


@pytest.mark.filterwarnings("ignore:Async generator:ResourceWarning")  # httpx leaves its own behind when decoding fails
@pytest.mark.parametrize("name", CALLS)
async def test_a_body_that_cannot_be_decoded_is_a_fault(name: str, autojump_clock: MockClock) -> None:
    """Not even a broken content encoding gets past the client."""
    answer = httpx.Response(200, headers={"content-encoding": "gzip"}, stream=Garbled())
    with pytest.raises(DatabaseFault) as caught:
        await CALLS[name](Recorder(answer).database())
    assert caught.value.error_type == "DecodingError"


NOT_ROWS: list[bytes] = [b"{}", b'"rows"', b"5", b"null", b"rows", b"<html></html>", b"\xff", b"[" * 100_000]


@pytest.mark.parametrize("name", READS)
@pytest.mark.parametrize("body", NOT_ROWS, ids=lambda body: body[:9].decode("latin-1"))
async def test_a_200_that_is_no_list_of_rows_is_a_fault(name: str, body: bytes, autojump_clock: MockClock) -> None:
    """A gateway's page with status 200, or JSON of another shape."""
    with pytest.raises(DatabaseFault) as caught:
        await CALLS[name](Recorder(httpx.Response(200, content=body)).database())
    assert caught.value.error_type == "not_json"


BAD_IDS: list[object] = [5, "text", None, {}, {"id": 5}, {"id": None}, {"id": "no uuid"}]
BAD_CONVERSATIONS: list[object] = [
    5, "text", None, [], {}, {"id": str(ID)}, {"id": str(ID), "chat_logs": None}, {"id": str(ID), "chat_logs": 5},
    {"id": "no uuid", "chat_logs": []}, {"id": 5, "chat_logs": []}, {"id": None, "chat_logs": []},
    {"id": str(ID), "chat_logs": ["text"]}, {"id": str(ID), "chat_logs": [{}]},
    {"id": str(ID), "chat_logs": [message(created_at="yesterday")]},
    {"id": str(ID), "chat_logs": [message(created_at=None)]},
    {"id": str(ID), "chat_logs": [message(message=5)]},
]  # fmt: skip
BAD_PROJECTS: list[object] = [
    5, "text", None, [], {}, {"id": 1}, {"theme": "", "question": "", "hypothesis": ""},
    {"id": 1, "theme": 5, "question": "", "hypothesis": ""},
]  # fmt: skip
BAD_ROWS = [
    *product(["conversation", "conversation_for_page"], BAD_CONVERSATIONS),
    *product(["project", "project_of_memo", "latest_project"], BAD_PROJECTS),
    *product(["ensure_conversation"], BAD_IDS),
]


@pytest.mark.parametrize(("name", "row"), BAD_ROWS, ids=str)
async def test_a_row_that_is_not_as_it_was_asked_for_is_a_fault(
    name: str, row: object, autojump_clock: MockClock
) -> None:
    """A schema that is not ours is the database's fault, not an error in our code."""
    with pytest.raises(DatabaseFault) as caught:
        await CALLS[name](Recorder(rows(row)).database())
    assert caught.value.error_type == "bad_row"


async def test_a_port_that_nobody_listens_at_is_a_fault() -> None:
    """Over a real socket, through httpx's own transport."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        async with httpx.AsyncHTTPTransport() as transport:
            database = SupabaseDatabase(transport, f"http://127.0.0.1:{bound.getsockname()[1]}", SECRET)
            with pytest.raises(DatabaseFault) as caught:
                await database.user_exists("ann")
    assert caught.value.error_type == "ConnectError"
