r"""verl: our tasks as its data and its reward, so that a recipe trains on our problems with our verifiers' verdicts.

    python -m maxrl.integrations.verl_tasks --task gsm8k --split train --out gsm8k/train.parquet
    python -m maxrl.integrations.verl_tasks --task gsm8k --split eval --out gsm8k/platinum.parquet

writes the files for `data.train_files` and `data.val_files`, and

    reward.custom_reward_function.path=pkg://maxrl.integrations.verl_tasks
    reward.custom_reward_function.name=compute_score

has verl ask `compute_score` for rewards (before verl had the section `reward`, the option was `custom_reward_function` at
the top, which 0.9.1 still takes over). verl's own rewards do not fit: the one for openai/gsm8k wants `#### 42` where our
prompts ask for `\boxed{42}`.

verl calls the function in its reward loop, which is a Ray worker (`reward.num_workers` of them), from a pool of threads.
The time limit of `maxrl.tasks.judge` holds in a main thread alone, so a verifier of your own that may hang must bound its
time itself; our `math`, `gsm8k` and `code` tasks do. A task in a file is looked up at the same path on every machine.

Tested with verl 0.9.1 on the CPU (`make test-integrations`).
"""

import argparse
import functools
import json
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from maxrl.errors import InputError
from maxrl.integrations.problems import named_task, parameters_text, problem_count, refuse_missing
from maxrl.tasks import TASKS, Example, Split, Task, judge
from maxrl.tasks.base import draw_examples
from maxrl.tasks.guard import FailureLog

PREFIX = "maxrl/"
"""Of `data_source`, by which verl groups its validation figures."""


def rows(
    task_name: str,
    parameters: Mapping[str, Any],
    split: Split,
    count: int | None,
    seed: int,
    data_source: str | None = None,
) -> list[dict[str, Any]]:
    """A task's problems as verl's data sets have them.

    Args:
        task_name: a name of `maxrl tasks list`, a file `my_tasks.py`, or `package.module:Class`.
        parameters: the task's parameters that differ from its defaults, of JSON types.
        split: train or eval.
        count: how many; None: all of a split that is finite. A split that has fewer gives what it has.
        seed: of the stream of problems.
        data_source: what verl's validation figures are called; by default `maxrl/` and the task's name.

    Raises:
        InputError: there is no such task or parameter, the machine lacks what the task needs, the task makes no proper
            problems, or no count is given for a split without end.
    """
    key = parameters_text(parameters)
    task = named_task(task_name, key)
    refuse_missing(task)
    if count is not None and count < 1:
        raise InputError(f"count={count} is not allowed; give a whole number ≥ 1")
    wanted = problem_count(task, split, count)
    if wanted is None:
        raise InputError(f"task {task.name} makes problems without end; say how many with count (--count)")
    examples = draw_examples(task, split, wanted, seed=seed)
    source = data_source or f"{PREFIX}{task.name}"
    return [
        {
            "data_source": source,
            "prompt": _messages(example),
            "ability": task.name,
            # As text: a parquet column has one type, and truths of one task may differ in theirs.
            "reward_model": {"style": "rule", "ground_truth": json.dumps(dict(example.truth))},
            "extra_info": {
                "problem": task_name,
                "parameters": key,
                "id": example.id,
                "index": index,
                "split": split,
            },
        }
        for index, example in enumerate(examples)
    ]


