"""The model client against the scripted model, in process and over a real socket: one answer or one fault."""

import base64
import gzip
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from subprocess import PIPE

import httpx
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from app.clients import below
from app.clients.openai import OpenAIModel
from app.clients.ports import ModelEnd
from app.embedded.scripted_model import ScriptedModel
from app.errors import CallerFault, ModelFault
from tests.clients.asking import DONE, FINISH, URL, Canned, answer, asked, delta, fault_of, in_process, served
from tests.clients.scripts import Script, Step


async def test_an_answer_has_text_usage_and_ids(autojump_clock: MockClock) -> None:
    """Piece by piece the text comes; the end knows reason, model, ids and tokens."""
    said: list[str] = []
    end = await answer(ScriptedModel(), asked("Why is the river brown?", max_tokens=400), said)
    assert "Why is the river brown?" in "".join(said)
    tokens = len([piece for piece in said if piece])
    assert end.usage is not None
    assert (end.usage.completion_tokens, end.usage.total_tokens) == (tokens, end.usage.prompt_tokens + tokens)
    assert (end.finish_reason, end.model) == ("stop", "scripted-tutor")
    assert end.request_id == f"req_{(end.response_id or '').removeprefix('chatcmpl-')}"


async def test_an_answer_at_the_limit_ends_with_length(autojump_clock: MockClock) -> None:
    """The finish reason is the host's."""
    assert (await answer(ScriptedModel(), asked("Why?", max_tokens=3))).finish_reason == "length"


async def test_pieces_are_passed_on_as_they_come(autojump_clock: MockClock) -> None:
    """The first token is there when the host sends it, not when the answer is whole."""
    times = []

    def on_text(text: str) -> None:
        if text:
            times.append(trio.current_time())

    app = ScriptedModel(first_token_s=2, per_token_s=1)
    async with trio.open_nursery() as nursery, in_process(app, nursery) as transport:
        await OpenAIModel(transport, URL, "", "m").answer(asked("Why?", max_tokens=3), on_text)
    assert times == pytest.approx([2, 3, 4])


@pytest.mark.parametrize(
    ("key", "temperature", "base_url"),
    [("", None, URL), ("sk-secret", 0.0, URL), ("sk-secret", 0.7, f"{URL}/")],
)
async def test_the_request_is_the_one_of_the_api(
    key: str, temperature: float | None, base_url: str, autojump_clock: MockClock
) -> None:
    """Streamed with usage, bounded by max_tokens; temperature and key are sent only when there is one."""
    host = Canned([delta("Yes."), FINISH, DONE])
    await answer(host, asked("川？", temperature=temperature), key=key, base_url=base_url)
    ((scope, body),) = host.requests
    assert (scope["method"], scope["path"]) == ("POST", "/v1/chat/completions")
    expected = {
        "model": "some-model",
        "messages": [{"role": "system", "content": "You are a tutor."}, {"role": "user", "content": "川？"}],
        "max_tokens": 40,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    assert json.loads(body) == (expected if temperature is None else {**expected, "temperature": temperature})
    headers = dict(scope["headers"])
    assert headers.get(b"authorization") == (b"Bearer sk-secret" if key else None)
    assert (headers[b"content-type"], headers[b"accept"]) == (b"application/json", b"text/event-stream")


@pytest.mark.parametrize(
    ("key", "sent"), [("", b"Basic " + base64.b64encode("gw:p@ß".encode())), ("sk-secret", b"Bearer sk-secret")]
)
async def test_a_user_in_the_base_url_is_authorized(key: str, sent: bytes, autojump_clock: MockClock) -> None:
    """As gateways want it, decoded from its percent signs; a key takes its place, and the user is not in the path."""
    host = Canned([delta("Yes."), FINISH, DONE])
    await answer(host, asked("Why?"), key=key, base_url="http://gw:p%40%C3%9F@model.test/v1")
    ((scope, _body),) = host.requests
    assert [value for name, value in scope["headers"] if name == b"authorization"] == [sent]
    assert (scope["server"], scope["path"]) == (("model.test", None), "/v1/chat/completions")


@pytest.mark.parametrize("base_url", [f"{URL}?api-version=1&key=a%2Fb", f"{URL}/?api-version=1&key=a%2Fb"])
async def test_a_query_of_the_base_url_stays_behind_the_path(base_url: str, autojump_clock: MockClock) -> None:
    """As gateways want an API's version, or a key; the list of models is asked for at such an address, too."""
    host = Canned([delta("Yes."), FINISH, DONE])
    await answer(host, asked("Why?"), base_url=base_url)
    ((scope, _body),) = host.requests
    assert (scope["path"], scope["query_string"]) == ("/v1/chat/completions", b"api-version=1&key=a%2Fb")
    assert str(below(base_url, "/models")) == f"{URL}/models?api-version=1&key=a%2Fb"


async def test_an_answer_is_asked_for_unpacked(autojump_clock: MockClock) -> None:
    """Packed, its pieces would come late, and a small one may hold any number of bytes."""
    host = Canned([delta("Yes."), FINISH, DONE])
    await answer(host, asked("Why?"))
    ((scope, _body),) = host.requests
    assert [value for name, value in scope["headers"] if name == b"accept-encoding"] == [b"identity"]


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "gzip, identity"])
async def test_an_answer_that_is_packed_all_the_same_is_left(coding: str, autojump_clock: MockClock) -> None:
    """It is a `bad_stream`; not a byte of it is read, let alone unpacked."""
    packed = gzip.compress(delta("Yes.") + FINISH + DONE)
    host = Script([Step(pieces=(packed,), headers=(("content-encoding", coding), ("x-request-id", "req_1")))])
    said: list[str] = []
    with pytest.raises(ModelFault) as caught:
        await OpenAIModel(host, URL, "", "m").answer(asked("Why?"), said.append)
    fault = caught.value
    assert (fault.code, fault.error_type, fault.retryable) == ("model_error", "bad_stream", True)
    assert (fault.request_id, said, host.read) == ("req_1", [], 0)


