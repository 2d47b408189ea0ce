"""The limiter as its operators know it: how many model calls at once, and who decides that.

`fixed`: the number that was configured, or that somebody set. `adaptive`: the adaptive limit (adaptive.py) learns it
from the host's answers, between two bounds. The gate has the slots and the steering what the host says; here is which
of them follows whom. Changes hold until the next restart.
"""

import logging
from dataclasses import dataclass
from functools import partial

from app.admit.adaptive import AdaptiveLimit, LimitBounds
from app.admit.gate import Gate
from app.admit.gate_statistics import Mode
from app.admit.steered_model import Steering

log = logging.getLogger(__name__)

MOST = 10_000
"""More calls at once than one process could serve."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LimiterWish:
    """What is to change; what is None stays.

    Args:
        total: model calls at once.
        mode: who decides how many.
        minimum: of the adaptive limit.
        maximum: likewise.
    """

    total: int | None = None
    mode: Mode | None = None
    minimum: int | None = None
    maximum: int | None = None


class Limiter:
    """Keeps gate and steering to one mode. For Trio's thread; any thread may read `mode`.

    Args:
        gate: has the slots; as many as it has now are the fixed number to go back to.
        steering: hears the host.
        mode: at the start.
        bounds: of the adaptive limit; no wider than `most`.
        most: calls that the host can work on at once, where that is known.
    """

    def __init__(
        self,
        gate: Gate,
        steering: Steering,
        mode: Mode,
        bounds: LimitBounds,
        most: int = MOST,
    ) -> None:
        self.gate = gate
        self.steering = steering
        self.bounds = LimitBounds(minimum=min(bounds.minimum, most), maximum=min(bounds.maximum, most))
        self._most = most
        self._configured = gate.total
        steering.resize = partial(gate.resize, mode="adaptive")
        if mode == "adaptive":
            total = self._adapt()
            gate.resize(total, "grow" if total > gate.total else "cut", mode=mode, why="LLM_LIMITER_MODE")

    @property
    def mode(self) -> Mode:
        """Who decides how many calls there are at once."""
        return "fixed" if self.steering.adaptive is None else "adaptive"

    def change(self, wish: LimiterWish, *, who: str = "", why: str = "") -> None:
        """Do as somebody wishes, at once. No call in flight is touched.

        Raises:
            ValueError: that cannot be; the text begins with the field's name. Nothing has changed then.
        """
        mode = wish.mode or self.mode
        bounds = self._bounds(wish)
        self._check_total(wish, mode)
        before = self.gate.total, self.mode, self.bounds
        self.bounds = bounds
        if mode == "adaptive":
            total = self._adapt()
        else:
            self.steering.follow(None)
            total = wish.total or self.gate.total
        self.gate.resize(total, "manual", mode=mode, who=who, why=why)
        self._tell(before, who, why)

    def roll_back(self) -> None:
        """Go back to the number that was configured, as a rollback of the plan wants it; to be called on each."""
        if self.mode == "adaptive":
            wish = LimiterWish(mode="fixed", total=self._configured)
            self.change(wish, who="rollout", why="a plan was rolled back")

    def _adapt(self) -> int:
        """Let the adaptive limit decide, the one that does or a new one that begins with the slots there are; return
        how many it wants.
        """
        limit = self.steering.adaptive
        if isinstance(limit, AdaptiveLimit):
            limit.bounds = self.bounds
        else:
            limit = AdaptiveLimit(self.gate.total, self.bounds)
        self.steering.follow(limit)
        return limit.total

    def _bounds(self, wish: LimiterWish) -> LimitBounds:
        for name, value in (("min", wish.minimum), ("max", wish.maximum)):
            self._check(name, value)
        minimum, maximum = wish.minimum or self.bounds.minimum, wish.maximum or self.bounds.maximum
        if minimum > maximum:
            raise ValueError(f"min: must not be more than max, which is {maximum}")
        return LimitBounds(minimum=minimum, maximum=maximum)

    def _check_total(self, wish: LimiterWish, mode: Mode) -> None:
        self._check("total_tokens", wish.total)
        if wish.total is not None and mode == "adaptive":
            raise ValueError('total_tokens: the adaptive limit decides it; "mode": "fixed" takes it over')

    def _check(self, name: str, value: int | None) -> None:
        if value is not None and not 1 <= value <= self._most:
            raise ValueError(f"{name}: must be a whole number from 1 to {self._most}")

    def _tell(self, before: tuple[int, Mode, LimitBounds], who: str, why: str) -> None:
        after = self.gate.total, self.mode, self.bounds
        shown = [
            {"total": total, "mode": mode, "min": bounds.minimum, "max": bounds.maximum}
            for total, mode, bounds in (before, after)
        ]
        log.warning("ops.limiter.changed", extra={"before": shown[0], "after": shown[1], "who": who, "why": why})
