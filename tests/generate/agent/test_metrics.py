"""The figures about a conversation."""

from app.generate.agent.metrics import metrics
from app.generate.agent.values import Snapshot
from tests.generate.agent.histories import replied, said


def test_counts() -> None:
    """Own messages are turns, and answers with text are answered turns."""
    figures = metrics(replied(["Probe"], ["Inform"]), Snapshot())
    assert (figures["turns_count"], figures["answered_turns"]) == (2, 2)


def test_momentum() -> None:
    """Momentum is the share of reports in the newest five own messages minus that of the five before them."""
    did, asked = "実験をしました。", "なぜですか？"
    assert metrics(said(*[asked] * 5, *[did] * 5), Snapshot())["momentum_delta"] == 1.0
    assert metrics(said(*[did] * 5, asked, asked, asked, did, did), Snapshot())["momentum_delta"] == -0.6
    assert metrics(said(did, asked, asked, asked, asked, asked), Snapshot())["momentum_delta"] == -1.0


def test_no_momentum_without_a_window_before() -> None:
    """Five own messages or fewer have nothing to be compared with."""
    assert metrics(said(*["実験をしました。"] * 5), Snapshot())["momentum_delta"] == 0.0
    assert metrics([], Snapshot())["momentum_delta"] == 0.0
