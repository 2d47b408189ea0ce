"""Pictures of the console, as the documents show it: a turn worth seeing, with its model and database at a distance.

python -m tests.console.pictures FOLDER
"""

import argparse
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Literal

import trio
from playwright.sync_api import Browser, Locator, Page, expect

from app.clients.in_process import AsgiApp, Message
from app.embedded.scripted_model import ScriptedModel
from tests.console.browser import as_visitor, opened_browser
from tests.console.visit import Console, lies_right
from tests.server.neighbours import database_host, model_host
from tests.server.process import ServerProcess, running, until

PAGE = "project-2"
EARLIER = "How can I count flowers fairly?"
QUESTION = "Do bees near our school visit more kinds of flowers than bees in the fields?"
BEFORE_IT = "Keep the model busy for a moment. [[fault: slow first=0.5 each=0.006]]"
OTHERS = (
    "What is a control group?",
    "How many samples do I need? [[fault: slow first=0.9 each=0.012]]",
    "Where do I look for sources? [[fault: slow first=0.1 each=0.004]]",
    "What can go wrong? [[fault: cut after=20]]",
    "How do I write it down? [[fault: slow first=0.3 each=0.008]]",
)
AWAY_S = {
    ("GET", "/rest/v1/chat_conversations"): 0.085,
    ("GET", "/rest/v1/projects"): 0.14,
    ("POST", "/rest/v1/chat_conversations"): 0.04,
    ("POST", "/rest/v1/chat_logs"): 0.09,
}
"""How long a database in another place takes."""
LOOKS: dict[str, tuple[int, int, Literal["light", "dark"]]] = {
    "console": (1280, 900, "light"),
    "console-dark": (1280, 900, "dark"),
    "console-phone": (390, 844, "light"),
}
"""Width and height in CSS pixels, and the colours that the reader's system has."""
ALONE: tuple[int, int, Literal["light"]] = (719, 900, "light")
"""Here the cards stand one below the other, each as high as what is in it."""


def far(app: AsgiApp) -> AsgiApp:
    """Return a database that is as far away as most are."""

    async def delayed(scope: Message, receive: Callable[[], Any], send: Callable[[Message], Any]) -> None:
        if scope["type"] == "http":
            await trio.sleep(AWAY_S.get((scope["method"], scope["path"]), 0.0))
        await app(scope, receive, send)

    return delayed


@contextmanager
def house(folder: Path) -> Iterator[ServerProcess]:
    """Run a server with two slots for its model, which thinks before it speaks."""

    def thoughtful(_app: AsgiApp) -> AsgiApp:
        return ScriptedModel(first_token_s=0.4, per_token_s=0.006)

    with model_host(thoughtful) as model, database_host(folder / "project.sqlite3", far) as database:
        settings = {
            "OPENAI_BASE_URL": f"{model.url}/v1", "OPENAI_MODEL": "scripted-tutor", "OPENAI_API_POOL_SIZE": "2",
            "SUPABASE_URL": database.url, "SUPABASE_KEY": "sb_secret_pictures", "AUTH_MODE": "dev",
            "LLM_PER_USER_MAX": "8", "JAEGER_URL": "http://127.0.0.1:16686", "GRAFANA_URL": "http://127.0.0.1:3000",
        }  # fmt: skip
        with running(folder / "server", **settings) as server:
            yield server


def take(browser: Browser, folder: Path, rounds: int) -> list[Path]:
    """Take all pictures into `folder`, after some rounds of other people's questions, and return their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as data, house(Path(data)) as server:
        context, watch = as_visitor(browser, server.url, device_scale_factor=2)
        console = Console(context.new_page(), context, watch, server.url).open()
        for _ in range(rounds):
            with ThreadPoolExecutor(4) as pool:
                list(pool.map(partial(ask, server), OTHERS))
        less = {"total_tokens": 1, "who": "night shift", "why": "the provider lets us have one"}
        server.http.put("/ops/limiter", json=less).raise_for_status()
        worth_seeing(console, server)
        wear(console, *ALONE)
        paths = [picture(console.part("waterfall"), folder / "waterfall.png")]
        for name, look in LOOKS.items():
            wear(console, *look)
            paths.append(picture(console.page, folder / f"{name}.png", full_page=True, scale="css"))
        context.close()
        watch.check()
    return paths


def ask(server: ServerProcess, question: str) -> None:
    """Ask as somebody else; some of it fails."""
    server.ask(question, page_id="elsewhere")


def worth_seeing(console: Console, server: ServerProcess) -> None:
    """Ask twice on a project's page, the second time while the model is busy, so that this turn has to wait."""
    console.part("page-key").fill(PAGE)
    console.part("page-key").press("Enter")
    console.answered(EARLIER)
    busy = threading.Thread(target=ask, args=(server, BEFORE_IT))
    busy.start()
    until(lambda: server.http.get("/ops/limiter").json()["borrowed"] == 1, "the model is busy")
    console.answered(QUESTION)
    busy.join()
    expect(console.part("limiter-total")).to_have_text("1")
    expect(console.part("limiter-borrowed")).to_have_text("0")
    until(lambda: all(map(lies_right, console.bars().values())), "the bars have come to rest")


def wear(console: Console, width: int, height: int, colours: Literal["light", "dark"]) -> None:
    """Give the page another screen, and wait until it is drawn for that."""
    console.page.set_viewport_size({"width": width, "height": height})
    console.page.emulate_media(color_scheme=colours)
    console.page.mouse.move(0, 0)
    console.part("log").evaluate("log => { log.scrollTop = log.scrollHeight; }")
    until(lambda: all(map(lies_right, console.bars().values())), "the bars have come to rest")


def picture(subject: Page | Locator, path: Path, **options: Any) -> Path:
    """Take a picture of a page or a part."""
    subject.screenshot(path=str(path), animations="disabled", **options)
    return path


def main() -> None:
    """Take the documents' pictures."""
    parser = argparse.ArgumentParser(prog="python -m tests.console.pictures", description=__doc__)
    parser.add_argument("folder", type=Path, help="where console.png, console-dark.png and so on go")
    folder = parser.parse_args().folder
    with opened_browser() as browser:
        take(browser, folder, rounds=5)


if __name__ == "__main__":
    main()
