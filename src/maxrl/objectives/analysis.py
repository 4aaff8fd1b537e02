"""What an estimator really optimises, and how noisy it is, exactly.

On binary rewards an estimator is two numbers for each K of N: a_s(K) for a success, a_f(K) for a failure. The
score of one rollout averages to zero, so only what depends on that rollout's own verdict stays in the
expected gradient, and with k successes among the other N − 1

    E[ĝ] = w(p)·∇p,    w(p) = E_{k ~ Binomial(N−1, p)} [ d_k ],    d_k = a_s(k+1) − a_f(k).

Derivation: E[A_1·S_1] = Σ_k P(k)·(p·a_s(k+1)·E[S|success] + (1−p)·a_f(k)·E[S|failure]), where
p·E[S|success] = ∇p = −(1−p)·E[S|failure].

The objective that is climbed is the J with J' = w. Each of w's terms integrates to a tail of the binomial,
∫_0^p C(N−1,k) t^k (1−t)^{N−1−k} dt = P(K > k)/N with K ~ Binomial(N, p), so that

    J(p) = E_{K ~ Binomial(N, p)} [ U(K) ],    U(K) = (1/N) Σ_{k<K} d_k.

The terms of w are linearly independent (Bernstein's polynomials): two estimators have the same objective if and
only if they have the same d_k, and an estimator has an order if and only if its d_k are that order's.

Everywhere, p is one pass rate (→ float), a `Fraction` (→ `Fraction` for an estimator whose advantages are rational)
or a list, array or tensor (→ float64 tensor of its shape); `estimator` is a name, with options in it or not, an
instance, or any callable from rewards of shape (groups, rollouts) to advantages of that shape.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from itertools import accumulate
from typing import Any, TypeAlias, overload

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import pad

from maxrl.errors import InputError
from maxrl.objectives.arrays import ArrayLike, to_count, to_probabilities, to_tensor
from maxrl.objectives.base import Estimator, Number
from maxrl.objectives.custom import Custom
from maxrl.objectives.expectations import check_fraction, expectation, times_log1p
from maxrl.objectives.memory import EstimatorWithMemory, State
from maxrl.objectives.orders import others_failed
from maxrl.objectives.registry import as_estimator

EstimatorSpec: TypeAlias = Callable[..., Any] | str
"""A name, an estimator of either kind, or a function of the user's own."""


def effective_weight(
    estimator: EstimatorSpec,
    p: ArrayLike,
    n: int,
    *,
    state: State | None = None,
    batch: ArrayLike | None = None,
) -> Any:
    """w(p) in E[ĝ] = w(p)·∇p for n rollouts a group and binary rewards. A closed form, no sampling.

    `state` is what an estimator with memory remembers; None is its beginning. `batch` holds the rewards of the *other*
    groups of the batch, one row each, NaN or None where a rollout is missing, for an estimator that looks at them, as
    `SuccessWeighted` does; without it the group is alone in its batch.

    >>> round(effective_weight("maxrl", 0.05, 8), 4)  # w_7: one order below n
    6.0333
    >>> effective_weight("maxrl", Fraction(1, 2), 4)  # 1 + 1/2 + 1/4
    Fraction(7, 4)
    >>> effective_weight("hybrid(steps=200)", Fraction(1, 2), 4, state={"step": 200})
    Fraction(7, 4)
    >>> effective_weight("success_weighted", 0.0, 4, batch=[[1, 0, 0, 0]])  # 8 rollouts/(1 + 1) successes
    4.0

    Raises:
        InputError: p, n or batch is out of range, no such estimator, a state without memory or one that was not returned
            by this estimator, or a callable that gives no advantages or treats equal rewards of a group unequally.
    """
    return analyse(estimator, n, state=state, batch=batch).effective_weight(p)


