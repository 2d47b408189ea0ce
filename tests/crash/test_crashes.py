"""What was promised is in the database, whatever process dies and whatever the database does meanwhile.

A seed that fails is run again by `python -m tests.crash.harness SEED` (`--servers 2`, `--cold`).
"""

from collections import Counter
from collections.abc import Sequence

import httpx
import pytest
import trio

from tests.crash.harness import Outcome, run_all
from tests.crash.plan import WAYS, make_plan
from tests.crash.servers import NotDeliveredError, cold, until_delivered
from tests.server.database_faults import COURSES

SOAK = [pytest.param(range(first, first + 25), marks=pytest.mark.soak) for first in range(1000, 1300, 25)]
SOAK_TWO = [pytest.param(range(first, first + 25), marks=pytest.mark.soak) for first in range(2000, 2200, 25)]


def judged(outcomes: Sequence[Outcome]) -> Counter[str]:
    """Check that every run was good, or tell the seeds and what was found; return the figures of all."""
    bad = [f"{outcome.report()}\n{outcome.logs}" for outcome in outcomes if not outcome.good]
    assert not bad, "\n\n".join([f"{len(bad)} of {len(outcomes)} seeds failed", *bad])
    for outcome in outcomes:
        assert outcome.kills == len(outcome.plan.kills)
        assert outcome.figures["saved database"] + outcome.figures["saved outbox"] >= len(outcome.plan.clients)
    return sum((outcome.figures for outcome in outcomes), Counter())


def met_by_all_kinds(figures: Counter[str]) -> None:
    """Check that clients of every kind had answers, and that those who repeat left, and repeated."""
    for met in (*(f"answered {way}" for way in WAYS), "left", "asked again"):
        assert figures[met], f"the seeds are to meet {met}"


@pytest.mark.parametrize("seeds", [range(13), *SOAK], ids=str)
async def test_nothing_that_was_promised_is_lost_or_doubled(seeds: range) -> None:
    """One server: 0 lost, 0 doubled, order right, over faults of every kind and kills at any moment."""
    outcomes = await run_all(seeds)
    figures = judged(outcomes)
    met_by_all_kinds(figures)
    assert figures["409"] + figures["given again"], "the seeds are to meet turns that run or ran already"
    assert figures["set aside"] == 0, "nobody else can have answered"
    assert figures["kills"] >= len(seeds)
    weather = [weather for outcome in outcomes for _, weather in outcome.plan.weather]
    planned = COURSES.keys() & {name for each in weather for name in each.writes}
    assert len(planned) > len(COURSES) / 2, "the seeds are to have the faults that leave open what was applied"
    hit = COURSES.keys() & {name for outcome in outcomes for name in outcome.hits}
    assert len(hit) > 1, "the seeds are to meet these faults"
    for kept in ("outbox under outbox", "outbox under await", "database under await"):
        assert figures[f"saved {kept}"], f"the seeds are to meet {kept}"


@pytest.mark.parametrize("seeds", [range(104, 110), *SOAK_TWO], ids=str)
async def test_two_processes_keep_their_promises_side_by_side(seeds: range) -> None:
    """The same for two servers on one database and one `DATA_DIR`: each is killed, and a question sent to any."""
    figures = judged(await run_all(seeds, servers=2))
    met_by_all_kinds(figures)
    assert figures["kills"] == 2 * len(seeds)


@pytest.mark.parametrize("seeds", [(200,), pytest.param(range(201, 211), marks=pytest.mark.soak)], ids=str)
async def test_so_do_servers_started_as_an_operator_does(seeds: Sequence[int]) -> None:
    """The same for processes that are not forked but started from nothing."""
    judged(await run_all(seeds, start=cold))


def test_a_seed_has_one_plan() -> None:
    """What is planned depends on the seed alone."""
    assert make_plan(7) == make_plan(7)
    assert make_plan(7) != make_plan(8)
    assert make_plan(7, servers=2) != make_plan(7)


async def test_an_outbox_is_waited_for_until_it_is_empty() -> None:
    """`until_delivered` asks again while entries wait, and minds what is refused, and where there is no outbox.

    What another one of its key has the place of is not refused.
    """
    waiting = [2, 1, 0]

    def ops(request: httpx.Request) -> httpx.Response:
        if request.url.host == "without.example":
            return httpx.Response(404)
        reasons = ["superseded", None] + ["23514"] * (request.url.host == "refused.example")
        told = {"waiting": 0 if reasons[2:] else waiting.pop(0), "set_aside": len(reasons) - 1}
        return httpx.Response(200, json=told | {"entries": [{"reason": reason} for reason in reasons]})

    async with httpx.AsyncClient(transport=httpx.MockTransport(ops)) as client:
        with trio.fail_after(5):
            await until_delivered(client, "http://with.example")
            assert waiting == []
            for host in ("refused", "without"):
                with pytest.raises(NotDeliveredError):
                    await until_delivered(client, f"http://{host}.example")
