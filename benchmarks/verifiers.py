"""Completions a verifier judges per second, in batches, and problems made per second.

    python benchmarks/verifiers.py [--tasks maze subset_sum] [--problems 2000] [--repeats 5]
    python benchmarks/verifiers.py --tasks code --parameters problems=templates reward=components --problems 50

Half of the completions are right, half are wrong in all the ways of the task's self-check. Run it with
OMP_NUM_THREADS=1 on an idle machine; what compiles uses all cores, and its first measurement is not counted: compilers
prove themselves in it. Medians over repeats; the last line is JSON.
"""

import argparse
import dataclasses
import json
import time
from collections.abc import Sequence
from typing import Any

from maxrl.errors import InputError
from maxrl.tasks import TASKS, Task, get_task, task_class
from maxrl.tasks.throughput import completions_per_second


def problems_per_second(task: Task, problems: int) -> float:
    """Problems made per second of time, with their prompts."""
    started = time.perf_counter()
    made = len(task.examples("train", problems, seed=1))
    return made / (time.perf_counter() - started)


def read_parameters(name: str, words: Sequence[str]) -> dict[str, Any]:
    """Parameters of a task from words like `language=rust`, each of the type that its default has."""
    defaults = {item.name: item.default for item in dataclasses.fields(task_class(name)) if item.init}  # pyright: ignore
    found: dict[str, Any] = {}
    for word in words:
        key, separator, text = word.partition("=")
        default = defaults.get(key)
        number = isinstance(default, int | float)  # a truth value, too
        try:
            found[key] = json.loads(text) if number else text
        except json.JSONDecodeError:
            separator = ""
        if not separator:
            raise InputError(
                f"{word!r} is no parameter; write name=value, with true and false in small letters"
            )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tasks", nargs="+", default=list(TASKS), help="names (default: all)")
    parser.add_argument("--problems", type=int, default=2000, help="problems per task (default 2000)")
    parser.add_argument("--repeats", type=int, default=5, help="measurements per task (default 5)")
    parser.add_argument(
        "--parameters",
        nargs="+",
        default=[],
        help="of the one task that is named, like language=c (default: what the task can be checked with anywhere)",
    )
    options = parser.parse_args()
    if options.parameters and len(options.tasks) != 1:
        parser.error("--parameters are those of one task; name it with --tasks")
    found: dict[str, dict[str, float]] = {}
    for name in options.tasks:
        task = get_task(
            name, **{**task_class(name).check_parameters, **read_parameters(name, options.parameters)}
        )
        if lacks := task.missing():
            print(f"{name:<20}{lacks}")
            continue
        problems = min(options.problems, task.size("train") or options.problems)
        completions_per_second(task, 1, repeats=1)  # starts processes, proves compilers
        found[name] = {
            "completions_per_second": completions_per_second(task, problems, repeats=options.repeats),
            "problems_per_second": problems_per_second(task, problems),
        }
        print(
            f"{name:<20}{found[name]['completions_per_second']:>12,.0f} completions/s"
            f"{found[name]['problems_per_second']:>12,.0f} problems/s"
        )
    print(
        json.dumps({name: {key: round(rate) for key, rate in rates.items()} for name, rates in found.items()})
    )


if __name__ == "__main__":
    main()
