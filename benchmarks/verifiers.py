"""Completions a verifier judges per second of one core.

    python benchmarks/verifiers.py [--problems 2000] [--repeats 5]

Half of the completions are right, half wrong in different ways. Medians over repeats; the last line is JSON.
"""

import argparse
import json
import statistics
import time

from maxrl.tasks import TASKS, Task


def rate(task: Task, problems: int, repeats: int) -> float:
    """Median verdicts per second of processor time."""
    pairs = []
    for index, example in enumerate(task.examples("train", problems)):
        gold = task.demonstration(example)
        wrong = ["", gold + " 1", "I think so", gold.replace(" ", "") + "."][index % 4]
        pairs += [(example.truth, gold), (example.truth, wrong)]

    def once() -> float:
        started = time.process_time()
        for truth, completion in pairs:
            task.score(truth, completion)
        return len(pairs) / (time.process_time() - started)

    return statistics.median(once() for _ in range(repeats))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--problems", type=int, default=2000, help="problems per task (default 2000)")
    parser.add_argument("--repeats", type=int, default=5, help="measurements per task (default 5)")
    options = parser.parse_args()
    rates = {name: rate(task(), options.problems, options.repeats) for name, task in TASKS.items()}
    for name, value in rates.items():
        print(f"{name:<20}{value:>12,.0f} completions/s")
    print(json.dumps({"completions_per_second": {name: round(value) for name, value in rates.items()}}))


if __name__ == "__main__":
    main()
