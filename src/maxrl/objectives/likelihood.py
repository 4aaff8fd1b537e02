"""Estimators that climb toward the likelihood of success."""

from dataclasses import dataclass
from fractions import Fraction
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from maxrl.errors import InputError, RewardError, unknown_name
from maxrl.objectives.base import Estimator, Number, count_present, excess


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
        weighted_GN = excess(rewards_GN) if self.control_variate else count_present(rewards_GN) * rewards_GN
        without_success = -1.0 if self.no_success == "penalize" else 0.0
        return torch.where(total_G1 > 0, weighted_GN / total_G1, without_success)

    def _binary(self, successes: int, rollouts: int) -> tuple[Number, Number]:
        if successes == 0:
            return Fraction(0), Fraction(-1 if self.no_success == "penalize" else 0)
        if not self.control_variate:
            return Fraction(rollouts, successes), Fraction(0)
        return Fraction(rollouts - successes, successes), Fraction(-1)
