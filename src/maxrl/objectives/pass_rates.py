"""pass@k without bias."""

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from maxrl.errors import InputError
from maxrl.objectives.arrays import ArrayLike, to_tensor


def pass_at_k(n: ArrayLike, c: ArrayLike, k: ArrayLike) -> float | Tensor:
    """The unbiased estimate of pass@k from c successes in n samples: 1 − C(n−c, k)/C(n, k).

    It is the chance that k of the n samples, drawn without replacement, hold a success. Integers give a
    float; lists, arrays and tensors are broadcast against each other and give a float64 tensor.

    A bootstrap with replacement would estimate 1 − (1 − c/n)^k, which is biased low: .638 instead of 1 for n
    = k = 32, c = 1. Averages over problems belong outside: the mean of these over problems is unbiased as
    well.

    Paper: arXiv 2107.03374 (Codex).

    >>> pass_at_k(4, 1, 2)
    0.5
    >>> pass_at_k(4, [0, 1, 4], 2)
    tensor([0.0000, 0.5000, 1.0000], dtype=torch.float64)
    """
    counts = [_to_counts(value, name) for value, name in ((n, "n"), (c, "c"), (k, "k"))]
    try:
        shape = np.broadcast_shapes(*(tuple(t.shape) for t in counts))
    except ValueError as error:
        raise InputError(f"n, c and k do not broadcast against each other: {error}") from error
    n_, c_, k_ = (t.expand(shape) for t in counts)
    _refuse(c_ < 0, "c must be at least 0", c_)
    _refuse(k_ < 1, "k must be at least 1", k_)
    _refuse(c_ > n_, "c must be at most n, there cannot be more successes than samples", c_)
    _refuse(k_ > n_, "k must be at most n: pass@k cannot be estimated from fewer than k samples", k_)
    estimate = _draw_without_replacement(n_, c_, k_)
    return estimate if estimate.ndim else float(estimate)


def _draw_without_replacement(
    n: Int[Tensor, "*shape"], c: Int[Tensor, "*shape"], k: Int[Tensor, "*shape"]
) -> Float[Tensor, "*shape"]:
    """The chance of a hit, draw by draw: hit ← hit + (1 − hit)·(chance of a hit now).

    All terms are positive, so nothing cancels, however small the chance or large n; binomial coefficients
    would overflow and differences of log-gammas lose digits. Drawing k samples and asking for one of c is the
    same as drawing c and asking for one of k, so the shorter way is taken.
    """
    draws, targets = torch.minimum(c, k), torch.maximum(c, k)
    certain = c + k > n  # fewer failures than draws
    draws = torch.where(certain, 0, draws)
    hit = certain.to(torch.float64)
    for drawn in range(int(draws.max()) if draws.numel() else 0):
        chance = targets / (n - drawn).clamp(min=1).to(torch.float64)
        hit = torch.where(drawn < draws, hit + (1 - hit) * chance, hit)
    return hit


def _to_counts(values: ArrayLike, name: str) -> Int[Tensor, "..."]:
    counts = to_tensor(values, name)
    if counts.numel() == 0:  # an empty list has no integers to tell its type by
        return counts.to(torch.int64)
    if counts.dtype == torch.bool or counts.is_floating_point():
        raise InputError(f"{name} must be integers, got {values!r:.80}")
    return counts.to(torch.int64)


def _refuse(wrong: Tensor, rule: str, values: Tensor) -> None:
    if bool(wrong.any()):
        raise InputError(f"{rule}; got {int(values[wrong][0])}")
