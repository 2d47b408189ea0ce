"""Kill -9 at random moments: what was acknowledged is there, what was settled is not, no turn is torn."""

import os
import random
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from app.save.outbox_file import open_outbox
from app.save.outbox_values import OutboxEntry, OutboxLimits
from tests.save.outbox_children import Children
from tests.save.outbox_rows import log_row

ROOMY = OutboxLimits(max_entries=10**6, max_bytes=1 << 40)


@pytest.fixture(scope="module")
def children() -> Iterator[Children]:
    with Children() as running:
        yield running


@dataclass
class Told:
    """What children have said before they were killed: keys are (turn, sender)."""

    kept: set[tuple[int, str]] = field(default_factory=set)
    settling: set[tuple[int, str]] = field(default_factory=set)
    settled: set[tuple[int, str]] = field(default_factory=set)
    lines: int = 0

    def learn(self, line: str) -> None:
        word, number, *rest = line.split()
        if word == "kept":
            self.kept |= {(int(number), "user"), (int(number), "assistant")}
        elif word in ("settling", "settled"):
            getattr(self, word).add((int(number), rest[0]))

    def judge(self, entries: tuple[OutboxEntry, ...]) -> None:
        """Compare with what the files hold."""
        keys = [(entry.row.turn_id.int, entry.row.sender) for entry in entries]
        found = set(keys)
        assert len(keys) == len(found), "doubled"
        assert self.kept - self.settling <= found, "lost"
        assert not self.settled & found, "came back"
        turns = {turn for turn, _ in found | self.settling}
        whole = {(turn, sender) for turn in turns for sender in ("user", "assistant")}
        assert whole - self.settling <= found, "torn"
        for entry in entries:
            row = entry.row
            assert row == log_row(row.turn_id, row.sender, row.conversation_id.int)


def kill_one(children: Children, folder: Path, seed: int, told: Told) -> int:
    """Let a child write until the moment that the seed chooses; return how many puts it had acknowledged."""
    pick = random.Random(seed)
    moment, delay_s = pick.randint(0, 60), pick.choice((0, 0, 0.001, 0.005))
    said = children.run("write", folder, pick.choice(("full", "normal")), seed)
    pid, kept = int(next(said)), 0
    for line in said:
        told.learn(line)
        kept += line.startswith("kept")
        if kept >= moment and moment >= 0:
            time.sleep(delay_s)
            os.kill(pid, signal.SIGKILL)
            moment = -1
    assert line == "end -9", f"seed {seed}: {line}"
    return kept


async def survives(children: Children, folder: Path, seeds: range) -> Told:
    """Kill one writer per seed, all in one folder, and look at what the next to start finds after each."""
    told = Told()
    for seed in seeds:
        told.lines += kill_one(children, folder, seed, told)
        async with open_outbox(folder, limits=ROOMY) as outbox:
            entries = outbox.entries(10**6)
            try:
                told.judge(entries)
            except AssertionError as error:
                raise AssertionError(f"seed {seed}: {error}") from error
            if len(entries) > 2_000:
                told.settled |= {(entry.row.turn_id.int, entry.row.sender) for entry in entries}
                told.settling |= told.settled
                await outbox.settle(delivered=[entry.id for entry in entries])
    return told


async def test_kept_rows_survive_kill_9(children: Children, tmp_path: Path) -> None:
    """Twenty writers, killed at seeded moments, one after the other in one folder: 0 lost, 0 doubled, 0 torn."""
    told = await survives(children, tmp_path, range(20))
    assert told.lines > 100
    assert told.settled


@pytest.mark.soak
async def test_kept_rows_survive_many_kills(children: Children, tmp_path: Path) -> None:
    """The same, for many more moments."""
    told = await survives(children, tmp_path, range(1_000, 1_500))
    assert told.lines > 2_000
