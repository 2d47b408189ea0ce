"""The scripted model as an OpenAI client sees it, in process on a virtual clock."""

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import trio
import trio.testing
from trio.testing import MockClock

from app.clients.in_process import InProcessTransport
from app.embedded.scripted.play import MODEL_NAME
from app.embedded.scripted_model import ScriptedModel

FIRST_S, EACH_S = 2.0, 0.25
URL = "http://model.test/v1/chat/completions"


@pytest.fixture
async def services() -> AsyncIterator[trio.Nursery]:
    """The nursery in which the model's answers run."""
    async with trio.open_nursery() as nursery:
        yield nursery
        nursery.cancel_scope.cancel()


@pytest.fixture
async def client(services: trio.Nursery) -> AsyncIterator[httpx.AsyncClient]:
    """A client whose one host is the scripted model."""
    app = ScriptedModel(first_token_s=FIRST_S, per_token_s=EACH_S)
    async with httpx.AsyncClient(transport=InProcessTransport(app, services), timeout=None) as client:
        yield client


def body(question: str, **fields: Any) -> dict[str, Any]:
    """Return a request that asks `question`."""
    return {"model": "any", "messages": [{"role": "user", "content": question}], **fields}


async def events(client: httpx.AsyncClient, question: str, **fields: Any) -> list[str]:
    """Ask, streamed, and return the data of every event."""
    asked = body(question, stream=True, **fields)
    async with client.stream("POST", URL, json=asked) as response:
        assert response.status_code == 200
        assert response.headers["content-type"].startswith("text/event-stream")
        return [line.removeprefix("data: ") async for line in response.aiter_lines() if line]


def text_of(data: list[str]) -> str:
    """Return the text that the chunks in `data` hold."""
    chunks = [json.loads(item) for item in data if item != "[DONE]"]
    return "".join(choice["delta"].get("content", "") for chunk in chunks for choice in chunk.get("choices", []))


async def test_a_stream_has_the_chunks_of_the_wire(client: httpx.AsyncClient, autojump_clock: MockClock) -> None:
    """Role chunk, content deltas, finish chunk, one usage chunk without choices, `[DONE]`; `usage` null before it."""
    data = await events(client, "Why?", stream_options={"include_usage": True})
    assert data.pop() == "[DONE]"
    *chunks, last = [json.loads(item) for item in data]
    assert chunks[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks] == [None] * (len(chunks) - 1) + ["stop"]
    assert all(chunk["usage"] is None for chunk in chunks)
    assert last["choices"] == []
    tokens = len(chunks) - 2
    assert last["usage"] == {"prompt_tokens": 1, "completion_tokens": tokens, "total_tokens": 1 + tokens}
    assert {(chunk["id"], chunk["model"], chunk["object"]) for chunk in [*chunks, last]} == {
        (last["id"], MODEL_NAME, "chat.completion.chunk")
    }


async def test_usage_comes_only_when_asked_for(client: httpx.AsyncClient, autojump_clock: MockClock) -> None:
    """Without `stream_options.include_usage` no chunk has a `usage` field."""
    data = await events(client, "Why?")
    assert not any("usage" in item for item in data)


