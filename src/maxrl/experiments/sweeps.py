"""Sweeps over the fields of a task: `num_elements=4:10 max_value=10,20,50`."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import fields
from itertools import product
from typing import Any

from maxrl.errors import InputError, unknown_name
from maxrl.experiments.fields import read_fields
from maxrl.experiments.recipe import Fields
from maxrl.tasks import task_class

_RANGE = re.compile(r"(-?\d+):(-?\d+)(?::(-?\d+))?")


def parse_sweep(words: Sequence[str], task: str) -> dict[str, list[Any]]:
    """What `--sweep` asks for: field → values, typed as the task's options are.

    Args:
        words: each `field=values`; values are separated by commas, and `a:b` or `a:b:step` stands for whole numbers from a
            to b, b included.
        task: whose fields are swept.

    Raises:
        InputError: a word of another form, an unknown field, a field or value given twice, or a value that does not suit
            the field.
    """
    known = [item.name for item in fields(task_class(task)) if item.init]  # pyright: ignore[reportArgumentType]
    swept: dict[str, list[Any]] = {}
    for word in words:
        name, equals, values = word.partition("=")
        name = name.strip().replace("-", "_")
        if not equals or not name:
            raise InputError(
                f"--sweep takes field=values, as num_elements=4:10 or max_value=10,20,50, but got '{word}'"
            )
        if name not in known:
            raise unknown_name(f"field of task {task} to sweep", name, known)
        if name in swept:
            raise InputError(f"--sweep names {name} twice: give all its values at once, separated by commas")
        typed = [
            read_fields([f"--task={task}", f"--{name}={value}"])[name]
            for value in split_values(values, f"--sweep {word}")
        ]
        if len(set(typed)) < len(typed):
            raise InputError(f"--sweep {word} names a value twice")
        swept[name] = typed
    return swept


def split_values(text: str, what: str) -> list[str]:
    """`4:6,10` → 4, 5, 6, 10, as text.

    Raises:
        InputError: an empty value, or a colon that makes no range; `what` says where it stands.
    """
    values: list[str] = []
    for part in text.split(","):
        part = part.strip()
        if not part:
            raise InputError(f"{what} lacks a value: give some, separated by commas, as 10,20,50")
        values += _range(part, what) if ":" in part else [part]
    return values


def _range(part: str, what: str) -> list[str]:
    found = _RANGE.fullmatch(part)
    if not found:
        raise InputError(f"{what}: '{part}' is no range; write a:b or a:b:step with whole numbers, as 4:10")
    first, last, step = int(found[1]), int(found[2]), int(found[3] or 1)
    if step < 1 or last < first:
        raise InputError(
            f"{what}: '{part}' is an empty range; write the smaller number first, and a step above 0"
        )
    return [str(value) for value in range(first, last + 1, step)]


def settings_of(swept: Mapping[str, Sequence[Any]]) -> list[Fields]:
    """The product of the swept fields, the last one changing fastest; one empty setting where nothing is swept."""
    return [dict(zip(swept, values, strict=True)) for values in product(*swept.values())]
