"""`python -m bench.limiter`: run the scenarios, print the table of bench/LIMITER.md, draw its figures.

Some minutes for ours (`--limit adaptive`), over an hour with the others: virtual time, but real computing, and where a
limit is far too large the host has a hundred refusals for each answer.
"""

import argparse
import statistics
import sys
from collections.abc import Iterator
from pathlib import Path

from app.admit.adaptive import AdaptiveLimit, LimitBounds
from app.admit.steered_model import Limit
from bench.limiter.plots import Panel, as_svg
from bench.limiter.rivals import Aimd, Fixed, Gradient2
from bench.limiter.scenarios import OUTAGE, SCENARIOS, Scenario, recovery_s, seconds_until
from bench.limiter.world import LARGEST, OURS, START, Controller, Run

PLOTS = Path(__file__).parents[1] / "plots"


def _ours() -> Limit:
    return AdaptiveLimit(START, LimitBounds(maximum=LARGEST))


GUARDED = Controller(name="adaptive, with guard", limit=_ours, paced=True, guarded=True)
CONTROLLERS = [
    OURS,
    GUARDED,
    Controller(name="adaptive, no pacer", limit=_ours),
    Controller(name="fixed 30, pacer", limit=lambda: Fixed(30), paced=True),
    Controller(name="fixed 10", limit=lambda: Fixed(10)),
    Controller(name="fixed 30", limit=lambda: Fixed(30)),
    Controller(name="fixed 60", limit=lambda: Fixed(60)),
    Controller(name="AIMD (Netflix's defaults)", limit=Aimd),
    Controller(name="AIMD without its timeout", limit=lambda: Aimd(1e9)),
    Controller(name="Gradient2", limit=Gradient2),
]
PACERS = ["adaptive, no pacer", "fixed 30, pacer"]
SLOTS = ["step 40 > 12 > 60 > 30", "sine 20 to 60", "another tenant", "all 429 for two minutes"]
QUOTAS = ["per minute, steady", "per minute, bursts", "per minute, in windows"]
FIGURES = {
    "slots.svg": [(name, OURS.name) for name in SLOTS],
    "quotas.svg": [(name, OURS.name) for name in QUOTAS],
    "silent-queue.svg": [("silent queue of 40", OURS.name), ("silent queue of 40", GUARDED.name)],
}
Panels = dict[tuple[str, str], Panel]


def main() -> None:
    """Read the options, run, print."""
    parser = argparse.ArgumentParser(prog="python -m bench.limiter", description=__doc__)
    parser.add_argument("--limit", default="", help="part of a limit's name: adaptive, fixed 30, AIMD, ...")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--scenario", default="", help="part of a scenario's name")
    parser.add_argument("--share", type=float, default=1.0, help="of each scenario's virtual length")
    options = parser.parse_args()
    controllers = [controller for controller in CONTROLLERS if options.limit in controller.name]
    print("| scenario | limit | goodput, of the oracle's | answers that were 429 | first token p95 | remarks |")
    print("|---|---|---|---|---|---|")
    panels: Panels = {}
    for scenario in SCENARIOS.values():
        if options.scenario in scenario.name:
            for line in _rows(scenario, controllers, options.seeds, options.share, panels):
                print(line, flush=True)
    for name, shown in FIGURES.items():
        if options.share == 1 and set(shown) <= set(panels):
            (PLOTS / name).write_text(as_svg([panels[key] for key in shown]))


def _rows(scenario: Scenario, controllers: list[Controller], seeds: int, share: float, panels: Panels) -> Iterator[str]:
    seconds = share * scenario.seconds
    oracles = [scenario.oracle(seed, seconds) for seed in range(1, seeds + 1)]
    for controller in controllers:
        if _is_told_apart(scenario, controller):
            print(f"{scenario.name}: {controller.name}", file=sys.stderr)
            runs = [scenario.run(controller, seed, seconds) for seed in range(1, seeds + 1)]
            cells = [scenario.name, controller.name, *_figures(runs, oracles), _remarks(scenario, runs, oracles)]
            yield f"| {' | '.join(cells)} |"
            panels[scenario.name, controller.name] = _panel(scenario, controller, runs[0], oracles[0])


def _is_told_apart(scenario: Scenario, controller: Controller) -> bool:
    """Return whether a row may differ from the others: without quotas the pacer is off, without a queue the guard."""
    if controller.guarded:
        return "silent" in scenario.name
    return scenario.capacity is None or controller.name not in PACERS


def _figures(runs: list[Run], oracles: list[Run]) -> list[str]:
    goodputs = [run.goodput / oracle.goodput for run, oracle in zip(runs, oracles, strict=True)]
    first_s = [statistics.quantiles(run.host.seen.first_token_s, n=20)[-1] for run in runs]
    refused = [run.refused for run in runs]
    return [_span(goodputs, "{:.1%}"), _span(refused, "{:.1%}"), _span(first_s, "{:.1f} s")]


def _span(values: list[float], form: str) -> str:
    least, most = form.format(min(values)), form.format(max(values))
    return least if least == most else f"{least} to {most}"


def _remarks(scenario: Scenario, runs: list[Run], oracles: list[Run]) -> str:
    if scenario.name.startswith("all 429"):
        return _after_outage(runs, oracles)
    if scenario.name.startswith("step"):
        return f"12 > 60: 95 % {_latest([recovery_s(run) for run in runs])}"
    return ""


def _after_outage(runs: list[Run], oracles: list[Run]) -> str:
    start, end = OUTAGE
    down = [next((time - start for time, total in run.limits if time > start and total == 1), None) for run in runs]
    probes = max(sum(start + 5 <= time < end for time in run.host.seen.refused) for run in runs)
    back = [seconds_until(run, end, 0.9 * 40) for run in runs]
    later = [
        run.finished_between(end + 30, end + 90) / oracle.finished_between(end + 30, end + 90)
        for run, oracle in zip(runs, oracles, strict=True)
    ]
    return (
        f"minimum {_latest(down, '.1f')}; {probes} refusals in the last {end - start - 5:.0f} s; "
        f"90 % {_latest(back)}; {_span(later, '{:.0%}')} from 30 to 90 s"
    )


def _latest(seconds: list[float | None], form: str = ".0f") -> str:
    known = [each for each in seconds if each is not None]
    return f"after {max(known):{form}} s" if len(known) == len(seconds) else "never"


def _panel(scenario: Scenario, controller: Controller, run: Run, oracle: Run) -> Panel:
    """Return limit and capacity over time; of a quota, the capacity is what the oracle's calls come to."""
    capacity = scenario.capacity(1) if scenario.capacity else None
    return Panel(
        title=f"{scenario.name}: {controller.name}",
        limit=[total for _, total, _ in run.timeline],
        busy=[busy for *_, busy in run.timeline],
        capacity=[capacity(time) if capacity else busy for time, _, busy in oracle.timeline],
    )


if __name__ == "__main__":
    main()