def utility(
    estimator: EstimatorSpec,
    p: ArrayLike,
    n: int,
    *,
    state: State | None = None,
    batch: ArrayLike | None = None,
) -> Any:
    """J(p), the objective that is climbed: J' = w, J(0) = 0. Arguments and errors as in `effective_weight`.

    For order T it is Σ_{k≤T} pass@k/k, plain RL's is p, and MaxRL's grows toward log p + const with N.

    >>> utility("maxrl", Fraction(1, 2), 3)  # pass@1 + pass@2/2
    Fraction(7, 8)
    """
    return analyse(estimator, n, state=state, batch=batch).utility(p)


def second_moment(
    estimator: EstimatorSpec,
    p: ArrayLike,
    n: int,
    *,
    state: State | None = None,
    batch: ArrayLike | None = None,
) -> Any:
    """E[Σ_i A_i²] of a group of n: how large its update is in the mean square, signal and noise together.

    Between estimators of one weight, the smaller is the less noisy. Arguments and errors as in `effective_weight`.

    >>> round(second_moment("reinforce", 0.05, 16), 4)  # Σ r_i² = K
    0.8
    """
    return analyse(estimator, n, state=state, batch=batch).second_moment(p)


def advantage_mass(
    estimator: EstimatorSpec,
    p: ArrayLike,
    n: int,
    *,
    state: State | None = None,
    batch: ArrayLike | None = None,
) -> Any:
    """E[(1/n) Σ_i |A_i|]: how hard a prompt of pass rate p pulls. Arguments and errors as in `effective_weight`.

    For MaxRL 2·[(1 − (1−p)^n) − p], largest at p = 1 − n^(−1/(n−1)); for the mean-centred 2p(1−p)·(n−1)/n.

    >>> advantage_mass("maxrl", Fraction(1, 2), 2), advantage_mass("dr_grpo", Fraction(1, 2), 2)
    (Fraction(1, 2), Fraction(1, 4))
    """
    return analyse(estimator, n, state=state, batch=batch).advantage_mass(p)


def target_order(
    estimator: EstimatorSpec, n: int, *, state: State | None = None, batch: ArrayLike | None = None
) -> int | None:
    """The order T for which w = w_T exactly, found in the advantages; None where there is none, 0 for no signal.

    An estimator says it of itself, too (`Estimator.target_order`); this is for a function of your own, and the proof for
    the others. Arguments and errors as in `effective_weight`.

    >>> target_order("maxrl", 8), target_order("grpo", 8), target_order(lambda rewards_GN: rewards_GN, 8)
    (7, None, 1)
    """
    return analyse(estimator, n, state=state, batch=batch).target_order()


def analyse(
    estimator: EstimatorSpec, n: int, *, state: State | None = None, batch: ArrayLike | None = None
) -> "ExactAnalysis":
    """All of the above from one look at the estimator: for callers who want several. Arguments as in `effective_weight`."""
    n = to_count(n, "n", least=1)
    alone = _without_memory(estimator, state)
    if batch is not None:
        others = _AmongOthers(alone, _to_groups(batch))
        alone = Custom(function=others, label=alone.formula)
    return ExactAnalysis(tuple(alone.binary_advantages(k, n) for k in range(n + 1)))


@dataclass(frozen=True)
class ExactAnalysis:
    """An estimator as its two advantages for each number of successes. See the functions of the same names."""

    pairs: tuple[tuple[Number, Number], ...]
    """(a_s(K), a_f(K)) for K = 0 … n; 0 for the kind that such a group does not hold."""

    @property
    def n(self) -> int:
        """Rollouts of a group."""
        return len(self.pairs) - 1

    @cached_property
    def differences(self) -> list[Number]:
        """d_k = a_s(k+1) − a_f(k) for k = 0 … n−1 successes among the others."""
        return [self.pairs[k + 1][0] - self.pairs[k][1] for k in range(self.n)]

    @cached_property
    def masses(self) -> list[Number]:
        """(1/n) Σ |A| of a group with K = 0 … n successes."""
        return [
            (k * abs(success) + (self.n - k) * abs(failure)) / self.n
            for k, (success, failure) in enumerate(self.pairs)
        ]

    def effective_weight(self, p: ArrayLike) -> Any:
        return expectation(self.differences, p)

    def utility(self, p: ArrayLike) -> Any:
        sums = accumulate(self.differences, initial=Fraction(0))
        return expectation([total / self.n for total in sums], p)

    def second_moment(self, p: ArrayLike) -> Any:
        squares = [
            k * success * success + (self.n - k) * failure * failure
            for k, (success, failure) in enumerate(self.pairs)
        ]
        return expectation(squares, p)

    def advantage_mass(self, p: ArrayLike) -> Any:
        return expectation(self.masses, p)

    def target_order(self) -> int | None:
        order = round(self.differences[0])  # w_T(0) = T
        if order > self.n:  # a polynomial of degree n − 1 has no more
            return None
        ones = (1,) * order
        found = all(_agree(d, others_failed(k, self.n, ones)) for k, d in enumerate(self.differences))
        return order if found else None


