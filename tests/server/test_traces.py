"""Whose trace it is, whether it is sampled, and collectors that are off, down or deaf."""

import re
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.receivers import Mode, otlp_receiver, rotel_receiver
from tests.server.process import AT_ONCE, ServerProcess, running

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "00f067aa0ba902b7"
ENDED_S = 8.0  # a flush gives up after five seconds


def parent(flags: str) -> dict[str, str]:
    return {"traceparent": f"00-{TRACE}-{SPAN}-{flags}"}


@pytest.fixture(scope="module")
def unsampled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with running(tmp_path_factory.mktemp("data"), OTEL_TRACES_SAMPLER="always_off") as process:
        yield process


@pytest.mark.parametrize("flags", ["00", "01"])
def test_an_incoming_trace_is_joined(server: ServerProcess, flags: str) -> None:
    """The reply's trace id is the caller's, sampled or not."""
    response = server.ask(f"Join {AT_ONCE}", headers=parent(flags))
    assert response.json()["trace_id"] == response.headers["x-trace-id"] == TRACE


@pytest.mark.parametrize(
    "header",
    [
        "",
        "junk",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}",
    ],
)
def test_a_broken_traceparent_begins_a_trace(server: ServerProcess, header: str) -> None:
    """A traceparent that is none is ignored: a new trace begins, and the turn is answered."""
    body = server.answer(f"Join {AT_ONCE}", headers={"traceparent": header})
    assert re.fullmatch("[0-9a-f]{32}", body["trace_id"])
    assert body["trace_id"] not in (TRACE, "0" * 32)


def test_an_error_names_the_callers_trace(server: ServerProcess) -> None:
    """A refusal joins the trace too."""
    assert server.ask("", headers=parent("01")).json()["trace_id"] == TRACE


