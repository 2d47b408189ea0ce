"""The console's chat and its waterfall, in a real browser on the real server."""

import re

import pytest
from playwright.sync_api import expect

from telemetry.names import SHOWN_STAGES
from tests.console.conftest import Visit
from tests.console.place import Place
from tests.console.visit import LENGTHS, STATES, Console, figures, lies_right
from tests.server.process import until

SLOWLY = "[[fault: slow first=0.2 each=0.02]]"


def test_the_text_grows_as_it_comes(console: Console) -> None:
    """The answer is seen in many lengths, each longer than the one before, and ends whole."""
    console.page.evaluate(LENGTHS)
    answer = console.answered(f"What is a hypothesis? {SLOWLY}")
    lengths = console.page.evaluate("() => window.seenLengths.filter(length => length > 0)")
    assert len(lengths) >= 5, lengths
    assert lengths == sorted(lengths)
    assert lengths[-1] == len(answer.strip())
    assert answer.startswith('About "What is a hypothesis?".')
    expect(console.part("message-user").last).to_contain_text("What is a hypothesis?")
    expect(console.part("ask")).to_have_value("")


def test_bars_appear_while_the_turn_runs(console: Console, place: Place) -> None:
    """Half-way the model's bar runs and grows, those before it are done, and there is none of what is to come."""
    console.page.evaluate(STATES)
    question = "Half a river"
    console.ask(place.hold(question))
    console.expect_half(question)
    bars = console.bars()
    assert (bars["db_fetch"].state, bars["llm"].state) == ("done", "running")
    assert "db_save" not in bars
    first = bars["llm"]
    until(lambda: console.bars()["llm"].drawn_seconds > first.drawn_seconds + 0.3, "the model's bar grows", 30)
    assert console.bars()["db_fetch"].seconds == bars["db_fetch"].seconds
    place.held.let_go(question)
    console.expect_answer()
    seen = console.page.evaluate("() => [...window.seenStates]")
    assert {"llm running", "llm done", "db_fetch done", "db_save done"} <= set(seen)


def test_the_waterfall_is_the_servers_own_account(console: Console, place: Place) -> None:
    """Every stage that a stream shows has its bar; starts, lengths, total and first token are `/ops/turns`' figures."""
    console.answered(f"Which stages are there? {SLOWLY}")
    facts = place.facts(console.trace_id())
    bars = console.bars()
    told = {each["stage"]: each for each in facts["stages"] if each["stage"] in SHOWN_STAGES}
    assert bars.keys() == told.keys()
    for stage, bar in bars.items():
        assert bar.state == "done"
        assert bar.at == pytest.approx(told[stage]["at"], abs=0.0006)
        assert bar.seconds == pytest.approx(told[stage]["seconds"], abs=0.0006)
        assert says(bar.text, told[stage]["seconds"]), (bar.text, told[stage])
    total, first = facts["performance_metrics"]["total_time"], facts["time_to_first_token"]
    assert says(console.part("total").inner_text(), total)
    assert says(console.part("first-token").inner_text(), first)
    assert console.seconds("first-token") == pytest.approx(first, abs=0.0006)


def test_all_bars_lie_on_one_axis(console: Console) -> None:
    """Each bar begins and ends on the axis where its figures say, the first token within the model's."""
    console.answered(f"Where do they lie? {SLOWLY}")
    until(lambda: all(map(lies_right, console.bars().values())), "the bars have come to rest", 30)
    bars = console.bars()
    model = bars["llm"]
    assert model.at < console.seconds("first-token") < model.at + model.seconds
    assert bars["db_fetch"].at <= bars["llm.queue"].at <= model.at <= bars["db_save"].at


def says(text: str, seconds: float) -> bool:
    """Return whether a text has a duration, rounded as it likes."""
    return any(abs(figure - seconds) <= half * 1.01 + 0.00005 for figure, half in figures(text))


def test_the_trace_id_is_the_one_of_the_answer_and_copies(console: Console) -> None:
    """What is shown and what the button puts on the clipboard is the header's."""
    with console.page.expect_response(re.compile("/chat/stream$")) as answer:
        console.answered("Which trace?")
    header = answer.value.header_value("x-trace-id")
    assert console.trace_id() == header
    console.part("copy-trace").click()
    console.until(f"() => navigator.clipboard.readText().then(text => text === '{header}')", "it is on the clipboard")


