"""The line by itself: who is next, and whose place a newcomer may have."""

import random
from dataclasses import dataclass

import pytest

from app.admit.line import Line


@dataclass(eq=False)
class Turn:
    user: str
    number: int = 0


def lined_up(users: str, per_user_max: int = 2) -> tuple[Line[Turn], list[Turn]]:
    line: Line[Turn] = Line(per_user_max)
    turns = [Turn(user, number) for number, user in enumerate(users)]
    for turn in turns:
        line.join(turn)
    return line, turns


def started(line: Line[Turn], count: int) -> str:
    users = ""
    for _ in range(count):
        turn = line.next()
        assert turn is not None
        line.start(turn)
        users += turn.user
    return users


def test_first_come_first_served_among_those_that_may_go() -> None:
    """A user's third turn is passed while two of its calls run, and is next again as soon as one ends."""
    line, turns = lined_up("aaabab")
    assert started(line, 4) == "aabb"
    assert line.next() is None
    line.leave(turns[1])
    assert line.next() is turns[2]


@pytest.mark.parametrize(("users", "ready"), [("", 0), ("a", 1), ("aaaa", 2), ("aaab", 3), ("abcd", 4)])
def test_how_many_could_go(users: str, ready: int) -> None:
    """With slots enough each user's first two could."""
    line, _ = lined_up(users)
    assert line.ready() == ready


def test_calls_count_for_who_could_go() -> None:
    """Those that run leave their user's others the less room."""
    line, _ = lined_up("aaab")
    started(line, 1)
    assert line.ready() == 2


@pytest.mark.parametrize(
    ("users", "newcomer", "number"),
    [
        ("", "a", None),
        ("abc", "d", None),
        ("aab", "d", 1),
        ("abab", "d", 2),
        ("aab", "b", None),
        ("aaab", "b", 2),
        ("aaa", "a", None),
    ],
)
def test_a_full_line_is_shared(users: str, newcomer: str, number: int | None) -> None:
    """The newest of whoever has most gives way, if its user has more even then; nobody gives way to itself."""
    line, _ = lined_up(users)
    turn = line.one_too_many(newcomer)
    assert (turn.number if turn else None) == number


def test_nothing_is_kept_of_who_is_gone() -> None:
    """A hundred thousand users that came and went, from the line or from a call, leave nothing behind."""
    line: Line[Turn] = Line(2)
    draw = random.Random(7)
    here: list[Turn] = []
    for number in range(100_000):
        here.append(turn := Turn(str(number % 50_021)))
        line.join(turn)
        if draw.random() < 0.7 and (first := line.next()) is not None:
            line.start(first)
        if len(here) > 20:
            line.leave(here.pop(draw.randrange(20)))
    for turn in here:
        line.leave(turn)
        line.leave(turn)
    assert (line.users(), line.users_at_cap()) == (0, 0)
    assert (line.waiting, line.running, line._waiting_of, line._running_of) == ({}, {}, {}, {})
