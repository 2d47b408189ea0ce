"""All incidents at once, beside a server on which nothing is wrong, under one real Prometheus; and what it has seen."""

import itertools
import math
import sqlite3
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from signal import SIGTERM

import httpx
import trio

from tests.grafana.incident_faults import Switch
from tests.grafana.incidents import Incident, Visitors
from tests.prometheus import Prometheus, prometheus
from tests.server.neighbours import database_host, model_host
from tests.server.process import ServerProcess

QUIET_SCRAPES = 6
"""Of each server before anything is wrong: enough for rates of all kinds, and for any alert that does not need one."""
PATIENCE_S = 60.0
"""For all alerts to fire: on a machine with nothing else to do a third of it is needed."""
AFTERMATH_S = 3.0
"""For alerts that should not fire to have the time to."""
ROWS, ROW_CHARS = 20, 450_000
"""Of a conversation that is too long: 9 MB as JSON, and with one character outside the BMP 36 MB in Python."""


@dataclass(slots=True, kw_only=True)
class Stage:
    """A server with what it calls, its fault's switch, and who asks it."""

    incident: Incident
    server: ServerProcess
    switch: Switch
    statuses: dict[str, Counter[int]] = field(default_factory=dict)


@dataclass(slots=True, kw_only=True)
class History:
    """What Prometheus has stored. Everything went wrong at `broken_at`, and `ended_at` nobody asked any more."""

    prometheus: Prometheus
    began_at: float
    broken_at: float
    ended_at: float
    answers: dict[str, dict[str, Counter[int]]]

    def fired(self, job: str, start: float, end: float) -> set[str]:
        """Return the names of a job's alerts that fired between two times."""
        series = self.prometheus.query_range(f'ALERTS{{alertstate="firing", job="{job}"}}', start, end)
        return {each["metric"]["alertname"] for each in series}

    def highest(self, expression: str, start: float, end: float) -> float:
        """Return the highest finite value that any series of an expression has between two times; 0 without any."""
        series = self.prometheus.query_range(expression, start, end)
        values = (float(text) for each in series for _, text in each["values"])
        return max((value for value in values if math.isfinite(value)), default=0.0)


@contextmanager
def played(folder: Path, incidents: Sequence[Incident], rules: str) -> Iterator[History]:
    """Run all incidents until each of their alerts has fired, or patience ends; Prometheus still answers afterwards."""
    with ExitStack() as hosts:
        with _stages(folder, incidents, hosts) as stages:
            targets = [(stage.incident.name, stage.server.url, None) for stage in stages]
            api = hosts.enter_context(prometheus(folder, targets, rules))
            began_at, broken_at = trio.run(_play, api, stages)
        answers = {stage.incident.name: stage.statuses for stage in stages}
        yield History(prometheus=api, began_at=began_at, broken_at=broken_at, ended_at=time.time(), answers=answers)


@contextmanager
def _stages(folder: Path, incidents: Sequence[Incident], hosts: ExitStack) -> Iterator[list[Stage]]:
    """Start all servers at the same time, and end them so."""
    stages: list[Stage] = []
    try:
        for incident in incidents:
            switch = Switch()
            settings = _host_settings(folder / incident.name, incident, switch, hosts)
            server = ServerProcess(folder / incident.name, incident.module, **settings)
            stages.append(Stage(incident=incident, server=server, switch=switch))
        for stage in stages:
            stage.server.learn_address()
        yield stages
    finally:
        for stage in stages:
            if stage.server.process.poll() is None:
                stage.server.send_signal(SIGTERM)
        for stage in stages:
            stage.server.close()
    for stage in stages:
        stacks = [
            line["stack"] for line in stage.server.log if "stack" in line and line["event"] not in stage.incident.stacks
        ]
        assert not [*stage.server.stray, *stacks], "\n".join([stage.incident.name, *stage.server.stray, *stacks])


def _host_settings(folder: Path, incident: Incident, switch: Switch, hosts: ExitStack) -> Mapping[str, str]:
    folder.mkdir()
    settings = {"GRACEFUL_TIMEOUT": "1", **incident.settings}
    around = switch.around(incident.fault) if incident.fault else lambda app: app
    if incident.host == "model":
        model = hosts.enter_context(model_host(around))
        return settings | {"OPENAI_BASE_URL": f"{model.url}/v1"}
    if incident.host == "database":
        path = folder / "hosted.sqlite3"
        database = hosts.enter_context(database_host(path, around))
        _fill(path, incident)
        return settings | {"SUPABASE_URL": database.url, "SUPABASE_KEY": "sb_secret_test", "AUTH_MODE": "dev"}
    return settings


