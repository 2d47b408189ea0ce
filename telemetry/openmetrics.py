"""The page `/metrics`: what the SDK's reader collected, as OpenMetrics 1.0 with exemplars or as Prometheus text 0.0.4.

Sources: https://prometheus.io/docs/specs/om/open_metrics_spec/ , the exposition formats page beside it, and
OpenTelemetry's "Prometheus and OpenMetrics Compatibility" for names. `write` and what it calls are pure; `Scrape`
remembers exemplars, because the SDK hands each over once and forgets it, while every scraper, in any order, shall see
the last one of a bucket.

Left out on purpose: timestamps and `_created` of samples; scope labels (one scope is ours); exponential histograms,
which neither text can hold; values that are not a number, which would poison every sum they enter.
"""

import json
import math
import re
import threading
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Final, Literal

from opentelemetry import context as otel_context
from opentelemetry.sdk.metrics import Exemplar
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Gauge,
    Histogram,
    HistogramDataPoint,
    Metric,
    MetricsData,
    NumberDataPoint,
    Sum,
)
from opentelemetry.trace import format_span_id, format_trace_id
from opentelemetry.util.types import Attributes

Kind = Literal["counter", "gauge", "histogram"]
Point = NumberDataPoint | HistogramDataPoint
Remembered = Mapping[tuple[str, str, int], Exemplar]
"""The last exemplar of (metric, labels as written, bucket); the bucket of a counter is 0."""


@dataclass(frozen=True, slots=True)
class Form:
    """A text format: its content type, and whether it is OpenMetrics."""

    content_type: str
    openmetrics: bool


OPENMETRICS: Final = Form("application/openmetrics-text; version=1.0.0; charset=utf-8", True)
CLASSIC: Final = Form("text/plain; version=0.0.4; charset=utf-8", False)

# UCUM units of OpenTelemetry instruments, as Prometheus spells them; `1` and annotations like `{token}` add nothing.
UNITS: Final = {
    "d": "days", "h": "hours", "min": "minutes",
    "s": "seconds", "ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds",
    "By": "bytes", "KiBy": "kibibytes", "MiBy": "mebibytes", "GiBy": "gibibytes",
    "KBy": "kilobytes", "MBy": "megabytes", "GBy": "gigabytes",
    "m": "meters", "V": "volts", "A": "amperes", "J": "joules", "W": "watts", "g": "grams",
    "Cel": "celsius", "Hz": "hertz", "%": "percent", "1": "",
}  # fmt: skip
_RESERVED_LABELS: Final = {"le", "quantile"}


@dataclass(slots=True)
class Family:
    """All series of one metric name."""

    name: str
    kind: Kind
    unit: str
    description: str
    series: dict[str, Point] = field(default_factory=dict)


class Scrape:
    """Answers scrapers, several at once, each with every series and the last exemplar of each bucket."""

    def __init__(self, collect: Callable[[], MetricsData | None]) -> None:
        """Answer with what `collect` returns; it is called by one scraper at a time."""
        self._collect = collect
        self._lock = threading.Lock()
        self._remembered: Remembered = {}

    def page(self, accept: str = "") -> tuple[str, str]:
        """Collect now and return (content type, text) for an `Accept` header. Blocks: call it in a worker thread."""
        with self._lock:
            token = otel_context.attach(otel_context.Context())  # what is read now is of no trace
            try:
                data = self._collect()
            finally:
                otel_context.detach(token)
            families = list(families_of(data))
            self._remembered = remembered = remember(self._remembered, families)
        form = negotiate(accept)
        return form.content_type, write(families, resource_of(data), remembered, form)


def negotiate(accept: str) -> Form:
    """Return OpenMetrics when `accept` names version 1.0.0 of it and ranks it no lower than plain text."""
    ranks = {OPENMETRICS: 0.0, CLASSIC: 0.0}
    for item in accept.split(","):
        media, *parameters = (part.strip().lower() for part in item.split(";"))
        given = dict(parameter.partition("=")[::2] for parameter in parameters)
        form = _MEDIA.get((media, given.get("version", "").strip('"')))
        if form:
            ranks[form] = max(ranks[form], _quality(given.get("q", "1")))
    return OPENMETRICS if ranks[OPENMETRICS] > 0 and ranks[OPENMETRICS] >= ranks[CLASSIC] else CLASSIC