@pytest.mark.parametrize(
    ("sampler", "trusted", "flags", "exported"),
    [
        ("parentbased_always_on", "", "00", True),  # a stranger cannot hide a trace
        ("parentbased_always_off", "", "01", False),  # nor force one
        ("always_off", "", "01", False),
        ("parentbased_always_off", "127.0.0.0/8", "01", True),
        ("parentbased_always_on", "127.0.0.0/8", "00", False),
        ("parentbased_always_on", "10.0.0.0/8", "00", True),
    ],
)
def test_only_a_trusted_peer_decides_the_sampling(
    tmp_path: Path, sampler: str, trusted: str, flags: str, exported: bool
) -> None:
    """The caller's sampled flag counts from TRUSTED_PROXIES only; the trace is joined either way."""
    with otlp_receiver() as receiver:
        settings = {"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url, "OTEL_TRACES_SAMPLER": sampler}
        with running(tmp_path, TRUSTED_PROXIES=trusted, **settings) as server:
            assert server.answer(f"Sample me {AT_ONCE}", headers=parent(flags))["trace_id"] == TRACE
            assert server.end() == 0
        roots = [span for span in receiver.spans if span.name == "POST /chat"]
        assert [(span.trace_id, span.parent_id) for span in roots] == ([(TRACE, SPAN)] if exported else [])
        assert "chat.turn.duration" in receiver.metrics


def test_an_unsampled_turn_has_its_metrics(unsampled: ServerProcess) -> None:
    """With OTEL_TRACES_SAMPLER=always_off the reply has its figures and its trace id, and the histograms count it."""
    before = unsampled.gauge("chat_turn_duration_seconds_count"), unsampled.gauge("chat_turn_duration_seconds_sum")
    body = unsampled.answer(f"Unseen {AT_ONCE}")
    after = unsampled.gauge("chat_turn_duration_seconds_count"), unsampled.gauge("chat_turn_duration_seconds_sum")
    assert re.fullmatch("[0-9a-f]{32}", body["trace_id"])
    assert body["trace_id"] != "0" * 32
    assert after[0] == before[0] + 1
    assert after[1] - before[1] == pytest.approx(body["performance_metrics"]["total_time"])


def test_an_unsampled_turn_is_listed_and_logged(unsampled: ServerProcess) -> None:
    """Log line and /ops/turns have an unsampled turn with the reply's trace id."""
    body = unsampled.answer(f"Unseen {AT_ONCE}")
    assert unsampled.wait_for_log("turn.finished", turn_id=body["turn_id"])["trace_id"] == body["trace_id"]
    assert unsampled.http.get("/ops/turns").json()["turns"][0]["trace_id"] == body["trace_id"]


def test_telemetry_that_is_off_leaves_the_rest(tmp_path: Path) -> None:
    """With OTEL_SDK_DISABLED a reply has the caller's trace id or a random one, /metrics answers, nothing is sent."""
    with otlp_receiver() as receiver:
        settings = {"OTEL_SDK_DISABLED": "true", "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url}
        with running(tmp_path, **settings) as server:
            joined = server.ask(f"Off {AT_ONCE}", headers=parent("01"))
            alone = [server.ask(f"Off {AT_ONCE}") for _ in range(2)]
            pages = [server.http.get(path) for path in ("/metrics", "/ops/turns", "/readyz")]
        assert receiver.requests == 0
    assert joined.json()["trace_id"] == joined.headers["x-trace-id"] == TRACE
    ids = {response.json()["trace_id"] for response in alone}
    assert len(ids - {TRACE, "0" * 32}) == 2
    assert all(re.fullmatch("[0-9a-f]{32}", trace_id) for trace_id in ids)
    assert all(response.headers["x-trace-id"] == response.json()["trace_id"] for response in alone)
    assert all(response.json()["performance_metrics"]["total_time"] > 0 for response in alone)
    assert [page.status_code for page in pages] == [200, 200, 200]
    assert len(server.lines("turn.finished")) == 3


@pytest.mark.parametrize("mode", ["fail", "swallow"])
def test_a_collector_that_misbehaves_costs_the_turn_nothing(tmp_path: Path, mode: Mode) -> None:
    """With a collector that answers 500, or never, turns are as quick as without one, and the end takes no longer."""
    with otlp_receiver(mode) as receiver:
        settings = {"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url, "OTEL_BSP_SCHEDULE_DELAY": "50"}
        with running(tmp_path, **settings) as server:
            server.answer(f"First {AT_ONCE}")
            receiver.wait_for(lambda: receiver.requests > 0)  # from here on an export hangs, or is repeated
            _turns_are_quick(server)
            started = time.monotonic()
            assert server.end(timeout_s=ENDED_S + 5) == 0
            assert time.monotonic() - started < ENDED_S


def test_a_collector_that_is_down_costs_the_turn_nothing(tmp_path: Path) -> None:
    """With nothing at the endpoint, turns are as quick as without one, and the end takes no longer."""
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # taken, and not listening
        url = f"http://127.0.0.1:{nobody.getsockname()[1]}"
        with running(tmp_path, OTEL_EXPORTER_OTLP_ENDPOINT=url, OTEL_BSP_SCHEDULE_DELAY="50") as server:
            server.answer(f"First {AT_ONCE}")
            _turns_are_quick(server)
            started = time.monotonic()
            assert server.end(timeout_s=ENDED_S + 5) == 0
            assert time.monotonic() - started < ENDED_S


def _turns_are_quick(server: ServerProcess) -> None:
    """Ten turns, of a model that answers at once, take less than one export's patience together."""
    bodies = [server.answer(f"Quick {AT_ONCE}") for _ in range(10)]
    assert sum(body["performance_metrics"]["total_time"] for body in bodies) < 2


def test_an_independent_agent_sees_the_turn(tmp_path: Path) -> None:
    """The agent rotel prints a turn's spans with the reply's trace id, and neither user nor message."""
    with rotel_receiver() as rotel:
        with running(tmp_path, OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=f"{rotel.url}/v1/traces") as server:
            body = server.answer("Does the canary-message sing?", user="canary-user", page_id="general")
            assert server.end() == 0
        rotel.wait_for(lambda text: "POST /chat" in text)
        printed = [span for span in rotel.spans() if body["trace_id"] in span]
    for name in ("POST /chat", "chat.turn", "db_fetch", "llm.queue", "chat scripted-tutor", "save.user", "db_save"):
        assert len([span for span in printed if f": {name}\n" in span]) == 1, name
    assert "canary" not in rotel.text