async def test_streamed_or_not_it_is_the_same_answer(client: httpx.AsyncClient, autojump_clock: MockClock) -> None:
    """The deltas joined are the message of the answer that is not streamed, with the same usage."""
    streamed = await events(client, "川の水はなぜ濁る？", stream_options={"include_usage": True})
    whole = (await client.post(URL, json=body("川の水はなぜ濁る？"))).json()
    assert whole["choices"][0]["message"] == {"role": "assistant", "content": text_of(streamed)}
    assert whole["choices"][0]["finish_reason"] == "stop"
    assert whole["usage"] == json.loads(streamed[-2])["usage"]
    assert whole["usage"]["completion_tokens"] == -(-len(text_of(streamed)) // 4)


async def test_the_same_request_gets_the_same_bytes(client: httpx.AsyncClient, autojump_clock: MockClock) -> None:
    """Ids and times included, nothing but the request decides the answer."""
    first, second = [(await client.post(URL, json=body("Why?"))) for _ in range(2)]
    assert first.content == second.content
    assert first.headers["x-request-id"] == second.headers["x-request-id"]


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
async def test_the_answer_ends_at_the_limit(client: httpx.AsyncClient, autojump_clock: MockClock, name: str) -> None:
    """A limit of three tokens gives three tokens, twelve characters, and the finish reason `length`."""
    whole = (await client.post(URL, json=body("Why?", **{name: 3}))).json()
    assert whole["choices"][0]["finish_reason"] == "length"
    assert len(whole["choices"][0]["message"]["content"]) == 12
    assert whole["usage"]["completion_tokens"] == 3


async def test_a_limit_that_is_just_enough_is_a_stop(client: httpx.AsyncClient, autojump_clock: MockClock) -> None:
    """An answer that fits its limit exactly finished by itself."""
    size = (await client.post(URL, json=body("Why?"))).json()["usage"]["completion_tokens"]
    whole = (await client.post(URL, json=body("Why?", max_tokens=size))).json()
    assert whole["choices"][0]["finish_reason"] == "stop"


async def test_the_pace_of_a_stream_is_exact(client: httpx.AsyncClient, autojump_clock: MockClock) -> None:
    """The first token comes after the first-token time, and each other one the token time later."""
    started = trio.current_time()
    times = []
    async with client.stream("POST", URL, json=body("Why?", stream=True, max_tokens=4)) as response:
        assert trio.current_time() == started
        async for line in response.aiter_lines():
            if '"delta":{"content"' in line:
                times.append(trio.current_time() - started)
    assert times == pytest.approx([FIRST_S, FIRST_S + EACH_S, FIRST_S + 2 * EACH_S, FIRST_S + 3 * EACH_S])


async def test_an_answer_that_is_not_streamed_takes_as_long(
    client: httpx.AsyncClient, autojump_clock: MockClock
) -> None:
    """It comes when the last token of the stream would."""
    started = trio.current_time()
    await client.post(URL, json=body("Why?", max_tokens=5))
    assert trio.current_time() - started == pytest.approx(FIRST_S + 4 * EACH_S)


async def test_slow_is_another_pace(client: httpx.AsyncClient, autojump_clock: MockClock) -> None:
    """The fault's own times replace the model's."""
    started = trio.current_time()
    await client.post(URL, json=body("[[fault: slow first=30 each=7]]", max_tokens=3))
    assert trio.current_time() - started == pytest.approx(44)


async def test_an_http_fault_has_status_code_and_headers(client: httpx.AsyncClient, autojump_clock: MockClock) -> None:
    """The asked status, OpenAI's error body with the asked code, and the asked headers."""
    asked = body("[[fault: http 429 insufficient_quota retry-after-ms=20 x-should-retry=false]]", stream=True)
    response = await client.post(URL, json=asked)
    assert response.status_code == 429
    assert response.headers["retry-after-ms"] == "20"
    assert response.headers["x-should-retry"] == "false"
    error = response.json()["error"]
    assert (error["type"], error["code"], error["param"]) == ("rate_limit_error", "insufficient_quota", None)


async def test_an_http_fault_can_be_a_gateways(client: httpx.AsyncClient, autojump_clock: MockClock) -> None:
    """The body is a page of HTML, or nothing at all."""
    page = await client.post(URL, json=body("[[fault: http 502 body=html]]"))
    nothing = await client.post(URL, json=body("[[fault: http 504 body=empty]]"))
    assert (page.status_code, page.headers["content-type"], page.text[:6]) == (502, "text/html", "<html>")
    assert (nothing.status_code, nothing.content) == (504, b"")


async def test_silent_sends_no_headers(client: httpx.AsyncClient, autojump_clock: MockClock) -> None:
    """A silent model has not even begun its answer after a day; with `for` it goes on."""
    with trio.move_on_after(86_400) as waited:
        await client.post(URL, json=body("[[fault: silent]]", stream=True))
    assert waited.cancelled_caught
    started = trio.current_time()
    await client.post(URL, json=body("[[fault: silent for=9]]", stream=True, max_tokens=1))
    assert trio.current_time() - started == pytest.approx(9 + FIRST_S)


async def test_a_stall_comes_after_the_asked_tokens(client: httpx.AsyncClient, autojump_clock: MockClock) -> None:
    """The headers and exactly n tokens arrive, then nothing for a day."""
    for count in (0, 3):
        seen = 0
        with trio.move_on_after(86_400) as waited:
            asked = body(f"[[fault: stall after={count}]]", stream=True)
            async with client.stream("POST", URL, json=asked) as response:
                async for line in response.aiter_lines():
                    seen += '"delta":{"content"' in line
        assert waited.cancelled_caught
        assert seen == count


async def test_a_stall_can_end(client: httpx.AsyncClient, autojump_clock: MockClock) -> None:
    """With `for` the answer is complete, that much later."""
    started = trio.current_time()
    data = await events(client, "[[fault: stall after=1 for=8]]", max_tokens=2)
    assert data[-1] == "[DONE]"
    assert trio.current_time() - started == pytest.approx(FIRST_S + 8 + EACH_S)


async def receive_into(received: bytearray, response: httpx.Response) -> None:
    """Read the body as far as it goes."""
    async for piece in response.aiter_bytes():
        received += piece


@pytest.mark.parametrize("streamed", [True, False])
async def test_a_cut_breaks_the_body(client: httpx.AsyncClient, autojump_clock: MockClock, streamed: bool) -> None:
    """The body ends in the middle, which the client sees as a protocol error."""
    received = bytearray()
    async with client.stream("POST", URL, json=body("[[fault: cut after=2]]", stream=streamed)) as response:
        with pytest.raises(httpx.RemoteProtocolError):
            await receive_into(received, response)
    assert received
    assert b"[DONE]" not in received
    assert received.count(b'"delta":{"content"') == (2 if streamed else 0)


@pytest.mark.parametrize(("done", "last"), [("yes", True), ("no", False)])
async def test_an_end_is_proper_but_early(
    client: httpx.AsyncClient, autojump_clock: MockClock, done: str, last: bool
) -> None:
    """The body is complete for HTTP, with n tokens, no finish reason, no usage, and `[DONE]` only if asked for."""
    data = await events(client, f"[[fault: end after=2 done={done}]]", stream_options={"include_usage": True})
    assert (data[-1] == "[DONE]") is last
    assert len(text_of(data)) == 8
    assert not any('"finish_reason":"' in item or '"usage":{' in item for item in data)


async def test_an_end_that_is_not_streamed_is_half_a_body(client: httpx.AsyncClient, autojump_clock: MockClock) -> None:
    """It is a 200 that does not parse."""
    response = await client.post(URL, json=body("[[fault: end]]"))
    assert response.status_code == 200
    with pytest.raises(ValueError, match=r"Unterminated|Expecting"):
        response.json()


async def test_an_error_can_come_inside_a_200(client: httpx.AsyncClient, autojump_clock: MockClock) -> None:
    """After n tokens one chunk is OpenAI's error object, and nothing follows it."""
    data = await events(client, "[[fault: error after=2 code=server_is_overloaded]]")
    assert len(text_of(data[:-1])) == 8
    assert json.loads(data[-1])["error"]["code"] == "server_is_overloaded"
    whole = await client.post(URL, json=body("[[fault: error code=server_is_overloaded]]"))
    assert (whole.status_code, whole.json()["error"]["code"]) == (500, "server_is_overloaded")


async def test_garbage_is_one_chunk_that_is_no_json(client: httpx.AsyncClient, autojump_clock: MockClock) -> None:
    """Exactly one event does not parse, and the stream goes on to its end."""
    data = await events(client, "[[fault: garbage after=1]]")
    broken = [index for index, item in enumerate(data[:-1]) if not item.endswith("}")]
    assert broken == [2]  # after the role and one token
    assert data[-1] == "[DONE]"
    with pytest.raises(ValueError, match="Expecting"):
        (await client.post(URL, json=body("[[fault: garbage]]"))).json()


async def test_no_usage_leaves_it_out(client: httpx.AsyncClient, autojump_clock: MockClock) -> None:
    """Asked for or not, there is no usage."""
    data = await events(client, "[[fault: no-usage]]", stream_options={"include_usage": True})
    assert not any('"usage":{' in item for item in data)
    assert "usage" not in (await client.post(URL, json=body("[[fault: no-usage]]"))).json()


async def test_a_fault_beyond_the_answer_strikes_at_its_end(
    client: httpx.AsyncClient, autojump_clock: MockClock
) -> None:
    """All tokens come, and then the fault instead of the finish chunk."""
    data = await events(client, "[[fault: error after=999]]", max_tokens=2)
    assert len(text_of(data[:-1])) == 8
    assert "error" in json.loads(data[-1])


async def test_an_unknown_fault_is_a_400(client: httpx.AsyncClient, autojump_clock: MockClock) -> None:
    """The error body names the known faults."""
    response = await client.post(URL, json=body("[[fault: explode]]"))
    assert response.status_code == 400
    assert response.json()["error"]["code"] == "unknown_fault"
    assert "stall" in response.json()["error"]["message"]


async def test_only_the_last_question_can_ask_for_a_fault(client: httpx.AsyncClient, autojump_clock: MockClock) -> None:
    """A marker in the history, or in the system prompt, does nothing."""
    marked = "[[fault: http 500]]"
    messages = [{"role": role, "content": marked} for role in ("system", "user", "assistant")]
    asked = {"model": "any", "messages": [*messages, {"role": "user", "content": "Why?"}]}
    assert (await client.post(URL, json=asked)).status_code == 200


async def test_closing_the_answer_ends_it(
    client: httpx.AsyncClient, services: trio.Nursery, autojump_clock: MockClock
) -> None:
    """When the client leaves, the app's task is gone at once, stalled or not."""
    for question in ("Why?", "[[fault: stall]]"):
        async with client.stream("POST", URL, json=body(question, stream=True)):
            assert len(services.child_tasks) == 1
        left_at = trio.current_time()
        await trio.testing.wait_all_tasks_blocked()
        assert not services.child_tasks
        assert trio.current_time() == left_at


BAD_BODIES: dict[str, Any] = {
    "not JSON": b"{",
    "not an object": b"[]",
    "no model": b'{"messages": [{"role": "user", "content": "x"}]}',
    "no messages": b'{"model": "m"}',
    "empty messages": b'{"model": "m", "messages": []}',
    "no user": b'{"model": "m", "messages": [{"role": "system", "content": "x"}]}',
    "bad role": b'{"model": "m", "messages": [{"role": "king", "content": "x"}]}',
    "bad content": b'{"model": "m", "messages": [{"role": "user", "content": 5}]}',
    "an image": b'{"model": "m", "messages": [{"role": "user", "content": [{"type": "image_url"}]}]}',
    "no limit": b'{"model": "m", "messages": [{"role": "user", "content": "x"}], "max_tokens": 0}',
    "true limit": b'{"model": "m", "messages": [{"role": "user", "content": "x"}], "max_tokens": true}',
    "stream text": b'{"model": "m", "messages": [{"role": "user", "content": "x"}], "stream": "yes"}',
    "deep": b"[" * 100_000,
}


@pytest.mark.parametrize("name", BAD_BODIES)
async def test_a_bad_request_is_a_400(client: httpx.AsyncClient, autojump_clock: MockClock, name: str) -> None:
    """What the API would refuse is refused, with its error body."""
    response = await client.post(URL, content=BAD_BODIES[name])
    assert response.status_code == 400
    assert response.json()["error"]["type"] == "invalid_request_error"


async def test_text_parts_are_read(client: httpx.AsyncClient, autojump_clock: MockClock) -> None:
    """A content made of text parts is the same question as their text."""
    parts = [{"type": "text", "text": "Why "}, {"type": "text", "text": "light?"}]
    asked = {"model": "m", "messages": [{"role": "user", "content": parts}]}
    assert "Why light?" in (await client.post(URL, json=asked)).json()["choices"][0]["message"]["content"]


async def test_lone_surrogates_do_no_harm(client: httpx.AsyncClient, autojump_clock: MockClock) -> None:
    """JSON can spell half a surrogate pair; the answer is still UTF-8."""
    for question in (r"a\ud800b", r"[[fault: \ud800]]", r"[[fault: http 500 \ud800]]"):
        content = b'{"model": "m", "messages": [{"role": "user", "content": "%s"}]}' % question.encode()
        assert (await client.post(URL, content=content)).json()


async def test_a_body_without_end_is_a_413(client: httpx.AsyncClient, autojump_clock: MockClock) -> None:
    """The model reads no more than its bound."""
    assert (await client.post(URL, content=b" " * (4 * 1024 * 1024 + 1))).status_code == 413


@pytest.mark.parametrize(("method", "path", "status"), [("GET", "chat/completions", 405), ("GET", "nowhere", 404)])
async def test_unknown_addresses(
    client: httpx.AsyncClient, autojump_clock: MockClock, method: str, path: str, status: int
) -> None:
    """Another path is 404 and another method 405, both in OpenAI's shape."""
    response = await client.request(method, f"http://model.test/v1/{path}")
    assert response.status_code == status
    assert response.json()["error"]["type"]


async def test_the_model_is_listed(client: httpx.AsyncClient, autojump_clock: MockClock) -> None:
    """`GET /v1/models` names the one model."""
    listed = (await client.get("http://model.test/v1/models")).json()
    assert [model["id"] for model in listed["data"]] == [MODEL_NAME]
