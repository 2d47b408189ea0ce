"""`make bench`: start stand-ins, ours and the peers, measure, and write `bench/RESULTS.md` with two plots.

About half an hour; `--quick` takes about five minutes and writes nothing but to `--into`. `--only ours,fastapi-aiohttp`
measures some variants, `--parts under_load` some figures.
"""

import argparse
import sys
from dataclasses import replace
from pathlib import Path

from bench.measures import FULL, MEASURES, QUICK, measure_all
from bench.plots import draw
from bench.processes import BenchError
from bench.report import kept, markdown
from bench.variants import BY_KEY

HERE = Path(__file__).parent
PARTS = [measure.__name__ for measure in MEASURES]


def main() -> None:
    """Read the options, measure, write."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="short rounds, to see that it works; printed only")
    parser.add_argument("--only", default="", help=f"variants by comma, of {', '.join(BY_KEY)}")
    parser.add_argument("--parts", default="", help=f"measures by comma, of {', '.join(PARTS)}")
    parser.add_argument("--poisson-s", type=float, default=FULL.poisson_s, help="length of a round under load")
    parser.add_argument("--tokens", type=int, default=40, help="SSE chunks of an answer")
    parser.add_argument("--into", type=Path, help="folder for RESULTS.md and the plots; bench/ for a whole run")
    options = parser.parse_args()
    keys = [key.strip() for key in options.only.split(",") if key.strip()] or list(BY_KEY)
    if unknown := [key for key in keys if key not in BY_KEY]:
        parser.error(f"no such variant: {', '.join(unknown)}")
    parts = [part.strip() for part in options.parts.split(",") if part.strip()]
    if unknown := [part for part in parts if part not in PARTS]:
        parser.error(f"no such measure: {', '.join(unknown)}")
    whole = not options.quick and not options.only and not parts
    into: Path | None = options.into or (HERE if whole else None)
    print(f"Variants: {', '.join(keys)}", file=sys.stderr)
    scale = QUICK if options.quick else replace(FULL, poisson_s=options.poisson_s)
    try:
        found = measure_all(scale, keys, options.tokens, parts)
    except BenchError as exc:
        raise SystemExit(f"the benchmark stopped: {exc}") from None
    plots = []
    if into:
        into.mkdir(parents=True, exist_ok=True)
        plots = draw(found, into)
    text = markdown(found, plots, sys.executable)
    if into:
        results = into / "RESULTS.md"
        results.write_text(text + kept(results))
    print(text)


if __name__ == "__main__":
    main()
