"""Stored runs as rows for programs and as tables for people: `maxrl runs list` and `diff`."""

import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from rich import box
from rich.table import Table
from rich.text import Text

from maxrl.errors import InputError, unknown_name
from maxrl.experiments.store import StoredRun
from maxrl.experiments.store.processes import file_times
from maxrl.experiments.wording import duration, plain

Row = dict[str, Any]

STYLES = {"done": "green", "failed": "red", "running": "cyan", "stopped": "yellow"}
"""State of a run → style of its name."""


def run_row(run: StoredRun) -> Row:
    """What `list` says of a run, in plain JSON types; None where a run has not come so far.

    Of one with a damaged file, what the others say; the damage is its `error`, and `damaged` is true.
    """
    row: Row = {"name": run.name, "folder": str(run.folder), "state": run.state}
    damage: str | None = None
    for name, read in _COLUMNS.items():
        try:
            row[name] = read(run)
        except InputError as error:
            row[name], damage = None, damage or str(error)
    changed = last_change(run.folder)
    return {**row, "changed": changed, "damaged": damage is not None, "error": damage or run.error}


_COLUMNS: dict[str, Callable[[StoredRun], Any]] = {
    "estimator": lambda run: run.estimator,
    "task": lambda run: run.config.get("task") or _several(run.config) or run.config.get("dataset_name"),
    "model": lambda run: run.config.get("model_name_or_path"),
    "seed": lambda run: run.seed,
    "step": lambda run: run.step,
    "max_steps": lambda run: run.max_steps,
    "success_rate": lambda run: _last_rate(run),
    "pass@1": lambda run: _curve(run).get("1"),
    "largest_k": lambda run: max(map(int, _curve(run)), default=None),
    "pass@largest_k": lambda run: max(
        _curve(run).items(), key=lambda entry: int(entry[0]), default=(0, None)
    )[1],
    "training_seconds": lambda run: run.metrics[-1]["elapsed"] if run.metrics else 0.0,
}


def _curve(run: StoredRun) -> Mapping[str, float]:
    return run.summary.get("pass_at_k") or {}


def _last_rate(run: StoredRun) -> float | None:
    rates = [row["success_rate"] for row in run.metrics if row.get("success_rate") is not None]
    return rates[-1] if rates else None


def _several(config: Mapping[str, Any]) -> str | None:
    tasks = config.get("tasks")
    return "+".join(str(entry.get("task")) for entry in tasks) if tasks else None


def last_change(folder: Path) -> float:
    """Seconds since 1970 at which one of the files right in a folder changed last; the folder itself where it has none."""
    return max(file_times(folder), default=folder.stat().st_mtime)


def distinct_names(folders: Sequence[Path]) -> list[str]:
    """What to call runs: their folders' names, and where two are alike the paths below what all have in common."""
    full = [folder.resolve() for folder in folders]
    names = [path.name for path in full]
    if len(set(names)) == len(names):
        return names
    shared = Path(os.path.commonpath(full))
    return [str(path.relative_to(shared)) for path in full]


def age(seconds: float) -> str:
    """How long ago, in one unit."""
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(0.0, seconds):.0f} s"


# ---------------------------------------------------------------------------------------------------------
# Which runs, in which order
# ---------------------------------------------------------------------------------------------------------

SORTS: dict[str, Callable[[Row], Any]] = {
    "name": lambda row: row["name"],
    "state": lambda row: row["state"],
    "estimator": lambda row: row["estimator"] or "",
    "seed": lambda row: row["seed"] or 0,
    "step": lambda row: -(row["step"] or 0),
    "success_rate": lambda row: -(row["success_rate"] or 0.0),
    "pass@1": lambda row: -(row["pass@1"] or 0.0),
    "pass@k": lambda row: -(row["pass@largest_k"] or 0.0),
    "time": lambda row: -(row["training_seconds"] or 0.0),
    "age": lambda row: -row["changed"],
}
"""Orders of a list; figures with the largest first, and the youngest run first."""


def select_runs(
    runs: Sequence[StoredRun], *, state: str | None = None, where: Sequence[str] = ()
) -> list[StoredRun]:
    """The runs in a state whose recipes have these values. Where a recipe is damaged, nobody knows: its run is among them.

    Args:
        runs: to choose from.
        state: `done`, `running`, `failed` or `stopped`; None for any.
        where: conditions `field=value`, all of which must hold; the value as YAML has it.

    Raises:
        InputError: no such state, a condition without `=`, or a field that none of the runs has.
    """
    if state is not None and state not in STYLES:
        raise unknown_name("state of a run", state, STYLES)
    conditions = [_condition(text, runs) for text in where]
    return [
        run
        for run in runs
        if (state is None or run.state == state)
        and all(_meets(run, name, value) for name, value in conditions)
    ]


def _meets(run: StoredRun, name: str, value: Any) -> bool:
    fields = _recipe(run)
    return fields is None or fields.get(name) == value


def _recipe(run: StoredRun) -> Mapping[str, Any] | None:
    """What `config.yaml` says; None where it is damaged, which the run's row tells."""
    try:
        return run.config
    except InputError:
        return None


