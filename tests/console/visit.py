"""The console as its visitor has it: what can be pressed, and what can be read, by the page's `data-testid`s."""

import re
from dataclasses import dataclass

from playwright.sync_api import BrowserContext, Locator, Page, expect

from tests.console.browser import WAIT_S, Watch
from tests.server.process import until

LENGTHS = """() => {
  const log = document.querySelector('[data-testid=log]');
  window.seenLengths = [];
  new MutationObserver(() => {
    const answer = [...log.querySelectorAll('[data-testid=answer]')].at(-1);
    const length = answer ? answer.textContent.trim().length : 0;
    if (length !== window.seenLengths.at(-1)) window.seenLengths.push(length);
  }).observe(log, {childList: true, subtree: true, characterData: true});
}"""
STATES = """() => {
  const chart = document.querySelector('[data-testid=waterfall]');
  window.seenStates = new Set();
  new MutationObserver(() => {
    for (const bar of chart.querySelectorAll('[data-testid=bar]'))
      window.seenStates.add(`${bar.dataset.stage} ${bar.dataset.state}`);
  }).observe(chart, {childList: true, subtree: true, attributes: true});
}"""
CHART = """chart => {
  const box = each => each.getBoundingClientRect();
  const axis = chart.querySelector('[data-testid=axis]');
  const [left, width, end] = [box(axis).left, box(axis).width, Number(axis.dataset.end)];
  return [...chart.querySelectorAll('[data-testid=bar]')].map(bar => {
    const fill = box(bar.querySelector('[data-testid=bar-fill]'));
    return {
      stage: bar.dataset.stage, state: bar.dataset.state, text: bar.innerText,
      at: Number(bar.dataset.at), seconds: Number(bar.dataset.seconds ?? NaN),
      drawnAt: (fill.left - left) / width * end, drawnSeconds: fill.width / width * end, pixel: end / width,
    };
  });
}"""
_FIGURE = re.compile(r"(\d+(?:\.(\d+))?)\s*(ms|s)\b")
FEW_PIXELS = 3.0
_UNITS = {"ms": 0.001, "s": 1.0}


@dataclass(frozen=True, slots=True)
class Bar:
    """A stage's bar: what it says, and where it is drawn on the axis, in seconds; `pixel` is what one is worth."""

    stage: str
    state: str
    text: str
    at: float
    seconds: float
    drawn_at: float
    drawn_seconds: float
    pixel: float


def lies_right(bar: Bar) -> bool:
    """Return whether a bar is drawn where it should be, to a few pixels."""
    near = FEW_PIXELS * bar.pixel
    return abs(bar.drawn_at - bar.at) <= near and abs(bar.drawn_seconds - bar.seconds) <= near


def figures(text: str) -> list[tuple[float, float]]:
    """Return the durations in a text, in seconds, each with half of its last digit's worth."""
    return [
        (float(number) * _UNITS[unit], 0.5 * 10 ** -len(decimals or "") * _UNITS[unit])
        for number, decimals, unit in _FIGURE.findall(text)
    ]


@dataclass(frozen=True, slots=True)
class Console:
    """One tab."""

    page: Page
    context: BrowserContext
    watch: Watch
    url: str

    def part(self, name: str) -> Locator:
        """Return what has that test id."""
        return self.page.get_by_test_id(name)

    def open(self) -> "Console":
        """Go there, and wait until the page has its first figures."""
        self.page.goto(f"{self.url}/console")
        self.ready()
        return self

    def reload(self) -> None:
        """Load the page anew."""
        self.page.reload()
        self.ready()

    def ready(self) -> None:
        """Wait until the page has figures of the server."""
        expect(self.part("limiter-total")).to_have_text(re.compile(r"\d"))

    def leave(self) -> None:
        """Close the page, before a server that is the test's own ends: one that drains refuses the page's questions."""
        self.page.goto("about:blank")

    def another_tab(self) -> "Console":
        """Return a second tab of the same visitor."""
        return Console(self.context.new_page(), self.context, self.watch, self.url).open()

    def ask(self, question: str) -> None:
        """Type a question and press the button."""
        self.part("ask").fill(question)
        self.part("send").click()

    @property
    def last_answer(self) -> Locator:
        """The last answer's text."""
        return self.part("answer").last

    def expect_answer(self, state: str = "done") -> Locator:
        """Wait until the last answer is in that state, and return its text."""
        expect(self.part("message-assistant").last).to_have_attribute("data-state", state)
        return self.last_answer

    def answered(self, question: str) -> str:
        """Ask, wait for the end, and return what was said."""
        before = self.part("message-assistant").count()
        self.ask(question)
        expect(self.part("message-assistant")).to_have_count(before + 1)
        return self.expect_answer().inner_text()

    def expect_half(self, question: str) -> None:
        """Wait until the first words of an answer that is held are there."""
        expect(self.part("message-user").last).to_contain_text(question)
        expect(self.part("message-assistant").last).to_have_attribute("data-state", "streaming")
        expect(self.last_answer).to_have_text(re.compile(r"\S"))

    def bars(self) -> dict[str, Bar]:
        """Return the waterfall's bars by stage, top to bottom."""
        return {
            bar["stage"]: Bar(
                bar["stage"], bar["state"], bar["text"], bar["at"], bar["seconds"],
                bar["drawnAt"], bar["drawnSeconds"], bar["pixel"],
            )
            for bar in self.part("waterfall").evaluate(CHART)
        }  # fmt: skip

    def trace_id(self) -> str:
        """Return the trace id that is shown."""
        expect(self.part("trace-id")).to_have_text(re.compile("^[0-9a-f]{32}$"))
        return self.part("trace-id").inner_text().strip()

    def seconds(self, name: str) -> float:
        """Return the exact figure of a part that shows a duration."""
        return float(self.part(name).get_attribute("data-seconds") or "nan")

    def tab_to(self, name: str, *, back: bool = False, at_most: int = 80) -> None:
        """Press Tab until the part has the focus."""
        for _ in range(at_most):
            if self.focused() == name:
                return
            self.page.keyboard.press("Shift+Tab" if back else "Tab")
        raise AssertionError(f"{name} was not reached with Tab")

    def focused(self) -> str:
        """Return the test id of what has the focus."""
        return str(self.page.evaluate("() => document.activeElement?.dataset.testid ?? ''"))

    def is_narrow_enough(self) -> bool:
        """Return whether nothing reaches out to the side."""
        return bool(
            self.page.evaluate("() => document.scrollingElement.scrollWidth <= document.documentElement.clientWidth")
        )

    def until(self, script: str, what: str) -> None:
        """Wait until a script says true; for what has no locator."""
        until(lambda: bool(self.page.evaluate(script)), what, WAIT_S)