_MEDIA: Final = {
    ("application/openmetrics-text", ""): OPENMETRICS,
    ("application/openmetrics-text", "1.0.0"): OPENMETRICS,
    ("text/plain", ""): CLASSIC,
    ("text/plain", "0.0.4"): CLASSIC,
}


def _quality(text: str) -> float:
    return float(text) if re.fullmatch(r"[01](\.\d{0,3})?", text) else 0.0


def families_of(data: MetricsData | None) -> Iterator[Family]:
    """Yield what was collected, one family per name; of two that claim the same name or series, the first."""
    families: dict[str, Family] = {}
    for metric in _metrics(data):
        kind = _kind(metric)
        if kind is None:
            continue
        name, unit = family_name(metric.name, metric.unit or "", kind)
        family = families.setdefault(name, Family(name, kind, unit, metric.description or ""))
        if family.kind == kind:
            for point in metric.data.data_points:
                assert isinstance(point, NumberDataPoint | HistogramDataPoint)
                if isinstance(point, HistogramDataPoint) or not math.isnan(point.value):
                    family.series.setdefault(label_text(point.attributes), point)
    yield from (family for family in families.values() if family.series)


def _metrics(data: MetricsData | None) -> Iterator[Metric]:
    for resource in data.resource_metrics if data else ():
        for scope in resource.scope_metrics:
            yield from scope.metrics


def resource_of(data: MetricsData | None) -> Attributes:
    """Return the attributes of the process that `data` is about."""
    return data.resource_metrics[0].resource.attributes if data and data.resource_metrics else {}


def _kind(metric: Metric) -> Kind | None:
    match metric.data:
        case Gauge():
            return "gauge"
        case Sum(is_monotonic=False):
            return "gauge"
        case Sum(aggregation_temporality=AggregationTemporality.CUMULATIVE):
            return "counter"
        case Histogram(aggregation_temporality=AggregationTemporality.CUMULATIVE):
            return "histogram"
        case _:
            return None


def remember(known: Remembered, families: Sequence[Family]) -> Remembered:
    """Return the last exemplar of each bucket of each series there is: the newly collected one, else the known one.

    Bounded by the series there are, which the SDK limits (2000 per instrument), times their buckets.
    """
    kept: dict[tuple[str, str, int], Exemplar] = {}
    for family in families:
        for labels, point in family.series.items():
            bounds = point.explicit_bounds if isinstance(point, HistogramDataPoint) else ()
            for bucket in range(len(bounds) + 1):
                if known_one := known.get((family.name, labels, bucket)):
                    kept[family.name, labels, bucket] = known_one
            for exemplar in sorted(point.exemplars, key=lambda exemplar: exemplar.time_unix_nano):
                if exemplar.trace_id and exemplar.span_id:
                    kept[family.name, labels, bisect_left(bounds, exemplar.value)] = exemplar
    return kept


def write(families: Sequence[Family], resource: Attributes, remembered: Remembered, form: Form) -> str:
    """Return the page in `form`, which ends with a line feed."""
    lines = list(_target(resource, form))
    for family in families:
        lines += _head(family, form)
        for labels, point in family.series.items():
            if isinstance(point, HistogramDataPoint):
                lines += _histogram(family, labels, point, remembered, form)
            elif family.kind == "counter":
                exemplar = _exemplar(remembered.get((family.name, labels, 0)), form)
                lines.append(f"{_sample(f'{family.name}_total', labels, point.value)}{exemplar}")
            else:
                lines.append(_sample(family.name, labels, point.value))
    if form.openmetrics:
        lines.append("# EOF")
    return "".join(f"{line}\n" for line in lines)


