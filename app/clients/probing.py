"""What a doctor asks of hosts, and what it is told: plain values. The probes beside this file speak the wire."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

Signal = Literal["traces", "metrics"]
NoteClock = Callable[[str, Mapping[str, str], float, float], None]
"""Is told of an answer, for its clock: the host, the headers, when it was asked for (since 1970), seconds it took."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HostAnswer:
    """An answer of a host, or what there was instead of one.

    Args:
        host: who was asked: name and port, for people; of a collector the path too.
        status: of HTTP; None where no answer came.
        code: what the host calls its refusal, or the kind of error where no answer came: never a sentence.
        items: how many rows, or names, a good answer has.
        seconds: from asking to the last byte.
    """

    host: str
    status: int | None = None
    code: str = ""
    items: int = 0
    seconds: float = 0.0

    @property
    def good(self) -> bool:
        """Whether the host did what it was asked."""
        return self.status is not None and 200 <= self.status < 300

    @property
    def word(self) -> str:
        """What to call it on one line."""
        return self.code or f"status {self.status}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reader:
    """As whom the database is asked; `name` is for people.

    Args:
        name: who that is.
        key: the `apikey` that is sent, if any; a legacy one is the bearer token too, unless there is another.
        token: a bearer token in its place.
    """

    name: str
    key: str | None = field(default=None, repr=False)
    token: str | None = field(default=None, repr=False)


class DatabaseProbe(Protocol):
    """Asks a database in ways that change no row."""

    async def columns(self, reader: Reader, table: str, columns: Sequence[str]) -> HostAnswer:
        """Ask for columns, and for no row."""

    async def related(self, reader: Reader, table: str, other: str) -> HostAnswer:
        """Ask for a table with another embedded in it, and for no row."""

    async def unique(self, reader: Reader, table: str, columns: Sequence[str]) -> HostAnswer:
        """Insert no row at all, in a way that needs a unique key of these columns."""

    async def first(self, reader: Reader, table: str, column: str) -> HostAnswer:
        """Ask for one column of one row; only whether there is one is looked at."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelList:
    """The names of the models that a host has; None where it has no such list."""

    answer: HostAnswer
    names: frozenset[str] | None = None


class ModelProbe(Protocol):
    """Asks a model's host without a prompt."""

    async def models(self) -> ModelList:
        """Ask which models there are."""
