"""Tasks by name: those of this package, and a user's own in a file or a module."""

import dataclasses
import hashlib
import importlib
import importlib.util
import inspect
import math
import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, NoneType, UnionType
from typing import Any, Literal, Union, cast, get_args, get_origin, get_type_hints

from maxrl.errors import InputError, unknown_name
from maxrl.tasks.base import Task
from maxrl.tasks.code import Code
from maxrl.tasks.math import GSM8K, Math
from maxrl.tasks.maze import Maze
from maxrl.tasks.reasoning_gym import ReasoningGym
from maxrl.tasks.reverse_text import ReverseText
from maxrl.tasks.subset_sum import SubsetSum
from maxrl.tasks.time_limits import told

TASKS: dict[str, type[Task]] = {
    task.name: task for task in (SubsetSum, Maze, GSM8K, Math, Code, ReverseText, ReasoningGym)
}
"""Every task of this package by name."""

_SIMPLE: dict[object, tuple[tuple[type, ...], str]] = {
    int: ((int,), "a whole number"),
    float: ((int, float), "a number"),
    bool: ((bool,), "True or False"),
    str: ((str,), "a text"),
    NoneType: ((NoneType,), "None"),
}
"""Types of parameters that are checked: what a value may be, and how that is said."""


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
    where, separator, wanted = (name, "", "") if name.endswith(".py") else name.rpartition(":")
    if where.endswith(".py"):
        return _checked(_named(load_file(where), wanted, where), name)
    if not separator:
        hint = "; a task of your own is named by its file, my_tasks.py, or as module:Class"
        raise InputError(f"{unknown_name('task', name, TASKS)}{hint}")
    return _checked(_named(load_module(where, f"task '{name}'"), wanted, where), name)


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
    try:
        task = make(**parameters)
    except InputError:
        raise
    except Exception as error:  # a user's own task may stumble over a type in any way
        _check_types(make, name, parameters)
        raise InputError(f"task {name} cannot be made with {parameters}: {told(error)}") from error
    # Afterwards: a task that checks its parameters itself says more of what is allowed.
    _check_types(make, name, parameters)
    return task


def _check_types(cls: Any, name: str, parameters: dict[str, Any]) -> None:
    """Refuse values of the wrong type where the field has a simple one; others are the task's business."""
    try:
        hints = get_type_hints(cls)
    except Exception:  # noqa: BLE001 — annotations are a user's code, and may name what is not there
        return
    for parameter, value in parameters.items():
        hint = hints[parameter]
        if get_origin(hint) is Literal:
            choices = get_args(hint)
            if not any(type(value) is type(choice) and value == choice for choice in choices):
                raise unknown_name(parameter, str(value), map(str, choices))
            continue
        kinds = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
        if not all(kind in _SIMPLE for kind in kinds):
            continue
        # To Python True is an int, and to everybody else a slip.
        fits = [
            isinstance(value, _SIMPLE[kind][0]) and (kind is bool) is (type(value) is bool) for kind in kinds
        ]
        if not any(fits):
            allowed = " or ".join(_SIMPLE[kind][1] for kind in kinds)
            raise InputError(f"{parameter}={value!r} is not allowed for task {name}; give {allowed}")


def load_file(path: str, what: str = "task") -> ModuleType:
    """The module in a user's Python file, the same each time.

    Raises:
        InputError: there is no such `what` file, or it cannot be loaded; says why.
    """
    file = Path(path).resolve()
    if not file.is_file():
        raise InputError(f"{what} file {path} does not exist (looked for {file})")
    # By the whole path, so that two files of one name are two modules, and a class is the same each time.
    module_name = f"maxrl_user_{what.replace(' ', '_')}_{file.stem}_{hashlib.sha256(str(file).encode()).hexdigest()[:12]}"
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
        raise InputError(f"cannot load the {what} file {path}: {told(error)}") from error
    return module


def load_module(module_name: str, what: str) -> ModuleType:
    """A module by its name, looked up in the working folder, too.

    Raises:
        InputError: `what` cannot be loaded from it; says why.
    """
    if not all(part.isidentifier() for part in module_name.split(".")):
        raise InputError(
            f"cannot load the {what}: '{module_name}' is no name of a module; give package.module:name, or a file, "
            "folder/file.py:name"
        )
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        return importlib.import_module(module_name)
    except (Exception, SystemExit) as error:  # a user's module may fail in any way
        raise InputError(f"cannot load the {what}: {told(error)}") from error


def _named(module: ModuleType, wanted: str, where: str) -> Any:
    """The class `wanted` of a module; where none is named, the only task that the module defines."""
    own = {
        key: value
        for key, value in vars(module).items()
        if inspect.isclass(value) and value.__module__ == module.__name__ and _is_task(value)
    }
    if wanted:
        if not hasattr(module, wanted):
            raise unknown_name(f"class of {where}", wanted, own)
        return getattr(module, wanted)
    if len(own) != 1:
        found = (
            f"{len(own)} tasks ({', '.join(own)})" if own else "no class that inherits from maxrl.tasks.Task"
        )
        named = f"{where}:{next(iter(own), 'Class')}"
        raise InputError(f"{where} holds {found}; name one as {named}")
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
    limit = cast(object, cast("type[Task]", found).time_limit)
    if not isinstance(limit, int | float) or not 0 < limit <= math.inf:
        problems.append(f"give `time_limit` in seconds, above 0: it is {limit!r}")
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
        # `n`, `split`, `svg` and `problems` are options of `maxrl tasks` alone, and no trouble elsewhere.
        if any(item.name == "seed" for item in dataclasses.fields(cast(Any, found))):
            problems.append("rename its parameter `seed`, which is an option of every command")
    if problems:
        raise InputError(f"'{name}' is no whole task: {'; '.join(problems)}")
    return cast("type[Task]", found)
