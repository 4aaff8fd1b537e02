"""The toy's pictures, drawn on axes that the caller brings, in the caller's colours: a page's, or those of a file."""

import math
from collections.abc import Callable, Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from maxrl.experiments.notebooks.toy import Array, Lane

Colour = Callable[[int], str]

LOW_RATES = 0.15
"""Pass rates below it are shaded: there MaxRL and GRPO part."""

PATHS = 3
"""Sampled paths that are drawn of each estimator, besides the band."""


def draw_race(axes: Axes, lanes: Sequence[Lane], colour: Colour) -> None:
    """p over steps: the expected path thick, 5 to 95 % of the sampled ones as a band, a few of these thin."""
    for index, lane in enumerate(lanes):
        steps, tint = range(len(lane.expected)), colour(index)
        low, high = lane.quantiles(0.05, 0.95)
        axes.fill_between(steps, low, high, color=tint, alpha=0.14, linewidth=0)
        for path in lane.sampled[:PATHS]:
            axes.plot(steps, path, color=tint, linewidth=0.6, alpha=0.6)
        axes.plot(steps, lane.expected, color=tint, linewidth=2.2, label=lane.name)
    axes.set(xlabel="step", ylabel="pass rate p", ylim=(-0.02, 1.02), xlim=(0, len(lanes[0].expected) - 1))
    legend_above(axes, columns=3 if max(len(lane.name) for lane in lanes) < 14 else 2)


def draw_weights(
    axes: Axes, rates: Sequence[float], curves: Mapping[str, Array], looks: Sequence[tuple[str, object]]
) -> None:
    """Weights on logarithmic axes, with the band of low pass rates."""
    axes.axvspan(rates[0], LOW_RATES, color=looks[0][0], alpha=0.08, linewidth=0)
    for (label, values), (tint, dash) in zip(curves.items(), looks, strict=True):
        axes.plot(rates, values, color=tint, linestyle=dash, label=label)
    axes.set(xscale="log", yscale="log", xlim=(rates[0], 1), xlabel="pass rate p", ylabel="weight w(p)")
    logarithmic_rates(axes)
    plain_logarithm(axes)
    legend_above(axes)


def draw_masses(
    axes: Axes,
    rates: Sequence[float],
    exact: Mapping[str, Array],
    sampled: Mapping[str, Array],
    colour: Colour,
) -> None:
    """Mean |A| over p: exact as lines, sampled as dots."""
    for index, (name, values) in enumerate(exact.items()):
        axes.plot(rates, values, color=colour(index), label=f"{name}, exact")
        axes.plot(rates, sampled[name], ".", color=colour(index), markersize=3.5, alpha=0.8)
    axes.set(xlabel="pass rate p", ylabel="mean |A| of a rollout", xlim=(0, 1))
    axes.set_ylim(bottom=0)
    legend_above(axes)


def legend_above(axes: Axes, columns: int = 2) -> None:
    """A legend that stands above the axes, where no line can be below it."""
    labels = axes.get_legend_handles_labels()[1]
    rows = math.ceil(len(labels) / columns)
    axes.legend(
        loc="lower left",
        bbox_to_anchor=(-0.02, 1.0),
        ncols=columns,
        frameon=False,
        borderaxespad=0.2,
        handlelength=1.8,
    )
    height = axes.figure.get_figheight()
    axes.figure.subplots_adjust(top=1 - (0.1 + 0.18 * rows) / height)


def logarithmic_rates(axes: Axes) -> None:
    """Pass rates in percent. (Three decimals would not survive in a figure's markup, which is rounded to two.)"""
    low, high = axes.get_xlim()
    ticks = [tick for tick in (1e-3, 0.003, 0.01, 0.03, 0.1, 0.3, 1) if low * 0.99 <= tick <= high * 1.01]
    axes.xaxis.set_major_locator(FixedLocator(ticks))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:g} %"))


def plain_logarithm(axes: Axes) -> None:
    """1, 10, 100 instead of powers of ten."""
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
