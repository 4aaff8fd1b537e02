"""Reward-weighted regression on what succeeded."""

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from maxrl.errors import InputError, RewardError, unknown_name
from maxrl.objectives.arrays import is_number
from maxrl.objectives.base import Estimator, Number, count_present

_TOO_COLD = (
    "exp((r − mean)/(std·temperature)) is beyond all numbers at temperature={:g}: raise the temperature"
)


@dataclass(frozen=True)
class SuccessWeighted(Estimator):
    """Log-likelihood of the rollouts above a threshold, the more the higher their reward.

    Formula: w = exp((r − threshold)/temperature) where r > threshold, else 0; A = n·w/Σw, with n the rollouts and the sum
    over the whole batch: the loss −Σ w log π / Σ w. `normalized=True` takes w = exp((r − mean)/(max(std, 1e-6)·temperature))
    with mean and standard deviation (divisor: their number) of the successful rewards, and A = n·w/their number.
    `scope="group"` does either within each group.

    Gradient: on 0/1 rewards A = n/K for a success, 0 for a failure. With `scope="group"` that is
    `MaxRL(control_variate=False)`, the order N. With `scope="batch"` the K of all prompts are pooled, so that a prompt's
    weight depends on the others' success: nearly plain RL divided by the batch's success rate, not maximum likelihood; given
    the other groups, `effective_weight(estimator, p, n, batch=others)` is exact. On graded rewards it is reward-weighted
    regression.

    Assumptions: any real rewards.

    Zero signal: where nothing is above the threshold. Where everything is, it keeps pulling: there is no baseline.

    Paper: none; it is what a guide for a Rust code generator calls MaxRL. Shapes: (groups, rollouts) → (groups, rollouts).

    >>> SuccessWeighted(threshold=20.0)([[28.6, 28.0, -4.5, 5.0, 25.1]]) / 5
    tensor([[0.6333, 0.3476, 0.0000, 0.0000, 0.0191]])
    """

    name: ClassVar[str] = "success_weighted"
    threshold: float = 0.5
    """A reward above it is a success; 0.5 suits 0/1 rewards."""
    temperature: float = 1.0
    """In units of the reward (with `normalized`, of its standard deviation): the higher, the more alike the weights."""
    normalized: bool = False
    """Measure rewards by the mean and standard deviation of the successful ones, and divide by their number."""
    scope: Literal["batch", "group"] = "batch"
    """What the sums go over."""

    def __post_init__(self) -> None:
        if not is_number(self.threshold) or not math.isfinite(self.threshold):
            raise InputError(f"threshold must be a number, got {self.threshold!r}")
        if not is_number(self.temperature) or not 1e-6 <= self.temperature < math.inf:
            raise InputError(f"temperature must be a number of at least 1e-6, got {self.temperature!r}")
        if not isinstance(self.normalized, bool):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise InputError(f"normalized must be True or False, got {self.normalized!r}")
        if self.scope not in ("batch", "group"):
            raise unknown_name("scope", str(self.scope), ["batch", "group"])

    @property
    def formula(self) -> str:
        gain = "(r − mean)/std" if self.normalized else "r"
        scaled = gain if self.temperature == 1 else f"{gain}/{self.temperature:g}"
        total = "K" if self.normalized else "Σ w"
        return f"n w / {total} over the {self.scope}, w = exp({scaled}) if r > {self.threshold:g}, else 0"

    def target_order(self, n: int) -> int | None:
        if self.threshold >= 1:  # no 0/1 reward is a success
            return 0
        return n if self.scope == "group" and self.threshold >= 0 else None

    @property
    def batch_scoped(self) -> bool:
        return self.scope == "batch"

    def statistics(self, rewards_GN: Float[Tensor, "groups rollouts"]) -> dict[str, float]:
        scored = int((~rewards_GN.isnan()).sum())
        correct = rewards_GN[rewards_GN > self.threshold]
        return {
            "n_correct": float(len(correct)),
            "n_total": float(scored),
            "correctness_rate": len(correct) / scored if scored else math.nan,
            "avg_correct_reward": float(correct.double().mean()),
        }

    def _advantages(self, rewards_GN: Float[Tensor, "groups rollouts"]) -> Float[Tensor, "groups rollouts"]:
        if self.scope == "group":
            return self._weighted(rewards_GN)
        return self._weighted(rewards_GN.reshape(1, -1)).view_as(rewards_GN)

    def _weighted(self, rewards_GN: Tensor) -> Tensor:
        correct_GN = rewards_GN > self.threshold
        if self.normalized:
            number_G1 = correct_GN.sum(dim=1, keepdim=True).clamp(min=1).to(rewards_GN.dtype)
            # Centring does not see a shift; from the least success on, equal rewards are exact zeros, whose standard
            # deviation would else be rounding errors.
            least_G1 = rewards_GN.masked_fill(~correct_GN, torch.inf).amin(dim=1, keepdim=True)
            above_GN = torch.where(correct_GN, rewards_GN - least_G1, 0.0)
            centred_GN = torch.where(
                correct_GN, above_GN - above_GN.sum(dim=1, keepdim=True) / number_G1, 0.0
            )
            std_G1 = ((centred_GN**2).sum(dim=1, keepdim=True) / number_G1).sqrt().clamp(min=1e-6)
            weight_GN = torch.where(correct_GN, (centred_GN / (std_G1 * self.temperature)).exp(), 0.0)
            if bool(weight_GN.isinf().any()):
                raise RewardError(_TOO_COLD.format(self.temperature))
            return count_present(rewards_GN) * weight_GN / number_G1
        # Weights are measured by the largest, which cancels in the quotient: exp((r − τ)/temperature) may overflow.
        largest_G1 = rewards_GN.nan_to_num(-torch.inf).amax(dim=1, keepdim=True)
        weight_GN = torch.where(correct_GN, ((rewards_GN - largest_G1) / self.temperature).exp(), 0.0)
        total_G1 = weight_GN.sum(dim=1, keepdim=True)
        return torch.where(total_G1 > 0, count_present(rewards_GN) * weight_GN / total_G1, 0.0)

    def _binary(self, successes: int, rollouts: int) -> tuple[Number, Number]:
        if self.threshold >= 1:  # neither reward is a success
            return Fraction(0), Fraction(0)
        if self.threshold >= 0:
            return Fraction(rollouts, max(successes, 1)), Fraction(0)
        failures = rollouts - successes
        if successes == 0 or failures == 0:  # all alike
            return 1.0, 1.0
        if self.normalized:
            scale = math.sqrt(successes * failures) / rollouts * self.temperature
            try:
                return math.exp(failures / rollouts / scale), math.exp(-successes / rollouts / scale)
            except OverflowError:
                raise RewardError(_TOO_COLD.format(self.temperature)) from None
        failed = math.exp(-1 / self.temperature)
        total = successes + failures * failed
        return rollouts / total, rollouts * failed / total
