"""Which labels each metric has on /metrics, and each recorded one; and which of them a PromQL expression names."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import promql_parser as promql
import yaml

import grafana
from telemetry import names
from tests.server.test_ops import COUNTERS, GAUGES, HISTOGRAMS

_MODEL: Final = (names.GEN_AI_OPERATION, names.GEN_AI_PROVIDER, names.GEN_AI_REQUEST_MODEL)
_HTTP_BESIDES: Final = (names.URL_SCHEME, names.ERROR_TYPE)
_ATTRIBUTES: Final[dict[str, tuple[str, ...]]] = {
    names.HTTP_SERVER_DURATION: (names.HTTP_METHOD, names.HTTP_ROUTE, names.HTTP_STATUS, *_HTTP_BESIDES),
    names.TURN_DURATION: (names.PLAN, names.SURFACE, names.OUTCOME),
    names.TURN_OVERHEAD: (names.PLAN, names.OUTCOME),
    names.TURN_FIRST_TOKEN: (names.PLAN, names.SURFACE),
    names.HISTORY_SIZE: (),
    names.STAGE_DURATION: (names.STAGE, names.OUTCOME, names.PLAN),
    names.FALLBACKS: (names.KIND,),
    names.WARNINGS: (names.KIND,),
    names.USERS_ACTIVE: (),
    names.RATE_LIMITED: (names.KIND,),
    names.GEN_AI_DURATION: (*_MODEL, names.ERROR_TYPE),
    names.GEN_AI_FIRST_CHUNK: _MODEL,
    names.GEN_AI_TOKENS: (*_MODEL, names.GEN_AI_TOKEN_TYPE),
    names.LIMITER_TOTAL_GAUGE: (names.MODE,),
    names.LIMITER_BORROWED_GAUGE: (names.MODE,),
    names.LIMITER_WAITING_GAUGE: (names.MODE,),
    names.LIMITER_WAIT: (names.OUTCOME,),
    names.LIMITER_CHANGES: (names.REASON,),
    names.PACER_REFUSALS: (names.REASON,),
    names.PACER_WAITING_GAUGE: (),
    names.UPSTREAM_REJECTIONS: (names.CODE,),
    names.TURNS_INFLIGHT: (),
    names.DRAINING: (),
    names.BREAKER_STATE: (names.TARGET,),
    names.CONNECTIONS: (),
    names.REFUSALS: (names.REASON,),
    names.DROPS: (names.REASON,),
    names.OUTBOX_DEPTH: (names.STATE,),
    names.OUTBOX_AGE: (),
    names.OUTBOX_PAUSED: (),
    names.OUTBOX_REPLAYS: (names.OUTCOME,),
    names.OTEL_DROPPED: (names.SIGNAL,),
    names.UPSTREAM_CONNECTIONS: (names.TARGET, names.STATE),
    names.UPSTREAM_WAITING: (names.TARGET,),
    names.TRIO_LOOP_LAG: (),
    names.TRIO_TASKS: (),
    names.CPU_TIME: (names.CPU_MODE,),
    names.MEMORY_USAGE: (),
}
TARGETS: Final = frozenset({"job", "instance"})
"""What Prometheus adds to every series."""


def _series() -> Iterator[tuple[str, frozenset[str]]]:
    yield "up", TARGETS
    yield "target_info", TARGETS | {"service_version", "service_instance_id", "service_name"}
    for metric, attributes in _ATTRIBUTES.items():
        labels = TARGETS | {attribute.replace(".", "_") for attribute in attributes}
        if metric in HISTOGRAMS:
            yield f"{HISTOGRAMS[metric]}_bucket", labels | {"le"}
            yield f"{HISTOGRAMS[metric]}_count", labels
            yield f"{HISTOGRAMS[metric]}_sum", labels
        elif metric in COUNTERS:
            yield f"{COUNTERS[metric]}_total", labels
        else:
            yield GAUGES[metric], labels


def _recorded() -> Iterator[tuple[str, frozenset[str]]]:
    """Yield the sums of counters that the rules record, whose names begin with their labels."""
    rules = yaml.safe_load((Path(grafana.__file__).parent / "alerts" / "rules.yaml").read_text())
    for rule in (rule for group in rules["groups"] for rule in group["rules"]):
        if rule.get("record", "").endswith(":sum"):
            yield rule["record"], frozenset(rule["record"].partition(":")[0].split("_"))


LABELS: Final = dict(_series())
"""Each series' name on /metrics, with the labels that it may have in Prometheus."""
RECORDED: Final = dict(_recorded())
"""The same of the recorded sums."""
RISING: Final = frozenset({*LABELS, *RECORDED} - {*GAUGES.values(), "target_info", "up"})
"""The series that only ever rise: of counters and histograms."""
_KNOWN: Final = LABELS | RECORDED


def parse(expression: str) -> Any:
    """Return the expression's syntax tree; its variables are filled in already."""
    return promql.parse(expression)


def nodes(tree: Any) -> Iterator[Any]:
    """Yield every node of a syntax tree, the outer ones first."""
    found: list[Any] = []
    promql.walk(tree, pre_visit=lambda node: found.append(node))
    yield from found


def selectors(tree: Any) -> list[Any]:
    """Return every selector of series in a syntax tree."""
    return [node for node in nodes(tree) if isinstance(node, promql.VectorSelector)]


def doubts(tree: Any) -> Iterator[str]:
    """Yield what an expression names although no metric has it: a metric, a matched label, a label to group by."""
    for selector in selectors(tree):
        if selector.name not in _KNOWN:
            yield f"no metric {selector.name}"
            continue
        for matcher in selector.matchers.matchers:
            if matcher.name not in _KNOWN[selector.name]:
                yield f"{selector.name} has no label {matcher.name}"
    for node in nodes(tree):
        if isinstance(node, promql.AggregateExpr):
            for label in set(grouping(node)) - labels_below(node.expr):
                yield f"nothing to group by {label}"


def grouping(node: Any) -> list[str]:
    """Return the labels that an aggregation keeps."""
    return list(node.modifier.labels) if node.modifier is not None else []


def labels_below(tree: Any) -> set[str]:
    """Return the labels that the values of an expression may have."""
    if isinstance(tree, promql.AggregateExpr):
        return set(grouping(tree)) & labels_below(tree.expr)
    if isinstance(tree, promql.VectorSelector):
        return set(_KNOWN.get(tree.name or "", ()))
    if isinstance(tree, promql.MatrixSelector):
        return labels_below(tree.vector_selector)
    if isinstance(tree, promql.BinaryExpr):
        return labels_below(tree.lhs) | labels_below(tree.rhs)
    if isinstance(tree, promql.Call):
        labels: set[str] = set().union(*(labels_below(argument) for argument in tree.args))
        if tree.func.name == "label_replace":
            labels.add(tree.args[1].val)
        return labels - {"le"} if tree.func.name == "histogram_quantile" else labels
    return labels_below(tree.expr) if isinstance(tree, promql.ParenExpr | promql.UnaryExpr) else set()
