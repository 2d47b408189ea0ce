"""The real server for the load: its breakers try again after a second, and two pages meet bugs.

python -m tests.grafana.load_server serve
"""

from functools import partial

from app import bootstrap
from app.bootstrap.upstreams import Breakers
from app.clients.breaker import Breaker
from app.fetch.grounding import GroundingFetch
from app.turn import Grounding, TurnRequest
from telemetry.turn_trace import TurnTrace
from tests.server.extended import main

PLAN_BUG, BUG = "a-bug-of-the-plan", "a-bug-of-both"
"""Pages: the concurrent plan fails on both of them, the sequential one on the second only."""
OPEN_S = 1.0


async def _call(self: GroundingFetch, request: TurnRequest, trace: TurnTrace) -> Grounding:
    if request.page_id == BUG or (request.page_id == PLAN_BUG and request.plan == "concurrent"):
        raise KeyError("a bug")
    return await _well(self, request, trace)


if __name__ == "__main__":
    quick = partial(Breakers, model=Breaker("model", open_s=OPEN_S), database=Breaker("database", open_s=OPEN_S))
    bootstrap.Breakers = quick  # type: ignore[misc,assignment]  # the one place that makes them
    _well = GroundingFetch.__call__
    GroundingFetch.__call__ = _call  # type: ignore[method-assign]  # a bug, put where one might be
    main()
