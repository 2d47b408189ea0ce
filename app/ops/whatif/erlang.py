"""Erlang C: the wait in a queue whose arrivals and service times are as even as chance allows (M/M/c).

A sanity line: real arrivals come in bursts, and wait longer than it says.

Source: A. K. Erlang, "Solution of some Problems in the Theory of Probabilities of Significance in Automatic Telephone
Exchanges" (1917), by the recursion of the Erlang B formula, which neither overflows nor cancels.
"""

import math


def waiting_probability(load: float, slots: int) -> float:
    """Return the share of calls that have to wait; 1.0 where the queue would grow for ever.

    Args:
        load: calls that would be in flight with slots without end: rate times mean service time (erlangs).
        slots: calls at once.
    """
    if load <= 0:
        return 0.0
    if load >= slots:
        return 1.0
    blocked = 1.0
    for number in range(1, slots + 1):
        blocked = load * blocked / (number + load * blocked)
    return slots * blocked / (slots - load * (1 - blocked))


def wait_quantile_s(rate: float, mean_service_s: float, slots: int, share: float) -> float:
    """Return the seconds that at most `1 - share` of the calls wait longer than; infinite where the queue would grow.

    Args:
        rate: calls per second.
        mean_service_s: seconds a call takes, on average.
        slots: calls at once.
        share: 0.95 for p95.
    """
    load = rate * mean_service_s
    if load >= slots:
        return math.inf
    probability = waiting_probability(load, slots)
    if probability <= 1 - share:
        return 0.0
    return math.log(probability / (1 - share)) * mean_service_s / (slots - load)
