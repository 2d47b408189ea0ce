"""The local model end to end: real weights in the server's child, asked through `/chat`."""

import os
from collections.abc import Iterator
from pathlib import Path
from signal import SIGKILL

import pytest

from app.embedded.local_model import MODEL_NAME, local_model_missing
from tests.needs import lack
from tests.server.process import ServerProcess, running, until
from tests.server.rows import row_counts, turn_rows
from tests.server.wire import problem

LOADED_S = 60.0  # measured 1 s warm, 5 s from a cold disk; a loaded machine takes longer


@pytest.fixture(scope="module", autouse=True)
def _installed() -> None:
    if os.environ.get("NO_LOCAL_MODEL") == "1":
        pytest.skip("NO_LOCAL_MODEL=1: the local model is left out")
    if missing := local_model_missing():
        lack(missing)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    settings = {"EMBEDDED_LLM": "local", "OPENAI_MAX_TOKENS": "40", "OPENAI_TEMPERATURE": "0"}
    with running(tmp_path_factory.mktemp("data"), **settings) as process:
        yield process


def test_while_it_loads_turns_are_put_off(server: ServerProcess) -> None:
    """The server listens before its model is there: /readyz is 503, a turn 503 `model_loading`, and nothing stored."""
    ready, refused = server.http.get("/readyz"), server.ask("Too early?")
    assert not server.lines("local_model.ready"), "the model was there before it could be asked"
    assert (ready.status_code, ready.json()) == (503, {"status": "loading", "degraded": []})
    assert problem(refused, 503, "model_loading")["retryable"] is True
    assert int(refused.headers["retry-after"]) >= 1
    assert row_counts(server.data_dir) == {"chat_conversations": 0, "chat_logs": 0}


def test_a_question_is_answered_by_real_weights(server: ServerProcess) -> None:
    """Once ready, a short English question gets words of the real model's, counted, named and stored."""
    server.wait_for_log("local_model.ready", LOADED_S)
    assert server.http.get("/readyz").status_code == 200
    body = server.answer("What is the capital of France?", page_id="general")
    assert len(body["response"].split()) >= 2
    assert body["context_metadata"]["model"] == MODEL_NAME
    usage = body["token_usage"]
    assert usage["prompt_tokens"] > 100  # the tutor's instructions are in it
    assert 1 <= usage["completion_tokens"] <= 40
    question, answer = turn_rows(server.data_dir, body["turn_id"])
    assert (question["message"], answer["message"]) == ("What is the capital of France?", body["response"])
    assert answer["context_data"]["finish"] in ("stop", "length")
    assert answer["context_data"]["model"] == MODEL_NAME


def test_the_banner_says_how_small_it_is(server: ServerProcess) -> None:
    """Who starts the local model is told that it is a tiny English demo, and what to set for real use."""
    banner = server.wait_for_text("/ops/turns")
    assert MODEL_NAME in banner
    assert "tiny English demo model" in banner
    assert "OPENAI_BASE_URL" in banner


def test_the_child_does_not_outlive_the_server(server: ServerProcess) -> None:
    """kill -9 of the server ends the model's process too."""
    child = server.wait_for_log("local_model.ready", LOADED_S)["pid"]
    assert is_running(child)
    assert server.end(SIGKILL) == -SIGKILL
    until(lambda: not is_running(child), "the child has ended")


def is_running(pid: int) -> bool:
    """Return whether there is such a process that is not merely waiting to be reaped."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"