def _target(resource: Attributes, form: Form) -> Iterator[str]:
    if not resource:
        return
    name, kind = ("target", "info") if form.openmetrics else ("target_info", "gauge")
    yield f"# TYPE {name} {kind}"
    yield f"# HELP {name} Target metadata"
    yield _sample("target_info", label_text(resource), 1)


def _head(family: Family, form: Form) -> Iterator[str]:
    name = family.name
    if family.kind == "counter" and not form.openmetrics:
        name += "_total"
    yield f"# TYPE {name} {family.kind}"
    if family.unit and form.openmetrics:
        yield f"# UNIT {name} {family.unit}"
    if family.description:
        text = _escape(family.description) if form.openmetrics else _escape(family.description).replace('\\"', '"')
        yield f"# HELP {name} {text}"


def _histogram(
    family: Family, labels: str, point: HistogramDataPoint, remembered: Remembered, form: Form
) -> Iterator[str]:
    bounds = (*point.explicit_bounds, math.inf)
    for bucket, (bound, count) in enumerate(zip(bounds, accumulate(point.bucket_counts), strict=True)):
        le = f'le="{number(float(bound))}"'
        exemplar = _exemplar(remembered.get((family.name, labels, bucket)), form)
        yield f"{_sample(f'{family.name}_bucket', f'{labels},{le}' if labels else le, count)}{exemplar}"
    if not math.isnan(point.sum):
        yield _sample(f"{family.name}_sum", labels, point.sum)
    yield _sample(f"{family.name}_count", labels, point.count)


def _sample(name: str, labels: str, value: float) -> str:
    return f"{name}{{{labels}}} {number(value)}" if labels else f"{name} {number(value)}"


def _exemplar(exemplar: Exemplar | None, form: Form) -> str:
    if exemplar is None or not form.openmetrics or exemplar.trace_id is None or exemplar.span_id is None:
        return ""
    ids = f'trace_id="{format_trace_id(exemplar.trace_id)}",span_id="{format_span_id(exemplar.span_id)}"'
    return f" # {{{ids}}} {number(exemplar.value)} {exemplar.time_unix_nano / 1e9:.3f}"


def family_name(name: str, unit: str, kind: Kind) -> tuple[str, str]:
    """Return the Prometheus family name of an instrument, without `_total`, and its unit's word ("" for none)."""
    family = _name(name)
    if kind == "counter":
        family = family.removesuffix("_total")
    word = unit_word(unit)
    if word and not family.endswith(f"_{word}"):
        family = f"{family}_{word}"
    return family, word


def unit_word(unit: str) -> str:
    """Return how Prometheus spells a UCUM unit: `s` is seconds, `By/s` bytes_per_second, `{token}` nothing."""
    main, _, per = re.sub(r"\{[^}]*\}", "", unit).partition("/")
    word = UNITS.get(main, _name(main))
    below = UNITS.get(per, _name(per)).removesuffix("s")
    return "_".join(part for part in (word, "per" if below else "", below) if part)


def _name(text: str) -> str:
    name = re.sub(r"_{2,}", "_", re.sub(r"[^a-zA-Z0-9_:]", "_", text))
    return f"_{name}" if name[:1].isdigit() else name


def label_text(attributes: Attributes) -> str:
    """Return attributes as sorted labels, without braces; keys that become the same share one label, joined by `;`."""
    labels: dict[str, str] = {}
    for key, value in sorted((attributes or {}).items()):
        name = _label_name(key)
        labels[name] = f"{labels[name]};{_text(value)}" if name in labels else _text(value)
    return ",".join(f'{name}="{_escape(value)}"' for name, value in sorted(labels.items()))


def _label_name(key: str) -> str:
    name = _name(key).replace(":", "_")
    return f"key_{name}" if not name or name in _RESERVED_LABELS else name


def _text(value: object) -> str:
    """Return a value as a label shows it; what UTF-8 cannot hold becomes `?`."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return text.encode("utf-8", "replace").decode()


def _escape(text: str) -> str:
    return text.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")


def number(value: float) -> str:
    """Return a sample's value or bound: a whole number without a point only when it is an int."""
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else "+Inf" if value > 0 else "-Inf"
    return repr(value)
