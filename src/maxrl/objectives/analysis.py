"""What an estimator really optimises, exactly.

On binary rewards an estimator is two numbers for each K of N: a_s(K) for a success, a_f(K) for a failure. The
score of one rollout averages to zero, so only what depends on that rollout's own verdict stays in the
expected gradient, and with k successes among the other N − 1

    E[ĝ] = w(p)·∇p,    w(p) = E_{k ~ Binomial(N−1, p)} [ a_s(k+1) − a_f(k) ].

Derivation: E[A_1·S_1] = Σ_k P(k)·(p·a_s(k+1)·E[S|success] + (1−p)·a_f(k)·E[S|failure]), where
p·E[S|success] = ∇p = −(1−p)·E[S|failure].
"""

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any, overload

import torch
from jaxtyping import Float
from torch import Tensor

from maxrl.errors import InputError
from maxrl.objectives.arrays import ArrayLike, to_count, to_probabilities, to_tensor
from maxrl.objectives.base import Estimator, Number
from maxrl.objectives.registry import get_estimator


@overload
def effective_weight(estimator: Estimator | str, p: Fraction, n: int) -> Number: ...
@overload
def effective_weight(estimator: Callable[..., Any] | str, p: float, n: int) -> float: ...
@overload
def effective_weight(estimator: Callable[..., Any] | str, p: ArrayLike, n: int) -> Any: ...
def effective_weight(estimator: Callable[..., Any] | str, p: ArrayLike, n: int) -> Any:
    """w(p) in E[ĝ] = w(p)·∇p for n rollouts a group and binary rewards. A closed form, no sampling.

    `estimator` is an instance, a name, or any callable from rewards of shape (1, n) to advantages of that
    shape, treating rollouts alike. One p gives a float, a list, array or tensor of them a float64 tensor of
    its shape. A `Fraction` gives a `Fraction`, exactly, for an estimator whose advantages are rational.

    >>> round(effective_weight("maxrl", 0.05, 8), 4)  # w_7: one order below n
    6.0333
    >>> effective_weight("maxrl", Fraction(1, 2), 4)  # 1 + 1/2 + 1/4
    Fraction(7, 4)
    """
    n = to_count(n, "n", least=1)
    differences = _differences(get_estimator(estimator), n)
    if isinstance(p, Fraction):
        fractions = [d for d in differences if isinstance(d, Fraction)]
        if len(fractions) == n:
            _check_fraction(p)
            terms = (math.comb(n - 1, k) * p**k * (1 - p) ** (n - 1 - k) * d for k, d in enumerate(fractions))
            return sum(terms, Fraction(0))
        return effective_weight(estimator, float(p), n)
    p_tensor = to_probabilities(p)
    gains = torch.tensor([float(d) for d in differences], dtype=torch.float64, device=p_tensor.device)
    weights = (_binomial_weights(n - 1, p_tensor) * gains).sum(-1)
    return weights if p_tensor.ndim else float(weights)


@overload
def order_weight(p: Fraction, order: int | float) -> Fraction: ...
@overload
def order_weight(p: float, order: int | float) -> float: ...
@overload
def order_weight(p: ArrayLike, order: int | float) -> Any: ...
def order_weight(p: ArrayLike, order: int | float) -> Any:
    """w_T(p) = (1 − (1−p)^T)/p = Σ_{k<T} (1−p)^k, the weight that truncation order T gives a prompt.

    T = 1 is plain RL, T = `math.inf` maximum likelihood (1/p), T = 0 nothing. Accurate down to p = 0, where
    it is T. One p gives a float, a `Fraction` a `Fraction`, a list, array or tensor a float64 tensor.

    >>> order_weight(0.05, 1), round(order_weight(0.05, 16), 5), order_weight(0.0, 16)
    (1.0, 11.19747, 16.0)
    >>> order_weight(Fraction(1, 4), math.inf)
    Fraction(4, 1)
    """
    terms = math.inf if order == math.inf else to_count(order, "order", least=0)
    if isinstance(p, Fraction):
        _check_fraction(p)
        if terms == math.inf and p == 0:
            raise InputError("w_∞(0) is infinite, which no Fraction is: give p as a float")
        if p == 0:
            return Fraction(terms)
        return (1 if terms == math.inf else 1 - (1 - p) ** int(terms)) / p
    p_tensor = to_probabilities(p)
    t = torch.full_like(p_tensor, terms)
    # (1−p)^T through the logarithm of 1−p, which keeps the digits of a small p.
    weights = torch.where(p_tensor == 0, t, -torch.expm1(_times_log1p(t, -p_tensor)) / p_tensor)
    return weights if p_tensor.ndim else float(weights)


def _differences(estimator: Callable[..., Any], n: int) -> list[Number]:
    """a_s(k+1) − a_f(k) for k = 0 … n−1 successes among the others."""
    if isinstance(estimator, Estimator):
        pairs = [estimator.binary_advantages(k, n) for k in range(n + 1)]
    else:
        pairs = [_measured_pair(estimator, k, n) for k in range(n + 1)]
    return [pairs[k + 1][0] - pairs[k][1] for k in range(n)]


def _measured_pair(estimator: Callable[..., Any], successes: int, n: int) -> tuple[float, float]:
    """The pair of a callable, read off one group in a call of its own, so that no other group can leak in."""
    rewards_GN = torch.zeros(1, n, dtype=torch.float64)
    rewards_GN[:, :successes] = 1
    advantages = to_tensor(estimator(rewards_GN.clone()), "advantages").to(torch.float64)
    if advantages.shape != (1, n) or not bool(advantages.isfinite().all()):
        raise InputError(
            f"the estimator must turn rewards of shape (1, {n}) into as many finite advantages; for "
            f"{successes} successes it returned shape {tuple(advantages.shape)}, {advantages!r:.80}"
        )
    success, failure = advantages[0, :successes], advantages[0, successes:]
    for kind in (success, failure):
        if not torch.allclose(kind, kind[:1].expand_as(kind), rtol=1e-6, atol=1e-9):
            raise InputError(
                f"the estimator treats equal rewards of a group unequally ({advantages!r:.80}), so no single "
                "weight belongs to it"
            )
    return float(success.mean()) if successes > 0 else 0.0, float(failure.mean()) if successes < n else 0.0


def _binomial_weights(n: int, p: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape counts"]:
    """P(k successes among n), k = 0 … n. Normalised by softmax, so that errors of the logarithms cancel."""
    k = torch.arange(n + 1, dtype=torch.float64, device=p.device)
    log_choose = math.lgamma(n + 1) - torch.lgamma(k + 1) - torch.lgamma(n - k + 1)
    log_hits = torch.xlogy(k, p[..., None])
    log_misses = _times_log1p(n - k, -p[..., None])
    return torch.softmax(log_choose + log_hits + log_misses, dim=-1)


def _times_log1p(x: Tensor, y: Tensor) -> Tensor:
    """x·log(1 + y), where 0·log(0) is 0."""
    return torch.where(x == 0, 0.0, x * torch.log1p(y))


def _check_fraction(p: Fraction) -> None:
    if not 0 <= p <= 1:
        raise InputError(f"p must be a pass rate between 0 and 1, got {p}")
