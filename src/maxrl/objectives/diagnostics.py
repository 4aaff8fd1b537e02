"""What a batch of groups says about training: how many carry signal, how it is spread, what pass@k is."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from maxrl.objectives.pass_rates import pass_at_k

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95, 1.0)
"""Of the weights."""


@dataclass(frozen=True, kw_only=True)
class GroupDiagnostics:
    """Figures of one batch. Fractions are of the groups with a scored rollout, and NaN where there is none."""

    dead: float
    """Fraction without signal (every advantage is 0) that still has a failure."""
    live: float
    """Fraction with an advantage other than 0."""
    mastered: float
    """Fraction without signal in which every scored rollout succeeds."""
    k_histogram: tuple[int, ...]
    """Groups with K = 0, 1, … N successes."""
    weight_quantiles: Mapping[float, float]
    """Quantile → |A|, over the rollouts whose advantage is not 0."""
    effective_sample_size: float
    """(Σ|A|)² / Σ A²: as many rollouts of equal weight would make as noisy a gradient. 0 without signal."""
    pass_at_k: Mapping[int, float]
    """k → the unbiased estimate, k = 1, 2, 4 … N, over the groups with at least k scored rollouts; NaN without one."""


def group_diagnostics(
    signal_GN: Float[Tensor, "groups rollouts"], advantages_GN: Float[Tensor, "groups rollouts"]
) -> GroupDiagnostics:
    """Figures of a batch of groups.

    Args:
        signal_GN: rewards as the estimator saw them, NaN where a rollout is missing. A success is a reward of 1.
        advantages_GN: what the estimator made of them.

    >>> found = group_diagnostics(torch.tensor([[1.0, 0, 0, 0], [0, 0, 0, 0]]),
    ...                           torch.tensor([[3.0, -1, -1, -1], [0, 0, 0, 0]]))
    >>> found.dead, found.live, found.mastered, found.k_histogram
    (0.5, 0.5, 0.0, (1, 1, 0, 0, 0))
    >>> found.effective_sample_size  # (3 + 1 + 1 + 1)² / (9 + 1 + 1 + 1)
    3.0
    >>> found.pass_at_k
    {1: 0.125, 2: 0.25, 4: 0.5}
    """
    scored_GN = ~signal_GN.isnan()
    size_G = scored_GN.sum(dim=1)
    successes_G = (signal_GN == 1).sum(dim=1)
    present_G = size_G > 0
    live_G = (advantages_GN != 0).any(dim=1)
    mastered_G = present_G & ~live_G & (successes_G == size_G)
    groups = int(present_G.sum()) or math.nan
    of_k = torch.bincount(successes_G[present_G], minlength=signal_GN.shape[1] + 1)
    weights = advantages_GN[advantages_GN != 0].double().abs()
    return GroupDiagnostics(
        dead=int((present_G & ~live_G & ~mastered_G).sum()) / groups,
        live=int(live_G.sum()) / groups,
        mastered=int(mastered_G.sum()) / groups,
        k_histogram=tuple(int(count) for count in of_k),
        weight_quantiles=_quantiles(weights),
        effective_sample_size=float(weights.sum() ** 2 / (weights**2).sum()) if len(weights) else 0.0,
        pass_at_k=_pass_rates(size_G, successes_G, signal_GN.shape[1]),
    )


def _quantiles(weights: Tensor) -> dict[float, float]:
    if not len(weights):
        return dict.fromkeys(QUANTILES, math.nan)
    places = torch.tensor(QUANTILES, dtype=weights.dtype, device=weights.device)
    return {
        place: float(value) for place, value in zip(QUANTILES, torch.quantile(weights, places), strict=True)
    }


def _pass_rates(size_G: Tensor, successes_G: Tensor, n: int) -> dict[int, float]:
    rates: dict[int, float] = {}
    for k in (2**power for power in range(n.bit_length())):
        enough_G = size_G >= k
        estimates = torch.as_tensor(pass_at_k(size_G[enough_G], successes_G[enough_G], k))
        rates[k] = float(estimates.mean())
    return rates
