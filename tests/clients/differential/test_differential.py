"""The same random and hostile bytes to our transport and to httpx's own: a caller sees the same of both."""

import ssl
from itertools import count

import httpx
import pytest

from app.clients import transport as our_transport
from app.clients.transport import TrioTransport
from tests.clients.differential import draw, peers, real
from tests.clients.differential.allowed import TABLE
from tests.clients.differential.lockstep import Played, play
from tests.clients.differential.peers import Seen
from tests.clients.differential.script import Case
from tests.clients.differential.tally import run


async def test_a_caller_sees_the_same(in_memory: None) -> None:
    """Two thousand cases: the same response, or an error of both, but for the rows of the table."""
    tally = await run(range(2_000))
    print(tally)  # noqa: T201 - shown by pytest when asked for, or when it fails
    assert tally.cases == 2_000
    assert tally.same > tally.exchanges * 0.7


@pytest.mark.soak
async def test_a_caller_sees_the_same_two_hundred_thousand_times(in_memory: None) -> None:
    """And each row of the table is needed: some difference is explained by nothing else."""
    tally = await run(range(200_000))
    print(tally)  # noqa: T201 - the figures
    assert tally.cases == 200_000
    assert tally.unneeded == []


async def test_a_seed_gives_one_case() -> None:
    """A failing case can be played again from its seed alone; the rows have names of their own."""
    assert [draw.case(seed) for seed in range(50)] == [draw.case(seed) for seed in range(50)]
    assert len({str(draw.case(seed)) for seed in range(50)}) == 50
    assert len({row.name for row in TABLE}) == len(TABLE)


async def test_real_sockets_show_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hundred cases over TCP through httpx's client, with either transport: just what was seen in memory."""
    with monkeypatch.context() as patch:
        patch.setattr(our_transport, "Connection", peers.IN_MEMORY)
        cases = await fitting(100)
    context = ssl.create_default_context()
    for case, played in cases:
        ours = await real.ask_all(TrioTransport(), case, played)
        theirs = await real.ask_all(httpx.AsyncHTTPTransport(verify=context, trust_env=False), case, played)
        assert ours == [shown(exchange.ours) for exchange in played.exchanges], f"ours, {case}"
        assert theirs == [shown(exchange.theirs) for exchange in played.exchanges], f"httpx's, {case}"


async def fitting(number: int) -> list[tuple[Case, Played]]:
    """Return the first cases in which timing has no say, with what came of them in memory."""
    cases: list[tuple[Case, Played]] = []
    for seed in count():
        case = draw.case(seed)
        played = await play(case)
        if real.fits(case, played):
            cases.append((case, played))
        if len(cases) == number:
            break
    return cases


def shown(seen: Seen) -> Seen:
    """Return what is seen whatever the network makes of the pieces: of a failed response, that it failed."""
    return Seen(fault=seen.fault) if seen.fault else seen
