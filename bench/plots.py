"""The two plots of a run, as SVG."""

from pathlib import Path

import matplotlib  # type: ignore[import-not-found]  # in .venv-bench

matplotlib.use("svg")
matplotlib.rcParams["svg.hashsalt"] = "bench"
import matplotlib.pyplot as plt  # type: ignore[import-not-found]  # noqa: E402 - after the backend
from matplotlib.ticker import ScalarFormatter  # type: ignore[import-not-found]  # noqa: E402

from bench.figures import figure  # noqa: E402
from bench.measures import DATABASE_S, MODEL_S, Found  # noqa: E402

OURS, THEIRS = "#2f6f9f", "#b9a37a"


def draw(found: Found, folder: Path) -> list[str]:
    """Draw what there is; return the files' names."""
    drawn = []
    for name, plot, there in (("turns.svg", _turns, found.throughput), ("latency.svg", _latency, found.sweep)):
        if there:
            axes_figure, axes = plt.subplots(figsize=(9, 4.5), layout="constrained")
            plot(found, axes)
            axes_figure.savefig(folder / name, metadata={"Date": None})
            plt.close(axes_figure)
            drawn.append(name)
    return drawn


def _turns(found: Found, axes: "matplotlib.axes.Axes") -> None:
    shown = [variant for variant in reversed(found.variants) if found.throughput.get(variant.key)]
    figures = [figure(found.throughput[variant.key], lambda result: result.turns / result.cpu_s) for variant in shown]
    medians = [each.median for each in figures]
    spread = [
        [each.median - min(each.values) for each in figures],
        [max(each.values) - each.median for each in figures],
    ]
    colours = [OURS if variant.key.startswith("ours") else THEIRS for variant in shown]
    bars = axes.barh([variant.name for variant in shown], medians, xerr=spread, color=colours, ecolor="#555555")
    axes.bar_label(bars, fmt="{:,.0f}", padding=8)
    axes.margins(x=0.1)
    axes.set_xlabel("turns per CPU-second of the server (LiteLLM: single calls); median and range")


def _latency(found: Found, axes: "matplotlib.axes.Axes") -> None:
    names = {variant.key: variant.name for variant in found.variants}
    for number, (key, by_rate) in enumerate(found.sweep.items()):
        rates = sorted(by_rate)
        colour = f"C{number}"
        axes.plot(rates, [by_rate[rate].p50 / 1e3 for rate in rates], "o-", color=colour, label=f"{names[key]}, p50")
        axes.plot(rates, [by_rate[rate].p99 / 1e3 for rate in rates], "x:", color=colour, label=f"{names[key]}, p99")
    axes.axhline(2 * DATABASE_S + MODEL_S, color="#999999", linewidth=1)
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(ScalarFormatter())
    axes.yaxis.set_minor_formatter(ScalarFormatter())
    axes.set_xlabel(f"turns offered per second (Poisson); database {DATABASE_S * 1e3:.0f} ms, model {MODEL_S:.0f} s")
    axes.set_ylabel("seconds from arrival to answer")
    axes.legend(fontsize="small")
