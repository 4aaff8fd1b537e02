"""Pictures and tables of the notebooks: markup that marimo shows inline, legible in its light and its dark theme.

Everything is drawn by `plots` with its stand-in colours. The page of a notebook has no style sheet of ours, so each figure
brings the colours with it, as `light-dark()` of the theme that the page declares.
"""

from collections.abc import Callable, Mapping, Sequence
from html import escape
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes

from maxrl.evaluation.files import atomic_text
from maxrl.experiments import plots
from maxrl.experiments.notebooks.toy import Array, Lane, RaceSettings, expected_gradient
from maxrl.experiments.notebooks.toy_plots import (
    draw_masses,
    draw_race,
    draw_weights,
    legend_above,
    logarithmic_rates,
    plain_logarithm,
)
from maxrl.objectives import ExactAnalysis, order_weight

COLOURS = {
    "--arm-0": ("#0072b2", "#5cb3ec"),
    "--arm-1": ("#d55e00", "#ff9455"),
    "--arm-2": ("#00875f", "#35c79a"),
    "--arm-3": ("#a8487e", "#e597c3"),
    "--arm-4": ("#8a6d00", "#dcbc4a"),
    "--arm-5": ("#5146b5", "#a9a0ff"),
    "--before": ("#7d858d", "#98a1aa"),
    "--grid": ("#d5d3cd", "#4a515a"),
}
"""The style sheet's, for light and dark pages."""

LOOKS = ((plots.BEFORE, "--"), (plots.BEFORE, ":"), (plots.colour(0), "-"), (plots.colour(1), "-"))
"""Of the weights: ideals grey, MaxRL and GRPO in the colours that they have in every figure."""

WIDEST = 34
"""Of a figure in rem; on a phone it takes the page's width."""

SIZE = (4.2, 2.9)
"""Of a figure in inches, so that its text is legible on a phone."""

Draw = Callable[[Axes], None]


def figure(
    name: str,
    label: str,
    draw: Draw,
    *,
    size: tuple[float, float] = SIZE,
    data: Mapping[str, object] | None = None,
) -> str:
    """A figure as markup.

    Args:
        name: of the figure, of which a page shows one; part of the ids in it.
        label: what a screen reader says.
        draw: draws on the axes.
        size: in inches; the page scales it.
        data: attributes `data-…` of the figure, for whoever wants to know what it shows.
    """
    colours = "".join(f"{name}:light-dark({light},{dark});" for name, (light, dark) in COLOURS.items())
    attributes = "".join(f' data-{key}="{escape(str(value))}"' for key, value in (data or {}).items())
    svg = plots.svg(name, label, draw, size=size)
    svg = svg.replace("<svg ", '<svg style="display:block;width:100%;height:auto;overflow:visible" ', 1)
    style = f"{colours}max-width:{WIDEST}rem;width:100%"
    return f'<div class="maxrl-figure" id="figure-{name}"{attributes} style="{style}">{svg}</div>'


def save_figure(markup: str, path: Path) -> Path:
    """Write a figure as an SVG file of its own, which follows the reader's light or dark theme."""
    svg = markup[markup.index("<svg") : markup.rindex("</svg>") + len("</svg>")]
    names = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
    light = "".join(f"{name}:{value};" for name, (value, _) in COLOURS.items())
    dark = "".join(f"{name}:{value};" for name, (_, value) in COLOURS.items())
    style = (
        f"<style>svg{{{light}color:#1d2126;background:#fff;font-family:sans-serif}}"
        f"@media(prefers-color-scheme:dark){{svg{{{dark}color:#e4e2dd;background:#15181c}}}}</style>"
    )
    opening = svg.index(">") + 1
    with atomic_text(path) as sink:
        sink.write(svg[:opening].replace("<svg", f"<svg {names}", 1) + style + svg[opening:])
    return path


def side_by_side(*figures: str) -> str:
    """Figures in a row where there is room, below each other on a phone."""
    cells = "".join(
        f'<div style="flex:1 1 24rem;min-width:0;max-width:{WIDEST}rem">{one}</div>' for one in figures
    )
    return f'<div style="display:flex;flex-wrap:wrap;gap:1rem 2rem">{cells}</div>'


