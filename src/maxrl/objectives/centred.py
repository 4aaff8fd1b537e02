"""Estimators that centre the rewards of a group: GRPO and its relatives."""

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from maxrl.errors import InputError
from maxrl.objectives.arrays import is_number
from maxrl.objectives.base import Estimator, Number, count_present, excess


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
        if not is_number(self.eps) or not 0 <= self.eps < math.inf:
            raise InputError(f"eps must be a number of at least 0, got {self.eps!r}")

    @property
    def formula(self) -> str:
        return f"(r − r̂) / (σ̂ + {self.eps:g}), σ̂ with divisor {'N − 1' if self.ddof else 'N'}"

    def target_order(self, n: int) -> int | None:
        return None

    def _advantages(self, rewards_GN: Float[Tensor, "groups rollouts"]) -> Float[Tensor, "groups rollouts"]:
        # The order of the operations is TRL's, so that float32 results agree to the last bit.
        count_G1 = count_present(rewards_GN)
        centred_GN = rewards_GN - rewards_GN.nanmean(dim=1, keepdim=True)
        variance_G1 = (centred_GN**2).nanmean(dim=1, keepdim=True) * (count_G1 / (count_G1 - self.ddof))
        advantages_GN = centred_GN / (variance_G1.sqrt() + self.eps)
        flat_G1 = (
            count_G1 < 2 if self.eps > 0 else (excess(rewards_GN).nan_to_num() == 0).all(1, keepdim=True)
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
        return excess(rewards_GN) / (count_present(rewards_GN) - 1).clamp(min=1)

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
        return excess(rewards_GN) / count_present(rewards_GN)

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