def _fill(path: Path, incident: Incident) -> None:
    """Make the users known, and the conversations that are too long."""
    users = {user for visitors in (*incident.before, *incident.during) for user in visitors.users}
    text = "\U0001f41d" + "a" * ROW_CHARS
    with closing(sqlite3.connect(path)) as database, database:
        database.executemany("insert into users (id) values (?)", [(user,) for user in sorted(users)])
        for number in range(incident.long_histories):
            user, key = f"long-{number}", f"00000000-0000-4000-8000-{number:012}"
            database.execute("insert into chat_conversations (id, user_id, page_id) values (?, ?, 'long')", (key, user))
            rows = [(user, ("user", "assistant")[row % 2], text, key) for row in range(ROWS)]
            database.executemany(
                "insert into chat_logs (user_id, sender, message, conversation_id) values (?, ?, ?, ?)", rows
            )


async def _play(api: Prometheus, stages: Sequence[Stage]) -> tuple[float, float]:
    """Return when the load began, and when everything went wrong."""
    began_at, over = time.time(), trio.Event()
    async with trio.open_nursery() as nursery:
        for stage in stages:
            nursery.start_soon(_ask_all, stage, "before", stage.incident.before, over)
        await trio.to_thread.run_sync(api.wait_for, lambda: _scraped(api, began_at) == len(stages), "scrapes")
        broken_at = time.time()
        for stage in stages:
            stage.switch.thrown.set()
            nursery.start_soon(_ask_all, stage, "during", stage.incident.during, over)
        wanted = {(stage.incident.name, alert) for stage in stages for alert in stage.incident.alerts}
        with suppress(AssertionError):  # what is missing then, the tests tell better
            await trio.to_thread.run_sync(api.wait_for, lambda: _all_seen(api, stages, wanted), "alerts", PATIENCE_S)
        await trio.sleep(AFTERMATH_S)
        over.set()
    return began_at, broken_at


def _scraped(api: Prometheus, began_at: float) -> int:
    window = max(1, int(time.time() - began_at))
    return len(api.query(f"count_over_time(up[{window}s]) >= {QUIET_SCRAPES}"))


def _all_seen(api: Prometheus, stages: Sequence[Stage], wanted: set[tuple[str, str]]) -> bool:
    """Strike out what fires now; return whether nothing is left that must be seen."""
    firing = (alert["labels"] for alert in api.alerts() if alert["state"] == "firing")
    wanted -= {(labels.get("job"), labels["alertname"]) for labels in firing}
    return not wanted and all(api.query(stage.incident.until) for stage in stages if stage.incident.until)


async def _ask_all(stage: Stage, phase: str, visitors: Sequence[Visitors], over: trio.Event) -> None:
    """Have all visitors come until it is over; their last questions are answered then."""
    statuses = stage.statuses.setdefault(phase, Counter())
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)  # no race with the server's own limit
    async with (
        httpx.AsyncClient(base_url=stage.server.url, timeout=60, trust_env=False, limits=limits) as http,
        trio.open_nursery() as nursery,
    ):
        for each in visitors:
            queues = [each.users] if each.in_turn else [(user,) for user in each.users for _ in range(each.at_once)]
            for number, users in enumerate(queues):
                starts_at = trio.current_time() + each.every_s * number / len(queues)  # evenly, as strangers come
                nursery.start_soon(_ask_on, http, each, users, starts_at, statuses, over)


async def _ask_on(
    http: httpx.AsyncClient,
    visitors: Visitors,
    users: tuple[str, ...],
    starts_at: float,
    statuses: Counter[int],
    over: trio.Event,
) -> None:
    await trio.sleep_until(starts_at)
    for user in itertools.cycle(users):
        next_at = trio.current_time() + visitors.every_s
        statuses[await _status(http, visitors, user)] += 1
        with trio.move_on_at(next_at):
            await over.wait()
        if over.is_set():
            return


async def _status(http: httpx.AsyncClient, visitors: Visitors, user: str) -> int:
    """Ask, and return the answer's status; 0 where none came."""
    try:
        if visitors.path:
            response = await http.get(visitors.path)
        else:
            body = {"message": visitors.question, **visitors.fields}
            response = await http.post("/chat", json=body, headers={"authorization": f"Bearer {user}"})
    except httpx.TransportError:
        return 0
    return response.status_code
