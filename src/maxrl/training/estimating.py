"""An estimator at work: what it remembers of each task, and which estimator that makes it."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from maxrl.objectives import AnyEstimator, Estimator, EstimatorWithMemory, State

logger = logging.getLogger(__name__)


class Estimating:
    """Estimators and their states, one for each task.

    Tasks never meet in a call, so that neither a memory nor a sum over the batch mixes them. `tasks` names the task of each
    group; `step` is the number of optimizer steps made. Where tasks differ in the size of their groups, `sizes` tells it of
    each group, and an estimator sees its own columns only: what lies behind them is no rollout that is missing.

    Args:
        estimator: of tasks that have none of their own.
        of_tasks: those of the others.
    """

    def __init__(self, estimator: AnyEstimator, of_tasks: Mapping[str, AnyEstimator] | None = None) -> None:
        self.estimator = estimator
        self.of_tasks = dict(of_tasks or {})
        self.states: dict[str, State] = {}
        self._warned_alone = False

    def of(self, task: str) -> AnyEstimator:
        """The task's estimator."""
        return self.of_tasks.get(task, self.estimator)

    @property
    def remembers(self) -> bool:
        return any(isinstance(it, EstimatorWithMemory) for it in (self.estimator, *self.of_tasks.values()))

    def given(self, task: str, step: int) -> Estimator:
        """The estimator without memory that the task's next batch meets."""
        estimator = self.of(task)
        if isinstance(estimator, EstimatorWithMemory):
            return estimator.given(self._state(estimator, task, step))
        return estimator

    def advantages(
        self, signal_GN: Tensor, tasks: Sequence[str], step: int, sizes: Sequence[int] | None = None
    ) -> Tensor:
        """Advantages (groups, rollouts), from the states as they are; 0 behind the end of a smaller group.

        Raises:
            RewardError: the estimator is not defined on a reward.
            InputError: a user's own estimator returns something else than advantages.
        """
        advantages_GN = torch.zeros_like(signal_GN)
        for task, groups in _groups_of(tasks).items():
            own_GN = _own(signal_GN, groups, sizes)
            advantages_GN[groups, : own_GN.shape[1]] = self.given(task, step)(own_GN)
        return advantages_GN

    def advance(
        self, signal_GN: Tensor, tasks: Sequence[str], step: int, sizes: Sequence[int] | None = None
    ) -> None:
        """Remember a batch drawn for training."""
        self._warn_if_alone(tasks)
        for task, groups in _groups_of(tasks).items():
            estimator = self.of(task)
            if isinstance(estimator, EstimatorWithMemory):
                before = self._state(estimator, task, step)
                self.states[task] = estimator.advance(before, _own(signal_GN, groups, sizes))

    def metrics(self, signal_GN: Tensor, tasks: Sequence[str], step: int) -> dict[str, float]:
        """The estimator's own statistics, and of groups the share that met each of its choices, or a lowered order.

        Nothing where tasks with different estimators come together: figures of one would pass for those of all.
        """
        estimator = self.of(tasks[0])
        if any(self.of(task) != estimator for task in tasks):
            return {}
        scored_G = (~signal_GN.isnan()).sum(dim=1)
        met: dict[int, tuple[Estimator, list[int]]] = {}  # tasks may be many, and share a choice
        for task, groups in _groups_of(tasks).items():
            given = self.given(task, step)
            met.setdefault(id(given), (given, []))[1].extend(groups)
        metrics: dict[str, float] = {}
        lowered = 0
        for given, groups in met.values():
            metrics |= given.statistics(signal_GN[groups])
            lowered += int((scored_G[groups] < given.least_rollouts).sum())
        # Smaller groups, as an evaluation may have, are no rollouts that are missing.
        if 1 < estimator.least_rollouts <= signal_GN.shape[1]:
            metrics["frac_order_lowered"] = lowered / len(tasks)
        if isinstance(estimator, EstimatorWithMemory):
            for label, choice in _labels(estimator.choices).items():
                chosen = sum(len(groups) for given, groups in met.values() if given == choice)
                metrics[f"estimator/{label}"] = chosen / len(tasks)
        return metrics

    def to_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps, as JSON types."""
        names = {task: estimator.name for task, estimator in self.of_tasks.items()}
        return {"name": self.estimator.name, "states": self.states, **({"tasks": names} if names else {})}

    def restore(self, saved: Mapping[str, Any]) -> None:
        """Go on from `to_dict` of estimators of these names; another one begins anew, and says so.

        Raises:
            InputError: what was saved is no state of this estimator.
        """
        before: Mapping[str, str] = saved.get("tasks", {})
        self._warn_if_renamed("", saved["name"], any(task not in before for task in saved["states"]))
        for task in before.keys() | self.of_tasks.keys():
            self._warn_if_renamed(task, before.get(task, saved["name"]), task in saved["states"])
        self.states = {
            task: state
            for task, state in saved["states"].items()
            if before.get(task, saved["name"]) == self.of(task).name
        }
        for task, state in self.states.items():
            estimator = self.of(task)
            if isinstance(estimator, EstimatorWithMemory):
                estimator.given(state)

    def _warn_if_renamed(self, task: str, before: str, had_state: bool) -> None:
        estimator = self.of(task)
        if before != estimator.name and (had_state or isinstance(estimator, EstimatorWithMemory)):
            logger.warning(
                "the checkpoint was saved with estimator '%s'%s: '%s' begins without memory",
                before,
                f" for task {task}" if task else "",
                estimator.name,
            )

    def _warn_if_alone(self, tasks: Sequence[str]) -> None:
        estimator = self.estimator
        over_batch = isinstance(estimator, Estimator) and estimator.batch_scoped
        alone = len(tasks) > 1 and len({*tasks}) == len(tasks)
        if alone and (isinstance(estimator, EstimatorWithMemory) or over_batch) and not self._warned_alone:
            self._warned_alone = True
            logger.warning(
                "each of the %d groups of a batch has a task of its own in the column 'task' (such as %r): estimator '%s' "
                "keeps tasks apart and sees one group at a time. Rename the column if it does not name kinds of problems",
                len(tasks),
                tasks[0],
                estimator.name,
            )

    def _state(self, estimator: EstimatorWithMemory, task: str, step: int) -> State:
        state = self.states[task] if task in self.states else estimator.initial_state()
        return estimator.at_step(state, step)


def _own(signal_GN: Tensor, groups: Sequence[int], sizes: Sequence[int] | None) -> Tensor:
    """Groups of one task, as wide as they are."""
    own_GN = signal_GN[groups]
    if sizes is None:
        return own_GN
    return own_GN[:, : max(sizes[group] for group in groups)].contiguous()


def _groups_of(tasks: Sequence[str]) -> dict[str, list[int]]:
    groups: dict[str, list[int]] = {}
    for group, task in enumerate(tasks):
        groups.setdefault(task, []).append(group)
    return groups


def _labels(choices: Sequence[Estimator]) -> dict[str, Estimator]:
    """Each choice by its name; by how it is written where two have the same."""
    names = [choice.name for choice in choices]
    return {choice.name if names.count(choice.name) == 1 else repr(choice): choice for choice in choices}
