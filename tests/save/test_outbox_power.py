"""The power is cut at any moment: with `full`, what was acknowledged is on the disk.

A child process puts turns while a small library, compiled here and loaded before all others, records its file calls in
order. For each moment the files are then rebuilt as a disk would have them (`outbox_power`): without what was not
synced by then, or with any part of that. What is found in them is compared with what had been acknowledged by then.
That the comparison can fail is shown with `normal`, which promises less, and loses turns here.
"""

import os
import random
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import trio

from app.save.outbox_file import open_outbox
from tests.needs import need_program
from tests.save.outbox_power import Call, Disk, cuts, read_calls, rebuild
from tests.save.outbox_rows import log_row, turn_rows

ROOT = Path(__file__).parents[2]
SENDERS = ("user", "assistant")
INHERITED = range(1_000, 1_006)
"""Turns that an earlier process has left behind, and the recorded one adopts."""


@pytest.fixture(scope="module")
def recorder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library that records."""
    gcc = need_program("gcc", "apt-get install gcc libc6-dev")
    library = tmp_path_factory.mktemp("recorder") / "recorder.so"
    source = Path(__file__).with_name("outbox_recorder.c")
    subprocess.run([gcc, "-O1", "-shared", "-fPIC", "-o", library, source, "-ldl", "-lpthread"], check=True)
    return library


@dataclass
class Recorded:
    """What a child did below `root`, on what was there before."""

    root: Path
    disk: Disk
    calls: list[Call]
    inherited: Sequence[int]


async def record(
    recorder: Path, tmp_path: Path, sync: str, turns: int, inherited: Sequence[int] = INHERITED
) -> Recorded:
    root = tmp_path / "root"
    data = root / "data"
    await trio.Path(root).mkdir()
    if inherited:
        async with open_outbox(data / "outbox") as outbox:
            for turn in inherited:
                await outbox.put(turn_rows(turn))
    recorded = Recorded(root, Disk(root), [], inherited)
    log = tmp_path / "log"
    command = [sys.executable, "-m", "tests.save.outbox_powered", str(data / "outbox"), str(root / "acks"), sync]
    environment = {**os.environ, "LD_PRELOAD": str(recorder), "RECORD_UNDER": str(root), "RECORD_TO": str(log)}
    await trio.run_process([*command, str(turns)], cwd=ROOT, env=environment)
    recorded.calls = read_calls(await trio.Path(log).read_bytes())
    return recorded


@dataclass
class Verdict:
    """What all cuts together have shown. `lost`: turns that had been acknowledged, and were not found."""

    cuts: int = 0
    acknowledged: int = 0
    lost: int = 0
    kinds: set[str] = field(default_factory=set)


@dataclass
class Acknowledged:
    """What the child had been told by a moment."""

    kept: set[int] = field(default_factory=set)
    settling: set[tuple[int, str]] = field(default_factory=set)


def read_acks(acks: bytes) -> Acknowledged:
    told = Acknowledged()
    for line in acks.decode().splitlines():
        word, number, *sender = line.split()
        if word == "kept":
            told.kept.add(int(number))
        else:
            told.settling.add((int(number), sender[0]))
    return told


async def judge(folder: Path, acks: bytes, inherited: Sequence[int], verdict: Verdict) -> None:
    """Open the rebuilt files as the next process would, and compare."""
    told = read_acks(acks)
    async with open_outbox(folder) as outbox:
        entries = outbox.entries(10**6)
    keys = [(entry.row.turn_id.int, entry.row.sender) for entry in entries]
    found = set(keys)
    assert len(keys) == len(found), "doubled"
    assert {(turn, sender) for turn in inherited for sender in SENDERS} <= found, "lost what it had inherited"
    for turn in {turn for turn, _ in found} - {turn for turn, _ in told.settling}:
        assert {(turn, sender) for sender in SENDERS} <= found, "torn"
    for entry in entries:
        row = entry.row
        assert row == log_row(row.turn_id, row.sender, row.conversation_id.int), "another row"
    expected = {(turn, sender) for turn in told.kept for sender in SENDERS} - told.settling
    verdict.lost += len({turn for turn, _ in expected - found})
    verdict.acknowledged += len(told.kept)
    verdict.cuts += 1


async def cut_often(recorded: Recorded, tmp_path: Path, step: int, seed: int) -> Verdict:
    """Cut the power after every so many calls, in both variants."""
    verdict, copy = Verdict(), tmp_path / "copy"
    folder = copy / "data" / "outbox"
    for number, acks in cuts(recorded.disk, recorded.calls, str(recorded.root / "acks")):
        verdict.kinds.add(recorded.calls[number].what)
        if (number + seed) % step:
            continue
        for pick in (None, random.Random(seed * 1_000_003 + number)):
            there = recorded.disk.after_power_cut(pick)
            shutil.rmtree(copy, ignore_errors=True)
            rebuild(there, recorded.root, copy)
            try:
                await judge(folder, acks, recorded.inherited, verdict)
            except AssertionError as error:
                raise AssertionError(f"after call {number}, seed {seed}, {pick and 'some kept'}: {error}") from error
    return verdict


async def test_full_loses_nothing_to_a_power_cut(recorder: Path, tmp_path: Path) -> None:
    """Cut at a slice of the moments, from the making of its folder on: every acknowledged turn is on the disk."""
    recorded = await record(recorder, tmp_path, "full", 24, inherited=())
    assert trims_its_log(recorded.calls)
    verdict = await cut_often(recorded, tmp_path, 8, 1)
    assert verdict.lost == 0
    assert verdict.cuts > 40
    assert verdict.acknowledged > 250
    assert verdict.kinds >= set("OWSUM")


def trims_its_log(calls: list[Call]) -> bool:
    """Return whether the log was written back and begun anew: its header is written several times."""
    headers = [call for call in calls if call.what == "W" and call.offset == 0 and call.data[:3] == b"\x37\x7f\x06"]
    return len(headers) > 2


async def test_normal_keeps_files_whole_but_may_lose_turns(recorder: Path, tmp_path: Path) -> None:
    """What was inherited outlasts its adoption, no turn is torn; acknowledged turns are lost, and this test sees it."""
    verdict = await cut_often(await record(recorder, tmp_path, "normal", 24), tmp_path, 9, 2)
    assert verdict.lost > 0
    assert verdict.cuts > 30


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(8))
async def test_full_loses_nothing_to_a_power_cut_at_any_moment(recorder: Path, tmp_path: Path, seed: int) -> None:
    """Cut after every call of a longer life; half of them begin with an adoption."""
    inherited = INHERITED if seed % 2 else ()
    verdict = await cut_often(await record(recorder, tmp_path, "full", 60, inherited), tmp_path, 1, seed)
    assert verdict.lost == 0
    assert verdict.cuts > 500
