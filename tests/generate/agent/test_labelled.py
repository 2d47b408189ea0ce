"""How often the rules decide as a tutor would, on messages that they were tuned on and on others.

The floors are what holds today; a change of the cues must not fall below them.
"""

import random
from collections.abc import Callable, Sequence
from typing import get_args

import pytest

from app.generate.agent.acts import ORDER
from app.generate.agent.language import language_of
from app.generate.agent.values import SupportType
from tests.generate.agent.fresh import FRESH
from tests.generate.agent.held_out import HELD_OUT
from tests.generate.agent.histories import EVERY, view_of
from tests.generate.agent.labelled import SUITING, TUNED_ON, Labelled
from tests.generate.agent.looser import LOOSER

Say = Callable[[str], None]
SETS = {"tuned on": (*TUNED_ON, *LOOSER), "held out": HELD_OUT, "fresh": FRESH}
TYPE_FLOORS = {"tuned on": 0.98, "held out": 0.95, "fresh": 0.58}
ACT_FLOORS = {"tuned on": 0.98, "held out": 0.95, "fresh": 0.60}
DECIDED_FLOORS = {"tuned on": 0.98, "held out": 0.95, "fresh": 0.70}


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str], record_property: Callable[[str, object], None]) -> Say:
    """Print a figure past pytest's capture, and keep it in its report."""

    def out(line: str) -> None:
        record_property("rules", line)
        with capsys.disabled():
            print(f"\n  conversation agent's rules, {line}", end="")  # noqa: T201 - the figure is the point

    return out


def types_right(items: Sequence[Labelled]) -> int:
    return sum(view_of(item).support.type == item.label for item in items)


def acts_valid(item: Labelled) -> bool:
    """Return whether the acts are one or two, in Socratic order, and suit the label."""
    acts = view_of(item).acts.acts
    suiting = SUITING[item.label]
    ordered = list(acts) == sorted(set(acts), key=ORDER.index)
    return 1 <= len(acts) <= 2 and ordered and bool(suiting & set(acts)) and set(acts) <= suiting | {"Reflect", "Act"}


@pytest.mark.parametrize("name", SETS)
def test_support_types(name: str, say: Say) -> None:
    """The support type is the labelled one at least as often as the floor says."""
    items = SETS[name]
    right = types_right(items)
    say(f"support type right, {name}: {right}/{len(items)} = {right / len(items):.1%}")
    assert right / len(items) >= TYPE_FLOORS[name]


@pytest.mark.parametrize("name", SETS)
def test_decided_types(name: str, say: Say) -> None:
    """When the rules decide for another type than the default, they are right at least as often as the floor says."""
    decided = [item for item in SETS[name] if view_of(item).support.type != "理解深化"]
    right = types_right(decided)
    say(f"right when not the default, {name}: {right}/{len(decided)} = {right / len(decided):.1%}")
    assert right / len(decided) >= DECIDED_FLOORS[name]


@pytest.mark.parametrize("name", SETS)
def test_acts(name: str, say: Say) -> None:
    """The acts suit the labelled type at least as often as the floor says."""
    items = SETS[name]
    valid = sum(acts_valid(item) for item in items)
    say(f"acts valid, {name}: {valid}/{len(items)} = {valid / len(items):.1%}")
    assert valid / len(items) >= ACT_FLOORS[name]


def test_labels_are_balanced() -> None:
    """Each support type has at least 20 labelled messages, and neither language less than 40 % of them."""
    counts = {kind: sum(item.label == kind for item in EVERY) for kind in get_args(SupportType)}
    japanese = sum(language_of(item.message) == "ja" for item in EVERY)
    assert min(counts.values()) >= 20, counts
    assert 0.4 <= japanese / len(EVERY) <= 0.6


def test_no_message_is_in_two_sets() -> None:
    """No message that judges the rules is one that they were tuned on."""
    messages = [item.message for item in EVERY]
    assert len(messages) == len(set(messages))


def test_beats_guessing() -> None:
    """On the fresh messages the rules are right more than twice as often as labels dealt at random."""
    labels = [item.label for item in FRESH]
    dealt = random.Random(7)  # seeded: the same deal each time
    hits = sum(
        guess == label
        for _ in range(100)
        for guess, label in zip(dealt.sample(labels, len(labels)), labels, strict=True)
    )
    assert types_right(FRESH) > 2 * hits / 100
