"""Deadlines and nurseries as stages use them: a stage that runs out of time says which one it was.

Every deadline has a name; a shield always has a deadline, because a shield without one is a hang waiting to happen.
"""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import trio

from app.errors import StageTimeout, raise_one_fault


@contextmanager
def stage_deadline(stage: str, seconds: float) -> Iterator[trio.CancelScope]:
    """Give what runs inside `seconds`.

    Raises:
        StageTimeout: the time ran out; it names `stage`.
    """
    with trio.move_on_after(seconds) as scope:
        yield scope
    if scope.cancelled_caught:
        raise StageTimeout(stage, seconds)


def shielded(seconds: float) -> trio.CancelScope:
    """Return a scope in which cancellation from outside waits, but for `seconds` at most. For clean-up and saves."""
    return trio.move_on_after(seconds, shield=True)


@asynccontextmanager
async def stage_nursery() -> AsyncIterator[trio.Nursery]:
    """Open a nursery out of which a fault comes bare, as if its task had been called.

    Raises:
        Fault: the one that explains why the nursery ended.
        BaseExceptionGroup: what was no fault, as Trio gives it.
    """
    try:
        async with trio.open_nursery() as nursery:
            yield nursery
    except BaseExceptionGroup as group:
        raise_one_fault(group)
