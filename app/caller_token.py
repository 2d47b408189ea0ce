"""The token of whoever sent the current request, for a database that is to hold them to their own rows.

It is set once it is known whose it is, and only where it is passed on. It lives in the context of the request's task
and of those that this starts, the turn's among them, and ends with the last of them: nothing else has hold of it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, weakref_slot=True)
class CallerToken:
    """A verified token; only `header` shows it."""

    _token: str = field(repr=False)

    @property
    def header(self) -> str:
        """The value of the `Authorization` header that bears it."""
        return f"Bearer {self._token}"


CALLER_TOKEN: ContextVar[CallerToken | None] = ContextVar("nursery_chat.caller_token", default=None)
"""Of the request for which the current task works; None where it works for the server itself."""


@contextmanager
def for_the_server() -> Iterator[None]:
    """Work for the server itself in the block: what a write must know may not depend on how long a token holds."""
    before = CALLER_TOKEN.set(None)
    try:
        yield
    finally:
        CALLER_TOKEN.reset(before)
