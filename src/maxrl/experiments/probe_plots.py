"""`probe.png`: what a probe found, as a picture."""

import os
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator, PercentFormatter

from maxrl.evaluation.groups import ExpectedGroups, RateBin
from maxrl.experiments.probe_records import Probe, Reading, named

COLOURS = {"dead": "#8a8f98", "live": "#2a9d6f", "mastered": "#e0a526"}
"""Apart in lightness, too."""

INK = "#30343b"


def write_plot(probe: Probe, path: Path) -> None:
    """Draw one setting, or the sweep; the file appears when it is complete."""
    readings = [row.reading for row in probe.rows if row.reading is not None]
    if not readings:
        return
    if not probe.swept:
        figure = _one_setting(probe, readings[0])
    elif len(probe.swept) == 1:
        figure = _lines(probe)
    elif len(probe.swept) == 2:
        figure = _heat_maps(probe)
    else:
        figure = _bars(probe)
    partial = path.with_name(path.name + ".partial")
    figure.savefig(partial, format="png", dpi=130)
    os.replace(partial, path)


def bin_label(bin_: RateBin) -> str:
    """`0`, `1/64 – 1/32`, `1`."""
    if bin_.low == bin_.high:
        return f"{bin_.low:g}"
    return f"{Fraction(bin_.low)} – {Fraction(bin_.high)}"


def _new(width: float, height: float, title: str) -> Figure:
    figure = Figure(figsize=(width, height), layout="constrained")
    figure.suptitle(title, fontsize=12, color=INK)
    return figure


def _one_setting(probe: Probe, reading: Reading) -> Figure:
    """The histogram, the groups over N, the signal over N."""
    figure = _new(14, 4.3, f"{probe.task} with {probe.model}: pass@1 {reading.pass_at_1:.3f}")
    left, middle, right = figure.subplots(1, 3)
    _histogram(left, reading)
    _groups(middle, reading, probe.rollouts)
    _signal(right, reading, probe.rollouts)
    return figure


def _histogram(axes: Axes, reading: Reading) -> None:
    bins = reading.histogram
    colours = [
        COLOURS["dead"] if bin_.high == 0 else COLOURS["mastered"] if bin_.low == 1 else COLOURS["live"]
        for bin_ in bins
    ]
    bars = axes.bar(range(len(bins)), [bin_.prompts for bin_ in bins], width=0.88, color=colours)
    axes.bar_label(bars, [str(bin_.prompts) if bin_.prompts else "" for bin_ in bins], color=INK, padding=2)
    axes.set_xticks(range(len(bins)), [bin_label(bin_) for bin_ in bins], rotation=40, ha="right")
    axes.set(xlabel="pass rate", ylabel="prompts", title="How often prompts succeed")
    axes.margins(y=0.1)
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    _plain(axes)


def _groups(axes: Axes, reading: Reading, own: int) -> None:
    ns = [groups.rollouts for groups in reading.groups]
    _stack(axes.bar, range(len(ns)), reading.groups, "bottom")
    axes.set_xticks(range(len(ns)), [str(n) for n in ns])
    axes.get_xticklabels()[ns.index(own)].set_fontweight("bold")
    axes.set(ylim=(0, 1), ylabel="groups", title="Groups of N rollouts")
    axes.set_xlabel(f"N, rollouts per group (bold: the recipe's {own})")
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.17), ncols=3, frameon=False)
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    _plain(axes)


def _stack(
    draw: Callable[..., Any], places: Sequence[int], groups: Sequence[ExpectedGroups], base: str
) -> None:
    """Live, dead and mastered shares, one bar each way `draw` draws them, on top of one another."""
    edge = np.zeros(len(groups))
    for kind in ("live", "dead", "mastered"):
        shares = np.array([getattr(one, kind) for one in groups])
        draw(places, shares, 0.84, **{base: edge}, color=COLOURS[kind], label=kind)
        edge = edge + shares


