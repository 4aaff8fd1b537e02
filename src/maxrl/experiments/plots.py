"""The report's figures as inline SVG, drawn once and legible on light and dark pages.

Figures use stand-in colours, which become CSS (`currentColor`, `var(--arm-0)` …) in the markup; the page
decides what they look like. Text stays text in the page's own font. The same data gives the same bytes.
"""

import io
import math
import re
from collections.abc import Callable, Mapping, Sequence
from html import escape

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from maxrl.experiments.records import RunRecord
from maxrl.experiments.statistics import HISTOGRAM_LABELS, Analysis, ArmResult

Series = tuple[np.ndarray, np.ndarray]
"""Steps and values."""

HUES = 6
"""Colours in the style sheet (`--arm-0` …); further arms repeat them with another dash."""
RATES = 7
"""Colours of pass rates from none to all (`--rate-0` …)."""
DASHES = ("-", (0, (5, 1.5)), (0, (3, 1, 1, 1)))
MARKERS, MARKS = "osD^vP", "●■◆▲▼✚"
"""Points of arms in figures, and the same in the page's legends."""

INK, GRID, BEFORE = "#010203", "#010204", "#010205"
STAND_INS = {
    INK: "currentColor",
    GRID: "var(--grid)",
    BEFORE: "var(--before)",
    **{f"#0101{i:02x}": f"var(--arm-{i})" for i in range(HUES)},
    **{f"#0103{i:02x}": f"var(--rate-{i})" for i in range(RATES)},
}
POINTS = 100
"""Longer training curves are averaged down to so many points per line."""

STYLE = {
    "svg.fonttype": "none",
    "font.size": 8.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": GRID,
    "axes.labelcolor": INK,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "text.color": INK,
    "xtick.color": GRID,
    "ytick.color": GRID,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "lines.linewidth": 1.6,
}


def colour(index: int) -> str:
    """The stand-in colour of an arm."""
    return f"#0101{index % HUES:02x}"


def pass_at_k_plot(
    analysis: Analysis,
    looks: Mapping[str, int],
    name: str = "pass-at-k",
    label: str = "pass@k against k for the warm start and each arm",
    size: tuple[float, float] = (4.8, 3.1),
) -> str:
    """pass@k against k (log2) with bands; the warm start dashed."""

    def draw(axes: Axes) -> None:
        for result in (*([analysis.before] if analysis.before else []), *analysis.arms):
            _pass_at_k_line(axes, analysis, result, looks.get(result.name))
        _log2_axis(axes, analysis.ks)
        axes.set_ylabel("pass@k, %")
        percent_axis(axes)

    return svg(name, label, draw, size=size)


