"""Which conversation and which project a turn belongs to, and what it sees of them."""

import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.server.process import AT_ONCE, ServerProcess
from tests.server.rows import row_counts, stored

PROJECT_RULES: tuple[tuple[dict[str, Any], int | None], ...] = (
    ({}, None),
    ({"page_id": None}, None),
    ({"page_id": "general"}, None),
    ({"page_id": "project-1"}, 1),
    ({"page_id": "project-2"}, 2),
    ({"page_id": "project-999"}, None),
    ({"page_id": "project-"}, None),
    ({"page_id": "project-1 or 1=1"}, None),
    ({"page_id": "project-99999999999999999999"}, None),
    ({"page_id": "1"}, 1),  # memo 1 belongs to project 1
    ({"page_id": "2"}, None),
    ({"page_id": "9" * 40}, None),
    ({"page_id": "１"}, None),  # a digit, but not one of ours
    ({"page_id": "conversation-agent-test"}, 2),
    ({"page_id": "somewhere-else"}, None),
    ({"page_id": "project-1", "project_id": 2}, 2),
    ({"page_id": "general", "project_id": "1"}, 1),
    ({"page_id": "project-999", "project_id": 1}, 1),
)


@pytest.mark.parametrize(("fields", "project"), PROJECT_RULES)
def test_the_page_or_the_project_id_decides_the_project(
    server: ServerProcess, fields: dict[str, Any], project: int | None
) -> None:
    """A project id wins; else the page names the project, or none."""
    metadata = server.answer(f"Which project? {AT_ONCE}", **fields)["context_metadata"]
    assert (metadata["project_id"], metadata["has_project_context"]) == (project, project is not None)


def test_the_model_is_told_of_the_project(server: ServerProcess) -> None:
    """The answer of a project's page speaks of that project's theme."""
    assert "Honeybees in the city" in server.answer(f"What next? {AT_ONCE}", page_id="project-2")["response"]


@pytest.mark.parametrize("page_id", ["project-1", "1", "conversation-agent-test"])
def test_a_page_of_someone_elses_project_means_no_context(server: ServerProcess, page_id: str) -> None:
    """A page that names another user's project or memo is answered without context."""
    metadata = server.answer(f"Mine? {AT_ONCE}", user="stranger", page_id=page_id)["context_metadata"]
    assert (metadata["project_id"], metadata["has_project_context"]) == (None, False)


@pytest.mark.parametrize(
    ("user", "project_id"), [("demo", 999), ("demo", "no-such"), ("demo", -1), ("demo", 10**30), ("stranger", 1)]
)
def test_a_named_project_must_be_ones_own(server: ServerProcess, user: str, project_id: int | str) -> None:
    """An unknown project id, or someone else's, is 404 with nothing stored; the two cannot be told apart."""
    before = row_counts(server.data_dir)
    response = server.ask("Read me that project", user=user, project_id=project_id)
    assert (response.status_code, response.json()["code"]) == (404, "not_found")
    assert row_counts(server.data_dir) == before


def test_the_second_turn_sees_the_first(server: ServerProcess) -> None:
    """The next turn of a page has the one before in its history, and stays in its conversation."""
    first = server.answer(f"One {AT_ONCE}", user="talker", page_id="general")
    second = server.answer(f"Two {AT_ONCE}", user="talker", page_id="general")
    assert first["context_metadata"]["history_count"] == 0
    assert second["context_metadata"]["history_count"] == 2
    assert "turn 2" in second["response"]
    assert second["conversation_id"] == first["conversation_id"]


def test_each_page_has_its_conversation(server: ServerProcess) -> None:
    """Another page of the same user begins a conversation of its own; a conversation id leads back from anywhere."""
    first = server.answer(f"One {AT_ONCE}", user="pages", page_id="a")
    other = server.answer(f"Two {AT_ONCE}", user="pages", page_id="b")
    back = server.answer(f"Three {AT_ONCE}", user="pages", page_id="b", conversation_id=first["conversation_id"])
    assert other["conversation_id"] != first["conversation_id"]
    assert other["context_metadata"]["history_count"] == 0
    assert back["conversation_id"] == first["conversation_id"]
    assert back["context_metadata"]["history_count"] == 2


def test_two_users_do_not_see_each_other(server: ServerProcess, data_dir: Path) -> None:
    """The same page of two users is two conversations, and neither prompt holds the other's words."""
    hers = server.answer(f"Secret of Ann {AT_ONCE}", user="ann", page_id="shared")
    his = server.answer(f"What did Ann say? {AT_ONCE}", user="ben", page_id="shared")
    assert his["conversation_id"] != hers["conversation_id"]
    assert his["context_metadata"]["history_count"] == 0
    assert {row["user_id"] for row in stored(data_dir, conversation_id=hers["conversation_id"])} == {"ann"}


def test_someone_elses_conversation_is_not_found(server: ServerProcess) -> None:
    """A conversation id of another user's and one of nobody's are the same 404, and nothing is stored."""
    hers = server.answer(f"Mine {AT_ONCE}", user="owner")["conversation_id"]
    before = row_counts(server.data_dir)
    for wanted in (hers, str(uuid.uuid4())):
        response = server.ask("Let me in", user="intruder", conversation_id=wanted)
        assert (response.status_code, response.json()["code"]) == (404, "not_found")
        assert hers not in response.text
    assert row_counts(server.data_dir) == before


def test_racing_first_messages_share_one_conversation(server: ServerProcess, data_dir: Path) -> None:
    """Ten first messages at the same instant are all answered, in ONE conversation with their twenty rows."""
    start = threading.Barrier(10)

    def first_message(number: int) -> dict[str, Any]:
        start.wait()
        return server.answer(f"Racer {number} {AT_ONCE}", user="racer", page_id="race")

    with ThreadPoolExecutor(10) as pool:
        bodies = list(pool.map(first_message, range(10)))
    (conversation,) = stored(data_dir, "chat_conversations", user_id="racer")
    assert {body["conversation_id"] for body in bodies} == {conversation["id"]}
    assert {body["saved"] for body in bodies} == {"database"}
    rows = stored(data_dir, user_id="racer")
    assert {row["conversation_id"] for row in rows} == {conversation["id"]}
    assert sorted((row["turn_id"], row["sender"]) for row in rows) == sorted(
        (body["turn_id"], sender) for body in bodies for sender in ("user", "assistant")
    )
