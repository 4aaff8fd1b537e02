"""tinker-cookbook: a mixin that makes the rewards of a group of environments those whose centring is our advantage.

    class MyBuilder(MaxRLRewards, ProblemGroupBuilder): ...

The cookbook's trainer subtracts a group's mean reward and divides by nothing, so that rewards r/r̂ become (r − r̂)/r̂ (see
`rescale`). The raw reward is kept in the metrics as `reward/raw`. Set `maxrl_estimator` in the class for another estimator,
and `maxrl_correctness_threshold` where rewards are graded: totals of at least so much are a success then.

Tested with tinker-cookbook 0.5.5.
"""

from collections.abc import Sequence
from typing import Any, ClassVar

import torch

from maxrl.integrations.outcome import checked_threshold, successes
from maxrl.integrations.rescale import rescaled_rewards


class MaxRLRewards:
    """Stands before an `EnvGroupBuilder` in the bases of a class."""

    maxrl_estimator: ClassVar[Any] = "maxrl"
    maxrl_correctness_threshold: ClassVar[float | None] = None

    async def compute_group_rewards(
        self, trajectory_group: list[Any], env_group: Sequence[Any]
    ) -> list[tuple[float, dict[str, Any]]]:
        """A final reward for each trajectory, by which its total is the rescaled one.

        Raises:
            RewardError: rewards that the estimator is not defined on.
        """
        own: list[tuple[float, dict[str, Any]]] = await super().compute_group_rewards(  # pyright: ignore[reportAttributeAccessIssue]
            trajectory_group, env_group
        )
        # A trajectory's total is what its steps were given, and what is returned here.
        steps = [sum(step.reward for step in trajectory.transitions) for trajectory in trajectory_group]
        raw = [before + reward for before, (reward, _) in zip(steps, own, strict=True)]
        rewards = successes(torch.tensor([raw]), checked_threshold(self.maxrl_correctness_threshold))
        totals = rescaled_rewards(rewards, estimator=self.maxrl_estimator)[0].tolist()
        return [
            (total - before, {**metrics, "reward/raw": reward})
            for total, before, reward, (_, metrics) in zip(totals, steps, raw, own, strict=True)
        ]