def compute_score(
    data_source: str,
    solution_str: str,
    ground_truth: str,
    extra_info: Mapping[str, Any] | None = None,
    **kwargs: Any,
) -> float:
    """The verifier's reward for one completion, as verl's custom reward function.

    NaN where the verifier failed to reach a verdict, never zero. verl 0.9.1 hands the NaN on as it is, and with
    `algorithm.adv_estimator=maxrl` (or `maxrl/…`) such a rollout gets advantage 0 and leaves its group, whose other
    advantages are those of the group without it. verl's own grpo makes the whole group NaN. The means
    in verl's logs that it is part of are NaN, too, and the worker's log says once per kind what went wrong.

    Args:
        data_source: not looked at; the task stands in `extra_info`.
        solution_str: the completion.
        ground_truth: JSON text of the example's truth.
        extra_info: of `rows`: `problem` and `parameters` name the task.
        kwargs: what else verl passes; not looked at.

    Raises:
        InputError: the row is none of `rows`, or its task cannot be made here.
    """
    problem, parameters = (dict(extra_info or {}).get(name) for name in ("problem", "parameters"))
    if not isinstance(problem, str) or not isinstance(parameters, str):
        raise InputError(
            f"a row of {data_source} does not name its task in extra_info (problem, parameters); make the data with "
            "python -m maxrl.integrations.verl_tasks"
        )
    try:
        truth = json.loads(ground_truth)
    except (TypeError, ValueError) as error:
        raise InputError(f"the ground_truth of a row of {data_source} is not JSON: {error}") from error
    task, failures = _judged(problem, parameters)
    verdicts = judge(task, [truth], [solution_str])
    failures.tell(verdicts)
    reward = verdicts[0].reward
    return math.nan if reward is None else float(reward)


def main(argv: Sequence[str] | None = None) -> int:
    """Write a task's problems as a parquet file for verl; returns the exit status (2: bad input, one line says what)."""
    given = _parser().parse_args(argv)
    try:
        if given.out.suffix != ".parquet":
            raise InputError(
                f"--out {given.out} is not allowed; verl knows a file by its ending: give NAME.parquet"
            )
        parameters = dict(_pair(word) for word in given.parameter)
        found = rows(given.task, parameters, given.split, given.count, given.seed, given.data_source)
        _write(found, given.out)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"{len(found)} rows of {found[0]['data_source']} ({given.split}) in {given.out}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m maxrl.integrations.verl_tasks",
        description="Write a task's problems as a parquet file for verl's data.train_files or data.val_files.",
        epilog="Train on them with reward.custom_reward_function.path=pkg://maxrl.integrations.verl_tasks",
    )
    add = parser.add_argument
    add(
        "--task",
        required=True,
        help=f"one of {', '.join(TASKS)}; a task of your own: my_tasks.py, or package.module:Class",
    )
    add("--split", choices=["train", "eval"], default="train", help="which problems (default: %(default)s)")
    add("--out", required=True, type=Path, help="the file to write, NAME.parquet")
    add("--count", type=int, help="how many problems; by default all, where the task has an end")
    add("--seed", type=int, default=0, help="of the stream of problems (default: %(default)s)")
    add(
        "--parameter",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a parameter of the task, once for each (maxrl tasks show TASK --help tells them); the value is read as "
        "JSON, and as text where it is none",
    )
    add(
        "--data_source",
        "--data-source",
        help="what verl's validation figures are called: give each of several test sets a name of its own "
        "(default: maxrl/TASK)",
    )
    return parser


def _pair(word: str) -> tuple[str, Any]:
    name, equals, value = word.partition("=")
    if not equals or not name:
        raise InputError(f"--parameter {word!r} is not allowed; give NAME=VALUE")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


def _write(found: list[dict[str, Any]], path: Path) -> None:
    try:
        import pyarrow  # verl has it; maxrl itself does not need it
        import pyarrow.parquet
    except ImportError as error:
        raise InputError("parquet files need pyarrow: pip install pyarrow") from error
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(found), path)
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error}") from error


def _messages(example: Example) -> list[dict[str, str]]:
    if isinstance(example.prompt, str):
        return [{"role": "user", "content": example.prompt}]
    return [dict(message) for message in example.prompt]


@functools.cache
def _judged(problem: str, parameters: str) -> tuple[Task, FailureLog]:
    """The task, and what tells of its verifier's failures, once for each kind of them."""
    task = named_task(problem, parameters)
    return task, FailureLog(
        f"task {task.name}", "The reward is NaN: maxrl's estimators leave the rollout out"
    )


if __name__ == "__main__":
    sys.exit(main())
