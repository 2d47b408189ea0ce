"""nginx and Caddy with the files of deploy/, before two real processes: streams, routing, strangers, ends."""

import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from signal import SIGKILL, SIGTERM
from urllib.parse import quote, urlsplit

import httpx
import pytest

from tests.console.browser import as_visitor, opened_browser
from tests.console.visit import Console
from tests.deploy.proxied import (
    FAILURES_MAX,
    FOLDER,
    KINDS,
    ORIGIN,
    Kind,
    Pair,
    caddy,
    is_ours,
    nginx_command,
    pair,
    raw_answer,
)
from tests.server.holding import asked
from tests.server.parts import end_of, metadata_of, text_of
from tests.server.process import AT_ONCE, PROJECT_ROOT, until
from tests.server.rows import turn_rows
from tests.server.streaming import STALLS, Open

ODD_NAMES = [f"課題 {n}/é?" for n in range(5)]
"""So many that they go to both processes; none can be in a path or a header as it is."""
CLOSED = [
    "/metrics", "/metrics/", "/metrics?name=x", "/ops/limiter", "/ops/console", "/ops/support", "/ops", "/ops/",
    "//ops/limiter", "/ops//limiter", "/%6fps/limiter", "/m%65trics", "/./ops/limiter", "/chat/../ops/limiter",
    "/ops%2Flimiter", "/x/..%2Fops/limiter", "/ops/./limiter", "/metrics/../metrics",
]  # fmt: skip

MISSED: dict[Kind, list[int]] = {"nginx": [], "caddy": [502]}


