"""Reading a turn log: what is no line of ours does no harm, and what is missing is lent."""

import json
from pathlib import Path
from typing import Any

import pytest

from app.ops.whatif.sweep import log_files, read_files
from app.ops.whatif.turns import UNKNOWN, NoTurnsError, as_trace, read_lines


def line(arrived: float | None, service: Any = 1.0, **fields: Any) -> str:
    """Return a line of a log."""
    known = {"arrived": arrived, "wait_s": 0.5, "service_s": service, "outcome": "ok", "reason": None}
    return json.dumps({"turn": "t", "plan": "concurrent", **known, **fields}) + "\n"


REFUSED = line(3.0, None, outcome="shed", reason="queue_timeout")
FAILED = line(3.0, 0.0002, outcome="shed", reason="breaker_open")
BROKEN = [
    "{",
    " \n",
    "null\n",
    "[1]\n",
    "12\n",
    '"text"\n',
    "{}\n",
    '{"arrived": 1.0}\n',
    line(float("nan")),
    line(-1.0),
    line(1.0, "long"),
    line(1.0, True),
    line(1.0, 10**400),
    line(1.0, 1e300),
    line(1.0, wait_s=10**400),
    line(10**400),
    line(1e300),
    '{"arrived":1.0,"wait_s":0,"service_s":' + "9" * 5000 + "}\n",
    line(1.0, wait_s=-1),
    line("now"),  # type: ignore[arg-type]  # what a broken writer could write
    line(1.0)[:-9],
    line(1.0)[9:],
    "1,2\n",
    "[" * 100_000 + "\n",
    "\ufffd\ufffd\n",
]


@pytest.mark.parametrize("broken", BROKEN, ids=range(len(BROKEN)))
def test_a_broken_line_is_skipped_and_counted(broken: str) -> None:
    """The lines around it are read all the same; a blank one is nothing at all."""
    read = read_lines([line(1.0), broken, line(2.0)])
    assert list(read.arrivals) == [1.0, 2.0]
    assert read.broken == (0 if not broken.strip() else 1)


def test_many_blank_lines_end_nothing() -> None:
    """However many blank lines there are, what follows them is read."""
    assert list(read_lines([line(1.0), *["\n"] * 5000, line(2.0)]).arrivals) == [1.0, 2.0]


def test_what_only_looks_whole_together_is_broken() -> None:
    """Two halves of lines that make one JSON value between them are two broken lines."""
    read = read_lines(['{"arrived": 1.0', '"wait_s": 0}', line(2.0)])
    assert (list(read.arrivals), read.broken) == ([2.0], 2)


def test_turns_are_told_apart() -> None:
    """Refused by the gate, left while it waited, never there, failed without an answer, and served."""
    read = read_lines(
        [
            line(1.0),
            REFUSED,
            line(4.0, None, outcome="cancelled", reason="cancelled"),
            line(None, None, wait_s=None, outcome="shed", reason="draining"),
            line(5.0, 0.2, outcome="shed", reason="rate_limit_exceeded"),
            line(6.0, 0.3, tokens_out=0),
        ]
    )
    assert (len(read.arrivals), read.refused, read.left, read.failed, read.elsewhere, read.broken) == (5, 1, 1, 1, 1, 0)
    assert list(read.services) == [1.0, UNKNOWN, UNKNOWN, UNKNOWN, 0.3]


@pytest.mark.parametrize(
    ("fields", "failed"),
    [
        ({"outcome": "shed", "reason": "breaker_open"}, True),
        ({"outcome": "shed", "reason": "quota_wait", "tokens_out": None}, True),
        ({"outcome": "upstream_error", "reason": "ConnectError"}, True),
        ({"outcome": "internal_error", "reason": "internal"}, True),
        ({"outcome": "degraded", "reason": "heuristic"}, True),
        ({"outcome": "upstream_error", "reason": "empty_answer", "tokens_out": 0}, False),
        ({"outcome": "degraded", "reason": None}, False),
        ({"outcome": "timeout", "reason": "timeout.llm"}, False),
        ({"outcome": "cancelled", "reason": "stopped"}, False),
        ({"outcome": "ok", "reason": None, "tokens_out": None}, False),
    ],
    ids=lambda value: value["reason"] if isinstance(value, dict) else None,
)
def test_a_call_that_failed_has_no_service_time(fields: dict[str, Any], failed: bool) -> None:
    """Without an answer's tokens a fault says nothing of how long calls take; a deadline or a stop held the slot."""
    read = read_lines([line(1.0, 0.0002, **fields)])
    assert (read.failed, read.left, read.refused) == (int(failed), 0, 0)
    assert list(read.services) == [UNKNOWN if failed else 0.0002]


