"""Pieces of PromQL that many panels are made of. Each sees the chosen deployments and processes only."""

from typing import Final

HERE: Final = 'job=~"$job", instance=~"$instance"'
WINDOW: Final = "$__rate_interval"
SHOWN: Final = "$__range"
"""The whole time that the dashboard shows."""

ANSWERED: Final = 'outcome=~"ok|degraded"'
FAILED: Final = 'outcome=~"shed|timeout|upstream_error|internal_error"'
COUNTED: Final = 'outcome!~"refused|cancelled"'
"""The turns that an objective is about: not those that the caller spoilt or left."""

ALL_COUNTED: Final = "job_instance:chat_turns_counted:sum"
ALL_UNANSWERED: Final = "job_instance:chat_turns_unanswered:sum"
ALL_SLOW: Final = "job_instance:chat_turns_slow:sum"
ALL_FAILED: Final = "job_instance_outcome:chat_turns_failed:sum"
"""Recorded by `alerts/rules.yaml`, at 0 from a process's begin on: the first failure after it is a rise, too."""


def selector(metric: str, *matchers: str) -> str:
    """Return the selector of a metric's series."""
    return f"{metric}{{{', '.join((HERE, *matchers))}}}"


def total(metric: str, *matchers: str, by: str = "") -> str:
    """Return the sum of gauge `metric`, for each value of the labels `by`."""
    return f"sum{_by(by)}({selector(metric, *matchers)})"


def rate(metric: str, *matchers: str, by: str = "", window: str = WINDOW) -> str:
    """Return by how much a second counter `metric` rises, for each value of the labels `by`."""
    return f"sum{_by(by)}(rate({selector(metric, *matchers)}[{window}]))"


def rise(metric: str, *matchers: str, window: str = SHOWN) -> str:
    """Return by how much counter `metric` rose in the time that is shown; 0 when it never counted.

    For counters whose series are there from the start: what brings a series about is not seen.
    """
    return f"sum(increase({selector(metric, *matchers)}[{window}])) or vector(0)"


def quantile(share: float, metric: str, *matchers: str, by: str = "") -> str:
    """Return the value that `share` of the histogram `metric` is under, for each value of the labels `by`."""
    labels = f"le, {by}" if by else "le"
    return f"histogram_quantile({share}, {rate(f'{metric}_bucket', *matchers, by=labels)})"


def known(value: str) -> str:
    """Return `value` where it is a number: a quantile of nothing is none, and would be shown as a word."""
    return f"{value} >= 0"


def ratio(part: str, whole: str) -> str:
    """Return `part / whole`, both without labels: nothing where the whole is, and 0 where only the part is nothing."""
    return f"({part} or vector(0)) / ({whole} > 0)"


def _by(labels: str) -> str:
    return f" by ({labels}) " if labels else ""
