"""The knee, the smallest size, and the sentence."""

from dataclasses import replace

import pytest

from app.ops.whatif.advice import advise, knee, percent, seconds
from app.ops.whatif.figures import Figures
from app.ops.whatif.wishes import read_targets

BASE = Figures(
    size=1,
    turns=1000,
    p50_s=0.0,
    p95_s=0.0,
    p99_s=0.0,
    p95_interval=None,
    queue_full=0,
    predicted_wait=0,
    queue_timeout=0,
    longest_queue=0,
    busy=0.5,
    cost_s=0.0,
    erlang_p95_s=0.0,
    meets=True,
    surely=True,
)
SLO = read_targets("p95<2s")


def sizes(*waits: float, limit: float = 2.0, spread: float = 0.0) -> list[Figures]:
    """Return figures at sizes from one on, with these p95 waits."""
    return [
        replace(
            BASE,
            size=size,
            p95_s=wait,
            p95_interval=(max(0.0, wait - spread), wait + spread),
            cost_s=wait,
            meets=wait <= limit,
            surely=wait + spread <= limit,
        )
        for size, wait in enumerate(waits, 1)
    ]


@pytest.mark.parametrize(
    ("costs", "size"),
    [
        ([10, 8, 6, 4, 2, 0, 0, 0, 0, 0, 0], 6),
        ([10, 1, 0.9, 0.8, 0.7, 0.6, 0.5], 2),
        ([10, 10, 10, 10, 1, 0, 0, 0, 0, 0, 0, 0, 0], 6),
        ([1 / size for size in range(1, 101)], 10),
        ([3, 3, 3], None),
        ([7], None),
    ],
    ids=["straight", "step", "late", "hyperbola", "flat", "one"],
)
def test_the_knee_is_where_the_curve_bends(costs: list[float], size: int | None) -> None:
    """A straight fall ends there, a step drops there, 1/x bends where x and y weigh the same; a flat one has none."""
    assert knee(list(enumerate(costs, 1))) == size


def test_it_does_not_matter_in_which_unit_the_cost_is() -> None:
    """Both axes are scaled to one: milliseconds have the knee that seconds have."""
    curve = [(size, 1 / size) for size in range(1, 50)]
    assert knee(curve) == knee([(size, 1000 * cost) for size, cost in curve])


def test_the_smallest_size_is_one_that_all_larger_ones_agree_with() -> None:
    """A size that meets the target by luck, with a larger one that does not, is not recommended."""
    assert advise(sizes(9, 1.5, 3, 1, 0.5), SLO).smallest == 4


def test_the_sentence_recommends_a_size() -> None:
    """One sentence: which variable, which value, what is to be expected, and where the knee is."""
    advice = advise(sizes(9, 8, 1.5, 0.5, 0.2, spread=0.75), SLO)
    assert (advice.smallest, advice.sure, advice.knee) == (3, 4, 3)
    assert advice.sentence == (
        "Set OPENAI_API_POOL_SIZE to 3, the smallest size here that meets p95<2s, and the knee (p95 wait 1.5 s, "
        "95 % interval 750 ms to 2.2 s, 0.0 % refused), or to 4 to meet it at the interval's upper end too."
    )


def test_the_sentence_says_when_no_size_will_do() -> None:
    """Where even the largest one misses the target, it says by how much, and what to try."""
    assert advise(sizes(9, 8, 7), SLO).sentence.startswith(
        "No size from 1 to 3 meets p95<2s (at 3: p95 wait 7.0 s, 0.0 % refused): try larger ones"
    )


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "-"), (0.0, "0 s"), (0.0004, "0 s"), (0.012, "12 ms"), (0.9996, "1.0 s"), (12.34, "12.3 s")],
)
def test_waits_are_written_for_people(value: float | None, text: str) -> None:
    """Milliseconds under a second, seconds above, and nothing that was is shown as more than it was."""
    assert seconds(value) == text


@pytest.mark.parametrize(("share", "text"), [(0.0, "0.0 %"), (0.0001, "<0.1 %"), (0.123, "12.3 %"), (1.0, "100 %")])
def test_a_share_that_is_not_zero_is_not_shown_as_zero(share: float, text: str) -> None:
    """One refused turn among thousands is still told."""
    assert percent(share) == text
