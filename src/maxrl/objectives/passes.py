"""Estimators of pass@k and of sums of it."""

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from maxrl.objectives.arrays import to_count
from maxrl.objectives.base import Estimator, Number, refuse_above_one, refuse_negative
from maxrl.objectives.orders import Coefficients, polynomial_advantages, polynomial_pair


@dataclass(frozen=True)
class _Polynomial(Estimator):
    """An estimator whose weight is a polynomial in 1 − p, with the mean of the others as baseline."""

    @abstractmethod
    def _coefficients(self, n: int) -> Coefficients:
        """Of the weight that n rollouts are asked for."""

    def target_order(self, n: int) -> int | None:
        coefficients = self._coefficients(n)
        if n == 1 or not coefficients:
            return 0
        return len(coefficients) if set(coefficients) == {1} else None

    def _advantages(self, rewards_GN: Float[Tensor, "groups rollouts"]) -> Float[Tensor, "groups rollouts"]:
        refuse_negative(rewards_GN, type(self).__name__)
        refuse_above_one(rewards_GN, type(self).__name__)
        return polynomial_advantages(rewards_GN, self._coefficients, baseline=True)

    def _binary(self, successes: int, rollouts: int) -> tuple[Number, Number]:
        return polynomial_pair(successes, rollouts, self._coefficients(rollouts), baseline=True)


@dataclass(frozen=True)
class PassAtK(_Polynomial):
    """Pass@k policy optimisation (PKPO): the chance that one of k rollouts succeeds.

    Formula: A = N/(N−1)·h·(r − r̂), where h = k·(the chance that k − 1 of the other rollouts, drawn without replacement,
    have all failed); with m successes among them k·C(N−1−m, k−1)/C(N−1, k−1). On likelihoods in [0, 1] the chance is the
    mean over subsets of the product of 1 − l.

    Gradient: E[ĝ] = k(1−p)^{k−1}·∇p = ∇pass@k exactly. k = 1 is plain RL.

    Assumptions: rewards in [0, 1]; k < N, refused above it when training is configured. Where rollouts are missing, k is
    lowered to one less than are left.

    Zero signal: groups whose rewards are all equal give exactly 0, and for k > 1 groups with so many successes that k − 1
    others never all fail. One rollout (left in a group): 0.

    Paper: arXiv 2505.15201. Shapes: (groups, rollouts) → (groups, rollouts).

    >>> PassAtK(k=2)([[1, 0, 0, 0], [1, 1, 1, 0]])
    tensor([[ 2.0000, -0.4444, -0.4444, -0.4444],
            [ 0.2222,  0.2222,  0.2222,  0.0000]])
    """

    name: ClassVar[str] = "pass_at_k"
    k: int = 4
    """How many rollouts one success is looked for among."""

    def __post_init__(self) -> None:
        to_count(self.k, "k", least=1)

    @property
    def least_rollouts(self) -> int:
        return self.k + 1

    @property
    def formula(self) -> str:
        return f"N/(N−1) · h (r − r̂), h = {self.k} P({self.k - 1} others failed)"

    def _coefficients(self, n: int) -> Coefficients:
        k = min(self.k, n - 1)
        return (0,) * (k - 1) + (k,) if k else ()


@dataclass(frozen=True)
class MMPO(_Polynomial):
    """The sum of pass@1 … pass@T, each with the same weight; maximum likelihood gives pass@k the weight 1/k.

    Formula: A = N/(N−1)·h·(r − r̂), where h = Σ_{k≤T} k·(the chance that k − 1 of the other rollouts have all failed).

    Gradient: E[ĝ] = Σ_{k≤T} k(1−p)^{k−1}·∇p exactly. T = 1 is plain RL.

    Assumptions: rewards in [0, 1]; T ≤ N, refused above it when training is configured, lowered to those left where
    rollouts are missing. Its paper finds T = 4 best at N = 8.

    Zero signal: groups whose rewards are all equal give exactly 0. One rollout (left in a group): 0.

    Paper: arXiv 2608.02149. Shapes: (groups, rollouts) → (groups, rollouts).

    >>> MMPO(order=2)([[1, 0, 0, 0]])
    tensor([[ 3.0000, -0.7778, -0.7778, -0.7778]])
    """

    name: ClassVar[str] = "mmpo"
    order: int = 4
    """T, the largest k."""

    def __post_init__(self) -> None:
        to_count(self.order, "order", least=1)

    @property
    def least_rollouts(self) -> int:
        return self.order

    @property
    def formula(self) -> str:
        return f"N/(N−1) · h (r − r̂), h = Σ_(k≤{self.order}) k P(k − 1 others failed)"

    def _coefficients(self, n: int) -> Coefficients:
        return tuple(range(1, min(self.order, n) + 1))
