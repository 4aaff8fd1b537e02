"""Relatives of MaxRL from later papers."""

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import pad

from maxrl.errors import InputError
from maxrl.objectives.arrays import is_number
from maxrl.objectives.base import Estimator, Number, count_present, excess, refuse_negative


@dataclass(frozen=True)
class PowerWeight(Estimator):
    """Between plain RL and MaxRL: centred rewards over a power of their mean.

    Formula: A = (r − r̂)/r̂^q, and 0 for a group without any success.

    Gradient: E[ĝ] = w(p)·∇p with w about p^(−q): q = 0 is `DrGRPO`, q = 1 the published `MaxRL`. It is no order's
    weight in between; `effective_weight` gives it exactly. Its paper finds q = .75 good and training unstable as
    q → 1.

    Assumptions: rewards ≥ 0, meant as 0/1; the weight is exact for binary ones.

    Zero signal: groups whose rewards are all equal give exactly 0. One rollout (left in a group): 0.

    Paper: arXiv 2604.25907. Shapes: (groups, rollouts) → (groups, rollouts).

    >>> PowerWeight(q=0.5)([[1, 0, 0, 0]])
    tensor([[ 1.5000, -0.5000, -0.5000, -0.5000]])
    """

    name: ClassVar[str] = "power_weight"
    q: float = 0.75
    """The power of the mean, from 0 to 1."""

    def __post_init__(self) -> None:
        if not is_number(self.q) or not 0 <= self.q <= 1:
            raise InputError(f"q must be a number from 0 (plain RL) to 1 (MaxRL), got {self.q!r}")

    @property
    def formula(self) -> str:
        return f"(r − r̂) / r̂^{self.q:g}, 0 when K = 0"

    def target_order(self, n: int) -> int | None:
        return n - 1 if self.q == 1 else None

    def _advantages(self, rewards_GN: Float[Tensor, "groups rollouts"]) -> Float[Tensor, "groups rollouts"]:
        refuse_negative(rewards_GN, "PowerWeight")
        count_G1 = count_present(rewards_GN)
        mean_G1 = rewards_GN.nansum(dim=1, keepdim=True) / count_G1
        return torch.where(mean_G1 > 0, excess(rewards_GN) / count_G1 / mean_G1**self.q, 0.0)

    def _binary(self, successes: int, rollouts: int) -> tuple[Number, Number]:
        if successes == 0:
            return 0.0, 0.0
        scale = math.pow(successes / rollouts, self.q)
        return (rollouts - successes) / rollouts / scale, -successes / rollouts / scale


@dataclass(frozen=True, kw_only=True)
class TailRL(Estimator):
    """MaxRL for real rewards: the likelihood of exceeding each threshold, over all thresholds at once.

    Formula: with the rewards of a group sorted, r_(1) ≤ … ≤ r_(N), A_(i) = N Σ_{j≤i} (r_(j) − r_(j−1))/(N − j + 1),
    minus the mean of these: each gap between neighbours is divided by how many rollouts lie above it.

    Gradient: E[ĝ] = ∫ w_{N−1}(P(r > t))·∇P(r > t) dt exactly, the published MaxRL's for success meaning r > t, summed
    over all t. On 0/1 rewards it is that estimator.

    Assumptions: any real rewards; a shift changes nothing, a scale scales.

    Zero signal: groups whose rewards are all equal give exactly 0. One rollout (left in a group): 0.

    Paper: arXiv 2609.02987. Shapes: (groups, rollouts) → (groups, rollouts).

    >>> TailRL()([[0.0, 1.0, 3.0]])
    tensor([[-3.0000, -1.5000,  4.5000]])
    """

    name: ClassVar[str] = "tail_rl"

    @property
    def formula(self) -> str:
        return "N Σ over gaps below r of gap / rollouts above it, centred"

    def target_order(self, n: int) -> int | None:
        return n - 1

    def _advantages(self, rewards_GN: Float[Tensor, "groups rollouts"]) -> Float[Tensor, "groups rollouts"]:
        count_G1 = count_present(rewards_GN)
        sorted_GN, order_GN = rewards_GN.masked_fill(rewards_GN.isnan(), torch.inf).sort(dim=1)
        below_N = torch.arange(rewards_GN.shape[1], dtype=rewards_GN.dtype, device=rewards_GN.device)
        gap_GN = pad(sorted_GN.diff(dim=1), (1, 0)).masked_fill(below_N >= count_G1, 0.0)
        # N times the sum of the gaps' shares has the sum of the gaps as its mean. Taken off gap by gap, what a rollout above
        # a gap keeps of it is below/above, so that 0/1 rewards are rounded once.
        gained_GN = (gap_GN * below_N / (count_G1 - below_N).clamp(min=1)).cumsum(dim=1)
        missed_GN = pad(gap_GN.flip(1).cumsum(dim=1).flip(1)[:, 1:], (0, 1))
        return torch.zeros_like(rewards_GN).scatter(1, order_GN, gained_GN - missed_GN)

    def _binary(self, successes: int, rollouts: int) -> tuple[Number, Number]:
        if successes == 0:
            return Fraction(0), Fraction(0)
        return Fraction(rollouts - successes, successes), Fraction(-1)