@pytest.mark.parametrize(
    ("status", "code", "again"), [(503, "model_busy", True), (429, "model_busy", True), (401, "model_error", False)]
)
async def test_a_packed_refusal_is_judged_by_its_status(
    status: int, code: str, again: bool, autojump_clock: MockClock
) -> None:
    """A gateway may pack its error page; it stays a refusal, with the wait that its headers name."""
    headers = (("content-encoding", "gzip"), ("retry-after", "2"))
    host = Script([Step(status=status, pieces=(gzip.compress(b"<html>"),), headers=headers)])
    with pytest.raises(ModelFault) as caught:
        await OpenAIModel(host, URL, "", "m").answer(asked("Why?"), list[str]().append)
    fault = caught.value
    assert (fault.code, fault.ask_again, fault.retry_after_s) == (code, again, 2.0 if again else None)
    assert (fault.error_type, host.read) == (f"http_{status}", 0)


@pytest.mark.parametrize("coding", ["identity", "Identity", ""])
async def test_an_answer_that_says_it_is_not_packed_is_read(coding: str, autojump_clock: MockClock) -> None:
    """However that is spelled."""
    said: list[str] = []
    host = Script([Step(pieces=(delta("Yes."), FINISH, DONE), headers=(("content-encoding", coding),))])
    await OpenAIModel(host, URL, "", "m").answer(asked("Why?"), said.append)
    assert "".join(said) == "Yes."


@pytest.mark.parametrize(
    ("base_url", "host", "provider", "named"),
    [
        ("https://api.openai.com/v1", ("api.openai.com", 443), "openai", "openai"),
        ("http://127.0.0.1:9181/v1", ("127.0.0.1", 9181), "127.0.0.1", ""),
        ("http://model.test/v1", ("model.test", 80), "model.test", ""),
    ],
)
def test_telemetry_is_told_where_the_model_is(base_url: str, host: tuple[str, int], provider: str, named: str) -> None:
    """Address and port come from the base URL, and so does the provider when nobody names one."""
    model = OpenAIModel(httpx.AsyncHTTPTransport(), base_url, "", "m", named)
    assert (model.host, model.provider, model.name) == (host, provider, "m")