def test_a_stop_midway(console: Console, place: Place) -> None:
    """The half answer stays and says so, the row is `cancelled`, the model's slot is free, and one can go on."""
    question = "Stop me"
    console.ask(place.hold(question))
    console.expect_half(question)
    assert place.limiter()["borrowed"] == 1
    console.part("stop").click()
    half = console.expect_answer("stopped").inner_text().strip()
    row = place.answer_row(question)
    assert row["context_data"]["finish"] == "cancelled"
    assert row["message"].startswith(half)
    assert half
    until(lambda: place.limiter()["borrowed"] == 0, "the slot is free")
    expect(console.part("stop")).not_to_be_visible()
    assert console.answered("And on?")


def test_a_model_that_fails_is_told_with_a_way_to_try_again(console: Console) -> None:
    """The notice says so, the model's bar has failed, what came stays, and one can go on."""
    console.watch.expected.append("status of 502")
    console.ask("Break [[fault: error after=4]]")
    expect(console.part("message-assistant").last).to_have_attribute("data-state", "failed")
    expect(console.part("notice")).to_be_visible()
    expect(console.part("retry").last).to_be_visible()
    assert console.bars()["llm"].state == "failed"
    assert console.answered("And now?")


def test_enter_sends_and_a_composition_does_not(console: Console) -> None:
    """Enter that ends a Japanese composition sends nothing, Shift+Enter is a new line, Enter alone sends."""
    ask, keyboard = console.part("ask"), console.page.keyboard
    ask.focus()
    keys = console.context.new_cdp_session(console.page)
    keys.send("Input.imeSetComposition", {"text": "かせつ", "selectionStart": 3, "selectionEnd": 3})
    expect(ask).to_have_value("かせつ")
    pressed = {"key": "Enter", "code": "Enter", "windowsVirtualKeyCode": 229, "nativeVirtualKeyCode": 229}
    keys.send("Input.dispatchKeyEvent", {"type": "rawKeyDown", **pressed})
    keys.send("Input.insertText", {"text": "仮説"})
    keys.send("Input.dispatchKeyEvent", {"type": "keyUp", **pressed})
    expect(ask).to_have_value("仮説")
    expect(console.part("message-user")).to_have_count(0)
    keyboard.press("Shift+Enter")
    keyboard.type("とは？")
    expect(ask).to_have_value("仮説\nとは？")
    keyboard.press("Enter")
    expect(console.part("message-user")).to_have_count(1)
    assert console.expect_answer().inner_text().startswith("「仮説")


def test_the_language_switches(console: Console) -> None:
    """English and Japanese: the page's language, its title, its words and the server's sentences; kept on reload."""
    console.part("language").select_option("ja")
    html = console.page.locator("html")
    expect(html).to_have_attribute("lang", "ja")
    japanese = re.compile("[ぁ-んァ-ン一-龯]")
    expect(console.part("send")).to_have_text(japanese)
    expect(console.page).to_have_title(japanese)
    console.reload()
    expect(html).to_have_attribute("lang", "ja")
    console.ask("Break [[fault: error after=2]]")
    expect(console.part("notice")).to_have_text(japanese)
    console.part("language").select_option("en")
    expect(html).to_have_attribute("lang", "en")
    expect(console.part("send")).not_to_have_text(japanese)


def test_a_browser_in_japanese_has_the_page_in_japanese(visit: Visit, place: Place) -> None:
    """Nobody has to look for the switch."""
    console = visit(place.server.url, locale="ja-JP").open()
    expect(console.page.locator("html")).to_have_attribute("lang", "ja")


def test_two_tabs_do_not_mix(console: Console, place: Place) -> None:
    """Two tabs of one visitor have chats of their own, which run at once and are told apart."""
    other = console.another_tab()
    assert console.part("page-key").input_value() != other.part("page-key").input_value()
    for tab, question in ((console, "Tab one"), (other, "Tab two")):
        tab.ask(place.hold(question))
        tab.expect_half(question)
    assert place.limiter()["borrowed"] == 2
    for question in ("Tab two", "Tab one"):
        place.held.let_go(question)
    for tab, question in ((console, "Tab one"), (other, "Tab two")):
        assert f'About "{question}' in tab.expect_answer().inner_text()
        expect(tab.part("message-assistant")).to_have_count(1)
    assert console.trace_id() != other.trace_id()


def test_a_new_chat_starts_empty(console: Console) -> None:
    """The button gives a chat of its own, with another page key; the old one's key brings it back."""
    console.answered("The old chat")
    key = console.part("page-key").input_value()
    console.part("new-chat").click()
    expect(console.part("message-user")).to_have_count(0)
    assert console.part("page-key").input_value() != key
    console.part("page-key").fill(key)
    console.part("page-key").press("Enter")
    expect(console.part("message-user")).to_have_text(re.compile("The old chat"))
