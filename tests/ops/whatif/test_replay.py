"""The replay, held to a simulation that is slow and plain: every event by itself, in order of time."""

from dataclasses import dataclass, field
from math import inf

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.ops.whatif.replay import (
    FIRST_MEAN_S,
    KNOWN_FOR_S,
    LEAST_WEIGHT,
    PREDICTED,
    QUEUE_FULL,
    TIMED_OUT,
    GateRules,
    replay,
)

PATIENT = GateRules(queue_max=1000, queue_timeout_s=1000.0)


@dataclass
class PlainGate:
    """A gate as one would draw it on a board."""

    size: int
    rules: GateRules
    running: list[tuple[float, float]] = field(default_factory=list)
    waiting: list[tuple[int, float, float]] = field(default_factory=list)
    waits: dict[int, float] = field(default_factory=dict)
    mean_s: float = FIRST_MEAN_S
    ended: int = 0
    last: float = -inf
    longest: int = 0

    def arrive(self, turn: int, now: float, service: float) -> None:
        """Let a turn in, or queue it, or refuse it."""
        self.pass_time(now)
        if len(self.running) < self.size:
            self.start(turn, now, now, service)
        elif len(self.waiting) >= self.rules.queue_max:
            self.waits[turn] = QUEUE_FULL
        elif len(self.waiting) * self.expected_s(now) > self.rules.queue_timeout_s * self.size:
            self.waits[turn] = PREDICTED
        else:
            self.waiting.append((turn, now, service))
            self.longest = max(self.longest, len(self.waiting))

    def pass_time(self, now: float) -> None:
        """Let happen, one by one, what happens up to now: a call ends before a deadline of the same moment."""
        while True:
            ends = min(self.running)[0] if self.running else inf
            gives_up = self.waiting[0][1] + self.rules.queue_timeout_s if self.waiting else inf
            if min(ends, gives_up) > now or min(ends, gives_up) == inf:
                return
            if ends <= gives_up:
                self.end(min(self.running))
            else:
                self.waits[self.waiting.pop(0)[0]] = TIMED_OUT

    def end(self, call: tuple[float, float]) -> None:
        """Free a slot, and hand it to the first in the queue."""
        self.running.remove(call)
        self.ended = self.ended + 1 if call[0] - self.last <= KNOWN_FOR_S else 1
        self.mean_s += max(LEAST_WEIGHT, 1 / self.ended) * (call[1] - self.mean_s)
        self.last = call[0]
        if self.waiting:
            turn, arrived, service = self.waiting.pop(0)
            self.start(turn, arrived, call[0], service)

    def expected_s(self, now: float) -> float:
        """Return the mean, if one is known, or what half of the calls in flight have lasted."""
        lasted = sorted(now - (end - service) for end, service in self.running)
        known_s = self.mean_s if now - self.last <= KNOWN_FOR_S else FIRST_MEAN_S
        return max(known_s, lasted[(len(lasted) - 1) // 2])

    def start(self, turn: int, arrived: float, now: float, service: float) -> None:
        """Hold a slot."""
        self.waits[turn] = now - arrived
        self.running.append((now + service, service))


def plainly(arrivals: list[float], services: list[float], size: int, rules: GateRules) -> tuple[list[float], int]:
    gate = PlainGate(size, rules)
    for turn, (now, service) in enumerate(zip(arrivals, services, strict=True)):
        gate.arrive(turn, now, service)
    gate.pass_time(inf)
    return [gate.waits[turn] for turn in range(len(arrivals))], gate.longest


EIGHTHS = st.integers(0, 400).map(lambda number: number / 8)  # exact in binary: sums of them can be compared
GAPS = (st.integers(0, 12) | st.integers(0, 12) | st.just(61 * 8)).map(lambda number: number / 8)
TURNS = st.lists(st.tuples(GAPS, EIGHTHS), min_size=1, max_size=60)


@settings(deadline=None, max_examples=200)
@given(turns=TURNS, size=st.integers(1, 6), queue_max=st.integers(0, 8), timeout=st.integers(1, 240))
def test_it_is_the_plain_simulation(turns: list[tuple[float, float]], size: int, queue_max: int, timeout: int) -> None:
    """For any arrivals and service times, each turn's wait or refusal is what the plain simulation says."""
    arrivals = [sum(gap for gap, _service in turns[: number + 1]) for number in range(len(turns))]
    services = [service for _gap, service in turns]
    rules = GateRules(queue_max=queue_max, queue_timeout_s=timeout / 8)
    waits, longest = plainly(arrivals, services, size, rules)
    replayed = replay(arrivals, services, size, rules)
    assert replayed.waits == waits
    assert replayed.longest_queue == longest


@settings(deadline=None, max_examples=100)
@given(turns=TURNS, size=st.integers(1, 6))
def test_without_refusals_more_slots_never_make_anybody_wait_longer(
    turns: list[tuple[float, float]], size: int
) -> None:
    """Where all are let in, each turn waits as long as with one slot less, or shorter."""
    arrivals = [sum(gap for gap, _service in turns[: number + 1]) for number in range(len(turns))]
    services = [service for _gap, service in turns]
    patient = GateRules(queue_max=10**6, queue_timeout_s=10.0**9)
    fewer, more = (replay(arrivals, services, count, patient).waits for count in (size, size + 1))
    assert all(late >= soon for late, soon in zip(fewer, more, strict=True))


def test_who_finds_a_slot_does_not_wait() -> None:
    """With as many slots as turns, nobody waits and no queue forms."""
    replayed = replay([0.0, 0.0, 0.0], [5.0, 5.0, 5.0], 3, PATIENT)
    assert (replayed.waits, replayed.longest_queue) == ([0.0, 0.0, 0.0], 0)


def test_the_queue_is_first_come_first_served() -> None:
    """Of three turns at one slot, the second waits for the first, the third for both."""
    assert replay([0.0, 1.0, 2.0], [5.0, 5.0, 5.0], 1, PATIENT).waits == [0.0, 4.0, 8.0]


@pytest.mark.parametrize(
    ("rules", "refused"),
    [
        (GateRules(queue_max=1, queue_timeout_s=100.0), QUEUE_FULL),
        (GateRules(queue_max=9, queue_timeout_s=0.9), TIMED_OUT),
        (GateRules(queue_max=9, queue_timeout_s=6.5), TIMED_OUT),
    ],
    ids=["queue_full", "at_once", "behind_one"],
)
def test_a_refusal_says_why(rules: GateRules, refused: float) -> None:
    """The third turn at one slot is refused: too many wait, or it would wait, or did wait, too long."""
    assert replay([0.0, 1.0, 2.0], [5.0, 5.0, 5.0], 1, rules).waits[2] == refused


def test_a_long_queue_is_refused_by_its_predicted_wait() -> None:
    """Once calls were seen to take 40 s, the mean says that a turn behind two others would wait over ten."""
    arrivals, services = [0.0, 50.0, 51.0, 52.0, 53.0], [40.0, 40.0, 40.0, 40.0, 40.0]
    assert replay(arrivals, services, 1, GateRules(queue_max=9, queue_timeout_s=9.0)).waits[4] == PREDICTED


def test_what_is_known_is_forgotten() -> None:
    """A turn behind two others is refused after calls of 40 s, and let in when the last of these ended long ago."""
    rules = GateRules(queue_max=9, queue_timeout_s=9.0)
    for pause_s, wait in ((50.0, PREDICTED), (102.0, 5.0)):
        arrivals = [0.0, *(pause_s + 0.5 * number for number in range(4))]
        assert replay(arrivals, [40.0, 2.0, 2.0, 2.0, 2.0], 1, rules).waits[4] == pytest.approx(wait, abs=0.6)


def test_calls_in_flight_are_seen_by_their_age() -> None:
    """A turn behind one other is refused when the call in flight has lasted too long: the first, or a later one."""
    rules = GateRules(queue_max=9, queue_timeout_s=9.0)
    assert replay([100.0, 109.5, 109.75], [40.0, 1.0, 1.0], 1, rules).waits == [0.0, TIMED_OUT, PREDICTED]
    for second_s in (100.5, 102.0):
        waits = replay([100.0, second_s, 111.5, 111.75], [1.0, 40.0, 1.0, 1.0], 1, rules).waits
        assert waits[2:] == [TIMED_OUT, PREDICTED]


def test_who_gave_up_takes_no_slot() -> None:
    """The turn that waited in vain frees its place, and the next one gets the slot that it would have had."""
    rules = GateRules(queue_max=1, queue_timeout_s=2.0)
    assert replay([0.0, 1.0, 4.0], [5.0, 5.0, 1.0], 1, rules).waits == [0.0, TIMED_OUT, 1.0]


def test_what_half_of_the_calls_have_lasted_is_expected_of_all() -> None:
    """Behind calls of 31, 21 and 11 s so far, the tenth in line is refused: 9 turns of 21 s at 3 slots take over 60."""
    arrivals = [0.0, 10.0, 20.0] + [31.0] * 10
    waits = replay(arrivals, [100.0] * 13, 3, GateRules(queue_max=99, queue_timeout_s=60.0)).waits
    assert waits == [0.0] * 3 + [TIMED_OUT] * 9 + [PREDICTED]
