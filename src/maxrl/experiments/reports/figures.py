"""Figures of the page on runs; colours, fonts and determinism come from `plots`."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator

from maxrl.experiments.intervals import Array, Interval
from maxrl.experiments.plots import (
    BEFORE,
    DASHES,
    HUES,
    INK,
    MARKERS,
    POINTS,
    colour,
    percent_axis,
    rate_colour,
    smooth,
    svg,
    thin,
)
from maxrl.experiments.reports.reading import AXES, CLASSES, RunData
from maxrl.experiments.reports.settings import WARM_START, Numbers, finished_or_all

STRETCHES = 40
"""Stretches of training that the classes of pass rates are averaged over."""

WHOLE, PANEL = (4.4, 2.7), (3.0, 2.0)
"""Inches: of a figure that stands alone, and of one of many, whose text must not shrink with it."""

_LABELLED = 10
"""Up to so many settings, points carry the setting's number."""


def front_plot(cells: Sequence[Numbers], looks: Mapping[str, int], ends: tuple[int, int]) -> str:
    """pass@k at the smallest k against the largest, every arm in every setting on a thin line from its warm start."""
    low, top = ends

    def draw(axes: Axes) -> None:
        for cell in cells:
            start, numbered = _place(cell, WARM_START, ends), False
            if start:
                axes.plot(*_middle(start), "o", color=BEFORE, markersize=5, markerfacecolor="none")
            for arm, look in looks.items():
                place = _place(cell, arm, ends)
                if place is None:
                    continue
                if start and arm not in cell.apart:
                    way = zip(_middle(start), _middle(place), strict=True)
                    axes.plot(*way, color=colour(look), linewidth=0.7, alpha=0.6)
                _point(axes, place, look, crossed=len(cells) <= _LABELLED)
                if 1 < len(cells) <= _LABELLED and not numbered:
                    numbered = True  # the number stands at one arm: its other arms lie close by
                    axes.annotate(
                        str(cell.number), _middle(place), (4, 3), textcoords="offset points", fontsize=7.5
                    )
        axes.set_xlabel(f"pass@{low}, %")
        axes.set_ylabel(f"pass@{top}, %")
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:g}"))
        axes.xaxis.set_major_locator(MaxNLocator(6))
        percent_axis(axes)

    return svg(
        "front", f"pass@{low} against pass@{top} of each arm and the warm start", draw, size=(4.8, 3.4)
    )


Place = tuple[Interval, Interval]


def _place(cell: Numbers, arm: str, ends: tuple[int, int]) -> Place | None:
    across, up = (cell.at(arm, k) for k in ends)
    return (across, up) if across and up else None


def _middle(place: Place) -> tuple[float, float]:
    return place[0].estimate, place[1].estimate


def _point(axes: Axes, place: Place, look: int, *, crossed: bool) -> None:
    across, up = place
    tint = colour(look)
    if crossed:
        axes.hlines(up.estimate, across.low, across.high, color=tint, linewidth=0.8, alpha=0.5)
        axes.vlines(across.estimate, up.low, up.high, color=tint, linewidth=0.8, alpha=0.5)
    axes.plot(*_middle(place), MARKERS[look % len(MARKERS)], color=tint, markersize=5)


def forest_plot(name: str, cells: Sequence[Numbers], looks: Mapping[str, int], k: int) -> str:
    """Paired differences at k, one line per setting: thick over problems, thin over seeds, too."""
    rows = [
        (cell, difference, cell.analysis.ks.index(k))
        for cell in cells
        if cell.analysis and k in cell.analysis.ks
        for difference in cell.analysis.differences
    ]

    def draw(axes: Axes) -> None:
        axes.axvline(0, color=INK, linewidth=0.9)
        edges = [100 * bound for _, d, at in rows for bound in (d.pass_at_k[at].low, d.pass_at_k[at].high)]
        edges = [edge for edge in edges if np.isfinite(edge)] or [0.0]  # of a single problem there are none
        reach = max(map(abs, edges)) or 1.0
        axes.set_xlim(min(-0.1 * reach, 1.7 * min(edges)), max(0.1 * reach, 1.7 * max(edges)))
        for height, (_, difference, at) in enumerate(rows):
            look = looks[difference.first]
            interval, tint = difference.pass_at_k[at], colour(look)
            for wide in difference.over_seeds[at : at + 1]:
                axes.hlines(height, 100 * wide.low, 100 * wide.high, color=tint, linewidth=0.8, alpha=0.8)
            axes.hlines(height, 100 * interval.low, 100 * interval.high, color=tint, linewidth=2.6)
            axes.plot(
                100 * interval.estimate,
                height,
                MARKERS[look % len(MARKERS)],
                color=tint,
                markersize=5.5,
                markerfacecolor=tint if interval.sign else "none",
            )
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.yaxis.set_major_locator(FixedLocator(list(range(len(rows)))))
        axes.set_yticklabels([str(cell.number) for cell, _, _ in rows])
        axes.set_ylabel("setting")
        axes.set_xlabel(f"difference of pass@{k}, points")

    return svg(
        f"{name}-{k}",
        f"Differences of pass@{k} by setting",
        draw,
        size=(4.4, min(9.0, 1.1 + 0.21 * len(rows))),
    )


