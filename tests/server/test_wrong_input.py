"""Input that is wrong: the documented status and code, nothing stored, nothing internal shown."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.server.process import AT_ONCE, ServerProcess, running
from tests.server.rows import row_counts, stored, turn_rows
from tests.server.wire import chat_head, connected, problem

MIB = 1 << 20
JAPANESE = re.compile(r"[\u3040-\u30ff\u4e00-\u9fff]")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with running(tmp_path_factory.mktemp("data"), BODY_TIMEOUT="1") as process:
        yield process


@pytest.fixture
def stores_nothing(server: ServerProcess) -> Iterator[None]:
    before = row_counts(server.data_dir)
    yield
    assert row_counts(server.data_dir) == before


def post(server: ServerProcess, body: Any, **headers: str) -> httpx.Response:
    """Post `body` to `/chat` byte by byte as given, or as JSON that is all ASCII."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    given = {"authorization": "Bearer demo", "content-type": "application/json", **headers}
    return server.http.post("/chat", content=content, headers=given)


def message(text: str, **fields: Any) -> dict[str, Any]:
    return {"message": text, **fields}


BODIES: dict[str, tuple[Any, int, str]] = {
    "nothing": (b"", 400, "bad_json"),
    "a form": (b"message=hello", 400, "bad_json"),
    "half an object": (b'{"message": "hello"', 400, "bad_json"),
    "two objects": (b'{"message": "hello"} {}', 400, "bad_json"),
    "single quotes": (b"{'message': 'hello'}", 400, "bad_json"),
    "a raw newline in a text": (b'{"message": "a\nb"}', 400, "bad_json"),
    "a raw NUL": (b'{"message": "a\x00b"}', 400, "bad_json"),
    "not UTF-8": (b'{"message": "\xff\xfe\xfa"}', 400, "bad_json"),
    "Shift JIS": ('{"message": "日本"}'.encode("shift_jis"), 400, "bad_json"),
    "endless nesting": (b'{"message": ' + b"[" * 100_000, 400, "bad_json"),
    "an endless number": (b'{"message": "hello", "project_id": ' + b"9" * 5000 + b"}", 400, "bad_json"),
    "null": (b"null", 422, "invalid_request"),
    "a list": ([message("hello")], 422, "invalid_request"),
    "a text": ("hello", 422, "invalid_request"),
    "a number": (7, 422, "invalid_request"),
    "an empty object": ({}, 422, "invalid_request"),
    "no message": ({"page_id": "general"}, 422, "invalid_request"),
    "message null": ({"message": None}, 422, "invalid_request"),
    "message a number": ({"message": 7}, 422, "invalid_request"),
    "message true": ({"message": True}, 422, "invalid_request"),
    "message a list": ({"message": ["hello"]}, 422, "invalid_request"),
    "message an object": ({"message": {"text": "hello"}}, 422, "invalid_request"),
    "message not a number": (b'{"message": NaN}', 422, "invalid_request"),
    "conversation_id no UUID": (message("hello", conversation_id="42"), 422, "invalid_request"),
    "conversation_id a number": (message("hello", conversation_id=42), 422, "invalid_request"),
    "conversation_id SQL": (message("hello", conversation_id="' or 1=1 --"), 422, "invalid_request"),
    "project_id a float": (message("hello", project_id=1.5), 422, "invalid_request"),
    "project_id true": (message("hello", project_id=True), 422, "invalid_request"),
    "project_id a list": (message("hello", project_id=[1]), 422, "invalid_request"),
    "project_id too long": (message("hello", project_id="9" * 256), 422, "invalid_request"),
    "page_id a number": (message("hello", page_id=7), 422, "invalid_request"),
    "page_id too long": (message("hello", page_id="p" * 256), 422, "invalid_request"),
    "context an object": (message("hello", context={}), 422, "invalid_request"),
    "context too long": (message("hello", context="c" * 20_001), 422, "invalid_request"),
    "NUL in the message": (message("a\0b"), 422, "invalid_request"),
    "NUL in the page": (message("hello", page_id="a\0b"), 422, "invalid_request"),
    "NUL in the project": (message("hello", project_id="a\0b"), 422, "invalid_request"),
    "NUL in the context": (message("hello", context="a\0b"), 422, "invalid_request"),
    "a lone high surrogate": (b'{"message": "a\\ud83d"}', 422, "invalid_request"),
    "a lone low surrogate": (b'{"message": "\\udc1d b"}', 422, "invalid_request"),
    "surrogates the wrong way round": (b'{"message": "\\udc1d\\ud83d"}', 422, "invalid_request"),
    "a lone surrogate in the page": (b'{"message": "a", "page_id": "\\ud83d"}', 422, "invalid_request"),
    "an empty message": (message(""), 400, "message_empty"),
    "blanks": (message(" \t\r\n\u3000\u00a0"), 400, "message_empty"),
    "2001 characters": (message("a" * 2001), 400, "message_too_long"),
    "2001 Japanese characters": (message("あ" * 2001), 400, "message_too_long"),
    "2001 emoji": (message("🐝" * 2001), 400, "message_too_long"),
}


