"""The weight of an order, on likelihoods as on 0/1 rewards."""

import random
from fractions import Fraction
from itertools import combinations, product
from math import comb, prod

import pytest
import torch

from maxrl.errors import InputError, RewardError
from maxrl.objectives import MMPO, MaxRL, PassAtK, order_weight, orders
from maxrl.objectives.orders import others_failed, subset_weights

Q = torch.tensor([0.2, 0.3, 0.5], dtype=torch.float64)
"""Probabilities of three answers …"""
LIKELIHOODS = torch.tensor([0.9, 0.25, 0.0], dtype=torch.float64)
"""… and how likely each is to be right."""


@pytest.mark.parametrize("control_variate", [True, False])
@pytest.mark.parametrize("order", [1, 2, 3, 6])
@pytest.mark.parametrize("n", [2, 3, 6])
def test_graded_rewards_climb_the_same_weight(n: int, order: int, control_variate: bool) -> None:
    """E[ĝ] = w_T(E[l])·∇E[l], by summing over every group there is."""
    answers = torch.tensor(list(product(range(3), repeat=n)))
    advantages = MaxRL(order=order, control_variate=control_variate)(LIKELIHOODS[answers])
    scores = torch.eye(3, dtype=torch.float64)[answers] - Q
    found = (Q[answers].prod(1)[:, None] * (advantages[..., None] * scores).mean(1)).sum(0)
    mean = float(Q @ LIKELIHOODS)
    expected = order_weight(mean, min(order, n)) * Q * (LIKELIHOODS - mean)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("n", [2, 3, 6])
@pytest.mark.parametrize("estimator", [PassAtK(k=1), PassAtK(k=3), MMPO(order=1), MMPO(order=4)], ids=repr)
def test_graded_rewards_climb_pass_at_k(n: int, estimator: PassAtK | MMPO) -> None:
    answers = torch.tensor(list(product(range(3), repeat=n)))
    scores = torch.eye(3, dtype=torch.float64)[answers] - Q
    found = (Q[answers].prod(1)[:, None] * (estimator(LIKELIHOODS[answers])[..., None] * scores).mean(1)).sum(
        0
    )
    mean = float(Q @ LIKELIHOODS)
    if isinstance(estimator, MMPO):
        ks = range(1, min(estimator.order, n) + 1)
    else:
        ks = range(min(estimator.k, n - 1), min(estimator.k, n - 1) + 1)
    weight = sum(k * (1 - mean) ** (k - 1) for k in ks)
    torch.testing.assert_close(found, weight * Q * (LIKELIHOODS - mean), rtol=0, atol=1e-12)


