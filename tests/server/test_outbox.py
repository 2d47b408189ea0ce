"""A turn that is never lost, on a real server whose database fails after the fetch."""

import json
from collections.abc import Iterator
from pathlib import Path
from signal import SIGKILL

import pytest

from tests.server.database_faults import Weather
from tests.server.faulty_database import faulty_database
from tests.server.neighbours import Neighbour, model_host
from tests.server.outbox_town import KEYS, NO_WRITES, WELL, Town, deferred, delivered, ops, readiness
from tests.server.process import AT_ONCE, run_command
from tests.server.rows import turn_rows
from tests.server.wire import problem


@pytest.fixture
def town(tmp_path: Path) -> Iterator[Town]:
    with faulty_database(tmp_path / "supabase.sqlite3") as database:
        yield Town(tmp_path, database)


def test_a_database_that_fails_after_the_fetch_costs_no_row(town: Town) -> None:
    """Answers are `saved: outbox` meanwhile; when the database is well, all rows come there, once and in order."""
    with town.server() as server:
        assert server.answer(f"Before {AT_ONCE}")["saved"] == "database"
        town.database.become(NO_WRITES)
        bodies = [deferred(server, question) for question in ("One", "Two", "Three")]
        elsewhere = deferred(server, "Elsewhere", page_id="notes")
        assert len({body["conversation_id"] for body in bodies}) == 1
        assert (town.rows(), ops(server)["waiting"]) == (["Before"], 8)
        assert server.gauge("outbox_depth") == 8
        assert server.gauge("outbox_oldest_age_seconds") > 0
        town.database.become(WELL)
        delivered(server)
        assert server.answer(f"After {AT_ONCE}")["saved"] == "database"
        assert server.gauge('outbox_replays_total{outcome="delivered"}') == 8
        assert sum(turn["outcome"] == "degraded" for turn in server.http.get("/ops/turns").json()["turns"]) == 4
    assert town.rows() == ["Before", "One", "Two", "Three", "Elsewhere", "After"]
    for body in (*bodies, elsewhere):
        question, answer = turn_rows(town.folder, body["turn_id"])
        assert (answer["message"], answer["conversation_id"]) == (body["response"], body["conversation_id"])
        assert question["conversation_id"] == body["conversation_id"]


def test_the_model_knows_what_is_not_delivered_yet(town: Town) -> None:
    """The next prompt has the undelivered turn, by page and by the id that the client was told."""
    town.database.become(NO_WRITES)
    with model_host() as model, town.server(OPENAI_BASE_URL=f"{model.url}/v1") as server:
        first = deferred(server, "My name is Ann.")
        deferred(server, "Who am I?")
        deferred(server, "And now?", conversation_id=first["conversation_id"])
        assert [[said.split(" [[")[0] for said in asked] for asked in questions_asked(model)] == [
            ["My name is Ann."],
            ["My name is Ann.", "Who am I?"],
            ["My name is Ann.", "Who am I?", "And now?"],
        ]
        town.database.become(WELL)
        delivered(server)
    assert town.rows() == ["My name is Ann.", "Who am I?", "And now?"]


def questions_asked(model: Neighbour) -> list[list[str]]:
    bodies = [json.loads(heard.body) for heard in model.requests("POST", "/v1/chat/completions")]
    return [[said["content"] for said in body["messages"] if said["role"] == "user"] for body in bodies]


@pytest.mark.parametrize("how", ["killed", "ended"])
def test_the_next_process_delivers_what_one_left(town: Town, how: str) -> None:
    """Killed or ended while the database is away: the next process on the `DATA_DIR` delivers, before it is asked."""
    with town.server() as server:
        town.database.become(NO_WRITES)
        body = deferred(server, "Left behind")
        if how == "killed":
            server.end(SIGKILL)
        else:
            assert server.end() == 0
            assert server.lines("outbox.left", waiting=2, set_aside=0)
    assert town.rows() == []
    town.database.become(WELL)
    with town.server() as server:
        delivered(server)
        assert server.wait_for_log("outbox.adopted")["entries"] == 2
        assert server.end() == 0
        assert not server.lines("outbox.left")
    assert turn_rows(town.folder, body["turn_id"])[1]["message"] == body["response"]
    assert list((town.folder / "server" / "outbox").iterdir()) == []


