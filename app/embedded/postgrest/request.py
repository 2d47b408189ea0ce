"""A parsed request: frozen values that know PostgREST's words and nothing of SQL or of any table."""

from dataclasses import dataclass
from typing import Literal

Verb = Literal["read", "insert", "update", "delete"]
Returned = Literal["minimal", "representation", "headers-only"]
Resolution = Literal["merge-duplicates", "ignore-duplicates"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """`column=not.operator.operands`; operands are texts as they came: any number for `in`, one for the others."""

    column: str
    operator: str
    negated: bool
    operands: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """`or=(…)`, `and=(…)`, and their negations."""

    joined: Literal["and", "or"]
    negated: bool
    parts: tuple["Condition | Group", ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ordering:
    """One term of `order=`; where nulls go is already decided by Postgres's defaults."""

    column: str
    descending: bool
    nulls_first: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """One column of `select=`; the column `*` is all of them."""

    column: str
    alias: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Embed:
    """`alias:relation!hint!inner(…)` of `select=`."""

    relation: str
    alias: str | None
    hint: str | None
    inner: bool
    selection: "Selection"

    @property
    def name(self) -> str:
        """The key in the answer, and what filters on the embedded rows are prefixed with."""
        return self.alias or self.relation


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """What to show of a table's rows and of which rows; inside an embed, limit and offset count per parent."""

    outputs: tuple[Output, ...] = ()
    embeds: tuple[Embed, ...] = ()
    filters: tuple[Condition | Group, ...] = ()
    ordering: tuple[Ordering, ...] = ()
    limit: int | None = None
    offset: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Preferences:
    """The `Prefer` header; `applied` lists what `Preference-Applied` says."""

    returned: Returned = "minimal"
    resolution: Resolution | None = None
    count: bool = False
    missing_default: bool = False
    max_affected: int | None = None
    applied: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One request without its body. `columns` and `on_conflict` are None when not given."""

    verb: Verb
    table: str
    selection: Selection
    prefer: Preferences
    single: bool = False
    columns: tuple[str, ...] | None = None
    on_conflict: tuple[str, ...] | None = None
