"""How fast a project's database reads, one at a time and as many at once as the server may ask."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import trio

from app.clients.probing import DatabaseProbe, HostAnswer, Reader
from app.ops.doctor.database import POOL_IS_FULL, RAISE_POOL
from app.ops.doctor.finding import Finding, ok, warn

READS = 10
SLOW_S = 0.1
"""A turn waits for two of these at the least."""
MOST_AT_ONCE = 64
QUEUED = 5.0
"""So many times as long as one alone: the reads wait for each other."""


@dataclass(frozen=True, slots=True)
class PaceChecks:
    """Cheap reads: no row is asked for."""

    probe: DatabaseProbe
    server: Reader

    async def latency(self) -> list[Finding]:
        """Read one after the other; the first, which opens the connection, does not count."""
        answers = [await self._read() for _ in range(READS + 1)][1:]
        return [judge_latency(answers)]

    async def pool(self, at_once: int) -> list[Finding]:
        """Read `at_once` times at once, on as many connections, and once alone."""
        at_once = min(at_once, MOST_AT_ONCE)
        await self._together(at_once)  # opens the connections
        alone = await self._read()
        return [judge_pool(alone, await self._together(at_once))]

    async def _together(self, count: int) -> list[HostAnswer]:
        answers: list[HostAnswer] = []

        async def read() -> None:
            answers.append(await self._read())

        async with trio.open_nursery() as nursery:
            for _ in range(count):
                nursery.start_soon(read)
        return answers

    async def _read(self) -> HostAnswer:
        return await self.probe.columns(self.server, "users", ("id",))


def judge_latency(answers: Sequence[HostAnswer]) -> Finding:
    """Return whether single reads are fast."""
    check, failed = "database.latency", [answer for answer in answers if not answer.good]
    if failed:
        said = f"{len(failed)} of {len(answers)} reads failed ({failed[0].word})"
        return warn(check, said, "look at the project's log, and run the doctor again")
    median, p95 = _quantiles(answers)
    said = f"a read takes {median * 1000:.0f} ms (median), {p95 * 1000:.0f} ms (p95)"
    if median > SLOW_S:
        return warn(check, f"{said}, and a turn waits for two", "run the server in the project's own region")
    return ok(check, said)


def judge_pool(alone: HostAnswer, together: Sequence[HostAnswer]) -> Finding:
    """Return whether PostgREST serves as many reads at once as the server may send."""
    check, count = "database.pool", len(together)
    full = sum(answer.code == POOL_IS_FULL for answer in together)
    if full:
        return warn(check, f"of {count} reads at once {full} found PostgREST's pool full (504 PGRST003)", RAISE_POOL)
    failed = [answer for answer in together if not answer.good]
    if failed:
        said = f"of {count} reads at once {len(failed)} failed ({failed[0].word})"
        return warn(check, said, "look at the gateway's limits and the project's log")
    median, p95 = _quantiles(together)
    said = f"{count} reads at once take {median * 1000:.0f} ms (median), {p95 * 1000:.0f} ms (p95)"
    beside = f"one alone {alone.seconds * 1000:.0f} ms"
    if p95 > SLOW_S and p95 > QUEUED * alone.seconds:
        return warn(check, f"{said}, {beside}: they wait for each other", RAISE_POOL)
    return ok(check, f"{said}, {beside}")


def _quantiles(answers: Sequence[HostAnswer]) -> tuple[float, float]:
    """Return median and 95th percentile in seconds."""
    seconds = sorted(answer.seconds for answer in answers)
    return statistics.median(seconds), seconds[round(0.95 * (len(seconds) - 1))]