@pytest.mark.usefixtures("stores_nothing")
@pytest.mark.parametrize(("body", "status", "code"), BODIES.values(), ids=BODIES)
def test_a_wrong_body_is_refused(server: ServerProcess, body: Any, status: int, code: str) -> None:
    """A body that is not a question gets its status and code, not retryable, and leaves nothing behind."""
    assert problem(post(server, body), status, code)["retryable"] is False


@pytest.mark.parametrize(("body", "status", "code"), BODIES.values(), ids=BODIES)
def test_a_refusal_can_be_read_in_japanese(server: ServerProcess, body: Any, status: int, code: str) -> None:
    """The sentence for the front end is Japanese when Accept-Language prefers it, and has no Japanese otherwise."""
    in_japanese = post(server, body, **{"accept-language": "ja,en;q=0.5"}).json()
    in_english = post(server, body, **{"accept-language": "en,ja;q=0.5"}).json()
    assert JAPANESE.search(in_japanese["detail"])
    assert not JAPANESE.search(in_english["detail"])
    assert (in_japanese["status"], in_japanese["code"]) == (status, code)


@pytest.mark.usefixtures("stores_nothing")
def test_every_wrong_field_is_named_at_once(server: ServerProcess) -> None:
    """A 422 names each wrong field once, with what it must be, and repeats nothing of what was sent."""
    body = {"message": 1, "conversation_id": "canary-1", "project_id": [2], "page_id": 3, "context": 4, "other": 5}
    refusal = problem(post(server, body), 422, "invalid_request")
    named = [sentence.partition(":")[0] for sentence in refusal["errors"]]
    assert sorted(named) == ["context", "conversation_id", "message", "page_id", "project_id"]
    assert "canary-1" not in json.dumps(refusal)


@pytest.mark.parametrize(
    "text",
    ["a" * 2000, "あ" * 2000, "🐝" * 2000, " " * 3000 + "a" * 2000 + "\n" * 3000],
    ids=["a", "あ", "🐝", "trimmed"],
)
def test_length_is_counted_in_characters_after_trimming(server: ServerProcess, text: str) -> None:
    """A message of exactly 2000 characters is answered, whatever its bytes and the blanks around it."""
    body = server.answer(text, page_id="long")
    assert len(turn_rows(server.data_dir, body["turn_id"])[0]["message"]) == 2000


def test_unknown_fields_are_ignored(server: ServerProcess) -> None:
    """What older front ends send besides changes nothing."""
    fields = {"user_id": "someone-else", "debug": True, "history": [1, 2], "turn_id": "x", "model": "gpt-99"}
    body = server.answer(f"Hello {AT_ONCE}", **fields)
    assert turn_rows(server.data_dir, body["turn_id"])[0]["user_id"] == "demo"
    assert body["context_metadata"]["model"] == "scripted-tutor"


