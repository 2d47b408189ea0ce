"""Takes PromQL apart: what must have data for an expression to mean something, though it may be silent itself. Pure."""

import re
from collections.abc import Iterator

import promql_parser as promql

FILTERS = frozenset({"==", "!=", ">", "<", ">=", "<=", "and", "or", "unless"})
"""What may drop a side's data without being wrong."""
_NODE = promql.Expr
_LITERAL = re.compile(r"[\w.:/-]+(\|[\w.:/-]+)*")
"""A label's value, or values by `|`, that means itself also as a regular expression; a dot stands for a dot here."""


def pieces_of(expression: str) -> list[str]:
    """Return the largest parts of an expression that nothing filters, each of which must return data by itself.

    `x or vector(0)` is `x`, `rate(a[5m]) > 2 and b` is `rate(a[5m])` and `b`, `absent(x)` is `x`; what has no filter is
    one piece. Constants are none.
    """
    return list(dict.fromkeys(str(piece) for piece in _pieces(promql.parse(expression))))


def named_values(expression: str) -> list[tuple[str, str, str]]:
    """Return each value that a selector of an expression gives a label, as metric, label and value.

    Those that are excluded count, too: one that does not exist would exclude nothing.
    """
    found = [
        (selector.name or "", matcher.name, value)
        for selector in _selectors(promql.parse(expression))
        for matcher in selector.matchers.matchers
        if _LITERAL.fullmatch(matcher.value)
        for value in matcher.value.split("|")
    ]
    return list(dict.fromkeys(found))


def wanted_values(expression: str) -> list[tuple[str, str, str]]:
    """Return each value without which a selector of an expression finds nothing, as metric, label and value."""
    return [
        (selector.name or "", matcher.name, matcher.value)
        for selector in _selectors(promql.parse(expression))
        for matcher in selector.matchers.matchers
        if matcher.op == promql.MatchOp.Equal
    ]


def _pieces(node: _NODE) -> Iterator[_NODE]:
    if not _selects(node):
        return
    if not _has_filter(node):
        yield node
        return
    for child in _children(node):
        yield from _pieces(child)


def _selectors(node: _NODE) -> Iterator[promql.VectorSelector]:
    if isinstance(node, promql.VectorSelector):
        yield node
    for child in _children(node):
        yield from _selectors(child)


def _selects(node: _NODE) -> bool:
    return next(_selectors(node), None) is not None


def _has_filter(node: _NODE) -> bool:
    if isinstance(node, promql.BinaryExpr) and _operator(node) in FILTERS:
        return True
    if isinstance(node, promql.Call) and node.func.name.startswith("absent"):
        return True
    return any(_has_filter(child) for child in _children(node))


def _operator(node: promql.BinaryExpr) -> str:
    """Return the operator, which the parser knows but does not tell, from between the two sides."""
    between = str(node)[len(str(node.lhs)) : -len(str(node.rhs))]
    return between.split()[0]


def _children(node: _NODE) -> Iterator[_NODE]:
    if isinstance(node, promql.BinaryExpr):
        yield from (node.lhs, node.rhs)
    elif isinstance(node, promql.Call):
        yield from (child for child in node.args if isinstance(child, _NODE))
    elif isinstance(node, promql.MatrixSelector):
        yield node.vector_selector
    elif isinstance(node, promql.AggregateExpr | promql.ParenExpr | promql.UnaryExpr | promql.SubqueryExpr):
        yield node.expr
