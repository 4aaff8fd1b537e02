"""verifiers, and prime-rl by it: our tasks as a taskset, whose rewards are our verifiers' verdicts.

    [[orchestrator.train.source]]
    name = "mazes"

    [orchestrator.train.source.env.taskset]
    id = "maxrl-tasks"
    problem = "maze"
    parameters = { maze_size = 5 }

verifiers looks a taskset up by the name of a module: `maxrl_tasks` stands beside this package and exports what is here,
with the harness that only talks to the model. Without prime-rl:

    vf-validate maxrl-tasks --taskset.problem maze --taskset.count 100 --runtime.type subprocess
    vf-eval maxrl-tasks --env.taskset.problem maze --env.taskset.count 100 --num-rollouts 16 …

The first checks that right answers are accepted and the untouched task is not.

A verdict that the verifier itself failed to reach ends its rollout with an error, and is never a reward of zero.

Tested with verifiers 0.4.0; prime-rl itself is not on PyPI and needs GPUs.
"""

import functools
import itertools
from collections.abc import Iterator
from typing import Any, Self

import verifiers.v1 as vf
from pydantic import Field, model_validator

from maxrl.integrations.judging import Judging
from maxrl.integrations.problems import named_task, parameters_text, problem_count, refuse_missing
from maxrl.tasks import Example, Split, Task, Verdict
from maxrl.tasks.base import draw_examples
from maxrl.tasks.guard import reason_of

_AT_ONCE = 500
"""Examples drawn from a task in one call."""


class MaxRLTasksetConfig(vf.TasksetConfig):
    """Which task, with which parameters, and how many of its problems."""

    problem: str = "subset_sum"
    """The task: a name of `maxrl tasks list`, a file `my_tasks.py`, or `package.module:Class`."""
    parameters: dict[str, Any] = Field(default_factory=dict)
    """The task's parameters that differ from its defaults (`maxrl tasks show NAME` tells them)."""
    split: Split = "train"
    """train or eval: streams that share no problem."""
    count: int | None = Field(None, ge=1)
    """How many problems; by default all of a split that is finite, and of others a stream without end."""
    seed: int = 0
    """Of the stream of problems."""

    @model_validator(mode="after")
    def _can_be_made(self) -> Self:
        self.task_of_maxrl()  # says what is wrong with a name or a parameter
        return self

    def task_of_maxrl(self) -> Task:
        """The task that is named here (`task` is verifiers')."""
        return named_task(self.problem, parameters_text(self.parameters))


class MaxRLTaskData(vf.TaskData):
    """A problem with all that its verdict depends on; of these fields the model is shown the prompt alone."""

    problem: str
    parameters: dict[str, Any]
    truth: dict[str, Any]


class MaxRLTask(vf.Task[MaxRLTaskData]):
    """One problem; the reward is the verifier's."""

    @vf.reward
    async def verdict(self, trace: vf.Trace) -> float:
        """The reward of the model's last reply; `success` and the reward's parts become metrics.

        Raises:
            RuntimeError: the verifier reached no verdict; verifiers ends the rollout with an error.
        """
        verdict = await self._judge(trace.last_reply)
        if verdict.reward is None:
            raise RuntimeError(f"no verdict: {reason_of(verdict)}: {verdict.error}")
        trace.record_metrics({"success": float(verdict.success), **verdict.components})
        if verdict.reason:
            trace.info["reason"] = verdict.reason
        return verdict.reward

    async def validate(self, runtime: vf.Runtime) -> bool | None:
        """Whether the task's own demonstration is a success; None where it has none."""
        task = named_task(self.data.problem, parameters_text(self.data.parameters))
        if not task.can_demonstrate():
            return None
        example = Example(id=self.data.id or "", prompt="", truth=self.data.truth)
        return (await self._judge(task.demonstration(example))).success

    async def _judge(self, completion: str) -> Verdict:
        judging = _judging(self.data.problem, parameters_text(self.data.parameters))
        return await judging.verdict(self.data.truth, completion)


class MaxRLTaskset(vf.Taskset[MaxRLTask, MaxRLTasksetConfig]):
    """A task's problems, in the order of its stream."""

    @property
    def bounded(self) -> bool:
        """Whether iterating ends."""
        return self._count is not None if self._bounded is None else self._bounded

    @property
    def _count(self) -> int | None:
        return problem_count(self.config.task_of_maxrl(), self.config.split, self.config.count)

    def load(self) -> Iterator[MaxRLTask]:
        """The problems, made as they are asked for.

        Raises:
            InputError: the machine lacks what the task needs, or the task makes no proper problems.
        """
        config = self.config
        task = config.task_of_maxrl()
        refuse_missing(task)
        count = self._count
        for start in itertools.count(0, _AT_ONCE):
            size = _AT_ONCE if count is None else min(_AT_ONCE, count - start)
            if size <= 0:
                return
            for example in draw_examples(task, config.split, size, seed=config.seed, start=start):
                yield MaxRLTask(_data(config, example), config.task)


def _data(config: MaxRLTasksetConfig, example: Example) -> MaxRLTaskData:
    return MaxRLTaskData(
        id=example.id,
        name=example.id,
        prompt=example.prompt,
        problem=config.problem,
        parameters=config.parameters,
        truth=dict(example.truth),
    )


@functools.cache
def _judging(problem: str, parameters: str) -> Judging:
    return Judging(named_task(problem, parameters))
