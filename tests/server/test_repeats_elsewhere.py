"""A message that is sent again to another process, or after a restart, or while its rows wait in an outbox."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from signal import SIGKILL

import pytest

from tests.server.answering import AnsweringModel, answering_model, half, whole
from tests.server.faulty_database import RemoteFaultyDatabase, faulty_database
from tests.server.outbox_town import KEYS, NO_WRITES, WELL, delivered, ops
from tests.server.process import ServerProcess, running, until
from tests.server.repeating import Told, repeatable, stands, told
from tests.server.rows import stored
from tests.server.streaming import opened
from tests.server.wire import problem


@dataclass(frozen=True, slots=True)
class Pair:
    """Two servers on one database, with one model's host."""

    folder: Path
    database: RemoteFaultyDatabase
    model: AnsweringModel
    servers: tuple[ServerProcess, ServerProcess]

    def rows(self, question: str) -> int:
        """Return how many rows say a question."""
        return len(stored(self.folder, message=question))

    def let_go_in_turn(self, question: str, *order: int) -> None:
        """Let the answers to a question go on, each once the one before it is stored."""
        for number in order:
            self.model.let_go(question, number)
            until(lambda: bool(stored(self.folder, message=whole(question, order[0]))), "the first is stored")


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    folder = tmp_path_factory.mktemp("pair")
    with ExitStack() as stack:
        database = stack.enter_context(faulty_database(folder / "supabase.sqlite3"))
        model = stack.enter_context(answering_model())
        settings = {"SUPABASE_URL": database.url, "OPENAI_BASE_URL": model.url, **KEYS}
        one, two = (stack.enter_context(running(folder / name, **settings)) for name in ("one", "two"))
        yield Pair(folder, database, model, (one, two))


@pytest.fixture
def one(pair: Pair) -> ServerProcess:
    return pair.servers[0]


@pytest.fixture
def two(pair: Pair) -> ServerProcess:
    return pair.servers[1]


@pytest.fixture
def no_writes(pair: Pair) -> Iterator[None]:
    """The database takes no rows until the end of the test, or until that says otherwise."""
    pair.database.become(NO_WRITES)
    yield
    pair.database.become(WELL)
    for server in pair.servers:
        delivered(server)


def codes(turn: Told) -> list[str]:
    return [warning["code"] for warning in turn["warnings"]]


@pytest.mark.parametrize("way", ["json", "sdk"])
def test_answered_here_and_told_there(pair: Pair, one: ServerProcess, two: ServerProcess, way: str) -> None:
    """The other process finds the answer in the database, and asks nobody."""
    question = f"There {way}"
    first, again = (told(repeatable(server, way, question, f"there {way}")) for server in (one, two))
    assert (again["replayed"]["trace_id"], again["response"]) == (first["trace_id"], first["response"])
    assert (again["turn_id"], pair.model.asked(question)) == (first["turn_id"], 1)
    stands(pair.folder, first, question)


@pytest.mark.parametrize("first", [1, 2])
def test_both_at_once(pair: Pair, one: ServerProcess, two: ServerProcess, first: int) -> None:
    """Both answer. Whoever stores its answer first has what stands; the other says that its own is not; two rows."""
    question = f"At once {first}"
    pair.model.holds |= {(question, 1), (question, 2)}
    with ThreadPoolExecutor(2) as pool:
        futures = []
        for number, server in enumerate((one, two), 1):
            futures.append(pool.submit(repeatable, server, "json", question, question))
            pair.model.wait_for(question, number)
        pair.let_go_in_turn(question, first, 3 - first)
        turns = [told(future.result()) for future in futures]
    stored_one, other = turns[first - 1], turns[2 - first]
    assert (stored_one["saved"], codes(stored_one)) == ("database", [])
    assert (other["saved"], codes(other), other["response"]) == ("no", ["superseded"], whole(question, 3 - first))
    assert stored_one["turn_id"] == other["turn_id"]
    stands(pair.folder, stored_one, question)
    for server in (one, two):
        again = told(repeatable(server, "json", question, question))
        assert (again["response"], again["replayed"]["trace_id"]) == (whole(question, first), stored_one["trace_id"])


def test_another_message_while_the_first_is_answered(pair: Pair, one: ServerProcess, two: ServerProcess) -> None:
    """Its question is stored already, so the other process refuses; the first one gets its own answer."""
    pair.model.holds |= {("This?", 1), ("That?", 1)}
    with ThreadPoolExecutor(2) as pool:
        this = pool.submit(repeatable, one, "json", "This?", "both messages")
        pair.model.wait_for("This?")
        until(lambda: pair.rows("This?") == 1, "the first question is stored")
        problem(repeatable(two, "json", "That?", "both messages"), 422, "idempotency_mismatch")
        pair.model.let_go("This?")
        stands(pair.folder, told(this.result()), "This?")


