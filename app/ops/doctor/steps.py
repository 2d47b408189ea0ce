"""Runs checks side by side, each within its deadline; some wait for others, and are left out where those failed."""

import traceback
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

import trio

from app.ops.doctor.finding import Finding, fail, skip

Check = Callable[[], Awaitable[Sequence[Finding]]]
BROKEN = "mend what other lines name; if it is still so, ask for support"
OURS = ("app.", "telemetry.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A check, and when it may begin.

    Args:
        name: `area.thing`, as in its findings.
        check: looks, and returns what it found.
        deadline_s: after which it is given up.
        todo: what to do when that happens.
        needs: steps that must have found nothing failing; else this one is left out.
        after: steps that must be over, whatever they found, so that one does not disturb the other.
    """

    name: str
    check: Check
    deadline_s: float
    todo: str
    needs: tuple[str, ...] = ()
    after: tuple[str, ...] = ()


@dataclass(slots=True)
class _Run:
    """A step under way."""

    over: trio.Event = field(default_factory=trio.Event)
    found: Sequence[Finding] = ()


async def take(steps: Sequence[Step]) -> list[Finding]:
    """Take all steps, and return what they found in the order of the steps."""
    runs = {step.name: _Run() for step in steps}
    async with trio.open_nursery() as nursery:
        for step in steps:
            nursery.start_soon(_take, step, runs)
    return [finding for run in runs.values() for finding in run.found]


async def _take(step: Step, runs: dict[str, _Run]) -> None:
    run = runs[step.name]
    for name in (*step.needs, *step.after):
        await runs[name].over.wait()
    failed = next((name for name in step.needs if _failed(runs[name])), None)
    run.found = [skip(step.name, f"needs {failed}")] if failed else await _within(step)
    run.over.set()


def _failed(run: _Run) -> bool:
    return any(finding.status in ("fail", "skip") for finding in run.found)


async def _within(step: Step) -> Sequence[Finding]:
    with trio.move_on_after(step.deadline_s):
        try:
            return await step.check()
        except Exception as exc:  # noqa: BLE001 - the check's boundary: the others, and the report, are not lost with it
            return [fail(step.name, f"the check itself broke ({broken(exc)})", BROKEN)]
    return [fail(step.name, f"no end within {step.deadline_s:g} s", step.todo)]


def broken(exc: Exception) -> str:
    """Return an error's kind, and where in our code it came from; what it says may be anybody's words."""
    exc = first_of(exc)
    frames = [(frame.f_globals.get("__name__", ""), line) for frame, line in traceback.walk_tb(exc.__traceback__)]
    ours = [f" at {module}:{line}" for module, line in frames if module.startswith(OURS)]
    return f"{type(exc).__name__}{ours[-1] if ours else ''}"


def first_of(exc: Exception) -> Exception:
    """Return the first error of a group, or of a group in it; an error that is none is that itself."""
    while isinstance(exc, ExceptionGroup):
        exc = exc.exceptions[0]
    return exc
