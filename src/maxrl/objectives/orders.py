"""Weights that are polynomials in 1 − p, without bias, from the failures of the other rollouts.

w(p) = Σ_j c_j (1−p)^j is the weight of order T where c_0 = … = c_{T−1} = 1, that of pass@k where c_{k−1} = k alone. For
binary rewards, with k successes among the other N − 1 rollouts, the weight of a rollout is a number,

    h(k) = Σ_j c_j C(N−1−k, j)/C(N−1, j) = Σ_j c_j C(N−1−j, k)/C(N−1, k),

the chance that a random subset of j others has failed altogether, summed over its size j: an unbiased estimate of w(p). For
likelihoods l in [0, 1] the chance becomes the mean over subsets of the product of the others' 1 − l, an elementary
symmetric mean. Times what the rollout's reward exceeds the mean of the others by, it is an advantage: neither factor beside
the reward depends on the rollout itself.
"""

import math
from collections.abc import Callable, Iterator
from fractions import Fraction
from functools import lru_cache
from typing import Any, TypeAlias, cast

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import pad

from maxrl.objectives.base import excess

CHUNK = 2**24
"""Numbers kept at once while scanning."""


Coefficients: TypeAlias = tuple[int, ...]
"""c_0, c_1 … of Σ_j c_j (1−p)^j. Those beyond N − 1 cannot be estimated and are left out."""


def others_failed(successes: int, rollouts: int, coefficients: Coefficients) -> Fraction:
    """h(k) for k `successes` among the other rollouts − 1.

    >>> others_failed(0, 4, (1, 1, 1, 1)), others_failed(1, 4, (1, 1))
    (Fraction(4, 1), Fraction(5, 3))
    """
    chosen, total = 1, 0  # C(size, k) for size = k, k+1 … N−1
    for size in range(successes, rollouts):
        others = rollouts - 1 - size
        if others < len(coefficients):
            total += coefficients[others] * chosen
        chosen = chosen * (size + 1) // (size + 1 - successes)
    return Fraction(total, math.comb(rollouts - 1, successes))


def polynomial_pair(
    successes: int, rollouts: int, coefficients: Coefficients, *, baseline: bool
) -> tuple[Fraction, Fraction]:
    """The advantages of a success and of a failure with K `successes` among N `rollouts`.

    Without baseline h(K−1) and 0; with that of the others' mean h(K−1)·(N−K)/(N−1) and −h(K)·K/(N−1).
    """
    k, n = successes, rollouts
    hit = others_failed(k - 1, n, coefficients) if k > 0 else Fraction(0)
    miss = others_failed(k, n, coefficients) if baseline and k < n else Fraction(0)
    if not baseline:
        return hit, Fraction(0)
    return hit * Fraction(n - k, max(n - 1, 1)), -miss * Fraction(k, max(n - 1, 1))


def polynomial_advantages(
    rewards_GN: Float[Tensor, "groups rollouts"],
    coefficients: Callable[[int], Coefficients],
    *,
    baseline: bool,
) -> Float[Tensor, "groups rollouts"]:
    """Advantages whose expected gradient is w(E[l])·∇E[l], on likelihoods in [0, 1]. NaN rewards are missing.

    `coefficients(n)` are those of a group that has n rollouts left.
    """
    present_GN = ~rewards_GN.isnan()
    if bool(present_GN.all()):
        return _whole_groups(rewards_GN, coefficients(rewards_GN.shape[1]), baseline)
    counts_G = present_GN.sum(dim=1)
    advantages_GN = torch.zeros_like(rewards_GN)
    sizes = cast(Any, counts_G[counts_G > 0]).unique()
    for n in sizes.tolist():  # groups that have as many rollouts left
        rows = counts_G == n
        place = present_GN[rows].int().argsort(dim=1, descending=True, stable=True)[:, :n]
        whole = _whole_groups(rewards_GN[rows].gather(1, place), coefficients(n), baseline)
        advantages_GN[rows] = advantages_GN[rows].scatter(1, place, whole)
    return advantages_GN


