"""Who may see what: tokens, the switch that takes the console away, and the policy that holds in the page."""

import re
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.console.conftest import Visit
from tests.console.place import Place
from tests.console.visit import Console
from tests.server.process import running

OPS_TOKEN = "of-the-operators"


def test_a_wrong_token_is_told_and_can_be_put_right(console: Console) -> None:
    """The notice says so, the question stays, and with the right token it is answered."""
    console.watch.expected.append("status of 401")
    console.part("token").fill("not a user")
    console.ask("Who am I?")
    expect(console.part("notice")).to_be_visible()
    console.part("token").fill("demo")
    console.part("retry").last.click()
    console.expect_answer()
    expect(console.part("message-user")).to_have_count(1)
    expect(console.part("notice")).not_to_be_visible()


def test_tokens_are_hidden_and_in_no_address(console: Console) -> None:
    """They are typed unseen, and no request has them in its address."""
    addresses: list[str] = []
    console.context.on("request", lambda request: addresses.append(request.url))
    console.part("token").fill("a-visitor-of-mine")
    console.answered("Hidden?")
    console.reload()
    expect(console.part("message-user")).to_have_count(1)
    assert addresses
    assert not [url for url in addresses if "a-visitor-of-mine" in url]
    for name in ("token", "ops-token"):
        expect(console.part(name)).to_have_attribute("type", "password")
        expect(console.part(name)).to_have_attribute("autocomplete", "off")


def test_data_of_operators_ask_for_their_token(visit: Visit, tmp_path: Path) -> None:
    """The page comes without it and the chat works; figures come as soon as it is given, and are gone without it."""
    with running(tmp_path, OPS_TOKEN=OPS_TOKEN) as server:
        console = visit(server.url)
        console.watch.expected.append("status of 401")
        console.page.goto(f"{server.url}/console")
        expect(console.part("ops-token")).to_be_visible()
        expect(console.part("limiter-total")).not_to_have_text(re.compile(r"\d"))
        console.part("token").fill("demo")
        console.answered("Without figures")
        assert console.trace_id()
        console.part("ops-token").fill("a wrong one")
        console.part("ops-token").press("Enter")
        expect(console.part("limiter-total")).not_to_have_text(re.compile(r"\d"))
        console.part("ops-token").fill(OPS_TOKEN)
        console.part("ops-token").press("Enter")
        console.ready()
        console.reload()
        expect(console.part("recent-turn")).to_have_count(1)
        console.leave()


def test_without_the_console_there_is_nothing(visit: Visit, tmp_path: Path) -> None:
    """`CONSOLE=false`: the page, its files and its data are 404, and the chat is as ever."""
    with running(tmp_path, CONSOLE="false") as server:
        console = visit(server.url)
        console.watch.expected.append("status of 404")
        answer = console.page.goto(f"{server.url}/console")
        assert answer
        assert answer.status == 404
        assert server.http.get("/ops/console").status_code == 404
        assert server.answer("As ever?")["response"]


def test_the_policy_holds_in_the_page(console: Console, place: Place) -> None:
    """A script, a style, a handler, a frame, a text as code, and a request to elsewhere are refused by the browser."""
    tried = console.page.evaluate(
        """async elsewhere => {
      const refused = [];
      const heard = new Promise(done => document.addEventListener('securitypolicyviolation', event => {
        refused.push(event.effectiveDirective);
        if (refused.includes('connect-src') && refused.includes('img-src')) done();
      }));
      try { document.body.innerHTML = '<b>x</b>'; } catch (error) { refused.push(error.name); }
      await new Promise(done => setTimeout(() => {
        try { new Function('window.pwned = 1')(); } catch (error) { refused.push('code from text'); }
        done();
      }));
      const style = document.createElement('style');
      style.textContent = 'body { display: none }';
      document.body.append(style);
      const image = new Image();
      image.src = `${elsewhere}/pixel.png`;
      document.body.append(image);
      await fetch(elsewhere).catch(() => null);
      await heard;
      return {refused, hidden: getComputedStyle(document.body).display};
    }""",
        "http://127.0.0.1:9",
    )
    console.watch.expected += ["Content Security Policy", "Trusted", "TrustedHTML", "Refused to", "violates"]
    assert {"TypeError", "code from text", "style-src-elem", "img-src", "connect-src"} <= set(tried["refused"])
    assert tried["hidden"] != "none"
    assert console.page.evaluate("() => window.pwned") is None
    console.leave()
    console.watch.elsewhere.clear()


def test_what_goes_wrong_in_a_page_is_noticed(visit: Visit, place: Place) -> None:
    """The look back at each test's end would find an error, an uncaught one, and a request to elsewhere."""
    console = visit(place.server.url).open()
    with console.context.expect_event("weberror"):
        console.page.evaluate("() => { console.error('an error'); setTimeout(() => { throw new Error('uncaught') }); }")
    console.page.goto("data:text/html,<img src='http://127.0.0.1:9/pixel.png'>")
    with pytest.raises(AssertionError, match="an error"):
        console.watch.check()
    assert any("uncaught" in error for error in console.watch.errors)
    assert console.watch.elsewhere == ["http://127.0.0.1:9/pixel.png"]
    console.watch.errors.clear()
    console.watch.elsewhere.clear()
