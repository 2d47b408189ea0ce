"""Draw limit and capacity over time from what a run kept: `.venv-bench/bin/python -m bench.limiter.plots`."""

import json
from pathlib import Path

import matplotlib  # type: ignore[import-not-found]  # in .venv-bench

matplotlib.use("svg")
matplotlib.rcParams["svg.hashsalt"] = "bench"
import matplotlib.pyplot as plt  # type: ignore[import-not-found]  # noqa: E402 - after the backend

PLOTS = Path(__file__).parents[1] / "plots"
OURS, THEIRS, BUSY = "#2f6f9f", "#b9a37a", "#9fc3dd"


def main() -> None:
    """Draw one SVG for each file that was kept, and remove the file."""
    for path in sorted(PLOTS.glob("*.json")):
        kept = json.loads(path.read_text())
        seconds, limits, busy, capacity = zip(*kept["rows"], strict=True)
        figure, axes = plt.subplots(figsize=(9, 3.6), layout="constrained")
        axes.fill_between(seconds, busy, step="post", color=BUSY, label="calls in flight")
        if capacity[0] is not None:
            axes.step(seconds, capacity, where="post", color=THEIRS, linewidth=2.2, label="what the host takes")
        axes.step(seconds, limits, where="post", color=OURS, linewidth=1.1, label="limit")
        axes.set_title(f"{kept['scenario']}: {kept['controller']}", loc="left")
        axes.set_xlabel("seconds")
        axes.set_ylabel("calls at once")
        axes.set_xlim(0, seconds[-1])
        axes.set_ylim(0, 70)
        axes.legend(loc="upper right", ncols=3, fontsize="small")
        figure.savefig(path.with_suffix(".svg"), metadata={"Date": None})
        plt.close(figure)
        path.unlink()


if __name__ == "__main__":
    main()
