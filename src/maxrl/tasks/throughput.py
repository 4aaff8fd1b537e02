"""How fast a verifier is."""

import itertools
import statistics
import time
from collections.abc import Mapping
from typing import Any

from maxrl.tasks.base import Task
from maxrl.tasks.guard import judge
from maxrl.tasks.streams import check_integer


def completions_per_second(task: Task, problems: int = 500, *, repeats: int = 3, seed: int = 0) -> float:
    """Completions that a task judges per second of time, in one batch: the median over `repeats`.

    Half of them are right, half are corruptions of all kinds in turn. Where a task uses several processes, as one that
    compiles does, they all count as one.

    Raises:
        InputError: the task has no demonstrations, or a count is not a whole number ≥ 1.
    """
    check_integer("problems", problems, 1)
    check_integer("repeats", repeats, 1)
    truths, completions = list[Mapping[str, Any]](), list[str]()
    for index, example in enumerate(task.examples("train", problems, seed=seed)):
        gold = task.demonstration(example)
        wrong = [text for _, text in task.corruptions(example, gold)]
        truths += [example.truth, example.truth]
        completions += [gold, wrong[index % len(wrong)]]
    rates: list[float] = []
    for _ in itertools.repeat(None, repeats):
        started = time.perf_counter()
        judge(task, truths, completions)
        rates.append(len(completions) / (time.perf_counter() - started))
    return statistics.median(rates)
