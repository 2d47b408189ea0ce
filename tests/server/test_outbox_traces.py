"""The traces of a replay: what an OTLP receiver gets of a turn, and of the delivery of its rows later on."""

import os
from collections.abc import Iterator
from pathlib import Path
from signal import SIGKILL
from typing import Any

import pytest

from tests.receivers import OtlpReceiver, ReceivedSpan, otlp_receiver
from tests.server.faulty_database import faulty_database
from tests.server.outbox_town import KEYS, NO_WRITES, WELL, Town, deferred, delivered
from tests.server.process import AT_ONCE, run_command
from tests.server.rows import turn_rows

INTERNAL, CLIENT, ERROR = 1, 3, 2
REPLAY = "outbox.replay"
PARENT = "00-0af7651916cd43dd8448eb211c80319c-00f067aa0ba902b7-00"


@pytest.fixture
def town(tmp_path: Path) -> Iterator[Town]:
    with faulty_database(tmp_path / "supabase.sqlite3") as database:
        yield Town(tmp_path, database)


@pytest.fixture
def receiver() -> Iterator[OtlpReceiver]:
    with otlp_receiver() as running:
        yield running


def exporting(receiver: OtlpReceiver, **settings: str) -> dict[str, str]:
    at_once = {"OTEL_BSP_SCHEDULE_DELAY": "50"}
    return {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": f"{receiver.url}/v1/traces", **at_once, **settings}


def turn_span(receiver: OtlpReceiver, body: dict[str, Any]) -> ReceivedSpan:
    (span,) = [span for span in receiver.named("chat.turn") if span.trace_id == body["trace_id"]]
    return span


def links_to(receiver: OtlpReceiver, *bodies: dict[str, Any]) -> list[tuple[str, str, dict[str, Any]]]:
    """Return the links that lead to these turns' spans, as they were received."""
    spans = [turn_span(receiver, body) for body in bodies]
    return [(span.trace_id, span.span_id, {"chat.turn.id": span.attributes["chat.turn.id"]}) for span in spans]


def good_and_bad(receiver: OtlpReceiver) -> tuple[list[ReceivedSpan], list[ReceivedSpan]]:
    replays = receiver.named(REPLAY)
    return [span for span in replays if span.status[0] != ERROR], [span for span in replays if span.status[0] == ERROR]


def calls_under(receiver: OtlpReceiver, replay: ReceivedSpan) -> list[tuple[str, int]]:
    """Return the other spans of a replay's trace, which all lie right under it."""
    others = [span for span in receiver.spans if span.trace_id == replay.trace_id and span != replay]
    assert {span.parent_id for span in others} <= {replay.span_id}
    return [(span.name, span.kind) for span in others]


def test_a_replay_is_a_trace_that_leads_to_its_turns(town: Town, receiver: OtlpReceiver) -> None:
    """Turns of two conversations wait; what failed and what delivered them are traces, linked to the turns' spans."""
    with town.server(**exporting(receiver)) as server:
        server.answer(f"Before {AT_ONCE}")
        town.database.become(NO_WRITES)
        bodies = [deferred(server, "One"), deferred(server, "Two"), deferred(server, "Three", page_id="notes")]
        town.database.become(WELL)
        delivered(server)
        assert server.end() == 0
    good, bad = good_and_bad(receiver)
    known = links_to(receiver, *bodies)
    assert sorted(link for replay in good for link in replay.links) == sorted(known)
    assert sum(replay.attributes["outbox.delivered"] for replay in good) == 6
    assert bad, "the first round came while the database took nothing"
    for replay in bad:
        assert all(link in known for link in replay.links)
        assert (replay.attributes["outbox.delivered"], replay.attributes["error.type"]) == (0, "XX000")
        assert replay.attributes["outbox.failed"] == replay.attributes["outbox.rows"] > 0
    traces = [replay.trace_id for replay in (*good, *bad)]
    assert len({*traces, *(body["trace_id"] for body in bodies)}) == len(traces) + len(bodies)
    for replay in (*good, *bad):
        assert (replay.parent_id, replay.kind) == ("", INTERNAL)
        calls = calls_under(receiver, replay)
        assert calls
        assert set(calls) == {("POST", CLIENT)}


@pytest.mark.parametrize("by", ["the next process", "hand"])
def test_a_replay_by_another_process_leads_to_the_turn(town: Town, receiver: OtlpReceiver, by: str) -> None:
    """Killed with a turn in its outbox: whoever delivers it, its trace leads to the turn's of the process that died."""
    settings = exporting(receiver)
    with town.server(**settings) as server:
        town.database.become(NO_WRITES)
        body = deferred(server, "Left behind")
        receiver.wait_for(lambda: bool(receiver.named("chat.turn")))
        server.end(SIGKILL)
    town.database.become(WELL)
    if by == "hand":
        (file,) = (town.folder / "server" / "outbox").glob("*.sqlite3")
        given = {"SUPABASE_URL": town.database.url, **KEYS, **settings}
        ended = run_command(town.folder, "outbox", "deliver", str(file), **given)
        assert (ended.returncode, ended.stderr) == (0, "")
    else:
        with town.server(**settings) as server:
            delivered(server)
            assert server.end() == 0
    ((replay,), _) = good_and_bad(receiver)
    assert replay.links == links_to(receiver, body)
    assert replay.resource["service.instance.id"] != turn_span(receiver, body).resource["service.instance.id"]
    assert (replay.parent_id, replay.attributes["outbox.delivered"]) == ("", 2)
    assert calls_under(receiver, replay) == [("POST", CLIENT)] * 2, "the conversation, then the rows"
    assert turn_rows(town.folder, body["turn_id"])[1]["context_data"]["span_id"] == replay.links[0][1]


def test_a_turn_that_is_not_sampled_is_carried_without_a_link(town: Town, receiver: OtlpReceiver) -> None:
    """A round is sampled by itself: it is seen, and leads to the one turn of the two that is seen too."""
    settings = exporting(receiver, TRUSTED_PROXIES="127.0.0.0/8", SAVE_MODE="outbox")
    with town.server(**settings) as server:
        unseen = server.answer(f"Unseen {AT_ONCE}", headers={"traceparent": PARENT})
        seen = server.answer(f"Seen {AT_ONCE}")
        delivered(server)
        assert server.end() == 0
    good, bad = good_and_bad(receiver)
    assert (sum(replay.attributes["outbox.delivered"] for replay in good), bad) == (4, [])
    assert {link[:2] for replay in good for link in replay.links} == {links_to(receiver, seen)[0][:2]}
    for row in turn_rows(town.folder, unseen["turn_id"]):
        assert row["context_data"]["trace_id"] == unseen["trace_id"]
        assert "span_id" not in row["context_data"]


@pytest.mark.parametrize("off", [{"OTEL_TRACES_SAMPLER": "always_off"}, {"OTEL_SDK_DISABLED": "true"}], ids=str)
def test_replays_that_nobody_samples_send_nothing(town: Town, receiver: OtlpReceiver, off: dict[str, str]) -> None:
    """With sampling or telemetry off, rows are delivered, and no span leaves; rows name no span of theirs."""
    with town.server(**exporting(receiver, SAVE_MODE="outbox", **off)) as server:
        body = server.answer(f"Unseen {AT_ONCE}")
        delivered(server)
        assert server.end() == 0
    assert receiver.requests == 0
    assert not any("span_id" in row["context_data"] for row in turn_rows(town.folder, body["turn_id"]))


@pytest.mark.soak
def test_a_command_does_not_wait_for_a_collector_for_long(town: Town) -> None:
    """By hand, with a collector that never answers: the rows are delivered, and the command ends by itself."""
    with town.server() as server:
        town.database.become(NO_WRITES)
        deferred(server, "Left behind")
        server.end(SIGKILL)
    town.database.become(WELL)
    (file,) = (town.folder / "server" / "outbox").glob("*.sqlite3")
    with otlp_receiver("swallow") as deaf:
        given = {"SUPABASE_URL": town.database.url, **KEYS, **exporting(deaf)}
        ended = run_command(town.folder, "outbox", "deliver", os.fspath(file), **given)
        assert deaf.requests > 0
    assert (ended.returncode, ended.stdout) == (0, "delivered 2 rows; the file is removed\n")
