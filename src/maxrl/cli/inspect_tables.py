"""The tables of `maxrl inspect`; each fits a terminal of 80 columns."""

import math
import re
from collections.abc import Mapping, Sequence

from rich.markup import escape
from rich.table import Table

from maxrl.objectives import ExactAnalysis

BAR_WIDTH = 14
"""Columns for all bars together."""


def weight_table(exact: Mapping[str, ExactAnalysis], pass_rates: Sequence[float], where: str) -> Table:
    """Exact effective weights over the pass rate, each with a bar in proportion to the table's largest."""
    weights = {name: one.effective_weight(pass_rates).tolist() for name, one in exact.items()}
    largest = max(max(map(abs, values)) for values in weights.values()) or 1.0
    width = BAR_WIDTH // len(weights)
    table = Table(title=f"effective weight w(p) at {where}")
    table.add_column("p", justify="right")
    for name, one in exact.items():
        table.add_column(f"{folded(name, 14)}\n{order_label(one)}", justify="right")
        table.add_column("", min_width=width)
    table.add_column("likelihood\n1/p", justify="right")
    for row, p in enumerate(pass_rates):
        cells: list[str] = []
        for values in weights.values():
            bar = "█" * round(width * abs(values[row]) / largest)
            cells += [f"{values[row]:.4f}", bar or "▏"]
        table.add_row(f"{p:.4g}", *cells, f"{1 / p:.4f}")
    return table


def exact_table(exact: Mapping[str, ExactAnalysis], pass_rates: Sequence[float], where: str) -> Table:
    """Utility, second moment and advantage mass, the estimators side by side."""
    quantities = {
        "J(p)": ExactAnalysis.utility,
        "E(Σ A²)": ExactAnalysis.second_moment,
        "E|A|": ExactAnalysis.advantage_mass,
    }
    table = Table(title=f"utility, second moment, advantage mass at {where}")
    table.add_column("p", justify="right")
    columns: list[list[float]] = []
    for heading, quantity in quantities.items():
        for name, one in exact.items():
            table.add_column(f"{heading}\n{folded(name, 8)}", justify="right")
            columns.append(quantity(one, pass_rates).tolist())
    for row, p in enumerate(pass_rates):
        table.add_row(f"{p:.4g}", *(_short(values[row]) for values in columns))
    return table


def advantage_table(
    rewards: Mapping[str, Sequence[float]], advantages: Mapping[str, Sequence[float]]
) -> Table:
    """The advantages of one group, rollout by rollout, behind its rewards as given and as a threshold makes them."""
    columns = list(rewards.values())
    table = Table(title=f"advantages of one group of {len(columns[0])}")
    for name in ("rollout", *rewards, *advantages):
        table.add_column(folded(name, 16), justify="right")
    for row in range(len(columns[0])):
        cells = ["missing" if math.isnan(values[row]) else f"{values[row]:g}" for values in columns]
        table.add_row(str(row), *cells, *(f"{values[row]:+.4f}" for values in advantages.values()))
    return table


def order_label(one: ExactAnalysis) -> str:
    order = one.target_order()
    if order == 0:
        return "no signal"
    return "no order" if order is None else f"order T = {order}"


def _short(value: float) -> str:
    """In eight columns, with four decimals where they fit."""
    for form in (".4f", ".2f", ".0f"):
        if len(text := f"{value:{form}}") <= 8:
            return text
    return f"{value:.1e}"


def folded(name: str, width: int) -> str:
    """`name` in lines of at most `width`, broken where a word begins where that is possible."""
    lines = [""]
    for word in re.findall(r"[^\w)]*[a-zA-Z0-9.]+[^\w(]*_*|.", name):
        for piece in (word[start : start + width] for start in range(0, len(word), width)):
            if len(lines[-1]) + len(piece) > width:
                lines.append("")
            lines[-1] = (lines[-1] + piece).lstrip()
    return escape("\n".join(lines))
