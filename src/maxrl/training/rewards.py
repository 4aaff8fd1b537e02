"""Tasks as TRL sees them: a data set of prompts with hidden truth, and a reward function."""

import functools
import inspect
import json
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from datasets import Dataset
from torch import nn

from maxrl.errors import InputError
from maxrl.tasks import Prompt, Split, Task

# Arrow wants one type per column and tasks are free in theirs, so the truth travels as JSON.
TRUTH_COLUMN = "truth"


def task_dataset(task: Task, split: Split, count: int, *, seed: int = 0) -> Dataset:
    """`count` problems of a task as a TRL data set.

    Returns:
        Columns `prompt` (text or chat messages), `truth` (JSON text for `TaskReward`) and `id`.
    """
    examples = task.examples(split, count, seed=seed)
    return Dataset.from_dict(
        {
            "prompt": [example.prompt for example in examples],
            TRUTH_COLUMN: [json.dumps(dict(example.truth)) for example in examples],
            "id": [example.id for example in examples],
        }
    )


def completion_text(completion: Prompt) -> str:
    """The model's answer in a completion as TRL hands it over: plain text, or messages.

    Messages that do not end with the model's own hold no answer: TRL cuts a turn to nothing where a tool's output
    has used up the length, and what a tool said is not to be graded.
    """
    if isinstance(completion, str):
        return completion
    last = completion[-1]
    return last["content"] if last["role"] == "assistant" else ""


class TaskReward:
    """A task's verifier in TRL's calling convention.

    Returns 1.0 or 0.0 (or the task's graded reward) per completion, and None where the verifier itself failed:
    such a rollout leaves its group. Logs, when called by a trainer, `verifier/errors` (their fraction) and
    `verifier/{reason}`, the fraction of completions refused for each reason.
    """

    def __init__(self, task: Task) -> None:
        self.task = task
        self.__name__ = task.name
        self._reasons: set[str] = set()

    def __call__(
        self,
        prompts: Sequence[Prompt],
        completions: Sequence[Prompt],
        truth: Sequence[str],
        log_metric: Callable[[str, float], None] | None = None,
        **_: Any,
    ) -> list[float | None]:
        verdicts = [
            self.task.score(json.loads(row), completion_text(completion))
            for row, completion in zip(truth, completions, strict=True)
        ]
        if log_metric is not None:
            reasons = Counter(verdict.reason for verdict in verdicts if verdict.reason)
            # What was ever logged is logged at 0, too: a mean over batches would else leave those without it out.
            self._reasons |= reasons.keys()
            for reason in sorted(self._reasons):
                log_metric(f"verifier/{reason}", reasons[reason] / len(verdicts))
            log_metric("verifier/errors", sum(v.error is not None for v in verdicts) / len(verdicts))
        return [verdict.reward for verdict in verdicts]


def check_reward_function(function: Any) -> Any:
    """The same reward function, refusing results that are not one number or None per completion.

    Reward models (modules, or names of models that TRL loads) pass unchanged.
    """
    if isinstance(function, (str, nn.Module)) or not callable(function):
        return function
    name = getattr(function, "__name__", type(function).__name__)

    def check(result: Any, expected: int) -> list[float | None]:
        try:
            values = list(result)
        except TypeError:
            raise InputError(
                f"reward function '{name}' returned {type(result).__name__} instead of a list with one reward per "
                "completion"
            ) from None
        if len(values) != expected:
            raise InputError(
                f"reward function '{name}' returned {len(values)} values for {expected} completions; return exactly "
                "one number per completion, or None where it does not apply"
            )
        for value in values:
            if value is not None and (isinstance(value, str) or not hasattr(value, "__float__")):
                raise InputError(
                    f"reward function '{name}' returned {value!r}; a reward is a number, or None where it does not apply"
                )
        return [None if value is None else float(value) for value in values]

    if inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
        getattr(function, "__call__", None)  # noqa: B004 — asks whether calling it gives a coroutine
    ):

        async def checked_async(*args: Any, **kwargs: Any) -> list[float | None]:
            return check(await function(*args, **kwargs), len(kwargs["completions"]))

        checked: Any = checked_async
    else:

        def checked_sync(*args: Any, **kwargs: Any) -> list[float | None]:
            return check(function(*args, **kwargs), len(kwargs["completions"]))

        checked = checked_sync
    functools.update_wrapper(checked, function)
    checked.__name__ = name
    return checked
