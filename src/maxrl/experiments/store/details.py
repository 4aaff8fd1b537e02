"""Everything that one run's folder says: `maxrl runs show`."""

import dataclasses
from collections.abc import Mapping
from enum import Enum
from typing import Any

from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from maxrl.errors import InputError
from maxrl.evaluation import Evaluation
from maxrl.experiments.recipe import recipe_classes
from maxrl.experiments.store import StoredRun
from maxrl.experiments.store.checkpoints import checkpoints, is_complete
from maxrl.experiments.store.processes import recorded_process
from maxrl.experiments.store.pruning import folder_size, size_text
from maxrl.experiments.store.tables import STYLES, age, last_change
from maxrl.experiments.wording import duration, plain

_SEEDS = ("seed", "task_seed", "eval_seed", "warm_start_seed", "data_seed")


def run_details(run: StoredRun) -> dict[str, Any]:
    """The run in plain JSON types.

    Raises:
        InputError: a file of it is damaged.
    """
    process = recorded_process(run.folder)
    return {
        "name": run.name,
        "folder": str(run.folder),
        "state": run.state,
        "error": run.error,
        "step": run.step,
        "max_steps": run.max_steps,
        "process": None if process is None else {**dataclasses.asdict(process), "here": process.here},
        "settings": own_settings(run.config),
        "seeds": {name: run.config[name] for name in _SEEDS if name in run.config}
        | ({"all": run.environment["seeds"]} if "seeds" in run.environment else {}),
        "environment": {name: value for name, value in run.environment.items() if name != "seeds"},
        "costs": {
            name: run.summary[name]
            for name in ("steps", "training_seconds", "rollouts", "completion_tokens")
            if name in run.summary
        },
        "before": _curve(run.before),
        "after": _curve(run.evaluation),
        "evaluations_while_training": run.evals,
        "checkpoints": [
            {"name": path.name, "bytes": folder_size(path), "complete": is_complete(path)}
            for path in checkpoints(run.folder)
        ],
        "files": {
            path.name: path.stat().st_size
            for path in sorted(run.folder.iterdir())
            if path.is_file() and path.suffix != ".partial"
        },
        "changed": last_change(run.folder),
    }


def own_settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a resolved recipe that are not at their defaults; those without one are."""
    try:
        classes = recipe_classes(config.get("task"))
    except InputError:  # a task of the user's own whose file is not here: its parameters are shown
        classes = recipe_classes(None)
    defaults: dict[str, Any] = {}
    for cls in classes:
        for item in dataclasses.fields(cls):
            if item.default is not dataclasses.MISSING:
                value = item.default
            elif item.default_factory is not dataclasses.MISSING:
                value = item.default_factory()
            else:
                continue
            defaults.setdefault(item.name, value.value if isinstance(value, Enum) else value)
    return {
        name: value
        for name, value in config.items()
        if name not in defaults or _plain(defaults[name]) != _plain(value)
    }


def _plain(value: Any) -> Any:
    # TRL's parser reads whole numbers as floats where a field may be either.
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _curve(evaluation: Evaluation | None) -> dict[str, Any] | None:
    if evaluation is None:
        return None
    return {
        "problems": len(evaluation.problems),
        "greedy_accuracy": evaluation.greedy_accuracy,
        "pass_at_k": {str(e.k): [e.estimate, e.low, e.high] for e in evaluation.pass_at_k},
        "seconds": evaluation.seconds,
    }


# ---------------------------------------------------------------------------------------------------------
# For people
# ---------------------------------------------------------------------------------------------------------


def details_page(details: Mapping[str, Any], *, now: float) -> Group:
    """The same, to be read."""
    state = details["state"]
    head = Text.assemble(
        (details["name"], "bold"),
        "  ",
        (state, STYLES[state]),
        f"  step {details['step']}/{details['max_steps'] or '?'}, changed {age(now - details['changed'])} ago",
    )
    parts: list[Any] = [head, Text(details["folder"], "dim")]
    if details["error"]:
        parts.append(Text(details["error"], "red"))
    if state == "running" and details["process"]:
        where = "on this machine" if details["process"]["here"] else "on another machine"
        parts.append(Text(f"process {details['process']['pid']} {where}"))
    parts.append(_pairs("settings that are not defaults", details["settings"]))
    parts.append(_pairs("environment", details["environment"]))
    parts.append(_pairs("seeds", details["seeds"]))
    parts.append(_pairs("costs", _costs(details["costs"])))
    parts.append(_curves(details["before"], details["after"]))
    if details["evaluations_while_training"]:
        rows = {
            f"step {row['step']}": row.get("greedy_accuracy") for row in details["evaluations_while_training"]
        }
        parts.append(_pairs("greedy accuracy while training", rows))
    parts.append(_pairs("checkpoints", {c["name"]: _checkpoint(c) for c in details["checkpoints"]}))
    parts.append(_pairs("files", {name: size_text(size) for name, size in details["files"].items()}))
    return Group(*(part for part in parts if part is not None))


def _costs(costs: Mapping[str, Any]) -> dict[str, str]:
    return {
        name.replace("_", " "): duration(value) if name == "training_seconds" else f"{value:,}"
        for name, value in costs.items()
    }


def _checkpoint(checkpoint: Mapping[str, Any]) -> str:
    return size_text(checkpoint["bytes"]) + ("" if checkpoint["complete"] else ", not complete")


def _pairs(title: str, values: Mapping[str, Any]) -> Group | None:
    if not values:
        return None
    table = Table(
        box=None,
        show_header=False,
        padding=(0, 0, 0, 2),
        pad_edge=True,
    )
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in values.items():
        table.add_row(Text(str(name), "dim"), Text("—" if value is None else plain(value)))
    return Group(Text(f"\n{title}", "bold"), table)


def _curves(before: Mapping[str, Any] | None, after: Mapping[str, Any] | None) -> Table | None:
    columns = {"before": before, "after": after}
    columns = {name: curve for name, curve in columns.items() if curve is not None}
    if not columns:
        return None
    table = Table(
        title=Text("\npass@k, with 95 % intervals", "bold"),
        title_justify="left",
        box=box.SIMPLE_HEAD,
        padding=(0, 0, 0, 1),
        pad_edge=False,
    )
    table.add_column("k", justify="right")
    for name in columns:
        table.add_column(name, justify="right")
    ks = dict.fromkeys(k for curve in columns.values() for k in curve["pass_at_k"])
    for k in ks:
        table.add_row(k, *(_interval(curve["pass_at_k"].get(k)) for curve in columns.values()))
    table.add_row("greedy", *(_accuracy(curve["greedy_accuracy"]) for curve in columns.values()))
    return table


def _interval(entry: list[float] | None) -> str:
    return "—" if entry is None else f"{entry[0]:.3f}  ({entry[1]:.3f} … {entry[2]:.3f})"


def _accuracy(value: float | None) -> str:
    return "—" if value is None else f"{value:.3f}"
