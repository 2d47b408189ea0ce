"""The AI SDK's useChat, the newest and the first of lines 5 and 6, against our parts of its wire."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import trio

from tests.front_end.driver import SDKS, Seen, Step, drive, program, text_of
from tests.front_end.paper_server import METRICS, PIECES, TRACE_ID, PaperServer, paper_server

NEWEST = ("sdk5", "sdk6")
WHOLE = "".join(PIECES)
HALF = "".join(PIECES[:2])
AT_HALF = {"stop_after": len(f"Answer 1: {HALF}")}
HISTORY = "/chat/page-1/history?format=ui"
IMAGE = {"type": "file", "mediaType": "image/png", "url": "data:image/png;base64,AAAA"}
Played = tuple[list[Seen], PaperServer]


def play(sdk: str, *steps: Step, **scenario: Any) -> Played:
    """Play a scenario against a new server."""
    program("drive.mjs")  # skips here; what is raised inside trio comes out in groups

    async def run() -> Played:
        async with paper_server() as server:
            call = partial(drive, sdk, server.url, "demo", list(steps), **scenario)
            seen = await trio.to_thread.run_sync(call)
            await server.rest()
            return seen, server

    return trio.run(run)


def send(text: str, **more: Any) -> Step:
    return {"do": "send", "text": text, **more}


CONVERSATION: dict[str, Step] = {
    "first": send("What is a river?"),
    "second": send("And a lake?"),
    "failed": send("[[fail]]"),
    "asked again": {"do": "regenerate"},
    "busy": send("[[refuse 503]]"),
    "limited": send("[[refuse 429]]"),
    "image": {"do": "send", "parts": [{"type": "text", "text": "see"}, IMAGE]},
    "after it": send("In words, then."),
    "edited": {"do": "edit", "index": 2, "text": "And a sea?"},
    "tried again": {"do": "again"},
    "other answer": {"do": "regenerate", "index": 1},
    "other answer to": {"do": "regenerate", "index": 0},
}
Conversation = Callable[[str], Seen]


@pytest.fixture(scope="module", params=SDKS)
def sdk(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=[*NEWEST, *(pytest.param(name, marks=pytest.mark.soak) for name in SDKS if name not in NEWEST)])
def page(request: pytest.FixtureRequest) -> str:
    """A version for a scenario of its own: the newest ones, and under soak the first ones too."""
    return str(request.param)


@pytest.fixture(scope="module")
def played(sdk: str) -> Played:
    return play(sdk, *CONVERSATION.values())


@pytest.fixture(scope="module")
def step(played: Played) -> Conversation:
    """What a step of CONVERSATION came to."""
    return dict(zip(CONVERSATION, played[0], strict=True)).__getitem__


def test_an_answer_grows_piece_by_piece(step: Conversation) -> None:
    """Each piece is on the screen before the next one, and the message ends as ready."""
    seen = step("first")
    assert seen.growth == ["".join(("Answer 1: ", *PIECES[:n])) for n in range(len(PIECES) + 1)]
    assert (seen.status, seen.error, seen.texts) == ("ready", None, ["What is a river?", f"Answer 1: {WHOLE}"])
    assert step("second").texts[2:] == ["And a lake?", f"Answer 2: {WHOLE}"]


def test_metadata_and_ids_arrive(step: Conversation) -> None:
    """The message has the turn's id, and the metadata of start and finish, merged."""
    _, answer = step("first").messages
    start = {"conversation_id": "page-1", "turn_id": answer["id"], "trace_id": TRACE_ID}
    assert answer["metadata"] == start | METRICS


def test_stages_and_queue_are_shown_and_not_kept(step: Conversation) -> None:
    """Data parts reach the page live, and are no part of the message."""
    seen = step("first")
    assert seen.data == [
        {"type": "data-stage", "data": {"stage": "db_fetch", "state": "done", "at": 0.0, "seconds": 0.03}},
        {"type": "data-queue", "data": {"position": 1, "estimated_wait": 0.5}},
    ]
    assert [part["type"] for part in seen.messages[1]["parts"]] == ["step-start", "text"]