BUSY, ERROR = "model_busy", "model_error"
# The marker of the scripted model -> code, retryable?, error.type, and the wait that is named.
FAULTS = [
    ("http 429 rate_limit_exceeded retry-after=7", BUSY, True, "rate_limit_exceeded", 7.0),
    ("http 429 slow_down retry-after-ms=1500", BUSY, True, "slow_down", 1.5),
    ("http 429 body=html", BUSY, True, "http_429", 1.0),
    ("http 503 server_is_overloaded", BUSY, True, "server_is_overloaded", 1.0),
    ("http 503 body=empty retry-after=0", BUSY, True, "http_503", 1.0),
    ("http 529 body=empty", BUSY, True, "http_529", 1.0),
    ("http 500 rate_limit_exceeded", BUSY, True, "rate_limit_exceeded", 1.0),
    ("http 429 insufficient_quota retry-after=7", ERROR, False, "insufficient_quota", None),
    ("http 429 credit_balance_exhausted", ERROR, False, "credit_balance_exhausted", None),
    ("http 429 organization_spend_limit_exceeded", ERROR, False, "organization_spend_limit_exceeded", None),
    ("http 429 project_spend_limit_exceeded", ERROR, False, "project_spend_limit_exceeded", None),
    ("http 429 organization_usage_limit_exceeded", ERROR, False, "organization_usage_limit_exceeded", None),
    *[(f"http {status} body=empty", ERROR, True, f"http_{status}", None) for status in (408, 409, 500, 502, 504)],
    *[(f"http {status} body=html", ERROR, False, f"http_{status}", None) for status in (400, 401, 403, 404, 422, 501)],
    ("http 401", ERROR, False, "authentication_error", None),
    ("http 500 Not-A-Code", ERROR, True, "server_error", None),
    ("http 400 context_length_exceeded", "message_too_long", False, "context_length_exceeded", None),
    ("http 400 exceed_context_size_error", "message_too_long", False, "exceed_context_size_error", None),
    ("cut", ERROR, True, "RemoteProtocolError", None),
    ("cut after=3", ERROR, True, "RemoteProtocolError", None),
    ("end after=3", ERROR, True, "truncated", None),
    ("error after=3", ERROR, True, "server_error", None),
    ("error after=3 code=server_is_overloaded", BUSY, True, "server_is_overloaded", 1.0),
    ("error after=3 code=insufficient_quota", ERROR, False, "insufficient_quota", None),
    ("garbage after=3", ERROR, True, "bad_stream", None),
]


@pytest.mark.parametrize(
    ("marker", "code", "retryable", "error_type", "wait_s"), FAULTS, ids=[row[0] for row in FAULTS]
)
async def test_every_fault_of_a_host_is_one_of_ours(
    marker: str, code: str, retryable: bool, error_type: str, wait_s: float | None, autojump_clock: MockClock
) -> None:
    """Code, whether to try again, the bounded name and the wait are as the table says; what had come was passed on."""
    said: list[str] = []
    fault = await fault_of(ScriptedModel(), f"[[fault: {marker}]]", said)
    assert (fault.code, fault.retryable, fault.error_type) == (code, retryable, error_type)
    assert fault.retry_after_s == wait_s
    assert type(fault) is (CallerFault if code == "message_too_long" else ModelFault)
    assert len([piece for piece in said if piece]) == (3 if "after=3" in marker else 0)
    assert "fault was asked for" not in str(fault), "the text of an error goes nowhere"


async def test_an_end_without_a_finish_reason_is_a_stop(autojump_clock: MockClock) -> None:
    """`[DONE]` is an end, whatever chunks were left out before it; so is a finish reason without `[DONE]`."""
    said: list[str] = []
    end = await answer(ScriptedModel(), asked("[[fault: end after=3 done=yes]]"), said)
    assert (end.finish_reason, end.usage, len(said)) == ("stop", None, 4)
    assert (await answer(Canned([delta("Yes."), FINISH]), asked("Why?"))).finish_reason == "stop"


async def test_what_follows_done_is_not_part_of_the_answer(autojump_clock: MockClock) -> None:
    """Text behind `[DONE]` is dropped, and a body that breaks off there is no fault."""
    said: list[str] = []
    await answer(Canned([delta("Yes."), FINISH, DONE + delta(" More.")], complete=False), asked("Why?"), said)
    assert "".join(said) == "Yes."


@pytest.mark.parametrize("marker", ["silent", "stall", "stall after=2"])
async def test_cancelling_the_call_ends_it_at_the_host(marker: str, autojump_clock: MockClock) -> None:
    """Before the headers, before the first token or after the second: the host is left at once."""
    async with trio.open_nursery() as host:
        async with in_process(ScriptedModel(), host) as transport:

            def on_text(_text: str) -> None:
                pass

            with trio.move_on_after(5) as call:
                await OpenAIModel(transport, URL, "", "m").answer(asked(f"[[fault: {marker}]]"), on_text)
        assert call.cancelled_caught
        await wait_all_tasks_blocked()
        assert not host.child_tasks
    assert trio.current_time() == pytest.approx(5)


