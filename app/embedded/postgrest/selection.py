"""`select=`, `order=` and lists of column names, as texts to values."""

from typing import Final

from app.embedded.postgrest.errors import DialectError, unsupported
from app.embedded.postgrest.request import Embed, Ordering, Output, Selection
from app.embedded.postgrest.scanner import Scanner

MAX_DEPTH: Final = 8  # of embeds in embeds; the tables allow fewer without going round in circles
EVERYTHING: Final = Selection(outputs=(Output(column="*"),))


def parse_select(text: str) -> Selection:
    """Return what `select=text` asks for, still without filters and order.

    Raises:
        DialectError: PGRST100, it does not parse; PGRST127, a cast, spread or JSON path; PGRST123, an aggregate.
    """
    scanner = Scanner(text, "select parameter")
    selection = _items(scanner, depth=0)
    scanner.end()
    return selection


def _items(scanner: Scanner, depth: int) -> Selection:
    outputs: list[Output] = []
    embeds: list[Embed] = []
    while True:
        item = _item(scanner, depth)
        if isinstance(item, Embed):
            embeds.append(item)
        else:
            outputs.append(item)
        scanner.take(" ")
        if not scanner.take(","):
            return Selection(outputs=tuple(outputs), embeds=tuple(embeds))


def _item(scanner: Scanner, depth: int) -> Output | Embed:
    while scanner.take(" "):
        pass
    if scanner.take("..."):
        raise unsupported("Spreading an embedded row is")
    if scanner.take("*"):
        return Output(column="*")
    name, alias = scanner.name(), None
    if scanner.ahead(":") and not scanner.ahead("::"):
        scanner.expect(":")
        name, alias = scanner.name(), name
    return _output_or_embed(scanner, name, alias, depth)


def _output_or_embed(scanner: Scanner, name: str, alias: str | None, depth: int) -> Output | Embed:
    if scanner.ahead("::"):
        raise unsupported("A cast is")
    if scanner.ahead(".") or (name == "count" and scanner.ahead("()")):
        raise DialectError("PGRST123", "Use of aggregate functions is not allowed")
    inner, hint = _modifiers(scanner)
    if scanner.take("("):
        selection = _nested(scanner, depth + 1)
        return Embed(relation=name, alias=alias, hint=hint, inner=inner, selection=selection)
    if inner or hint:
        raise scanner.failure()
    return Output(column=name, alias=alias)


def _modifiers(scanner: Scanner) -> tuple[bool, str | None]:
    inner, hint = False, None
    while scanner.take("!"):
        word = scanner.name()
        if word == "inner":
            inner = True
        elif word != "left":
            hint = word
    return inner, hint


def _nested(scanner: Scanner, depth: int) -> Selection:
    if depth > MAX_DEPTH:
        raise DialectError("PGRST100", f"embedded resources nest deeper than {MAX_DEPTH}")
    if scanner.take(")"):
        return Selection()
    selection = _items(scanner, depth)
    scanner.expect(")")
    return selection


def parse_order(text: str) -> tuple[Ordering, ...]:
    """Return the terms of `order=text`; without a word about nulls they are largest, as in Postgres.

    Raises:
        DialectError: PGRST100, it does not parse; PGRST127, it orders by a related table's column.
    """
    scanner = Scanner(text, "order")
    terms = [_term(scanner)]
    while scanner.take(","):
        terms.append(_term(scanner))
    scanner.end()
    return tuple(terms)


def _term(scanner: Scanner) -> Ordering:
    column = scanner.name()
    if scanner.ahead("("):
        raise unsupported("Ordering by a related table's column is")
    descending = scanner.take(".desc")
    if not descending:
        scanner.take(".asc")
    nulls_first = scanner.take(".nullsfirst")
    if not nulls_first and not scanner.take(".nullslast"):
        nulls_first = descending
    return Ordering(column=column, descending=descending, nulls_first=nulls_first)


def parse_names(text: str, what: str) -> tuple[str, ...]:
    """Return the column names of `columns=` or `on_conflict=`.

    Raises:
        DialectError: PGRST100, it does not parse.
    """
    scanner = Scanner(text, what)
    names = [scanner.name()]
    while scanner.take(","):
        names.append(scanner.name())
    scanner.end()
    return tuple(names)