def test_a_failed_turn_is_an_error_with_the_text_so_far(step: Conversation) -> None:
    """The page shows the sentence; the half answer stays, with what the failure's metadata says."""
    seen = step("failed")
    assert (seen.status, seen.error) == ("error", "The model could not answer. Please try again.")
    assert seen.texts[-1] == f"Answer 3: {HALF}"
    assert seen.messages[-1]["metadata"]["error"] == {"code": "model_error", "retryable": True}


def test_regenerating_takes_the_place_of_the_answer(step: Conversation) -> None:
    """The half answer is gone from the screen; the new one stands in its place, under an id of its own."""
    before, after = step("failed"), step("asked again")
    assert len(after.messages) == len(before.messages)
    assert after.messages[-1]["id"] != before.messages[-1]["id"]


@pytest.mark.parametrize("name", ["busy", "limited"])
def test_a_refusal_is_a_readable_sentence(step: Conversation, name: str) -> None:
    """A 503 or 429 in plain text is what the page shows, and no answer begins."""
    seen = step(name)
    assert (seen.status, seen.error) == ("error", "Many people are asking right now. Please try again shortly.")
    assert seen.messages[-1]["role"] == "user"
    headers = seen.answers[0]["headers"]
    assert (headers["retry-after"], headers["x-error-code"]) == ("2", "overloaded")


def test_a_part_that_is_not_text_is_named(step: Conversation) -> None:
    """An image is refused with a sentence that names the part; the next message goes through all the same."""
    index = len(step("limited").messages)
    assert step("image").error == (
        f"Some fields are not as they should be.\nmessages.{index}.parts.1: must be text; nothing else can be answered"
    )
    assert [part["type"] for part in step("after it").body["messages"][index]["parts"]] == ["text", "file"]
    assert step("after it").status == "ready"


# Step -> trigger, and whose id `messageId` is, as an index into the messages before it; None: it is absent.
WIRE = {
    "first": ("submit-message", None),
    "second": ("submit-message", None),
    "asked again": ("regenerate-message", None),
    "edited": ("submit-message", 2),
    "tried again": ("submit-message", 3),
    "other answer": ("regenerate-message", 1),
    "other answer to": ("regenerate-message", 0),
}


@pytest.mark.parametrize("name", WIRE)
def test_what_the_sdk_sends(step: Conversation, name: str) -> None:
    """Trigger, messageId and the cut of the messages are as app/receive/ui_messages.py has it in its table."""
    trigger, index = WIRE[name]
    before = step(list(CONVERSATION)[max(0, list(CONVERSATION).index(name) - 1)]).messages
    body = step(name).body
    assert (body["id"], body["trigger"]) == ("page-1", trigger)
    assert body.get("messageId") == (None if index is None else before[index]["id"])
    assert ("messageId" in body) == (index is not None)
    if name != "tried again":
        assert body["messages"][-1]["role"] == "user"
    if name == "edited":
        assert (body["messages"][-1]["id"], text_of(body["messages"][-1])) == (before[2]["id"], "And a sea?")


def test_the_server_understands_them(played: Played) -> None:
    """Question, and the message that is replaced, come out of each body."""
    seen, server = played
    steps = dict(zip(CONVERSATION, seen, strict=True))
    by_name = {name: steps[name] for name in CONVERSATION if steps[name].answers[0]["status"] == 200}
    asked = dict(zip(by_name, server.asked, strict=True))
    lake = steps["second"].messages[2]["id"]
    assert [asked[name].question for name in by_name] == [
        "What is a river?", "And a lake?", "[[fail]]", "[[fail]]", "In words, then.",
        *["And a sea?"] * 2, *["What is a river?"] * 2,
    ]  # fmt: skip
    assert asked["asked again"].replaces == steps["failed"].messages[4]["id"] == asked["failed"].question_id
    assert asked["edited"].replaces == asked["edited"].question_id == lake
    assert asked["tried again"].replaces == steps["edited"].messages[3]["id"]
    assert [asked[name].is_new for name in ("first", "second", "failed", "edited")] == [True, True, True, False]


