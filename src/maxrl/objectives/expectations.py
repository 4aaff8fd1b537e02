"""E[x_K] over the successes K ~ Binomial(n, p): in fractions where everything is rational, else in float64."""

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from maxrl.errors import InputError
from maxrl.objectives.arrays import ArrayLike, to_probabilities
from maxrl.objectives.base import Number


def expectation(values: Sequence[Number], p: ArrayLike) -> Any:
    """Σ_K P(K successes among n)·values[K], where n = len(values) − 1.

    One p gives a float, a list, array or tensor of them a float64 tensor of its shape. A `Fraction` gives a `Fraction` where
    all values are such, else a float. In float64 eleven digits are right up to n = 2048, from p = 0 to p = 1.

    >>> expectation([Fraction(0), Fraction(1), Fraction(4)], Fraction(1, 3))  # E[K²] = np(1−p) + (np)²
    Fraction(8, 9)

    Raises:
        InputError: p is outside [0, 1].
    """
    n = len(values) - 1
    if isinstance(p, Fraction):
        check_fraction(p)
        exact = [value for value in values if isinstance(value, Fraction)]
        if len(exact) == len(values):
            terms = (math.comb(n, k) * p**k * (1 - p) ** (n - k) * value for k, value in enumerate(exact))
            return sum(terms, Fraction(0))
    p_tensor = to_probabilities(float(p) if isinstance(p, Fraction) else p)
    numbers = torch.tensor([float(value) for value in values], dtype=torch.float64, device=p_tensor.device)
    means = (_binomial_weights(n, p_tensor) * numbers).sum(-1)
    return means if p_tensor.ndim else float(means)


def check_fraction(p: Fraction) -> None:
    if not 0 <= p <= 1:
        raise InputError(f"p must be a pass rate between 0 and 1, got {p}")


def times_log1p(x: Tensor, y: Tensor) -> Tensor:
    """x·log(1 + y), where 0·log(0) is 0."""
    return torch.where(x == 0, 0.0, x * torch.log1p(y))


def _binomial_weights(n: int, p: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape counts"]:
    """P(k successes among n), k = 0 … n. Normalised by softmax, so that errors of the logarithms cancel."""
    k = torch.arange(n + 1, dtype=torch.float64, device=p.device)
    log_choose = math.lgamma(n + 1) - torch.lgamma(k + 1) - torch.lgamma(n - k + 1)
    log_hits = torch.xlogy(k, p[..., None])
    log_misses = times_log1p(n - k, -p[..., None])
    return torch.softmax(log_choose + log_hits + log_misses, dim=-1)
