"""The estimators: rewards of a group → the advantage of each rollout.

Two statements per class. `_advantages` is the estimator, on any rewards it accepts; `_binary` is what it
comes to on binary rewards, a pair of numbers for K successes among N, as exact fractions where they are
rational. From that pair everything about the objective follows exactly (`analysis.py`). The tests hold the
two equal for every group, and the pair equal to the declared objective by summing over every group there is.

In the formulas n·r_i − Σr stands for n·(r_i − r̂): whole numbers on binary rewards, so that each advantage is
rounded once and [1, 0, 0] gives 2, −1, −1 where a rounded mean of 1/3 would not.
"""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from fractions import Fraction
from typing import ClassVar, Literal, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from maxrl.errors import InputError, RewardError, unknown_name
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

    @abstractmethod
    def target_order(self, n: int) -> int | None:
        """The order T for which E[ĝ] = w_T(p)·∇p exactly with n rollouts a group; None where there is none.

        0 means no signal at all: w_0 = 0.
        """

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

        >>> MaxRL().binary_advantages(1, 4)
        (Fraction(3, 1), Fraction(-1, 1))
        """
        n = to_count(rollouts, "rollouts", least=1)
        k = to_count(successes, "successes", least=0)
        if k > n:
            raise InputError(f"{k} successes among {n} rollouts: there cannot be more")
        success, failure = self._binary(k, n)
        return (success if k > 0 else Fraction(0), failure if k < n else Fraction(0))


@dataclass(frozen=True, kw_only=True)
class MaxRL(Estimator):
    """Maximum-likelihood RL: advantages relative to the group's mean reward.

    Formula: A = (r − r̂)/r̂, and 0 for a group without any success (`no_success="zero"`): the published
    algorithm. With `no_success="penalize"` such a group gets −1 each: the control variate is kept there. With
    `control_variate=False` A = r/r̂, and 0 without success (paper eq. 9).

    Gradient: E[ĝ] = w_T(p)·∇p with T = N − 1 as published, T = N with "penalize" or without control variate.
    So the published form is one order below the number of rollouts: at N = 2 it is plain RL. "penalize" moves
    the policy on prompts that never succeeded; the form without control variate is the noisiest of the three
    where most rollouts succeed (at N = 16 and p = .9, 9.4 times the second moment).

    Assumptions: rewards ≥ 0, meant as 0/1 or as likelihoods; the weight is exact for binary ones, on others
    the formula is applied as it is. Negative rewards are refused: a mean near zero flips signs and explodes.

    Zero signal: groups whose rewards are all equal (all zero included) give exactly 0. With "penalize"
    all-zero groups do not, and without control variate only all-zero groups do.

    One rollout (left in a group): 0 as published, which is w_0. The other two forms keep their order, w_1,
    and are then REINFORCE: 0 or −1 with "penalize", 1 or 0 without control variate.

    Paper: arXiv 2602.02710. Shapes: (groups, rollouts) → (groups, rollouts).

    >>> MaxRL()([[1, 0, 0, 0], [1, 1, 0, 0], [0, 0, 0, 0]])
    tensor([[ 3., -1., -1., -1.],
            [ 1.,  1., -1., -1.],
            [ 0.,  0.,  0.,  0.]])
    >>> MaxRL(no_success="penalize")([[1, 0], [0, 0]])
    tensor([[ 1., -1.],
            [-1., -1.]])
    >>> MaxRL(control_variate=False)([[1, 0, 0, 0]])
    tensor([[4., 0., 0., 0.]])
    """

    name: ClassVar[str] = "maxrl"
    no_success: Literal["zero", "penalize"] = "zero"
    """What a group without any success gets: 0, or −1 each."""
    control_variate: bool = True
    """Subtract 1 from every weight r/r̂: the same expectation but for all-zero groups, less noise."""

    def __post_init__(self) -> None:
        if self.no_success not in ("zero", "penalize"):
            raise unknown_name("no_success", str(self.no_success), ["zero", "penalize"])
        if not isinstance(self.control_variate, bool):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise InputError(f"control_variate must be True or False, got {self.control_variate!r}")
        if self.no_success == "penalize" and not self.control_variate:
            raise InputError(
                'no_success="penalize" keeps the control variate in groups without success, so it cannot go '
                "with control_variate=False; both target order N: choose one"
            )

    @property
    def formula(self) -> str:
        if not self.control_variate:
            return "r / r̂, 0 when K = 0"
        return f"(r − r̂) / r̂, {'−1' if self.no_success == 'penalize' else '0'} when K = 0"

    def target_order(self, n: int) -> int | None:
        return n - 1 if self.control_variate and self.no_success == "zero" else n

    def _advantages(self, rewards_GN: Float[Tensor, "groups rollouts"]) -> Float[Tensor, "groups rollouts"]:
        negative_GN = rewards_GN < 0
        if bool(negative_GN.any()):
            raise RewardError(
                f"MaxRL divides by the group's mean reward and is not defined on negative rewards (got "
                f"{float(rewards_GN[negative_GN][0]):g}): turn graded rewards into success with a threshold "
                "(correctness_threshold=τ in MaxRLConfig), shift and rescale them to [0, 1], or choose an "
                "estimator that is defined on real rewards (grpo, rloo, dr_grpo)"
            )
        total_G1 = rewards_GN.nansum(dim=1, keepdim=True)
        weighted_GN = _excess(rewards_GN) if self.control_variate else _count(rewards_GN) * rewards_GN
        without_success = -1.0 if self.no_success == "penalize" else 0.0
        return torch.where(total_G1 > 0, weighted_GN / total_G1, without_success)

    def _binary(self, successes: int, rollouts: int) -> tuple[Number, Number]:
        if successes == 0:
            return Fraction(0), Fraction(-1 if self.no_success == "penalize" else 0)
        if not self.control_variate:
            return Fraction(rollouts, successes), Fraction(0)
        return Fraction(rollouts - successes, successes), Fraction(-1)


@dataclass(frozen=True, kw_only=True)
class GRPO(Estimator):
    """Group-relative policy optimisation: rewards standardised within the group.

    Formula: A = (r − r̂)/(σ̂ + eps), σ̂ the standard deviation of the group with divisor N − ddof. The
    defaults are those of TRL and this reproduces TRL 1.16 to the bit in float32; verl has eps = 1e-6, others
    ddof = 0.

    Gradient: E[ĝ] = w(p)·∇p with w about 1/√(p(1−p)): no order of likelihood, and it rises again as p → 1,
    where prompts are all but solved. `effective_weight` gives it exactly.

    Assumptions: any real rewards.

    Zero signal: groups whose rewards are all equal. Where their mean is not exact in floating point (ten
    rewards of 0.1 in float32) the formula leaves that rounding error divided by eps, in TRL and, to the same
    bit, here; with eps = 0 such groups are exactly 0.

    One rollout (left in a group): 0.

    Paper: arXiv 2402.03300. Shapes: (groups, rollouts) → (groups, rollouts).

    >>> GRPO(eps=0.0)([[1, 0, 0, 0]])
    tensor([[ 1.5000, -0.5000, -0.5000, -0.5000]])
    """

    name: ClassVar[str] = "grpo"
    ddof: int = 1
    """0 or 1: the divisor of the variance is N − ddof."""
    eps: float = 1e-4
    """Added to the standard deviation."""

    def __post_init__(self) -> None:
        if isinstance(self.ddof, bool) or self.ddof not in (0, 1):
            raise InputError(f"ddof must be 0 or 1, got {self.ddof!r}")
        if not isinstance(self.eps, (int, float)) or not 0 <= self.eps < math.inf:  # pyright: ignore[reportUnnecessaryIsInstance]
            raise InputError(f"eps must be a number of at least 0, got {self.eps!r}")

    @property
    def formula(self) -> str:
        return f"(r − r̂) / (σ̂ + {self.eps:g}), σ̂ with divisor N − {self.ddof}"

    def target_order(self, n: int) -> int | None:
        return None

    def _advantages(self, rewards_GN: Float[Tensor, "groups rollouts"]) -> Float[Tensor, "groups rollouts"]:
        # The order of the operations is TRL's, so that float32 results agree to the last bit.
        count_G1 = _count(rewards_GN)
        centred_GN = rewards_GN - rewards_GN.nanmean(dim=1, keepdim=True)
        variance_G1 = (centred_GN**2).nanmean(dim=1, keepdim=True) * (count_G1 / (count_G1 - self.ddof))
        advantages_GN = centred_GN / (variance_G1.sqrt() + self.eps)
        flat_G1 = (
            count_G1 < 2 if self.eps > 0 else (_excess(rewards_GN).nan_to_num() == 0).all(1, keepdim=True)
        )
        return torch.where(flat_G1, 0.0, advantages_GN)

    def _binary(self, successes: int, rollouts: int) -> tuple[Number, Number]:
        failures = rollouts - successes
        if successes == 0 or failures == 0:
            return 0.0, 0.0
        spread = math.sqrt(successes * failures / (rollouts * (rollouts - self.ddof))) + self.eps
        return failures / rollouts / spread, -successes / rollouts / spread


@dataclass(frozen=True, kw_only=True)
class RLOO(Estimator):
    """REINFORCE leave-one-out: each reward against the mean of the others.

    Formula: A = r − mean of the other rewards = N/(N−1)·(r − r̂).

    Gradient: E[ĝ] = ∇p: plain RL, order T = 1, without bias for every N ≥ 2 (and for real rewards, ∇E[r]).

    Assumptions: any real rewards.

    Zero signal: groups whose rewards are all equal give exactly 0. One rollout (left in a group): 0.

    Paper: arXiv 2402.14740. Shapes: (groups, rollouts) → (groups, rollouts).

    >>> RLOO()([[1, 0, 0, 0, 0]])
    tensor([[ 1.0000, -0.2500, -0.2500, -0.2500, -0.2500]])
    """

    name: ClassVar[str] = "rloo"

    @property
    def formula(self) -> str:
        return "N/(N−1) · (r − r̂)"

    def target_order(self, n: int) -> int | None:
        return 1 if n > 1 else 0

    def _advantages(self, rewards_GN: Float[Tensor, "groups rollouts"]) -> Float[Tensor, "groups rollouts"]:
        return _excess(rewards_GN) / (_count(rewards_GN) - 1).clamp(min=1)

    def _binary(self, successes: int, rollouts: int) -> tuple[Number, Number]:
        others = max(rollouts - 1, 1)
        return Fraction(rollouts - successes, others), Fraction(-successes, others)


@dataclass(frozen=True, kw_only=True)
class DrGRPO(Estimator):
    """GRPO done right: rewards centred on the group's mean, not divided by their spread.

    Formula: A = r − r̂.

    Gradient: E[ĝ] = (N−1)/N·∇p: plain RL but for the constant (N−1)/N, because each reward stands in its own
    baseline. So it is unbiased for no order; `RLOO` is the same without the constant.

    Assumptions: any real rewards.

    Zero signal: groups whose rewards are all equal give exactly 0. One rollout (left in a group): 0.

    Paper: arXiv 2503.20783. Shapes: (groups, rollouts) → (groups, rollouts).

    >>> DrGRPO()([[1, 0, 0, 0]])
    tensor([[ 0.7500, -0.2500, -0.2500, -0.2500]])
    """

    name: ClassVar[str] = "dr_grpo"

    @property
    def formula(self) -> str:
        return "r − r̂"

    def target_order(self, n: int) -> int | None:
        return None

    def _advantages(self, rewards_GN: Float[Tensor, "groups rollouts"]) -> Float[Tensor, "groups rollouts"]:
        return _excess(rewards_GN) / _count(rewards_GN)

    def _binary(self, successes: int, rollouts: int) -> tuple[Number, Number]:
        return Fraction(rollouts - successes, rollouts), Fraction(-successes, rollouts)


@dataclass(frozen=True, kw_only=True)
class Reinforce(Estimator):
    """REINFORCE: the reward itself, no baseline.

    Formula: A = r.

    Gradient: E[ĝ] = ∇p (∇E[r] for real rewards): plain RL, order T = 1, for every N.

    Assumptions: any real rewards. The noisiest of all: nothing is subtracted.

    Zero signal: only groups whose rewards are all zero. One rollout: its reward.

    Paper: Williams 1992, https://doi.org/10.1007/BF00992696 (before arXiv). Shapes: (groups, rollouts) →
    (groups, rollouts).

    >>> Reinforce()([[1, 0, 0, 0]])
    tensor([[1., 0., 0., 0.]])
    """

    name: ClassVar[str] = "reinforce"

    @property
    def formula(self) -> str:
        return "r"

    def target_order(self, n: int) -> int | None:
        return 1

    def _advantages(self, rewards_GN: Float[Tensor, "groups rollouts"]) -> Float[Tensor, "groups rollouts"]:
        return rewards_GN

    def _binary(self, successes: int, rollouts: int) -> tuple[Number, Number]:
        return Fraction(1), Fraction(0)


def _count(rewards_GN: Float[Tensor, "groups rollouts"]) -> Float[Tensor, "groups 1"]:
    """Rollouts present in each group, in the dtype of the rewards (int64 would make quotients float32)."""
    return (~rewards_GN.isnan()).sum(dim=1, keepdim=True).to(rewards_GN.dtype)


def _excess(rewards_GN: Float[Tensor, "groups rollouts"]) -> Float[Tensor, "groups rollouts"]:
    """n·r_i − Σr = n·(r_i − r̂), exactly 0 where all rewards of a group are equal.

    Centring does not see a shift; taking the lowest reward off first makes equal rewards exact zeros, where
    0.1 + 0.1 + 0.1 ≠ 3·0.1 would leave a group with noise for a signal.
    """
    lowest_G1 = rewards_GN.masked_fill(rewards_GN.isnan(), torch.inf).amin(dim=1, keepdim=True)
    above_GN = rewards_GN - lowest_G1
    return _count(rewards_GN) * above_GN - above_GN.nansum(dim=1, keepdim=True)