@pytest.fixture(scope="module", params=KINDS)
def town(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    with pair(request.param, tmp_path_factory.mktemp(request.param)) as both:
        yield both


def test_the_first_word_comes_before_the_last_is_said(town: Pair) -> None:
    """The text begins at the client while the model still holds the rest of it back; then comes all of it."""
    question = "Who waits?"
    town.held.holds.add(question)
    with town.opened("first", asked(question)) as stream:
        stream.deltas(1)
        town.held.wait_for_held(question)
        town.held.let_go(question)
        assert end_of(stream.rest())["type"] == "finish"


def test_conversations_go_to_both_and_stay(town: Pair) -> None:
    """Each process has some of them, and one that is asked in again goes to the same process."""
    chats = [town.chat_of(number, "stays") for number in (0, 1)]
    assert [town.home(chat) for chat in chats * 2] == [0, 1] * 2


@pytest.mark.parametrize("address", ["/chat", "/chat/stream"])
@pytest.mark.parametrize("chat", ["chat-1", "chat-2", "chat-3", "stream", *ODD_NAMES])
def test_resume_and_stop_find_the_turn(town: Pair, chat: str, address: str) -> None:
    """With the id in the path alone, as the SDK sends it, both reach the process that has the conversation's turn."""
    with town.opened(chat, STALLS, on_disconnect="continue") as stream:
        stream.deltas(1)
    path = f"{address}/{town.headers(chat)['x-chat-id']}"
    with town.http.stream("GET", f"{path}/stream?again=1", headers=town.headers(None)) as response:
        assert response.status_code == 200
        again = Open(response)
        again.deltas(1)
        assert town.stop(f"{path}/stop")
        assert again.rest()[0]["messageId"] == stream.read[0]["messageId"]


def test_who_names_no_conversation_stays_too(town: Pair) -> None:
    """Without a header, all that a user asks goes to one process, as long as the token is the same."""
    headers, body = town.headers(None), {"message": f"Hello {AT_ONCE}"}
    answers = [town.http.post("/chat", json=body, headers=headers) for _ in range(4)]
    assert len({town.home_of(answer) for answer in answers}) == 1


def test_a_page_from_elsewhere_may_name_its_conversation(town: Pair) -> None:
    """The header that the proxies go by is one that a browser may send to us from an allowed origin."""
    asked_for = {"access-control-request-method": "POST", "access-control-request-headers": "authorization,x-chat-id"}
    allowed = town.http.options("/chat", headers=asked_for | {"origin": ORIGIN}).headers
    assert allowed["access-control-allow-origin"] == ORIGIN
    assert {"*", "x-chat-id"} & set(re.split(r", ?", allowed["access-control-allow-headers"].lower()))


def test_a_client_that_leaves_ends_its_turn(town: Pair) -> None:
    """The proxy hangs up on the server when its own client does, and the turn is cancelled."""
    with town.opened("leaves", STALLS) as stream:
        stream.deltas(1)
    trace_id = metadata_of(stream.read)["trace_id"]
    server = town.servers[town.number_of(trace_id)]
    assert server.lines("turn.finished", trace_id=trace_id)[0]["outcome"] == "cancelled"


def test_a_stranger_has_one_address(town: Pair) -> None:
    """Whatever `X-Forwarded-For` says, bad tokens count for the address that they came from."""
    headers = {"authorization": "Bearer nobody", "x-chat-id": "stranger"}
    seen = [
        town.http.get("/chat/history", headers=headers | {"x-forwarded-for": f"203.0.113.{n}"}).status_code
        for n in range(FAILURES_MAX + 1)
    ]
    assert seen == [401] * FAILURES_MAX + [429]


def test_a_stranger_does_not_choose_what_is_traced(town: Pair) -> None:
    """A `traceparent` from outside, whose sampled flag a trusted proxy's word would make count, does not arrive."""
    trace_id = "0af7651916cd43dd8448eb211c80319c"
    response = town.http.get("/healthz", headers={"traceparent": f"00-{trace_id}-00f067aa0ba902b7-01"})
    assert (response.status_code, response.headers["x-trace-id"] == trace_id) == (200, False)


@pytest.mark.parametrize("path", CLOSED)
def test_what_is_for_ops_is_closed(town: Pair, path: str) -> None:
    """`/metrics` and `/ops` are no address of the proxy, however they are written; no process is asked."""
    answer = raw_answer(str(town.http.base_url), "GET", path)
    assert (answer.status_code in (400, 404), is_ours(answer)) == (True, False)


def test_ops_reach_the_processes_themselves(town: Pair) -> None:
    """What is closed at the proxy is open at the process, which shows that it is the proxy who closes it."""
    assert [server.http.get(path).status_code for server in town.servers for path in ("/metrics", "/ops/limiter")] == [
        200
    ] * 4
    body = b'{"total_tokens": 1}'
    assert raw_answer(str(town.http.base_url), "PUT", "/ops/limiter", body).status_code == 404


def test_the_console_is_a_page_without_data(town: Pair) -> None:
    """The page and all its files come through, to be kept; the data of ops behind it do not."""
    page = town.http.get("/console")
    assert page.status_code == 200
    (folder,) = set(re.findall(r"console/[0-9a-f]{16}/", page.text))
    files = [
        path.relative_to(PROJECT_ROOT / "app/ops/console")
        for path in (PROJECT_ROOT / "app/ops/console").rglob("*")
        if path.suffix in (".js", ".css")
    ]
    assert files
    for name in files:
        file = town.http.get(f"/{folder}{name}")
        assert (file.status_code, "immutable" in file.headers["cache-control"]) == (200, True), name
    assert town.get("/ops/console").status_code == 404


def test_the_console_stops_what_it_began(town: Pair) -> None:
    """In a real browser: whichever process has the page's turn, Stop reaches it, and history is asked of the same."""
    home, before = str(town.http.base_url), cancelled(town)
    with opened_browser() as browser:
        context, watch = as_visitor(browser, home)
        tab = Console(context.new_page(), context, watch, home)
        asked_for: list[tuple[str, str | None]] = []
        tab.page.on("request", lambda sent: asked_for.append((sent.url, sent.headers.get("x-chat-id"))))
        tab.page.goto(f"{home}/console")
        tab.part("token").fill(town.headers(None)["authorization"].removeprefix("Bearer "))
        tab.part("continue").check()
        for count, name in enumerate(ODD_NAMES[:3], 1):
            tab.part("page-key").fill(name)
            tab.part("page-key").press("Tab")
            tab.ask(STALLS)
            tab.expect_half(STALLS)
            tab.part("stop").click()
            until(lambda: cancelled(town) == before + count, "the turn is stopped")  # noqa: B023 - called here
            tab.expect_answer("stopped")
    chats = [(url, name) for url, name in asked_for if urlsplit(url).path.startswith("/chat")]
    assert chats
    assert [url for url, name in chats if name is None] == []
    assert {name for _, name in chats} >= {quote(name, safe="") for name in ODD_NAMES[:3]}


def cancelled(town: Pair) -> int:
    """Return how many turns have been ended early, in both processes."""
    return sum(len(server.lines("turn.finished", outcome="cancelled")) for server in town.servers)


def test_a_body_that_is_too_large_is_refused_in_our_words(town: Pair) -> None:
    """Over `MAX_BODY_BYTES` the server's own 413 is seen."""
    response = town.post("large", "x" * ((1 << 20) + 1))
    assert (response.status_code, is_ours(response)) == (413, True)


def test_a_turn_ends_whole_while_its_process_drains(town: Pair) -> None:
    """After SIGTERM a stream goes on to its own end, and the process's exit is 0. New turns go to the other process.

    Until the port is closed (nginx) or /readyz was asked (Caddy), some are 503 `draining`; nothing else happens to any.
    """
    question, chat = "Who drains?", town.chat_of(0, "drains")
    town.held.holds.add(question)
    with town.opened(chat, asked(question)) as stream:
        stream.deltas(1)
        town.held.wait_for_held(question)
        town.servers[0].send_signal(SIGTERM)
        town.servers[0].wait_for_log("server.draining")
        refused = answers_until_one(town, chat)
        assert {(answer.status_code, answer.json()["code"]) for answer in refused} <= {(503, "draining")}
        town.held.let_go(question)
        parts = stream.rest()
    assert (end_of(parts)["type"], metadata_of(parts)["saved"]) == ("finish", "database")
    assert turn_rows(town.folder, parts[0]["messageId"])[1]["message"] == text_of(parts)
    assert town.servers[0].wait() == 0
    town.begin_again(0)
    until(partial(is_home, town, chat), "the conversation is at home again")


def test_a_killed_process_is_not_missed(town: Pair) -> None:
    """Once a process is killed new turns are answered by the other; when it is back, its conversations are there again.

    With nginx all of them are; Caddy finds out by the first, which is 502.
    """
    chat = town.chat_of(0, "killed")
    town.servers[0].send_signal(SIGKILL)
    town.servers[0].wait()
    refused = answers_until_one(town, chat)
    assert [answer.status_code for answer in refused] in ([], MISSED[town.kind])
    assert {town.home(name) for name in (chat, *(f"new-{n}" for n in range(8)))} == {1}
    town.begin_again(0)
    until(partial(is_home, town, chat), "the conversation is at home again")


def is_home(town: Pair, chat: str) -> bool:
    """Ask in a conversation, some times a second, and return whether it was the first process that answered."""
    threading.Event().wait(0.2)
    return town.home(chat) == 0


def answers_until_one(town: Pair, chat: str) -> list[httpx.Response]:
    """Ask in a conversation until the second process answers, and return what was refused before."""
    refused: list[httpx.Response] = []

    def is_answered() -> bool:
        answer = town.post(chat, f"Hello {AT_ONCE}")
        if answer.status_code == 200:
            assert town.home_of(answer) == 1
            return True
        refused.append(answer)
        return False

    until(is_answered, "the other process answers")
    return refused


def test_nginx_takes_its_file(tmp_path: Path) -> None:
    """`nginx -t` has nothing to say against it, not even a warning."""
    command = nginx_command(tmp_path, 8000, ["127.0.0.1:1", "127.0.0.1:2"])
    done = subprocess.run([*command, "-t"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "[warn]" not in done.stderr


def test_caddy_takes_its_file(tmp_path: Path) -> None:
    """`caddy validate` takes the file as it is, with its certificate to be, and `caddy fmt` would not change it."""
    told = {"HOME": str(tmp_path), "XDG_DATA_HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path)}
    shutil.copy(FOLDER / "Caddyfile", tmp_path)
    for command in (
        ["validate", "--adapter", "caddyfile", "--config", "Caddyfile"],
        ["fmt", "--overwrite", "Caddyfile"],
    ):
        done = subprocess.run([caddy(), *command], cwd=tmp_path, env=told, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    assert (tmp_path / "Caddyfile").read_text() == (FOLDER / "Caddyfile").read_text()
