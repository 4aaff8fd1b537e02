"""Names of a grid's runs: `{model}-{method}-n{num_elements}-bs{batch_size}-gs{group_size}`, and what else tells them apart.

The convention is that of the MaxRL-vs-GRPO benchmark this project started from. Parts that a recipe has no value for are
left out; axes that these parts do not tell apart follow, in the spec's order.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

from maxrl.errors import InputError
from maxrl.experiments.recipe import Fields, folder_name
from maxrl.tasks import task_class

SHORT = {"method": "advantage_estimator", "model": "model_name_or_path", "group_size": "num_generations"}
"""Words of that benchmark, and the fields they stand for."""

ABBREVIATIONS = {
    "learning_rate": "lr",
    "temperature": "t",
    "max_value": "max",
    "max_steps": "steps",
    "correctness_threshold": "threshold",
    "max_completion_length": "len",
}
"""How an axis reads before its value; others by their own name."""

_LONGEST = 200


def run_names(
    runs: Sequence[Fields], points: Sequence[Mapping[str, Any]], sets: Mapping[str, set[str]]
) -> list[str]:
    """A name for every run, unique in the grid and safe as a folder's.

    Args:
        runs: the fields of each.
        points: axis → label of each.
        sets: axis → fields that it sets.

    Raises:
        InputError: two runs are the same in everything that could tell them apart, or a name is too long for a folder.
    """
    labelled = {axis for axis, fields in sets.items() if fields != {_field(axis)}}
    # Its options are in the name only where they are an axis's values.
    by_label = not any("advantage_estimator" in sets[axis] for axis in sets if axis not in labelled)
    models = _model_labels([str(run.get("model_name_or_path") or "tiny") for run in runs])
    names = [_convention(run, model, by_label=by_label) for run, model in zip(runs, models, strict=True)]
    start = list(names)
    for axis in sets:
        if not _tells_apart(axis, start, points):
            names = [
                f"{name}-{_suffix(axis, point[axis], labelled=axis in labelled)}"
                for name, point in zip(names, points, strict=True)
            ]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise InputError(f"two runs of the grid would both be called {twice[0]}: axes repeat each other")
    if len(longest := max(names, key=len)) > _LONGEST:
        raise InputError(
            f"the run's name {longest} has {len(longest)} characters, more than {_LONGEST}: give the axes' values labels"
        )
    return names


def _convention(run: Fields, model: str, *, by_label: bool) -> str:
    estimator = str(run.get("advantage_estimator", "maxrl"))
    method = folder_name(estimator.split("(")[0] if by_label else estimator)
    group = int(run.get("num_generations", 8))
    rollouts = int(run.get("per_device_train_batch_size", 8)) * int(run.get("gradient_accumulation_steps", 1))
    parts = [model, method]
    if (elements := _num_elements(run)) is not None:
        parts.append(f"n{elements}")
    return "-".join([*parts, f"bs{rollouts / group:g}", f"gs{group}"])


def _num_elements(run: Fields) -> object:
    """What the task would be given; None for a task without such a parameter."""
    defaults = (
        {item.name: item.default for item in fields(task_class(run["task"]))} if run.get("task") else {}
    )
    return run.get("num_elements", defaults.get("num_elements"))


def _model_labels(models: Sequence[str]) -> list[str]:
    """Last part of each name, without `-Instruct` unless that would make two models one."""
    last = {model: re.sub(r"[^\w.-]+", "-", model.rstrip("/").split("/")[-1]) for model in models}
    short = {model: re.sub(r"-instruct$", "", name, flags=re.IGNORECASE) for model, name in last.items()}
    chosen = short if len(set(short.values())) == len(short) else last
    return [chosen[model] for model in models]


def _tells_apart(axis: str, names: Sequence[str], points: Sequence[Mapping[str, Any]]) -> bool:
    """Whether names differ wherever runs differ in this axis alone."""
    seen: set[tuple[str, tuple[Any, ...]]] = set()
    for name, point in zip(names, points, strict=True):
        key = (name, tuple(value for other, value in point.items() if other != axis))
        if key in seen:
            return False
        seen.add(key)
    return True


def _suffix(axis: str, label: object, *, labelled: bool) -> str:
    said = f"{label:g}".replace("e+", "e") if isinstance(label, float) else str(label)
    text = re.sub(r"[^\w.]+", "-", said).strip("-.")
    if said.startswith("-"):  # -1 is not 1
        text = f"-{text}"
    if text[:1].isalpha() and (labelled or not (label is None or isinstance(label, bool))):
        return text
    return f"{ABBREVIATIONS.get(_field(axis), axis)}{text}"


def _field(axis: str) -> str:
    return SHORT.get(axis, axis)
