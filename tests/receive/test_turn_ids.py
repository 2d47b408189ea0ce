"""The id of a turn: made of a key where there is one, so that a repeat comes to the same turn; else random."""

import json
import uuid
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import CallerFault
from app.receive.payload import MAX_NAME_CHARS, PayloadRules, parse_agent, read_chat, read_json, turn_id
from app.receive.ui_messages import read_ui, ui_turn
from app.turn import TurnRequest

RULES = PayloadRules(max_message_chars=2000)
BODY = json.dumps({"message": "Why?"}).encode()
names = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=12) | st.sampled_from(
    ["1", ":", "1:a", "a:1", "key", "chat", "2:ab:key:c", "1:a:chat:1:b"]
)


def by_sdk(
    question_id: str = "q1", chat: str = "page-1", *, user: str = "u1", text: str = "Why?", key: str | None = None,
    **fields: Any,
) -> TurnRequest:  # fmt: skip
    question = {"id": question_id, "role": "user", "parts": [{"type": "text", "text": text}]}
    body = {"id": chat, "messages": [question], "trigger": "submit-message"} | fields
    return ui_turn(read_ui(body, RULES), user, RULES, key)


def test_the_same_key_is_the_same_turn() -> None:
    """Whichever body it comes with, and whatever that asks."""
    other = json.dumps({"message": "Why not?", "page_id": "notes"}).encode()
    turns = [
        read_chat(read_json(BODY), "u1", RULES, "k"),
        read_chat(read_json(other), "u1", RULES, "k"),
        parse_agent(BODY, "u1", RULES, "k")[0],
        by_sdk(key="k"),
        by_sdk("q2", "page-2", text="Why not?", trigger="regenerate-message", key="k"),
    ]
    assert {turn.turn_id for turn in turns} == {turn_id("u1", "k")}
    assert all(turn.may_repeat for turn in turns)


def test_ids_do_not_change_between_versions() -> None:
    """A repeat may come after an upgrade: what the ids are made of is fixed."""
    assert turn_id("u1", "k") == uuid.UUID("e80e84be-b362-59e3-bb54-6c0eb1aa1ce1")
    assert by_sdk().turn_id == uuid.UUID("d6ecd859-7e22-51d2-91cd-6b3812a1577b")


def test_without_a_key_ids_are_random() -> None:
    """Each request is a turn of its own, which nobody can have asked for before."""
    turns = [
        *(read_chat(read_json(BODY), "u1", RULES) for _ in range(2)),
        *(parse_agent(BODY, "u1", RULES)[0] for _ in range(2)),
    ]
    assert len({turn.turn_id for turn in turns}) == 4
    assert not any(turn.may_repeat for turn in turns)


@given(st.lists(st.tuples(names, names), min_size=2, max_size=2, unique=True))
def test_another_user_or_key_is_another_turn(pairs: list[tuple[str, str]]) -> None:
    """However user and key are put together."""
    first, second = (turn_id(user, key) for user, key in pairs)
    assert first != second


@given(st.lists(st.tuples(names, names, names), min_size=2, max_size=2, unique=True))
def test_another_user_chat_or_question_is_another_turn(asked: list[tuple[str, str, str]]) -> None:
    """A question's id names a turn of its user's chat, and is no key of the user's."""
    first, second = (by_sdk(question, chat, user=user) for user, chat, question in asked)
    assert first.turn_id != second.turn_id
    user, _chat, question = asked[0]
    assert first.turn_id != turn_id(user, question)
    assert first.may_repeat


@pytest.mark.parametrize(
    "other", [by_sdk("q2"), by_sdk(chat="page-2"), by_sdk(user="u2"), by_sdk("page-1", "q1"), by_sdk("u1", user="q1")]
)
def test_each_of_the_three_counts(other: TurnRequest) -> None:
    """User, chat and question, and which of them is which."""
    assert other.turn_id != by_sdk().turn_id


@pytest.mark.parametrize(
    "pairs", [(("u1", "k"), ("u2", "k")), (("u1", "k"), ("u1", "l")), (("a:b", "c"), ("a", "b:c"))]
)
def test_both_user_and_key_count(pairs: tuple[tuple[str, str], tuple[str, str]]) -> None:
    """Neither runs into the other."""
    first, second = (turn_id(user, key) for user, key in pairs)
    assert first != second


def test_a_new_question_is_the_same_turn_again() -> None:
    """The SDK's id of a new question in its chat names the turn, whatever else the body holds."""
    turns = [by_sdk(), by_sdk(text="Another text"), by_sdk(project_id=1), by_sdk(messageId=None)]
    assert len({turn.turn_id for turn in turns}) == 1


@pytest.mark.parametrize(
    "fields",
    [
        {"trigger": "regenerate-message"},
        {"trigger": "regenerate-message", "messageId": "q1"},
        {"messageId": "q1"},
        {"messageId": "another"},
    ],
)
def test_what_is_asked_anew_is_a_new_turn_each_time(fields: dict[str, Any]) -> None:
    """Regenerated, edited or tried again, the question keeps its id, which therefore names no turn."""
    turns = [by_sdk(**fields), by_sdk(**fields), by_sdk()]
    assert len({turn.turn_id for turn in turns}) == 3
    assert [turn.may_repeat for turn in turns] == [False, False, True]


@pytest.mark.parametrize("key", ["", "k" * (MAX_NAME_CHARS + 1)])
def test_what_is_no_key_is_refused(key: str) -> None:
    """By every body, and the header is named."""
    for ask in (
        lambda: read_chat(read_json(BODY), "u1", RULES, key),
        lambda: parse_agent(BODY, "u1", RULES, key),
    ):
        with pytest.raises(CallerFault) as caught:
            ask()
        assert caught.value.code == "invalid_request"
        assert caught.value.fields == (f"Idempotency-Key: must have 1 to {MAX_NAME_CHARS} characters",)
    with pytest.raises(CallerFault):
        by_sdk(key=key)


@pytest.mark.parametrize("key", ["k", "k" * MAX_NAME_CHARS, " ", "質問"])
def test_what_is_a_key(key: str) -> None:
    """From one character to the most that a name may have."""
    assert turn_id("u1", key).version == 5