def table(head: Sequence[str], rows: Sequence[Sequence[object]], *, figures: bool = True) -> str:
    """A small table: the first column names the row, figures stand to the right; it scrolls where it is too wide."""
    cell = "padding:.3rem .9rem .3rem 0;vertical-align:top;"
    line = "border-top:1px solid light-dark(#dcdad4,#333941);"

    def row(values: Sequence[object], kind: str, more: str = "") -> str:
        cells = "".join(
            f'<{kind} style="{cell}{more}{_NAME if not column else _FIGURE if figures else _TEXT}">'
            f"{escape(str(value))}</{kind}>"
            for column, value in enumerate(values)
        )
        return f"<tr>{cells}</tr>"

    body = "".join(row(values, "td", line) for values in rows)
    return (
        '<div style="overflow-x:auto"><table style="border-collapse:collapse;font-size:.9rem;'
        f'font-variant-numeric:tabular-nums">{row(head, "th", "font-weight:600;")}{body}</table></div>'
    )


_NAME = "text-align:left"
_TEXT = "text-align:left;overflow-wrap:anywhere"
_FIGURE = "text-align:right;white-space:nowrap"


# ---------------------------------------------------------------------------------------------------------
# The toy
# ---------------------------------------------------------------------------------------------------------


def weights_figure(rates: Sequence[float], curves: Mapping[str, Array]) -> str:
    """1/p against 1/√(p(1−p)), and what groups really give; low pass rates shaded."""
    return figure(
        "weights",
        "Weights over the pass rate",
        lambda axes: draw_weights(axes, rates, curves, LOOKS),
    )


def masses_figure(rates: Sequence[float], exact: Mapping[str, Array], sampled: Mapping[str, Array]) -> str:
    """Mean |A|: exact lines, Monte-Carlo dots."""
    return figure(
        "masses",
        "Mean absolute advantage over the pass rate",
        lambda axes: draw_masses(axes, rates, exact, sampled, plots.colour),
    )


def race_figure(lanes: Sequence[Lane]) -> str:
    """Pass rates over steps; `data-end` has the expected ones at the end."""
    ends = ",".join(f"{lane.expected[-1]:.4f}" for lane in lanes)
    return figure(
        "race",
        "Pass rate over steps for each estimator",
        lambda axes: draw_race(axes, lanes, plots.colour),
        data={"end": ends},
    )


def race_rows(lanes: Sequence[Lane]) -> tuple[list[str], list[list[str]]]:
    """Head and rows of a table under the race."""
    rows: list[list[str]] = []
    for lane in lanes:
        expected, middle, span, reached, share = lane.outcome()
        rows.append([lane.name, expected, f"{middle} {span}", reached, share])
    return ["", "p at the end", "sampled (90 %)", "step of p = ½", "paths at ½"], rows


def score_rows(settings: RaceSettings, lanes: Sequence[Lane]) -> tuple[list[str], list[list[str]]]:
    """Head and rows: mean score and expected gradients at the start, with the right score and the one of difficulty 1."""
    policy, p = settings.policy, settings.p0
    both = [
        tuple(float(score) for score in scores(settings.theta0))
        for scores in (policy.scores, policy.naive_scores)
    ]
    rows = [["mean score E[S]", *(f"{p * success + (1 - p) * failure:+.5f}" for success, failure in both)]]
    for lane in lanes:
        gradients = [expected_gradient(lane.exact, p, scores) for scores in both]
        rows.append([f"expected gradient, {lane.name}", *(f"{gradient:+.5f}" for gradient in gradients)])
    return [f"d = {settings.difficulty:g}", "with S", "with r − σ(θ)"], rows


# ---------------------------------------------------------------------------------------------------------
# An estimator
# ---------------------------------------------------------------------------------------------------------

RATES = tuple(np.geomspace(1e-3, 0.999, 200))
FAINT = 0.01
"""Weights below it are cut off: that of pass@k falls to nothing."""


