"""The AI SDK's useChat against the real server: what its user sees of turns, errors, stops and resumes."""

from collections.abc import Callable
from pathlib import Path
from signal import SIGTERM

import pytest

from tests.front_end.driver import SDKS, Seen, Step, drive, program
from tests.server.process import AT_ONCE, ServerProcess, running
from tests.server.rows import turn_rows
from tests.server.streaming import STALLS, opened

NEWEST = ("sdk5", "sdk6")
HOLDS = "Hold on [[fault: stall after=3 for=1.5]]"
STOP = {"stop_after": 5}
HISTORY = "/chat/history?page_id=page-1&format=ui"
Played = tuple[list[Seen], ServerProcess]


def send(text: str, **more: object) -> Step:
    return {"do": "send", "text": text, **more}


CONVERSATION: dict[str, Step] = {
    "first": send("What is a river? [[fault: slow first=0.05 each=0.005]]"),
    "second": send(f"And a lake? {AT_ONCE}"),
    "failed": send("Fail, please [[fault: error after=3]]"),
    "edited": {"do": "edit", "index": 4, "text": f"And a sea? {AT_ONCE}"},
    "asked again": {"do": "regenerate"},
    "empty": send(" "),
    "left": send("Hold on [[fault: stall after=3]]", **STOP),
    "after it": send(f"Go on {AT_ONCE}"),
    "stopped": send("Hold on again [[fault: stall after=3]]", **STOP, stop="/chat/page-1/stop"),
    "after that": send(f"And on {AT_ONCE}"),
    "earlier": {"do": "regenerate", "index": 1},
}
Conversation = Callable[[str], Seen]


@pytest.fixture(
    scope="module", params=[name if name in NEWEST else pytest.param(name, marks=pytest.mark.soak) for name in SDKS]
)
def sdk(request: pytest.FixtureRequest) -> str:
    program("drive.mjs")
    return str(request.param)


@pytest.fixture(scope="module")
def played(sdk: str, tmp_path_factory: pytest.TempPathFactory) -> Played:
    with running(tmp_path_factory.mktemp("data")) as server:
        return drive(sdk, server.url, "demo", [*CONVERSATION.values()]), server


@pytest.fixture(scope="module")
def step(played: Played) -> Conversation:
    """What a step of CONVERSATION came to."""
    return dict(zip(CONVERSATION, played[0], strict=True)).__getitem__


def known(seen: Seen) -> int:
    """Return how many messages the prompt of the last answer had."""
    return int(seen.messages[-1]["metadata"]["context_metadata"]["history_count"])


def test_text_grows_and_figures_come(step: Conversation, played: Played) -> None:
    """The answer is seen to grow; the message is the stored turn, with timings, tokens and where it is saved."""
    seen = step("first")
    assert (seen.status, seen.error) == ("ready", None)
    assert len(seen.growth) > 10
    assert all(later.startswith(earlier) for earlier, later in zip(seen.growth, seen.growth[1:], strict=False))
    _, answer = seen.messages
    metadata = answer["metadata"]
    assert metadata["turn_id"] == answer["id"]
    assert 0 < metadata["performance_metrics"]["time_to_first_token"] < metadata["performance_metrics"]["total_time"]
    assert (metadata["saved"], metadata["warnings"]) == ("database", [])
    assert metadata["token_usage"]["total_tokens"] > 0
    question, stored = turn_rows(played[1].data_dir, answer["id"])
    assert (question["context_data"]["message_id"], stored["message"]) == (seen.messages[0]["id"], seen.texts[1])
    shown = {(each["data"]["stage"], each["data"]["state"]) for each in seen.data if each["type"] == "data-stage"}
    assert shown >= {("db_fetch", "done"), ("llm", "running"), ("llm", "done"), ("db_save", "done")}
    assert known(step("second")) == 2


def test_an_error_is_a_sentence_and_the_half_answer_stays(step: Conversation) -> None:
    """A model that breaks off is an error on the page, with the text so far."""
    seen = step("failed")
    assert (seen.status, seen.error) == ("error", "The model could not answer. Please try again.")
    assert seen.texts[-1]
    assert seen.messages[-1]["metadata"]["error"]["code"] == "model_error"
    assert seen.messages[-1]["metadata"]["error"]["retryable"] is True


