"""What hosts get wrong: shapes, usages, errors, waits, and plain bytes. Nothing but a fault of ours comes out."""

import json
import zlib
from datetime import UTC, datetime
from itertools import repeat

import httpx
import pytest
import trio
from hypothesis import example, given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

from app.clients.openai import MAX_ERROR_BYTES, named_wait
from app.clients.ports import ModelEnd
from app.errors import CallerFault, Fault
from app.turn import TokenUsage
from tests.clients.asking import DONE, FINISH, Canned, answer, asked, delta, event, fault_of


async def test_a_prompt_too_long_for_llama_cpp_is_the_callers(autojump_clock: MockClock) -> None:
    """That server puts the status in `code` and the name in `type`."""
    error = {"code": 400, "message": "the request exceeds", "type": "exceed_context_size_error", "n_ctx": 4096}
    fault = await fault_of(Canned([json.dumps({"error": error}).encode()], status=400))
    assert (type(fault), fault.code, fault.kind.status) == (CallerFault, "message_too_long", 400)


async def test_an_error_that_is_null_is_none(autojump_clock: MockClock) -> None:
    """Some servers send `error: null` in every chunk."""
    said: list[str] = []
    await answer(Canned([delta("Yes.", error=None), FINISH, DONE]), asked("Why?"), said)
    assert said[0] == "Yes."


WRONG = [
    5, "text", "an error", ["error"], [], None, {"choices": {"a": 1}}, {"choices": "text"}, {"choices": 5},
    {"choices": [None]}, {"choices": ["x"]}, {"choices": [{"delta": "x"}]}, {"choices": [{"delta": [1]}]},
    {"choices": [{"delta": {"content": 5}}]}, {"choices": [{"delta": {"content": ["x"]}}]},
    {"choices": [{"delta": {"content": {"text": "x"}}}]},
]  # fmt: skip


@pytest.mark.parametrize("chunk", WRONG, ids=str)
async def test_a_chunk_of_the_wrong_shape_is_a_bad_stream(chunk: object, autojump_clock: MockClock) -> None:
    """What the API does not promise is a model's fault of ours, not an error in our code."""
    fault = await fault_of(Canned([event(chunk), FINISH, DONE]))
    assert (fault.code, fault.error_type) == ("model_error", "bad_stream")


@pytest.mark.parametrize("piece", [b"data: {\n\n", b"data: \xff\n\n", b"data: " + b"[" * 100_000 + b"\n\n"])
async def test_a_chunk_that_is_not_json_is_a_bad_stream(piece: bytes, autojump_clock: MockClock) -> None:
    """Broken JSON, bytes that are no UTF-8, and nesting without end."""
    assert (await fault_of(Canned([piece, FINISH, DONE]))).error_type == "bad_stream"


NO_USAGE: list[object] = [
    None, [], 5, "many", {}, {"prompt_tokens": 5}, {"prompt_tokens": "5", "completion_tokens": 2},
    {"prompt_tokens": 5.5, "completion_tokens": 2}, {"prompt_tokens": True, "completion_tokens": 2},
    {"prompt_tokens": -1, "completion_tokens": 2}, {"prompt_tokens": 1 << 70, "completion_tokens": 2},
]  # fmt: skip


@pytest.mark.parametrize("usage", NO_USAGE, ids=str)
async def test_a_usage_that_makes_no_sense_is_none(usage: object, autojump_clock: MockClock) -> None:
    """The answer counts, not its accounting: only whole, plausible counts are taken."""
    end = await answer(Canned([delta("Yes."), FINISH, event({"choices": [], "usage": usage}), DONE]), asked("Why?"))
    assert end.usage is None


@pytest.mark.parametrize(
    ("details", "cached"),
    [
        (None, None),
        ([], None),
        ({"cached_tokens": "x"}, None),
        ({"cached_tokens": -1}, None),
        ({"cached_tokens": 3}, 3),
    ],
)
async def test_cached_tokens_are_optional(details: object, cached: int | None, autojump_clock: MockClock) -> None:
    """The counts stand without them; the total is the sum, whatever the host says it is."""
    usage = {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 99, "prompt_tokens_details": details}
    end = await answer(Canned([delta("Yes."), FINISH, event({"choices": [], "usage": usage}), DONE]), asked("Why?"))
    assert end.usage == TokenUsage(prompt_tokens=5, completion_tokens=2, total_tokens=7, cached_tokens=cached)


async def test_names_that_are_no_texts_are_left_out(autojump_clock: MockClock) -> None:
    """Model, id and finish reason go into rows and spans, which take texts only."""
    odd = event({"model": {"a": 1}, "id": 5, "choices": [{"delta": {"content": "Yes."}, "finish_reason": ["x"]}]})
    end = await answer(Canned([odd, DONE]), asked("Why?"))
    assert end == ModelEnd(finish_reason="stop")


async def test_a_lone_surrogate_is_replaced(autojump_clock: MockClock) -> None:
    """JSON can spell half a surrogate pair, which neither a reply nor a row could hold; a NUL no row could."""
    said: list[str] = []
    await answer(
        Canned([rb'data: {"choices":[{"delta":{"content":"a\ud800b\u0000c"}}]}' + b"\n\n", DONE]), asked("?"), said
    )
    assert "".join(said) == "a\ufffdb\ufffdc"


