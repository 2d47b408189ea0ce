"""The turn log: what a line says, that the files stay bounded, and that a disk that fails or hangs costs lines only."""

import errno
import json
import logging
import os
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from app.errors import ModelFault, StartError
from app.ops.turn_log import LAST_WRITE_S, RotatingFile, TurnLog, open_turn_log, turn_line
from app.ops.whatif.turns import read_lines
from telemetry.turn_facts import GatePassage, TurnFacts
from tests.standins import MemoryDatabase, PacedModel, after, failing, open_house, question, watched

FACTS = TurnFacts(
    turn_id="turn-1",
    trace_id="trace-secret",
    conversation_id="conversation-secret",
    plan="concurrent",
    surface="chat",
    outcome="ok",
    error_type=None,
    timings={"total_time": 3.5},
    details={"prompt_tokens": 12, "completion_tokens": 34, "model_request_id": "request-secret"},
    ended_at_ns=2_000_000_000_000_000_000,
    gate=GatePassage(arrived_at_ns=1_999_999_997_000_000_000, wait_s=0.25, service_s=2.5),
)


def _refuse(source: Path, target: Path) -> None:
    raise PermissionError(errno.EACCES, "Permission denied")


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_line_says_what_the_limiter_is_sized_by_and_nothing_else() -> None:
    """Arrival, wait, service, tokens, outcome and plan; of the ids, the turn's alone."""
    assert turn_line(FACTS) == {
        "turn": "turn-1",
        "arrived": 1_999_999_997.0,
        "wait_s": 0.25,
        "service_s": 2.5,
        "tokens_in": 12,
        "tokens_out": 34,
        "outcome": "ok",
        "reason": None,
        "plan": "concurrent",
    }


@pytest.mark.parametrize(
    ("fallback", "error_type", "reason"),
    [("heuristic", None, "heuristic"), ("model", None, None), ("heuristic", "stopped", "stopped")],
)
def test_a_line_says_that_rules_stood_in_for_the_model(
    fallback: str, error_type: str | None, reason: str | None
) -> None:
    """Such a turn is answered, but its call was not; one that another model answered has had a call."""
    stood_in = replace(FACTS, outcome="degraded", error_type=error_type, details={"fallback": fallback})
    assert turn_line(stood_in)["reason"] == reason


@pytest.mark.parametrize(
    ("reason", "arrived"), [("predicted_wait", 1_999_999_996.5), ("queue_full", 1_999_999_996.5), ("draining", None)]
)
def test_a_refusal_at_the_door_for_the_gate_s_sake_has_an_arrival(reason: str, arrived: float | None) -> None:
    """Such a turn wanted a slot when it came; one that the drain refused did not want any."""
    shed = replace(FACTS, outcome="shed", error_type=reason, gate=None)
    assert (turn_line(shed)["arrived"], turn_line(shed)["service_s"]) == (arrived, None)


async def test_the_trace_knows_the_way_through_the_gate(autojump_clock: MockClock) -> None:
    """Arrival is after the fetch, the wait is the queue's, and the service is from the grant to the model's end."""
    seen = watched()
    database, model = MemoryDatabase(before_history=after(0.5)), PacedModel([(after(2.0), "Yes.")])
    async with open_house(database, model, seen=seen, slots=1) as house, trio.open_nursery() as nursery:
        nursery.start_soon(house.ask, question())
        nursery.start_soon(house.ask, question())
    first, second = (facts.gate for facts in seen.facts)
    assert first is not None
    assert second is not None
    assert [first.wait_s, first.service_s, second.wait_s, second.service_s] == pytest.approx([0.0, 2.0, 2.0, 2.0])
    ended = [facts.ended_at_ns for facts in seen.facts]
    assert [ended[0] - first.arrived_at_ns, ended[1] - second.arrived_at_ns] == pytest.approx([2e9, 4e9])


async def test_a_call_that_fails_has_held_its_slot_too(autojump_clock: MockClock) -> None:
    """The time until the model's fault is in its line; who reads that takes it for no answer's."""
    seen = watched()
    async with open_house(model=PacedModel([(failing(ModelFault("model_error")), "")]), seen=seen) as house:
        await house.ask(question())
    (facts,) = seen.facts
    assert facts.gate is not None
    assert facts.gate.service_s is not None
    assert facts.outcome == "upstream_error"
    assert read_lines([json.dumps(turn_line(facts))]).failed == 1


