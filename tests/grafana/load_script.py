"""What happens in a round of the load, on either server. Each turn has the outcome that is written beside it."""

import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import httpx

from app.edge.connection import MAX_AHEAD_BYTES
from tests.grafana.load_hosts import FIRST_IS_BUSY, LOST_PROJECT, ODD_ROW, UNHEARD_USER, Moods
from tests.grafana.load_server import BUG, PLAN_BUG
from tests.server.process import AT_ONCE, WAIT_S, ServerProcess, until
from tests.server.streaming import opened
from tests.server.wire import chat_head, connected

ROUNDS = 2
OPS_TOKEN = "ops-of-the-load"
OPS = {"authorization": f"Bearer {OPS_TOKEN}"}
TURNS_OF_A_USER = 6 * ROUNDS
"""Before the limit of turns refuses."""
PLANS = {"concurrent": "ann", "sequential": "cem"}
"""Users who take a plan at 50 %."""
PROJECTS = {"ann": 71, "cem": 72}
USERS = ("ann", "ben", "cem", "dan", "eve", "fay", "gus", "hal", "ida", "jon", UNHEARD_USER)
AGENT = "/conversation-agent/chat"
LONG_PAGE, LONG = "long", 20_000
"""A page whose history is so many characters, which is too much."""
HOLDS = "[[fault: slow first=0 each=0.3]]"
TIMEOUTS = {"eve": "Why? [[fault: silent]]", "fay": "Why? [[fault: stall after=1]]", UNHEARD_USER: "Why?"}
BUSY = ("rate_limit_exceeded", "slow_down", "body=empty")
NO_RETRY = "retry-after=60"
"""A wait so long that nobody asks again."""


@dataclass(slots=True, kw_only=True)
class Server:
    """One of the servers, and how many turns of which outcome it was made to have."""

    process: ServerProcess
    moods: Moods
    turns: Counter[str] = field(default_factory=Counter)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def post(self, message: str, *, user: str, path: str = "/chat", **fields: Any) -> httpx.Response:
        """Ask for a turn, and return what came of it."""
        headers = {"authorization": f"Bearer {user}"}
        return self.process.http.post(path, json={"message": message, **fields}, headers=headers)

    def ask(self, outcome: str, status: int, message: str, **asked: Any) -> None:
        """Ask for a turn that is to end so."""
        response = self.post(message, **asked)
        assert response.status_code == status, (outcome, message, response.status_code, response.text)
        self.count(outcome)

    def count(self, outcome: str, turns: int = 1) -> None:
        """Take down that so many turns ended so."""
        with self.lock:
            self.turns[outcome] += turns

    def resize(self, slots: int) -> None:
        """Set how many calls the model is asked for at once, by hand."""
        response = self.process.http.put("/ops/limiter", json={"total_tokens": slots}, headers=OPS)
        assert response.status_code == 200, response.text

    def rest(self) -> None:
        """Wait until no turn runs."""
        until(lambda: self.gauge("edge_turns_inflight") == 0, "no turn runs")

    def wait_for(self, gauge: str, value: float) -> None:
        """Wait until a gauge has a value."""
        until(lambda: self.gauge(gauge) == value, f"{gauge} is {value}")

    def gauge(self, name: str) -> float:
        """Return a gauge's value, summed over its series."""
        page = self.process.http.get("/metrics", headers=OPS).text.splitlines()
        return sum(float(line.rpartition(" ")[2]) for line in page if line.startswith((f"{name}{{", f"{name} ")))


def calm_round(calm: Server, number: int) -> None:
    """Answers of all kinds, and callers of all kinds; nothing here depends on the number of the round."""
    for user in PLANS.values():
        calm.ask("ok", 200, f"Why? {AT_ONCE}", user=user, page_id=f"project-{PROJECTS[user]}")
        calm.ask("ok", 200, f"Why? {AT_ONCE}", user=user, path="/chat/stream")
        calm.ask("ok", 200, "Why?", user=user, path=AGENT)
        calm.ask("ok", 200, f"Why? {AT_ONCE}", user=user, path=AGENT, mock_mode=False)
        calm.ask("degraded", 200, f"Why? {AT_ONCE}", user=user, page_id=f"project-{LOST_PROJECT}")
        calm.ask("upstream_error", 502, "Why? [[fault: cut after=2]]", user=user)
    calm.ask("degraded", 200, f"Why? {AT_ONCE}", user="ben", page_id=LONG_PAGE)
    calm.ask("degraded", 200, f"{FIRST_IS_BUSY} {AT_ONCE}", user="dan")
    calm.ask("degraded", 200, f"Why? [[fault: http 400 {NO_RETRY}]]", user="dan", path=AGENT, mock_mode=False)
    calm.ask("refused", 404, f"Why? {AT_ONCE}", user="dan", conversation_id="00000000-0000-4000-8000-000000000000")
    _crowd(calm)
    _strangers(calm)
    _greed(calm)
    for slots in (3, 2):
        calm.resize(slots)


