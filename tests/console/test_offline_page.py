"""What the console makes of a network that goes, a server that dies, and a page that is loaded anew in the middle."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.console.browser import OFFLINE
from tests.console.conftest import Visit
from tests.console.place import Place
from tests.console.visit import Console
from tests.server.process import running
from tests.server.relay import Relay, relay_to
from tests.server.rows import stored

LOST = (OFFLINE, "Failed to load resource")
HALF_CHARS = 16
"""Of an answer that is held: what the scripted model says in four pieces, before `HALF` messages are over."""


@pytest.fixture
def relay(place: Place) -> Iterator[Relay]:
    """A network before the server that can be cut."""
    with relay_to(place.server.url) as opened:
        yield opened


@contextmanager
def held_half(console: Console, place: Place, question: str, *, continued: bool) -> Iterator[str]:
    """Ask, be half through the answer while the block runs, and let it go on; yields that half, which is all there."""
    console.part("continue").set_checked(continued)
    console.ask(place.hold(question))
    console.expect_half(question)
    half = f'About "{question}'[:HALF_CHARS].rstrip()
    expect(console.last_answer).to_have_text(half)
    try:
        yield half
    finally:
        place.held.let_go(question)


def test_offline_and_back(console: Console, place: Place) -> None:
    """The page says so, keeps what was typed, and has fresh figures by itself when it is back."""
    console.watch.expected += LOST
    console.part("ask").fill("Not yet sent")
    console.context.set_offline(True)
    expect(console.part("connection")).to_have_attribute("data-state", "offline")
    place.server.http.put("/ops/limiter", json={"total_tokens": 4}).raise_for_status()
    expect(console.part("ask")).to_have_value("Not yet sent")
    console.context.set_offline(False)
    expect(console.part("connection")).to_have_attribute("data-state", "online")
    expect(console.part("limiter-total")).to_have_text("4")
    expect(console.part("ask")).to_have_value("Not yet sent")
    console.part("send").click()
    console.expect_answer()


def test_a_question_asked_offline_is_not_lost(console: Console) -> None:
    """It fails with a way to try again, and trying again once back answers it, once."""
    console.watch.expected += LOST
    console.context.set_offline(True)
    expect(console.part("connection")).to_have_attribute("data-state", "offline")
    console.ask("Asked in a tunnel")
    expect(console.part("retry").last).to_be_visible()
    console.context.set_offline(False)
    expect(console.part("connection")).to_have_attribute("data-state", "online")
    console.part("retry").last.click()
    console.expect_answer()
    expect(console.part("message-user")).to_have_count(1)


def test_a_cut_with_continue_goes_on_by_itself(visit: Visit, place: Place, relay: Relay) -> None:
    """The network breaks in the middle: the turn runs on, and the page has the whole answer once, when it is back."""
    console = visit(relay.url).open()
    console.watch.expected += LOST
    question = "A cut in the middle"
    with held_half(console, place, question, continued=True) as half:
        relay.become("down")
        expect(console.part("connection")).to_have_attribute("data-state", "offline")
        expect(console.last_answer).to_have_text(half)
    relay.become("well")
    answer = console.expect_answer().inner_text().strip()
    row = place.answer_row(question)
    assert (row["context_data"]["finish"], row["message"].strip()) == ("stop", answer)
    expect(console.part("message-assistant")).to_have_count(1)


def test_a_cut_without_continue_keeps_the_half(visit: Visit, place: Place, relay: Relay) -> None:
    """The half answer stays and says that it is one; trying again answers the question, still one turn of it."""
    console = visit(relay.url).open()
    console.watch.expected += LOST
    question = "A cut for good"
    with held_half(console, place, question, continued=False) as half:
        relay.become("down")
        expect(console.part("connection")).to_have_attribute("data-state", "offline")
        place.answer_row(question)
    relay.become("well")
    expect(console.part("connection")).to_have_attribute("data-state", "online")
    assert console.part("message-assistant").last.get_attribute("data-state") in ("partial", "failed")
    expect(console.last_answer).to_have_text(half)
    console.part("retry").last.click()
    assert console.expect_answer().inner_text().strip() != half
    assert len({row["turn_id"] for row in stored(place.server.data_dir) if question in row["message"]}) == 1


def test_the_server_dies_and_comes_back(visit: Visit, tmp_path: Path) -> None:
    """The same page, after a kill and a new start on the same port: offline, online, the chat goes on."""
    with running(tmp_path) as server:
        console = visit(server.url).open()
        console.watch.expected += LOST
        console.answered("Before the kill")
        server.process.kill()
        expect(console.part("connection")).to_have_attribute("data-state", "offline")
        port = server.address[1]
    with running(tmp_path, BIND=f"127.0.0.1:{port}") as again:
        expect(console.part("connection")).to_have_attribute("data-state", "online")
        console.answered("After the kill")
        asked = [row["message"] for row in stored(again.data_dir, sender="user")]
        assert asked == ["Before the kill", "After the kill"]
        assert len({row["conversation_id"] for row in stored(again.data_dir)}) == 1
        console.leave()


def test_a_reload_in_the_middle_with_continue(console: Console, place: Place) -> None:
    """The answer is taken up where it is, goes on, and ends whole, once."""
    question = "Reload and go on"
    with held_half(console, place, question, continued=True) as half:
        console.reload()
        console.expect_half(question)
        expect(console.last_answer).to_have_text(half)
        expect(console.part("continue")).to_be_checked()
    answer = console.expect_answer().inner_text().strip()
    row = place.answer_row(question)
    assert (row["context_data"]["finish"], row["message"].strip()) == ("stop", answer)
    assert answer != half
    expect(console.part("message-user")).to_have_count(1)
    expect(console.part("message-assistant")).to_have_count(1)


def test_a_reload_in_the_middle_without_continue(console: Console, place: Place) -> None:
    """The turn ends; its half answer is in the history that the page comes back with, marked."""
    question = "Reload and stop"
    with held_half(console, place, question, continued=False):
        console.reload()
        expect(console.part("message-user")).to_have_count(1)
        row = place.answer_row(question)
    assert row["context_data"]["finish"] == "cancelled"
    expect(console.last_answer).to_have_text(re.compile(re.escape(row["message"].strip())))
    expect(console.part("message-assistant")).to_have_attribute("data-state", re.compile("stopped|partial"))


def test_what_was_set_is_kept_over_a_reload(console: Console) -> None:
    """Token, page key, draft, theme and what was said are there again; the token is in no address."""
    console.answered("Said before")
    key = console.part("page-key").input_value()
    console.part("theme").select_option("dark")
    console.part("ask").fill("A draft")
    console.reload()
    expect(console.part("message-user")).to_have_count(1)
    expect(console.part("message-assistant")).to_have_attribute("data-state", "done")
    expect(console.part("page-key")).to_have_value(key)
    expect(console.part("ask")).to_have_value("A draft")
    expect(console.part("theme")).to_have_value("dark")
    assert "demo" not in console.page.url