def weight_figure(exact: ExactAnalysis, name: str, p: float) -> str:
    """w(p) of an estimator between plain reinforcement learning and maximum likelihood, with the chosen p marked."""
    weights = exact.effective_weight(list(RATES)).numpy()
    chosen = float(exact.effective_weight(p))

    def draw(axes: Axes) -> None:
        axes.plot(
            RATES,
            [order_weight(rate, float("inf")) for rate in RATES],
            ":",
            color=plots.BEFORE,
            label="1/p, maximum likelihood",
        )
        axes.axhline(1, color=plots.BEFORE, linestyle="--", linewidth=1.2, label="1, plain RL")
        axes.plot(RATES, weights, color=plots.colour(0), linewidth=2.2, label=name)
        axes.axvline(p, color=plots.INK, linewidth=0.8)
        axes.plot([p], [chosen], "o", color=plots.colour(0), markersize=6)
        axes.set(
            xscale="log",
            yscale="log",
            xlim=(RATES[0], 1),
            xlabel="pass rate p",
            ylabel="effective weight w(p)",
        )
        heights = [
            value for line in axes.lines for value in np.atleast_1d(line.get_ydata()) if value >= FAINT
        ]
        axes.set_ylim(min(heights) / 1.5, max(heights) * 1.5)
        logarithmic_rates(axes)
        plain_logarithm(axes)
        legend_above(axes)

    return figure(
        "weight",
        "Effective weight over the pass rate",
        draw,
        data={"weight": f"{chosen:.6f}"},
    )


def utility_figure(exact: ExactAnalysis, name: str, p: float) -> str:
    """J(p), with plain reinforcement learning's J = p."""
    grid = list(np.linspace(0, 1, 201))
    values = exact.utility(grid).numpy()

    def draw(axes: Axes) -> None:
        axes.plot(grid, grid, "--", color=plots.BEFORE, linewidth=1.2, label="p, plain RL")
        axes.plot(grid, values, color=plots.colour(0), linewidth=2.2, label=name)
        axes.axvline(p, color=plots.INK, linewidth=0.8)
        axes.plot([p], [float(exact.utility(p))], "o", color=plots.colour(0), markersize=6)
        axes.set(xlabel="pass rate p", ylabel="utility J(p)", xlim=(0, 1))
        legend_above(axes)

    return figure("utility", "The objective that is climbed", draw)


def noise_figure(rates: Sequence[float], ratios: Mapping[str, Sequence[float]], p: float) -> str:
    """Signal to noise of one group's gradient over p, the estimator among others."""

    def draw(axes: Axes) -> None:
        for index, (name, values) in enumerate(ratios.items()):
            axes.plot(
                rates, values, color=plots.colour(index), linewidth=2.2 if index == 0 else 1.3, label=name
            )
        axes.axvline(p, color=plots.INK, linewidth=0.8)
        axes.set(
            xscale="log",
            yscale="log",
            xlim=(rates[0], rates[-1]),
            xlabel="pass rate p",
            ylabel="signal/noise of a group",
        )
        logarithmic_rates(axes)
        plain_logarithm(axes)
        legend_above(axes)

    return figure("noise", "Signal-to-noise ratio over the pass rate", draw)


def advantages_figure(exact: ExactAnalysis) -> str:
    """Advantages of successes and failures in a group with K = 0 … N successes."""
    pairs = np.array(exact.pairs, dtype=np.float64)
    n = exact.n

    def draw(axes: Axes) -> None:
        axes.axhline(0, color=plots.INK, linewidth=0.8)
        marker = "o" if n <= 48 else ""
        axes.plot(
            range(1, n + 1),
            pairs[1:, 0],
            marker=marker,
            color=plots.colour(2),
            markersize=3.5,
            linewidth=1.2,
            label="of a success",
        )
        axes.plot(
            range(n),
            pairs[:-1, 1],
            marker=marker,
            color=plots.colour(1),
            markersize=3.5,
            linewidth=1.2,
            label="of a failure",
        )
        axes.set(xlabel="K, successes in the group", ylabel="advantage", xlim=(-0.02 * n, 1.02 * n))
        legend_above(axes)

    return figure("advantages", "Advantages over the number of successes", draw)