HARMLESS = {
    "SSE": 'data: [DONE]\n\nevent: error\ndata: {"choices": []}\n\n: ping',
    "SSE with CR": "data: x\r\rid: 1\r\n\r\nretry: 0",
    "SQL": "'; drop table chat_logs; -- \" or 1=1 /* */ \\'",
    "HTML": "<script>alert(1)</script><img src=x onerror=alert(1)>&lt;",
    "PostgREST": "eq.1,or(id.gt.0)&select=*&limit=1%00",
    "JSON": '{"message": "x"}, ["a", null]',
    "header": "a\r\nx-injected: 1\r\n\r\nHTTP/1.1 200 OK",
    "format": "%s %n {0} {topic} ${HOME} `id` $(id) {{7*7}}",
    "direction": "\u202eabc\u202d \ufeff \u200b e\u0301 \ufffd",
    "controls": "\x01\x07\x1b[31m\x7f\x85\u2028\u2029",
}


@pytest.mark.parametrize("text", HARMLESS.values(), ids=HARMLESS)
def test_what_looks_dangerous_is_a_message(server: ServerProcess, text: str) -> None:
    """A message that looks like another protocol is answered, and stored character by character."""
    body = server.answer(f"x{text}x", page_id="harmless")
    assert body["saved"] == "database"
    question, answer = turn_rows(server.data_dir, body["turn_id"])
    assert (question["message"], answer["message"]) == (f"x{text}x", body["response"])


CREDENTIALS = {
    "none": None,
    "empty": "",
    "no token": "Bearer",
    "another scheme": "Basic ZGVtbzpkZW1v",
    "bare": "demo",
    "two words": "Bearer demo user",
    "too long": "Bearer " + "a" * 65,
    "punctuation": "Bearer demo'--",
    "path": "Bearer ../demo",
    "Japanese": "Bearer デモ",
    "a JWT": "Bearer eyJhbGciOiJub25lIn0.eyJzdWIiOiJkZW1vIn0.",
}


@pytest.mark.usefixtures("stores_nothing")
@pytest.mark.parametrize("authorization", CREDENTIALS.values(), ids=CREDENTIALS)
def test_who_has_no_proper_token_is_refused(server: ServerProcess, authorization: str | None) -> None:
    """Without a proper token: 401 with a challenge, before the body is judged."""
    headers = {"content-type": "application/json"}
    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    if authorization is not None:
        raw.append((b"authorization", authorization.encode()))
    response = server.http.post("/chat", content=b"not json", headers=raw)
    assert problem(response, 401, "unauthenticated")["retryable"] is False
    assert response.headers["www-authenticate"] == "Bearer"


@pytest.mark.usefixtures("stores_nothing")
@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example:8000", "10.0.0.1"])
def test_a_foreign_host_name_is_refused(server: ServerProcess, host: str) -> None:
    """A page that points a name of its own at loopback cannot use the dev identity."""
    problem(post(server, message("hello"), host=host), 401, "unauthenticated")


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1", "127.0.0.1", "127.0.0.1:8000", "[::1]:8000"])
def test_loopback_names_are_accepted(server: ServerProcess, host: str) -> None:
    """Every name of loopback is, with any port."""
    assert post(server, message(f"hello {AT_ONCE}"), host=host).status_code == 200


@pytest.mark.parametrize("path", ["/", "/chat/", "/chat/x", "/CHAT", "/static/x", "/../app/settings.py", "/chat%00"])
def test_an_unknown_address_is_not_found(server: ServerProcess, path: str) -> None:
    """Any address that is none: 404 as a problem."""
    problem(server.http.post(path, json=message("hello")), 404, "not_found")


@pytest.mark.usefixtures("stores_nothing")
@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [("GET", "/chat", "POST"), ("PUT", "/chat", "POST"), ("DELETE", "/chat", "POST"), ("POST", "/readyz", "GET")],
)
def test_a_wrong_method_is_told_the_right_one(server: ServerProcess, method: str, path: str, allowed: str) -> None:
    """405 names the methods that the address takes."""
    response = server.http.request(method, path, headers={"authorization": "Bearer demo"})
    problem(response, 405, "method_not_allowed")
    assert allowed in response.headers["allow"].split(", ")
    assert method not in response.headers["allow"].split(", ")


