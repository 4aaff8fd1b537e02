"""The order-T weight of a rollout, from the failures of the others.

For binary rewards, with k successes among the other N − 1 rollouts, the weight is a number,

    g(k) = Σ_{j<T} C(N−1−k, j)/C(N−1, j) = N/(k+1) · (1 − C(N−T, k+1)/C(N, k+1)),

the chance that a random subset of j others has failed altogether, summed over its size j < T: an unbiased estimate of
w_T(p) = Σ_{j<T} (1−p)^j. For likelihoods l in [0, 1] the chance becomes the mean over subsets of the product of the
others' 1 − l, an elementary symmetric mean.
"""

import math
from collections.abc import Iterator
from fractions import Fraction
from functools import lru_cache

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import pad

from maxrl.objectives.base import excess

CHUNK = 2**24
"""Numbers kept at once while scanning."""


def others_failed(successes: int, rollouts: int, order: int) -> Fraction:
    """g(k) for k `successes` among the other rollouts − 1.

    >>> others_failed(0, 4, 4), others_failed(1, 4, 2)
    (Fraction(4, 1), Fraction(5, 3))
    """
    k, n = successes, rollouts
    return Fraction(n, k + 1) * (1 - Fraction(math.comb(n - order, k + 1), math.comb(n, k + 1)))


def order_pair(successes: int, rollouts: int, order: int, *, baseline: bool) -> tuple[Fraction, Fraction]:
    """The advantages of a success and of a failure with K `successes` among N `rollouts`; T is lowered to N.

    Without baseline g(K−1) and 0; with that of the others' mean g(K−1)·(N−K)/(N−1) and −g(K)·K/(N−1).
    """
    k, n = successes, rollouts
    order = min(order, n)
    hit = others_failed(k - 1, n, order) if k > 0 else Fraction(0)
    miss = others_failed(k, n, order) if k < n else Fraction(0)
    if not baseline:
        return hit, Fraction(0)
    return hit * Fraction(n - k, max(n - 1, 1)), -miss * Fraction(k, max(n - 1, 1))


def order_advantages(
    rewards_GN: Float[Tensor, "groups rollouts"], order: int, *, baseline: bool
) -> Float[Tensor, "groups rollouts"]:
    """Advantages whose expected gradient is w_T(E[l])·∇E[l], on likelihoods in [0, 1]. NaN rewards are missing."""
    present_GN = ~rewards_GN.isnan()
    if bool(present_GN.all()):
        return _whole_groups(rewards_GN, order, baseline)
    counts_G = present_GN.sum(dim=1)
    advantages_GN = torch.zeros_like(rewards_GN)
    for n in sorted({int(count) for count in counts_G}):  # groups that have as many rollouts left
        rows = counts_G == n
        place = present_GN[rows].int().argsort(dim=1, descending=True, stable=True)[:, :n]
        whole = _whole_groups(rewards_GN[rows].gather(1, place), order, baseline)
        advantages_GN[rows] = advantages_GN[rows].scatter(1, place, whole)
    return advantages_GN


def _whole_groups(rewards_GN: Tensor, order: int, baseline: bool) -> Tensor:
    n = rewards_GN.shape[1]
    success_GN = rewards_GN == 1
    pairs = _pairs(n, order, baseline).to(rewards_GN)[success_GN.sum(dim=1)]
    advantages_GN = torch.where(success_GN, pairs[:, :1], pairs[:, 1:])
    graded_G = ~(success_GN | (rewards_GN == 0)).all(dim=1)
    if bool(graded_G.any()):
        likelihoods_GN = rewards_GN[graded_G].double()
        gain_GN = excess(likelihoods_GN) / max(n - 1, 1) if baseline else likelihoods_GN
        weighted_GN = subset_weights(likelihoods_GN, order) * gain_GN
        advantages_GN[graded_G] = weighted_GN.to(rewards_GN.dtype)
    return advantages_GN


@lru_cache(maxsize=256)
def _pairs(n: int, order: int, baseline: bool) -> Tensor:
    """(N+1, 2) `order_pair` of every K."""
    pairs = [order_pair(k, n, order, baseline=baseline) for k in range(n + 1)]
    return torch.tensor([[float(hit), float(miss)] for hit, miss in pairs], dtype=torch.float64)


def subset_weights(
    likelihoods_GN: Float[Tensor, "groups rollouts"], order: int
) -> Float[Tensor, "groups rollouts"]:
    """ω_j = Σ_{k<T} (mean over k-subsets of the others of Π (1 − l)), for every rollout j. No missing ones.

    A forward scan keeps the symmetric means of the rollouts before j, a backward one what those behind j make of each of
    them. Both only ever add what is not negative, each number a mean of numbers, so that nothing cancels or overflows
    (taking rollout j out of a polynomial of all by division is unstable from N ≈ 32).
    """
    groups, n = likelihoods_GN.shape
    size = max(1, CHUNK // (n * order))
    parts = [_scan(likelihoods_GN[start : start + size], order) for start in range(0, groups, size)]
    return torch.cat(parts)


def _scan(likelihoods_GN: Tensor, order: int) -> Tensor:
    failed_NG1 = (1 - likelihoods_GN).T[..., None]
    weights = [
        (before * behind[:, : before.shape[1]]).sum(dim=1)
        for before, behind in zip(_means(failed_NG1, order), _functionals(failed_NG1, order), strict=True)
    ]
    return torch.stack(weights, dim=1)


def _means(failed_NG1: Tensor, order: int) -> Iterator[Tensor]:
    """For j = 0 … N−1: (G, min(T, j+1)) symmetric means of orders 0, 1 … of the first j rollouts.

    With one more, a random k-subset holds the new one with chance k/(j+1).
    """
    means = torch.ones_like(failed_NG1[0])
    yield means
    for count, failed in enumerate(failed_NG1[:-1], start=1):
        k = torch.arange(min(order, count + 1), dtype=means.dtype, device=means.device)
        share = k / count
        without = pad(means, (0, len(k) - means.shape[1]))
        with_new = pad(means, (1, 0))[:, : len(k)]
        means = (1 - share) * without + share * failed * with_new
        yield means


def _functionals(failed_NG1: Tensor, order: int) -> list[Tensor]:
    """For j = 0 … N−1: (G, min(T, j+1)) how much a mean of the first j adds to ω_j, by way of the rollouts behind j."""
    n = len(failed_NG1)
    values = torch.ones_like(failed_NG1[0]).expand(-1, min(order, n))
    found = [values]
    for count in range(n - 1, 0, -1):  # the rollout at this place made the number `count` from one less
        k = torch.arange(min(order, count), dtype=values.dtype, device=values.device)
        with_new = pad(values, (0, 1))[:, 1 : len(k) + 1]
        values = (1 - k / count) * values[:, : len(k)] + (k + 1) / count * failed_NG1[count] * with_new
        found.append(values)
    return found[::-1]
