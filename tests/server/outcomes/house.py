"""Servers between real hosts and a collector, on which turns are made to end in every way there is.

`calm` has the usual deadlines and an outbox, `narrow` one slot, `hasty` short deadlines and no outbox.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from tests.receivers import OtlpReceiver, ReceivedSpan, otlp_receiver
from tests.server.ending import TALKING
from tests.server.neighbours import database_host, model_host
from tests.server.outcomes.moods import Moods, well_as
from tests.server.process import AT_ONCE, ServerProcess, running, until
from tests.server.wire import chat_head
from tests.telemetry.exposition import Read, read

MODEL, OTHER_MODEL = "some-model", "other-model"
USER, STEADY, THIRD, FOURTH = USERS = ("lively", "steady", "third", "fourth")
"""`STEADY` is none of the canary's users, so its turns are of the sequential plan."""
HASH_KEY = "k"
OPENMETRICS = {"accept": "application/openmetrics-text; version=1.0.0"}
SETTINGS: dict[str, dict[str, str]] = {
    "calm": {"DB_SAVE_TIMEOUT": "1", "OPENAI_FALLBACK_MODEL": OTHER_MODEL},
    "narrow": {
        "OPENAI_API_POOL_SIZE": "1",
        "LLM_QUEUE_MAX": "2",
        "LLM_QUEUE_TIMEOUT": "2",
        "GRACEFUL_TIMEOUT": "2",
    },
    "hasty": {
        "DB_FETCH_TIMEOUT": "1.5",
        "DB_SAVE_TIMEOUT": "1",
        "LLM_FIRST_TOKEN_TIMEOUT": "1",
        "LLM_IDLE_TIMEOUT": "0.7",
        "LLM_TIMEOUT": "1.5",
        "TURN_TIMEOUT": "2.2",
        "OUTBOX": "off",
    },
}


@dataclass(slots=True, kw_only=True)
class House:
    """A server, its hosts, and the collector that its telemetry goes to."""

    folder: Path
    server: ServerProcess
    receiver: OtlpReceiver
    moods: Moods

    def ask(self, message: str, page: str, *, user: str = USER, path: str = "/chat", **fields: Any) -> httpx.Response:
        """Post a message to be answered in a conversation of its own."""
        headers = {"authorization": f"Bearer {user}", **fields.pop("headers", {})}
        return self.server.http.post(path, json={"message": message, "page_id": page, **fields}, headers=headers)

    def expected_s(self) -> float:
        """Return how long a model call is expected to take."""
        return float(self.server.http.get("/ops/limiter").json()["mean_service_seconds"])

    def first_words(self) -> float:
        """Return how many answers have begun."""
        return self.server.gauge(TALKING)

    def page(self) -> dict[str, Read]:
        """Return `/metrics`, read."""
        return read(self.server.http.get("/metrics", headers=OPENMETRICS).text)


def posted(message: str, page: str, *, user: str = USER) -> bytes:
    """Return a whole `POST /chat`, for a client that will not wait for its answer."""
    body = json.dumps({"message": message, "page_id": page}).encode()
    return chat_head(len(body), user) + body


@contextmanager
def open_house(folder: Path, **settings: str) -> Iterator[House]:
    """Run a server among its hosts; its users are known, and it is warm."""
    moods = Moods()
    with ExitStack() as stack:
        receiver = stack.enter_context(otlp_receiver())
        model = stack.enter_context(model_host(well_as(OTHER_MODEL)))
        database = stack.enter_context(database_host(folder / "supabase.sqlite3", moods.around))
        given = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url,
            "OTEL_BSP_SCHEDULE_DELAY": "50",
            "OPENAI_BASE_URL": f"{model.url}/v1",
            "OPENAI_MODEL": MODEL,
            "SUPABASE_URL": database.url,
            "SUPABASE_KEY": "sb_secret_test",
            "AUTH_MODE": "dev",
            "TELEMETRY_HASH_KEY": HASH_KEY,
            "CHAT_CANARY_PERCENT": "0",
            "CANARY_USERS": f"{USER},{THIRD},{FOURTH}",
            **settings,
        }
        server = stack.enter_context(running(folder / "server", **given))
        for table, row in _ROWS:
            assert server.http.post(f"{database.url}/rest/v1/{table}", json=row).status_code == 201
        house = House(folder=folder, server=server, receiver=receiver, moods=moods)
        for user in USERS:  # who is known from then on, and not asked for again
            assert house.ask(f"Hello {AT_ONCE}", "first", user=user).status_code == 200
        server.wait_for_gauge("edge_turns_inflight", 0)
        yield house


_ROWS: tuple[tuple[str, dict[str, Any]], ...] = (
    *(("users", {"id": user}) for user in USERS),
    ("projects", {"id": 7, "user_id": USER, "theme": "Bees"}),
)


@dataclass(slots=True, kw_only=True)
class Seen:
    """What a case left: its turns' log lines, in the order in which they ended, and `/metrics` before and after."""

    returned: Any = None
    lines: list[dict[str, Any]] = field(default_factory=list)
    before: dict[str, Read] = field(default_factory=dict)
    after: dict[str, Read] | None = None
    error: Exception | None = None
    house: House

    def spans(self, trace_id: str) -> list[ReceivedSpan]:
        """Return what the collector has of a trace."""
        return [span for span in self.house.receiver.spans if span.trace_id == trace_id]


def witness(house: House, turns: int, act: Callable[[House], Any], *, outlives: bool = True) -> Seen:
    """Let a case happen and note what it left; of one that the server does not outlive there is no page after."""
    seen = Seen(before=house.page(), house=house)
    known = len(house.server.lines("turn.finished"))
    try:
        seen.returned = act(house)
        until(lambda: len(house.server.lines("turn.finished")) >= known + turns, f"{turns} turns have ended")
        if outlives:
            house.server.wait_for_gauge("edge_turns_inflight", 0)
            seen.after = house.page()
    except Exception as error:  # noqa: BLE001 - told by the test of that case
        seen.error = error
    seen.lines = house.server.lines("turn.finished")[known:]
    return seen
