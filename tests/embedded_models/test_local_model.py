"""The local model: real weights in a real child process, asked over real sockets."""

import json
import logging
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio

from app.embedded import local_model
from app.embedded.local_model import LOCAL_MODEL_URL, MODEL_NAME, LocalModel
from tests.needs import lack

Chunk = dict[str, Any]

URL = f"{LOCAL_MODEL_URL}/chat/completions"
ROOT = Path(__file__).resolve().parents[2]
LIMIT_S = 60.0  # a loaded machine: the facts below take one to five seconds on an idle one


@pytest.fixture(autouse=True)
def _installed() -> None:
    if os.environ.get("NO_LOCAL_MODEL") == "1":
        pytest.skip("NO_LOCAL_MODEL=1: the local model is left out")
    if missing := local_model.local_model_missing():
        lack(missing)


class Events(logging.Handler):
    """The supervisor's log, to wait for: what it reports is how the world learns of its children."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self._sender, self._records = trio.open_memory_channel[logging.LogRecord](100)

    def emit(self, record: logging.LogRecord) -> None:
        self._sender.send_nowait(record)

    async def next(self, event: str) -> dict[str, Any]:
        """Return the fields of the next record, which must be of `event`."""
        with trio.fail_after(LIMIT_S):
            record = await self._records.receive()
        assert record.getMessage() == event
        return record.__dict__


@pytest.fixture
def events() -> Iterator[Events]:
    """The supervisor's log records, in order."""
    events = Events()
    logger = logging.getLogger(local_model.__name__)
    level = logger.level
    logger.setLevel(logging.INFO)
    logger.addHandler(events)
    try:
        yield events
    finally:
        logger.removeHandler(events)
        logger.setLevel(level)


@pytest.fixture
async def model() -> AsyncIterator[LocalModel]:
    """A running model with one slot; it ends with the test."""
    model = LocalModel(slots=1)
    with trio.fail_after(LIMIT_S):
        async with trio.open_nursery() as nursery:
            await nursery.start(model.run)
            try:
                yield model
            finally:
                nursery.cancel_scope.cancel()


@pytest.fixture
async def client(model: LocalModel) -> AsyncIterator[httpx.AsyncClient]:
    """A client that reaches the model by its fixed address."""
    transport = model.transport(httpx.AsyncHTTPTransport(trust_env=False))
    async with httpx.AsyncClient(transport=transport, timeout=LIMIT_S) as client:
        yield client


def body(question: str, **fields: Any) -> dict[str, Any]:
    """Return a streamed request that asks `question`."""
    rule = "You are a helpful assistant. Answer in one sentence."
    messages = [{"role": "system", "content": rule}, {"role": "user", "content": question}]
    streamed = {"stream": True, "stream_options": {"include_usage": True}}
    return {"model": MODEL_NAME, "messages": messages, "max_tokens": 24, "temperature": 0, **streamed, **fields}


async def chunks(response: httpx.Response, until: Callable[[Chunk], bool] = lambda _: False) -> list[Chunk]:
    """Return the chunks of a streamed answer; what follows the first for which `until` holds is left unread."""
    read: list[Chunk] = []
    with trio.CancelScope() as reading:  # as a turn's client leaves: cancelled in the middle of a read
        async for line in response.aiter_lines():
            if line.startswith("data: {"):
                read.append(json.loads(line.removeprefix("data: ")))
                if until(read[-1]):
                    reading.cancel()
    return read


def content(chunk: Chunk) -> str:
    """Return the text in a chunk."""
    return "".join(choice["delta"].get("content") or "" for choice in chunk["choices"])


def is_progress(chunk: Chunk) -> bool:
    """Return whether the chunk only says how far the prompt has been read."""
    return "prompt_progress" in chunk


