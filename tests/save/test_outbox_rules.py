"""The table by which failures are judged, and the waits between attempts."""

import pytest

from app.save.outbox_rules import DeliveryRules, is_answer, judge, wait_s

JUDGED = [
    ("22P02", "row"), ("22001", "row"), ("22P05", "row"), ("23502", "row"), ("23503", "row"), ("23514", "row"),
    ("23505", "duplicate"),
    ("http_401", "pause"), ("http_403", "pause"), ("http_404", "pause"), ("http_408", "pause"), ("http_429", "pause"),
    ("42501", "pause"), ("42P01", "pause"), ("42703", "pause"), ("28000", "pause"), ("0LP01", "pause"),
    ("PGRST301", "pause"), ("PGRST003", "pause"), ("PGRST204", "pause"), ("PGRST205", "pause"), ("PGRST000", "pause"),
    ("http_413", "smaller"),
    ("breaker_open", "leave_alone"),
    ("http_500", "back_off"), ("http_502", "back_off"), ("http_503", "back_off"), ("http_504", "back_off"),
    ("40001", "back_off"), ("53100", "back_off"), ("57014", "back_off"), ("XX000", "back_off"), ("P0001", "back_off"),
    ("ConnectError", "back_off"), ("ReadTimeout", "back_off"), ("RemoteProtocolError", "back_off"),
    ("not_json", "back_off"), ("database_unavailable", "back_off"), ("", "back_off"),
]  # fmt: skip


@pytest.mark.parametrize(("error_type", "judgement"), JUDGED)
def test_a_failure_is_judged_by_its_type(error_type: str, judgement: str) -> None:
    """The longest beginning that is known decides; the unknown may pass by itself."""
    assert judge(error_type) == judgement


@pytest.mark.parametrize(
    ("error_type", "answered"),
    [
        *[("XX000", True), ("P0001", True), ("40001", True), ("http_500", True), ("PGRST003", True)],
        *[("ConnectError", False), ("ReadTimeout", False), ("timeout", False), ("not_json", False)],
    ],
)
def test_an_answer_is_told_from_silence(error_type: str, answered: bool) -> None:
    """A code was given by somebody who answered; an exception's name says that nobody did."""
    assert is_answer(error_type) is answered


def test_waits_double_up_to_their_bound() -> None:
    """From the first wait on, doubled by each failure in a row, never beyond the bound, and for ever."""
    waits = [wait_s((0.2, 30.0), failures, lambda low, high: high) for failures in (1, 2, 3, 8, 9, 10, 10_000)]
    assert waits == pytest.approx([0.2, 0.4, 0.8, 25.6, 30, 30, 30])


def test_jitter_takes_up_to_a_quarter() -> None:
    """Those who failed together do not come back together."""
    assert wait_s((4.0, 60.0), 1, lambda low, high: low) == pytest.approx(3.0)
    assert DeliveryRules().pause_s[0] > DeliveryRules().back_off_s[0]
