"""Specs: a grid over the fields of a recipe, in YAML, checked before anything starts.

name: subset-sum                      # of the grid; runs go to runs/{name}/ unless output_dir says otherwise
recipe: ../subset_sum_qwen.yaml       # what every run starts from; the path is relative to the spec
fields: {batch_size: 4}               # in place of the recipe's
axes:                                 # every combination is a run
  difficulty:                         # several fields that change together, under labels
    easy: {num_elements: 5, max_value: 20}
    hard: {num_elements: 10, max_value: 50}
  group_size: [16, 32, 64, 128]       # a field and its values
  method: [maxrl, grpo]
  seed: [0, 1]
exclude:                              # combinations that are left out
- {difficulty: easy, group_size: 128}
runners:                              # options of the places, see `maxrl grid run --help`
  hf-jobs: {timeout: 4h}
"""

import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from maxrl.errors import InputError, unknown_name
from maxrl.experiments.fields import parse_yaml, recipe_fields
from maxrl.experiments.grids.names import SHORT, run_names
from maxrl.experiments.grids.runner import GridRun
from maxrl.experiments.recipe import Fields

BATCH_SIZE = "batch_size"
"""Prompts per optimizer step and process, from which `per_device_train_batch_size` (rollouts) follows."""

# The sizes of a batch follow from them, and so do runs' names.
_COUNTED = ("num_generations", "per_device_train_batch_size", "gradient_accumulation_steps")

_KEYS = ("name", "recipe", "output_dir", "fields", "axes", "exclude", "runners")


@dataclass(frozen=True, kw_only=True)
class Grid:
    """A spec, resolved: every run, and what the places are told."""

    name: str
    folder: Path
    runs: tuple[GridRun, ...]
    runners: Mapping[str, Mapping[str, Any]]