async def over_socket(base_url: str, question: str, said: list[str] | None = None, times: int = 1) -> ModelEnd:
    """Ask over TCP, `times` times with one client, and return how the last answer ended."""

    def on_text(text: str) -> None:
        if said is not None:
            said.append(text)

    async with httpx.AsyncHTTPTransport() as transport:
        model = OpenAIModel(transport, base_url, "", "some-model")
        for _ in range(times):
            end = await model.answer(asked(question), on_text)
    return end


async def test_over_a_socket_it_is_the_same_answer() -> None:
    """In process or over TCP and a real HTTP server, text and end are the same."""
    here: list[str] = []
    there: list[str] = []
    app = ScriptedModel(first_token_s=0, per_token_s=0)
    async with served(app) as url:
        end = await over_socket(url, "川の水はなぜ濁る？", there)
    assert end == await answer(app, asked("川の水はなぜ濁る？"), here)
    assert there == here


async def test_one_connection_serves_one_answer_after_another() -> None:
    """An answer that ended leaves its connection to the next: no new TCP and TLS handshake per call."""
    peers = set()
    scripted = ScriptedModel(first_token_s=0, per_token_s=0)

    async def noting(scope: dict[str, object], receive: object, send: object) -> None:
        peers.add(scope.get("client"))
        await scripted(scope, receive, send)  # type: ignore[arg-type]  # passed on as they are

    async with served(noting) as url:
        await over_socket(url, "Why?", times=3)
    assert len(peers - {None}) == 1


async def test_a_body_left_open_after_done_is_left(autojump_clock: MockClock) -> None:
    """A host that never ends its body costs a tenth of a second, not the answer."""

    async def open_ended(scope: dict[str, object], receive: object, send: object) -> None:
        await Canned([delta("Yes."), FINISH, DONE], complete=False)(scope, receive, send)  # type: ignore[arg-type]
        await trio.sleep_forever()

    said: list[str] = []
    await answer(open_ended, asked("Why?"), said)  # type: ignore[arg-type]  # passed on as they are
    assert "".join(said) == "Yes."
    assert trio.current_time() == pytest.approx(0.1)


async def test_a_host_that_nobody_listens_at_is_a_fault() -> None:
    """A refused connection is a model error that is worth another try."""
    async with served(ScriptedModel()) as url:
        pass
    with pytest.raises(ModelFault) as caught:
        await over_socket(url, "Why?")
    assert (caught.value.code, caught.value.error_type, caught.value.retryable) == ("model_error", "ConnectError", True)


ROOT = Path(__file__).resolve().parents[2]
SERVER = """
import os, trio
from app.embedded.scripted_model import ScriptedModel
from tests.clients.asking import served

async def main():
    async with served(ScriptedModel(first_token_s=0, per_token_s=0)) as url:
        os.write(1, url.encode())
        os.close(1)
        await trio.sleep_forever()

trio.run(main)
"""


@asynccontextmanager
async def server_process() -> AsyncIterator[tuple[trio.Process, str]]:
    """Run the scripted model in a process of its own; yields the process and its base URL."""
    process = await trio.lowlevel.open_process([sys.executable, "-c", SERVER], stdout=PIPE, stderr=PIPE, cwd=ROOT)
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        with trio.fail_after(30):
            url = b"".join([piece async for piece in process.stdout])
        yield process, url.decode()
    finally:
        process.kill()
        with trio.CancelScope(shield=True):
            await process.wait()
            await process.stdout.aclose()
            await process.stderr.aclose()


async def test_a_server_killed_in_the_middle_of_its_answer_is_a_fault() -> None:
    """kill -9 of the host after three tokens ends the call as a model error; the tokens have been passed on."""
    said: list[str] = []

    async with server_process() as (process, url):

        def on_text(text: str) -> None:
            said.append(text)
            if len([piece for piece in said if piece]) == 3:
                process.kill()

        async with httpx.AsyncHTTPTransport() as transport:
            model = OpenAIModel(transport, url, "", "some-model")
            with trio.fail_after(10), pytest.raises(ModelFault) as caught:
                await model.answer(asked("[[fault: stall after=3]]"), on_text)
    assert (caught.value.code, caught.value.retryable) == ("model_error", True)
    assert caught.value.error_type in {"RemoteProtocolError", "ReadError"}
    assert len([piece for piece in said if piece]) == 3
