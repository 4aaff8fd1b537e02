"""The report's pictures: drawn once, as SVG that takes the page's colours, and as a PNG on white."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from maxrl.experiments import plots
from maxrl.experiments.classification.summary import Results, Summary, curve

ON_WHITE = ("#0072b2", "#d55e00", "#00875f", "#a8487e", "#8a6d00", "#5146b5")
"""The style sheet's colours of arms, for a picture outside the page."""
INK, GRID, BEST = "#1d2126", "#d5d3cd", "#7d858d"

Colour = Callable[[int], str]


def panels(summary: Summary) -> dict[str, str]:
    """What is drawn over epochs: metric → label."""
    middle = 128 if 128 in summary.ks else summary.ks[-1]
    shown = {"eval_pass@1": "pass@1", f"eval_pass@{middle}": f"pass@{middle}", "eval_top_1": "top-1"}
    return {metric: f"{label} of the test set, %" for metric, label in shown.items()}


def svg_figures(results: Results, summary: Summary) -> dict[str, str]:
    """Figures as markup for the page: one per panel, by metric, and `pass_at_k`."""
    figures = {
        metric: plots.svg(
            metric.replace("_", "-").replace("@", "-"),
            f"{label.split(',')[0]} over epochs",
            lambda axes, metric=metric, label=label: _over_epochs(
                axes, results, metric, label, plots.colour, plots.BEFORE
            ),
        )
        for metric, label in panels(summary).items()
    }
    figures["pass_at_k"] = plots.svg(
        "pass-at-k",
        "pass@k after training",
        lambda axes: _over_k(axes, results, summary, plots.colour, plots.BEFORE),
    )
    return figures


def write_png(results: Results, summary: Summary, path: Path) -> None:
    """All panels in one picture; the file appears when it is complete."""
    partial = path.with_name(path.name + ".partial")
    stand_ins = {plots.INK: INK, plots.GRID: GRID}
    style = {key: stand_ins.get(str(value), value) for key, value in plots.STYLE.items()}
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(style)
        picture(results, summary).savefig(partial, format="png", dpi=110, metadata={"Software": None})
    os.replace(partial, path)


def picture(results: Results, summary: Summary) -> Figure:
    """A panel for each measure over epochs, and pass@k over k; no more of them than there is something to draw in."""
    figure = Figure(figsize=(11, 7), layout="constrained")
    figure.suptitle(results.title, fontsize=11, color=INK)
    shown, grid = panels(summary), list(figure.subplots(2, 2).flat)
    for axes, (metric, label) in zip(grid, shown.items(), strict=False):
        _over_epochs(axes, results, metric, label, _on_white, BEST)
    over_k, *unused = grid[len(shown) :]
    _over_k(over_k, results, summary, _on_white, BEST)
    for axes in unused:
        axes.remove()
    handles, labels = over_k.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False)
    return figure


def _on_white(index: int) -> str:
    return ON_WHITE[index % len(ON_WHITE)]


def _look(index: int, colour: Colour) -> Mapping[str, object]:
    """The first arm, which the others are compared with, is wide enough to be seen below one that lies on it."""
    dash = plots.DASHES[index // plots.HUES % len(plots.DASHES)]
    return {"color": colour(index), "linestyle": dash, "linewidth": 3.5 if index == 0 else 1.6}


def _over_epochs(
    axes: Axes, results: Results, metric: str, label: str, colour: Colour, best_colour: str
) -> None:
    """Mean over seeds, with a band from the lowest to the highest of them; the dashed line is the best possible."""
    for index, name in enumerate(results.arms):
        line = curve(results, name, metric)
        if not line.epochs:
            continue
        low, high = [s.low for s in line.spreads], [s.high for s in line.spreads]
        axes.fill_between(line.epochs, low, high, color=colour(index), alpha=0.2, linewidth=0)
        axes.plot(line.epochs, [s.mean for s in line.spreads], **_look(index, colour))
    if (best := _best(results, metric)) is not None:
        axes.axhline(best, color=best_colour, linestyle=(0, (4, 2)), linewidth=1.2)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("epoch")
    axes.set_ylabel(label)
    axes.set_ylim(-0.02, 1.02)
    _percent(axes)


def _best(results: Results, metric: str) -> float | None:
    if results.best is None:
        return None
    return results.best.top_1 if metric == "eval_top_1" else results.best.pass_at_k[int(metric.split("@")[1])]


def _over_k(axes: Axes, results: Results, summary: Summary, colour: Colour, best_colour: str) -> None:
    """pass@k after training, with the range of the seeds."""
    if summary.best:
        values = [summary.best[f"pass@{k}"] for k in summary.ks]
        axes.plot(
            summary.ks, values, color=best_colour, linestyle=(0, (4, 2)), linewidth=1.2, label="best possible"
        )
    for arm in summary.arms:
        index = results.arms.index(arm.name)
        spreads = [arm.columns[f"pass@{k}"] for k in summary.ks]
        low, high = [s.low for s in spreads], [s.high for s in spreads]
        marker = plots.MARKERS[index % len(plots.MARKERS)]
        axes.fill_between(summary.ks, low, high, color=colour(index), alpha=0.2, linewidth=0)
        axes.plot(
            summary.ks,
            [s.mean for s in spreads],
            marker=marker,
            markersize=4,
            label=arm.name,
            **_look(index, colour),
        )
    axes.set_xscale("log", base=2)
    axes.set_xticks(summary.ks, [str(k) for k in summary.ks])
    axes.minorticks_off()
    axes.set_xlabel("k, labels drawn")
    axes.set_ylabel("pass@k after training, %")
    axes.set_ylim(-0.02, 1.02)
    _percent(axes)


def _percent(axes: Axes) -> None:
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:g}"))
