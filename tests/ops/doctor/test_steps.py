"""Steps run side by side within their deadlines, wait for those that they name, and are guarded. On virtual time."""

from collections.abc import Awaitable, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import trio
from trio.testing import MockClock

from app.ops.doctor.clock import Clocks
from app.ops.doctor.examination import Neighbours, steps
from app.ops.doctor.finding import Finding, fail, ok
from app.ops.doctor.pace import PaceChecks
from app.ops.doctor.steps import Step, broken, take
from app.settings import Settings


def after(seconds: float, *findings: Finding) -> Callable[[], Awaitable[list[Finding]]]:
    async def check() -> list[Finding]:
        await trio.sleep(seconds)
        return list(findings)

    return check


def step(name: str, seconds: float, *findings: Finding, needs: str = "", comes_after: str = "") -> Step:
    return Step(
        name=name, check=after(seconds, *(findings or (ok(name, "fine"),))), deadline_s=10, todo="do something",
        needs=tuple(filter(None, [needs])), after=tuple(filter(None, [comes_after])),
    )  # fmt: skip


async def test_they_run_side_by_side(autojump_clock: MockClock) -> None:
    """Steps that need nothing of each other take as long as the longest; the order of the report is theirs."""
    began = trio.current_time()
    found = await take([step("slow", 3), step("quick", 1)])
    assert trio.current_time() - began == pytest.approx(3)
    assert [finding.check for finding in found] == ["slow", "quick"]


async def test_one_that_does_not_end(autojump_clock: MockClock) -> None:
    """It is given up at its deadline, and that is a failure with something to do."""
    began = trio.current_time()
    (found,) = await take([step("stuck", 1000)])
    assert trio.current_time() - began == pytest.approx(10)
    assert (found.status, found.line) == ("fail", "no end within 10 s: do something")


async def test_one_that_needs_what_failed(autojump_clock: MockClock) -> None:
    """It is left out, and so is what needs it; what only comes after is looked at."""
    found = await take(
        [
            step("host", 1, fail("host", "down", "start it")),
            step("table", 1, needs="host"),
            step("row", 1, needs="table"),
            step("clock", 1, comes_after="row"),
        ]
    )
    assert [(finding.check, finding.status) for finding in found] == [
        ("host", "fail"), ("table", "skip"), ("row", "skip"), ("clock", "ok"),
    ]  # fmt: skip
    assert found[1].said == "needs host"


async def test_one_that_breaks(autojump_clock: MockClock) -> None:
    """Its fault is its own line, by kind and place, without a word of what it says; the others are looked at."""

    async def breaks() -> list[Finding]:
        await trio.sleep(1)
        raise UnicodeEncodeError("ascii", "canary", 0, 1, "canary")

    breaking = Step(name="host", check=breaks, deadline_s=10, todo="do something")
    found = await take([breaking, step("table", 1, needs="host"), step("row", 2)])
    assert [(finding.check, finding.status) for finding in found] == [
        ("host", "fail"),
        ("table", "skip"),
        ("row", "ok"),
    ]
    assert found[0].said.startswith("the check itself broke (UnicodeEncodeError at app.")
    assert "canary" not in found[0].line


async def test_where_one_breaks(autojump_clock: MockClock) -> None:
    """The place is the last of ours, also where reads that run side by side break together."""

    class Unheard:
        async def columns(self, *_arguments: object) -> None:
            await trio.sleep(1)
            raise ValueError("canary")

    reads = PaceChecks(cast(Any, Unheard()), cast(Any, None))
    with pytest.raises(ExceptionGroup) as caught:
        await reads.pool(2)
    assert broken(caught.value).startswith("ValueError at app.ops.doctor.pace:")


@pytest.mark.parametrize(("loads", "waits"), [(True, True), (False, False)])
def test_what_is_timed_waits_for_a_model_that_loads(loads: bool, waits: bool) -> None:
    """While the embedded model loads, on the same cores, neither the database nor the disk is timed."""
    settings = Settings(_env_file=None, supabase_url="https://project.test", supabase_key="sb_secret_x")
    near = Neighbours(
        model=cast(Any, SimpleNamespace(host=None, answer=None)), model_loads=loads, database=cast(Any, object()),
        keys=None, strangers=(), export=cast(Any, None), clocks=Clocks(),
    )  # fmt: skip
    after = {each.name: each.after for each in steps(settings, near, Path("nowhere"))}
    assert {name: "model.answer" in after[name] for name in ("database.latency", "disk")} == {
        "database.latency": waits,
        "disk": waits,
    }
    assert "database.latency" in after["database.pool"]