def test_stopping_leaves_the_text_and_the_conversation_goes_on(page: str) -> None:
    """After stop() what came so far stays, without an error, and the next question is answered."""
    (stopped, after), server = play(page, send("[[hold]]", **AT_HALF), send("Go on."))
    assert (stopped.status, stopped.error) == ("ready", None)
    assert after.texts == [*stopped.texts, "Go on.", f"Answer 2: {WHOLE}"] == [
        "[[hold]]", f"Answer 1: {HALF}", "Go on.", f"Answer 2: {WHOLE}"
    ]  # fmt: skip
    assert [len(seen.requests) for seen in (stopped, after)] == [1, 1], "the SDK tells nobody but the connection"
    assert f"Answer 1: {HALF}" in [row.message for row in server.rows["page-1"]], "leaving ended the turn"


def test_a_page_that_is_opened_again_resumes(page: str) -> None:
    """A new page starts from the stored history and follows the turn that still runs, from its start on."""
    (first, left, resumed, _, reloaded), server = play(
        page, send("Before."), send("[[hold]]", **AT_HALF), {"do": "reload"}, send("After."), {"do": "reload"},
        history=HISTORY, resume=False, resume_on_reload=True, body={"on_disconnect": "continue"},
    )  # fmt: skip
    assert resumed.texts == ["Before.", f"Answer 1: {WHOLE}", "[[hold]]", f"Answer 2: {WHOLE}"]
    assert (resumed.status, resumed.error) == ("ready", None)
    assert resumed.messages[3]["id"] == left.messages[3]["id"]
    (request,) = resumed.requests
    assert (request["method"], request["path"], request["body"]) == ("GET", "/chat/page-1/stream", None)
    assert "content-type" not in request["headers"]
    assert request["headers"]["authorization"] == "Bearer demo"
    assert resumed.messages[0]["id"] == first.messages[0]["id"], "the SDK's id of a question is kept"

    assert reloaded.answers[0]["status"] == 204
    assert reloaded.texts == [*resumed.texts, "After.", f"Answer 3: {WHOLE}"]
    assert reloaded.error is None
    assert reloaded.status == ("submitted" if page == "sdk5first" else "ready"), "5.0.0 waits for ever"
    assert len(server.asked) == 3


def test_a_turn_that_outlives_its_connection_is_stopped_or_resumed(page: str) -> None:
    """An abort part is no error: the page is ready, with the text so far. After a broken connection, which the page
    tells of, resumeStream() brings the whole answer, as the last text part of the same message.

    useChat keeps the half that it had before it, in all versions: a page should show the last text part.
    """
    (stopped, broken, resumed), _ = play(
        page, send("[[hold]]", **AT_HALF, stop="/chat/page-1/stop"), send("[[cut]]"), {"do": "resume"},
        body={"on_disconnect": "continue"},
    )  # fmt: skip
    assert (stopped.status, stopped.error, stopped.texts[1]) == ("ready", None, f"Answer 1: {HALF}")
    assert (broken.status, broken.error, broken.texts[3]) == ("error", "network error", f"Answer 2: {HALF}")
    assert (resumed.status, resumed.error) == ("ready", None)
    assert [message["role"] for message in resumed.messages] == ["user", "assistant"] * 2
    assert resumed.texts[3] == f"Answer 2: {HALF}|Answer 2: {WHOLE}"


def test_a_stored_history_is_regenerated_by_its_ids(page: str) -> None:
    """A page that starts from the history asks an answer again, and the next history has only the new one."""
    (first, _, loaded, regenerated, reloaded), server = play(
        page, send("One?"), send("Two?"), {"do": "reload"}, {"do": "regenerate", "index": 1}, {"do": "reload"},
        history=HISTORY,
    )  # fmt: skip
    assert loaded.texts == ["One?", f"Answer 1: {WHOLE}", "Two?", f"Answer 2: {WHOLE}"]
    assert loaded.messages[1]["metadata"]["performance_metrics"] == METRICS["performance_metrics"]
    assert regenerated.body["messageId"] == first.messages[1]["id"] == server.asked[2].replaces
    assert reloaded.texts == regenerated.texts == ["One?", f"Answer 3: {WHOLE}"]