@pytest.mark.usefixtures("stores_nothing")
@pytest.mark.parametrize(
    "content_type", ["", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "json"]
)
def test_another_content_type_is_refused(server: ServerProcess, content_type: str) -> None:
    """A body that does not say it is JSON: 415, so that a form of another site cannot post."""
    problem(post(server, message("hello"), **{"content-type": content_type}), 415, "unsupported_media_type")


@pytest.mark.parametrize("content_type", ["application/json; charset=utf-8", "Application/JSON"])
def test_json_may_name_its_charset(server: ServerProcess, content_type: str) -> None:
    """Parameters and case of the content type do not matter."""
    assert post(server, message(f"hello {AT_ONCE}"), **{"content-type": content_type}).status_code == 200


def padded(size: int) -> bytes:
    """Return a proper body, filled up with blanks to so many bytes."""
    return json.dumps(message(f"hello {AT_ONCE}")).encode().ljust(size)


def in_pieces(body: bytes) -> Iterator[bytes]:
    """Yield a body in pieces, so that it is sent chunked, without a length."""
    for start in range(0, len(body), 1 << 16):
        yield body[start : start + (1 << 16)]


def test_a_body_of_one_mebibyte_is_read(server: ServerProcess) -> None:
    """A body of exactly MAX_BODY_BYTES is answered, with a length or chunked."""
    assert post(server, padded(MIB)).status_code == 200
    headers = {"authorization": "Bearer demo", "content-type": "application/json"}
    assert server.http.post("/chat", content=in_pieces(padded(MIB)), headers=headers).status_code == 200


@pytest.mark.usefixtures("stores_nothing")
@pytest.mark.parametrize("chunked", [False, True], ids=["with its length", "chunked"])
def test_one_byte_more_is_too_large(server: ServerProcess, chunked: bool) -> None:
    """A body of one byte over MAX_BODY_BYTES is 413, and the server goes on."""
    headers = {"authorization": "Bearer demo", "content-type": "application/json"}
    body = padded(MIB + 1)
    response = server.http.post("/chat", content=in_pieces(body) if chunked else body, headers=headers)
    problem(response, 413, "body_too_large")
    assert server.http.get("/healthz").status_code == 200


@pytest.mark.usefixtures("stores_nothing")
def test_a_length_that_is_too_large_is_refused_unread(server: ServerProcess) -> None:
    """A body that announces too much is refused before a byte of it has come."""
    with connected(server) as wire:
        wire.send(chat_head(MIB + 1))
        problem(wire.response(), 413, "body_too_large")


@pytest.mark.usefixtures("stores_nothing")
def test_a_trickled_body_is_cut(server: ServerProcess) -> None:
    """A body that arrives drop by drop is 408 at BODY_TIMEOUT, however lively the drops."""
    with connected(server) as wire:
        wire.send(chat_head(1000))
        drops = 0
        while not wire.answered_within(0.1) and drops < 100:
            wire.send(b" ")
            drops += 1
        refusal = problem(wire.response(), 408, "body_timeout")
    assert refusal["retryable"] is True
    assert 5 <= drops <= 30


def test_half_a_body_is_nothing(server: ServerProcess, tmp_path: Path) -> None:
    """A client that leaves in the middle of its body leaves nothing behind, and the server goes on."""
    before = row_counts(server.data_dir)
    with connected(server) as wire:
        wire.send(chat_head(100) + b'{"message": "hel')
    assert server.answer(f"Next {AT_ONCE}")["saved"] == "database"
    assert row_counts(server.data_dir)["chat_logs"] <= before["chat_logs"] + 2


def test_a_wrong_request_of_a_stranger_makes_no_user(server: ServerProcess) -> None:
    """Also a user who was never seen before leaves nothing behind when what they send is wrong."""
    response = post(server, {"message": ""}, authorization="Bearer ghost")
    assert (response.status_code, response.json()["code"]) == (400, "message_empty")
    assert stored(server.data_dir, "users", id="ghost") == []