def is_gone(pid: int) -> bool:
    """Return whether no process has this id: neither running nor waiting to be reaped."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


async def until_dead(pidfd: int) -> None:
    """Return when the process of `pidfd` has ended."""
    with trio.fail_after(LIMIT_S):
        await trio.lowlevel.wait_readable(pidfd)


async def test_it_answers_in_real_tokens(client: httpx.AsyncClient, model: LocalModel) -> None:
    """Before it has loaded it is a connect error; then an English question gets streamed English, with usage."""
    with pytest.raises(httpx.ConnectError, match="loading"):
        await client.post(URL, json=body("What is the capital of France?"))
    await model.wait_ready()
    assert model.state == "ready"
    async with client.stream("POST", URL, json=body("What is the capital of France?")) as response:
        assert response.status_code == 200
        answer = await chunks(response)
    assert "Paris" in "".join(map(content, answer))
    assert len([chunk for chunk in answer if content(chunk)]) > 3
    usage = answer[-1]["usage"]
    assert answer[-1]["choices"] == []
    assert 0 < usage["completion_tokens"] <= 24
    assert usage["prompt_tokens"] > 7
    assert answer[-1]["model"] == MODEL_NAME


async def test_a_prompt_over_the_context_is_refused(client: httpx.AsyncClient, model: LocalModel) -> None:
    """It is a 400 of the type `exceed_context_size_error`, streamed or not, and costs no time of the model."""
    await model.wait_ready()
    response = await client.post(URL, json=body("word " * 2 * local_model.CONTEXT_TOKENS))
    assert response.status_code == 400
    assert response.json()["error"]["type"] == "exceed_context_size_error"


async def test_the_largest_prompt_fits(client: httpx.AsyncClient, model: LocalModel) -> None:
    """A Japanese prompt of `PROMPT_MAX_CHARS` is accepted by the real tokenizer."""
    await model.wait_ready()
    sentence = "川のプラスチックごみについて調べたいです。何から始めればいいですか？"
    question = (sentence * 100)[: local_model.PROMPT_MAX_CHARS]
    async with client.stream("POST", URL, json=body(question)) as response:
        assert response.status_code == 200
        first, *_ = await chunks(response, until=is_progress)
    assert first["prompt_progress"]["total"] <= local_model.CONTEXT_TOKENS - local_model.MAX_TOKENS


async def test_closing_the_response_frees_the_slot(client: httpx.AsyncClient, model: LocalModel) -> None:
    """The one slot is at work on 3500 tokens (half a minute); its client leaves, and the next question is answered."""
    await model.wait_ready()
    async with client.stream("POST", URL, json=body("Go on", max_tokens=3500, ignore_eos=True)) as response:
        assert await chunks(response, until=lambda chunk: content(chunk) != "")
    with trio.fail_after(10):
        response = await client.post(URL, json=body("Say hello.", max_tokens=1, stream=False))
    assert response.status_code == 200


async def test_closing_the_response_stops_a_long_prompt(client: httpx.AsyncClient, model: LocalModel) -> None:
    """A client leaves while its prompt is read: what the slot then has cached is a small part of that prompt."""
    await model.wait_ready()
    question = "The river near our school carries more mud after rain. " * 100
    async with client.stream("POST", URL, json=body(question)) as response:
        await chunks(response, until=is_progress)
    async with client.stream("POST", URL, json=body(question)) as response:
        progress = (await chunks(response, until=is_progress))[0]["prompt_progress"]
    assert progress["total"] > 1000
    assert progress["cache"] < progress["total"] / 4


async def test_a_killed_child_is_replaced(events: Events, client: httpx.AsyncClient, model: LocalModel) -> None:
    """Its death is a connect error and a logged `down`; a new child is `ready` after the backoff, and answers."""
    first = (await events.next("local_model.started"))["pid"]
    assert (await events.next("local_model.ready"))["pid"] == first
    os.kill(first, signal.SIGKILL)
    assert (await events.next("local_model.down"))["exit_code"] == -signal.SIGKILL
    down_at = trio.current_time()
    assert is_gone(first)
    assert model.state == "down"
    with pytest.raises(httpx.ConnectError, match="down"):
        await client.post(URL, json=body("Are you there?"))
    await model.wait_ready()
    assert trio.current_time() - down_at >= local_model.BACKOFF_S[0]
    assert model.child_pid not in (None, first)
    assert (await client.post(URL, json=body("Say hello."))).status_code == 200


async def test_a_child_that_cannot_load_is_tried_again(tmp_path: Path, events: Events) -> None:
    """Weights that are none: each failed start is logged with its reason, and the waits grow."""
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"not weights")
    model = LocalModel(weights=broken)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(model.run)
        for restart_in_s in local_model.BACKOFF_S[:2]:
            await events.next("local_model.started")
            failed = await events.next("local_model.down")
            assert failed["restart_in_s"] == restart_in_s
            assert failed["exit_code"] == 1
            assert "RuntimeError: Failed to init server" in failed["stderr_tail"]
            assert model.state == "down"
        nursery.cancel_scope.cancel()


async def test_a_terminals_signals_do_not_end_it(client: httpx.AsyncClient, model: LocalModel) -> None:
    """SIGINT, SIGTERM and SIGHUP reach the child with the whole process group; it goes on answering."""
    await model.wait_ready()
    assert model.child_pid is not None
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        os.kill(model.child_pid, number)
    assert (await client.post(URL, json=body("Say hello."))).status_code == 200
    assert model.state == "ready"


async def test_cancelling_ends_and_reaps_the_child(events: Events) -> None:
    """When `run` has been cancelled the child is no longer there, not even as a zombie: loading, or ready."""
    for wait_until_ready in (True, False):
        model = LocalModel(slots=1)
        with trio.fail_after(LIMIT_S):
            async with trio.open_nursery() as nursery:
                await nursery.start(model.run)
                pid = (await events.next("local_model.started"))["pid"]
                if wait_until_ready:
                    await events.next("local_model.ready")
                nursery.cancel_scope.cancel()
        assert is_gone(pid)
        assert (model.state, model.child_pid, model.address) == ("down", None, None)


async def test_a_child_that_does_not_end_is_killed(events: Events) -> None:
    """A stopped child hears nothing; it is killed and reaped within the grace."""
    model = LocalModel(slots=1)
    with trio.fail_after(LIMIT_S):
        async with trio.open_nursery() as nursery:
            await nursery.start(model.run)
            await events.next("local_model.started")
            pid = (await events.next("local_model.ready"))["pid"]
            os.kill(pid, signal.SIGSTOP)
            await trio.to_thread.run_sync(os.waitid, os.P_PID, pid, os.WSTOPPED | os.WNOWAIT)
            cancelled_at = trio.current_time()
            nursery.cancel_scope.cancel()
    assert is_gone(pid)
    assert (await events.next("local_model.killed"))["pid"] == pid
    assert trio.current_time() - cancelled_at < 2 * local_model.END_GRACE_S


async def test_the_child_ends_with_a_killed_parent() -> None:
    """After kill -9 of the server's process its model's process ends by itself."""
    parent = await trio.lowlevel.open_process(
        [sys.executable, "-m", "tests.embedded_models.parent"],
        stdout=subprocess.PIPE,
        cwd=ROOT,
    )
    try:
        assert parent.stdout is not None
        async with parent.stdout:
            with trio.fail_after(LIMIT_S):
                pid = int(await parent.stdout.receive_some())
        pidfd = os.pidfd_open(pid)
        try:
            parent.kill()
            await until_dead(pidfd)
        finally:
            os.close(pidfd)
    finally:
        parent.kill()
        await parent.wait()
