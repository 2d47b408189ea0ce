"""Which plan a turn takes: concurrent, or the sequential one that a school can go back to.

The settings give the first rules; ops change them live, until the next restart.
"""

import hashlib
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from app.turn import Feature, Plan

By = Literal["user", "request"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """How far one feature is rolled out.

    Args:
        optimized: False sends everybody to the sequential plan.
        percent: share on the concurrent plan while `optimized`, 0 to 100.
    """

    optimized: bool = True
    percent: float = 100.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutRules:
    """The rollout of both features.

    Args:
        chat: turns of the tutor.
        agent: turns of the conversation agent.
        by: `user`: the same user always takes the same plan; `request`: every turn draws.
        users: take the concurrent plan whatever the share, while `optimized`.
    """

    chat: Share = field(default_factory=Share)
    agent: Share = field(default_factory=Share)
    by: By = "user"
    users: frozenset[str] = frozenset()

    def plan(self, feature: Feature, user_id: str, draw: float) -> Plan:
        """Return the plan of a user's turn; `draw` is uniform in [0, 1), for `by="request"`."""
        share = self.chat if feature == "chat" else self.agent
        if not share.optimized:
            return "sequential"
        if user_id in self.users:
            return "concurrent"
        position = position_of(user_id) if self.by == "user" else draw
        return "concurrent" if position * 100 < share.percent else "sequential"


def position_of(user_id: str) -> float:
    """Return where a user stands between 0 and 1: the same on every replica, for ever.

    Raising a share only ever adds users to it, because nobody moves.
    """
    digest = hashlib.blake2b(user_id.encode(), digest_size=6, person=b"rollout").digest()
    return int.from_bytes(digest) / 2**48


class Rollout:
    """The rules in force; assign `rules` to change them.

    Args:
        rules: at the start.
        draw: uniform in [0, 1).
        on_rollback: told whenever the rules send a feature back to the sequential plan, at the start too.
    """

    def __init__(
        self,
        rules: RolloutRules,
        draw: Callable[[], float] = random.random,
        on_rollback: Callable[[], None] = lambda: None,
    ) -> None:
        self._draw = draw
        self._on_rollback = on_rollback
        self.rules = rules

    @property
    def rules(self) -> RolloutRules:
        """The rules in force."""
        return self._rules

    @rules.setter
    def rules(self, rules: RolloutRules) -> None:
        self._rules = rules
        if not (rules.chat.optimized and rules.agent.optimized):
            self._on_rollback()

    def plan(self, feature: Feature, user_id: str) -> Plan:
        """Return the plan of a turn that a user begins now."""
        return self.rules.plan(feature, user_id, self._draw())
