"""`/metrics` while turns run: several scrapers at once, and as many series as before however many users come."""

import http.client
import json
import re
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from itertools import cycle, pairwise

import httpx
import pytest

from tests.server.process import AT_ONCE, WAIT_S, ServerProcess, running
from tests.server.streaming import stream
from tests.telemetry.exposition import Labels, Read, read

OPENMETRICS = "application/openmetrics-text; version=1.0.0"
CLASSIC = "text/plain"
ACCEPTS = (OPENMETRICS, CLASSIC, OPENMETRICS, CLASSIC)
LINES = 12
"""Connections on which turns are asked for side by side."""
PAUSE_S, READINGS = 0.05, 20
"""Between a scraper's readings, which come a hundred times as often as a Prometheus's, and how many there are."""
CROWD, REPEATED = 72, 12

ASKED = (("/chat", f"Hello {AT_ONCE}"), ("/conversation-agent/chat", "Hello"))

DURATIONS = (
    "chat_turn_duration_seconds",
    "chat_turn_overhead_duration_seconds",
    "chat_turn_time_to_first_token_seconds",
    "chat_stage_duration_seconds",
    "gen_ai_client_operation_duration_seconds",
    "gen_ai_client_operation_time_to_first_chunk_seconds",
    "llm_limiter_wait_duration_seconds",
)
Series = tuple[str, str, Labels]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    roomy = {"LLM_QUEUE_MAX": "1000", "OPENAI_API_POOL_SIZE": "32", "LLM_QUEUE_TIMEOUT": "60", "DB_SAVE_TIMEOUT": "60"}
    with running(tmp_path_factory.mktemp("data"), DB_FETCH_TIMEOUT="30", **roomy) as process:
        _visit(process, ["first", "second"])
        stream(process, f"Hello {AT_ONCE}", user="first")
        yield process


def _visit(server: ServerProcess, users: Iterable[str]) -> None:
    """Have users ask one after the other over one connection, the model and the agent's rules by turns."""
    with closing(http.client.HTTPConnection(*server.address, timeout=WAIT_S)) as connection:
        for user, (path, message) in zip(users, cycle(ASKED), strict=False):
            headers = {"authorization": f"Bearer {user}", "content-type": "application/json"}
            connection.request("POST", path, json.dumps({"message": message, "page_id": user}), headers)
            response = connection.getresponse()
            body = json.loads(response.read())
            assert (response.status, body["saved"]) == (200, "database"), body


def _crowd(server: ServerProcess, prefix: str, count: int) -> None:
    """Have so many users visit, a dozen at once."""
    users = [f"{prefix}-{number}" for number in range(count)]
    with ThreadPoolExecutor(LINES) as pool:
        list(pool.map(_visit, [server] * LINES, [users[line::LINES] for line in range(LINES)]))


@dataclass(slots=True)
class Scraper:
    """Reads `/metrics` again and again in one of its forms."""

    accept: str
    texts: list[str] = field(default_factory=list)

    def scrape(self, http_client: httpx.Client) -> None:
        """Read it once."""
        response = http_client.get("/metrics", headers={"accept": self.accept})
        assert (response.status_code, self.accept in response.headers["content-type"]) == (200, True)
        self.texts.append(response.text)

    def run(self, server: ServerProcess, over: threading.Event) -> None:
        """Read until it is over, or often enough."""
        with httpx.Client(base_url=server.url, trust_env=False, timeout=WAIT_S) as http_client:
            while len(self.texts) < READINGS and not over.wait(PAUSE_S):
                self.scrape(http_client)

    def page(self, number: int) -> dict[str, Read]:
        """Return one of the pages that it read; one that is not as its format wants it fails the test."""
        text = self.texts[number]
        return read(text if self.accept == OPENMETRICS else _as_openmetrics(text))


def _as_openmetrics(classic: str) -> str:
    """Return a classic page with its counters named as OpenMetrics names them."""
    counters = "|".join(re.findall(r"^# TYPE (\w+)_total counter$", classic, re.MULTILINE))
    return re.sub(rf"^(# \w+ (?:{counters}))_total ", r"\1 ", classic, flags=re.MULTILINE) + "# EOF\n"


@pytest.fixture(scope="module")
def scrapers(server: ServerProcess) -> list[Scraper]:
    """Four scrapers that read while a crowd visits, and once more after it."""
    found, over = [Scraper(accept) for accept in ACCEPTS], threading.Event()
    with ThreadPoolExecutor(len(found)) as pool:
        readings = [pool.submit(scraper.run, server, over) for scraper in found]
        try:
            _crowd(server, "watched", CROWD)
        finally:
            over.set()
        for reading in readings:
            reading.result()
    server.wait_for_gauge("edge_turns_inflight", 0)
    for scraper in found:
        scraper.scrape(server.http)
    return found


def _rising(page: dict[str, Read]) -> dict[Series, float]:
    return {
        (name, suffix, labels): value
        for name, family in page.items()
        if family.kind in ("counter", "histogram")
        for (suffix, labels), value in family.samples.items()
    }


