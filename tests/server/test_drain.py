"""The drain as clients and load balancers see it: with DRAIN_GRACE, and without."""

import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from signal import SIGTERM
from typing import Any

import httpx
import pytest

from app.edge.serve import KEEP_ALIVE_S
from tests.receivers import OtlpReceiver, otlp_receiver
from tests.server.ending import get, parts, post, refuses
from tests.server.parts import end_of, parts_of, text_of
from tests.server.process import running, until
from tests.server.rows import stored
from tests.server.wire import Wire, connected, problem

GRACE_S = 2.0
REQUESTS = {
    "GET /readyz": get("/readyz"),
    "GET /healthz": get("/healthz"),
    "GET /metrics": get("/metrics"),
    "GET /nowhere": get("/nowhere"),
    "POST /chat": post("Too late?", user="late"),
    "POST /conversation-agent/chat": post("Too late?", "/conversation-agent/chat", user="late"),
}
"""What clients ask for after the signal."""
TURNS = ["POST /chat", "POST /conversation-agent/chat"]


@dataclass(slots=True, kw_only=True)
class Drained:
    """What a server did in its drain, which was held open by a turn that outlasted the grace."""

    on_new: dict[str, httpx.Response] = field(default_factory=dict)
    on_kept: dict[str, httpx.Response] = field(default_factory=dict)
    halfway: dict[str, httpx.Response] = field(default_factory=dict)
    closed_after: list[bool] = field(default_factory=list)
    open_in_grace: bool = False
    idle_s: float = 0.0
    refused_before_the_turns_end: bool = False
    turn: dict[str, Any] = field(default_factory=dict)
    exit_code: int | None = None
    collector: OtlpReceiver = field(default_factory=OtlpReceiver)
    data_dir: Path


def exchange(wire: Wire, request: bytes) -> httpx.Response:
    """Send a request and return its response."""
    wire.send(request)
    return wire.response()


def is_closed(wire: Wire) -> bool:
    """Return whether nothing more came but the connection's end."""
    try:
        return wire.socket.recv(1) == b""
    except ConnectionResetError:
        return True


@pytest.fixture(scope="module")
def drained(tmp_path_factory: pytest.TempPathFactory) -> Drained:
    seen = Drained(data_dir=tmp_path_factory.mktemp("data"))
    with ExitStack() as all_:
        seen.collector = all_.enter_context(otlp_receiver())
        settings = {"DRAIN_GRACE": str(GRACE_S), "OTEL_EXPORTER_OTLP_ENDPOINT": seen.collector.url}
        server = all_.enter_context(running(seen.data_dir, **settings))
        pool = all_.enter_context(ThreadPoolExecutor(1))
        kept = {name: all_.enter_context(connected(server)) for name in (*REQUESTS, "idle")}
        halfway = {name: all_.enter_context(connected(server)) for name in ("head", "body")}
        for wire in kept.values():
            assert exchange(wire, get("/healthz")).headers.get("connection") != "close"
        head, body = parts("Too late?", user="late")
        halfway["head"].send(head[:30])
        halfway["body"].send(head + body[:5])
        turn = pool.submit(server.answer, f"Finish this [[fault: slow first={GRACE_S + 1} each=0]]")
        server.wait_for_gauge("llm_limiter_borrowed", 1)
        begun = time.monotonic()
        server.send_signal(SIGTERM)
        server.wait_for_log("server.draining")
        for name, request in REQUESTS.items():
            with connected(server) as wire:
                seen.on_new[name] = exchange(wire, request)
                seen.closed_after.append(is_closed(wire))
            seen.on_kept[name] = exchange(kept[name], request)
            seen.closed_after.append(is_closed(kept[name]))
        seen.halfway["head"] = exchange(halfway["head"], head[30:] + body)
        seen.halfway["body"] = exchange(halfway["body"], body[5:])
        seen.open_in_grace = not kept["idle"].answered_within(0)
        assert is_closed(kept["idle"])
        seen.idle_s = time.monotonic() - begun
        until(lambda: refuses(server), "the port is closed")
        seen.refused_before_the_turns_end = not turn.done()
        seen.turn = turn.result()
        seen.exit_code = server.wait()
    return seen


@pytest.mark.parametrize("connection", ["on_new", "on_kept"])
def test_it_says_at_once_that_it_is_not_ready(drained: Drained, connection: str) -> None:
    """After the signal /readyz is 503 on new and old connections, while /healthz and /metrics still answer."""
    responses: dict[str, httpx.Response] = getattr(drained, connection)
    ready = responses["GET /readyz"]
    assert (ready.status_code, ready.json()) == (503, {"status": "draining", "degraded": []})
    assert responses["GET /healthz"].status_code == 200
    assert "edge_draining 1" in responses["GET /metrics"].text


