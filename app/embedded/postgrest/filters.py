"""Filters: `column=not.op.value` at the top, `and(a.op.value,or(…))` inside a logic group.

At the top a value runs to the end, whatever it holds; inside a group it ends at `,` or `)` unless it is quoted.
"""

import re
from typing import Final, Literal

from app.embedded.postgrest.errors import DialectError, unsupported
from app.embedded.postgrest.request import Condition, Group
from app.embedded.postgrest.scanner import WORD, Scanner

SCALAR: Final = frozenset({"eq", "neq", "lt", "lte", "gt", "gte", "like", "ilike", "imatch"})
OPERATORS: Final = SCALAR | {"in", "is"}
# PostgREST has these; no request of ours uses them.
LEFT_OUT: Final = frozenset(
    {
        "match",
        "isdistinct",
        "fts",
        "plfts",
        "phfts",
        "wfts",
        "cs",
        "cd",
        "ov",
        "sl",
        "sr",
        "nxr",
        "nxl",
        "adj",
    }
)
IS_OPERANDS: Final = frozenset({"null", "not_null", "true", "false", "unknown"})

LOGIC: Final = re.compile(r"(not\.)?(and|or)(?=\()")
ARRAY: Final = re.compile(r"\{[^{}]*\}")
SPACES: Final = re.compile(r" *")
MAX_DEPTH: Final = 10  # of groups in groups


def parse_condition(column: str, text: str) -> Condition:
    """Return the filter `column=text`.

    Raises:
        DialectError: PGRST100, it does not parse; PGRST127, an operator that is left out here.
    """
    scanner = Scanner(text, "filter")
    condition = _operation(scanner, column, nested=False)
    scanner.end()
    return condition


def parse_group(joined: Literal["and", "or"], negated: bool, text: str) -> Group:
    """Return the filter `or=text` or `and=text`, parentheses included.

    Raises:
        DialectError: PGRST100, it does not parse; PGRST127, an operator that is left out here.
    """
    scanner = Scanner(text, "logic tree")
    group = _group(scanner, joined, negated, depth=1)
    scanner.end()
    return group


def _group(scanner: Scanner, joined: Literal["and", "or"], negated: bool, depth: int) -> Group:
    if depth > MAX_DEPTH:
        raise DialectError("PGRST100", f"logic trees nest deeper than {MAX_DEPTH}")
    scanner.expect("(")
    parts = [_part(scanner, depth)]
    while scanner.take(","):
        parts.append(_part(scanner, depth))
    scanner.expect(")")
    scanner.match(SPACES)
    return Group(joined=joined, negated=negated, parts=tuple(parts))


def _part(scanner: Scanner, depth: int) -> Condition | Group:
    scanner.match(SPACES)
    if logic := scanner.match(LOGIC):
        return _group(scanner, "and" if logic[2] == "and" else "or", logic[1] is not None, depth + 1)
    column = scanner.name()
    scanner.expect(".")
    return _operation(scanner, column, nested=True)


def _operation(scanner: Scanner, column: str, *, nested: bool) -> Condition:
    negated = scanner.take("not.")
    operator = _operator(scanner)
    scanner.expect(".")
    if operator == "is":
        return _is(scanner, column, negated)
    operands = _list(scanner) if operator == "in" else (_scalar(scanner, nested=nested),)
    return Condition(column=column, operator=operator, negated=negated, operands=operands)


def _operator(scanner: Scanner) -> str:
    failure = scanner.failure()  # at the operator, not behind it
    found = scanner.match(WORD)
    operator = found[0] if found else ""
    if operator in LEFT_OUT:
        raise unsupported(f"The operator {operator} is")
    if operator not in OPERATORS:
        raise failure
    if scanner.ahead("("):
        raise unsupported(f"{operator} with any or all is")
    return operator


def _is(scanner: Scanner, column: str, negated: bool) -> Condition:
    failure = scanner.failure()
    found = scanner.match(WORD)
    operand = found[0].lower() if found else ""
    if operand not in IS_OPERANDS:
        raise failure
    if operand == "not_null":
        operand, negated = "null", not negated
    return Condition(column=column, operator="is", negated=negated, operands=(operand,))


def _list(scanner: Scanner) -> tuple[str, ...]:
    scanner.expect("(")
    if scanner.take(")"):
        return ()
    elements = [scanner.element()]
    while scanner.take(","):
        elements.append(scanner.element())
    scanner.expect(")")
    return tuple(elements)


def _scalar(scanner: Scanner, *, nested: bool) -> str:
    if not nested:
        return scanner.rest()
    array = scanner.match(ARRAY)
    return array[0] if array else scanner.element()
