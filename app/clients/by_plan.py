"""Which transport carries a request depends on the turn's plan: the way back does not go over our own either."""

from collections.abc import Callable, Sequence
from functools import cached_property

import httpx

from app.turn import CURRENT_PLAN


class TransportByPlan(httpx.AsyncBaseTransport):
    """Send with `usual`; for turns of the sequential plan, which is taken when in doubt, with a conservative one.

    Args:
        usual: carries the rest.
        make_conservative: called at the first need: hardly ever, and it loads certificates for 50 ms.
    """

    def __init__(
        self, usual: httpx.AsyncBaseTransport, make_conservative: Callable[[], httpx.AsyncBaseTransport]
    ) -> None:
        self._usual = usual
        self._make_conservative = make_conservative

    @cached_property
    def _conservative(self) -> httpx.AsyncBaseTransport:
        return self._make_conservative()

    def carriers(self) -> Sequence[httpx.AsyncBaseTransport]:
        """Return those that were made. Safe to call from any thread."""
        made = vars(self).get("_conservative")
        return (self._usual,) if made is None else (self._usual, made)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Return the response of the one that is in charge; it raises what that raises."""
        carrier = self._conservative if CURRENT_PLAN.get() == "sequential" else self._usual
        return await carrier.handle_async_request(request)

    async def aclose(self) -> None:
        """Close what was made."""
        for carrier in self.carriers():
            await carrier.aclose()
