"""`maxrl inspect`."""

import argparse
import math
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

from maxrl.errors import InputError
from maxrl.objectives import ESTIMATORS, Estimator, effective_weight, get_estimator, order_weight

PASS_RATES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9, 0.95, 0.99)
"""Where the table evaluates the weights."""

BAR_WIDTH = 16
"""Columns for all bars together; the table fits a terminal of 80."""

DESCRIPTION = """\
What an estimator really optimises. With binary rewards and N rollouts the expected update is w(p) times the gradient
of the pass rate p; w is computed exactly, from the estimator's own code. Maximum likelihood is w = 1/p, plain
reinforcement learning w = 1; the truncation of order T lies between: (1 − (1 − p)^T)/p.

With --rewards, the advantages of one group instead, rollout by rollout."""

EXAMPLES = """\
examples:
  maxrl inspect --estimator maxrl --n 16
  maxrl inspect --estimator maxrl --n 16 --vs grpo --plot weights.svg
  maxrl inspect --estimator maxrl --rewards 1,0,0,1 --vs grpo
  maxrl inspect --rewards 28.6,28.0,-4.5,5.0,25.1 --threshold 20 --vs grpo"""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message} (maxrl inspect --help shows what there is)")


def run(argv: Sequence[str]) -> int:
    """Print weights or advantages."""
    parser = _Parser(
        prog="maxrl inspect",
        description=DESCRIPTION,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    names = ", ".join(ESTIMATORS)
    parser.add_argument("--estimator", default="maxrl", metavar="NAME", help=f"one of {names}")
    parser.add_argument("--vs", metavar="NAME", help="another estimator beside it")
    parser.add_argument("--n", type=int, default=16, metavar="N", help="rollouts per group (default 16)")
    parser.add_argument("--p", metavar="P,P,…", help="pass rates of the table, between 0 and 1")
    parser.add_argument("--rewards", metavar="R,R,…", help="rewards of one group; 'none' for a missing one")
    parser.add_argument(
        "--threshold", type=float, metavar="T", help="with --rewards: success is a reward above T"
    )
    parser.add_argument(
        "--plot", type=Path, metavar="FILE", help="also draw the weights (.svg, .png or .pdf)"
    )
    options = parser.parse_args(_joined(argv))

    chosen = [options.estimator] + ([options.vs] if options.vs else [])
    estimators = {name: get_estimator(name) for name in chosen}
    if options.rewards is not None:
        if options.plot:
            raise InputError("--plot draws weights, not advantages: leave out --rewards")
        rewards = _numbers(options.rewards, "--rewards", missing=True)
        Console().print(advantage_table(estimators, rewards, options.threshold))
        return 0
    if options.threshold is not None:
        raise InputError("--threshold applies to --rewards")
    if options.plot and options.plot.suffix.lower() not in (".svg", ".png", ".pdf"):
        raise InputError(f"--plot must end in .svg, .png or .pdf, but is {options.plot}")
    if options.n < 1:
        raise InputError(f"--n must be at least 1, but is {options.n}")
    pass_rates = _numbers(options.p, "--p") if options.p else list(PASS_RATES)
    if any(not 0 < p <= 1 for p in pass_rates):
        raise InputError(f"--p must lie between 0 and 1, but is {options.p}")
    Console().print(weight_table(estimators, pass_rates, options.n))
    if options.plot:
        print(f"plot: {weight_plot(estimators, options.n, options.plot)}")
    return 0


def _joined(argv: Sequence[str]) -> list[str]:
    """`--rewards -1,0` as one word: argparse takes a list that begins with a minus for an option."""
    words = list(argv)
    for index in range(len(words) - 1, 0, -1):
        if words[index - 1] == "--rewards" and re.match(r"-[\d.]", words[index]):
            words[index - 1 : index + 1] = [f"--rewards={words[index]}"]
    return words


def _numbers(text: str, option: str, *, missing: bool = False) -> list[float]:
    values: list[float] = []
    for word in text.split(","):
        if missing and word.strip().lower() in ("none", "nan"):
            values.append(math.nan)
            continue
        try:
            values.append(float(word))
        except ValueError:
            raise InputError(f"{option} must be numbers separated by commas, but has '{word}'") from None
    return values


def weight_table(estimators: dict[str, Estimator], pass_rates: Sequence[float], n: int) -> Table:
    """Exact effective weights over the pass rate, each with a bar in proportion to the table's largest."""
    weights = {name: [effective_weight(it, p, n) for p in pass_rates] for name, it in estimators.items()}
    largest = max(max(map(abs, values)) for values in weights.values()) or 1.0
    width = BAR_WIDTH // len(weights)
    table = Table(title=f"effective weight w(p) at N = {n}")
    table.add_column("p", justify="right")
    for name, estimator in estimators.items():
        table.add_column(f"{name}\n{_order(estimator, n)}", justify="right")
        table.add_column("", min_width=width)
    table.add_column("likelihood\n1/p", justify="right")
    for row, p in enumerate(pass_rates):
        cells: list[str] = []
        for values in weights.values():
            bar = "█" * round(width * abs(values[row]) / largest)
            cells += [f"{values[row]:.4f}", bar or "▏"]
        table.add_row(f"{p:g}", *cells, f"{1 / p:.4f}")
    table.caption = "\n".join(f"{name}: A = {estimator.formula}" for name, estimator in estimators.items())
    return table


def _order(estimator: Estimator, n: int) -> str:
    order = estimator.target_order(n)
    return "no order" if order is None else f"order T = {order}"


def advantage_table(
    estimators: dict[str, Callable[..., Any]], rewards: Sequence[float], threshold: float | None
) -> Table:
    """The advantages of one group, rollout by rollout."""
    signal = [r if threshold is None or math.isnan(r) else float(r > threshold) for r in rewards]
    advantages = {name: estimator([signal])[0].tolist() for name, estimator in estimators.items()}
    table = Table(title=f"advantages of one group of {len(rewards)}")
    table.add_column("rollout", justify="right")
    table.add_column("reward", justify="right")
    if threshold is not None:
        table.add_column(f"reward > {threshold:g}", justify="right")
    for name in advantages:
        table.add_column(name, justify="right")
    for row, reward in enumerate(rewards):
        cells = [str(row), "missing" if math.isnan(reward) else f"{reward:g}"]
        if threshold is not None:
            cells.append("missing" if math.isnan(reward) else f"{signal[row]:g}")
        table.add_row(*cells, *(f"{values[row]:+.4f}" for values in advantages.values()))
    return table


def weight_plot(estimators: dict[str, Estimator], n: int, path: Path) -> Path:
    """Draw w(p) on logarithmic axes, between plain reinforcement learning (1) and maximum likelihood (1/p)."""
    grid = [10 ** (-3 + 3 * step / 300) * 0.999 for step in range(301)]
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    axes.plot(grid, [order_weight(p, math.inf) for p in grid], "k:", label="maximum likelihood, 1/p")
    axes.axhline(1, color="0.5", linestyle="--", label="plain reinforcement learning, 1")
    for name, estimator in estimators.items():
        label = f"{name} ({_order(estimator, n)})"
        axes.plot(grid, [effective_weight(estimator, p, n) for p in grid], linewidth=2, label=label)
    axes.set(xscale="log", yscale="log", xlabel="pass rate p", ylabel="effective weight w(p)")
    axes.set_title(f"What the expected update optimises, N = {n}")
    axes.legend()
    axes.grid(alpha=0.3)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=150)
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}") from error
    return path
