"""The AI SDK's bodies: the question and what it replaces come out, a wrong one names its fields and parts."""

import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import CallerFault
from app.receive.payload import PayloadRules, read_json
from app.receive.ui_messages import FAR_BACK, MOST_NAMED, UiRequest, is_ui_body, read_ui, ui_turn

RULES = PayloadRules(max_message_chars=2000)
QUESTION, ANSWER = "fquyJNEUG2AtInR4", "f244fb7a-877d-48fd-8e4b-69e31c4f79cb"
IMAGE = {"type": "file", "mediaType": "image/png", "url": "data:image/png;base64,AAAA"}


def user(text: Any = "Why?", message_id: Any = QUESTION, **more: Any) -> dict[str, Any]:
    return {"parts": [{"type": "text", "text": text}], "id": message_id, "role": "user", **more}


def assistant(text: str = "Because.") -> dict[str, Any]:
    parts = [{"type": "step-start"}, {"type": "data-stage", "data": {}}, {"type": "text", "text": text}]
    return {"id": ANSWER, "role": "assistant", "parts": parts, "metadata": {"turn_id": ANSWER}}


def body(*messages: Any, **fields: Any) -> dict[str, Any]:
    return {"id": "page-1", "messages": list(messages), "trigger": "submit-message"} | fields


def parse(value: Any) -> UiRequest:
    return read_ui(read_json(value if isinstance(value, bytes) else json.dumps(value).encode()), RULES)


def refusal(value: Any) -> CallerFault:
    with pytest.raises(CallerFault) as caught:
        parse(value)
    return caught.value


REGENERATE = {"trigger": "regenerate-message"}
# What the user did -> the body that the SDK makes of it; whether the question is new, and what it replaces.
BODIES: dict[str, tuple[dict[str, Any], bool, str | None]] = {
    "sendMessage({text})": (body(user()), True, None),
    "sendMessage({text}) later": (body(user("Old", "q0"), assistant(), user()), True, None),
    "sendMessage({text, messageId})": (body(user(), messageId=QUESTION), False, QUESTION),
    "sendMessage() after a question": (body(user(), messageId=QUESTION), False, QUESTION),
    "sendMessage() after an answer": (body(user(), assistant("Bec"), messageId=ANSWER), False, ANSWER),
    "regenerate()": (body(user(), **REGENERATE), False, QUESTION),
    "regenerate({messageId}) of an answer": (body(user(), messageId=ANSWER, **REGENERATE), False, ANSWER),
    "regenerate({messageId}) of a question": (body(user(), messageId=QUESTION, **REGENERATE), False, QUESTION),
}


@pytest.mark.parametrize("name", BODIES)
def test_what_a_body_asks_for(name: str) -> None:
    """Chat id, question and its id always come out, and which message's turn gives way."""
    sent, is_new, replaces = BODIES[name]
    asked = parse(sent)
    assert (asked.chat_id, asked.question, asked.question_id) == ("page-1", "Why?", QUESTION)
    assert (asked.is_new, asked.replaces) == (is_new, replaces)
    assert (asked.trigger, asked.target) == (sent["trigger"], sent.get("messageId"))


def test_the_front_ends_own_fields() -> None:
    """Fields that a transport's `body` adds are taken where we know them, else ignored, as is null."""
    more = {"on_disconnect": "continue", "project_id": 12, "page_id": "project-12", "context": " page ", "model": 4}
    asked = parse(body(user(), **more))
    assert (asked.on_disconnect, asked.project_id, asked.page_id, asked.context) == (
        "continue", "12", "project-12", "page"
    )  # fmt: skip
    plain = parse(body(user(), messageId=None, on_disconnect=None, project_id=None, page_id=None, context=None))
    assert plain == UiRequest(chat_id="page-1", question="Why?", question_id=QUESTION)


def test_several_text_parts_are_one_question() -> None:
    """They are joined by line ends; what else a text part carries is ignored."""
    parts = [
        {"type": "text", "text": " One", "state": "done"},
        {"type": "text", "text": "two.\n", "providerMetadata": 1},
    ]
    assert parse(body(user(parts=parts))).question == "One\ntwo."


def test_the_rest_of_the_history_is_not_looked_at() -> None:
    """Refused messages, parts of other kinds and nonsense before and after the question do no harm."""
    odd: list[Any] = [user(parts=[IMAGE]), None, 5, {"role": "system"}, {"role": ["user"]}, {"role": "user", "id": 7}]
    assert parse(body(*odd, user(), {"role": "assistant"}, "?")).question_id == QUESTION


