"""Several tasks in one run: what each asks for, and what a generation batch is made of."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from maxrl.errors import InputError, unknown_name
from maxrl.objectives import AnyEstimator, as_estimator
from maxrl.tasks.mixture import whole_shares
from maxrl.training.layout import Layout

OPTIONS = (
    "share",
    "num_generations",
    "advantage_estimator",
    "advantage_estimator_kwargs",
    "correctness_threshold",
)
"""What a task may set for itself."""


@dataclass(frozen=True, kw_only=True)
class TaskSettings:
    """How one of several tasks is trained on."""

    share: int
    """Of the groups, in proportion to the other tasks'."""
    num_generations: int
    """Rollouts of a group (N)."""
    estimator: AnyEstimator | None
    """None: the run's."""
    correctness_threshold: float | None


def read_task_settings(
    given: Mapping[str, Any],
    *,
    num_generations: int,
    advantage_estimator: str,
    correctness_threshold: float | None,
) -> dict[str, TaskSettings]:
    """Settings by the name of the task.

    Args:
        given: task → `OPTIONS` that it sets.
        num_generations: of tasks that set none.
        advantage_estimator: whose options a task means that gives options and no estimator.
        correctness_threshold: of tasks that do not set it; one that sets None has none.

    Raises:
        InputError: an option is unknown or out of range.
    """
    for task, options in given.items():
        if not isinstance(options, Mapping):
            raise InputError(
                f"task_settings of '{task}' must be a mapping of options to values, but is {options!r}"
            )
        for option in options:
            if option not in OPTIONS:
                raise unknown_name(f"option of task {task}", str(option), OPTIONS)
    shares = whole_shares({task: options.get("share", 1) for task, options in given.items()})
    return {
        task: TaskSettings(
            share=shares[task],
            num_generations=_group_size(task, options.get("num_generations", num_generations)),
            estimator=_estimator(task, options, advantage_estimator),
            correctness_threshold=_threshold(
                task, options.get("correctness_threshold", correctness_threshold)
            ),
        )
        for task, options in given.items()
    }


def _group_size(task: str, size: object) -> int:
    if not isinstance(size, int) or isinstance(size, bool) or size < 2:
        raise InputError(
            f"num_generations of task {task} must be a whole number of at least 2, but is {size!r}"
        )
    return size


def _threshold(task: str, threshold: object) -> float | None:
    if threshold is None:
        return None
    if not isinstance(threshold, int | float) or isinstance(threshold, bool) or not math.isfinite(threshold):
        raise InputError(f"correctness_threshold of task {task} must be a number, but is {threshold!r}")
    return float(threshold)


def _estimator(task: str, options: Mapping[str, Any], advantage_estimator: str) -> AnyEstimator | None:
    if "advantage_estimator" not in options and "advantage_estimator_kwargs" not in options:
        return None
    name, own = (
        options.get("advantage_estimator", advantage_estimator),
        options.get("advantage_estimator_kwargs"),
    )
    if not isinstance(name, str):
        raise InputError(f"advantage_estimator of task {task} must be a name, but is {name!r}")
    if own is not None and not isinstance(own, Mapping):
        raise InputError(f"advantage_estimator_kwargs of task {task} must be a mapping, but is {own!r}")
    try:
        return as_estimator(name, **(own or {}))
    except InputError as error:
        raise InputError(f"task {task}: {error}") from error


@dataclass(frozen=True)
class Composition:
    """What every generation batch holds: for each task as many groups, in the same order.

    The order is a cycle over the tasks, each with its share of groups in a row, repeated; so each part of a batch that one
    of several ranks gets holds tasks in about the same ratio.
    """

    settings: Mapping[str, TaskSettings]
    rows: int
    """Of all ranks."""

    @cached_property
    def tasks(self) -> tuple[str, ...]:
        """The task of each group."""
        cycle = tuple(task for task, own in self.settings.items() for _ in range(own.share))
        return cycle * (self.rows // cycle_rows(self.settings))

    @cached_property
    def layout(self) -> Layout:
        """The groups in the rows."""
        return Layout(tuple(self.settings[task].num_generations for task in self.tasks))

    @property
    def common_size(self) -> int:
        """The largest number that divides every group."""
        return math.gcd(*self.layout.sizes)

    @property
    def ragged(self) -> bool:
        """Whether groups differ in size."""
        return len({*self.layout.sizes}) > 1


def cycle_rows(settings: Mapping[str, TaskSettings]) -> int:
    """Rows of the least batch that holds the tasks in their ratio, Σ share · N."""
    return sum(own.share * own.num_generations for own in settings.values())


def check_rows(settings: Mapping[str, TaskSettings], rows: int, per_device_batch: int) -> None:
    """Refuse a generation batch that does not hold whole groups of every task in the ratio asked for.

    Raises:
        InputError: with the nearest sizes that work.
    """
    cycle = cycle_rows(settings)
    if rows % cycle == 0:
        return
    others = rows // per_device_batch  # ranks × steps
    step = cycle // math.gcd(cycle, others)
    above = -(-per_device_batch // step) * step
    sizes = [size for size in (above - step, above) if size > 0]
    parts = " + ".join(f"{own.share}·{own.num_generations} ({task})" for task, own in settings.items())
    raise InputError(
        f"a generation batch of {rows} rollouts cannot hold whole groups of every task in their ratio, which takes a "
        f"multiple of {parts} = {cycle}: set per_device_train_batch_size to {' or '.join(map(str, sizes))} (which gives "
        f"{' or '.join(str(size * others) for size in sizes)}), or change share or num_generations of a task"
    )