async def test_what_was_added_is_in_the_file_at_the_end(tmp_path: Path) -> None:
    """Lines that were queued when the block ended are written, in order, behind those of an earlier process."""
    path = tmp_path / "turns.jsonl"
    for start in (0, 1000):
        async with open_turn_log(path) as turn_log:
            assert turn_log is not None
            for number in range(start, start + 1000):
                turn_log.add(replace(FACTS, turn_id=str(number)))
    assert [line["turn"] for line in lines_of(path)] == [str(number) for number in range(2000)]
    assert path.stat().st_mode & 0o007 == 0


async def test_its_folder_is_made(tmp_path: Path) -> None:
    """TURN_LOG=var/turns.jsonl works where nothing else has made `var`."""
    path = tmp_path / "var" / "log" / "turns.jsonl"
    async with open_turn_log(path) as turn_log:
        assert turn_log is not None
        turn_log.add(FACTS)
    assert len(lines_of(path)) == 1


async def test_without_a_path_there_is_no_log() -> None:
    """Unset, nothing is written, and nobody listens."""
    async with open_turn_log(None) as turn_log:
        assert turn_log is None


@pytest.mark.parametrize("path", ["file/turns.jsonl", "file/folder/turns.jsonl", "."])
async def test_a_path_that_cannot_be_written_stops_the_start(tmp_path: Path, path: str) -> None:
    """One clear line that names the variable and the path."""
    (tmp_path / "file").write_text("")
    with pytest.raises(StartError, match=r"^TURN_LOG: cannot write .*: \w"):
        async with open_turn_log(tmp_path / path):
            pass


def test_the_files_stay_bounded_and_in_order(tmp_path: Path) -> None:
    """A full file is renamed, the oldest goes, and what is left are the newest lines without a gap."""
    file = RotatingFile(tmp_path / "log", max_bytes=100, rotated=2)
    for number in range(100):
        file.write(b"%09d\n" % number)
    file.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["log", "log.1", "log.2"]
    kept = "".join((tmp_path / name).read_text() for name in ("log.2", "log.1", "log"))
    assert kept.split() == [f"{number:09d}" for number in range(70, 100)]
    assert all(path.stat().st_size <= 110 for path in tmp_path.iterdir())


def test_two_processes_may_write_one_file(tmp_path: Path) -> None:
    """Neither loses or tears a line, whoever renames; what the other renamed is not renamed again."""
    path = tmp_path / "log"
    files = [RotatingFile(path, max_bytes=1000, rotated=50) for _ in range(2)]

    def write(file: RotatingFile, name: bytes) -> None:
        for number in range(1000):
            file.write(name + b"%08d\n" % number)

    pairs = zip(files, (b"a", b"b"), strict=True)
    writers = [threading.Thread(target=write, args=pair) for pair in pairs]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    for file in files:
        file.close()
    written = [line for one in tmp_path.iterdir() for line in one.read_text().splitlines()]
    assert sorted(written) == sorted(f"{name}{number:08d}" for name in "ab" for number in range(1000))
    assert len([*tmp_path.iterdir()]) <= 23


def test_a_rename_that_fails_blocks_no_other_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who cannot rename the file says so, and lets go of its lock; the next one to try can."""
    path = tmp_path / "log"
    first, second = RotatingFile(path, max_bytes=1), RotatingFile(path, max_bytes=1)
    first.write(b"1\n")
    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", _refuse)
        with pytest.raises(PermissionError):
            first.write(b"lost\n")
    writer = threading.Thread(target=second.write, args=(b"2\n",), daemon=True)
    writer.start()
    writer.join(10)
    assert (path.read_bytes(), (tmp_path / "log.1").read_bytes()) == (b"2\n", b"1\n")


def test_a_file_that_somebody_took_away_is_made_anew(tmp_path: Path) -> None:
    """After `logrotate`, or `rm`, the next lines go to a new file under the old name."""
    path = tmp_path / "log"
    file = RotatingFile(path)
    file.write(b"1\n")
    path.rename(tmp_path / "elsewhere")
    file.write(b"2\n")
    path.unlink()
    file.write(b"3\n")
    file.close()
    assert ((tmp_path / "elsewhere").read_bytes(), path.read_bytes()) == (b"1\n", b"3\n")


def test_half_a_line_spoils_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a full disk cut off stands on a line of its own."""
    path = tmp_path / "log"
    file, write = RotatingFile(path), os.write
    takes = iter([4])

    def half(descriptor: int, data: bytes) -> int:
        for some in takes:
            return write(descriptor, data[:some])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", half)
    with pytest.raises(OSError, match="No space"):
        file.write(b"123456\n")
    monkeypatch.setattr(os, "write", write)
    file.write(b"abcdef\n")
    file.write(b"ghijkl\n")
    file.close()
    assert path.read_bytes() == b"1234\nabcdef\nghijkl\n"