@pytest.mark.parametrize("n", [1, 2, 5, 64])
def test_the_closed_form_of_an_order(n: int) -> None:
    """Σ_{j<T} C(N−1−k, j)/C(N−1, j) = N/(k+1)·(1 − C(N−T, k+1)/C(N, k+1))."""
    for order in {1, (n + 1) // 2, n}:
        for k in range(n):
            closed = Fraction(n, k + 1) * (1 - Fraction(comb(n - order, k + 1), comb(n, k + 1)))
            assert others_failed(k, n, (1,) * order) == closed


def test_pass_at_k_of_one_group_by_hand() -> None:
    # N = 4, k = 2: h(m) = 2·C(3−m, 1)/C(3, 1) = 2, 4/3, 2/3, 0; success h(K−1)(4−K)/3, failure −h(K)K/3.
    pairs = [PassAtK(2).binary_advantages(k, 4) for k in range(5)]
    assert pairs == [
        (0, 0),
        (2, Fraction(-4, 9)),
        (Fraction(8, 9), Fraction(-4, 9)),
        (Fraction(2, 9), 0),
        (0, 0),
    ]
    # PKPO's own weight of a success, C(N−K, k−1)/C(N−1, k−1), is h/k: its gradient is that of pass@k over k.
    assert others_failed(1, 4, (0, 2)) == 2 * Fraction(comb(2, 1), comb(3, 1))


def test_mmpo_is_the_sum_of_pass_at_k() -> None:
    for successes in range(7):
        parts = [PassAtK(k).binary_advantages(successes, 6) for k in (1, 2, 3, 4)]
        total = tuple(sum(column, Fraction(0)) for column in zip(*parts, strict=True))
        assert MMPO(4).binary_advantages(successes, 6) == total


@pytest.mark.parametrize("order", [1, 2, 5, 12, 40])
def test_the_scan_gives_the_mean_over_subsets(order: int) -> None:
    dice = random.Random(order)
    n = 12 if order <= 12 else 40
    exact = [Fraction(dice.randint(0, 64), 64) for _ in range(n)]
    found = subset_weights(
        torch.tensor([[float(share) for share in exact]], dtype=torch.float64), (1,) * order
    )[0]
    for j in (0, 1, n // 2, n - 1):
        others = [1 - share for i, share in enumerate(exact) if i != j]
        polynomials = [Fraction(1)] + [Fraction(0)] * (n - 1)
        for failed in others:
            polynomials = [
                own + (failed * polynomials[k - 1] if k else 0) for k, own in enumerate(polynomials)
            ]
        expected = sum((polynomials[k] / comb(n - 1, k) for k in range(order)), Fraction(0))
        assert float(found[j]) == pytest.approx(float(expected), rel=1e-13)


def test_the_mean_over_subsets_by_listing_them() -> None:
    likelihoods = [0.5, 0.1, 1.0, 0.0, 0.7]
    found = subset_weights(torch.tensor([likelihoods], dtype=torch.float64), (1, 1, 1))[0]
    for j in range(5):
        others = [1 - share for i, share in enumerate(likelihoods) if i != j]
        means = [sum(prod(chosen) for chosen in combinations(others, k)) / comb(4, k) for k in range(3)]
        assert float(found[j]) == pytest.approx(sum(means), rel=1e-14)


@pytest.mark.parametrize("n", [1, 2, 7, 128])
def test_the_scan_is_the_closed_form_on_binary_rewards(n: int) -> None:
    rewards = torch.tensor([[float(i < k) for i in range(n)] for k in range(0, n + 1, max(1, n // 7))])
    for order in {1, (n + 1) // 2, n}:
        found = subset_weights(rewards.double(), (1,) * order)
        for row, weights in zip(rewards.tolist(), found.tolist(), strict=True):
            expected = [float(others_failed(int(sum(row) - own), n, (1,) * order)) for own in row]
            assert weights == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("order", [3, 1024])
@pytest.mark.parametrize("likelihood", [1e-4, 0.03, 0.5, 1.0])
def test_stable_with_a_thousand_rollouts(order: int, likelihood: float) -> None:
    found = subset_weights(torch.full((2, 1024), likelihood, dtype=torch.float64), (1,) * order)
    assert found.shape == (2, 1024)
    torch.testing.assert_close(
        found, torch.full_like(found, order_weight(likelihood, order)), rtol=1e-11, atol=0
    )


@pytest.mark.parametrize("chunk", [1, 150])
def test_many_groups_are_scanned_in_parts(monkeypatch: pytest.MonkeyPatch, chunk: int) -> None:
    likelihoods = torch.rand(7, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    expected = subset_weights(likelihoods, (1,) * 5)
    monkeypatch.setattr(orders, "CHUNK", chunk)
    assert torch.equal(subset_weights(likelihoods, (1,) * 5), expected)


def test_missing_rollouts_lower_the_order() -> None:
    nan = float("nan")
    found = MaxRL(order=4)([[1, 0, nan, 0.25], [nan, 1, 1, 0], [1, 0, 0, 0], [nan, nan, 1, nan]])
    first, second, third = MaxRL(order=3)([[1, 0, 0.25]])[0].tolist()
    assert found[0].tolist() == pytest.approx([first, second, 0.0, third])
    assert found[1, 1:].tolist() == MaxRL(order=3)([[1, 1, 0]])[0].tolist()
    assert found[2].tolist() == MaxRL(order=4)([[1, 0, 0, 0]])[0].tolist()
    assert found[3].tolist() == [0.0] * 4


@pytest.mark.parametrize("rewards", [[0.0] * 5, [1.0] * 5, [0.3] * 5])
def test_equal_rewards_carry_no_signal(rewards: list[float]) -> None:
    assert not MaxRL(order=3)([rewards]).any()


def test_what_an_order_cannot_be() -> None:
    for wrong in (0, -1, True):
        with pytest.raises(InputError, match="order must be"):
            MaxRL(order=wrong)
        with pytest.raises(InputError, match="order must be"):
            MMPO(wrong)
        with pytest.raises(InputError, match="k must be"):
            PassAtK(wrong)
    with pytest.raises(InputError, match=r"form of the published estimator.*order=2.*leave one of them out"):
        MaxRL(order=2, no_success="penalize")
    with pytest.raises(RewardError, match=r"rewards in \[0, 1\] \(got 1\.5\).*correctness_threshold"):
        MaxRL(order=2)([[1.5, 0.0]])
