"""How much of a long conversation a turn is given: read off what the model's host is asked."""

import json
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.server.neighbours import Neighbour, model_host
from tests.server.process import AT_ONCE, ServerProcess, running
from tests.server.rows import stored

TURNS = 60


@dataclass(frozen=True, slots=True)
class Long:
    """A server whose user `demo` has a long conversation, and its model's host."""

    server: ServerProcess
    model: Neighbour

    def prompt(self, message: str, **fields: str) -> tuple[int, list[str]]:
        """Have a message answered; return the reply's history count, and the history that the model was given."""
        body = self.server.answer(message, **fields)
        _, *history, question = json.loads(self.model.heard[-1].body)["messages"]
        assert question == {"role": "user", "content": message}
        assert [line["role"] for line in history] == ["user", "assistant"] * (len(history) // 2)
        return body["context_metadata"]["history_count"], [line["content"] for line in history]

    def newest(self, count: int) -> list[str]:
        """Return the texts of the newest rows, oldest first."""
        return [row["message"] for row in stored(self.server.data_dir, user_id="demo")[-count:]]


@pytest.fixture(scope="module")
def long(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Long]:
    folder = tmp_path_factory.mktemp("data")
    with model_host() as model, running(folder, OPENAI_BASE_URL=f"{model.url}/v1") as server:
        for number in range(TURNS):
            server.answer(f"Question {number} {AT_ONCE}")
        yield Long(server, model)


def test_every_turn_of_a_long_conversation_is_stored_in_order(long: Long) -> None:
    """Sixty turns are 120 rows, question and answer in turn, in the order in which they were asked."""
    rows = stored(long.server.data_dir, user_id="demo")[: 2 * TURNS]
    assert [row["sender"] for row in rows] == ["user", "assistant"] * TURNS
    assert [row["message"].split()[1] for row in rows[::2]] == [str(number) for number in range(TURNS)]
    assert [row["turn_id"] for row in rows[::2]] == [row["turn_id"] for row in rows[1::2]]


def test_the_model_is_given_the_newest_twenty(long: Long) -> None:
    """The prompt has the NEWEST twenty messages, oldest first, beginning with a question."""
    newest = long.newest(20)
    assert long.prompt(f"And now? {AT_ONCE}") == (20, newest)


@pytest.mark.parametrize(("length", "given"), [(500, 20), (501, 50)])
def test_a_long_message_gets_more(long: Long, length: int, given: int) -> None:
    """A message of over 500 characters is given the newest fifty, one of 500 still twenty."""
    newest = long.newest(given)
    assert long.prompt(AT_ONCE.ljust(length, "あ")) == (given, newest)


def test_another_page_is_given_nothing_of_it(long: Long) -> None:
    """The conversation of another page begins without history."""
    assert long.prompt(f"Fresh {AT_ONCE}", page_id="fresh") == (0, [])
