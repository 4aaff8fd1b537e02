"""Tasks by name: those of this package, and a user's own in a file or a module."""

import dataclasses
import hashlib
import importlib
import importlib.util
import inspect
import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, cast

from maxrl.errors import InputError, unknown_name
from maxrl.tasks.base import Task
from maxrl.tasks.code import Code
from maxrl.tasks.math import GSM8K, Math
from maxrl.tasks.maze import Maze
from maxrl.tasks.reasoning_gym import ReasoningGym
from maxrl.tasks.reverse_text import ReverseText
from maxrl.tasks.subset_sum import SubsetSum

TASKS: dict[str, type[Task]] = {
    task.name: task for task in (SubsetSum, Maze, GSM8K, Math, Code, ReverseText, ReasoningGym)
}
"""Every task of this package by name."""


def task_class(name: str) -> type[Task]:
    """The class of a task: one of `TASKS`, or a user's own.

    Args:
        name: a name in `TASKS`; a Python file, `my_tasks.py`, or `my_tasks.py:Class` where it holds several tasks;
            or `package.module:Class`, looked up in the working folder, too.

    Raises:
        InputError: no such task, file, module or class, or a class that is no task; the message says what is missing.
    """
    if name in TASKS:
        return TASKS[name]
    path, separator, wanted = name.rpartition(":") if ":" in name else (name, "", "")
    if path.endswith(".py"):
        return _checked(_named(_load_file(path), wanted, name), name)
    if not separator:
        hint = "; a task of your own is named by its file, my_tasks.py, or as module:Class"
        raise InputError(f"{unknown_name('task', name, TASKS)}{hint}")
    return _checked(_named(_load_module(path, name), wanted, name), name)


def get_task(name: str, **parameters: Any) -> Task:
    """The task called `name` (see `task_class`), with `parameters` in place of its defaults.

    Raises:
        InputError: on a name or a parameter that does not exist (with the nearest that does), or a parameter
            out of range.

    >>> get_task("subset_sum", num_elements=4, prompt_format="compact").examples("train", 1)[0].id
    'train-0-0'
    """
    # A protocol says nothing about construction; every task is a dataclass whose fields are its parameters.
    make = cast(Callable[..., Task], task_class(name))
    known = [parameter.name for parameter in dataclasses.fields(cast(Any, make)) if parameter.init]
    for given in parameters:
        if given not in known:
            raise unknown_name(f"parameter of task {name}", given, known)
    return make(**parameters)


def _load_file(path: str) -> ModuleType:
    file = Path(path).resolve()
    if not file.is_file():
        raise InputError(f"task file {path} does not exist")
    # By the whole path, so that two files of one name are two modules, and a class is the same each time.
    module_name = f"maxrl_user_task_{file.stem}_{hashlib.sha256(str(file).encode()).hexdigest()[:12]}"
    if module_name in sys.modules:
        return sys.modules[module_name]
    spec = importlib.util.spec_from_file_location(module_name, file)
    assert spec is not None, "a .py file has a loader"
    assert spec.loader is not None, "a .py file has a loader"
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module  # dataclasses look their module up there
    try:
        spec.loader.exec_module(module)
    except BaseException as error:
        del sys.modules[module_name]
        if not isinstance(error, Exception | SystemExit):
            raise
        raise InputError(f"cannot load the task file {path}: {type(error).__name__}: {error}") from error
    return module


def _load_module(module_name: str, name: str) -> ModuleType:
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        return importlib.import_module(module_name)
    except (Exception, SystemExit) as error:  # a user's module may fail in any way
        raise InputError(f"cannot load the task '{name}': {type(error).__name__}: {error}") from error


def _named(module: ModuleType, wanted: str, name: str) -> Any:
    """The class `wanted` of a module; where none is named, the only task that the module defines."""
    own = {
        key: value
        for key, value in vars(module).items()
        if inspect.isclass(value) and value.__module__ == module.__name__ and _is_task(value)
    }
    if wanted:
        if not hasattr(module, wanted):
            raise unknown_name(f"class of {name.rpartition(':')[0]}", wanted, own)
        return getattr(module, wanted)
    if len(own) != 1:
        found = (
            f"{len(own)} tasks ({', '.join(own)})" if own else "no class that inherits from maxrl.tasks.Task"
        )
        raise InputError(f"{name} holds {found}; name one as {name}:Class")
    return next(iter(own.values()))


def _is_task(value: type) -> bool:
    return Task in value.__mro__


def _checked(found: Any, name: str) -> type[Task]:
    if not inspect.isclass(found) or not _is_task(found):
        raise InputError(f"'{name}' is no task: make it a class that inherits from maxrl.tasks.Task")
    problems: list[str] = []
    if not isinstance(getattr(found, "name", None), str):
        problems.append('give it a name: `name: ClassVar[str] = "…"`')
    for method in ("examples", "score"):
        if getattr(found, method) is getattr(Task, method):
            problems.append(f"give it a method `{method}`")
    parameters = getattr(found, "__dataclass_params__", None)
    if "__dataclass_fields__" not in vars(found) or parameters is None or not parameters.frozen:
        problems.append("decorate it with @dataclass(frozen=True, kw_only=True)")
    else:
        bare = [
            item.name
            for item in dataclasses.fields(cast(Any, found))
            if item.default is dataclasses.MISSING and item.default_factory is dataclasses.MISSING
        ]
        if any(item.name == "name" for item in dataclasses.fields(cast(Any, found))):
            problems.append("write `name: ClassVar[str]`, or the name counts as a parameter")
        problems += [f"give its parameter `{parameter}` a default" for parameter in bare]
    if problems:
        raise InputError(f"'{name}' is no whole task: {'; '.join(problems)}")
    return cast("type[Task]", found)
