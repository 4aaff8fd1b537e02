"""An estimator at work: what it remembers of each task, and which estimator that makes it."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from maxrl.objectives import AnyEstimator, Estimator, EstimatorWithMemory, State

logger = logging.getLogger(__name__)


class Estimating:
    """An estimator and its states, one for each task.

    Tasks never meet in a call, so that neither a memory nor a sum over the batch mixes them. `tasks` names the task of each
    group; `step` is the number of optimizer steps made.
    """

    def __init__(self, estimator: AnyEstimator) -> None:
        self.estimator = estimator
        self.states: dict[str, State] = {}
        self._warned_alone = False

    @property
    def remembers(self) -> bool:
        return isinstance(self.estimator, EstimatorWithMemory)

    def given(self, task: str, step: int) -> Estimator:
        """The estimator without memory that the task's next batch meets."""
        if isinstance(self.estimator, EstimatorWithMemory):
            return self.estimator.given(self._state(self.estimator, task, step))
        return self.estimator

    def advantages(self, signal_GN: Tensor, tasks: Sequence[str], step: int) -> Tensor:
        """Advantages (groups, rollouts), from the states as they are.

        Raises:
            RewardError: the estimator is not defined on a reward.
            InputError: a user's own estimator returns something else than advantages.
        """
        advantages_GN = torch.zeros_like(signal_GN)
        for task, groups in _groups_of(tasks).items():
            advantages_GN[groups] = self.given(task, step)(signal_GN[groups])
        return advantages_GN

    def advance(self, signal_GN: Tensor, tasks: Sequence[str], step: int) -> None:
        """Remember a batch drawn for training."""
        self._warn_if_alone(tasks)
        if isinstance(self.estimator, EstimatorWithMemory):
            for task, groups in _groups_of(tasks).items():
                before = self._state(self.estimator, task, step)
                self.states[task] = self.estimator.advance(before, signal_GN[groups])

    def metrics(self, signal_GN: Tensor, tasks: Sequence[str], step: int) -> dict[str, float]:
        """The estimator's own statistics, and of groups the share that met each of its choices, or a lowered order."""
        scored_G = (~signal_GN.isnan()).sum(dim=1)
        met: dict[int, tuple[Estimator, list[int]]] = {}  # tasks may be many, and share a choice
        for task, groups in _groups_of(tasks).items():
            estimator = self.given(task, step)
            met.setdefault(id(estimator), (estimator, []))[1].extend(groups)
        metrics: dict[str, float] = {}
        lowered = 0
        for estimator, groups in met.values():
            metrics |= estimator.statistics(signal_GN[groups])
            lowered += int((scored_G[groups] < estimator.least_rollouts).sum())
        # Smaller groups, as an evaluation may have, are no rollouts that are missing.
        if 1 < self.estimator.least_rollouts <= signal_GN.shape[1]:
            metrics["frac_order_lowered"] = lowered / len(tasks)
        if isinstance(self.estimator, EstimatorWithMemory):
            for label, choice in _labels(self.estimator.choices).items():
                chosen = sum(len(groups) for estimator, groups in met.values() if estimator == choice)
                metrics[f"estimator/{label}"] = chosen / len(tasks)
        return metrics

    def to_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps, as JSON types."""
        return {"name": self.estimator.name, "states": self.states}

    def restore(self, saved: Mapping[str, Any]) -> None:
        """Go on from `to_dict` of an estimator of this name; another one begins anew, and says so.

        Raises:
            InputError: what was saved is no state of this estimator.
        """
        if saved["name"] != self.estimator.name:
            if saved["states"] or self.remembers:
                logger.warning(
                    "the checkpoint was saved with estimator '%s': '%s' begins without memory",
                    saved["name"],
                    self.estimator.name,
                )
            return
        self.states = dict(saved["states"])
        if isinstance(self.estimator, EstimatorWithMemory):
            for state in self.states.values():
                self.estimator.given(state)

    def _warn_if_alone(self, tasks: Sequence[str]) -> None:
        estimator = self.estimator
        over_batch = isinstance(estimator, Estimator) and estimator.batch_scoped
        alone = len(tasks) > 1 and len({*tasks}) == len(tasks)
        if alone and (self.remembers or over_batch) and not self._warned_alone:
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


def _groups_of(tasks: Sequence[str]) -> dict[str, list[int]]:
    groups: dict[str, list[int]] = {}
    for group, task in enumerate(tasks):
        groups.setdefault(task, []).append(group)
    return groups


def _labels(choices: Sequence[Estimator]) -> dict[str, Estimator]:
    """Each choice by its name; by how it is written where two have the same."""
    names = [choice.name for choice in choices]
    return {choice.name if names.count(choice.name) == 1 else repr(choice): choice for choice in choices}
