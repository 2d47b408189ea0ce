"""The real server with a bug in the concurrent plan, met by turns whose page is called so.

python -m tests.grafana.broken_plan serve
"""

from app.fetch.grounding import GroundingFetch
from app.turn import Grounding, TurnRequest
from telemetry.turn_trace import TurnTrace
from tests.server import extended

PAGE = "bug"


async def _call(self: GroundingFetch, request: TurnRequest, trace: TurnTrace) -> Grounding:
    if request.plan == "concurrent" and request.page_id == PAGE:
        raise KeyError("a bug of the concurrent plan")
    return await _well(self, request, trace)


if __name__ == "__main__":
    _well = GroundingFetch.__call__
    GroundingFetch.__call__ = _call  # type: ignore[method-assign]  # a bug, put where one might be
    extended.main()
