"""What the estimator sees of a batch, and what is logged of it. G groups of N rollouts, over all ranks."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from maxrl.training.layout import Layout


@dataclass(frozen=True)
class Draw:
    """Prompts that all ranks sampled and scored at once."""

    rows: dict[str, Any]
    """This rank's part, as TRL's loss takes it."""
    layout: Layout
    """Groups of the rows of all ranks. Where they differ in size, matrices hold nothing behind the end of a smaller one."""
    rewards_GN: Tensor
    """Weighted sums of the rewards; NaN where there is none."""
    signal_GN: Tensor
    """What the estimator sees; NaN marks a rollout that is missing."""
    truncated_GN: Tensor
    """Whether a rollout was cut off before a stop token."""
    prompts: Sequence[str]
    """Id of each group's prompt."""
    tasks: Sequence[str]
    """Task of each group."""
    advantages_GN: Tensor
    """What the estimator makes of it."""

    def of_task(self, task: str) -> "Draw":
        """The groups of one task, as wide as they are; without rows."""
        groups = [group for group, name in enumerate(self.tasks) if name == task]
        layout = Layout(tuple(self.layout.sizes[group] for group in groups))
        width = max(layout.sizes)
        return Draw(
            rows={},
            layout=layout,
            rewards_GN=self.rewards_GN[groups, :width],
            signal_GN=self.signal_GN[groups, :width],
            truncated_GN=self.truncated_GN[groups, :width],
            prompts=[self.prompts[group] for group in groups],
            tasks=[task] * len(groups),
            advantages_GN=self.advantages_GN[groups, :width],
        )


def weighted_rewards(rewards: Tensor, weights: Tensor) -> Tensor:
    """(rollouts, reward functions) → (rollouts,), NaN where no function gave a reward."""
    summed = (rewards * weights.unsqueeze(0)).nansum(dim=1)
    summed[torch.isnan(rewards).all(dim=1)] = torch.nan
    return summed


def estimator_signal(
    rewards: Tensor, weights: Tensor, truncated: Tensor, *, threshold: float | Tensor | None, overlong: str
) -> Tensor:
    """What the estimator sees of each rollout.

    Args:
        rewards: (rollouts, reward functions), NaN where a function gave none.
        weights: of the reward functions.
        truncated: of each rollout, whether it was cut off.
        threshold: success is a weighted sum above it; None leaves the sum as it is, and so does NaN among those of the
            rollouts, (rollouts,).
        overlong: of a truncated rollout, `keep` the reward, `zero`: a failure, `drop`: it is missing.

    Returns:
        (rollouts,), NaN where no function gave a reward or the rollout is dropped.
    """
    signal = weighted_rewards(rewards, weights)
    if threshold is not None:
        thresholds = torch.as_tensor(threshold, dtype=signal.dtype, device=signal.device).expand_as(signal)
        success = (signal > thresholds).to(signal.dtype)
        signal = torch.where(signal.isnan() | thresholds.isnan(), signal, success)
    if overlong != "keep":
        signal = signal.masked_fill(truncated, 0.0 if overlong == "zero" else torch.nan)
    return signal


def signal_metrics(draw: Draw) -> dict[str, float]:
    """Fractions over the whole batch; see `MaxRLTrainer` for what each means."""
    signal_GN = draw.signal_GN
    scored_GN = ~signal_GN.isnan()
    present_G = scored_GN.any(dim=1)
    success_GN = signal_GN == 1
    zero_mean_G = (signal_GN.nansum(dim=1) == 0) & present_G
    all_success_G = (success_GN | ~scored_GN).all(dim=1) & present_G
    # NaN where nothing was scored: a verifier that failed throughout is no success rate of zero. TRL's log leaves NaN
    # out of its averages.
    of_scored = int(scored_GN.sum()) or math.nan
    return {
        "success_rate": int(success_GN.sum()) / of_scored,
        "frac_reward_zero_mean": zero_mean_G.float().mean().item(),
        "frac_reward_all_success": all_success_G.float().mean().item(),
        "advantage_mass": float(draw.advantages_GN.abs().sum()) / of_scored,
        "frac_reward_nonbinary": nonbinary(signal_GN) / of_scored,
        "frac_truncated": draw.layout.flat(draw.truncated_GN).float().mean().item(),
    }


def any_differ(signal_GN: Tensor) -> bool:
    """Whether the scored rollouts of any group differ."""
    lowest_G = signal_GN.nan_to_num(nan=torch.inf).amin(dim=1)
    highest_G = signal_GN.nan_to_num(nan=-torch.inf).amax(dim=1)
    return bool((highest_G > lowest_G).any())


def nonbinary(signal_GN: Tensor) -> int:
    """Rollouts that are scored neither 0 nor 1."""
    return int((~signal_GN.isnan() & (signal_GN != 0) & (signal_GN != 1)).sum())
