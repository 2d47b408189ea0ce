"""Erlang's formula, against tables and against a queue of its own kind."""

import math
import random

import pytest

from app.ops.whatif.erlang import wait_quantile_s, waiting_probability
from app.ops.whatif.replay import GateRules, replay


@pytest.mark.parametrize(
    ("load", "slots", "probability"),
    [
        (0.5, 1, 0.5),
        (1.0, 2, 1 / 3),
        (2.0, 3, 4 / 9),
        (10.0, 14, 0.1741),
        (20.0, 30, 0.0249),
        (8.0, 10, 0.4092),
    ],
)
def test_the_share_that_waits_is_that_of_the_tables(load: float, slots: int, probability: float) -> None:
    """C(c, a) is as closed forms (one to three slots) and printed tables have it."""
    assert waiting_probability(load, slots) == pytest.approx(probability, abs=6e-5)


@pytest.mark.parametrize("slots", [1, 3, 20, 200])
def test_it_is_the_sum_of_the_textbook(slots: int) -> None:
    """The recursion gives what the textbook's sum of powers and factorials gives, where that can be computed."""
    load = 0.8 * slots
    terms = [math.exp(n * math.log(load) - math.lgamma(n + 1)) for n in range(slots + 1)]
    last = terms[-1] * slots / (slots - load)
    assert waiting_probability(load, slots) == pytest.approx(last / (sum(terms[:-1]) + last), rel=1e-9)


def test_too_much_load_waits_without_end() -> None:
    """Where more comes than can leave, all wait, and for ever; without load, nobody does."""
    assert (waiting_probability(5.0, 5), wait_quantile_s(5.0, 1.0, 5, 0.95)) == (1.0, math.inf)
    assert (waiting_probability(0.0, 5), wait_quantile_s(0.0, 1.0, 5, 0.95)) == (0.0, 0.0)


def test_no_overflow_at_thousands_of_slots() -> None:
    """Where powers and factorials overflow, the recursion does not."""
    assert 0 < waiting_probability(4950.0, 5000) < 1


def test_thirty_slots_look_idle_to_it() -> None:
    """At five calls a second of four seconds each, 30 slots give a p95 of zero: what bursts do, it cannot see."""
    assert wait_quantile_s(5.0, 4.0, 30, 0.95) == 0.0


def test_a_replay_of_even_arrivals_agrees_with_it() -> None:
    """Poisson arrivals with exponential service times, replayed, wait as the formula says, within 10 %."""
    draw, at, arrivals = random.Random(7), 0.0, []
    for _ in range(60_000):
        at += draw.expovariate(4.5)
        arrivals.append(at)
    services = [draw.expovariate(1.0) for _ in arrivals]
    waits = replay(arrivals, services, 5, GateRules(queue_max=10**6, queue_timeout_s=1e9)).waits
    assert sorted(waits)[int(0.95 * len(waits))] == pytest.approx(wait_quantile_s(4.5, 1.0, 5, 0.95), rel=0.1)
    assert sum(wait > 0 for wait in waits) / len(waits) == pytest.approx(waiting_probability(4.5, 5), rel=0.1)
