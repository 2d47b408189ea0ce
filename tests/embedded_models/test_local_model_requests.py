"""What the local model's transport makes of a request; no child is needed for that."""

import json

import httpx
import pytest

from app.embedded import local_model
from app.embedded.local_model import LOCAL_MODEL_URL, LocalModel, child_body


def test_a_request_is_bounded_and_shows_progress() -> None:
    """An answer without a limit gets one, a streamed one progress; the rest of the body stays as it is."""
    bounded = {"max_tokens": local_model.MAX_TOKENS}
    assert json.loads(child_body(b'{"a": 1}')) == {"a": 1, **bounded}
    assert json.loads(child_body(b'{"stream": true}')) == {"stream": True, "return_progress": True, **bounded}
    assert json.loads(child_body(b'{"max_completion_tokens": 5}')) == {"max_completion_tokens": 5}
    assert json.loads(child_body(b'{"max_tokens": 5}')) == {"max_tokens": 5}
    assert child_body(b"not JSON") == b"not JSON"
    assert child_body(b"[]") == b"[]"


class Recorder(httpx.AsyncBaseTransport):
    """A transport that keeps what it was asked to send."""

    def __init__(self) -> None:
        self.seen: list[httpx.Request] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.seen.append(request)
        return httpx.Response(204)


async def test_other_hosts_pass_untouched() -> None:
    """Only requests for the fixed address are rewritten."""
    below = Recorder()
    async with httpx.AsyncClient(transport=LocalModel().transport(below)) as client:
        sent = client.build_request("POST", "http://elsewhere.test/v1/chat/completions", json={"stream": True})
        assert (await client.send(sent)).status_code == 204
    assert below.seen == [sent]


async def test_without_a_child_it_is_a_connect_error() -> None:
    """A model that does not run sends nothing, and is the kind of error that a retry may follow."""
    below = Recorder()
    async with httpx.AsyncClient(transport=LocalModel().transport(below)) as client:
        with pytest.raises(httpx.ConnectError, match="loading"):
            await client.get(f"{LOCAL_MODEL_URL}/models")
    assert below.seen == []
