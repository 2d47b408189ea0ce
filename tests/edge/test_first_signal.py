"""The first signal: what changes in the instant in which it comes."""

import signal
from collections.abc import Iterator

import pytest
import trio

from app.edge import serve
from app.edge.application import build_application
from app.edge.serve import DrainRules, Edge, open_listener
from tests.server.process import WAIT_S


@pytest.fixture
def _own_signals() -> Iterator[None]:
    """Put back what the edge takes over of this process."""
    before = {each: signal.getsignal(each) for each in serve.SIGNALS}
    yield
    for each, handler in before.items():
        signal.signal(each, handler)


@pytest.mark.usefixtures("_own_signals")
@pytest.mark.parametrize("number", serve.SIGNALS, ids=lambda number: number.name)
async def test_the_drain_is_told_of_at_once(number: signal.Signals, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not after the time in which another one would be its echo: here an hour."""
    monkeypatch.setattr(serve, "ECHO_S", 3600.0)
    draining = trio.Event()
    rules = DrainRules(grace_s=0, timeout_s=1, last_call_s=0.5, on_drain=draining.set, on_last_call=lambda: None)
    edge = Edge(max_connections=10, send_timeout_s=1, refused=lambda _code: None, dropped=lambda _why: None)
    app = build_application([], max_body_bytes=1, body_timeout_s=1)
    async with trio.open_nursery() as nursery:
        await nursery.start(edge.serve, app, open_listener("127.0.0.1", 0), rules)
        signal.raise_signal(number)
        with trio.fail_after(WAIT_S):
            await draining.wait()
        nursery.cancel_scope.cancel()