def curve_plot(
    name: str,
    cell: Numbers,
    looks: Mapping[str, int],
    metric: str,
    label: str,
    *,
    axis: str = "step",
    share: bool = True,
    size: tuple[float, float] = WHOLE,
) -> str | None:
    """A training metric against a budget: mean over an arm's runs, a band from the lowest to the highest run, a cross
    where a run ended early. None where nothing was logged."""
    arms = {
        arm: [run for run in cell.runs_of(arm) if metric in run.columns and axis in run.columns]
        for arm in looks
    }
    runs = [run for own in arms.values() for run in own]
    last = max((run.last(axis) for run in runs), default=0.0)
    if last <= 0:
        return None
    grid = np.linspace(last / POINTS, last, POINTS)

    def draw(axes: Axes) -> None:
        for arm, own in arms.items():
            look = looks[arm]
            if own:
                _band(axes, [_on_grid(run, axis, metric, grid) for run in finished_or_all(own)], grid, look)
            for run in own:
                if run.state == "failed":
                    x, y = _known(run, axis, metric)
                    axes.plot(x[-1:], y[-1:], "x", color=colour(look), markersize=6, markeredgewidth=1.6)
        axes.set_xlabel(AXES[axis])
        axes.set_ylabel(f"{label}, %" if share else label)
        axes.xaxis.set_major_locator(MaxNLocator(_ticks(size)))
        axes.yaxis.set_major_locator(MaxNLocator(5))
        axes.xaxis.set_major_formatter(FuncFormatter(_short))
        if share:
            percent_axis(axes)
            low, high = axes.get_ylim()
            axes.set_ylim(max(low, -0.02), min(high, 1.02))

    where = f", setting {cell.number}" if cell.setting.values else ""
    return svg(f"{name}-{cell.number}", f"{label} against {AXES[axis]}{where}", draw, size=size)


def _ticks(size: tuple[float, float]) -> int:
    return 6 if size == WHOLE else 4


def _short(value: float, _: object) -> str:
    """1,500 and 2.5 M rather than 1500 and 2500000."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if abs(value) >= size:
            return f"{value / (1e3 if letter == 'k' else size):g} {letter}"
    return f"{value:g}"


def _known(run: RunData, axis: str, metric: str) -> tuple[Array, Array]:
    x_T, y_T = run.columns[axis], run.columns[metric]
    known_T = np.isfinite(x_T) & np.isfinite(y_T)
    return x_T[known_T], y_T[known_T]


def _on_grid(run: RunData, axis: str, metric: str, grid: Array) -> Array:
    """A run's smoothed curve at the grid's places; NaN beyond what it reached."""
    x_T, y_T = _known(run, axis, metric)
    if not len(x_T):
        return np.full(len(grid), np.nan)
    x_T, y_T = thin(x_T, y_T, grid[0])
    if len(x_T) == 1:  # one row was logged: one point
        return np.where(np.arange(len(grid)) == np.abs(grid - x_T[0]).argmin(), y_T[0], np.nan)
    return np.interp(grid, x_T, smooth(y_T), left=np.nan, right=np.nan)


def _band(axes: Axes, curves: Sequence[Array], grid: Array, look: int) -> None:
    values = np.array(curves)
    reached = np.isfinite(values).all(axis=0)  # a mean of ever fewer runs would jump where one ends
    tint, dash = colour(look), DASHES[look // HUES % len(DASHES)]
    inside = values[:, reached]
    if len(values) > 1:
        axes.fill_between(
            grid[reached], inside.min(axis=0), inside.max(axis=0), color=tint, alpha=0.18, linewidth=0
        )
    mark = MARKERS[look % len(MARKERS)] if reached.sum() == 1 else None
    axes.plot(grid[reached], inside.mean(axis=0), color=tint, linestyle=dash, linewidth=1.9, marker=mark)


def class_shares(runs: Sequence[RunData]) -> tuple[Array, Array] | None:
    """Share of groups in each of `CLASSES` over stretches of training, all runs together: steps and (stretches, C)."""
    steps = np.concatenate([run.class_steps_T for run in runs]) if runs else np.empty(0)
    if not len(steps):
        return None
    counts = np.concatenate([run.classes_TC for run in runs])
    width = max(1.0, float(steps.max()) / STRETCHES)
    stretch = np.floor((steps - 1) / width).astype(int)
    sums = np.zeros((stretch.max() + 1, len(CLASSES)))
    np.add.at(sums, stretch, counts)
    filled = sums.sum(axis=1) > 0
    middles = (np.arange(len(sums)) + 0.5) * width + 0.5
    return middles[filled], sums[filled] / sums[filled].sum(axis=1, keepdims=True)


def classes_plot(cell: Numbers, arm: str, look: int, *, size: tuple[float, float] = WHOLE) -> str | None:
    """Groups by the share of their rollouts that succeeded, stacked, over training."""
    found = class_shares(cell.shown(arm))
    if found is None:
        return None
    steps, shares = found
    if len(steps) == 1:
        steps, shares = np.array([steps[0] - 0.5, steps[0] + 0.5]), np.repeat(shares, 2, axis=0)

    def draw(axes: Axes) -> None:
        edge = np.zeros(len(steps))
        for place in range(len(CLASSES)):
            above = edge + shares[:, place]
            axes.fill_between(steps, edge, above, color=rate_colour(place), linewidth=0)
            edge = above
        axes.set_xlim(steps[0], steps[-1])
        axes.set_ylim(0, 1)
        axes.grid(visible=False)
        axes.set_xlabel(AXES["step"])
        axes.set_ylabel("share of groups, %")
        axes.xaxis.set_major_locator(MaxNLocator(_ticks(size)))
        axes.yaxis.set_major_locator(FixedLocator([0, 0.25, 0.5, 0.75, 1]))
        percent_axis(axes)

    label = f"Groups by pass rate over training of {arm}, setting {cell.number}"
    return svg(f"classes-{cell.number}-{look}", label, draw, size=size)
