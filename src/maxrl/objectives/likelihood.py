"""Estimators that climb toward the likelihood of success."""

from dataclasses import dataclass
from fractions import Fraction
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from maxrl.errors import InputError, unknown_name
from maxrl.objectives.arrays import to_count
from maxrl.objectives.base import (
    Estimator,
    Number,
    count_present,
    excess,
    refuse_above_one,
    refuse_negative,
)
from maxrl.objectives.orders import polynomial_advantages, polynomial_pair


@dataclass(frozen=True, kw_only=True)
class MaxRL(Estimator):
    """Maximum-likelihood RL: advantages relative to the group's mean reward.

    Formula: A = (r − r̂)/r̂, and 0 for a group without any success (`no_success="zero"`): the published
    algorithm. With `no_success="penalize"` such a group gets −1 each: the control variate is kept there. With
    `control_variate=False` A = r/r̂, and 0 without success (paper eq. 9).

    With `order=T` the weight is that of order T exactly, for any 1 ≤ T ≤ N: A = N/(N−1)·ω_j·(r_j − r̂), where
    ω_j, the chance that subsets of the other rollouts have failed (`orders.py`), and the mean of the others do
    not depend on rollout j. So it is unbiased, also on likelihoods in [0, 1], and zero where all rewards are
    equal. `control_variate=False` leaves the baseline out: A = ω_j·r_j. `order=N` is what the published form is
    often said to be, for 1–8 % more second moment (N = 16). Where rollouts are missing, T is lowered to those left.

    Gradient: E[ĝ] = w_T(p)·∇p with T = N − 1 as published, T = N with "penalize" or without control variate.
    So the published form is one order below the number of rollouts: at N = 2 it is plain RL. "penalize" moves
    the policy on prompts that never succeeded; the form without control variate is the noisiest of the three
    where most rollouts succeed (at N = 16 and p = .9, 9.4 times the second moment).

    Assumptions: rewards ≥ 0, meant as 0/1 or as likelihoods; the weight is exact for binary ones, on others
    the formula is applied as it is. Negative rewards are refused: a mean near zero flips signs and explodes.

    Zero signal: groups whose rewards are all equal (all zero included) give exactly 0. With "penalize"
    all-zero groups do not, and without control variate only all-zero groups do.

    One rollout (left in a group): 0 as published, which is w_0. The other two forms keep their order, w_1,
    and are then REINFORCE: 0 or −1 with "penalize", 1 or 0 without control variate. With `order` 0, or without
    control variate the reward.

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
    >>> MaxRL(order=2)([[1, 0, 0, 0], [1, 1, 1, 0]])
    tensor([[ 2.0000, -0.5556, -0.5556, -0.5556],
            [ 0.4444,  0.4444,  0.4444, -1.0000]])
    """

    name: ClassVar[str] = "maxrl"
    no_success: Literal["zero", "penalize"] = "zero"
    """What a group without any success gets: 0, or −1 each."""
    control_variate: bool = True
    """Subtract 1 from every weight r/r̂: the same expectation but for all-zero groups, less noise."""
    order: int | None = None
    """T of the weight w_T that is aimed at; None is the published estimator, which alone `no_success` concerns."""

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
        if self.order is not None:
            to_count(self.order, "order", least=1)
            if self.no_success != "zero":
                raise InputError(
                    f'no_success="penalize" is a form of the published estimator and cannot go with order={self.order}, '
                    "which needs no such choice: leave one of them out"
                )

    @property
    def formula(self) -> str:
        if self.order is not None:
            weight = f"ω = Σ_(j<{self.order}) P(j others failed)"
            return f"N/(N−1) · ω (r − r̂), {weight}" if self.control_variate else f"ω r, {weight}"
        if not self.control_variate:
            return "r / r̂, 0 when K = 0"
        return f"(r − r̂) / r̂, {'−1' if self.no_success == 'penalize' else '0'} when K = 0"

    @property
    def least_rollouts(self) -> int:
        return self.order or 1

    def target_order(self, n: int) -> int | None:
        if self.order is not None:
            return 0 if n == 1 and self.control_variate else min(self.order, n)
        return n - 1 if self.control_variate and self.no_success == "zero" else n

    def _advantages(self, rewards_GN: Float[Tensor, "groups rollouts"]) -> Float[Tensor, "groups rollouts"]:
        refuse_negative(rewards_GN, "MaxRL")
        if self.order is not None:
            refuse_above_one(rewards_GN, "MaxRL with an order")
            ones = (1,) * self.order
            return polynomial_advantages(rewards_GN, lambda n: ones[:n], baseline=self.control_variate)
        total_G1 = rewards_GN.nansum(dim=1, keepdim=True)
        weighted_GN = excess(rewards_GN) if self.control_variate else count_present(rewards_GN) * rewards_GN
        without_success = -1.0 if self.no_success == "penalize" else 0.0
        return torch.where(total_G1 > 0, weighted_GN / total_G1, without_success)

    def _binary(self, successes: int, rollouts: int) -> tuple[Number, Number]:
        if self.order is not None:
            return polynomial_pair(successes, rollouts, (1,) * self.order, baseline=self.control_variate)
        if successes == 0:
            return Fraction(0), Fraction(-1 if self.no_success == "penalize" else 0)
        if not self.control_variate:
            return Fraction(rollouts, successes), Fraction(0)
        return Fraction(rollouts - successes, successes), Fraction(-1)
