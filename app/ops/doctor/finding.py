"""What a check finds, and the report of it all: aligned lines for people, a document for machines. Pure."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

Status = Literal["ok", "warn", "fail", "skip"]
WORDS: Mapping[Status, str] = {"ok": "ok", "warn": "WARN", "fail": "FAIL", "skip": "skip"}
FINE, FAILED = 0, 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A line of the report.

    Args:
        check: what was looked at, as `area.thing`.
        status: `fail` where turns fail or people are at risk; `warn` where they may; `skip` where nobody looked.
        said: what was seen, in one clause.
        todo: what to do about it; empty where there is nothing.
    """

    check: str
    status: Status
    said: str
    todo: str = ""

    @property
    def line(self) -> str:
        """What is wrong and what to do, on one line."""
        return f"{self.said}: {self.todo}" if self.todo else self.said


def ok(check: str, said: str) -> Finding:
    """Return that all is well."""
    return Finding(check=check, status="ok", said=said)


def skip(check: str, said: str, todo: str = "") -> Finding:
    """Return that nobody looked, and why."""
    return Finding(check=check, status="skip", said=said, todo=todo)


def warn(check: str, said: str, todo: str) -> Finding:
    """Return what may go wrong."""
    return Finding(check=check, status="warn", said=said, todo=todo)


def fail(check: str, said: str, todo: str) -> Finding:
    """Return what is wrong."""
    return Finding(check=check, status="fail", said=said, todo=todo)


def exit_code(findings: Iterable[Finding]) -> int:
    """Return the exit code of a report: warnings alone are fine."""
    return FAILED if any(finding.status == "fail" for finding in findings) else FINE


def as_text(findings: Sequence[Finding]) -> str:
    """Return one line for each finding, and a last one that counts them."""
    width = max((len(finding.check) for finding in findings), default=0)
    lines = [f"{WORDS[finding.status]:<4}  {finding.check:<{width}}  {finding.line}" for finding in findings]
    return "\n".join([*lines, "", summary(findings)])


def summary(findings: Sequence[Finding]) -> str:
    """Return how many are of which kind, as a sentence."""
    counts = Counter(finding.status for finding in findings)
    kinds: tuple[tuple[Status, str], ...] = (("fail", "failed"), ("warn", "to look at"), ("skip", "left out"))
    told = [f"{counts[status]} {word}" for status, word in kinds if counts[status]]
    wrong = counts["fail"] + counts["warn"]
    return f"{len(findings)} findings: {', '.join([*([] if wrong else ['nothing is wrong']), *told])}"


def as_document(findings: Sequence[Finding], facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return the report for machines, `facts` (when, where, which version) first."""
    counts = Counter(finding.status for finding in findings)
    return {
        **facts,
        "counts": {status: counts[status] for status in WORDS},
        "findings": [asdict(finding) for finding in findings],
    }
