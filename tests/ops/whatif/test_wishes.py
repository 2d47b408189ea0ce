"""What the command's options may say."""

import pytest

from app.ops.whatif.wishes import read_factor, read_sizes, read_targets


@pytest.mark.parametrize(
    ("text", "sizes"),
    [
        ("1..4", [1, 2, 3, 4]),
        ("8", [8]),
        ("8..32:8", [8, 16, 24, 32]),
        ("12, 4,8", [4, 8, 12]),
        ("1..3,2..5", [1, 2, 3, 4, 5]),
    ],
)
def test_sizes_are_read(text: str, sizes: list[int]) -> None:
    """A range, one with a step, single sizes, or several of these: each once, ascending."""
    assert read_sizes(text) == sizes


@pytest.mark.parametrize("text", ["", "0", "0..4", "4..1", "1..4:0", "a", "1-4", "1..", "1.5", "-3", "1..9999", "1,,2"])
def test_other_sizes_are_refused(text: str) -> None:
    """What is no size, or too much, is refused with a word on why."""
    with pytest.raises(ValueError, match=r"no size|upwards|sizes, and|sizes are"):
        read_sizes(text)


@pytest.mark.parametrize(
    "text", ["", "p95", "p95<2", "p95<2%", "shed<2s", "p0<1s", "p100<1s", "95<2s", "p95<-1s", "p95>2s", "p95<2s,"]
)
def test_other_targets_are_refused(text: str) -> None:
    """A target without a unit, with the wrong one, or of no quantile is refused."""
    with pytest.raises(ValueError, match=r"no target|a wait is in"):
        read_targets(text)


@pytest.mark.parametrize(("text", "factor"), [("2x", 2.0), ("1", 1.0), ("2.5x", 2.5), ("100x", 100.0)])
def test_factors_are_read(text: str, factor: float) -> None:
    """With or without an x."""
    assert read_factor(text) == factor


@pytest.mark.parametrize("text", ["", "0x", "0.5", "101x", "x", "-2", "2y", "nan"])
def test_other_factors_are_refused(text: str) -> None:
    """Bursts do not become smaller, nor absurd."""
    with pytest.raises(ValueError, match="no factor"):
        read_factor(text)
