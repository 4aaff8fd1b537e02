"""Figures of a batch, each by hand."""

import math

import pytest
import torch

from maxrl.objectives import MaxRL, Reinforce
from maxrl.objectives.diagnostics import QUANTILES, group_diagnostics

NAN = math.nan

SIGNAL = torch.tensor(
    [
        [1.0, 0.0, 0.0, 0.0],  # live: 3, −1, −1, −1
        [1.0, 1.0, 0.0, 0.0],  # live: 1, 1, −1, −1
        [0.0, 0.0, 0.0, 0.0],  # dead
        [1.0, 1.0, 1.0, 1.0],  # mastered
        [1.0, 1.0, NAN, NAN],  # mastered, as far as it was scored
        [NAN, NAN, NAN, NAN],  # not scored
        [0.0, NAN, NAN, NAN],  # dead
        [1.0, 0.0, NAN, NAN],  # live: 1, −1
    ]
)


def test_every_figure_by_hand() -> None:
    found = group_diagnostics(SIGNAL, MaxRL()(SIGNAL))
    assert (found.dead, found.live, found.mastered) == (2 / 7, 3 / 7, 2 / 7)
    assert found.k_histogram == (2, 2, 2, 0, 1)
    # |A| = 3 once, 1 nine times: 12² / (9 + 9)
    assert found.effective_sample_size == 8
    # Sorted they are nine 1 and a 3; .95 lies at place 8.55 of 0 … 9: 1 + .55·2.
    assert found.weight_quantiles == pytest.approx({0.05: 1, 0.25: 1, 0.5: 1, 0.75: 1, 0.95: 2.1, 1.0: 3})
    assert found.pass_at_k.keys() == {1, 2, 4}
    assert found.pass_at_k[1] == pytest.approx((1 / 4 + 2 / 4 + 0 + 1 + 1 + 0 + 1 / 2) / 7)
    # Of groups with two and more: 1 − C(3,2)/C(4,2), 1 − C(2,2)/C(4,2), 0, 1, 1, 1 − 0
    assert found.pass_at_k[2] == pytest.approx((1 / 2 + 5 / 6 + 0 + 1 + 1 + 1) / 6)
    assert found.pass_at_k[4] == pytest.approx((1 + 1 + 0 + 1) / 4)


def test_signal_is_what_the_estimator_makes_of_it() -> None:
    """REINFORCE pulls on mastered groups, too; a graded reward is no success, but may be a signal."""
    found = group_diagnostics(SIGNAL, Reinforce()(SIGNAL))
    assert (found.dead, found.live, found.mastered) == (2 / 7, 5 / 7, 0)
    graded = torch.tensor([[0.5, 0.25], [0.5, 0.5]])
    found = group_diagnostics(graded, MaxRL()(graded))
    assert (found.dead, found.live, found.mastered) == (0.5, 0.5, 0)
    assert found.k_histogram == (2, 0, 0)


def test_k_goes_up_in_powers_of_two_below_n() -> None:
    found = group_diagnostics(torch.zeros(2, 6), torch.zeros(2, 6))
    assert found.pass_at_k == {1: 0, 2: 0, 4: 0}
    assert found.k_histogram == (2, 0, 0, 0, 0, 0, 0)


def test_without_signal_there_are_no_weights() -> None:
    found = group_diagnostics(torch.zeros(1, 2), torch.zeros(1, 2))
    assert found.effective_sample_size == 0
    assert found.weight_quantiles.keys() == set(QUANTILES)
    assert all(math.isnan(value) for value in found.weight_quantiles.values())


def test_without_scores_there_are_no_fractions() -> None:
    nothing = torch.full((2, 2), NAN)
    found = group_diagnostics(nothing, MaxRL()(nothing))
    assert math.isnan(found.dead)
    assert math.isnan(found.live)
    assert math.isnan(found.mastered)
    assert found.k_histogram == (0, 0, 0)
    assert all(math.isnan(rate) for rate in found.pass_at_k.values())