def test_what_is_durable_here_is_answered_at_once(town: Town) -> None:
    """Under SAVE_MODE=outbox the database, which answers no write, is not waited for, and that is no warning."""
    town.database.become(Weather(writes={"unheard": 1.0}))
    with town.server(SAVE_MODE="outbox", DB_SAVE_TIMEOUT="20") as server:
        bodies = [server.answer(f"{question} {AT_ONCE}") for question in ("One", "Two")]
        assert [(body["saved"], body["warnings"]) for body in bodies] == [("outbox", [])] * 2
        assert max(body["performance_metrics"]["db_save_time"] for body in bodies) < 5
        assert bodies[1]["context_metadata"]["history_count"] == 2
        town.database.become(WELL)
        delivered(server)
    assert town.rows() == ["One", "Two"]


def test_the_end_waits_a_moment_for_the_last_delivery(town: Town) -> None:
    """A server that is told to end right after an answer delivers it, though that takes a while, and leaves no file."""
    town.database.become(Weather(writes={"slow": 1.0}, slow_s=0.2))
    with town.server(SAVE_MODE="outbox") as server:
        for number in range(5):
            server.answer(f"{number} {AT_ONCE}")
        assert server.end() == 0
        assert not server.lines("outbox.left")
    assert town.rows() == ["0", "1", "2", "3", "4"]
    assert list((town.folder / "server" / "outbox").iterdir()) == []


def test_a_full_outbox_refuses_before_the_model_is_paid(town: Town) -> None:
    """With no room left, turns are 503 `overloaded` with `Retry-After`, and the model is not asked; later they pass."""
    town.database.become(NO_WRITES)
    with model_host() as model, town.server("tests.server.small_outbox", OPENAI_BASE_URL=f"{model.url}/v1") as server:
        deferred(server, "Fills it")
        asked = len(model.heard)
        response = server.ask(f"One too many {AT_ONCE}")
        problem(response, 503, "overloaded")
        assert response.headers["retry-after"] == "5"
        server.wait_for_log("turn.refused", error="outbox_full")
        assert readiness(server) == (200, ["outbox"])
        assert len(model.heard) == asked
        town.database.become(WELL)
        delivered(server)
        assert server.answer(f"Again {AT_ONCE}")["saved"] == "database"
    assert town.rows() == ["Fills it", "Again"]


def test_without_an_outbox_all_is_as_without(town: Town) -> None:
    """With OUTBOX=off what the database does not take is lost, told, and there is nothing to look at."""
    town.database.become(NO_WRITES)
    with town.server(OUTBOX="off") as server:
        body = server.answer(f"Lost {AT_ONCE}")
        assert (body["saved"], [warning["code"] for warning in body["warnings"]]) == ("no", ["save_failed"])
        problem(server.http.get("/ops/outbox"), 404, "not_found")
    assert not (town.folder / "server" / "outbox").exists()


def test_an_outbox_that_cannot_be_made_is_one_clear_line(tmp_path: Path) -> None:
    """Exit code 2 and a line that names DATA_DIR and the way without."""
    (tmp_path / "file").write_text("")
    ended = run_command(
        tmp_path, "serve", DATA_DIR=str(tmp_path / "file" / "data"), SUPABASE_URL="http://127.0.0.1:9", **KEYS
    )
    assert ended.returncode == 2
    (line,) = ended.stderr.splitlines()
    assert "DATA_DIR" in line
    assert "OUTBOX=off" in line


def test_outbox_mode_wants_an_outbox(tmp_path: Path) -> None:
    """SAVE_MODE=outbox without one is refused at the start."""
    ended = run_command(tmp_path, "serve", SAVE_MODE="outbox", OUTBOX="off")
    assert ended.returncode == 2
    assert "SAVE_MODE" in ended.stderr
