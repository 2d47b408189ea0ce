"""Taking over what processes that are gone have left behind, while this one serves.

That goes in batches, each a transaction of its own: whoever puts meanwhile waits for one of them at the most. What is
left behind is opened, read and emptied out of line (`outbox_folder.Orphan`). If that fails in between, some entries are
in two files for a while, which their keys make harmless.
"""

import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

import trio

from app.deadlines import shielded
from app.save.outbox_folder import OrphanError, others, take_hold
from app.save.outbox_sqlite import Winners, put_in
from app.save.outbox_values import OutboxEntry, OutboxError
from app.save.outbox_writer import Writer

log = logging.getLogger(__name__)

T = TypeVar("T")
END_S: Final = 5.0
"""A shield has a deadline; a thread that has begun is waited for in any case."""


class Adoption:
    """Moves entries of other files into our own.

    Args:
        own: our file.
        writer: to it.
        take_over: is told of what has been moved, as soon as it is kept.
    """

    def __init__(self, own: Path, writer: Writer, take_over: Callable[[Winners, list[OutboxEntry]], None]) -> None:
        self._own = own
        self._writer = writer
        self._take_over = take_over
        self._told_of: set[Path] = set()

    async def run(self) -> int:
        """Move what can be moved now, and return how many entries that was.

        Raises:
            OutboxError: our own file cannot be written, or those of others not be looked at.
        """
        moved = 0
        for path in await _in_thread(partial(others, self._own)):
            try:
                moved += await self._adopt(path)
            except OrphanError as error:
                self._tell_of(path, error)
        return moved

    async def _adopt(self, path: Path) -> int:
        orphan = await _in_thread(partial(take_hold, path))
        if orphan is None:
            return 0
        moved = left = 0
        try:
            while luggage := await _in_thread(orphan.take_out):
                moved += len(
                    await self._writer.alone(
                        partial(put_in, luggage=luggage), partial(self._take_over, luggage.winners)
                    )
                )
                with shielded(END_S):
                    await _in_thread(partial(orphan.drop, luggage))
        finally:
            with shielded(END_S):
                left = await _in_thread(orphan.close)
            if moved:
                log.warning("outbox.adopted", extra={"file": str(path), "entries": moved})
        if left:
            self._tell_of(path, OrphanError("unreadable", rows_that_cannot_be_read(left, path)))
        return moved

    def _tell_of(self, path: Path, error: OrphanError) -> None:
        if path not in self._told_of:
            self._told_of.add(path)
            log.error("outbox.orphan_left", extra={"file": str(path), "reason": error.reason, "note": str(error)})


def rows_that_cannot_be_read(number: int, path: Path) -> str:
    """Return a sentence about them."""
    return f"{number} row{'s' * (number != 1)} of {path} cannot be read"


async def _in_thread(work: Callable[[], T]) -> T:
    try:
        return await trio.to_thread.run_sync(work)
    except (OSError, RuntimeError) as exc:  # a RuntimeError: no thread could be started
        reason = type(exc).__name__.lower()
        log.error("outbox.adoption_failed", extra={"reason": reason, "note": str(exc)})
        raise OutboxError(reason, f"what others have left cannot be taken over: {exc}") from exc
