"""The answer as text for a terminal, and as JSON for a program."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from app.ops.whatif.advice import Advice, percent, seconds
from app.ops.whatif.figures import Figures, Target
from app.ops.whatif.replay import GateRules
from app.ops.whatif.turns import Trace

FEW_ROWS = 25
NOTICEABLE = 0.001
"""Share of the turns that were refused, left or failed, from which on the log is called censored."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """Everything that was found out."""

    trace: Trace
    rules: GateRules
    targets: tuple[Target, ...]
    burst: float
    figures: Sequence[Figures]
    advice: Advice


def assumptions(answer: Answer) -> list[str]:
    """Return what the answer takes for granted."""
    trace = answer.trace
    taken = [
        f"Service times are as recorded, with up to {trace.most_at_once} calls at once; "
        "a model that slows down under more load, or refuses it, makes larger sizes look too good.",
        f"At most {answer.rules.queue_max} turns wait (LLM_QUEUE_MAX), {answer.rules.queue_timeout_s:g} s at the most "
        "(LLM_QUEUE_TIMEOUT); first come, first served.",
        "The log knows no users, so LLM_PER_USER_MAX is left out: every turn counts as a user of its own.",
        "Who is refused or waits long does not ask again, and asks no less later.",
        "The agent's own studies take spare slots only, and are left out.",
    ]
    if answer.burst > 1:
        taken.append(
            f"The busiest quarter of the minutes is {answer.burst:g} times as busy as recorded, and the others are "
            "thinned so that the total stays, as far as that goes."
        )
    return taken


def warnings(answer: Answer) -> list[str]:
    """Return what is wrong with the log, as far as it matters."""
    trace, told = answer.trace, []
    unserved = trace.refused + trace.left + trace.failed
    if unserved > NOTICEABLE * len(trace.arrivals):
        told.append(
            f"The log is censored: {trace.refused} turns were refused, {trace.left} left before they were served, and "
            f"{trace.failed} failed without an answer. How long they would have taken is not known; each is replayed "
            "with the time of a turn that was served near it. Those who asked again count twice."
        )
    if trace.broken:
        told.append(f"{trace.broken} lines could not be read, and were skipped.")
    if all(each.p95_interval is None for each in answer.figures):
        told.append("The log is too short, or too few were served, for an interval of p95: it takes eight minutes.")
    return told


def as_text(answer: Answer) -> str:
    """Return the answer for a person."""
    parts = [_recorded(answer.trace), _table(answer.figures, answer.advice), answer.advice.sentence]
    parts.append("\n".join(["Assumed:", *(f"  - {line}" for line in assumptions(answer))]))
    if told := warnings(answer):
        parts.append("\n".join(["Warning:", *(f"  - {line}" for line in told)]))
    return "\n\n".join(parts)


def _recorded(trace: Trace) -> str:
    since = datetime.fromtimestamp(trace.began, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    return (
        f"{len(trace.arrivals):,} turns in {_span(trace.span_s)} from {since}: {trace.rate:.2f} a second, "
        f"{trace.mean_service_s:.2f} s of the model each, up to {trace.most_at_once} at once.\n"
        f"As recorded: p95 wait {seconds(trace.recorded_p95_s)}, {trace.refused:,} refused, {trace.left:,} left, "
        f"{trace.failed:,} failed."
    )


def _span(span_s: float) -> str:
    minutes, rest = divmod(round(span_s), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


_HEAD = ("size", "p50", "p95", "95 % interval", "p99", "refused", "queue", "busy", "Erlang C p95", "")


def _table(figures: Sequence[Figures], advice: Advice) -> str:
    rows = [_HEAD, *(_row(each, advice) for each in _worth_showing(figures, advice))]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEAD))]
    lines = ["  ".join(cell.rjust(width) for cell, width in zip(row[:-1], widths, strict=False)) for row in rows]
    return "\n".join(f"{line}  {row[-1]}".rstrip() for line, row in zip(lines, rows, strict=True))


def _worth_showing(figures: Sequence[Figures], advice: Advice) -> list[Figures]:
    """Leave out sizes at the end where nobody waits any more, and of many sizes those far from any named one."""
    idle = len(figures)
    while idle and not figures[idle - 1].longest_queue and not figures[idle - 1].refused:
        idle -= 1
    named = [number for number, each in enumerate(figures) if each.size in (advice.knee, advice.smallest, advice.sure)]
    shown = range(max([idle, *named]) + 1)
    every = 1 if len(shown) <= FEW_ROWS else -(-len(shown) // FEW_ROWS)
    near = {number + aside for number in named for aside in (-2, -1, 0, 1, 2)}
    return [each for number, each in enumerate(figures) if number in shown and (number % every == 0 or number in near)]


def _row(figures: Figures, advice: Advice) -> tuple[str, ...]:
    low, high = figures.p95_interval or (None, None)
    marks = [
        word
        for size, word in ((advice.knee, "knee"), (advice.smallest, "smallest"), (advice.sure, "sure"))
        if size == figures.size
    ]
    return (
        str(figures.size),
        seconds(figures.p50_s),
        seconds(figures.p95_s),
        "-" if low is None else f"{seconds(low)} to {seconds(high)}",
        seconds(figures.p99_s),
        percent(figures.refused_share),
        str(figures.longest_queue),
        percent(figures.busy),
        "no end" if figures.erlang_p95_s is None else seconds(figures.erlang_p95_s),
        f"<- {', '.join(marks)}" if marks else "",
    )


def as_json(answer: Answer) -> dict[str, Any]:
    """Return the answer for a program; seconds, and shares from 0 to 1."""
    trace = answer.trace
    return {
        "recorded": {
            "turns": len(trace.arrivals),
            "began": datetime.fromtimestamp(trace.began, UTC).isoformat(),
            "span_s": trace.span_s,
            "rate_per_s": trace.rate,
            "mean_service_s": trace.mean_service_s,
            "most_at_once": trace.most_at_once,
            "p95_wait_s": trace.recorded_p95_s,
            "refused": trace.refused,
            "left": trace.left,
            "failed": trace.failed,
            "elsewhere": trace.elsewhere,
            "broken_lines": trace.broken,
        },
        "rules": asdict(answer.rules),
        "targets": [target.text for target in answer.targets],
        "burst": answer.burst,
        "sizes": [{**asdict(each), "refused_share": each.refused_share} for each in answer.figures],
        "knee": answer.advice.knee,
        "smallest": answer.advice.smallest,
        "sure": answer.advice.sure,
        "recommendation": answer.advice.sentence,
        "assumptions": assumptions(answer),
        "warnings": warnings(answer),
    }
