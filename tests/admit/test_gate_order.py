"""The gate against a plain model of its rules: who begins when, who is refused and why. Virtual time.

No two things of a scene happen at the same instant, because Trio may take tasks of one instant in any order: each
arrival, call, patience and resize has a fraction of its own, a different power of two, so that no sum of some of them
is a sum of others; and floats hold them exactly.
"""

from dataclasses import dataclass, field
from math import inf

import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

from tests.admit.hall import Hall

MOST = 9


@dataclass(frozen=True)
class Turn:
    name: str
    user: str
    arrive_s: float
    hold_s: float
    leave_s: float


@dataclass(frozen=True)
class Scene:
    """Turns, and sizes by when they are set."""

    turns: tuple[Turn, ...]
    sizes: tuple[tuple[float, int], ...]
    slots: int
    per_user_max: int = 100
    queue_max: int = 1000
    queue_timeout_s: float = 1000.0


@dataclass
class Model:
    """The rules, one event after the other; after each, whoever may go does, first come first served."""

    scene: Scene
    starts: dict[str, float] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)

    def play(self) -> None:
        scene, total, mean_s, ended, last = self.scene, self.scene.slots, 1.0, 0, -inf
        waiting: list[Turn] = []
        running: dict[Turn, tuple[float, float]] = {}  # when it began, and when it ends
        coming, sizes = sorted(scene.turns, key=lambda turn: turn.arrive_s), list(scene.sizes)
        while coming or sizes or waiting or running:
            moments = {"arrive": coming[0].arrive_s if coming else inf, "size": sizes[0][0] if sizes else inf}
            moments["end"] = min((end for _, end in running.values()), default=inf)
            moments["leave"] = min((turn.arrive_s + turn.leave_s for turn in waiting), default=inf)
            moments["late"] = min((turn.arrive_s + scene.queue_timeout_s for turn in waiting), default=inf)
            event = min(moments, key=moments.__getitem__)
            now = moments[event]
            known_s = mean_s if now - last <= 60 else 1.0
            if event == "arrive":
                turn = coming.pop(0)
                must_wait = len(running) >= total
                if must_wait and len(waiting) >= scene.queue_max:
                    self.refused[turn.name] = "queue_full"
                elif must_wait and len(waiting) * max(known_s, half(now, running)) / total > scene.queue_timeout_s:
                    self.refused[turn.name] = "predicted_wait"
                else:
                    waiting.append(turn)
            elif event == "size":
                total = sizes.pop(0)[1]
            elif event == "leave":
                waiting = [turn for turn in waiting if turn.arrive_s + turn.leave_s != now]
            elif event == "late":
                (late,) = [turn for turn in waiting if turn.arrive_s + scene.queue_timeout_s == now]
                self.refused[late.name] = "queue_timeout"
                waiting.remove(late)
            else:
                (over,) = [turn for turn, (_, end) in running.items() if end == now]
                held_s = now - running.pop(over)[0]
                if over.leave_s == inf or held_s >= min(over.hold_s, known_s):
                    ended = ended + 1 if now - last <= 60 else 1
                    mean_s, last = known_s + max(0.1, 1 / ended) * (held_s - known_s), now
            for turn in list(waiting):
                own = sum(each.user == turn.user for each in running)
                if len(running) < total and own < scene.per_user_max:
                    waiting.remove(turn)
                    running[turn] = now, min(now + turn.hold_s, turn.arrive_s + turn.leave_s)
                    self.starts[turn.name] = now


def half(now: float, running: dict[Turn, tuple[float, float]]) -> float:
    """Return what half of the calls have lasted at least; there are some."""
    return sorted(now - began for began, _end in running.values())[(len(running) - 1) // 2]


@st.composite
def scenes(draw: st.DrawFn, *, bounded: bool) -> Scene:
    """Draw a scene: with shared users, departures and resizes, or with users of their own and a bounded line."""
    slots, count = draw(st.integers(1, 3)), draw(st.integers(1, MOST))
    fraction = (2.0**-power for power in range(8, 60))
    turns = tuple(
        Turn(
            str(number),
            str(number) if bounded else draw(st.sampled_from("aab")),
            draw(st.integers(0, 12)) + next(fraction),
            draw(st.integers(0, 6)) + next(fraction),
            inf if bounded else draw(st.integers(0, 9) | st.just(inf)) + next(fraction),
        )
        for number in range(count)
    )
    if bounded:
        return Scene(turns, (), slots, queue_max=draw(st.integers(0, 4)), queue_timeout_s=draw(st.integers(1, 6)))
    sizes = draw(st.lists(st.tuples(st.integers(1, 30), st.integers(1, 4)), max_size=3))
    timed = sorted((at + next(fraction), size) for at, size in sizes)
    return Scene(turns, tuple(timed), slots, per_user_max=draw(st.integers(1, 3)))


def compare(scene: Scene) -> None:
    """Run a scene on the gate, and hold what became of it against the model."""
    model = Model(scene)
    model.play()

    async def run() -> None:
        hall = Hall(scene.slots, scene.queue_timeout_s, queue_max=scene.queue_max, per_user_max=scene.per_user_max)
        async with trio.open_nursery() as nursery:
            for turn in scene.turns:
                nursery.start_soon(hall.turn, turn.name, turn.hold_s, turn.arrive_s, turn.leave_s, turn.user)
            for at, size in scene.sizes:
                await trio.sleep_until(at)
                hall.gate.resize(size, "manual")
        assert hall.starts == model.starts
        assert {name: fault.error_type for name, fault in hall.refused.items()} == model.refused
        assert hall.empty()

    trio.run(run, clock=MockClock(autojump_threshold=0))


@settings(max_examples=150, deadline=None)
@given(scenes(bounded=False))
def test_turns_begin_when_the_rules_say(scene: Scene) -> None:
    """First come first served among those whose user may have another call, over departures and other sizes."""
    compare(scene)


@settings(max_examples=150, deadline=None)
@given(scenes(bounded=True))
def test_turns_are_refused_when_the_rules_say(scene: Scene) -> None:
    """Too many in line, too long a wait predicted, or too long a wait: each is refused then, and for that reason."""
    compare(scene)
