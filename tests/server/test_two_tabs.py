"""Two tabs that ask in one conversation at once: read off the rows, and off what the model's host is asked."""

import json
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from app.clients.in_process import Message
from tests.server.holding import HALF, Holding, asked, question_of
from tests.server.neighbours import Neighbour, database_host, model_host
from tests.server.parts import end_of, metadata_of, text_of
from tests.server.process import ServerProcess, running, until
from tests.server.rows import stored, turn_rows
from tests.server.streaming import opened, stop, stream


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """What a tab was told."""

    conversation_id: str
    turn_id: str
    text: str


@dataclass(frozen=True, slots=True)
class Desk:
    """A server, the model's host, who holds its answers, and the folder of the database."""

    server: ServerProcess
    model: Neighbour
    held: Holding
    folder: Path

    def ask(self, tab: str, question: str, **fields: Any) -> Answered:
        """Ask from a tab of that kind, and return the whole answer."""
        if tab == "json":
            body = self.server.answer(asked(question), **fields)
            return Answered(conversation_id=body["conversation_id"], turn_id=body["turn_id"], text=body["response"])
        parts = stream(self.server, asked(question), **fields)
        assert end_of(parts)["type"] == "finish"
        metadata = metadata_of(parts)
        return Answered(conversation_id=metadata["conversation_id"], turn_id=metadata["turn_id"], text=text_of(parts))

    def half_answered(self, pool: ThreadPoolExecutor, tab: str, question: str, **fields: Any) -> "Future[Answered]":
        """Ask, and return once the question is stored and the model is half through its answer, where it is held."""
        self.held.holds.add(question)
        future = pool.submit(self.ask, tab, question, **fields)
        self.reached(question)
        return future

    def reached(self, question: str) -> None:
        """Wait until a question is stored and the model has it."""
        self.held.wait_for(question)
        until(lambda: len(stored(self.folder, message=asked(question))) == 1, "the question is stored")

    def prompt(self, question: str) -> list[str]:
        """Return what the model was told for a question, but for the instructions."""
        (body,) = [
            body for body in map(json.loads, (heard.body for heard in self.model.heard))
            if body["messages"][-1]["content"] == asked(question)
        ]  # fmt: skip
        system, *said = body["messages"]
        assert system["role"] == "system"
        assert [line["role"] for line in said] == [*["user", "assistant"] * (len(said) // 2), "user"]
        return [line["content"] for line in said]


@contextmanager
def open_desk(folder: Path, **settings: str) -> Iterator[Desk]:
    held = Holding(question_of, HALF)
    with (
        model_host(held.around) as model,
        running(folder / "server", OPENAI_BASE_URL=f"{model.url}/v1", **settings) as server,
    ):
        yield Desk(server, model, held, folder if "SUPABASE_URL" in settings else folder / "server")


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    with open_desk(tmp_path_factory.mktemp("data")) as opened_desk:
        yield opened_desk


def stands(desk: Desk, answered: Answered, question: str) -> None:
    """Check that a turn has its two rows, and that they say what its tab was told."""
    rows = turn_rows(desk.folder, answered.turn_id)
    assert [row["message"] for row in rows] == [asked(question), answered.text]
    assert {row["conversation_id"] for row in rows} == {answered.conversation_id}


@pytest.mark.parametrize("first_done", [0, 1])
@pytest.mark.parametrize("tabs", [("json", "json"), ("json", "stream"), ("stream", "json"), ("stream", "stream")])
def test_two_tabs_at_once(desk: Desk, tabs: tuple[str, str], first_done: int) -> None:
    """Neither prompt has half of the other turn; both stand with four rows, and the next prompt has both in order."""
    user = f"{'-'.join(tabs)}-{first_done}"
    before, one, two, after = (f"{user} {name}" for name in ("before", "one", "two", "after"))
    first = desk.ask("json", before, user=user)
    with ThreadPoolExecutor(2) as pool:
        futures = [desk.half_answered(pool, *each, user=user) for each in zip(tabs, (one, two), strict=True)]
        for number in (first_done, 1 - first_done):
            desk.held.let_go((one, two)[number])
            futures[number].result()
    answers = [future.result() for future in futures]
    then = [asked(before), first.text]
    assert desk.prompt(one) == [*then, asked(one)]
    assert desk.prompt(two) == [*then, asked(two)]
    desk.ask("json", after, user=user)
    both = [asked(one), answers[0].text, asked(two), answers[1].text]
    assert desk.prompt(after) == [*then, *both, asked(after)]
    for answered, question in zip(answers, (one, two), strict=True):
        stands(desk, answered, question)
    assert answers[0].text != answers[1].text
    rows = [row["message"] for row in stored(desk.folder, conversation_id=first.conversation_id)]
    assert rows[2:4] == [asked(one), asked(two)], "the questions in the order in which they were asked"
    assert rows[4:6] == [answers[first_done].text, answers[1 - first_done].text], "the answers as they ended"


@pytest.mark.parametrize("how", ["left", "stopped"])
@pytest.mark.parametrize("other", ["json", "stream"])
def test_one_of_two_tabs_is_stopped_half_way(desk: Desk, other: str, how: str) -> None:
    """The other one's answer is untouched, and the next prompt has both, the stopped one as far as it was told.

    The stopped one is so by its page key, under which the other was not asked for: that names the conversation.
    """
    user = f"{how}-{other}"
    one, two, after = (f"{user} {name}" for name in ("one", "two", "after"))
    page = "elsewhere" if how == "stopped" else "general"
    desk.held.holds.add(one)
    with ThreadPoolExecutor(1) as pool:
        with opened(desk.server, asked(one), user=user, page_id=page) as answer:
            answer.deltas(1)
            start = answer.read[0]
            where = {"conversation_id": start["messageMetadata"]["conversation_id"]}
            desk.reached(one)
            future = desk.half_answered(pool, other, two, user=user, **where)
            if how == "stopped":
                assert stop(desk.server, f"/chat/{page}/stop", user)
                assert end_of(answer.rest()) == {"type": "abort"}
        desk.server.wait_for_log("turn.finished", turn_id=start["messageId"])
        desk.held.let_go(two)
        answered = future.result()
    question, half = turn_rows(desk.folder, start["messageId"])
    assert (question["message"], half["context_data"]["finish"]) == (asked(one), "cancelled")
    assert half["message"].startswith(text_of(answer.read))
    assert half["message"]
    stands(desk, answered, two)
    assert answered.conversation_id == half["conversation_id"] == where["conversation_id"]
    assert [desk.prompt(one), desk.prompt(two)] == [[asked(one)], [asked(two)]]
    desk.ask("json", after, user=user, **where)
    assert desk.prompt(after) == [asked(one), half["message"], asked(two), answered.text, asked(after)]


def test_stopping_a_chat_stops_both_tabs(desk: Desk) -> None:
    """By the address of a chat that both tabs stream from: each is told, stored half, and known to the next prompt."""
    one, two, after = (f"both {name}" for name in ("one", "two", "after"))
    desk.held.holds |= {one, two}
    with opened(desk.server, asked(one), user="both") as first, opened(desk.server, asked(two), user="both") as second:
        for answer in (first, second):
            answer.deltas(1)
        assert stop(desk.server, "/chat/general/stop", "both")
        assert [end_of(answer.rest()) for answer in (first, second)] == [{"type": "abort"}] * 2
    halves = [turn_rows(desk.folder, answer.read[0]["messageId"])[1] for answer in (first, second)]
    assert [half["context_data"]["finish"] for half in halves] == ["cancelled"] * 2
    desk.ask("json", after, user="both")
    told = [half["message"] for half in halves]
    assert all(told)
    assert desk.prompt(after) == [asked(one), told[0], asked(two), told[1], asked(after)]


def page_read(scope: Message, body: bytes) -> str | None:
    """Call those requests to the database `page` that look for a page's conversation with its messages."""
    query = scope["query_string"]
    is_it = scope["path"].endswith("/chat_conversations") and b"page_id=eq.new" in query and b"chat_logs" in query
    return "page" if scope["method"] == "GET" and is_it else None


def test_two_first_messages_of_a_page(tmp_path: Path) -> None:
    """One JSON, one stream, both told that there is no conversation yet: they end in ONE, with four rows."""
    reads = Holding(page_read)
    reads.holds.add("page")
    keys = {"SUPABASE_KEY": "sb_secret_test", "AUTH_MODE": "dev"}
    with (
        database_host(tmp_path / "supabase.sqlite3", reads.around) as database,
        open_desk(tmp_path, SUPABASE_URL=database.url, **keys) as desk,
        ThreadPoolExecutor(2) as pool,
    ):
        desk.held.holds |= {"json", "stream"}
        futures = [pool.submit(desk.ask, tab, tab, page_id="new") for tab in ("json", "stream")]
        reads.wait_for("page", 2)
        reads.let_go("page")
        for tab in ("json", "stream"):
            desk.reached(tab)
        desk.held.let_go("stream")
        desk.held.let_go("json")
        answers = dict(zip(("json", "stream"), (future.result() for future in futures), strict=True))
        desk.ask("json", "after", page_id="new")
        (conversation,) = stored(tmp_path, "chat_conversations", page_id="new")
        assert {answered.conversation_id for answered in answers.values()} == {conversation["id"]}
        for tab, answered in answers.items():
            stands(desk, answered, tab)
            assert desk.prompt(tab) == [asked(tab)]
        order = [row["message"] for row in stored(tmp_path, conversation_id=conversation["id"], sender="user")]
        texts = {asked(tab): answered.text for tab, answered in answers.items()}
        assert set(order) == {*texts, asked("after")}
        assert desk.prompt("after") == [*(said for each in order[:2] for said in (each, texts[each])), asked("after")]
