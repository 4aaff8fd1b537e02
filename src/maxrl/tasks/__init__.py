"""Tasks: problems whose answers can be checked, each with a verifier that proves itself.

Nothing here imports torch or transformers. `TASKS` names every task; `get_task` makes one from its name and
parameters. The contract that a task keeps is `Task` in `maxrl.tasks.base`.
"""

from collections.abc import Callable
from dataclasses import fields
from typing import Any, cast

from maxrl.errors import unknown_name
from maxrl.tasks.base import (
    Example,
    Message,
    Prompt,
    SelfCheck,
    Split,
    Task,
    Verdict,
    Vocabulary,
)
from maxrl.tasks.subset_sum import SubsetSum

__all__ = [
    "TASKS",
    "Example",
    "Message",
    "Prompt",
    "SelfCheck",
    "Split",
    "SubsetSum",
    "Task",
    "Verdict",
    "Vocabulary",
    "get_task",
]

TASKS: dict[str, type[Task]] = {"subset_sum": SubsetSum}
"""Every task by name."""


def get_task(name: str, **parameters: Any) -> Task:
    """The task called `name`, with `parameters` in place of its defaults.

    Raises:
        InputError: on a name or a parameter that does not exist (with the nearest that does), or a parameter
            out of range.

    >>> get_task("subset_sum", num_elements=4, prompt_format="compact").examples("train", 1)[0].id
    'train-0-0'
    """
    if name not in TASKS:
        raise unknown_name("task", name, TASKS)
    # A protocol says nothing about construction; every task is a dataclass whose fields are its parameters.
    make = cast(Callable[..., Task], TASKS[name])
    known = [parameter.name for parameter in fields(cast(Any, make)) if parameter.init]
    for given in parameters:
        if given not in known:
            raise unknown_name(f"parameter of task {name}", given, known)
    return make(**parameters)