def _pass_at_k_line(axes: Axes, analysis: Analysis, result: ArmResult, look: int | None) -> None:
    tint = BEFORE if look is None else colour(look)
    dash = (0, (4, 2)) if look is None else DASHES[look // HUES % len(DASHES)]
    low, high = [i.low for i in result.curve], [i.high for i in result.curve]
    axes.fill_between(analysis.curve_ks, low, high, color=tint, alpha=0.15, linewidth=0)
    axes.plot(analysis.curve_ks, [i.estimate for i in result.curve], color=tint, linestyle=dash)
    if look is not None:
        marks = [i.estimate for i in result.pass_at_k]
        axes.plot(analysis.ks, marks, MARKERS[look % len(MARKERS)], color=tint, markersize=4)


def rate_colour(index: int) -> str:
    """The stand-in colour of a class of pass rates."""
    return f"#0103{index:02x}"


def difference_plot(analysis: Analysis, looks: Mapping[str, int]) -> str:
    """Paired differences in points at each k, one interval per other arm."""

    def draw(axes: Axes) -> None:
        axes.axhline(0, color=INK, linewidth=0.9)
        others = analysis.differences
        for j, difference in enumerate(others):
            tint = colour(looks[difference.other])
            shift = 2 ** (0.16 * (j - (len(others) - 1) / 2))
            for k, seeds in zip(analysis.ks, zip(*difference.by_seed, strict=True), strict=False):
                x = [k * shift * 1.07] * len(seeds)
                axes.plot(x, [100 * s for s in seeds], "_", color=tint, markersize=5, alpha=0.7)
            x = [k * shift for k in analysis.ks]
            low, mid, high = (
                [100 * getattr(i, part) for i in difference.pass_at_k] for part in ("low", "estimate", "high")
            )
            axes.vlines(x, low, high, color=tint, linewidth=1.8)
            axes.plot(x, mid, MARKERS[looks[difference.other] % len(MARKERS)], color=tint, markersize=4.5)
        _log2_axis(axes, analysis.ks)
        axes.set_xlim(analysis.ks[0] / 1.4, analysis.ks[-1] * 1.4)
        axes.set_ylabel("difference, points")

    return svg("differences", "Paired differences of pass@k with intervals", draw, size=(4.8, 2.9))


def histogram_plot(analysis: Analysis, arm: ArmResult, look: int) -> str:
    """Pass rates over problems: an arm as bars, the warm start as a dashed outline; one scale for all arms."""
    before = analysis.before
    top = max(share for result in (before, *analysis.arms) for share in result.histogram)

    def draw(axes: Axes) -> None:
        edges = np.arange(len(HISTOGRAM_LABELS) + 1) - 0.5
        axes.bar(range(len(edges) - 1), arm.histogram, width=0.86, color=colour(look), alpha=0.75)
        axes.stairs(before.histogram, edges, color=BEFORE, linestyle=(0, (3, 1.5)), linewidth=1.4)
        axes.xaxis.set_major_locator(FixedLocator([0, 2, 4, 6, 8, 11]))
        axes.set_xticklabels(["none", "≤20", "≤40", "≤60", "≤80", "all"])
        axes.grid(visible=False, axis="x")
        axes.set_xlabel("pass rate of a problem, %")
        axes.set_ylabel("share of problems, %")
        axes.set_ylim(0, 1.08 * top)
        percent_axis(axes)

    return svg(f"histogram-{look}", f"Pass rates over problems before and after {arm.name}", draw)


def training_plot(
    metric: str, label: str, runs: Sequence[RunRecord], looks: Mapping[str, int], unit: bool
) -> str:
    """A training metric against the step: a thin line per seed, a thick smoothed mean per arm."""

    last = max((steps[-1] for run in runs if len(steps := series(run, metric)[0])), default=1.0)
    width = max(1.0, last / POINTS)

    def draw(axes: Axes) -> None:
        for name, look in looks.items():
            mine = [run for run in runs if run.estimator == name]
            tint, dash = colour(look), DASHES[look // HUES % len(DASHES)]
            for run in mine:
                steps, values = thin(*series(run, metric), width)
                axes.plot(steps, values, color=tint, linewidth=0.6, alpha=0.45)
                if run.status == "failed" and len(steps):
                    axes.plot(steps[-1:], values[-1:], "x", color=tint, markersize=6, markeredgewidth=1.6)
            steps, values = mean_series([run for run in mine if run.status == "done"], metric)
            axes.plot(*thin(steps, smooth(values), width), color=tint, linewidth=2.2, linestyle=dash)
        axes.set_xlabel("training step")
        axes.set_ylabel(f"{label}, %" if unit else label)
        if unit:
            percent_axis(axes)
            low, high = axes.get_ylim()
            axes.set_ylim(max(low, -0.02), min(high, 1.02))

    return svg(f"training-{metric}".replace("_", "-"), f"{label} during training", draw)


def series(run: RunRecord, metric: str) -> Series:
    """Steps and values of a metric where it was logged as a finite number."""
    rows = [
        (float(row["step"]), float(row[metric]))
        for row in run.metrics
        if "step" in row and isinstance(row.get(metric), int | float) and math.isfinite(row[metric])
    ]
    columns = np.array(sorted(rows), dtype=np.float64).reshape(-1, 2)
    return columns[:, 0], columns[:, 1]


def mean_series(runs: Sequence[RunRecord], metric: str) -> Series:
    """Mean over runs, at the steps that all runs with the metric logged."""
    logged = [dict(zip(*series(run, metric), strict=True)) for run in runs]
    logged = [one for one in logged if one]
    steps = sorted(set.intersection(*(set(one) for one in logged))) if logged else []
    return np.array(steps), np.array([np.mean([one[step] for one in logged]) for step in steps])


def smooth(values: np.ndarray) -> np.ndarray:
    """Running mean over a twentieth of the values, narrower at the ends."""
    half = len(values) // 40
    return np.array([values[max(0, i - half) : i + half + 1].mean() for i in range(len(values))])


def thin(steps: np.ndarray, values: np.ndarray, width: float) -> Series:
    """Means over stretches of `width` steps."""
    if not len(steps):
        return steps, values
    _, stretch = np.unique(np.floor((steps - 1) / width), return_inverse=True)
    members = np.bincount(stretch)
    return np.bincount(stretch, steps) / members, np.bincount(stretch, values) / members


def _log2_axis(axes: Axes, ks: Sequence[int]) -> None:
    axes.set_xscale("log", base=2)
    shown = list(ks) if len(ks) <= 12 else [k for k in ks if k & (k - 1) == 0] or list(ks)
    axes.xaxis.set_major_locator(FixedLocator(shown))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticklabels([str(k) for k in shown])
    axes.set_xlabel("k, samples per problem")


def percent_axis(axes: Axes) -> None:
    """Shares as % without the sign, up the side."""
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:g}"))


def svg(name: str, label: str, draw: Callable[[Axes], None], size: tuple[float, float] = (4.4, 2.9)) -> str:
    """Draw on fresh axes; return markup that takes its colours and its font from the page."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update({**STYLE, "svg.hashsalt": f"maxrl {name}"})
        figure = Figure(figsize=size)
        width, height = size
        figure.subplots_adjust(
            left=0.55 / width, right=1 - 0.07 / width, bottom=0.43 / height, top=1 - 0.07 / height
        )
        draw(figure.add_subplot())
        buffer = io.StringIO()
        nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        figure.savefig(buffer, format="svg", transparent=True, metadata=nothing)
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    box = re.search(r'viewBox="([^"]*)"', svg)
    assert box is not None
    opening = f'<svg viewBox="{box[1]}" role="img" aria-label="{escape(label)}">'
    svg = opening + svg[svg.index(">") + 1 :]
    svg = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>", "", svg, count=1, flags=re.DOTALL)
    svg = re.sub(r" font-family: [^;]*;", "", svg)
    svg = re.sub(r'\bid="', f'id="{name}-', svg)
    svg = re.sub(r"url\(#", f"url(#{name}-", svg)
    svg = re.sub(r'xlink:href="#', f'href="#{name}-', svg)
    svg = re.sub(r"(\d\.\d\d)\d+", r"\1", svg)
    for stand_in, css in STAND_INS.items():
        svg = svg.replace(stand_in, css)
    return re.sub(r"\n\s*", "\n", svg).strip()