def looks_at_batch(estimator: EstimatorSpec, n: int = 2) -> bool:
    """Whether an estimator is declared to look at the whole batch, or is seen to: a function of one's own is.

    Seen: another group, one that failed, changes what a group of n rollouts with a success gets. One with memory is taken
    as it begins.

    >>> from maxrl.objectives import MaxRL, SuccessWeighted
    >>> looks_at_batch(MaxRL()), looks_at_batch(SuccessWeighted(threshold=20.0))
    (False, True)
    >>> looks_at_batch(Custom(function=lambda rewards_GN: rewards_GN - rewards_GN.nanmean()))
    True
    """
    fixed = _without_memory(estimator, None)
    group, failed = [1.0] + [0.0] * (n - 1), [0.0] * n
    return fixed.batch_scoped or not torch.allclose(fixed([group])[0], fixed([group, failed])[0])


def _agree(measured: Number, exact: Fraction) -> bool:
    if isinstance(measured, Fraction):
        return measured == exact
    return math.isclose(measured, exact, rel_tol=1e-9, abs_tol=1e-12)


def _without_memory(spec: EstimatorSpec, state: State | None) -> Estimator:
    """The estimator that the next batch meets."""
    estimator = as_estimator(spec)
    if isinstance(estimator, EstimatorWithMemory):
        return estimator.given(state)
    if state is not None:
        raise InputError(
            f"estimator {estimator.name} has no memory, so there is nothing to do with state={state!r:.80}: leave it out"
        )
    return estimator


@dataclass(frozen=True)
class _AmongOthers:
    """What an estimator gives one group in a batch with others, as a function of that group."""

    estimator: Estimator
    others_GN: Tensor

    def __call__(self, rewards_GN: Float[Tensor, "1 rollouts"]) -> Float[Tensor, "1 rollouts"]:
        rollouts = rewards_GN.shape[1]
        width = max(rollouts, self.others_GN.shape[1])
        rows = [pad(r, (0, width - r.shape[1]), value=math.nan) for r in (rewards_GN, self.others_GN)]
        return self.estimator(torch.cat(rows))[:1, :rollouts]


def _to_groups(batch: ArrayLike) -> Float[Tensor, "groups rollouts"]:
    others_GN = to_tensor(batch, "batch").to("cpu", torch.float64)
    if others_GN.ndim != 2:
        raise InputError(
            "batch holds the rewards of the other groups, one row each, as [[1, 0, 0], [1, 1, None]]; got shape "
            f"{tuple(others_GN.shape)}"
        )
    return others_GN


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
        check_fraction(p)
        if terms == math.inf and p == 0:
            raise InputError("w_∞(0) is infinite, which no Fraction is: give p as a float")
        if p == 0:
            return Fraction(terms)
        return (1 if terms == math.inf else 1 - (1 - p) ** int(terms)) / p
    p_tensor = to_probabilities(p)
    t = torch.full_like(p_tensor, terms)
    # (1−p)^T through the logarithm of 1−p, which keeps the digits of a small p.
    weights = torch.where(p_tensor == 0, t, -torch.expm1(times_log1p(t, -p_tensor)) / p_tensor)
    return weights if p_tensor.ndim else float(weights)