def _crowd(calm: Server) -> None:
    """Two turns hold the slots, a third waits, a fourth is turned away; the first three leave."""
    with ExitStack() as streams:
        for user in ("eve", "fay", "gus"):
            streams.enter_context(opened(calm.process, f"Why? {HOLDS}", user=user))
        calm.wait_for("llm_limiter_waiting", 1)
        calm.ask("shed", 503, "Me too?", user="hal")
    calm.count("cancelled", 3)
    calm.rest()
    with ThreadPoolExecutor(3) as pool:  # one of three waits until another one has been answered
        answers = [
            pool.submit(calm.ask, "ok", 200, "Why? [[fault: slow first=0.2 each=0]]", user=user)
            for user in ("eve", "fay", "gus")
        ]
    for answer in answers:
        answer.result()


def _strangers(calm: Server) -> None:
    """Who speaks no HTTP, and who goes on sending while he is answered."""
    with connected(calm.process) as wire:
        wire.send(b"no HTTP at all\r\n\r\n")
        assert wire.response().status_code == 400
    with connected(calm.process) as wire:
        ask = f'{{"message": "Why? {HOLDS}"}}'.encode()
        wire.send(chat_head(len(ask), "ida") + ask)
        calm.wait_for("edge_turns_inflight", 1)
        wire.send(b"x" * (MAX_AHEAD_BYTES + 1))
        assert wire.answered_within(WAIT_S)
    calm.count("cancelled")
    calm.rest()


def _greed(calm: Server) -> None:
    """A user asks until he may not, and once more."""
    while (response := calm.post("Why?", user="jon", path=AGENT)).status_code == 200:
        calm.count("ok")
    assert response.status_code == 429, response.text


def hurt_round(hurt: Server, number: int) -> None:
    """Hosts that fail and come back."""
    with ThreadPoolExecutor(len(TIMEOUTS)) as pool:
        late = [pool.submit(hurt.ask, "timeout", 504, message, user=user) for user, message in TIMEOUTS.items()]
        hurt.ask("ok", 200, f"Why? {AT_ONCE}", user="ann")
        hurt.ask("ok", 200, f"Why? {AT_ONCE}", user="ann", page_id=PLAN_BUG)
        hurt.ask("internal_error", 500, f"Why? {AT_ONCE}", user="ann", page_id=BUG)
        _outbox(hurt, number)
        for each in late:
            each.result()
    assert hurt.process.http.get("/test/stall/0.6").status_code == 200
    for refusal in BUSY:
        hurt.ask("shed", 503, f"Why? [[fault: http 429 {refusal} {NO_RETRY}]]", user="ann")
    _breaker(hurt)
    if number == ROUNDS - 1:  # the host is left alone for a minute
        hurt.ask("upstream_error", 502, "Why? [[fault: http 429 insufficient_quota]]", user="ann")
    hurt.rest()


def _outbox(hurt: Server, number: int) -> None:
    """Two turns wait in the outbox; later they are delivered, but one that no database takes."""
    hurt.moods.no_writes.set()
    hurt.ask("degraded", 200, f"Why? {AT_ONCE}", user="ben")
    waiting = 'outbox_depth{state="waiting"}'
    until(lambda: hurt.gauge(waiting) >= 2, "two rows wait")  # and those of turns that run into a deadline meanwhile
    hurt.moods.no_writes.clear()
    hurt.ask("degraded", 200, f"{ODD_ROW} {AT_ONCE}", user="dan", page_id=f"odd-{number}")
    hurt.wait_for(waiting, 0)


def _breaker(hurt: Server) -> None:
    """The model's host fails until it is left alone, and is found again."""
    hurt.ask("ok", 200, f"Why? {AT_ONCE}", user="ann")  # after which failures are counted anew
    for _ in range(5):
        hurt.ask("upstream_error", 502, f"Why? [[fault: http 500 server_error {NO_RETRY}]]", user="ann")
    hurt.ask("shed", 503, f"Why? {AT_ONCE}", user="ann")
    while (response := hurt.post(f"Well? {AT_ONCE}", user="ann")).status_code == 503:
        hurt.count("shed")
        threading.Event().wait(float(response.headers["retry-after"]))
    assert response.status_code == 200, response.text
    hurt.count("ok")
