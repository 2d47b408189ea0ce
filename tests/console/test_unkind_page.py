"""What the console makes of impatient visitors, of wrong tokens, and of answers that are not the server's."""

import re
from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext, Route, expect

from tests.console.conftest import Visit
from tests.console.visit import Console
from tests.server.process import AT_ONCE, running

OPS_TOKEN = "of-the-operators"
SLOWLY = "[[fault: slow first=1 each=0.04]]"
BESIDE = """() => {
  const row = document.querySelector('[data-testid=bar][data-stage=llm]');
  const [bar, length] = ['.fill', '.length'].map(part => row.querySelector(part).getBoundingClientRect());
  return length.left >= bar.right - 1 || length.right <= bar.left + 1;
}"""


def portal(context: BrowserContext, address: str) -> None:
    """Answer requests to an address as a network does that wants its visitors to sign in first."""
    context.route(address, lambda route: route.fulfill(status=200, content_type="text/html", body="<html>Sign in"))


def poll_now(console: Console) -> None:
    """Have the page ask for its figures now, as it does when a network comes back."""
    with console.page.expect_response("**/ops/console"):
        console.page.evaluate("() => dispatchEvent(new Event('online'))")


@pytest.mark.parametrize("continued", [True, False])
def test_a_stop_in_the_moment_of_sending(console: Console, *, continued: bool) -> None:
    """It comes before the turn is known to the server, and stops it all the same."""
    console.part("continue").set_checked(continued)
    asked: list[Route] = []
    console.context.route("**/chat/stream", lambda route: asked.append(route))
    console.ask(f"Sent by mistake {SLOWLY}")
    with console.page.expect_response("**/stop") as stop:
        console.part("stop").click()
    assert stop.value.json() == {"stopped": False}
    asked[0].continue_()
    console.expect_answer("stopped")


def test_a_stop_that_does_not_come_through_is_told(console: Console) -> None:
    """Here the answer ends; that the server does not know of it is said."""
    console.watch.expected.append("Failed to load resource")
    console.part("continue").check()
    console.context.route("**/stop", lambda route: route.abort())
    console.ask(f"Stopped alone {SLOWLY}")
    console.part("stop").click()
    console.expect_answer("stopped")
    expect(console.part("notice")).to_be_visible()


def test_the_page_of_somebody_else_is_no_connection(console: Console) -> None:
    """A network's own page in the server's place is as if there were none, and the page goes on when it is gone."""
    console.answered(f"Said before {AT_ONCE}")
    portal(console.context, "**/ops/*")
    portal(console.context, "**/chat/history*")
    console.page.reload()
    expect(console.part("connection")).to_have_attribute("data-state", "offline")
    expect(console.part("notice")).to_be_visible()
    console.context.unroute("**/ops/*")
    console.context.unroute("**/chat/history*")
    expect(console.part("connection")).to_have_attribute("data-state", "online")
    expect(console.part("message-user")).to_have_count(1)
    expect(console.part("notice")).not_to_be_visible()


def test_a_resize_after_one_that_went_astray(console: Console) -> None:
    """The first is told to have failed, the second is sent and seen."""
    portal(console.context, "**/ops/limiter")
    console.part("limiter-size").fill("4")
    console.part("limiter-apply").click()
    expect(console.part("limiter-error")).to_be_visible()
    console.context.unroute("**/ops/limiter")
    console.part("limiter-size").fill("6")
    console.part("limiter-apply").click()
    expect(console.part("limiter-total")).to_have_text("6")
    expect(console.part("limiter-error")).not_to_be_visible()


def test_a_browser_without_a_network_reaches_its_own_machine(visit: Visit, console: Console) -> None:
    """That the browser believes itself offline does not count where the server answers."""
    alone = visit(console.url)
    alone.page.add_init_script("Object.defineProperty(Navigator.prototype, 'onLine', {get: () => false})")
    alone.open()
    expect(alone.part("connection")).to_have_attribute("data-state", "online")


def test_a_wrong_ops_token_is_tried_once(visit: Visit, tmp_path: Path) -> None:
    """Neither polls nor half a token count against the address: what is typed is sent when it is whole, and once."""
    with running(tmp_path, OPS_TOKEN=OPS_TOKEN) as server:
        console = visit(server.url)
        console.watch.expected.append("status of 401")
        sent: list[str | None] = []

        def note(route: Route) -> None:
            sent.append(route.request.headers.get("authorization"))
            route.continue_()

        console.context.route("**/ops/console", note)
        console.page.goto(f"{server.url}/console")
        ops_token = console.part("ops-token")
        ops_token.press_sequentially("wrong")
        poll_now(console)
        assert not any(sent)
        ops_token.press("Enter")
        expect(ops_token).to_have_attribute("aria-invalid", "true")
        for _ in range(3):
            poll_now(console)
        assert [token for token in sent if token] == ["Bearer wrong"]
        ops_token.fill(OPS_TOKEN)
        ops_token.press("Enter")
        console.ready()
        console.leave()


def test_a_token_that_cannot_be_sent(console: Console) -> None:
    """A token in letters that no header holds is a wrong token, not a lost connection."""
    console.part("token").fill("合言葉")
    console.ask("Who am I?")
    expect(console.part("notice")).to_have_text(re.compile("token"))
    expect(console.part("token")).to_have_attribute("aria-invalid", "true")


def test_an_answer_that_failed_midway_is_not_called_none(console: Console) -> None:
    """What came is called cut short; where nothing came, there is no answer."""
    console.watch.expected.append("status of 502")
    for after, words in ((4, "Cut short"), (0, "No answer")):
        console.ask(f"Break [[fault: error after={after}]]")
        expect(console.part("message-assistant").last).to_have_attribute("data-state", "failed")
        expect(console.part("message-assistant").last).to_contain_text(words)


def test_a_bar_is_not_hidden_by_its_own_length(visit: Visit, console: Console) -> None:
    """On the narrowest phone a stopped turn's longest bar is seen, its length stands beside it."""
    phone = visit(console.url, viewport={"width": 320, "height": 800}).open()
    phone.ask(f"Stopped on a phone {SLOWLY}")
    expect(phone.last_answer).to_have_text(re.compile(r"\w"))
    phone.part("stop").click()
    phone.expect_answer("stopped")
    phone.until(BESIDE, "the length stands beside the bar")


def test_a_question_that_was_never_sent_is_seen_after_a_reload(console: Console) -> None:
    """It is shown with the way to try again, and its answer stands under it."""
    console.watch.expected.append("Failed to load resource")
    console.context.route("**/chat/stream", lambda route: route.abort())
    console.ask(f"In a tunnel {AT_ONCE}")
    expect(console.part("retry").last).to_be_visible()
    console.context.unroute("**/chat/stream")
    console.reload()
    console.part("retry").last.click()
    console.expect_answer()
    expect(console.part("message-user")).to_have_count(1)
    expect(console.part("message-user")).to_contain_text("In a tunnel")


def test_a_question_that_was_refused_is_not_lost_by_a_reload(visit: Visit, tmp_path: Path) -> None:
    """What came too fast is a draft again."""
    with running(tmp_path, ENABLE_CHAT_RATE_LIMIT="true", CHAT_RATE_LIMIT_MAX="1") as server:
        console = visit(server.url).open()
        console.watch.expected.append("status of 429")
        console.answered(f"One {AT_ONCE}")
        console.ask("Two")
        expect(console.part("retry").last).to_be_visible()
        expect(console.part("ask")).to_have_value("")
        console.reload()
        expect(console.part("ask")).to_have_value("Two")
        console.leave()
