"""`python -m bench.limiter`: run the scenarios, print the table, and keep what bench/limiter/plots.py draws.

Some minutes for ours, half an hour with the others (`--only ours` leaves them out). Virtual time, but real computing.
"""

import argparse
import json
import re
import statistics
import sys
from collections.abc import Iterator
from pathlib import Path

from app.admit.adaptive import AdaptiveLimit, LimitBounds
from app.admit.steered_model import Limit
from bench.limiter.rivals import Aimd, Fixed, Gradient2
from bench.limiter.scenarios import OUTAGE, SCENARIOS, Scenario, recovery_s
from bench.limiter.world import LARGEST, OURS, START, Controller, Run

PLOTS = Path(__file__).parents[1] / "plots"


def _ours() -> Limit:
    return AdaptiveLimit(START, LimitBounds(maximum=LARGEST))


CONTROLLERS = [
    OURS,
    Controller(name="adaptive, with guard", limit=_ours, paced=True, guarded=True),
    Controller(name="adaptive, no pacer", limit=_ours),
    Controller(name="fixed 30, pacer", limit=lambda: Fixed(30), paced=True),
    Controller(name="fixed 10", limit=lambda: Fixed(10)),
    Controller(name="fixed 30", limit=lambda: Fixed(30)),
    Controller(name="fixed 60", limit=lambda: Fixed(60)),
    Controller(name="AIMD (Netflix's defaults)", limit=Aimd),
    Controller(name="AIMD without its timeout", limit=lambda: Aimd(1e9)),
    Controller(name="Gradient2", limit=Gradient2),
]


def main() -> None:
    """Read the options, run, print."""
    parser = argparse.ArgumentParser(prog="python -m bench.limiter", description=__doc__)
    parser.add_argument("--only", choices=["ours", "all"], default="all")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--scenario", default="", help="part of a scenario's name")
    parser.add_argument("--share", type=float, default=1.0, help="of each scenario's virtual length")
    options = parser.parse_args()
    controllers = CONTROLLERS[:2] if options.only == "ours" else CONTROLLERS
    print("| scenario | limit | goodput, of the oracle's | answers that were 429 | first token p95 | remarks |")
    print("|---|---|---|---|---|---|")
    for scenario in SCENARIOS.values():
        if options.scenario in scenario.name:
            for line in _rows(scenario, controllers, options.seeds, options.share):
                print(line, flush=True)


def _rows(scenario: Scenario, controllers: list[Controller], seeds: int, share: float) -> Iterator[str]:
    seconds = share * scenario.seconds
    oracles = [scenario.oracle(seed, seconds) for seed in range(1, seeds + 1)]
    for controller in controllers:
        if controller.guarded and "silent" not in scenario.name:
            continue
        print(f"{scenario.name}: {controller.name}", file=sys.stderr)
        runs = [scenario.run(controller, seed, seconds) for seed in range(1, seeds + 1)]
        goodputs = [run.goodput / oracle.goodput for run, oracle in zip(runs, oracles, strict=True)]
        first_s = [statistics.quantiles(run.host.seen.first_token_s, n=20)[-1] for run in runs]
        yield (
            f"| {scenario.name} | {controller.name} | {_span(goodputs, '{:.1%}')} "
            f"| {_span([run.refused for run in runs], '{:.1%}')} | {_span(first_s, '{:.1f} s')} "
            f"| {_remarks(scenario, controller, runs, oracles)} |"
        )
        _keep(scenario, controller, runs[0])


def _span(values: list[float], form: str) -> str:
    least, most = form.format(min(values)), form.format(max(values))
    return least if least == most else f"{least} to {most}"


def _remarks(scenario: Scenario, controller: Controller, runs: list[Run], oracles: list[Run]) -> str:
    if scenario.name.startswith("all 429"):
        start, end = OUTAGE
        down = [next((time - start for time, total in run.limits if time > start and total == 1), None) for run in runs]
        probes = max(sum(start + 6 <= time < end for time in run.host.seen.refused) for run in runs)
        back = [
            run.finished_between(end + 20, end + 30) / max(1, oracle.finished_between(end + 20, end + 30))
            for run, oracle in zip(runs, oracles, strict=True)
        ]
        told = "never" if None in down else f"after {max(time for time in down if time is not None):.1f} s"
        return f"minimum {told}; {probes} refusals in the last {end - start - 6:.0f} s; 20 to 30 s on {min(back):.0%}"
    if scenario.name.startswith("step"):
        back_s = [recovery_s(run) for run in runs]
        return "" if None in back_s else f"12 > 60: 95 % after {max(each for each in back_s if each is not None):.0f} s"
    return ""


def _keep(scenario: Scenario, controller: Controller, run: Run) -> None:
    if controller.name not in (OURS.name, "adaptive, with guard"):
        return
    capacity = scenario.capacity(1) if scenario.capacity else None
    rows = [(round(time), total, busy, capacity(time) if capacity else None) for time, total, busy in run.timeline]
    PLOTS.mkdir(exist_ok=True)
    name = "-".join(re.findall(r"\w+", f"{scenario.name} {controller.name}"))
    (PLOTS / f"{name}.json").write_text(
        json.dumps({"scenario": scenario.name, "controller": controller.name, "rows": rows})
    )


if __name__ == "__main__":
    main()