@pytest.mark.parametrize("which", range(len(ACCEPTS)), ids=["openmetrics", "classic", "openmetrics 2", "classic 2"])
def test_no_scraper_sees_a_count_fall(scrapers: list[Scraper], which: int) -> None:
    """Each page parses, and no counter, bucket, sum or count is less than on the page before, or gone."""
    pages = [_rising(scrapers[which].page(number)) for number in range(len(scrapers[which].texts))]
    assert len(pages) >= 3
    for before, after in pairwise(pages):
        assert [series for series, value in before.items() if after.get(series, -1.0) < value] == []
    begun, ended = ({key: value for key, value in page.items() if key[1] == "_count"} for page in (pages[0], pages[-1]))
    assert sum(ended.values()) > sum(begun.values()), "turns ran meanwhile"


def test_all_scrapers_are_told_the_same_in_the_end(scrapers: list[Scraper]) -> None:
    """When nothing happens any more, every scraper has the same turns, in whichever form and after however many."""
    last = [scraper.page(-1)["chat_turn_duration_seconds"].samples for scraper in scrapers]
    assert all(samples == last[0] for samples in last)
    assert sum(value for (suffix, _), value in last[0].items() if suffix == "_count") == 3 + CROWD


def test_every_scraper_sees_every_exemplar(scrapers: list[Scraper]) -> None:
    """Nobody's reading takes an exemplar away from others, though the SDK hands each over once."""
    first, _, second, _ = (scraper.page(-1) for scraper in scrapers)
    for name in DURATIONS:
        filled = {key for key, count in _own_counts(first[name]).items() if count}
        assert first[name].exemplars.keys() == filled
        assert first[name].exemplars == second[name].exemplars


def _own_counts(family: Read) -> dict[tuple[str, Labels], float]:
    """Return how many values are in each bucket, and in none below it."""
    counts: dict[tuple[str, Labels], float] = {}
    below: dict[Labels, float] = {}
    for (suffix, labels), value in family.samples.items():
        if suffix == "_bucket":
            counts[suffix, labels] = value - below.get(labels[:-1], 0.0)
            below[labels[:-1]] = value
    return counts


def _series(server: ServerProcess) -> set[Series]:
    text = server.http.get("/metrics", headers={"accept": OPENMETRICS}).text
    return {(name, suffix, labels) for name, family in read(text).items() for suffix, labels in family.samples}


@pytest.mark.usefixtures("scrapers")  # whose crowd is counted too
@pytest.mark.parametrize("users", [180, pytest.param(10_000, marks=pytest.mark.soak)])
def test_users_add_no_series(server: ServerProcess, users: int) -> None:
    """However many users, conversations and turns there were, `/metrics` has the series that two users make."""
    before = _series(server)
    _crowd(server, f"one-of-{users}", users)
    assert _series(server) == before
    assert server.gauge("chat_users_active") == pytest.approx(CROWD + users, rel=0.1)


STRANGE: dict[str, dict[str, str]] = {
    "method": {"method": "BREW#"},
    "path": {"path": "/nowhere/#?user=#"},
    "chat": {"method": "POST", "path": "/chat/evil-#/stop"},
    "origin": {"origin": "https://evil-#.example"},
    "user agent": {"user-agent": "evil/#"},
    "traceparent": {"traceparent": "00-0af7651916cd43dd8448#-00f067aa0ba902b7-01"},
    "request id": {"x-request-id": "evil-#"},
    "model": {"method": "POST", "path": "/chat", "body": f'{{"message": "Hi {AT_ONCE}", "model": "evil-#"}}'},
    "field": {"method": "POST", "path": "/chat", "body": '{"message": 1, "evil-#": 1}'},
    "conversation": {
        "method": "POST",
        "path": "/chat",
        "body": '{"message": "Hi", "conversation_id": "00000000-0000-4000-8000-#"}',
    },
    "code": {"method": "POST", "path": "/chat", "body": '{"message": "Hi [[fault: http 400 evil-#]]"}'},
    "scrape": {"path": "/metrics?evil=#", "accept": "text/evil-#"},
}
"""What strangers can make up; `#` is a number of twelve digits."""


def _strange(server: ServerProcess, kind: str, number: int) -> None:
    made = {name: text.replace("#", f"{number:012}") for name, text in STRANGE[kind].items()}
    method, path, body = made.pop("method", "GET"), made.pop("path", "/readyz"), made.pop("body", None)
    headers = {"authorization": "Bearer first", "content-type": "application/json", **made}
    server.http.request(method, path, headers=headers, content=body)


@pytest.mark.parametrize("kind", STRANGE)
def test_what_strangers_make_up_adds_no_series(server: ServerProcess, kind: str) -> None:
    """One of a kind may be the first of its status; a dozen more, all different, are counted with it."""
    _strange(server, kind, 0)
    server.wait_for_gauge("edge_turns_inflight", 0)
    before = _series(server)
    for number in range(1, REPEATED):
        _strange(server, kind, number)
    server.wait_for_gauge("edge_turns_inflight", 0)
    assert _series(server) == before
    assert "evil" not in server.http.get("/metrics").text
