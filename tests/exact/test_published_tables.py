"""The figures of the docs and of the paper, to their printed digits, from the estimators themselves."""

from collections.abc import Callable
from fractions import Fraction
from math import comb
from typing import Any

import pytest
import torch
from torch import Tensor

from maxrl.objectives import (
    GRPO,
    RLOO,
    DrGRPO,
    Estimator,
    MaxRL,
    Reinforce,
    advantage_mass,
    analyse,
    effective_weight,
    order_weight,
    second_moment,
    target_order,
)


def official_subsets(order: int) -> Callable[[Tensor], Tensor]:
    """The official code's form of order T: N·c of each success, c = [1 − C(N−K, T)/C(N, T)]/K, minus 1 of everything.

    Its minus 1 stays also where nothing succeeded.
    """

    def advantages(rewards_GN: Tensor) -> Tensor:
        n = rewards_GN.shape[1]
        rows: list[Tensor] = []
        for rewards in rewards_GN:
            k = int(rewards.sum())
            c = (1 - comb(n - k, order) / comb(n, order)) / k if k else 0.0
            rows.append(n * c * rewards - 1)
        return torch.stack(rows)

    return advantages


# Which estimator, and its w(p) for N rollouts.
ROWS: list[tuple[str, Any, Callable[[Fraction, int], Fraction]]] = [
    ("REINFORCE", Reinforce(), lambda p, n: Fraction(1)),
    ("mean-centred", DrGRPO(), lambda p, n: Fraction(n - 1, n)),
    ("RLOO", RLOO(), lambda p, n: Fraction(1)),
    ("published", MaxRL(), lambda p, n: order_weight(p, n - 1)),
    ("no control variate", MaxRL(control_variate=False), lambda p, n: order_weight(p, n)),
    ("kept when K = 0", MaxRL(no_success="penalize"), lambda p, n: order_weight(p, n)),
    *(
        (
            f"order {t}{', no baseline' * (not cv)}",
            MaxRL(order=t, control_variate=cv),
            lambda p, n, t=t: order_weight(p, t),
        )
        for t in (1, 2, 4, 8)
        for cv in (True, False)
    ),
]


@pytest.mark.parametrize(("estimator", "weight"), [row[1:] for row in ROWS], ids=[row[0] for row in ROWS])
def test_what_each_estimator_really_optimises(estimator: Estimator, weight: Callable[..., Fraction]) -> None:
    for n in (8, 16):
        for p in (Fraction(1, 100), Fraction(1, 20), Fraction(1, 2), Fraction(19, 20)):
            assert effective_weight(estimator, p, n) == weight(p, n)


def test_grpo_is_about_one_over_the_spread_and_rises_again() -> None:
    for p in (0.1, 0.5, 0.9):
        assert effective_weight(GRPO(), p, 256) == pytest.approx((p * (1 - p)) ** -0.5, rel=0.02)
    weights = effective_weight(GRPO(), [0.5, 0.7, 0.9, 0.95, 0.99], 16).tolist()
    assert weights == sorted(weights)


@pytest.mark.parametrize(
    ("n", "p", "published", "full"),
    [
        (8, 0.05, "6.0333", "6.7316"),
        (16, 0.05, "10.73418", "11.19747"),
        (4, 0.01, "2.970", "3.940"),
    ],
)
def test_check_values(n: int, p: float, published: str, full: str) -> None:
    digits = len(published.partition(".")[2])
    assert f"{effective_weight(MaxRL(), p, n):.{digits}f}" == published
    digits = len(full.partition(".")[2])
    for form in (MaxRL(control_variate=False), MaxRL(no_success="penalize"), MaxRL(order=n)):
        assert f"{effective_weight(form, p, n):.{digits}f}" == full


def test_practical_maxrl_is_plain_rl_with_two_rollouts_and_silent_with_one() -> None:
    assert [target_order(MaxRL(), n) for n in (1, 2, 16)] == [0, 1, 15]


@pytest.mark.parametrize(("n", "printed"), [(16, "0.169"), (32, "0.106")])
def test_which_prompts_pull_hardest(n: int, printed: str) -> None:
    """2[(1−(1−p)^N) − p] is largest at 1 − N^(−1/(N−1)), the mass of RLOO, 2p(1−p), at a half."""
    grid = torch.arange(1, 10_000, dtype=torch.float64) / 10_000
    mass = advantage_mass(MaxRL(), grid, n)
    torch.testing.assert_close(mass, 2 * ((1 - (1 - grid) ** n) - grid), rtol=1e-11, atol=1e-13)
    largest = float(grid[mass.argmax()])
    assert largest == pytest.approx(1 - n ** (-1 / (n - 1)), abs=1e-4)
    assert f"{largest:.3f}" == printed
    plain = advantage_mass(RLOO(), grid, n)
    torch.testing.assert_close(plain, 2 * grid * (1 - grid), rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize(
    ("estimator", "printed"),
    [
        (MaxRL(control_variate=False), "1.08 1.11 1.19 1.33 1.86 3.12 9.37 18.75"),
        (MaxRL(no_success="penalize"), "1.07 1.02 1.01 1.00 1.00 1.00 1.00 1.00"),
        (MaxRL(order=16), "1.08 1.07 1.06 1.04 1.02 1.01 1.01 1.01"),
        (MaxRL(order=4), "0.10 0.15 0.29 0.49 0.85 0.99 1.01 1.01"),
    ],
    ids=repr,
)
def test_second_moments_relative_to_the_published_form(estimator: Estimator, printed: str) -> None:
    rates = [0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9, 0.95]
    ratios = second_moment(estimator, rates, 16) / second_moment(MaxRL(), rates, 16)
    assert " ".join(f"{ratio:.2f}" for ratio in ratios.tolist()) == printed


class TestOfficialSubsets:
    @pytest.mark.parametrize("order", [1, 2, 4, 8])
    def test_its_weight_is_that_of_the_order(self, order: int) -> None:
        assert target_order(official_subsets(order), 8) == order
        for p in (0.01, 0.05, 0.5, 0.95):
            found = effective_weight(official_subsets(order), p, 8)
            assert found == pytest.approx(order_weight(p, order), rel=1e-12)

    def test_its_second_moment_explodes_at_small_orders(self) -> None:
        # T = 1: N·c = 1, so that a success gets 0 and each of the N(1−p) failures −1.
        assert f"{second_moment(official_subsets(1), 0.05, 16):.1f}" == "15.2"
        bare = second_moment(MaxRL(order=1, control_variate=False), 0.05, 16)
        assert f"{bare:.2f}" == f"{second_moment(Reinforce(), 0.05, 16):.2f}" == "0.80"

    def test_dead_groups_carry_gradient(self) -> None:
        for order in (1, 4, 16):
            assert analyse(official_subsets(order), 16).pairs[0] == (0.0, -1.0)
            assert analyse(MaxRL(order=order), 16).pairs[0] == (0, 0)
