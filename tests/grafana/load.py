"""A scripted load on two real servers of one deployment: in each round every kind of thing happens at least once.

`calm` has both plans, every surface, and a line in front of its model; `hurt` has hosts that fail for a while, an
outbox that fills and empties, and a limit that adapts. Each round ends
with a scrape, so that what it counted is a rise.
"""

import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from signal import SIGTERM
from typing import Any

from tests.grafana.load_hosts import FIRST_MODEL, OTHER_MODEL, Moods, moody_database, moody_model
from tests.grafana.load_script import (
    LONG,
    LONG_PAGE,
    OPS_TOKEN,
    PROJECTS,
    ROUNDS,
    TURNS_OF_A_USER,
    USERS,
    Server,
    calm_round,
    hurt_round,
)
from tests.prometheus import Prometheus, prometheus
from tests.receivers import OtlpReceiver, otlp_receiver
from tests.server.neighbours import Neighbour
from tests.server.process import ServerProcess

JOB = "nursery-chat"


@dataclass(slots=True, kw_only=True)
class Load:
    """What came of the load.

    Args:
        turns: how many the script made, by outcome.
        rules: as Prometheus had evaluated each at the end of each round.
        alerts: those that were active at the end of a round.
    """

    prometheus: Prometheus
    receiver: OtlpReceiver
    began_at: float
    ended_at: float
    turns: Counter[str]
    rules: list[dict[str, Any]]
    alerts: list[dict[str, Any]]

    @property
    def length_s(self) -> int:
        """How long it took: the widest window that makes sense."""
        return int(self.ended_at - self.began_at) + 1


@contextmanager
def played(folder: Path, rules: str) -> Iterator[Load]:
    """Run the load under a Prometheus with these rules; its servers are gone when this yields, it still answers."""
    with otlp_receiver() as receiver, ExitStack() as stack:
        with _servers(folder, receiver) as (calm, hurt):
            targets = [(JOB, each.process.url, OPS_TOKEN) for each in (calm, hurt)]
            api = stack.enter_context(prometheus(folder, targets, rules))
            api.wait_for_scrapes()  # so that what the first round counts is a rise, too
            began_at = time.time()
            told = [(api.rules(), api.alerts()) for _ in _rounds(api, calm, hurt)]
            ended_at = time.time()
        yield Load(
            prometheus=api,
            receiver=receiver,
            began_at=began_at,
            ended_at=ended_at,
            turns=calm.turns + hurt.turns,
            rules=[rule for rules, _ in told for rule in rules],
            alerts=[alert for _, alerts in told for alert in alerts],
        )


def _rounds(api: Prometheus, calm: Server, hurt: Server) -> Iterator[int]:
    """Play round after round; each yields when Prometheus has scraped what it counted."""
    with ThreadPoolExecutor(2) as pool:
        for number in range(ROUNDS):
            parts = [(calm_round, calm), (hurt_round, hurt)]
            for part in [pool.submit(play, server, number) for play, server in parts]:
                part.result()
            api.wait_for_scrapes()
            yield number


@contextmanager
def _servers(folder: Path, receiver: OtlpReceiver) -> Iterator[tuple[Server, Server]]:
    """Start both at the same time; afterwards both have ended, and have sent their last spans."""
    with ExitStack() as stack:
        calm, hurt = (stack.enter_context(_server(folder / name, name, receiver)) for name in ("calm", "hurt"))
        for server in (calm, hurt):
            server.process.learn_address()
        yield calm, hurt
        for server in (calm, hurt):
            server.process.send_signal(SIGTERM)
        assert [server.process.wait() for server in (calm, hurt)] == [0, 0]


@contextmanager
def _server(folder: Path, name: str, receiver: OtlpReceiver) -> Iterator[Server]:
    moods = Moods()
    folder.mkdir()
    with moody_model() as model, moody_database(folder / "hosted.sqlite3", moods) as database:
        settings = {
            "OPENAI_BASE_URL": f"{model.url}/v1",
            "OPENAI_MODEL": FIRST_MODEL,
            "SUPABASE_URL": database.url,
            "SUPABASE_KEY": "sb_secret_test",
            "AUTH_MODE": "dev",
            "OPS_TOKEN": OPS_TOKEN,
            "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": f"{receiver.url}/v1/traces",
            "OTEL_BSP_SCHEDULE_DELAY": "50",
            "LLM_FIRST_TOKEN_TIMEOUT": "3",
            "LLM_IDLE_TIMEOUT": "3",
            "DB_FETCH_TIMEOUT": "3",
            **_SETTINGS[name],
        }
        process = ServerProcess(folder / "data", "tests.grafana.load_server", **settings)
        try:
            _know(process, database)
            yield Server(process=process, moods=moods)
        finally:
            process.close()


def _know(process: ServerProcess, database: Neighbour) -> None:
    """Make the users at the database's host, some projects, and a conversation that is too long."""
    rows: list[tuple[str, dict[str, Any]]] = [("users", {"id": user}) for user in USERS]
    rows += [("projects", {"id": number, "user_id": user, "theme": "Bees"}) for user, number in PROJECTS.items()]
    key = "00000000-0000-4000-8000-000000000001"
    rows.append(("chat_conversations", {"id": key, "user_id": "ben", "page_id": LONG_PAGE}))
    for sender in ("user", "assistant"):
        row = {"user_id": "ben", "sender": sender, "message": "?" * (LONG // 2), "conversation_id": key}
        rows.append(("chat_logs", row))
    for table, row in rows:
        response = process.http.post(f"{database.url}/rest/v1/{table}", json=row)
        assert response.status_code == 201, response.text


_SETTINGS = {
    "calm": {
        "LLM_LIMITER_MODE": "fixed",
        "OPENAI_FALLBACK_MODEL": OTHER_MODEL,
        "OPENAI_API_POOL_SIZE": "2",
        "LLM_QUEUE_MAX": "1",
        "CHAT_CANARY_PERCENT": "50",
        "AGENT_CANARY_PERCENT": "50",
        "CHAT_PROMPT_MAX_CHARS": str(LONG - 1),
        "ENABLE_CHAT_RATE_LIMIT": "true",
        "CHAT_RATE_LIMIT_MAX": str(TURNS_OF_A_USER),
        "CHAT_RATE_LIMIT_WINDOW_SEC": "3600",
    },
    "hurt": {"LLM_LIMITER_MODE": "adaptive", "LLM_LIMITER_MIN": "4"},
}
