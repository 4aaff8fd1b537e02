"""The picture of `maxrl inspect`: what is optimised, and how noisily."""

import math
from collections.abc import Mapping
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from maxrl.cli.inspect_tables import order_label
from maxrl.errors import InputError
from maxrl.objectives import ExactAnalysis, order_weight

SUFFIXES = (".svg", ".png", ".pdf")

HARDEST = 1e-3
"""The least pass rate that is drawn on logarithmic axes."""
LOG_GRID = [10 ** (math.log10(HARDEST) * (1 - step / 300)) * 0.999 for step in range(301)]
GRID = [step / 400 for step in range(401)]
LOOKS = ({"color": "C0", "linewidth": 2}, {"color": "C1", "linewidth": 2, "linestyle": (0, (6, 2))})
FAINT = 0.01
"""Weights below it are cut off: that of pass@k falls to nothing."""


def draw(exact: Mapping[str, ExactAnalysis], where: str, path: Path) -> Path:
    """Four panels: effective weight, utility, second moment, advantage mass. The legend stands below them.

    Raises:
        InputError: the file cannot be written.
    """
    figure = Figure(figsize=(9, 7), layout="constrained")
    weight, utility, moment, mass = figure.subplots(2, 2).flat
    likelihood = order_weight(LOG_GRID, math.inf)
    weight.plot(LOG_GRID, likelihood, "k:", label="maximum likelihood: w = 1/p")
    weight.axhline(1, color="0.5", linestyle="--", label="plain reinforcement learning: w = 1, J = p")
    utility.plot(GRID, GRID, color="0.5", linestyle="--")
    for (name, one), look in zip(exact.items(), LOOKS, strict=False):
        weight.plot(LOG_GRID, one.effective_weight(LOG_GRID), label=f"{name}: {order_label(one)}", **look)
        for axes, quantity in (
            (utility, one.utility),
            (moment, one.second_moment),
            (mass, one.advantage_mass),
        ):
            axes.plot(GRID, quantity(GRID), **look)
    weight.set(xscale="log", yscale="log")
    heights = [height for line in weight.lines for height in line.get_ydata() if height >= FAINT]
    weight.set_ylim(min(heights) / 1.5, max(heights) * 1.5)
    _label(weight, "Effective weight: E[update] = w(p) ∇p", "w(p)")
    _label(utility, "Utility: the objective that is climbed", "J(p)")
    _label(moment, "Second moment of a group's advantages", "E(Σ A²)")
    _label(mass, "Advantage mass: which prompts pull hardest", "E|A|")
    figure.suptitle(f"What the estimator optimises on 0/1 rewards, {where}")
    figure.legend(loc="outside lower center", ncols=2, frameon=False)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=150)
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}") from error
    return path


def _label(axes: Axes, title: str, quantity: str) -> None:
    axes.set_title(title, fontsize="medium")
    axes.set(xlabel="pass rate p", ylabel=quantity)
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