def test_editing_and_asking_again(step: Conversation, played: Played) -> None:
    """Each takes the place of the turn before, on the page and in the prompt, and its rows say of which."""
    failed, edited, again = step("failed"), step("edited"), step("asked again")
    assert [len(seen.messages) for seen in (failed, edited, again)] == [6] * 3
    assert [known(seen) for seen in (edited, again)] == [4, 4]
    for before, after in ((failed, edited), (edited, again)):
        question, _ = turn_rows(played[1].data_dir, after.messages[-1]["id"])
        assert question["context_data"]["regenerates"] == before.messages[-1]["id"]


def test_a_refusal_is_a_sentence(step: Conversation) -> None:
    """An empty message is refused before its stream, in words."""
    assert (step("empty").status, step("empty").error) == ("error", "The message is empty.")


def test_a_limit_and_a_full_line_are_sentences(sdk: str, tmp_path: Path) -> None:
    """The real server's 429 and 503: the page shows what each means, no answer begins, and it may go on later."""
    settings = {"OPENAI_API_POOL_SIZE": "1", "LLM_QUEUE_MAX": "0"}
    limit = {"ENABLE_CHAT_RATE_LIMIT": "true", "CHAT_RATE_LIMIT_MAX": "2", "CHAT_RATE_LIMIT_WINDOW_SEC": "600"}
    steps: list[Step] = [send(f"One {AT_ONCE}"), send(f"Two {AT_ONCE}"), send(f"Three {AT_ONCE}")]
    with running(tmp_path, **settings, **limit) as server:
        answered, _, limited = drive(sdk, server.url, "demo", steps)
        with opened(server, STALLS, user="slow") as slow:
            slow.deltas(1)
            (full,) = drive(sdk, server.url, "late", steps[:1])
    assert (answered.status, answered.error) == ("ready", None)
    for seen, status, code, sentence in (
        (limited, 429, "rate_limited", "That was too fast. Please wait a moment and try again."),
        (full, 503, "overloaded", "Many people are asking right now. Please try again shortly."),
    ):
        (answer,) = seen.answers
        assert (seen.status, seen.error, seen.messages[-1]["role"]) == ("error", sentence, "user")
        assert (answer["status"], answer["headers"]["x-error-code"]) == (status, code)
        assert int(answer["headers"]["retry-after"]) >= 1


@pytest.mark.parametrize(("name", "after"), [("left", "after it"), ("stopped", "after that")])
def test_a_stopped_answer_stays_and_the_conversation_goes_on(
    step: Conversation, played: Played, name: str, after: str
) -> None:
    """By the SDK's own stop or by ours: no error, the text so far stays and is stored, the next turn knows of it."""
    seen = step(name)
    assert (seen.status, seen.error) == ("ready", None)
    answer = seen.messages[-1]
    _, stored = turn_rows(played[1].data_dir, answer["id"])
    assert stored["context_data"]["finish"] == "cancelled"
    assert stored["message"].startswith(seen.texts[-1]), "a page that leaves may not have read all of it"
    assert step(after).status == "ready"
    assert known(step("after that")) == 12, "both are known to the next turn"


def test_an_earlier_answer_is_asked_for_again(step: Conversation, played: Played) -> None:
    """All that came after it is gone, from the page and from the prompt."""
    seen = step("earlier")
    assert (len(seen.messages), known(seen)) == (2, 0)
    question, _ = turn_rows(played[1].data_dir, seen.messages[-1]["id"])
    assert question["context_data"]["regenerates"] == step("first").messages[1]["id"]


def test_the_end_of_the_chat_is_all_that_need_be_sent(sdk: str, tmp_path: Path) -> None:
    """The server has its own history: what follows, is asked again, edited or tried again is the same turn as ever."""
    steps: list[Step] = [
        *(send(f"{word} {AT_ONCE}") for word in ("One", "Two")),
        {"do": "regenerate"},
        send("Hold on [[fault: stall after=3]]", **STOP),
        {"do": "again"},
        {"do": "edit", "index": 2, "text": f"Two, but shorter {AT_ONCE}"},
    ]
    with running(tmp_path, LLM_IDLE_TIMEOUT="1") as server:
        whole = drive(sdk, server.url, "demo", steps, chat="whole")
        ends = drive(sdk, server.url, "demo", steps, chat="ends", last_only=True)
    assert [len(seen.requests[0]["body"]["messages"]) for seen in whole] == [1, 3, 3, 5, 6, 3]
    assert [len(seen.requests[0]["body"]["messages"]) for seen in ends] == [1, 2, 2, 2, 2, 2]
    assert [(seen.status, len(seen.messages)) for seen in ends] == [(seen.status, len(seen.messages)) for seen in whole]
    assert [known(seen) for seen in (ends[0], ends[1], ends[2], ends[5])] == [0, 2, 2, 2]


