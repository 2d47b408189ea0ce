"""A turn against the real llama.cpp server, over our own transport: cancelled, it frees its slot there."""

import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest
import trio

from app.clients.breaker import Breaker
from app.clients.openai import OpenAIModel
from app.clients.resilient import ResilientModel
from app.clients.transport import TrioTransport
from app.embedded import local_model
from app.embedded.local_model import LOCAL_MODEL_URL, MODEL_NAME, LocalModel
from app.turn import TurnOutcome
from tests.needs import lack
from tests.standins import TRACE_ID, House, open_house, question

LIMIT_S = 60.0
SOON_S = 12.0  # the long answer takes half a minute on an idle machine, and more on a busy one


@pytest.fixture(autouse=True)
def _installed() -> None:
    if os.environ.get("NO_LOCAL_MODEL") == "1":
        pytest.skip("NO_LOCAL_MODEL=1: the local model is left out")
    if missing := local_model.local_model_missing():
        lack(missing)


class Endless(httpx.AsyncBaseTransport):
    """Has the model go on for 3500 tokens where the question says so, and for one where it does not."""

    def __init__(self, inner: httpx.AsyncBaseTransport) -> None:
        self._inner = inner

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        body = json.loads(request.content)
        long = "Go on" in body["messages"][-1]["content"]
        body |= {"ignore_eos": True, "max_tokens": 3500} if long else {"max_tokens": 1}
        return await self._inner.handle_async_request(
            httpx.Request("POST", request.url, json=body, extensions=request.extensions)
        )

    async def aclose(self) -> None:
        await self._inner.aclose()


@asynccontextmanager
async def house_of_one_slot() -> AsyncIterator[tuple[House, TrioTransport]]:
    """Open a house whose model has one slot, and is ready."""
    local, transport = LocalModel(slots=1), TrioTransport()
    async with trio.open_nursery() as services:
        await services.start(local.run)
        with trio.fail_after(LIMIT_S):
            await local.wait_ready()
        async with Endless(local.transport(transport)) as endless:
            model = ResilientModel(OpenAIModel(endless, LOCAL_MODEL_URL, "", MODEL_NAME), Breaker("model"))
            async with open_house(model=model) as house:
                yield house, transport
        services.cancel_scope.cancel()


async def test_a_cancelled_turn_frees_the_models_slot() -> None:
    """The client leaves after the first piece of a long answer: the one slot is free, and another turn is answered."""
    async with house_of_one_slot() as (house, transport):
        turn = house.turns.begin(question("Go on"), TRACE_ID)
        follower = turn.feed.follower()
        with trio.fail_after(LIMIT_S):
            while not any(isinstance(told, str) for told in await follower.more()):
                pass
        assert transport.statistics() == (1, 0)
        turn.leave()
        with trio.fail_after(SOON_S):
            end = await house.ask(question("Say hello.", page_id="other"))
        assert isinstance(end.result, TurnOutcome), end.result