@pytest.mark.parametrize("late", [False, True])
def test_a_partial_answer_does_not_keep_the_place(
    pair: Pair, one: ServerProcess, two: ServerProcess, late: bool
) -> None:
    """The client leaves one process half-way and asks the other: its whole answer stands, whoever stores first."""
    question = f"Left {late}"
    pair.model.holds |= {(question, 1), (question, 2)}
    with ThreadPoolExecutor(1) as pool:
        with opened(one, question, headers={"idempotency-key": question}) as answer:
            answer.deltas(1)
            until(lambda: pair.rows(question) == 1, "the question is stored")
            repeat = pool.submit(repeatable, two, "json", question, question)
            pair.model.wait_for(question, 2)
            if late:
                pair.let_go_in_turn(question, 2)
        one.wait_for_log("turn.finished", turn_id=answer.read[0]["messageId"])
        if not late:
            assert stored(pair.folder, message=half((question, 1)))
            pair.model.let_go(question, 2)
        whole_one = told(repeat.result())
    assert bool(one.lines("save.superseded", turn_id=whole_one["turn_id"])) == late
    assert (whole_one["saved"], codes(whole_one), whole_one["response"]) == ("database", [], whole(question, 2))
    stands(pair.folder, whole_one, question)
    assert told(repeatable(one, "json", question, question))["replayed"]["trace_id"] == whole_one["trace_id"]


def test_a_partial_answer_in_one_outbox_and_the_whole_in_another(
    pair: Pair, one: ServerProcess, two: ServerProcess, no_writes: None
) -> None:
    """Both delivered when the database is well again, in whatever order: the whole answer stands."""
    question = "Both outboxes"
    pair.model.holds.add((question, 1))
    with opened(one, question, headers={"idempotency-key": question}) as answer:
        answer.deltas(1)
    one.wait_for_log("turn.finished", turn_id=answer.read[0]["messageId"])
    whole_one = told(repeatable(two, "json", question, question))
    assert (whole_one["saved"], pair.rows(question)) == ("outbox", 0)
    assert [ops(server)["waiting"] for server in (one, two)] == [2, 2]
    pair.database.become(WELL)
    for server in (one, two):
        delivered(server)
    stands(pair.folder, whole_one, question)


def test_an_answer_that_waits_is_told_again(pair: Pair, one: ServerProcess, no_writes: None) -> None:
    """From the outbox, and says so; from the database once it is there, and then the other process knows it too."""
    question = "Waits"
    first, again = (told(repeatable(one, "json", question, question)) for _ in range(2))
    assert (first["saved"], again["saved"], codes(again)) == ("outbox", "outbox", ["save_deferred"])
    assert (again["replayed"]["trace_id"], again["response"]) == (first["trace_id"], whole(question))
    assert (pair.rows(question), ops(one)["waiting"]) == (0, 2)
    pair.database.become(WELL)
    delivered(one)
    for server in pair.servers:
        later = told(repeatable(server, "json", question, question))
        assert (later["saved"], codes(later), later["replayed"]) == ("database", [], again["replayed"])
    assert pair.model.asked(question) == 1
    stands(pair.folder, first, question)


def test_a_failure_and_its_repeat_wait_together(pair: Pair, one: ServerProcess, no_writes: None) -> None:
    """The rows of both attempts are in one outbox: the whole answer is told from there, and is what is delivered."""
    question = "Fails, waits"
    pair.model.refuses.add((question, 1))
    problem(repeatable(one, "json", question, question), 502, "model_error")
    assert ops(one)["waiting"] == 2
    turn = told(repeatable(one, "json", question, question))
    assert (turn["saved"], turn["response"], turn["replayed"]) == ("outbox", whole(question, 2), None)
    assert ops(one)["waiting"] == 4
    assert told(repeatable(one, "json", question, question))["response"] == whole(question, 2)
    pair.database.become(WELL)
    delivered(one)
    stands(pair.folder, turn, question)
    assert pair.model.asked(question) == 2


def test_after_a_crash(tmp_path: Path) -> None:
    """What was answered is told again, from the database or the outbox; what was being answered is asked again.

    That one has the turn id of the first attempt, whose question is stored, and two rows in the end.
    """
    with faulty_database(tmp_path / "supabase.sqlite3") as database, answering_model() as model:
        settings = {"SUPABASE_URL": database.url, "OPENAI_BASE_URL": model.url, **KEYS}
        model.holds.add(("Cut off", 1))
        with running(tmp_path / "server", **settings) as server, ThreadPoolExecutor(1) as pool:
            answered = told(repeatable(server, "json", "Stored", "k1"))
            pool.submit(repeatable, server, "json", "Cut off", "k2")
            until(lambda: len(stored(tmp_path, message="Cut off")) == 1, "the question is stored")
            database.become(NO_WRITES)
            kept = told(repeatable(server, "json", "Kept", "k3"))
            server.end(SIGKILL)
        (question,) = stored(tmp_path, message="Cut off")
        with running(tmp_path / "server", **settings) as server:
            again = [told(repeatable(server, "json", *asked)) for asked in (("Stored", "k1"), ("Kept", "k3"))]
            assert [turn["replayed"]["trace_id"] for turn in again] == [answered["trace_id"], kept["trace_id"]]
            assert [turn["saved"] for turn in again] == ["database", "outbox"]
            database.become(WELL)
            turn = told(repeatable(server, "json", "Cut off", "k2"))
            assert (turn["turn_id"], turn["response"], turn["replayed"]) == (
                question["turn_id"], whole("Cut off", 2), None,
            )  # fmt: skip
            delivered(server)
        for told_of, said in ((answered, "Stored"), (kept, "Kept"), (turn, "Cut off")):
            stands(tmp_path, told_of, said)
        assert [model.asked(said) for said in ("Stored", "Kept", "Cut off")] == [1, 1, 2]
        assert len(stored(tmp_path)) == 6