def test_a_turn_that_failed_at_once_is_lent_a_time_of_its_neighbours() -> None:
    """While the breaker was open turns took no time at all; with the model there, each takes as long as others do."""
    failed = [line(10.0 + at, 0.0002, wait_s=0.0, outcome="shed", reason="breaker_open") for at in range(5)]
    trace = as_trace(read_lines([*(line(float(at), 4.0) for at in range(10)), *failed]))
    assert (trace.mean_service_s, trace.failed, trace.recorded_p95_s) == (4.0, 5, 0.5)


def test_turns_are_replayed_by_arrival() -> None:
    """Lines are written as turns end, and come out as they arrived, from zero on."""
    trace = as_trace(read_lines([line(12.0, 1.0), line(10.0, 5.0), line(11.5, 2.0)]))
    assert (list(trace.arrivals), list(trace.services), trace.began) == ([0.0, 1.5, 2.0], [5.0, 2.0, 1.0], 10.0)


def test_a_refused_turn_is_lent_a_time_of_its_neighbours() -> None:
    """What a refused turn would have taken is drawn among turns that were served near it, not from hours away."""
    lines = [line(float(at), 1.0) for at in range(200)] + [line(1000.0 + at, 9.0) for at in range(200)]
    trace = as_trace(read_lines([*lines, line(50.5, None), line(1100.5, None)]))
    assert [trace.services[trace.arrivals.index(at)] for at in (50.5, 1100.5)] == [1.0, 9.0]


def test_calls_at_once_are_counted_from_grant_to_end() -> None:
    """Two calls overlap when one starts before the other ends; a wait is not part of a call."""
    one_by_one = [line(0.0, 1.0, wait_s=0), line(0.1, 1.0, wait_s=1.0), line(0.2, 1.0, wait_s=2.0)]
    together = [line(0.0, 1.0, wait_s=0), line(0.1, 1.0, wait_s=0), line(0.2, 1.0, wait_s=0)]
    assert [as_trace(read_lines(lines)).most_at_once for lines in (one_by_one, together)] == [1, 3]


@pytest.mark.parametrize(
    "lines", [[], ["nothing\n"], [REFUSED], [FAILED]], ids=["empty", "broken", "refused", "failed"]
)
def test_nothing_to_replay_is_one_clear_error(lines: list[str]) -> None:
    """Without a turn that held a slot there is nothing to replay."""
    with pytest.raises(NoTurnsError, match="no turn that held a slot and was answered"):
        as_trace(read_lines(lines))


def test_rotated_files_are_read_oldest_first(tmp_path: Path) -> None:
    """`.10` is older than `.2`, which is older than the file itself; other files beside them are not read."""
    path = tmp_path / "turns.jsonl"
    for number, suffix in enumerate([".10", ".2", ".1", ""]):
        (tmp_path / f"turns.jsonl{suffix}").write_text(line(float(number)))
    for other in ("turns.jsonl.gz", "turns.jsonl.bak", "other.jsonl.1"):
        (tmp_path / other).write_text(line(99.0))
    assert list(read_files(log_files(path), 1, lambda done, of: None).arrivals) == [0.0, 1.0, 2.0, 3.0]


@pytest.mark.parametrize("processes", [1, 2])
def test_pieces_cut_no_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, processes: int) -> None:
    """Read in pieces, wherever those end, a file's lines are each read once and in order."""
    path = tmp_path / "turns.jsonl"
    path.write_text("".join(line(float(at)) for at in range(100)))
    for piece in (len(line(0.0)), 997, 1 << 20):
        monkeypatch.setattr("app.ops.whatif.sweep.PIECE_BYTES", piece)
        read = read_files([path], processes, lambda done, of: None)
        assert (list(read.arrivals), read.broken) == ([float(at) for at in range(100)], 0)