def _condition(text: str, runs: Sequence[StoredRun]) -> tuple[str, Any]:
    name, sign, value = text.partition("=")
    name = name.strip()
    if not sign:
        raise InputError(f"--where takes field=value, but got '{text}'")
    known = {field for run in runs for field in _recipe(run) or ()}
    if name not in known:
        short = str(unknown_name("field", name, known)).split(" (known:")[0]
        raise InputError(f"{short}: no run here has it (`maxrl runs show RUN` lists a run's)")
    try:
        return name, yaml.safe_load(value)
    except yaml.YAMLError:
        return name, value


def sorted_rows(rows: Sequence[Row], by: str | None) -> list[Row]:
    """Rows in one of the orders; None for the order of the folders.

    Raises:
        InputError: no such order.
    """
    if by is None:
        return list(rows)
    if by not in SORTS:
        raise unknown_name("order", by, SORTS)
    return sorted(rows, key=SORTS[by])


# ---------------------------------------------------------------------------------------------------------
# Tables
# ---------------------------------------------------------------------------------------------------------


def runs_table(rows: Sequence[Row], *, now: float | None = None) -> Table:
    """A line per run; what all of them share is said once, below."""
    now = time.time() if now is None else now
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 0, 0, 1), pad_edge=False)
    table.add_column("run", overflow="fold", ratio=1)
    shared = {name: rows[0][name] for name in ("estimator", "task", "model", "seed") if _one(rows, name)}
    own = [name for name in ("estimator", "task", "model", "seed") if name not in shared]
    for name in own:
        table.add_column(name, justify="right" if name == "seed" else "left", overflow="fold")
    for name in ("state", "step", "success", "pass@1", "pass@k", "time", "age"):
        table.add_column(name, justify="left" if name == "state" else "right", no_wrap=name == "state")
    names = distinct_names([Path(row["folder"]) for row in rows])
    for row, called in zip(rows, names, strict=True):
        largest = None if row["largest_k"] is None else f"{row['pass@largest_k']:.3f}"
        table.add_row(
            Text(called),
            *(Text("—" if row[name] is None else str(row[name])) for name in own),
            Text(row["state"], STYLES[row["state"]]),
            "—" if row["step"] is None else f"{row['step']}/{row['max_steps'] or '?'}",
            _share(row["success_rate"]),
            _share(row["pass@1"]),
            "—" if largest is None else f"{largest} @{row['largest_k']}",
            "—" if row["training_seconds"] is None else duration(row["training_seconds"]),
            age(now - row["changed"]),
        )
    words = [f"{name} {value}" for name, value in shared.items() if value is not None]
    table.caption = Text(f"all: {', '.join(words)}" if words and len(rows) > 1 else ", ".join(words))
    return table


def _one(rows: Sequence[Row], name: str) -> bool:
    return all(row[name] == rows[0][name] for row in rows)


def _share(value: float | None) -> str:
    return "—" if value is None else f"{value:.3f}"


# ---------------------------------------------------------------------------------------------------------
# Differences
# ---------------------------------------------------------------------------------------------------------

_OF_A_PLACE = ("output_dir",)


def run_differences(first: StoredRun, second: StoredRun) -> dict[str, dict[str, list[Any]]]:
    """What two runs differ in: `settings`, `environment` and `results`, each name → the two values (None for none)."""
    results = [_results(run) for run in (first, second)]
    return {
        "settings": _differing(first.config, second.config, without=_OF_A_PLACE),
        "environment": _differing(first.environment, second.environment),
        "results": _differing(*results),
    }


def _differing(
    first: Mapping[str, Any], second: Mapping[str, Any], *, without: Sequence[str] = ()
) -> dict[str, list[Any]]:
    names = dict.fromkeys([*first, *second])
    return {
        name: [first.get(name), second.get(name)]
        for name in names
        if name not in without and first.get(name) != second.get(name)
    }


def _results(run: StoredRun) -> dict[str, Any]:
    after = run.evaluation
    figures: dict[str, Any] = {"state": run.state, "step": run.step}
    for name in ("training_seconds", "rollouts", "completion_tokens"):
        if name in run.summary:
            figures[name] = run.summary[name]
    if run.metrics:
        figures["last success_rate"] = run.metrics[-1].get("success_rate")
    if after is not None:
        figures["greedy accuracy"] = after.greedy_accuracy
        figures |= {f"pass@{entry.k}": entry.estimate for entry in after.pass_at_k}
    return figures


def differences_table(title: str, names: Sequence[str], found: Mapping[str, Sequence[Any]]) -> Table:
    """Two runs side by side; with numbers, by how much the second is above the first."""
    table = Table(
        title=Text(title), title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 0, 0, 1), pad_edge=False
    )
    table.add_column("")
    for name in names:
        table.add_column(Text(name), justify="right", overflow="fold")
    numeric = any(_numbers(values) for values in found.values())
    if numeric:
        table.add_column("difference", justify="right")
    for name, values in found.items():
        cells = [Text(_figure(value)) for value in values]
        difference = f"{values[1] - values[0]:+.4g}" if _numbers(values) else ""
        table.add_row(Text(name), *cells, *([difference] if numeric else []))
    return table


def _numbers(values: Sequence[Any]) -> bool:
    return all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in values)


def _figure(value: Any) -> str:
    if value is None:
        return "—"
    return f"{value:.4g}" if isinstance(value, float) else plain(value)
