"""E[ĝ] = w(p)·∇p, by summing over every group there is, in exact fractions.

A policy over a few answers has rational probabilities, so the score functions ∇log π of a softmax, e_j − q,
are rational too, and with them every term of

    E[ĝ] = Σ over groups (y_1 … y_N) of Π π(y_i) · (1/N) Σ_i A_i ∇log π(y_i).

The test is equality of fractions, not closeness; only GRPO, whose σ̂ is irrational, is compared in floating
point.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import product
from math import prod

import pytest
import torch
from torch import Tensor

from maxrl.objectives import (
    ESTIMATORS,
    GRPO,
    RLOO,
    DrGRPO,
    Estimator,
    MaxRL,
    PowerWeight,
    Reinforce,
    TailRL,
    effective_weight,
    order_weight,
)

GROUP_SIZES = range(1, 8)


def w(p: Fraction, order: int) -> Fraction:
    """w_T(p) as its geometric sum."""
    return sum(((1 - p) ** k for k in range(order)), Fraction(0))


# One row per estimator and form: what it optimises by docs/estimators.md.
DECLARED: list[tuple[Estimator, Callable[[Fraction, int], Fraction]]] = [
    (MaxRL(), lambda p, n: w(p, n - 1)),
    (MaxRL(control_variate=False), lambda p, n: w(p, n)),
    (MaxRL(no_success="penalize"), lambda p, n: w(p, n)),
    *[
        (MaxRL(order=order), lambda p, n, order=order: w(p, min(order, n)) if n > 1 else Fraction(0))
        for order in (1, 2, 4, 7)
    ],
    *[
        (MaxRL(order=order, control_variate=False), lambda p, n, order=order: w(p, min(order, n)))
        for order in (1, 3, 7)
    ],
    (RLOO(), lambda p, n: Fraction(n > 1)),
    (DrGRPO(), lambda p, n: Fraction(n - 1, n)),
    (Reinforce(), lambda p, n: Fraction(1)),
    (TailRL(), lambda p, n: w(p, n - 1)),
]
IRRATIONAL: list[Estimator] = [
    GRPO(),
    GRPO(ddof=0, eps=1e-6),
    GRPO(eps=0.0),
    PowerWeight(),
    PowerWeight(q=1.0),
]


@dataclass(frozen=True)
class Policy:
    """Probabilities of the answers, and which of them are right; the parameters are the logits."""

    probabilities: tuple[Fraction, ...]
    right: frozenset[int]

    @property
    def p(self) -> Fraction:
        return sum((self.probabilities[j] for j in self.right), Fraction(0))

    def score(self, answer: int) -> list[Fraction]:
        """∇ log softmax: e_answer − q."""
        return [(j == answer) - q for j, q in enumerate(self.probabilities)]

    @property
    def gradient_of_p(self) -> list[Fraction]:
        """∂p/∂z_j = q_j·(1[j right] − p)."""
        return [q * ((j in self.right) - self.p) for j, q in enumerate(self.probabilities)]

    def groups(self, n: int) -> Iterator[tuple[tuple[int, ...], Fraction]]:
        for answers in product(range(len(self.probabilities)), repeat=n):
            yield answers, prod((self.probabilities[a] for a in answers), start=Fraction(1))


def policy(*probabilities: str, right: set[int]) -> Policy:
    return Policy(tuple(map(Fraction, probabilities)), frozenset(right))


POLICIES = [
    policy("1/20", "19/20", right={0}),
    policy("2/3", "1/3", right={0}),
    policy("1/2", "1/3", "1/6", right={2}),
    policy("1/20", "1/4", "7/10", right={0, 2}),
]


def expected_gradient(
    on: Policy, n: int, advantages: Callable[[tuple[int, ...]], list[Fraction]]
) -> list[Fraction]:
    pull = [Fraction(0)] * len(on.probabilities)  # on each answer; its score is the same in every group
    for answers, probability in on.groups(n):
        for answer, advantage in zip(answers, advantages(answers), strict=True):
            pull[answer] += probability * advantage / n
    scores = [on.score(answer) for answer in range(len(pull))]
    return [
        sum((f * s for f, s in zip(pull, column, strict=True)), Fraction(0))
        for column in zip(*scores, strict=True)
    ]


def by_pair(estimator: Estimator, on: Policy, n: int) -> Callable[[tuple[int, ...]], list[Fraction]]:
    pairs = [estimator.binary_advantages(k, n) for k in range(n + 1)]

    def advantages(answers: tuple[int, ...]) -> list[Fraction]:
        hits = [a in on.right for a in answers]
        success, failure = pairs[sum(hits)]
        return [Fraction(success if hit else failure) for hit in hits]

    return advantages


def called_gradient(estimator: Estimator, on: Policy, n: int) -> Tensor:
    """E[ĝ] with the advantages of the tensor call, on all groups at once, in float64."""
    q = torch.tensor([float(q) for q in on.probabilities], dtype=torch.float64)
    answers = torch.tensor(list(product(range(len(q)), repeat=n)))
    scores = torch.eye(len(q), dtype=torch.float64)[answers] - q
    right = torch.tensor([float(j in on.right) for j in range(len(q))], dtype=torch.float64)
    advantages_GN = estimator(right[answers])
    return (q[answers].prod(1)[:, None] * ((advantages_GN[..., None] * scores).mean(1))).sum(0)


def label(value: object) -> str | None:
    if isinstance(value, Policy):
        return "/".join(map(str, value.probabilities)).replace("/", "_")
    return repr(value) if isinstance(value, Estimator) else None


@pytest.mark.parametrize("on", POLICIES, ids=label)
@pytest.mark.parametrize(("estimator", "weight"), DECLARED, ids=label)
def test_expected_gradient_is_the_declared_weight_times_the_gradient_of_p(
    estimator: Estimator, weight: Callable[[Fraction, int], Fraction], on: Policy
) -> None:
    for n in GROUP_SIZES:
        declared = [weight(on.p, n) * g for g in on.gradient_of_p]
        assert expected_gradient(on, n, by_pair(estimator, on, n)) == declared


@pytest.mark.parametrize("estimator", [e for e, _ in DECLARED] + IRRATIONAL, ids=label)
@pytest.mark.parametrize("on", POLICIES, ids=label)
def test_expected_gradient_of_the_call_is_the_effective_weight_times_the_gradient_of_p(
    estimator: Estimator, on: Policy
) -> None:
    for n in GROUP_SIZES:
        weight = effective_weight(estimator, float(on.p), n)
        expected = [weight * float(g) for g in on.gradient_of_p]
        assert called_gradient(estimator, on, n).tolist() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(("estimator", "weight"), DECLARED, ids=label)
def test_effective_weight_of_a_fraction_is_the_declared_fraction(
    estimator: Estimator, weight: Callable[[Fraction, int], Fraction]
) -> None:
    for p in (Fraction(0), Fraction(1, 20), Fraction(2, 3), Fraction(1)):
        for n in GROUP_SIZES:
            exact = effective_weight(estimator, p, n)
            assert isinstance(exact, Fraction)
            assert exact == weight(p, n)


@pytest.mark.parametrize(("estimator", "weight"), DECLARED, ids=label)
def test_target_order_is_the_order_of_the_declared_weight(
    estimator: Estimator, weight: Callable[[Fraction, int], Fraction]
) -> None:
    p = Fraction(1, 3)
    for n in GROUP_SIZES:
        order = estimator.target_order(n)
        if order is None:  # then it is no order's weight: neither below nor above n
            assert n == 1 or all(weight(p, n) != w(p, t) for t in range(n + 2))
        else:
            assert weight(p, n) == w(p, order)


@pytest.mark.parametrize("estimator", [e for e, _ in DECLARED] + IRRATIONAL, ids=label)
def test_every_binary_group_gets_the_pair(estimator: Estimator) -> None:
    for n in GROUP_SIZES:
        rewards_GN = torch.tensor(list(product([0.0, 1.0], repeat=n)), dtype=torch.float64)
        for rewards, advantages in zip(rewards_GN.tolist(), estimator(rewards_GN).tolist(), strict=True):
            success, failure = estimator.binary_advantages(int(sum(rewards)), n)
            expected = [float(success if r else failure) for r in rewards]
            if isinstance(success, Fraction):  # whole numbers divided once: rounded once, so equal to the bit
                assert advantages == expected
            else:
                assert advantages == pytest.approx(expected, abs=1e-13)


def test_no_estimator_is_left_out() -> None:
    assert {e.name for e, _ in DECLARED} | {e.name for e in IRRATIONAL} == set(ESTIMATORS)


def test_tail_rl_climbs_the_likelihood_of_every_threshold() -> None:
    """E[ĝ] = ∫ w_{N−1}(P(r > t))·∇P(r > t) dt: a sum over the gaps between the rewards that there are."""
    q = torch.tensor([0.2, 0.3, 0.4, 0.1], dtype=torch.float64)
    rewards = torch.tensor([-1.0, 0.5, 0.5, 3.0], dtype=torch.float64)
    for n in (2, 3, 5):
        answers = torch.tensor(list(product(range(4), repeat=n)))
        scores = torch.eye(4, dtype=torch.float64)[answers] - q
        advantages_GN = TailRL()(rewards[answers])
        found = (q[answers].prod(1)[:, None] * (advantages_GN[..., None] * scores).mean(1)).sum(0)
        expected = torch.zeros(4, dtype=torch.float64)
        for low, high in ((-1.0, 0.5), (0.5, 3.0)):
            above = (rewards > low).double()
            p = float(q @ above)
            expected += (high - low) * order_weight(p, n - 1) * q * (above - p)
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


def test_power_weights_lie_between_plain_rl_and_maxrl() -> None:
    rewards = [[1.0, 0.0, 0.0, 0.5], [0.0, 0.0, 0.0, 0.0], [1.0, 1.0, 0.0, 1.0]]
    torch.testing.assert_close(PowerWeight(q=0.0)(rewards), DrGRPO()(rewards))
    torch.testing.assert_close(PowerWeight(q=1.0)(rewards), MaxRL()(rewards))
    # r̂ = 1/16 at N = 16: 1/r̂^¾ = 8, and r − r̂ = 15/16.
    assert float(PowerWeight()([[1.0] + [0.0] * 15])[0, 0]) == 7.5
