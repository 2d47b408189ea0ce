"""A wall clock that jumps by hours under a running server: no deadline notices, timings stay true, rows stay in order.

The jumps are libfaketime's, which changes what the process is told of the time of day and leaves the monotonic clock
alone, as a correction by NTP does. After a suspend it is the same: the monotonic clock goes on where it stood.
"""

import itertools
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.edge.limits_wire import MODULE, Life, get, hanging_on, live
from tests.needs import need_program
from tests.server.process import AT_ONCE, ServerProcess, running
from tests.server.rows import stored
from tests.server.wire import chat_head

HOURS = {"forward": 3, "back": -3}
SLOW_S = 1.0
SLACK_S = 4.0
"""For a busy machine; what goes by the time of day is wrong by hours."""
DEADLINES_S = {
    "an idle connection": 2.5,
    "a half head": 2.5,
    "a half body": 1.0,
    "a silent model": 2.0,
    "a stalled reader": 1.0,
    "the drain": 2.0,
}
SETTINGS = {
    "TEST_KEEP_ALIVE": "2.5",
    "BODY_TIMEOUT": "1",
    "LLM_FIRST_TOKEN_TIMEOUT": "2",
    "CLIENT_SEND_TIMEOUT": "1",
    "GRACEFUL_TIMEOUT": "2",
    "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    "FAKETIME_FORCE_MONOTONIC_FIX": "0",
    "FAKETIME_NO_CACHE": "1",
}
"""Without the FIX at 0, libfaketime 0.9.10 has Python's threads wait for the interpreter in a busy loop."""


@dataclass(slots=True)
class Lived:
    """What a server did while its clock jumped; seconds are by a clock that did not."""

    data_dir: Path
    took_s: dict[str, float] = field(default_factory=dict)
    statuses: dict[str, int] = field(default_factory=dict)
    answers: list[tuple[float, dict[str, Any]]] = field(default_factory=list)
    """With how long each took."""
    page: str = ""


class Jumps:
    """The file in which libfaketime looks for how far the time of day is off."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.to(0)

    def to(self, hours: int) -> None:
        """Put the clock so far off, from now on."""
        new = self.path.with_suffix(".new")
        new.write_text(f"{hours * 3600:+d}\n")
        new.replace(self.path)


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    start = time.monotonic()
    result = work()
    return time.monotonic() - start, result


def slow_turn(server: ServerProcess, number: int) -> dict[str, Any]:
    return server.answer(f"Number {number} [[fault: slow first={SLOW_S} each=0]]")


def dropped(server: ServerProcess) -> None:
    with hanging_on(server, get("/test/flood/100000000")):
        server.wait_for_log("connection.dropped", reason="send_timeout")


def live_through(folder: Path, hours: int, library: str) -> Lived:
    """Have a server's clock jump while every deadline runs, and jump home again in the middle of the next turn."""
    jumps, lived = Jumps(folder / "offset"), Lived(folder / "data")
    fake = {"LD_PRELOAD": library, "FAKETIME_TIMESTAMP_FILE": str(jumps.path)}
    with running(lived.data_dir, MODULE, **SETTINGS, **fake) as server, ThreadPoolExecutor() as pool:
        server.answer(f"First {AT_ONCE}")
        ends: dict[str, Future[Life]] = {
            "an idle connection": pool.submit(live, server, get("/healthz")),
            "a half head": pool.submit(live, server, b"GET /"),
            "a half body": pool.submit(live, server, chat_head(100)),
        }
        silent = pool.submit(timed, lambda: server.ask("Hello? [[fault: silent]]", user="silent"))
        stalled = pool.submit(timed, lambda: dropped(server))
        slow = pool.submit(timed, lambda: slow_turn(server, 1))
        server.wait_for_gauge("edge_turns_inflight", 2)
        jumps.to(hours)
        lived.answers.append(slow.result())
        lived.took_s["a stalled reader"], _ = stalled.result()
        lived.took_s["a silent model"], response = silent.result()
        lived.statuses["a silent model"] = response.status_code
        for name, end in ends.items():
            lived.took_s[name] = end.result().end_s
            lived.statuses |= {name: end.result().statuses[-1]} if end.result().statuses else {}

        slow = pool.submit(timed, lambda: slow_turn(server, 2))
        server.wait_for_gauge("edge_turns_inflight", 1)
        jumps.to(0)
        lived.answers += [slow.result(), timed(lambda: server.answer(f"Last {AT_ONCE}"))]
        lived.page = server.http.get("/metrics").text
        drain(server, jumps, hours, pool, lived)
    return lived


