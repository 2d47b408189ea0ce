"""The console for everybody: axe-core finds nothing serious, the keyboard is enough, a phone is wide enough."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.console.conftest import Visit
from tests.console.place import Place
from tests.console.visit import Console
from tests.needs import lack
from tests.server.process import AT_ONCE, until

AXE = Path(__file__).parent / "npm/node_modules/axe-core/axe.min.js"
GET_AXE = "axe-core is not installed; to run this test: make console-page"
RUN = """async () => {
  const found = await axe.run(document, {resultTypes: ['violations']});
  return found.violations.map(each => ({
    id: each.id, impact: each.impact, nodes: each.nodes.map(node => `${node.html} ${node.failureSummary}`),
  }));
}"""
ANNOUNCED = """() => {
  window.announced = [];
  for (const live of document.querySelectorAll('[role=status]'))
    new MutationObserver(() => window.announced.push(live.textContent)).observe(live, {childList: true, subtree: true});
}"""
Look = tuple[str, str]
OPPOSITE: tuple[Look, ...] = (("light", "en"), ("dark", "ja"))
OTHERS: tuple[Look, ...] = (("dark", "en"), ("light", "ja"))
TABLE = f"|{' cell |' * 12}\n|{' - |' * 12}\n|{' cell |' * 12}\n"
WIDE = f"{'wide' * 60} `{'code' * 60}`\n\n```\n{'row ' * 100}\n```\n\n{TABLE}"


@pytest.fixture
def checked(visit: Visit, place: Place) -> Console:
    """A page that axe-core is in, which comes by the debugger's way: the page's policy holds."""
    if not AXE.exists():
        lack(GET_AXE)
    console = visit(place.server.url, reduced_motion="reduce").open()
    console.page.evaluate(AXE.read_text())
    return console


def serious(console: Console, looks: Sequence[Look] = OPPOSITE) -> list[str]:
    """Return what axe-core finds of impact serious or critical, in each of the looks."""
    found = []
    for theme, language in looks:
        console.part("theme").select_option(theme)
        console.part("language").select_option(language)
        for violation in console.page.evaluate(RUN):
            if violation["impact"] in ("serious", "critical"):
                found += [f"{theme} {language} {violation['id']}: {node}" for node in violation["nodes"]]
    return found


def empty(_console: Console, _place: Place) -> None:
    """Nothing was asked yet."""


def midway(console: Console, place: Place) -> None:
    """An answer comes."""
    console.ask(place.hold("Half-way"))
    console.expect_half("Half-way")


def after(console: Console, place: Place) -> None:
    """An answer with all kinds of text has come."""
    text = f"# Title\n\nA **bold** word, a [link](https://example.com), `code`.\n\n{TABLE}\n\n```\nx\n```\n"
    console.answered(place.dictate("Of all kinds", [text]))


def failed(console: Console, _place: Place) -> None:
    """The model failed."""
    console.ask("Break [[fault: error after=4]]")
    expect(console.part("notice")).to_be_visible()


def opened_turn(console: Console, place: Place) -> None:
    """A recent turn is looked at."""
    place.server.answer(f"Recent {AT_ONCE}")
    console.part("recent-turn").first.click()
    expect(console.part("bar").first).to_be_visible()


@pytest.mark.parametrize("looks", [OPPOSITE, pytest.param(OTHERS, marks=pytest.mark.soak)], ids=["opposite", "others"])
@pytest.mark.parametrize("state", [empty, midway, after, failed, opened_turn], ids=lambda each: each.__name__)
def test_axe_finds_nothing_serious(
    checked: Console, place: Place, state: Callable[[Console, Place], None], looks: Sequence[Look]
) -> None:
    """No violation of impact serious or critical, in both themes and both languages."""
    state(checked, place)
    found = serious(checked, looks)
    assert not found, "\n".join(found)


def test_axe_would_find_something(checked: Console) -> None:
    """A picture without a text and an input without a label are found, so the checker does look."""
    checked.page.evaluate(
        "() => { document.querySelector('main').append(new Image(), document.createElement('input')) }"
    )
    assert {line.split()[2] for line in serious(checked)} >= {"image-alt:", "label:"}


def test_the_keyboard_is_enough(console: Console, place: Place) -> None:
    """From the load to an answer, a stop, another size, the switch and a recent turn, with Tab, Enter and Space."""
    press = console.page.keyboard.press
    console.tab_to("ask")
    console.page.keyboard.type(f"By keyboard {AT_ONCE}")
    press("Enter")
    console.expect_answer()
    assert console.focused() == "ask"
    console.page.keyboard.type(place.hold("To be stopped"))
    press("Enter")
    console.expect_half("To be stopped")
    console.tab_to("stop")
    press("Enter")
    console.expect_answer("stopped")
    assert console.page.evaluate("() => document.activeElement !== document.body"), "the focus went with the button"
    console.tab_to("limiter-size")
    press("Control+A")
    console.page.keyboard.type("5")
    console.tab_to("limiter-apply")
    press("Space")
    expect(console.part("limiter-total")).to_have_text("5")
    console.tab_to("limiter-adaptive", back=True)
    press("Space")
    until(lambda: place.limiter()["mode"] == "adaptive", "the switch was turned")
    press("Space")
    until(lambda: place.limiter()["mode"] == "fixed", "the switch was turned back")
    console.page.evaluate("() => document.activeElement.blur()")
    to_recent(console)
    press("Enter")
    opened = console.page.locator("[data-testid=recent-turn]:is([aria-current=true], :has([aria-current=true]))")
    expect(opened).to_have_count(1)
    expect(console.part("trace-id")).to_have_text(opened.get_attribute("data-trace-id") or "none")


def to_recent(console: Console) -> None:
    """Press Tab until the focus is on a recent turn, or on a button in one."""
    inside = "() => document.activeElement.closest('[data-testid=recent-turn]') !== null"
    for _ in range(80):
        if console.page.evaluate(inside):
            return
        console.page.keyboard.press("Tab")
    raise AssertionError("no recent turn was reached with Tab")


def test_the_focus_is_seen(console: Console) -> None:
    """Whatever Tab reaches is on the screen and has a ring."""
    for _ in range(30):
        console.page.keyboard.press("Tab")
        seen = console.page.evaluate("""() => {
          const each = document.activeElement, style = getComputedStyle(each), box = each.getBoundingClientRect();
          if (each === document.body) return null;
          return {name: each.outerHTML.slice(0, 120), ring: style.outlineStyle !== 'none' || style.boxShadow !== 'none',
                  wide: box.width, high: box.height};
        }""")
        if seen is None:
            return
        assert seen["ring"], seen
        assert min(seen["wide"], seen["high"]) > 1, seen


@pytest.mark.parametrize("width", [320, 390])
def test_a_phone_is_wide_enough(visit: Visit, place: Place, width: int) -> None:
    """Nothing has to be scrolled sideways: empty, half-way, after a wide answer, in Japanese, with a turn opened."""
    console = visit(place.server.url, viewport={"width": width, "height": 700}, has_touch=True, is_mobile=True).open()
    assert console.is_narrow_enough()
    question = f"Half-way at {width}"
    console.ask(place.hold(question))
    console.expect_half(question)
    assert console.is_narrow_enough()
    place.held.let_go(question)
    console.expect_answer()
    console.answered(place.dictate(f"A wide answer at {width}", [WIDE]))
    assert console.is_narrow_enough()
    console.part("language").select_option("ja")
    console.part("recent-turn").first.click()
    assert console.is_narrow_enough()
    console.ask("Break [[fault: error after=2]]")
    expect(console.part("notice")).to_be_visible()
    assert console.is_narrow_enough()


def test_targets_are_large_enough_for_a_thumb(visit: Visit, place: Place) -> None:
    """On a phone each button, field and choice is 44 pixels high or has as much room; nowhere under 24."""
    console = visit(place.server.url, viewport={"width": 390, "height": 700}, has_touch=True, is_mobile=True).open()
    small = console.page.evaluate("""() => [...document.querySelectorAll('button, select, input, textarea, a[href]')]
      .map(each => [each.dataset.testid ?? each.outerHTML.slice(0, 80), each.closest('label') ?? each])
      .map(([name, target]) => [name, target.getBoundingClientRect()])
      .filter(([, box]) => box.height > 0 && (box.height < 24 || box.width < 24))
      .map(([name, box]) => `${name} ${box.width} x ${box.height}`)""")
    assert small == []


def test_a_screen_reader_is_told_the_end_not_every_token(console: Console) -> None:
    """The answer does not speak while it grows; when it is whole, it is announced once."""
    console.page.evaluate(ANNOUNCED)
    answer = console.answered("What does one hear? [[fault: slow first=0.1 each=0.01]]").strip()
    expect(console.part("log")).to_have_attribute("role", "log")
    expect(console.last_answer).to_have_attribute("aria-live", "off")
    console.until("() => window.announced.length > 0", "something is announced")
    heard = [text for text in console.page.evaluate("() => window.announced") if answer[:30] in text]
    assert len(heard) == 1
    assert answer in heard[0]


def test_the_waterfall_can_be_read_out(console: Console) -> None:
    """Beside the drawing there is a table of the stages, with its figures as text."""
    console.answered("What is in the table?")
    rows = console.part("waterfall").locator("table tr")
    assert rows.count() >= len(console.bars())


def test_less_motion_where_it_is_asked_for(visit: Visit, place: Place) -> None:
    """With `prefers-reduced-motion` nothing is animated or moves by itself."""
    console = visit(place.server.url, reduced_motion="reduce").open()
    console.answered("Calmly")
    assert (
        console.page.evaluate("() => document.getAnimations().filter(each => each.playState === 'running').length") == 0
    )
