"""Tasks as TRL sees them: a data set of prompts with hidden truth, and a reward function."""

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from datasets import Dataset

from maxrl.tasks import Prompt, Split, Task, Verdict, judge
from maxrl.tasks.base import draw_examples
from maxrl.tasks.guard import FailureLog, reason_of

# Arrow wants one type per column and tasks are free in theirs, so the truth travels as JSON.
TRUTH_COLUMN = "truth"


def task_dataset(task: Task, split: Split, count: int, *, seed: int = 0) -> Dataset:
    """`count` problems of a task as a TRL data set.

    Returns:
        Columns `prompt` (text or chat messages), `truth` (JSON text for `TaskReward`) and `id`; and `task` where examples
        name the one of several that they belong to.

    Raises:
        InputError: the task makes no proper examples (see `draw_examples`).
    """
    examples = draw_examples(task, split, count, seed=seed)
    columns: dict[str, list[Any]] = {
        "prompt": [example.prompt for example in examples],
        TRUTH_COLUMN: [json.dumps(dict(example.truth)) for example in examples],
        "id": [example.id for example in examples],
    }
    if any(example.task for example in examples):
        columns["task"] = [example.task for example in examples]
    return Dataset.from_dict(columns)


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
    """A task's verifier in TRL's calling convention; never raises, see `maxrl.tasks.judge`.

    Returns 1.0 or 0.0 (or the task's graded reward) per completion, and None where the verifier itself failed:
    such a rollout leaves its group, and the first of each kind is warned of. Logs, when called by a trainer,
    `verifier/{reason}`, the fraction of completions refused, or not judged, for each reason, and `components/{name}`, the
    mean of each part of the reward over the completions that have it. The trainer logs `verifier/errors`, the fraction that
    the verifier failed on.
    """

    none_is_failure = True
    """For `guarded`: a task that gives no reward has failed to judge."""
    tells_failures = True
    """For `guarded`: counts and warns of its failures itself."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self.__name__ = task.name
        self.seen_reasons: tuple[set[str], ...] = (set(),)
        self._failures = FailureLog(
            f"task {task.name}",
            "Such rollouts leave their groups; their fraction is logged as verifier/errors",
        )

    def __call__(
        self,
        prompts: Sequence[Prompt],
        completions: Sequence[Prompt],
        truth: Sequence[str],
        log_metric: Callable[[str, float], None] | None = None,
        **_: Any,
    ) -> list[float | None]:
        texts = [completion_text(completion) for completion in completions]
        verdicts = judge(
            self.task, [json.loads(row) for row in truth], texts, batch_failed=self._failures.tell_batch
        )
        self._failures.tell(verdicts)
        if log_metric is not None:
            for name, value in self._metrics(verdicts).items():
                log_metric(name, value)
        return [verdict.reward for verdict in verdicts]

    def _metrics(self, verdicts: Sequence[Verdict]) -> dict[str, float]:
        reasons = Counter(reason for verdict in verdicts if (reason := reason_of(verdict)))
        # What was ever logged is logged at 0, too: a mean over batches would else leave those without it out.
        (seen,) = self.seen_reasons
        seen.update(reasons)
        metrics = {f"verifier/{reason}": reasons[reason] / len(verdicts) for reason in sorted(seen)}
        return metrics | _mean_components([verdict.components for verdict in verdicts])


def _mean_components(components: Sequence[Mapping[str, float]]) -> dict[str, float]:
    values: dict[str, list[float]] = defaultdict(list)
    for row in components:
        for name, value in row.items():
            values[name].append(value)
    return {f"components/{name}": sum(column) / len(column) for name, column in values.items()}
