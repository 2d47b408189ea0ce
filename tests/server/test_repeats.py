"""A message that is sent again under its key: told again, or asked again where there is no whole answer."""

import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from app.errors import KINDS
from app.turn import AGENT_FIELDS
from tests.respond.ui_wire import read_stream
from tests.server.answering import AnsweringModel, answering_model, half, whole
from tests.server.neighbours import Neighbour, model_host
from tests.server.process import AT_ONCE, ServerProcess, running
from tests.server.repeating import Told, repeatable, sdk, stands, told
from tests.server.rows import row_counts, stored
from tests.server.streaming import opened, post
from tests.server.wire import problem

WAYS = ("json", "stream", "sdk", "sdk and header")
TOLD_AGAIN = (
    "response", "turn_id", "conversation_id", "token_usage", "context_metadata", "fallback_used", "warnings", "saved",
    *AGENT_FIELDS,
)  # fmt: skip


@pytest.fixture(scope="module")
def model() -> Iterator[AnsweringModel]:
    with answering_model() as host:
        yield host


@pytest.fixture(scope="module")
def server(model: AnsweringModel, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with running(tmp_path_factory.mktemp("data"), OPENAI_BASE_URL=model.url) as process:
        yield process


@pytest.fixture(scope="module")
def host() -> Iterator[Neighbour]:
    """The scripted model, which speaks as the agent's model must."""
    with model_host() as neighbour:
        yield neighbour


@pytest.fixture(scope="module")
def agent(host: Neighbour, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    settings = {"OPENAI_BASE_URL": f"{host.url}/v1", "ENABLE_CONVERSATION_AGENT": "true"}
    with running(tmp_path_factory.mktemp("agent"), **settings) as process:
        yield process


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def is_repeat(again: Told, first: Told) -> None:
    """Check that an answer is an earlier one, told again in a turn of its own."""
    assert first["replayed"] is None
    assert again["replayed"]["trace_id"] == first["trace_id"] != again["trace_id"]
    assert again["replayed"]["performance_metrics"].items() <= first["performance_metrics"].items()
    assert again["performance_metrics"]["db_fetch_time"] != first["performance_metrics"]["db_fetch_time"]
    assert not again["performance_metrics"].get("llm_response_time")
    told_before = {name: first[name] for name in TOLD_AGAIN if name in first}
    assert {name: again[name] for name in told_before} == told_before


def test_the_same_key_tells_the_same_answer(server: ServerProcess, model: AnsweringModel, way: str) -> None:
    """Again and again: the same turn, with everything that was told of it; the model is asked once, two rows stand."""
    question = f"Again {way}"
    first, second, third = (
        told(repeatable(server, way, question, f"again {way}", user="ann", project_id=None)) for _ in range(3)
    )
    is_repeat(second, first)
    is_repeat(third, first)
    assert (first["response"], model.asked(question)) == (whole(question), 1)
    assert first["token_usage"]["total_tokens"] == 14
    stands(server.data_dir, first, question)
    assert server.lines("turn.finished", turn_id=first["turn_id"], trace_id=second["trace_id"])[0]["outcome"] == "ok"


def test_a_project_is_told_again(server: ServerProcess) -> None:
    """What an answer knew of a project, and of the history, is what it knew then, though both have grown."""
    asked = {"user": "demo", "page_id": "project-1"}
    told(repeatable(server, "json", "Before", "before", **asked))
    first = told(repeatable(server, "json", "Of my project", "project", **asked))
    told(repeatable(server, "json", "After", "after", **asked))
    again = told(repeatable(server, "json", "Of my project", "project", **asked))
    is_repeat(again, first)
    assert (again["context_metadata"]["project_id"], again["context_metadata"]["history_count"]) == (1, 2)


def test_the_key_counts_and_not_the_way(server: ServerProcess, model: AnsweringModel) -> None:
    """What was answered as JSON is told again as a stream, to our body and to the SDK's with the key in the header."""
    first = told(repeatable(server, "json", "One key", "one", user="ways", page_id="page-1"))
    for way in ("stream", "sdk and header"):
        is_repeat(told(repeatable(server, way, "One key", "one", user="ways", page_id="page-1")), first)
    assert model.asked("One key") == 1


@pytest.mark.parametrize("way", ["agent", "agent by rules", "json", "stream"])
def test_the_agents_answer_is_told_again(agent: ServerProcess, host: Neighbour, way: str) -> None:
    """Its own endpoint, and `/chat` through it: all that the agent added comes again, and nobody is asked."""
    question = f"My topic is too broad. How do I narrow it? {AT_ONCE}"
    first = told(repeatable(agent, way, question, "agent", user=f"agent{len(way)}"))
    asked = len(host.heard)
    again = told(repeatable(agent, way, question, "agent", user=f"agent{len(way)}"))
    is_repeat(again, first)
    assert len(host.heard) == asked
    assert again["support_type"]
    assert again["decision_metadata"]


def test_another_message_under_the_key(server: ServerProcess, model: AnsweringModel, way: str) -> None:
    """It is refused with 422, in the form that its reader can show, and nothing of the first turn changes."""
    first = told(repeatable(server, way, f"This {way}", f"that {way}", user="mismatch"))
    response = repeatable(server, way, "Another", f"that {way}", user="mismatch")
    refused(response, way, 422, "idempotency_mismatch")
    assert model.asked("Another") == 0
    stands(server.data_dir, first, f"This {way}")


def refused(response: httpx.Response, way: str, status: int, code: str) -> None:
    """Check that a request was refused as `problem+json`, or, with the SDK's body, in plain words."""
    if not way.startswith("sdk"):
        problem(response, status, code)
        return
    assert (response.status_code, response.headers["content-type"]) == (status, "text/plain; charset=utf-8")
    assert response.text.splitlines()[0] == KINDS[code].detail
    assert response.headers["x-error-code"] == code


def test_another_conversation_under_the_key(server: ServerProcess) -> None:
    """The same message in another conversation is no repeat: 422, and not the other conversation's answer."""
    told(repeatable(server, "json", "Where?", "where", user="pages", page_id="one"))
    problem(repeatable(server, "json", "Where?", "where", user="pages", page_id="two"), 422, "idempotency_mismatch")


def test_another_users_key_is_another_turn(server: ServerProcess, model: AnsweringModel, way: str) -> None:
    """Two users with one key, message and page have two turns and two answers."""
    question = f"Mine {way}"
    both = [told(repeatable(server, way, question, f"mine {way}", user=user)) for user in ("eve", "bob")]
    assert both[0]["turn_id"] != both[1]["turn_id"]
    assert [each["response"] for each in both] == [whole(question), whole(question, 2)]
    assert [each["replayed"] for each in both] == [None, None]
    for each in both:
        stands(server.data_dir, each, question)


@pytest.mark.parametrize("way", ["json", "stream", "sdk and header", "agent"])
@pytest.mark.parametrize("key", ["", "k" * 256])
def test_a_key_that_is_none(server: ServerProcess, way: str, key: str) -> None:
    """Empty or too long: 422, the header is named, nothing is stored."""
    before = row_counts(server.data_dir)
    response = repeatable(server, way, "Key", key, user="keys")
    refused(response, way, 422, "invalid_request")
    said = response.text if way.startswith("sdk") else response.json()["errors"][0]
    assert "Idempotency-Key: must have 1 to 255 characters" in said
    assert row_counts(server.data_dir) == before


def test_the_longest_key(server: ServerProcess) -> None:
    """255 characters are a key, and the last of them counts."""
    keys = ["k" * 254 + last for last in "ab"]
    turns = [told(repeatable(server, "json", "Long", key, user="long")) for key in (*keys, keys[0])]
    assert turns[0]["turn_id"] == turns[2]["turn_id"] != turns[1]["turn_id"]


def test_while_it_runs(server: ServerProcess, model: AnsweringModel, way: str) -> None:
    """The same turn a second time is 409 with `Retry-After`, whichever way it is asked; afterwards it is told again."""
    question = f"Meanwhile {way}"
    model.holds.add((question, 1))
    with ThreadPoolExecutor(1) as pool:
        running_turn = pool.submit(repeatable, server, way, question, f"meanwhile {way}", user="runs")
        model.wait_for(question)
        response = repeatable(server, way, question, f"meanwhile {way}", user="runs")
        refused(response, way, 409, "turn_in_progress")
        assert response.headers["retry-after"] == "1"
        model.let_go(question)
        first = told(running_turn.result())
    is_repeat(told(repeatable(server, way, question, f"meanwhile {way}", user="runs")), first)
    assert model.asked(question) == 1


@pytest.mark.parametrize("way", ["json", "sdk and header"])
def test_while_it_runs_though_its_client_left(server: ServerProcess, model: AnsweringModel, way: str) -> None:
    """A turn that goes on without its client is still that turn: 409, then its whole answer."""
    question, key = f"Goes on {way}", f"goes on {way}"
    model.holds.add((question, 1))
    with opened(
        server, question, user="gone", headers={"idempotency-key": key}, page_id="page-1", on_disconnect="continue"
    ) as answer:
        answer.deltas(1)
    refused(repeatable(server, way, question, key, user="gone", page_id="page-1"), way, 409, "turn_in_progress")
    model.let_go(question)
    server.wait_for_log("turn.finished", turn_id=answer.read[0]["messageId"])
    again = told(repeatable(server, way, question, key, user="gone", page_id="page-1"))
    assert (again["response"], again["turn_id"]) == (whole(question), answer.read[0]["messageId"])
    assert again["replayed"]["trace_id"] == answer.read[0]["messageMetadata"]["trace_id"]
    assert model.asked(question) == 1


def test_one_that_was_cut_short_is_asked_again(server: ServerProcess, model: AnsweringModel) -> None:
    """Its client left half-way: under the key the model is asked anew, knows none of its half, and the whole stands."""
    question, key = "Half", {"idempotency-key": "half"}
    told(repeatable(server, "json", "Before half", "before", user="half"))
    model.holds.add((question, 1))
    with opened(server, question, user="half", headers=key) as answer:
        answer.deltas(1)
    turn_id = answer.read[0]["messageId"]
    server.wait_for_log("turn.finished", turn_id=turn_id)
    (_, cut) = stored(server.data_dir, turn_id=turn_id)
    assert (cut["message"], cut["context_data"]["finish"]) == (half((question, 1)), "cancelled")
    told(repeatable(server, "json", "Between", "between", user="half"))
    again = told(repeatable(server, "json", question, "half", user="half"))
    assert (again["turn_id"], again["response"], again["replayed"]) == (turn_id, whole(question, 2), None)
    known = ["Before half", whole("Before half"), "Between", whole("Between")]
    assert model.prompt(question, 2) == [*known, question]
    assert again["context_metadata"]["history_count"] == 4
    stands(server.data_dir, again, question)


def test_one_that_failed_is_asked_again(server: ServerProcess, model: AnsweringModel, way: str) -> None:
    """The model refused: the answer's row is empty, and the one of the next try stands in its place."""
    question = f"Fails {way}"
    model.refuses.add((question, 1))
    failed = repeatable(server, way, question, f"fails {way}", user="fails")
    assert failed.status_code == (502 if way == "json" else 200)
    turn_id = failed.json()["turn_id"] if way == "json" else read_stream(failed.content).message_id
    (_, empty) = stored(server.data_dir, turn_id=turn_id)
    assert empty["context_data"]["finish"] == "error"
    again = told(repeatable(server, way, question, f"fails {way}", user="fails"))
    assert (again["turn_id"], again["response"]) == (empty["turn_id"], whole(question, 2))
    assert (again["saved"], again["replayed"], again["warnings"]) == ("database", None, [])
    stands(server.data_dir, again, question)
    is_repeat(told(repeatable(server, way, question, f"fails {way}", user="fails")), again)


def ask_as_sdk(server: ServerProcess, message: str, question_id: str, chat: str, **fields: Any) -> Told:
    return told(post(server, sdk(message, question_id, chat, **fields), path="/chat", user="sdk"))


@pytest.mark.parametrize(
    "fields",
    [{"trigger": "regenerate-message"}, {"trigger": "regenerate-message", "messageId": "q1"}, {"messageId": "q1"}],
)
def test_asked_anew_is_no_repeat(server: ServerProcess, fields: dict[str, str]) -> None:
    """Regenerating twice, or trying again twice, is a new turn each time, though the question's id is the same."""
    chat = str(sorted(fields))
    turns = [ask_as_sdk(server, "Anew", "q1", chat), *(ask_as_sdk(server, "Anew", "q1", chat, **fields) for _ in "ab")]
    assert len({turn["turn_id"] for turn in turns}) == 3
    assert len({turn["response"] for turn in turns}) == 3
    assert [turn["replayed"] for turn in turns] == [None] * 3


def test_a_regeneration_under_a_key_is_told_again(server: ServerProcess) -> None:
    """With a header, regenerating too can be repeated: one new turn, which replaces the first."""
    anew = sdk("Once more", "q1", "keyed", trigger="regenerate-message")
    first = ask_as_sdk(server, "Once more", "q1", "keyed")
    turns = [told(post(server, anew, user="sdk", **{"idempotency-key": "anew"})) for _ in range(2)]
    is_repeat(turns[1], turns[0])
    (question, _) = stored(server.data_dir, turn_id=turns[0]["turn_id"])
    assert question["context_data"]["regenerates"] == first["turn_id"]


def test_an_id_of_the_sdk_is_one_chats(server: ServerProcess) -> None:
    """The same message id in another chat, or as the key of a header, is another turn."""
    turns = [ask_as_sdk(server, "Chats", "q9", chat) for chat in ("here", "there")]
    turns.append(told(repeatable(server, "json", "Chats", "q9", user="sdk", page_id="here")))
    assert len({turn["turn_id"] for turn in turns}) == 3


def test_without_a_key_nothing_is_a_repeat(server: ServerProcess, model: AnsweringModel) -> None:
    """The same message twice is two turns, whose ids are random."""
    turns = [server.answer("Twice", user="plain") for _ in range(2)]
    assert {uuid.UUID(turn["turn_id"]).version for turn in turns} == {4}
    assert model.asked("Twice") == 2
