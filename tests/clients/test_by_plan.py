"""Two transports, and which of them a turn's plan takes."""

import httpx
import pytest
import trio

from app.clients.by_plan import TransportByPlan
from app.turn import CURRENT_PLAN, Plan


class Named(httpx.AsyncBaseTransport):
    """Answers with its name, and notes that it was closed."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.closed = False

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        await trio.lowlevel.checkpoint()
        return httpx.Response(200, text=self.name)

    async def aclose(self) -> None:
        self.closed = True


async def carrier(transport: httpx.AsyncBaseTransport, plan: Plan) -> str:
    """Return who carries a request of a task that a turn of this plan began."""
    CURRENT_PLAN.set(plan)
    names: list[str] = []

    async def ask() -> None:
        response = await transport.handle_async_request(httpx.Request("GET", "http://host.test/"))
        names.append((await response.aread()).decode())

    async with trio.open_nursery() as tasks:
        tasks.start_soon(ask)
    return names[0]


@pytest.mark.parametrize(("plan", "name"), [("concurrent", "usual"), ("sequential", "conservative")])
async def test_the_plan_decides(plan: Plan, name: str) -> None:
    """In the turn's task and in those that it starts; and only what was used is closed."""
    usual, made = Named("usual"), list[Named]()

    def make() -> Named:
        made.append(Named("conservative"))
        return made[-1]

    async with TransportByPlan(usual, make) as transport:
        assert [await carrier(transport, plan) for _ in range(2)] == [name, name]
    assert len(made) == (plan == "sequential")
    assert usual.closed
    assert all(each.closed for each in made)


async def test_outside_of_turns_the_usual_one_is_taken() -> None:
    """A user is looked up before their turn has a plan."""
    transport = TransportByPlan(Named("usual"), lambda: pytest.fail("made"))
    response = await transport.handle_async_request(httpx.Request("GET", "http://host.test/"))
    assert await response.aread() == b"usual"