def load_grid(path: Path, *, output_dir: str | None = None) -> Grid:
    """The grid of a spec.

    Args:
        path: of the spec.
        output_dir: where runs go, in place of what the spec says.

    Raises:
        InputError: it cannot be read, or names a field, value or combination that does not exist; says where.
    """
    spec = _read(path)
    recipe = spec.get("recipe")
    if recipe is not None:
        recipe = str(path.parent / str(recipe))
    given: Mapping[Any, object] = spec.get("axes") or {}
    _each_once(given, f"{path}: axes")
    axes = {str(name): _points(str(name), values, path) for name, values in given.items()}
    sets = {axis: {field for own in labels.values() for field in own} for axis, labels in axes.items()}
    for (one, its), (other, others) in itertools.combinations(sets.items(), 2):
        if both := sorted(its & others):
            raise InputError(f"{path}: axes {one} and {other} both set {both[0]}: leave one of them out")
    excluded = [_exclusion(entry, axes, path) for entry in spec.get("exclude") or []]
    shared = _long(spec.get("fields") or {}, f"{path}: fields")
    name = str(spec.get("name") or path.stem)
    folder = Path(output_dir or spec.get("output_dir") or f"runs/{name}")
    points = [dict(zip(axes, labels, strict=True)) for labels in itertools.product(*axes.values())]
    kept = [point for point in points if not any(entry.items() <= point.items() for entry in excluded)]
    if not kept:
        raise InputError(f"{path}: exclude leaves no run")
    resolved: list[Fields] = []
    for point in kept:
        own = [axes[axis][label] for axis, label in point.items()]
        where = f"{path} ({', '.join(f'{axis} {label}' for axis, label in point.items()) or 'fields'})"
        resolved.append(_resolved(recipe, [shared, *own], where))
    names = run_names(resolved, kept, sets)
    runs = (
        GridRun(name=run, fields={**fields, "output_dir": str(folder / run)}, point=point)
        for run, fields, point in zip(names, resolved, kept, strict=True)
    )
    return Grid(name=name, folder=folder, runs=tuple(runs), runners=_runners(spec, path))


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise InputError(f"grid spec {path} does not exist; recipes/grids/ holds some to start from")
    try:
        spec = parse_yaml(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"grid spec {path} is not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(spec, dict):
        raise InputError(f"grid spec {path} must be a mapping of {', '.join(_KEYS)}, but is {spec!r}")
    for name, kind in (("fields", dict), ("axes", dict), ("runners", dict), ("exclude", list)):
        if spec.get(name) is not None and not isinstance(spec[name], kind):
            what = "mapping" if kind is dict else "list of mappings of axes to values"
            raise InputError(f"{path}: {name} must be a {what}, but is {spec[name]!r}")
    for name in spec:
        if name not in _KEYS:
            error = unknown_name("key of a grid spec", str(name), _KEYS)
            raise InputError(
                f"{path}: {error}; fields of the recipe belong under fields (one value) or axes (several)"
            )
    return spec


def _points(axis: str, values: object, path: Path) -> dict[Any, Fields]:
    """What an axis can be: label → fields."""
    where = f"{path}: axis {axis}"
    if isinstance(values, dict):
        field = SHORT.get(axis, axis)
        _each_once(values, where)
        for label, own in values.items():
            if not isinstance(own, dict) or not own:
                raise InputError(
                    f"{path}: axis {axis} has labels, so that {label} must be a mapping of fields to values, but is "
                    f"{own!r}; an axis over one field is a list: `{axis}: [1, 2]`"
                )
            if field in _long(own, f"{where} {label}"):
                raise InputError(
                    f"{path}: axis {axis} has the name of a field that it sets; call it otherwise"
                )
        points = {str(label): _long(own, f"{where} {label}") for label, own in values.items()}
    elif isinstance(values, list):
        labels = [_label(value) for value in values]
        _each_once(labels, where)
        points = {label: {SHORT.get(axis, axis): value} for label, value in zip(labels, values, strict=True)}
    else:
        raise InputError(
            f"{path}: axis {axis} must be a list of values or a mapping of labels to fields, but is {values!r}; a single "
            "value belongs under fields"
        )
    if not points:
        raise InputError(f"{path}: axis {axis} has no values")
    return points


def _label(value: object) -> Any:
    # Labels are dictionary keys; a value that is a list or mapping is told from others by how it reads.
    return value if isinstance(value, (str, int, float, bool)) or value is None else str(value)


def _each_once(names: Iterable[object], where: str) -> None:
    """Refuse names of which one would take the place of another: equal values (`1` and `1.0`), or the same text."""
    seen: set[object] = set()
    for name in names:
        if name in seen or str(name) in seen:
            raise InputError(f"{where} has {name} twice")
        seen |= {name, str(name)}


def _long(fields: Mapping[Any, Any], where: str) -> Fields:
    long = {name: SHORT.get(str(name), str(name)) for name in fields}
    _each_once(long.values(), where)
    return {long[name]: value for name, value in fields.items()}


def _exclusion(entry: object, axes: Mapping[str, Mapping[Any, Fields]], path: Path) -> dict[str, Any]:
    if not isinstance(entry, dict) or not entry:
        raise InputError(f"{path}: exclude lists mappings of axes to values, but has {entry!r}")
    found: dict[str, Any] = {}
    for axis, value in entry.items():
        if axis not in axes:
            raise InputError(f"{path}: exclude: {unknown_name('axis', str(axis), axes)}")
        label = str(value) if str(value) in axes[axis] else _label(value)
        if label not in axes[axis]:
            known = map(str, axes[axis])
            raise InputError(f"{path}: exclude: {unknown_name(f'value of axis {axis}', str(value), known)}")
        found[axis] = label
    return found


def _resolved(recipe: str | None, parts: list[Fields], where: str) -> Fields:
    over: Fields = {}
    for part in parts:
        over |= part
    for name in ("output_dir", "overwrite_output_dir", "resume_from_checkpoint"):
        if name in over:
            raise InputError(f"{where}: {name} is the grid's business: leave it out")
    batch_size = over.pop(BATCH_SIZE, None)
    fields = recipe_fields(recipe, over, where, short=(*SHORT, BATCH_SIZE))
    for name in ("output_dir", "overwrite_output_dir", "resume_from_checkpoint"):
        fields.pop(name, None)
    for name in _COUNTED:
        if name in fields and not (fields[name] or 0) >= 1:
            raise InputError(
                f"{where}: {name} must be at least 1, but is {fields[name]}; leave it out for its default"
            )
    if batch_size is not None:
        fields["per_device_train_batch_size"] = _rollouts(batch_size, over, fields, where)
    return fields


def _rollouts(batch_size: object, over: Fields, fields: Fields, where: str) -> int:
    if not isinstance(batch_size, int) or isinstance(batch_size, bool) or batch_size < 1:
        raise InputError(
            f"{where}: batch_size must be a whole number of prompts from 1, but is {batch_size!r}"
        )
    if "per_device_train_batch_size" in over:
        raise InputError(
            f"{where}: batch_size counts prompts and sets per_device_train_batch_size, which counts rollouts: leave one out"
        )
    rollouts = batch_size * int(fields.get("num_generations", 8))
    steps = int(fields.get("gradient_accumulation_steps", 1))
    if rollouts % steps:
        raise InputError(
            f"{where}: {batch_size} prompts × {fields.get('num_generations', 8)} rollouts cannot be divided among "
            f"gradient_accumulation_steps={steps}"
        )
    return rollouts // steps


def _runners(spec: Mapping[str, Any], path: Path) -> dict[str, Mapping[str, Any]]:
    found: dict[str, Mapping[str, Any]] = {}
    for name, options in (spec.get("runners") or {}).items():
        if not isinstance(options, dict):
            raise InputError(f"{path}: runners: {name} must be a mapping of its options, but is {options!r}")
        found[str(name)] = options
    return found
