"""The goals of limit and pacer on the real gate, with simulated hosts in virtual time. Table: bench/LIMITER.md."""

from itertools import pairwise

import pytest

from bench.limiter.scenarios import OUTAGE, SCENARIOS, SHORT_OUTAGE, outage, recovery_s, seconds_until, slots
from bench.limiter.world import LARGEST, OURS

SEEDS = [1, 2, 3]


def cases(names: list[str], quick: str, share: float) -> list[object]:
    """Return every scenario with every seed and its full length, for `make soak`, and a short one of `quick`."""
    full = [pytest.param(name, seed, 1.0, marks=pytest.mark.soak) for name in names for seed in SEEDS]
    return [pytest.param(quick, 1, share), *full]


SLOTS = ["step 40 > 12 > 60 > 30", "sine 20 to 60", "another tenant"]
QUOTAS = ["per minute, steady", "per minute, bursts", "per minute, in windows"]


@pytest.mark.parametrize(("name", "seed", "share"), cases(SLOTS, "another tenant", 0.08))
def test_slots_are_found_out(name: str, seed: int, share: float) -> None:
    """At least 95 % of what an oracle gets, at most 3 % of the answers 429, never above the maximum."""
    scenario = SCENARIOS[name]
    seconds = share * scenario.seconds
    oracle, run = scenario.oracle(seed, seconds), scenario.run(OURS, seed, seconds)
    assert run.goodput >= (0.95 if share == 1 else 0.9) * oracle.goodput
    assert run.refused <= (0.03 if share == 1 else 0.04)
    assert max(total for _, total in run.limits) <= LARGEST
    if name.startswith("step"):
        back_s = recovery_s(run)
        assert back_s is not None
        assert back_s <= 60


@pytest.mark.parametrize(("name", "seed", "share"), cases(QUOTAS, "per minute, in windows", 0.2))
def test_quotas_are_kept_to(name: str, seed: int, share: float) -> None:
    """At least 95 % of what an oracle gets, at most 1 % of the answers 429."""
    scenario = SCENARIOS[name]
    seconds = share * scenario.seconds
    oracle, run = scenario.oracle(seed, seconds), scenario.run(OURS, seed, seconds)
    assert run.goodput >= 0.95 * oracle.goodput
    assert run.refused <= 0.01


@pytest.mark.parametrize(
    ("outage_s", "seed"),
    [(SHORT_OUTAGE, 1), *(pytest.param(OUTAGE, seed, marks=pytest.mark.soak) for seed in SEEDS)],
)
def test_an_outage_is_waited_for(outage_s: tuple[float, float], seed: int) -> None:
    """All 429 for two minutes: minimum within 5 s, a probe a second at most, 90 % of the oracle within 30 s, and on."""
    start, end = outage_s
    scenario = slots("all 429", outage(start, end), end + 90)
    oracle, run = scenario.oracle(seed), scenario.run(OURS, seed)
    assert any(total == 1 for time, total in run.limits if start < time <= start + 5)
    probes = [time for time in run.host.seen.refused if start + 5 <= time < end]
    assert all(later - earlier >= 0.99 for earlier, later in pairwise(probes))
    assert len(probes) > 0.8 * (end - start - 5)
    back_s = seconds_until(run, end, 0.9 * 40)
    assert back_s is not None
    assert back_s <= 30
    after = (end + 30, end + 90)
    assert run.finished_between(*after) >= 0.9 * oracle.finished_between(*after)
