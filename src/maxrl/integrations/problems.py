"""Tasks in the records of other engines: named by texts that can be stored with each problem."""

import functools
import json
from collections.abc import Mapping
from typing import Any

from maxrl.errors import InputError
from maxrl.tasks import Split, Task, get_task


def parameters_text(parameters: Mapping[str, Any]) -> str:
    """A task's parameters, of JSON types, as the same text whatever their order."""
    return json.dumps(dict(parameters), sort_keys=True)


@functools.cache
def named_task(problem: str, parameters: str) -> Task:
    """The task that a record names, made once in a process.

    Args:
        problem: as for `maxrl.tasks.get_task`.
        parameters: of `parameters_text`.

    Raises:
        InputError: there is no such task or parameter.
    """
    return get_task(problem, **json.loads(parameters))


def refuse_missing(task: Task) -> None:
    """Refuse a task that cannot run on this machine.

    Raises:
        InputError: says what is missing, and what brings it.
    """
    if (missing := task.missing()) is not None:
        raise InputError(f"task {task.name} cannot run here: {missing}")


def problem_count(task: Task, split: Split, count: int | None) -> int | None:
    """How many problems are asked for: never more than a split has; None where it has no end and no count is given."""
    size = task.size(split)
    return size if count is None else min(count, size or count)
