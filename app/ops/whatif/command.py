"""The command: options, files, a progress bar, and what it prints."""

import argparse
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, TextIO

from app.errors import StartError
from app.ops.whatif.advice import advise
from app.ops.whatif.burst import burstier
from app.ops.whatif.plot import as_svg
from app.ops.whatif.replay import GateRules
from app.ops.whatif.report import Answer, as_json, as_text
from app.ops.whatif.sweep import Job, log_files, processors, read_files, sweep
from app.ops.whatif.turns import NoTurnsError, Trace, as_trace
from app.ops.whatif.wishes import read_count, read_factor, read_seconds, read_sizes, read_targets

BAR = 30


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument(
        "--turns",
        type=Path,
        nargs="+",
        required=True,
        metavar="FILE",
        help="what TURN_LOG wrote; FILE.1, FILE.2, ... are read with it",
    )
    parser.add_argument("--sizes", type=_of(read_sizes), default="1..80", help="1..80, 8..64:8 or 8,12,16 (1..80)")
    parser.add_argument("--slo", type=_of(read_targets), default="p95<2s", help="p95<2s,shed<1%% (p95<2s)")
    parser.add_argument("--burst", type=_of(read_factor), default="1x", help="the busiest quarter of minutes, so heavy")
    parser.add_argument("--queue-timeout", type=_of(read_seconds), metavar="S", help="instead of LLM_QUEUE_TIMEOUT")
    parser.add_argument("--queue-max", type=_of(read_count), metavar="N", help="instead of LLM_QUEUE_MAX")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--plot", type=Path, metavar="SVG", help="draw it into this file")


def _of(read: Callable[[str], Any]) -> Callable[[str], Any]:
    def parse(text: str) -> Any:
        try:
            return read(text)
        except ValueError as exc:
            raise argparse.ArgumentTypeError(str(exc)) from None

    return parse


def run(options: argparse.Namespace, rules: GateRules, say: Callable[[str], None], progress: TextIO | None) -> None:
    """Answer the question of the options.

    Args:
        options: as `add_options` has them.
        rules: the queue's, where the options say nothing else.
        say: takes the answer.
        progress: a terminal for the bar, if there is one.

    Raises:
        StartError: the log cannot be read or holds nothing, or the plot cannot be written.
    """
    answer = _answer(options, rules, progress)
    if options.plot is not None:
        title = f"{len(answer.trace.arrivals):,} turns, replayed at {len(answer.figures)} sizes"
        title += f", bursts {options.burst:g}x" if options.burst > 1 else ""
        _write(options.plot, as_svg(answer.figures, answer.targets, answer.advice, title))
    say(json.dumps(as_json(answer), indent=1) if options.json else as_text(answer))


def _answer(options: argparse.Namespace, rules: GateRules, progress: TextIO | None) -> Answer:
    rules = GateRules(
        queue_max=rules.queue_max if options.queue_max is None else options.queue_max,
        queue_timeout_s=options.queue_timeout or rules.queue_timeout_s,
    )
    processes = processors()
    trace = _trace(options.turns, processes, partial(_show, progress, "reading"))
    arrivals, services = trace.arrivals, trace.services
    if options.burst > 1:
        arrivals, services = burstier(arrivals, services, options.burst)
    rate = trace.rate * len(arrivals) / len(trace.arrivals)
    job = Job(arrivals=arrivals, services=services, rules=rules, targets=tuple(options.slo), rate=rate)
    figures = sweep(job, options.sizes, processes, partial(_show, progress, "replaying"))
    advice = advise(figures, options.slo)
    return Answer(trace=trace, rules=rules, targets=job.targets, burst=options.burst, figures=figures, advice=advice)


def _trace(paths: list[Path], processes: int, told: Callable[[int, int], None]) -> Trace:
    try:
        files = list(dict.fromkeys(file for path in paths for file in log_files(path)))
        if not files:
            raise StartError(f"there is no {paths[0]}; set TURN_LOG, and it is written as turns end")
        return as_trace(read_files(files, processes, told))
    except OSError as exc:
        raise StartError(f"cannot read {exc.filename or paths[0]}: {exc.strerror or exc}") from None
    except NoTurnsError as exc:
        raise StartError(f"{paths[0]}: {exc}") from None


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, "utf-8")
    except OSError as exc:
        raise StartError(f"cannot write {path}: {exc.strerror or exc}") from None


def _show(progress: TextIO | None, what: str, done: int, of: int) -> None:
    """Draw the bar, over what was there; away with it at the end."""
    if progress is None:
        return
    full = BAR * done // max(of, 1)
    bar = f"{what:<10} [{'#' * full}{'.' * (BAR - full)}] {done}/{of}"
    progress.write(f"\r{bar}" if done < of else f"\r{' ' * len(bar)}\r")
    progress.flush()