def _signal(axes: Axes, reading: Reading, own: int) -> None:
    names = reading.groups[0].signal
    for name, marker in zip(names, "osD^vPX*" * len(names), strict=False):
        points = [
            (groups.rollouts, groups.signal[name])
            for groups in reading.groups
            if groups.signal[name] is not None
        ]
        if points:
            axes.plot(*zip(*points, strict=True), marker=marker, label=name, linewidth=2)
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_locator(FixedLocator([groups.rollouts for groups in reading.groups]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0f}"))
    axes.axvline(own, color=INK, linestyle=(0, (4, 2)), linewidth=1.2)
    axes.set(ylabel="mean |A| of a rollout", title="Expected signal")
    axes.set_xlabel(f"N, rollouts per group (dashed: the recipe's {own})")
    axes.set_ylim(bottom=0)
    if names:
        axes.legend(frameon=False)
    axes.grid(alpha=0.3)
    _plain(axes)


def _lines(probe: Probe) -> Figure:
    """One swept field: the groups, and pass@1, over its values."""
    ((name, values),) = probe.swept.items()
    figure = _new(8, 4.5, _sweep_title(probe))
    axes = figure.subplots()
    found = [(place, row.reading) for place, row in enumerate(probe.rows) if row.reading is not None]
    places = [place for place, _ in found]
    for kind, colour in COLOURS.items():
        shares = [getattr(reading.at(probe.rollouts), kind) for _, reading in found]
        axes.plot(
            places, shares, marker="o", color=colour, linewidth=2, label=f"{kind} groups of {probe.rollouts}"
        )
    rates = [reading.pass_at_1 for _, reading in found]
    axes.plot(places, rates, marker="s", color=INK, linewidth=2, linestyle="--", label="pass@1")
    axes.set_xticks(range(len(values)), [str(value) for value in values])
    axes.set(xlabel=name, ylim=(-0.03, 1.03), xlim=(-0.3, len(values) - 0.7))
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    axes.grid(alpha=0.3)
    figure.legend(loc="outside lower center", ncols=4, frameon=False)
    _plain(axes)
    return figure


def _heat_maps(probe: Probe) -> Figure:
    """Two swept fields: pass@1 and the live groups over both."""
    (down, rows), (across, columns) = probe.swept.items()
    height = 2.2 + 0.45 * len(rows)
    figure = _new(max(9.0, 3 + 1.5 * len(columns)), height, _sweep_title(probe))
    for axes, title, value in zip(
        figure.subplots(1, 2),
        ("pass@1", f"live groups of {probe.rollouts}"),
        (lambda reading: reading.pass_at_1, lambda reading: reading.at(probe.rollouts).live),
        strict=True,
    ):
        shown = np.full((len(rows), len(columns)), np.nan)
        for row in probe.rows:
            if row.reading is not None:
                place = rows.index(row.fields[down]), columns.index(row.fields[across])
                shown[place] = value(row.reading)
        _heat_map(axes, shown)
        axes.set_xticks(range(len(columns)), [str(one) for one in columns])
        axes.set_yticks(range(len(rows)), [str(one) for one in rows])
        axes.set(xlabel=across, ylabel=down, title=title)
    return figure


def _heat_map(axes: Axes, values: Any) -> None:
    """A colour and a number per cell; what was not measured stays blank."""
    axes.imshow(values, vmin=0, vmax=1, cmap="viridis", aspect="auto")
    for (i, j), value in np.ndenumerate(values):
        if np.isnan(value):
            axes.text(j, i, "–", ha="center", va="center", color=INK)
        else:
            axes.text(
                j, i, f"{value:.2f}", ha="center", va="center", color="black" if value > 0.6 else "white"
            )
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)


def _bars(probe: Probe) -> Figure:
    """Three swept fields or more: the groups of every setting as a stacked bar."""
    figure = _new(9, 1.8 + 0.32 * len(probe.rows), _sweep_title(probe))
    axes = figure.subplots()
    found = [(place, row.reading) for place, row in enumerate(probe.rows) if row.reading is not None]
    groups = [reading.at(probe.rollouts) for _, reading in found]
    _stack(axes.barh, [place for place, _ in found], groups, "left")
    axes.set_yticks(range(len(probe.rows)), [named(row.fields) for row in probe.rows])
    axes.set_ylim(len(probe.rows) - 0.5, -0.5)
    axes.set(xlim=(0, 1), xlabel=f"groups of {probe.rollouts}")
    axes.xaxis.set_major_formatter(PercentFormatter(1))
    figure.legend(loc="outside lower center", ncols=3, frameon=False)
    _plain(axes)
    return figure


def _sweep_title(probe: Probe) -> str:
    return f"{probe.task} with {probe.model}, N = {probe.rollouts}"


def _plain(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_axisbelow(True)
