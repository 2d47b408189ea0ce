"""The scripted model behind a real server, on a real socket."""

from collections.abc import AsyncIterator

import httpx
import hypercorn.trio
import pytest
import trio
from hypercorn.config import Config

from app.embedded.scripted_model import ScriptedModel


@pytest.fixture
async def base_url() -> AsyncIterator[str]:
    """Where a Hypercorn on a free loopback port serves the scripted model."""
    config = Config()
    config.bind = ["127.0.0.1:0"]
    config.errorlog = None
    async with trio.open_nursery() as nursery:
        served = await nursery.start(hypercorn.trio.serve, ScriptedModel(first_token_s=0, per_token_s=0), config)
        try:
            yield f"{served[0]}/v1"
        finally:
            nursery.cancel_scope.cancel()


def body(question: str) -> dict[str, object]:
    """Return a streamed request that asks `question`."""
    return {"model": "m", "messages": [{"role": "user", "content": question}], "stream": True}


async def test_it_streams_over_a_socket(base_url: str) -> None:
    """An ordinary server and client carry the stream to its `[DONE]`, and the server finds the lifespan it expects."""
    async with httpx.AsyncClient(trust_env=False) as client:
        response = await client.post(f"{base_url}/chat/completions", json=body("川の水はなぜ濁る？"))
    assert response.status_code == 200
    assert response.text.endswith("data: [DONE]\n\n")
    assert "次の" in response.text


async def test_a_cut_is_seen_on_the_socket(base_url: str) -> None:
    """The connection ends without the end of its body."""
    async with httpx.AsyncClient(trust_env=False) as client:
        with pytest.raises(httpx.RemoteProtocolError):
            await client.post(f"{base_url}/chat/completions", json=body("[[fault: cut after=1]]"))


async def test_a_stalled_answer_ends_with_its_client(base_url: str) -> None:
    """After a client left a stalled answer the server goes on serving others."""
    async with httpx.AsyncClient(trust_env=False) as client:
        async with client.stream("POST", f"{base_url}/chat/completions", json=body("[[fault: stall]]")) as stalled:
            assert stalled.status_code == 200
        assert (await client.get(f"{base_url}/models")).status_code == 200