@pytest.mark.parametrize("opened", ["after", "before"])
def test_half_a_line_of_a_killed_process_spoils_no_other(tmp_path: Path, opened: str) -> None:
    """What a process had written when it was killed stands on a line of its own, also where another one runs on."""
    path = tmp_path / "log"
    file = RotatingFile(path) if opened == "before" else None
    with path.open("ab") as killed:
        killed.write(b'{"turn":"1"}\n{"turn":"2","arr')
    file = file or RotatingFile(path)
    for line in (b'{"turn":"3"}\n', b'{"turn":"4"}\n'):
        file.write(line)
    file.close()
    assert path.read_bytes().split(b"\n") == [
        b'{"turn":"1"}',
        b'{"turn":"2","arr',
        b'{"turn":"3"}',
        b'{"turn":"4"}',
        b"",
    ]


class Disk(RotatingFile):
    """A disk that hangs until `free` is set, and then fails while `broken`."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.busy, self.free, self.failed = threading.Event(), threading.Event(), threading.Event()
        self.broken = False

    def write(self, data: bytes) -> None:
        self.busy.set()
        self.free.wait()
        if self.broken:
            self.failed.set()
            raise OSError(errno.ENOSPC, "No space left on device")
        super().write(data)


async def test_a_disk_that_hangs_holds_up_nobody(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The queue is bounded, what is over it is counted and told once, and what was queued is written in the end."""
    disk = Disk(tmp_path / "log")
    turn_log = TurnLog(disk, queue_lines=10)
    with caplog.at_level(logging.WARNING):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(turn_log.run)
            turn_log.add(replace(FACTS, turn_id="hangs"))
            await trio.to_thread.run_sync(disk.busy.wait)
            for number in range(100):
                turn_log.add(replace(FACTS, turn_id=str(number)))
            assert turn_log.dropped == 90
            disk.free.set()
            turn_log.close()
    assert [line["turn"] for line in lines_of(tmp_path / "log")] == ["hangs", *map(str, range(10))]
    assert [record.getMessage() for record in caplog.records] == ["turn_log.dropping", "turn_log.dropped"]
    assert vars(caplog.records[1])["lines"] == 90


async def test_a_disk_that_is_full_for_a_while_costs_the_lines_of_that_while(tmp_path: Path) -> None:
    """After it has room again, lines are written again."""
    disk = Disk(tmp_path / "log")
    disk.free.set()
    disk.broken = True
    turn_log = TurnLog(disk)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(turn_log.run)
        turn_log.add(replace(FACTS, turn_id="lost"))
        await trio.to_thread.run_sync(disk.failed.wait)
        disk.broken = False
        turn_log.add(replace(FACTS, turn_id="kept"))
        turn_log.close()
    assert ([line["turn"] for line in lines_of(tmp_path / "log")], turn_log.dropped) == (["kept"], 1)


async def test_a_disk_that_hangs_for_good_does_not_hold_up_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The server's end waits so long for the last lines, counts them, and goes."""
    disk = Disk(tmp_path / "log")
    monkeypatch.setattr("app.ops.turn_log.RotatingFile", lambda path: disk)
    monkeypatch.setattr("app.ops.turn_log.LAST_WRITE_S", 0.05)
    assert LAST_WRITE_S <= 5
    with trio.fail_after(10):
        async with open_turn_log(tmp_path / "log") as turn_log:
            assert turn_log is not None
            turn_log.add(FACTS)
            await trio.to_thread.run_sync(disk.busy.wait)
            turn_log.add(FACTS)
    disk.free.set()
    assert turn_log.dropped == 2
    assert [record.getMessage() for record in caplog.records] == ["turn_log.dropped"]