def test_a_page_that_comes_back_sees_the_whole_answer(sdk: str, tmp_path: Path) -> None:
    """With `on_disconnect: continue` the turn goes on; resuming brings all of it; then there is nothing to resume.

    In its last text part, as in test_front_end.py: the SDK may keep what it had.
    """
    with running(tmp_path) as server:
        server.answer(f"First {AT_ONCE}")
        left, resumed, again = drive(
            sdk, server.url, "demo", [send(HOLDS, **STOP), {"do": "resume"}, {"do": "resume"}],
            body={"on_disconnect": "continue"},
        )  # fmt: skip
        turn_id = left.messages[-1]["id"]
        _, stored = turn_rows(tmp_path, turn_id)
    assert (resumed.status, resumed.error) == ("ready", None)
    assert resumed.messages[-1]["id"] == turn_id
    assert resumed.texts[-1].split("|")[-1] == stored["message"]
    assert stored["message"].startswith(left.texts[-1])
    assert (stored["context_data"]["finish"], resumed.messages[-1]["metadata"]["saved"]) == ("stop", "database")
    assert [seen.answers[0]["status"] for seen in (resumed, again)] == [200, 204]


def on_screen(seen: Seen) -> list[tuple[str, str, str]]:
    """Return what a page shows, and what it knows its messages by."""
    return [(each["id"], each["role"], text) for each, text in zip(seen.messages, seen.texts, strict=True)]


def test_a_new_page_starts_from_the_history(sdk: str, tmp_path: Path) -> None:
    """It shows what the old one did, goes on from there, asks again and edits; and so does the page after it."""
    with running(tmp_path) as server:
        *_, old = drive(sdk, server.url, "demo", [send(f"One {AT_ONCE}"), send(f"Two {AT_ONCE}")])
        new, third, again, edited, fourth, newest = drive(
            sdk, server.url, "demo",
            [
                {"do": "reload"}, send(f"Three {AT_ONCE}"), {"do": "regenerate"},
                {"do": "edit", "index": 2, "text": f"And two? {AT_ONCE}"}, send(f"Four {AT_ONCE}"), {"do": "reload"},
            ],
            history=HISTORY,
        )  # fmt: skip
    assert on_screen(new) == on_screen(old)
    for was, now in zip(old.messages, new.messages, strict=True):
        kept = {"conversation_id", "turn_id", "trace_id", "token_usage"} & was.get("metadata", {}).keys()
        assert {name: now["metadata"][name] for name in kept} == {name: was["metadata"][name] for name in kept}
    counts = [(known(seen), len(seen.messages)) for seen in (third, again, edited, fourth)]
    assert counts == [(4, 6), (4, 6), (2, 4), (4, 6)]
    for before, after in ((third, again), (old, edited)):
        question, _ = turn_rows(tmp_path, after.messages[-1]["id"])
        assert question["context_data"]["regenerates"] == before.messages[-1]["id"]
    assert on_screen(newest) == on_screen(fourth)
    assert fourth.texts[::2] == [f"{text} {AT_ONCE}" for text in ("One", "And two?", "Four")]


def test_a_new_page_does_not_show_an_answer_twice(sdk: str, tmp_path: Path) -> None:
    """A turn that ended with nobody there is in the history, so the page that resumes after it finds nothing."""
    with running(tmp_path) as server:
        with opened(
            server, "Hold on [[fault: stall after=3 for=0.5]]", page_id="page-1", on_disconnect="continue"
        ) as left:
            seen = left.deltas(1)
        turn_id = left.read[0]["messageId"]
        server.wait_for_log("turn.finished", turn_id=turn_id)
        server.wait_for_gauge("edge_turns_inflight", 0)
        (new,) = drive(sdk, server.url, "demo", [{"do": "wait"}], history=HISTORY, resume=True)
    _, stored = turn_rows(tmp_path, turn_id)
    assert on_screen(new)[1:] == [(turn_id, "assistant", stored["message"])]
    assert stored["message"] != seen, "it went on when its page had gone"
    assert [answer["status"] for answer in new.answers] == [204]
    assert new.error is None


def test_a_server_that_ends_says_so(sdk: str, tmp_path: Path) -> None:
    """Its 503 is a readable sentence."""
    with running(tmp_path, DRAIN_GRACE="5") as server:
        server.send_signal(SIGTERM)
        server.wait_for_log("server.draining")
        (seen,) = drive(sdk, server.url, "demo", [send("Too late?")])
    assert (seen.status, seen.answers[0]["status"]) == ("error", 503)
    assert seen.error == "The server is restarting. Please try again shortly."