def _whole_groups(rewards_GN: Tensor, coefficients: Coefficients, baseline: bool) -> Tensor:
    n = rewards_GN.shape[1]
    success_GN = rewards_GN == 1
    pairs = _pairs(n, coefficients, baseline).to(rewards_GN)[success_GN.sum(dim=1)]
    advantages_GN = torch.where(success_GN, pairs[:, :1], pairs[:, 1:])
    graded_G = ~(success_GN | (rewards_GN == 0)).all(dim=1)
    if bool(graded_G.any()):
        likelihoods_GN = rewards_GN[graded_G].double()
        gain_GN = excess(likelihoods_GN) / max(n - 1, 1) if baseline else likelihoods_GN
        weighted_GN = subset_weights(likelihoods_GN, coefficients) * gain_GN
        advantages_GN[graded_G] = weighted_GN.to(rewards_GN.dtype)
    return advantages_GN


@lru_cache(maxsize=256)
def _pairs(n: int, coefficients: Coefficients, baseline: bool) -> Tensor:
    """(N+1, 2) `polynomial_pair` of every K."""
    pairs = [polynomial_pair(k, n, coefficients, baseline=baseline) for k in range(n + 1)]
    return torch.tensor([[float(hit), float(miss)] for hit, miss in pairs], dtype=torch.float64)


def subset_weights(
    likelihoods_GN: Float[Tensor, "groups rollouts"], coefficients: Coefficients
) -> Float[Tensor, "groups rollouts"]:
    """ω_i = Σ_j c_j (mean over j-subsets of the others of Π (1 − l)), for every rollout i. No missing ones.

    A forward scan keeps the symmetric means of the rollouts before i, a backward one what those behind i make of each of
    them. Both only ever add what is not negative, each number a mean of numbers (times a coefficient), so that nothing
    cancels or overflows (taking rollout i out of a polynomial of all by division is unstable from N ≈ 32).
    """
    groups, n = likelihoods_GN.shape
    if not coefficients:
        return torch.zeros_like(likelihoods_GN)
    size = max(1, CHUNK // (n * len(coefficients)))
    parts = [_scan(likelihoods_GN[start : start + size], coefficients) for start in range(0, groups, size)]
    return torch.cat(parts)


def _scan(likelihoods_GN: Tensor, coefficients: Coefficients) -> Tensor:
    failed_NG1 = (1 - likelihoods_GN).T[..., None]
    weights = [
        (before * behind[:, : before.shape[1]]).sum(dim=1)
        for before, behind in zip(
            _means(failed_NG1, len(coefficients)), _functionals(failed_NG1, coefficients), strict=True
        )
    ]
    return torch.stack(weights, dim=1)


def _means(failed_NG1: Tensor, count: int) -> Iterator[Tensor]:
    """For i = 0 … N−1: (G, min(count, i+1)) symmetric means of orders 0, 1 … of the first i rollouts.

    With one more, a random j-subset holds the new one with chance j/(i+1).
    """
    means = torch.ones_like(failed_NG1[0])
    yield means
    for seen, failed in enumerate(failed_NG1[:-1], start=1):
        j = torch.arange(min(count, seen + 1), dtype=means.dtype, device=means.device)
        share = j / seen
        without = pad(means, (0, len(j) - means.shape[1]))
        with_new = pad(means, (1, 0))[:, : len(j)]
        means = (1 - share) * without + share * failed * with_new
        yield means


def _functionals(failed_NG1: Tensor, coefficients: Coefficients) -> list[Tensor]:
    """For i = 0 … N−1: (G, min(count, i+1)) how much a mean of the first i adds to ω_i, by way of the rollouts behind i."""
    values = failed_NG1.new_tensor(coefficients).expand(failed_NG1.shape[1], -1)
    found = [values]
    for seen in range(
        len(failed_NG1) - 1, 0, -1
    ):  # the rollout at this place made the number `seen` from one less
        j = torch.arange(min(len(coefficients), seen), dtype=values.dtype, device=values.device)
        with_new = pad(values, (0, 1))[:, 1 : len(j) + 1]
        values = (1 - j / seen) * values[:, : len(j)] + (j + 1) / seen * failed_NG1[seen] * with_new
        found.append(values)
    return found[::-1]
