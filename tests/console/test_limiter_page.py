"""The limiter's card, the recent turns and the states below the chat, in a real browser on the real server."""

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import expect

from tests.console.conftest import Visit
from tests.console.place import Place, open_place
from tests.console.visit import Console
from tests.server.process import AT_ONCE, until


@pytest.fixture(autouse=True)
def _as_it_was(place: Place) -> Iterator[None]:
    """Each test finds a fixed limiter of ten."""
    yield
    place.server.http.put("/ops/limiter", json={"mode": "fixed", "total_tokens": 10}).raise_for_status()


def resize(console: Console, size: str) -> None:
    console.part("limiter-size").fill(size)
    console.part("limiter-apply").click()


def test_a_resize_is_seen_on_both_sides(console: Console, place: Place) -> None:
    """The page shows the new total, the server has it, and says that the console wanted it."""
    expect(console.part("limiter-total")).to_have_text("10")
    resize(console, "3")
    expect(console.part("limiter-total")).to_have_text("3")
    limiter = place.limiter()
    assert limiter["total_tokens"] == 3
    newest = max(limiter["changes"], key=lambda change: change["at"])
    assert (newest["after"], newest["who"]) == (3, "console")


def test_a_change_by_others_is_seen(console: Console, place: Place) -> None:
    """What `/ops/limiter` is told by somebody else shows within a poll, in every tab."""
    other = console.another_tab()
    place.server.http.put("/ops/limiter", json={"total_tokens": 7, "who": "night shift"}).raise_for_status()
    for tab in (console, other):
        expect(tab.part("limiter-total")).to_have_text("7")


@pytest.mark.parametrize("size", ["0", "-3", "1000000"])
def test_a_wrong_size_shows_the_servers_sentence(console: Console, place: Place, size: str) -> None:
    """The server decides and its sentence is shown; nothing changes."""
    console.watch.expected.append("status of 4")
    refused = place.server.http.put("/ops/limiter", json={"total_tokens": int(size)})
    assert refused.status_code == 422
    resize(console, size)
    expect(console.part("limiter-error")).to_have_text(" ".join(refused.json()["errors"]))
    expect(console.part("limiter-total")).to_have_text("10")
    assert place.limiter()["total_tokens"] == 10


def test_the_adaptive_mode_on_and_off(console: Console, place: Place) -> None:
    """The switch turns it on with the bounds beside it, and off again."""
    switch = console.part("limiter-adaptive")
    expect(switch).to_have_attribute("aria-checked", "false")
    switch.click()
    expect(switch).to_have_attribute("aria-checked", "true")
    until(lambda: place.limiter()["mode"] == "adaptive", "the server's mode is adaptive")
    console.part("limiter-min").fill("2")
    console.part("limiter-max").fill("6")
    console.part("limiter-apply").click()
    until(lambda: (place.limiter()["min"], place.limiter()["max"]) == (2, 6), "the server has the bounds")
    expect(console.part("limiter-total")).to_have_text(re.compile("^[2-6]$"))
    switch.click()
    expect(switch).to_have_attribute("aria-checked", "false")
    until(lambda: place.limiter()["mode"] == "fixed", "the server's mode is fixed")


def test_who_waits_and_who_works_is_seen(visit: Visit, tmp_path_factory: pytest.TempPathFactory) -> None:
    """With one slot the second question waits: its place in the queue, the figures and the sparkline say so."""
    with open_place(tmp_path_factory.mktemp("narrow"), OPENAI_API_POOL_SIZE="1", LLM_QUEUE_TIMEOUT="100") as place:
        first = visit(place.server.url).open()
        first.ask(place.hold("I work"))
        first.expect_half("I work")
        expect(first.part("limiter-borrowed")).to_have_text("1")
        second = visit(place.server.url).open()
        second.ask(f"I wait {AT_ONCE}")
        expect(second.part("limiter-waiting")).to_have_text("1")
        expect(second.page.locator("[data-testid=bar][data-stage='llm.queue']")).to_have_attribute(
            "data-state", "running"
        )
        chart = second.part("sparkline")
        expect(chart).to_have_attribute("aria-label", re.compile("1 of 1 in use, 1 waiting now; at most 1"))
        assert chart.locator("path.waiting").evaluate("line => line.getBBox().height") > 10
        resize(second, "2")
        second.expect_answer()
        assert second.bars()["llm.queue"].seconds > second.bars()["db_fetch"].seconds
        place.held.let_go("I work")
        first.expect_answer()
        expect(first.part("limiter-waiting")).to_have_text("0")
        first.leave()
        second.leave()


def test_recent_turns_slowest_first(console: Console, place: Place) -> None:
    """The slowest is on top whoever asked for it, and opens large in the waterfall with its own figures."""
    fast = place.server.answer(f"Fast {AT_ONCE}")
    slow = place.server.answer("Slow [[fault: slow first=1.5 each=0]]")
    top = console.part("recent-turn").first
    expect(top).to_have_attribute("data-trace-id", slow["trace_id"])
    shown = console.part("recent-turn").evaluate_all("all => all.map(each => each.dataset.traceId)")
    assert shown.index(slow["trace_id"]) < shown.index(fast["trace_id"])
    top.click()
    expect(console.part("trace-id")).to_have_text(slow["trace_id"])
    stages = {each["stage"]: each for each in place.facts(slow["trace_id"])["stages"]}
    model = console.bars()["llm"]
    assert (model.at, model.seconds) == pytest.approx((stages["llm"]["at"], stages["llm"]["seconds"]), abs=0.0006)


def test_dependencies_and_outbox_have_words(console: Console) -> None:
    """Each dependency has its state as a word, and the outbox its figures."""
    expect(console.part("dependency").first).to_be_visible()
    states = console.part("dependency").evaluate_all("all => all.map(each => [each.dataset.name, each.dataset.state])")
    assert {name for name, _state in states} >= {"model", "database"}
    assert {state for _name, state in states} <= {"ok", "trying", "down", "off"}
    for each in console.part("dependency").all():
        assert re.search(r"\w", each.inner_text())
    expect(console.part("outbox")).to_contain_text(re.compile(r"\d"))