@pytest.mark.parametrize("connection", ["on_new", "on_kept"])
@pytest.mark.parametrize("name", TURNS)
def test_a_new_turn_is_turned_away(drained: Drained, connection: str, name: str) -> None:
    """A turn that comes after the signal is 503 `draining` with Retry-After, and is not stored."""
    assert_draining(getattr(drained, connection)[name])
    assert stored(drained.data_dir, user_id="late") == []


@pytest.mark.parametrize("part", ["head", "body"])
def test_a_request_halfway_in_is_turned_away(drained: Drained, part: str) -> None:
    """A turn whose head or body was half received at the signal is 503 `draining` once it is there."""
    assert_draining(drained.halfway[part])


def test_every_answer_is_its_connections_last(drained: Drained) -> None:
    """After the signal every answer says `connection: close`, and so it is."""
    responses = [*drained.on_new.values(), *drained.on_kept.values(), *drained.halfway.values()]
    assert [response.headers["connection"] for response in responses] == ["close"] * len(responses)
    assert drained.closed_after == [True] * 2 * len(REQUESTS)


def test_the_grace_comes_first(drained: Drained) -> None:
    """Idle connections stay open for DRAIN_GRACE; then they and the port are closed, while a turn goes on."""
    assert drained.open_in_grace
    assert GRACE_S <= drained.idle_s < KEEP_ALIVE_S - 1
    assert drained.refused_before_the_turns_end


def test_the_turn_in_flight_is_answered(drained: Drained) -> None:
    """A turn that began before the signal is answered and stored after the grace, and the exit code is 0."""
    assert drained.turn["saved"] == "database"
    assert len(stored(drained.data_dir, turn_id=drained.turn["turn_id"])) == 2
    assert drained.exit_code == 0


def test_telemetry_is_flushed(drained: Drained) -> None:
    """The spans and metrics of a turn that ended in the drain have reached the collector before the process ends."""
    names = {span.name for span in drained.collector.spans if span.trace_id == drained.turn["trace_id"]}
    assert names >= {"POST /chat", "chat.turn", "db_fetch", "llm.queue", "db_save"}
    assert set(drained.collector.metrics) >= {"chat.turn.duration", "http.server.request.duration"}


def assert_draining(response: httpx.Response) -> None:
    """Check that a turn was refused because the server ends."""
    assert problem(response, 503, "draining")["retryable"] is True
    assert int(response.headers["retry-after"]) >= 1


def test_without_a_grace_the_port_closes_at_once(tmp_path: Path) -> None:
    """With DRAIN_GRACE=0 port, idle connections and half heads are closed while turns, half bodies too, get answers.

    A stream in flight goes on to its own end. A body that never comes is 408 at BODY_TIMEOUT, and holds up no longer.
    """
    head, body = parts("Too late?", user="late")
    with running(tmp_path, "tests.server.extended", BODY_TIMEOUT="1.5") as server, ExitStack() as clients:
        idle, half_head, half_body, no_body, turn, stream = (clients.enter_context(connected(server)) for _ in range(6))
        half_head.send(head[:30])
        half_body.send(head)
        no_body.send(head)
        turn.send(post("Finish this [[fault: slow first=1.5 each=0]]", user="other"))
        stream.send(post("Finish this [[fault: stall after=3 for=1.5]]", "/chat/stream"))
        server.wait_for_gauge("llm_limiter_borrowed", 2)
        server.send_signal(SIGTERM)
        server.wait_for_log("server.draining")
        until(lambda: refuses(server), "the port is closed")
        assert is_closed(idle)
        assert is_closed(half_head)
        assert_draining(exchange(half_body, body))
        assert not turn.answered_within(0)
        answer = turn.response()
        assert (answer.json()["saved"], answer.headers["connection"]) == ("database", "close")
        said = parts_of(stream.response().text)
        problem(no_body.response(), 408, "body_timeout")
        clients.close()
        assert server.wait(timeout_s=5) == 0
    assert end_of(said)["type"] == "finish"
    (row,) = stored(tmp_path, user_id="demo", sender="assistant")
    assert (row["message"], row["context_data"]["finish"]) == (text_of(said), "stop")
    assert stored(tmp_path, user_id="late") == []