def drain(server: ServerProcess, jumps: Jumps, hours: int, pool: ThreadPoolExecutor, lived: Lived) -> None:
    """Have the server end, with a turn that would take for ever, while its clock jumps once more."""
    asked = pool.submit(server.ask, "Hello? [[fault: slow first=60]]", user="drained")
    server.wait_for_gauge("edge_turns_inflight", 1)
    ended = pool.submit(timed, server.end)
    server.wait_for_log("server.draining")
    jumps.to(hours)
    lived.took_s["the drain"], lived.statuses["the end"] = ended.result()
    lived.statuses["the drain"] = asked.result().status_code


@pytest.fixture(scope="module")
def lives(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Lived]:
    """Both ways, side by side."""
    library = need_program(
        "libfaketime.so.1", "apt-get install libfaketime", "/usr/lib/*/faketime", "/usr/lib/faketime"
    )
    with ThreadPoolExecutor() as pool:
        both = {
            way: pool.submit(live_through, tmp_path_factory.mktemp(way), hours, library) for way, hours in HOURS.items()
        }
    return {way: lived.result() for way, lived in both.items()}


@pytest.mark.parametrize("way", HOURS)
def test_the_clock_did_jump(lives: dict[str, Lived], way: str) -> None:
    """The server's time of day was hours off, so what follows means something."""
    _, first = lives[way].answers[0]
    off = datetime.fromisoformat(first["timestamp"]) - datetime.now(UTC)
    assert abs(off - timedelta(hours=HOURS[way])) < timedelta(minutes=10)


@pytest.mark.parametrize("deadline", DEADLINES_S)
@pytest.mark.parametrize("way", HOURS)
def test_no_deadline_notices(lives: dict[str, Lived], way: str, deadline: str) -> None:
    """A deadline that runs while the clock jumps neither expires early nor is prolonged."""
    # The drain's is for all that happens from the signal on; a turn is told to end when half of it is over.
    least = DEADLINES_S[deadline] * (0.5 if deadline == "the drain" else 0.95)
    assert least <= lives[way].took_s[deadline] <= DEADLINES_S[deadline] + SLACK_S


@pytest.mark.parametrize("way", HOURS)
def test_what_ran_ends_as_it_should(lives: dict[str, Lived], way: str) -> None:
    """What a deadline ends, it ends with its own answer; the process ends by itself."""
    expected = {"a half body": 408, "an idle connection": 200, "a silent model": 504, "the drain": 503, "the end": 0}
    assert lives[way].statuses == expected


@pytest.mark.parametrize("way", HOURS)
def test_timings_are_true(lives: dict[str, Lived], way: str) -> None:
    """No timing is negative or longer than what the client measured, in the answers, the rows and the metrics."""
    for took, answer in lives[way].answers:
        metrics = answer["performance_metrics"]
        assert all(0 <= seconds <= took for seconds in metrics.values()), metrics
    for _, answer in lives[way].answers[:2]:
        assert answer["performance_metrics"]["llm_response_time"] >= SLOW_S * 0.95
    for row in stored(lives[way].data_dir, sender="assistant"):
        assert all(0 <= seconds < 20 for seconds in row["context_data"]["performance_metrics"].values())
    durations = [line for line in lives[way].page.splitlines() if "_seconds_sum" in line]
    assert durations
    assert all(0 <= float(line.rpartition(" ")[2]) < 120 for line in durations), durations


@pytest.mark.parametrize("way", HOURS)
def test_rows_stay_in_order(lives: dict[str, Lived], way: str) -> None:
    """A conversation reads as it was held: every answer is later than its question, every turn than the one before."""
    rows = stored(lives[way].data_dir, user_id="demo")
    assert [row["sender"] for row in rows] == ["user", "assistant"] * 4
    assert [row["message"].split(" [")[0] for row in rows[::2]] == ["First", "Number 1", "Number 2", "Last"]
    assert all(rows[i]["turn_id"] == rows[i + 1]["turn_id"] for i in range(0, 8, 2))
    times = [datetime.fromisoformat(row["created_at"]) for row in rows]
    assert all(later > earlier for earlier, later in itertools.pairwise(times))
    assert [answer["context_metadata"]["history_count"] for _, answer in lives[way].answers] == [2, 4, 6]
