"""Figures of a replay: quantiles, targets, and how sure p95 is."""

import math
import random

import pytest

from app.ops.whatif.figures import Figures, Target, figures_at, quantile
from app.ops.whatif.replay import GateRules
from app.ops.whatif.wishes import read_targets

RULES = GateRules(queue_max=64, queue_timeout_s=10.0)


def at(size: int, arrivals: list[float], services: list[float], slo: str = "p95<2s", **rules: float) -> Figures:
    given = GateRules(queue_max=int(rules.get("queue_max", 64)), queue_timeout_s=rules.get("queue_timeout_s", 10.0))
    return figures_at(size, arrivals, services, given, read_targets(slo), len(arrivals) / (arrivals[-1] or 1))


def noise(minutes: int, seed: int, rate: float = 1.0) -> tuple[list[float], list[float]]:
    draw, now, arrivals = random.Random(seed), 0.0, []
    while (now := now + draw.expovariate(rate)) < minutes * 60:
        arrivals.append(now)
    return arrivals, [draw.expovariate(1.0) for _ in arrivals]


@pytest.mark.parametrize(
    ("count", "share", "rank"), [(100, 0.95, 95), (20, 0.95, 19), (21, 0.95, 20), (1, 0.5, 1), (2, 0.5, 1), (3, 0.5, 2)]
)
def test_quantiles_are_by_nearest_rank(count: int, share: float, rank: int) -> None:
    """The value shown is one that occurred: the first that the share of the turns waited at most."""
    assert quantile([float(number) for number in range(1, count + 1)], share) == rank


def test_what_is_missing_counts_as_never() -> None:
    """Of 100 turns, 94 of them let in, p95 is infinite; of 95, it is the longest wait; nobody's is None."""
    assert quantile([1.0] * 94, 0.95, of=100) == math.inf
    assert quantile([1.0] * 95, 0.95, of=100) == 1.0
    assert quantile([], 0.95) is None


def test_a_gate_that_refuses_enough_meets_no_target() -> None:
    """Those let in do not wait at all, and yet p95 is missed: half of the turns were refused."""
    arrivals = [float(number) for number in range(100)]
    refusing = at(1, arrivals, [2.0] * 100, queue_max=1, queue_timeout_s=0.5)
    assert (refusing.p95_s, refusing.refused, refusing.meets) == (0.0, 50, False)
    assert at(1, arrivals, [2.0] * 100, "shed<50%", queue_timeout_s=0.5).meets


@pytest.mark.parametrize(("slo", "meets"), [("p95<1s,shed<1%", False), ("p95<4s", True), ("p50<=500ms", False)])
def test_every_target_must_be_met(slo: str, meets: bool) -> None:
    """A single missed target is enough to miss."""
    assert at(1, [0.0, 1.0, 2.0], [2.0, 2.0, 2.0], slo).meets is meets


def test_the_interval_holds_what_other_weeks_would_have_shown() -> None:
    """Of 20 traces of one kind, p95 of a very long one lies within the interval of at least three in four."""
    truth = at(2, *noise(3000, seed=1)).p95_s
    assert truth is not None
    held = 0
    for seed in range(2, 22):
        interval = at(2, *noise(120, seed)).p95_interval
        assert interval is not None
        held += interval[0] <= truth <= interval[1]
    assert held >= 15


def test_a_short_log_has_no_interval() -> None:
    """Under eight minutes there are too few blocks to draw from."""
    assert at(2, *noise(5, seed=1)).p95_interval is None
    assert at(2, *noise(20, seed=1)).p95_interval is not None


def test_cost_counts_a_refusal_as_the_deadline() -> None:
    """Two turns let in at once and one refused cost a third of the deadline each, on average."""
    assert at(1, [0.0, 1.0, 6.0], [5.0, 5.0, 1.0], queue_timeout_s=3.0).cost_s == 1.0


def test_load_and_refusals_are_counted() -> None:
    """A slot that is held for half of the time is half busy; refusals are counted by their reason."""
    half = at(1, [0.0, 10.0, 20.0], [5.0, 5.0, 0.0])
    assert (half.busy, half.refused) == (0.5, 0)
    full = at(1, [0.0, 1.0, 2.0, 3.0], [9.0] * 4, queue_max=1, queue_timeout_s=5.0)
    assert (full.queue_timeout, full.queue_full, full.longest_queue) == (1, 2, 1)


def test_targets_say_what_they_are() -> None:
    """A target is judged as it is written."""
    assert read_targets("p99.9 < 500 ms, shed<=1%") == [
        Target(text="p99.9 < 500 ms", kind="wait", share=0.9990000000000001, limit=0.5),
        Target(text="shed<=1%", kind="refused", share=0.0, limit=0.01),
    ]
