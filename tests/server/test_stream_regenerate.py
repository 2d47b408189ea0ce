"""Asking again and editing, with the AI SDK's body: which turn gives way, what is stored, and what the prompt knows."""

import uuid
from typing import Any

import pytest

from tests.respond.ui_wire import Read, read_stream
from tests.server.process import AT_ONCE, ServerProcess
from tests.server.rows import stored, turn_rows
from tests.server.streaming import post, sdk_body


def ask(server: ServerProcess, text: str, question_id: str, *, chat: str, user: str = "demo", **fields: Any) -> Read:
    """Ask as the SDK does; return the whole stream."""
    question = {"id": question_id, "role": "user", "parts": [{"type": "text", "text": f"{text} {AT_ONCE}"}]}
    response = post(server, sdk_body("", chat, messages=[question], **fields), path="/chat", user=user)
    assert response.status_code == 200, response.text
    return read_stream(response.content)


def known(read: Read) -> int:
    """Return how many messages of the conversation the prompt had."""
    return int(read.metadata["context_metadata"]["history_count"])


REGENERATE = {"trigger": "regenerate-message"}


def test_an_answer_is_asked_for_again(server: ServerProcess) -> None:
    """A new turn names the old one; its prompt does not know that one, nor does a later turn's."""
    one, two = (ask(server, f"Question {n}", f"q{n}", chat="again") for n in (1, 2))
    third = ask(server, "Question 2", "q2", chat="again", **REGENERATE)
    assert [known(each) for each in (one, two, third)] == [0, 2, 2]
    assert third.message_id != two.message_id
    question, answer = turn_rows(server.data_dir, str(third.message_id))
    assert question["context_data"]["regenerates"] == answer["context_data"]["regenerates"] == two.message_id
    assert question["context_data"]["message_id"] == "q2"
    assert known(ask(server, "Question 3", "q3", chat="again")) == 4
    assert len(stored(server.data_dir, conversation_id=question["conversation_id"])) == 8, "all rows are kept"


@pytest.mark.parametrize("named", ["answer", "question", "question as stored"])
def test_one_that_was_picked_out_is_replaced_with_all_after_it(server: ServerProcess, named: str) -> None:
    """By the answer's id or either id of the question: the turns that came after it are not in the prompt either."""
    chat = f"picked {named}"
    turns = [ask(server, f"Question {n}", f"q{n}", chat=chat) for n in range(3)]
    target = {"answer": turns[1].message_id, "question": "q1", "question as stored": f"{turns[1].message_id}:user"}
    edited = ask(server, "Edited", "q1", chat=chat, messageId=target[named])
    assert known(edited) == 2
    question, _ = turn_rows(server.data_dir, str(edited.message_id))
    assert question["context_data"]["regenerates"] == turns[1].message_id
    assert known(ask(server, "Next", "q9", chat=chat)) == 4


def test_far_back_is_found_too(server: ServerProcess) -> None:
    """A message beyond the history that a turn usually reads is found when it is picked out."""
    turns = [ask(server, f"Question {n}", f"q{n}", chat="long") for n in range(13)]
    edited = ask(server, "Edited", "q1", chat="long", messageId="q1")
    assert known(edited) == 2
    question, _ = turn_rows(server.data_dir, str(edited.message_id))
    assert question["context_data"]["regenerates"] == turns[1].message_id


def test_what_was_never_stored_is_asked_as_new(server: ServerProcess) -> None:
    """A question that had been refused, tried again: nothing is replaced."""
    read = ask(server, "Refused before", "q1", chat="refused", messageId="q1", **REGENERATE)
    question, _ = turn_rows(server.data_dir, str(read.message_id))
    assert "regenerates" not in question["context_data"]


def test_a_chats_id_is_the_users_own_conversation_or_a_page_key(server: ServerProcess) -> None:
    """A UUID of one's own conversation leads to it; another's, or nobody's, is the key of one's own new one."""
    first = server.answer(f"Mine {AT_ONCE}", user="ann", page_id="notes")["conversation_id"]
    hers = ask(server, "More", "q1", chat=first, user="ann")
    his = ask(server, "Mine?", "q1", chat=first, user="ben")
    assert (hers.metadata["conversation_id"], known(hers)) == (first, 2)
    assert (his.metadata["conversation_id"] == first, known(his)) == (False, 0)
    again = ask(server, "And mine", "q2", chat=first, user="ben")
    assert (again.metadata["conversation_id"], known(again)) == (his.metadata["conversation_id"], 2)
    by_page = ask(server, "By its page", "q2", chat="notes", user="ann")
    assert (by_page.metadata["conversation_id"], known(by_page)) == (first, 4)
    nobodys = str(uuid.uuid4())
    assert known(ask(server, "New", "q1", chat=nobodys, user="ann")) == 0
    assert known(ask(server, "Newer", "q2", chat=nobodys, user="ann")) == 2


@pytest.mark.parametrize(
    ("fields", "project"), [({}, None), ({"page_id": "project-2"}, 2), ({"project_id": 1, "page_id": "project-2"}, 1)]
)
def test_the_page_names_the_project_beside_the_chats_id(
    server: ServerProcess, fields: dict[str, Any], project: int | None
) -> None:
    """`page_id` in the SDK's body decides the project, and not the conversation."""
    read = ask(server, "Which project?", f"of {project}", chat="any chat", **fields)
    assert read.metadata["context_metadata"]["project_id"] == project
    (conversation,) = stored(server.data_dir, "chat_conversations", id=read.metadata["conversation_id"])
    assert conversation["page_id"] == "any chat"