async def test_the_body_of_an_error_is_read_to_a_bound(autojump_clock: MockClock) -> None:
    """An error without end is judged by its status, after 64 KiB."""
    host = Canned(repeat(b"x" * 1000), status=500)
    fault = await fault_of(host)
    assert (fault.code, fault.error_type) == ("model_error", "http_500")
    assert host.sent <= MAX_ERROR_BYTES + 2000


@pytest.mark.parametrize(
    "body", [b"[]", b"5", b"null", b'"error"', b'{"error": "text"}', b'{"error": null}', b"[" * 60_000]
)
async def test_an_error_body_of_any_shape_is_judged_by_its_status(body: bytes, autojump_clock: MockClock) -> None:
    """Gateways and other servers answer with anything."""
    assert (await fault_of(Canned([body], status=502))).error_type == "http_502"


NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
WAITS: list[tuple[dict[str, str], float | None]] = [
    ({}, None),
    ({"retry-after": "7"}, 7.0),
    ({"retry-after": "0.5"}, 0.5),
    ({"retry-after": "0"}, 0.0),
    ({"retry-after": " 3 "}, 3.0),
    ({"retry-after": "-1"}, None),
    ({"retry-after": "nan"}, None),
    ({"retry-after": "inf"}, None),
    ({"retry-after": "1e999"}, None),
    ({"retry-after": "soon"}, None),
    ({"retry-after": ""}, None),
    ({"retry-after-ms": "1500"}, 1.5),
    ({"retry-after-ms": "1500", "retry-after": "9"}, 1.5),
    ({"retry-after-ms": "soon", "retry-after": "9"}, 9.0),
    ({"retry-after": "Sun, 22 Nov 2026 12:00:30 GMT"}, 30.0),
    ({"retry-after": "Sun, 22 Nov 2026 13:00:30 +0100"}, 30.0),
    ({"retry-after": "Sun, 22 Nov 2026 11:00:00 GMT"}, 0.0),
    ({"retry-after": "Sun, 22 Nov 99999999999 11:00:00 GMT"}, None),
    ({"retry-after": "Sun, 22 Nov 2026 11:00:00 +9999999999999999999"}, None),
    ({"retry-after": "Sun, 22 Nov 2026 12:00:30"}, None),
]


@pytest.mark.parametrize(("headers", "wait_s"), WAITS, ids=str)
def test_the_wait_that_a_refusal_names(headers: dict[str, str], wait_s: float | None) -> None:
    """Milliseconds first, then seconds or an HTTP date; what is no sensible wait is none."""
    assert named_wait(httpx.Headers(headers), NOW) == wait_s


@given(st.text(), st.text())
def test_no_header_breaks_the_wait(milliseconds: str, seconds: str) -> None:
    """Whatever a host sends is a wait of zero or more seconds, or none."""
    wait_s = named_wait({"retry-after-ms": milliseconds, "retry-after": seconds}, NOW)
    assert wait_s is None or 0 <= wait_s < float("inf")


FRAGMENTS = st.sampled_from(
    [b"data: ", b"data:", b"\n", b"\n\n", b"\r\n", b"[DONE]", b"{", b"}", b"[", b"]", b'"', b",", b":", b"null", b"1e9",
     b'{"choices":[', b'"delta":{', b'"content":', b'"x"', b'"\\ud800"', b'"error":', b'"usage":',
     b'"finish_reason":', FINISH]
)  # fmt: skip
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(["choices", "delta", "content", "error", "code", "usage", "prompt_tokens", "completion_tokens",
                         "prompt_tokens_details", "model", "id", "finish_reason"]), inner, max_size=4,
    ),
)  # fmt: skip
STREAMS = st.lists(st.binary(max_size=20) | FRAGMENTS | JSON.map(event), max_size=12)
ENCODINGS: list[list[tuple[bytes, bytes]]] = [[], [(b"content-encoding", b"gzip")], [(b"content-encoding", b"deflate")]]


@pytest.mark.filterwarnings("ignore:Async generator:ResourceWarning")  # httpx leaves its own behind when decoding fails
@settings(max_examples=300, deadline=None)
@example(pieces=[zlib.compress(DONE)[:-1]], status=200, headers=ENCODINGS[2], complete=True)
@given(STREAMS, st.sampled_from([200, 200, 200, 429, 500]), st.sampled_from(ENCODINGS), st.booleans())
def test_no_bytes_raise_anything_but_a_fault(
    pieces: list[bytes], status: int, headers: list[tuple[bytes, bytes]], complete: bool
) -> None:
    """Whatever a host sends, the caller gets texts that can be stored and an end that is typed, or one fault."""
    said: list[str] = []

    async def ask() -> ModelEnd | Fault:
        try:
            return await answer(Canned(pieces, status, headers, complete), asked("Why?"), said)
        except Fault as fault:
            return fault

    end = trio.run(ask, clock=MockClock(autojump_threshold=0))
    assert "\0" not in "".join(said).encode().decode()
    if isinstance(end, ModelEnd):
        assert all(isinstance(value, str) for value in (end.finish_reason, end.model or "", end.response_id or ""))
        assert end.usage is None or min(end.usage.prompt_tokens, end.usage.completion_tokens) >= 0
