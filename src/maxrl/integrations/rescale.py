"""Rewards that become an estimator's advantages in any engine that subtracts a group's mean and divides by nothing."""

from typing import Any

import torch
from torch import Tensor

from maxrl.errors import InputError
from maxrl.objectives import Estimator, as_estimator
from maxrl.objectives.arrays import ArrayLike
from maxrl.objectives.rewards import group_rewards


def rescaled_rewards(
    rewards: ArrayLike,
    group_ids: ArrayLike | None = None,
    *,
    estimator: Any = "maxrl",
) -> Tensor:
    """Rewards r' whose difference from their group's mean is the estimator's advantage: r'_i − mean(r') = A_i.

    For MaxRL r' = r/r̂ (0 where the mean r̂ is 0): the reward in units of the group's mean, so that (r − r̂)/r̂ is left when
    an engine centres it. For others with advantages that sum to zero in each group (GRPO, RLOO, TailRL, …) it is A + 1, and
    0 for groups of mean 0 without signal. Those of a lower order (`maxrl(order=T)`, `pass_at_k`) do not, and are refused.

    An engine fits if it centres within the group of one prompt and does *not* divide by the standard deviation:
    TRL `scale_rewards="none"`, OpenRLHF `dr_grpo`, AReaL `mean_level: group, std_level: null`, NeMo-RL with
    `normalize_rewards: false`, open-instruct `centered`, tinker-cookbook. Advantages reach N − 1 for a lone success among N:
    clips of rewards or advantages (OpenRLHF's `reward.clip_range`, AReaL's `reward_clip`) must be at least N, or they cut
    off what MaxRL is about.

    Args:
        rewards: (groups, rollouts), or flat with `group_ids`. NaN or None: missing, left out of its group, 0 in the result;
            an engine counts a missing rollout as one of reward 0, so drop it there.
        group_ids: one per rollout, integers or strings.
        estimator: by name, or an instance.

    Raises:
        InputError: the estimator has memory, or its advantages do not sum to zero, which centring would change.
        RewardError: rewards that the estimator is not defined on.

    >>> rescaled_rewards([[1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]])
    tensor([[4., 0., 0., 0.],
            [0., 0., 0., 0.]])
    """
    built = as_estimator(estimator)
    if not isinstance(built, Estimator):
        raise InputError(
            f"{built.name} has memory, which a function of rewards alone cannot keep; use a plug-in"
        )
    groups = group_rewards(rewards, None, group_ids)
    if groups.rewards_GN.numel() == 0:
        return groups.restore(groups.rewards_GN)
    _refuse_uncentred(built, groups.rewards_GN.shape[1])
    advantages_GN = built(groups.rewards_GN)
    live_G1 = (advantages_GN != 0).any(dim=1, keepdim=True)
    return groups.restore(advantages_GN + (live_G1 | (groups.rewards_GN.nansum(dim=1, keepdim=True) > 0)))


def _refuse_uncentred(estimator: Estimator, size: int) -> None:
    """Asked of every number of successes at once: a batch may by chance have none by which it shows."""
    successes_GN = torch.ones(size + 1, size, dtype=torch.float64).tril(diagonal=-1)
    advantages_GN = estimator(successes_GN)
    if bool((advantages_GN.sum(dim=1).abs() > 1e-6 * advantages_GN.abs().sum(dim=1)).any()):
        raise InputError(
            f"the advantages of {estimator.name} do not sum to zero in each group; an engine that subtracts the mean would "
            "turn them into others"
        )