WRONG: dict[str, tuple[Any, list[str]]] = {
    "no object": ([], ["the body must be an object"]),
    "no messages": ({"id": "a"}, ["messages: field required"]),
    "messages are none": (body() | {"messages": {}}, ["messages: input should be a valid list"]),
    "nobody asks": (body(assistant()), ["messages: must contain a user message"]),
    "no id": ({"messages": [user()]}, ["id: field required"]),
    "an empty id": (body(user(), id=""), ["id: must not be empty"]),
    "an id that is none": (body(user(), id=5), ["id: input should be a valid string"]),
    "an endless id": (body(user(), id="x" * 256), ["id: string should have at most 255 characters"]),
    "an endless context": (
        body(user(), context="x" * 20_001),
        ["context: string should have at most 20000 characters"],
    ),
    "another trigger": (
        body(user(), trigger="resume-stream"),
        ["trigger: input should be 'submit-message' or 'regenerate-message'"],
    ),
    "a number for a message": (body(user(), messageId=3), ["messageId: input should be a valid string"]),
    "a question without id": (
        body(assistant(), user(message_id=None)),
        ["messages.1.id: input should be a valid string"],
    ),
    "no parts": (body({"role": "user", "id": "a", "content": "Why?"}), ["messages.0.parts: field required"]),
    "an image": (
        body(user(), assistant(), user("old", "q"), user(parts=[{"type": "text", "text": "see"}, IMAGE])),
        ["messages.3.parts.1: must be text; nothing else can be answered"],
    ),
    "a part that is none": (
        body(user(parts=["Why?"])),
        ["messages.0.parts.0: must be text; nothing else can be answered"],
    ),
    "a text that is none": (body(user(5)), ["messages.0.parts.0.text: input should be a valid string"]),
    "NUL": (body(user("a\0")), ["messages.0.parts.0.text: must not contain NUL"]),
    "half a character": (body(user("\ud83d")), ["messages.0.parts.0.text: must not contain a lone surrogate"]),
    "another wish": (body(user(), on_disconnect="stay"), ["on_disconnect: input should be 'cancel' or 'continue'"]),
    "all at once": (
        body(user(parts=[IMAGE]), id=None, project_id=[]),
        [
            "id: input should be a valid string",
            "project_id: input should be a valid integer, or input should be a valid string",
            "messages.0.parts.0: must be text; nothing else can be answered",
        ],
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_body_names_its_fields(name: str) -> None:
    """Each wrong field and part is 422 and named, all in one reply, without what was sent."""
    sent, fields = WRONG[name]
    fault = refusal(sent)
    assert (fault.code, list(fault.fields)) == ("invalid_request", fields)


def test_what_is_not_json_is_bad_json() -> None:
    """Text that is no JSON is 400, as everywhere."""
    assert refusal(b"{").code == "bad_json"


def test_the_question_has_the_length_of_any_message() -> None:
    """The rule of `POST /chat` counts, and nothing to ask is 400."""
    assert len(parse(body(user(" " + "質" * 2000))).question) == 2000
    assert refusal(body(user("質" * 2001))).code == "message_too_long"
    assert refusal(body(user(parts=[]))).code == refusal(body(user(" \n"))).code == "message_empty"


def test_the_two_kinds_of_body_are_told_apart() -> None:
    """`messages` makes it the SDK's; a body with a `message` is ours, whatever else an older front end sends."""
    assert is_ui_body(body(user()))
    assert not is_ui_body({"message": "Why?"})
    assert not is_ui_body({"message": "Why?", "messages": []})
    assert not is_ui_body([])


def test_a_body_of_a_megabyte_is_read_at_once() -> None:
    """Thousands of messages cost little more than reading the JSON; a reply names a bounded number of parts."""
    sent = json.dumps(body(*[user("x" * 60, f"q{i}") for i in range(5000)], *[assistant("y")] * 1500, user())).encode()
    assert 700_000 < len(sent) < 1_100_000
    seconds = []
    for _ in range(5):
        started = time.perf_counter()
        assert parse(sent).question == "Why?"
        seconds.append(time.perf_counter() - started)
    assert sorted(seconds)[2] < 0.5, seconds
    assert len(refusal(body(user(parts=[IMAGE] * 10_000))).fields) == MOST_NAMED


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.sampled_from(["user", "text", "a", "", "\0", "submit-message"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["id", "messages", "role", "parts", "type", "text", "trigger", "messageId"]),
            inner,
            max_size=5,
        )
    ),
    max_leaves=25,
)


@given(_json)
def test_any_json_is_understood_or_refused(value: Any) -> None:
    """Whatever comes, there is a request or a refusal, and nothing else."""
    try:
        assert parse(value).question
    except CallerFault as fault:
        assert fault.code in {"invalid_request", "message_empty", "message_too_long"}


UUID_CHAT = "6f2f8b0e-0000-4000-8000-000000000001"


@pytest.mark.parametrize(("chat", "is_uuid"), [("page-1", False), (UUID_CHAT, True), ("fquyJNEUG2AtInR4", False)])
def test_a_chats_id_is_looked_up_as_a_conversation_only_if_it_can_be_one(chat: str, is_uuid: bool) -> None:
    """It is the page key too, for where it is no conversation of the user's; `page_id` only names the project."""
    turn = ui_turn(parse(body(user(), id=chat, page_id="project-2")), "u1", RULES)
    assert (str(turn.conversation_id) == chat, turn.or_page) == (is_uuid, is_uuid)
    assert (turn.page_id, turn.project_page, turn.message_id, turn.replaces) == (chat, "project-2", QUESTION, None)


def test_what_a_body_leaves_open_is_a_setting() -> None:
    """What becomes of a turn whose client left, and whether the agent answers; its own word goes before the first."""
    rules = PayloadRules(max_message_chars=2000, agent_newest=50, on_disconnect="continue")
    turn = ui_turn(parse(body(user())), "u1", rules)
    assert (turn.feature, turn.newest, turn.on_disconnect) == ("agent", 50, "continue")
    assert ui_turn(parse(body(user(), on_disconnect="cancel")), "u1", rules).on_disconnect == "cancel"


def test_a_message_that_was_picked_out_is_looked_for_far_back() -> None:
    """`regenerate()` means the last answer, which is near; an id may be any message's."""
    assert ui_turn(parse(body(user(), **REGENERATE)), "u1", RULES).newest is None
    assert ui_turn(parse(body(user(), messageId=ANSWER, **REGENERATE)), "u1", RULES).newest == FAR_BACK
