"""The replay, held to the gate itself: the same turns, in front of the real one, on virtual time."""

import random
from dataclasses import dataclass, field

import pytest
import trio
from trio.testing import MockClock

from app.admit.gate import Gate
from app.errors import OverloadFault
from app.ops.whatif.replay import PREDICTED, QUEUE_FULL, TIMED_OUT, GateRules, replay
from tests.standins import TRACE_ID, Watched, question, watched

CODES = {"queue_full": QUEUE_FULL, "predicted_wait": PREDICTED, "queue_timeout": TIMED_OUT}


@dataclass
class Hall:
    """Turns of as many users in front of one gate, and what became of each."""

    gate: Gate
    seen: Watched = field(default_factory=watched)
    waits: dict[int, float] = field(default_factory=dict)

    async def turn(self, number: int, arrives_s: float, service_s: float) -> None:
        """Come, wait, hold a slot."""
        await trio.sleep_until(arrives_s)
        turn = str(question().turn_id)
        telemetry = self.seen.telemetry.turn(turn_id=turn, user_id=f"u{number}", trace_id=TRACE_ID, surface="chat")
        with telemetry as trace:
            try:
                async with self.gate.slot(trace):
                    self.waits[number] = trio.current_time() - arrives_s
                    await trio.sleep(service_s)
            except OverloadFault as refusal:
                self.waits[number] = CODES[refusal.error_type]


@pytest.mark.parametrize("size", [1, 4, 9])
@pytest.mark.parametrize(("queue_max", "queue_timeout_s"), [(0, 2.0), (8, 2.0), (64, 5.0), (64, 1.0)])
async def test_the_gate_does_what_the_replay_says(
    autojump_clock: MockClock, size: int, queue_max: int, queue_timeout_s: float
) -> None:
    """Each of 200 turns, in bursts, waits as long as replayed, or is refused for the reason that was replayed."""
    draw, at, arrivals = random.Random(size), 100.0, []
    for _ in range(200):
        at += draw.expovariate(12.0 if int(at) % 20 < 5 else 3.0)
        arrivals.append(at)
    services = [draw.lognormvariate(-0.1, 0.6) for _ in arrivals]
    hall = Hall(Gate(size, queue_timeout_s, queue_max=queue_max))
    async with trio.open_nursery() as nursery:
        for number, turn in enumerate(zip(arrivals, services, strict=True)):
            nursery.start_soon(hall.turn, number, *turn)
    said = replay(arrivals, services, size, GateRules(queue_max=queue_max, queue_timeout_s=queue_timeout_s))
    assert [hall.waits[number] for number in range(len(arrivals))] == pytest.approx(said.waits, abs=1e-6)
