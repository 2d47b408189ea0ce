"""A strict reader of OpenMetrics 1.0 text, written from the specification's grammar; a deviation fails the test."""

import math
import re
from dataclasses import dataclass, field

_NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
_LABEL = r'[a-zA-Z_][a-zA-Z0-9_]*="(?:[^"\\\n]|\\["\\n])*"'
_LABELS = rf"\{{((?:{_LABEL}(?:,{_LABEL})*)?)\}}"
_NUMBER = r"[+-]?(?:\d+(?:\.\d*)?(?:[eE][+-]?\d+)?|Inf)"
_SAMPLE = re.compile(rf"({_NAME})(?:{_LABELS})? ({_NUMBER})(?: # {_LABELS} ({_NUMBER}) (\d+\.\d+))?")
_SUFFIXES = {
    "counter": {"_total"},
    "gauge": {""},
    "histogram": {"_bucket", "_sum", "_count"},
    "info": {"_info"},
}
_UNESCAPED = {r"\\": "\\", r"\n": "\n", r"\"": '"'}
Labels = tuple[tuple[str, str], ...]


@dataclass(slots=True)
class Read:
    """A metric family as read; a sample is keyed by (suffix, labels), an exemplar is (labels, value, timestamp)."""

    kind: str
    unit: str = ""
    description: str = ""
    samples: dict[tuple[str, Labels], float] = field(default_factory=dict)
    exemplars: dict[tuple[str, Labels], tuple[dict[str, str], float, float]] = field(default_factory=dict)


def read(text: str) -> dict[str, Read]:
    """Return the families of a page by name."""
    assert text.endswith("\n# EOF\n") or text == "# EOF\n"
    families: dict[str, Read] = {}
    name = ""
    for line in text.split("\n")[:-2]:
        if line.startswith("# "):
            _, word, of, *rest = line.split(" ", 3)
            name = _describe(families, name, word, of, rest[0])
        else:
            _take(name, families[name], line)
    for family_name, family in families.items():
        _check(family_name, family)
    return families


def _describe(families: dict[str, Read], current: str, word: str, name: str, rest: str) -> str:
    if word == "TYPE":
        assert re.fullmatch(_NAME, name)
        assert name not in families, f"{name} twice"
        assert rest in _SUFFIXES
        families[name] = Read(rest)
        return name
    assert name == current
    assert not families[name].samples, "metadata after samples"
    if word == "UNIT":
        assert name.endswith(f"_{rest}")
        families[name].unit = rest
    else:
        assert word == "HELP"
        assert re.fullmatch(r'(?:[^"\\\n]|\\["\\n])*', rest)
        families[name].description = _unescape(rest)
    return name


def _take(name: str, family: Read, line: str) -> None:
    match = _SAMPLE.fullmatch(line)
    assert match, line
    sample, labels, value, exemplar_labels, exemplar_value, exemplar_time = match.groups()
    assert sample.startswith(name)
    key = (sample.removeprefix(name), _labels(labels))
    assert key[0] in _SUFFIXES[family.kind], line
    assert key not in family.samples, f"series twice: {line}"
    family.samples[key] = float(value)
    if exemplar_labels is not None:
        assert key[0] in {"_bucket", "_total"}
        ids = dict(_labels(exemplar_labels))
        assert sum(len(label) + len(text) for label, text in ids.items()) <= 128
        family.exemplars[key] = (ids, float(exemplar_value), float(exemplar_time))


def _labels(text: str | None) -> Labels:
    pairs = re.findall(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\["\\n])*)"', text or "")
    assert len({name for name, _ in pairs}) == len(pairs), f"label twice: {text}"
    return tuple((name, _unescape(value)) for name, value in pairs)


def _unescape(text: str) -> str:
    return re.sub(r'\\["\\n]', lambda match: _UNESCAPED[match[0]], text)


def _check(name: str, family: Read) -> None:
    assert family.samples, f"{name} has no samples"
    if family.kind != "histogram":
        return
    series: dict[Labels, list[tuple[float, float]]] = {}
    for (suffix, labels), value in family.samples.items():
        if suffix == "_bucket":
            *others, (le, bound) = labels
            assert le == "le"
            assert bound == "+Inf" or bound == repr(float(bound)), "le is canonical"
            series.setdefault(tuple(others), []).append((float(bound), value))
            below = series[tuple(others)][-2][0] if len(series[tuple(others)]) > 1 else -math.inf
            _, exemplar, _ = family.exemplars.get((suffix, labels), ({}, float(bound), 0))
            assert below < exemplar <= float(bound), "an exemplar lies in its bucket"
    for labels, buckets in series.items():
        assert buckets == sorted(buckets), "bounds and counts rise"
        assert [count for _, count in buckets] == sorted(count for _, count in buckets)
        assert buckets[-1] == (math.inf, family.samples["_count", labels])
