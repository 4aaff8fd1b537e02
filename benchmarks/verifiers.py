"""Completions a verifier judges per second, in batches, and problems made per second.

    python benchmarks/verifiers.py [--tasks maze subset_sum] [--problems 2000] [--repeats 5]

Half of the completions are right, half are wrong in all the ways of the task's self-check. Run it with
OMP_NUM_THREADS=1 on an idle machine; what compiles uses all cores. Medians over repeats; the last line is JSON.
"""

import argparse
import json
import time

from maxrl.tasks import TASKS, Task, get_task
from maxrl.tasks.throughput import completions_per_second


def problems_per_second(task: Task, problems: int) -> float:
    """Problems made per second of time, with their prompts."""
    started = time.perf_counter()
    made = len(task.examples("train", problems, seed=1))
    return made / (time.perf_counter() - started)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tasks", nargs="+", default=list(TASKS), help="names (default: all)")
    parser.add_argument("--problems", type=int, default=2000, help="problems per task (default 2000)")
    parser.add_argument("--repeats", type=int, default=5, help="measurements per task (default 5)")
    options = parser.parse_args()
    found: dict[str, dict[str, float]] = {}
    for name in options.tasks:
        task = get_task(name, **TASKS[name].check_parameters)
        if lacks := task.missing():
            print(f"{name:<20}{lacks}")
            continue
        problems = min(options.problems, task.size("train") or options.problems)
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
