"""What every estimator is: rewards of a group → the advantage of each rollout.

Two statements per class. `_advantages` is the estimator, on any rewards it accepts; `_binary` is what it
comes to on binary rewards, a pair of numbers for K successes among N, as exact fractions where they are
rational. From that pair everything about the objective follows exactly (`analysis.py`). The tests hold the
two equal for every group, and the pair equal to the declared objective by summing over every group there is.

In the formulas n·r_i − Σr stands for n·(r_i − r̂): whole numbers on binary rewards, so that each advantage is
rounded once and [1, 0, 0] gives 2, −1, −1 where a rounded mean of 1/3 would not.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from fractions import Fraction
from typing import ClassVar, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from maxrl.errors import InputError, RewardError
from maxrl.objectives.arrays import ArrayLike, to_count
from maxrl.objectives.rewards import group_rewards

Number: TypeAlias = Fraction | float


@dataclass(frozen=True, kw_only=True)
class Estimator(ABC):
    """Rewards of shape (groups, rollouts) → advantages of the same shape. Frozen, and without memory.

    Call it with a matrix (nested list, numpy array, tensor) and, where rollouts are missing, a mask of the
    same shape that is False for them; NaN and None mark missing rollouts too. Or call it with flat rewards
    and `group_ids`, integers or strings, one per rollout in any order: groups are formed by id, never by
    position, and may differ in size. A missing rollout leaves the statistics of its group and gets advantage
    0.

    The advantages come back on the device of a tensor input, in the dtype of a floating tensor or array, in
    torch's default dtype for integers, booleans and lists. Inputs are left as they are. Infinite rewards are
    refused.

    >>> from maxrl.objectives import RLOO
    >>> RLOO()([1.0, 0.0, 0.0, 1.0, 0.0], group_ids=["a", "b", "a", "b", "b"])
    tensor([ 1.0000, -0.5000, -1.0000,  1.0000, -0.5000])
    >>> RLOO()([[1.0, 0.0, None]])
    tensor([[ 1., -1.,  0.]])
    """

    name: ClassVar[str]

    @property
    @abstractmethod
    def formula(self) -> str:
        """The advantage of one rollout, in one line."""

    @property
    def least_rollouts(self) -> int:
        """Rollouts that a group must hold for the declared weight; groups with fewer get a lower order."""
        return 1

    @abstractmethod
    def target_order(self, n: int) -> int | None:
        """The order T for which E[ĝ] = w_T(p)·∇p exactly with n rollouts a group; None where there is none.

        0 means no signal at all: w_0 = 0.
        """

    @property
    def batch_scoped(self) -> bool:
        """Whether what a group gets depends on the other groups of its batch."""
        return False

    def statistics(self, rewards_GN: Float[Tensor, "groups rollouts"]) -> dict[str, float]:
        """What this estimator wants logged of a batch; NaN rewards are missing."""
        return {}

    @abstractmethod
    def _advantages(self, rewards_GN: Float[Tensor, "groups rollouts"]) -> Float[Tensor, "groups rollouts"]:
        """The advantages. NaN rewards are missing; what is returned in their places is not looked at."""

    @abstractmethod
    def _binary(self, successes: int, rollouts: int) -> tuple[Number, Number]:
        """The advantages of a success and of a failure; one that the group does not hold is not looked at."""

    def __call__(
        self, rewards: ArrayLike, mask: ArrayLike | None = None, *, group_ids: ArrayLike | None = None
    ) -> Tensor:
        groups = group_rewards(rewards, mask, group_ids)
        if groups.rewards_GN.numel() == 0:
            return groups.restore(groups.rewards_GN)
        return groups.restore(self._advantages(groups.rewards_GN))

    def binary_advantages(self, successes: int, rollouts: int) -> tuple[Number, Number]:
        """(advantage of a success, advantage of a failure) with `successes` 1s among `rollouts` 0/1 rewards.

        Exact fractions for a rational estimator. The entry of a kind that the group does not hold is 0.

        >>> from maxrl.objectives import MaxRL
        >>> MaxRL().binary_advantages(1, 4)
        (Fraction(3, 1), Fraction(-1, 1))
        """
        n = to_count(rollouts, "rollouts", least=1)
        k = to_count(successes, "successes", least=0)
        if k > n:
            raise InputError(f"{k} successes among {n} rollouts: there cannot be more")
        success, failure = self._binary(k, n)
        return (success if k > 0 else Fraction(0), failure if k < n else Fraction(0))


def count_present(rewards_GN: Float[Tensor, "groups rollouts"]) -> Float[Tensor, "groups 1"]:
    """Rollouts present in each group, in the dtype of the rewards (int64 would make quotients float32)."""
    return (~rewards_GN.isnan()).sum(dim=1, keepdim=True).to(rewards_GN.dtype)


def excess(rewards_GN: Float[Tensor, "groups rollouts"]) -> Float[Tensor, "groups rollouts"]:
    """n·r_i − Σr = n·(r_i − r̂), exactly 0 where all rewards of a group are equal.

    Centring does not see a shift; taking the lowest reward off first makes equal rewards exact zeros, where
    0.1 + 0.1 + 0.1 ≠ 3·0.1 would leave a group with noise for a signal.
    """
    lowest_G1 = rewards_GN.masked_fill(rewards_GN.isnan(), torch.inf).amin(dim=1, keepdim=True)
    above_GN = rewards_GN - lowest_G1
    return count_present(rewards_GN) * above_GN - above_GN.nansum(dim=1, keepdim=True)


def refuse_negative(rewards_GN: Float[Tensor, "groups rollouts"], who: str) -> None:
    """For an estimator that divides by the group's mean reward.

    Raises:
        RewardError: a reward is negative.
    """
    negative_GN = rewards_GN < 0
    if bool(negative_GN.any()):
        raise RewardError(
            f"{who} divides by the group's mean reward and is not defined on negative rewards (got "
            f"{float(rewards_GN[negative_GN][0]):g}): turn graded rewards into success with a threshold "
            "(correctness_threshold=τ), shift and rescale them to [0, 1], or choose an "
            "estimator that is defined on real rewards (tail_rl, grpo, rloo, dr_grpo)"
        )


def refuse_above_one(rewards_GN: Float[Tensor, "groups rollouts"], who: str) -> None:
    """For an estimator that takes rewards for likelihoods, after `refuse_negative`.

    Raises:
        RewardError: a reward is above 1.
    """
    above_GN = rewards_GN > 1
    if bool(above_GN.any()):
        raise RewardError(
            f"{who} is defined on rewards in [0, 1] (got {float(rewards_GN[above_GN][0]):g}): rescale them, or turn graded "
            "rewards into success with a threshold (correctness_threshold=τ)"
        )
