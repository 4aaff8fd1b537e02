"""Summaries as tables."""

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

from step_parts.rows import PRECISIONS, SIDES

NAMES = {"ours": "maxrl", "trl": "TRL"}


def seconds(value: float) -> str:
    return f"{1000 * value:,.0f} ms" if value < 1 else f"{value:,.2f} s"


def times(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}×"


def show_rows(console: Console, rows: Mapping[str, Any]) -> None:
    """Every measurement, then the ratios."""
    table = Table("row", "", title="One step, medians", title_justify="left")
    for column in ("step", "rollout", "log-probs", "backward", "rest", "new tokens/s"):
        table.add_column(column, justify="right")
    for column in ("peak: rollout", "peak: update", "memory", "rows at once"):
        table.add_column(column, justify="right")
    for name, row in rows.items():
        for side in SIDES:
            for precision in PRECISIONS:
                found = row["all"][side][precision]
                if found:
                    # maxrl's update cuts a step by tokens.
                    at_once = f"{row['trl_micro_batch']:,}" if side == "trl" else "–"
                    table.add_row(name, f"{NAMES[side]} {precision}", *_cells(found), at_once)
        table.add_section()
    console.print(table)
    ratios = Table("row", title="TRL over maxrl (greater is better)", title_justify="left")
    for column in ("step", "rollouts", "update", "memory (TRL's rows at once)", "precision"):
        ratios.add_column(column, justify="right")
    for side in SIDES:
        ratios.add_column(f"half dead: {NAMES[side]}", justify="right")
    for name, row in rows.items():
        compared = [times(row[ratio]) for ratio in ("step_ratio", "rollout_ratio", "update_ratio")]
        compared.append(f"{times(row['memory_ratio'])} ({row['trl_micro_batch']:,})")
        gains = [times(row["dead_half_gain"][side]) for side in SIDES]
        ratios.add_row(name, *compared, _precision(row), *gains)
    console.print(ratios)


def _cells(found: Mapping[str, Any]) -> list[str]:
    phases = ("step_s", "rollout_s", "logprobs_s", "backward_s", "rest_s")
    return [
        *(seconds(found[phase]) for phase in phases),
        f"{found['tokens_per_s']:,.0f}",
        f"{found['rollout_peak_fraction']:.1%}",
        f"{found['update_peak_fraction']:.1%}",
        f"{found['peak_memory_mb']:,.0f} MiB",
    ]


def _precision(row: Mapping[str, Any]) -> str:
    """Ours against TRL's, and which of TRL's were measured at all."""
    if not (row["ours"] and row["trl"]):
        return "–"
    missing = [p for p in PRECISIONS if row["all"]["trl"][p] is None]
    note = f" ({' and '.join(missing)} not measured)" if missing else ""
    return f"{row['ours']['precision']} against {row['trl']['precision']}{note}"


def show_sweep(console: Console, sweep: Mapping[str, Any]) -> None:
    """Cost of a rollout by size of group."""
    for name, found in sweep.items():
        table = Table("rollouts per prompt", title=f"{name}: ms per rollout, maxrl", title_justify="left")
        columns = [(p, phase) for p in PRECISIONS if p in found for phase in ("rollout", "update", "step")]
        for precision, phase in columns:
            table.add_column(f"{phase} {precision}", justify="right")
        sizes = dict.fromkeys(n for p, _ in columns for n in found[p]["ms_per_rollout"])
        for n in sizes:
            costs = (found[p]["ms_per_rollout"].get(n, {}).get(phase) for p, phase in columns)
            table.add_row(n, *("–" if cost is None else f"{cost:.3f}" for cost in costs))
        if all("ratio_256_64" in found[p] for p, _ in columns):
            table.add_section()
            table.add_row("256 against 64", *(times(found[p]["ratio_256_64"][phase]) for p, phase in columns))
        console.print(table)
