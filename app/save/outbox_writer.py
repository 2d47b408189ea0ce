"""Group commit: one thread at a time writes, and a commit takes all that was asked for when it begins.

Jobs that arrive while a commit is under way share the next one, so that however many wait, each waits for two syncs of
the disk at most. Nobody else's task is needed: whoever comes first in line commits for all who stand in it, and they
find on their turn that it is done.

Whoever is cancelled while standing in line has changed nothing. A commit that has begun is not abandoned, and keeps all
or nothing, whether or not somebody still waits for it.
"""

import logging
import sqlite3
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final, TypeVar

import trio

from app.deadlines import shielded
from app.save.outbox_sqlite import transaction
from app.save.outbox_values import OutboxError

log = logging.getLogger(__name__)

T = TypeVar("T")
Job = Callable[[sqlite3.Connection], T]
COMMIT_S: Final = 10.0
"""A shield has a deadline; a thread that has begun is waited for in any case."""


class _Ticket:
    """A job in line; `error` is None once it is done."""

    __slots__ = ("apply", "error", "job", "taken")

    def __init__(self, job: Job[Any], apply: Callable[[Any], None]) -> None:
        self.job = job
        self.apply = apply
        self.taken = False
        self.error: OutboxError | None = OutboxError("closed", "the outbox is closed")


class Writer:
    """Writes to one connection, which it owns."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.closed = False
        self._connection = connection
        self._line: list[_Ticket] = []
        self._first = trio.Lock()
        self._thread = trio.CapacityLimiter(1)

    async def write(self, job: Job[T], apply: Callable[[T], None]) -> None:
        """Run `job` in a transaction that it may share with others, and call `apply` with its result, once it is kept.

        `apply` is called even if the caller is cancelled meanwhile.

        Raises:
            OutboxError: the file could not be written, and nothing of the transaction is kept; or it is closed.
        """
        ticket = _Ticket(job, apply)
        self._line.append(ticket)
        try:
            async with self._first:
                if not ticket.taken:
                    await self._commit()
        finally:
            if not ticket.taken:
                self._line.remove(ticket)
        if ticket.error is not None:
            raise ticket.error

    async def alone(self, work: Job[T], apply: Callable[[T], None]) -> T:
        """Run `work`, which makes its own transactions, while nobody else writes, and return its result.

        Raises:
            OutboxError: the file could not be written, or is closed.
        """
        async with self._first:
            if self.closed:
                raise OutboxError("closed", "the outbox is closed")
            result = await self._in_thread(work)
            apply(result)
        return result

    async def close(self, afterwards: Callable[[], None]) -> None:
        """Let the commit that is under way end, refuse later ones, close the connection, and call `afterwards`."""

        def end(connection: sqlite3.Connection) -> None:
            connection.close()
            afterwards()

        async with self._first:
            self.closed = True
            await self._in_thread(end)

    async def _commit(self) -> None:
        tickets, self._line = self._line, []
        for ticket in tickets:
            ticket.taken = True
        if self.closed:
            return
        try:
            results = await self._in_thread(partial(_run, jobs=[ticket.job for ticket in tickets]))
        except OutboxError as error:
            for ticket in tickets:
                ticket.error = OutboxError(error.reason, str(error))
            return
        for ticket, result in zip(tickets, results, strict=True):
            ticket.apply(result)
            ticket.error = None

    async def _in_thread(self, work: Job[T]) -> T:
        try:
            with shielded(COMMIT_S):
                result = await trio.to_thread.run_sync(work, self._connection, limiter=self._thread)
        except (sqlite3.Error, OSError, RuntimeError) as exc:  # a RuntimeError: no thread could be started
            name = getattr(exc, "sqlite_errorname", type(exc).__name__).lower()
            log.error("outbox.write_failed", extra={"reason": name})
            raise OutboxError(name, f"the outbox cannot be written: {exc}") from exc
        return result


def _run(connection: sqlite3.Connection, jobs: Sequence[Job[Any]]) -> list[Any]:
    with transaction(connection):
        return [job(connection) for job in jobs]
