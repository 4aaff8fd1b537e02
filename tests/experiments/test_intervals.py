"""Intervals: golden values with their arithmetic, and by simulation how often they cover a truth that is known."""

from math import sqrt

import numpy as np
import pytest

from maxrl.experiments.intervals import (
    bootstrap_mean,
    crossed_detectable,
    crossed_intervals,
    pass_at_ks,
    problem_draws,
    samples_ratio,
    t_quantile,
)
from maxrl.objectives import pass_at_k


@pytest.mark.parametrize(
    ("freedom", "upper", "power"),  # t tables at .975 and at .8
    [(1, 12.706, 1.376), (2, 4.303, 1.061), (3, 3.182, 0.978), (4, 2.776, 0.941), (9, 2.262, 0.883), (30, 2.042, 0.854)],
)  # fmt: skip
def test_quantiles_of_t(freedom: int, upper: float, power: float) -> None:
    assert t_quantile(0.975, freedom) == pytest.approx(upper, abs=5e-4)
    assert t_quantile(0.8, freedom) == pytest.approx(power, abs=5e-4)


def test_pass_at_ks_is_the_formula_at_every_pair_of_counts() -> None:
    rng = np.random.default_rng(0)
    scored = rng.integers(8, 12, size=(3, 50))
    correct = rng.binomial(scored, 0.3)
    ks = (1, 3, 8)
    direct = np.asarray(pass_at_k(scored[..., None], correct[..., None], np.array(ks)))
    assert pass_at_ks(scored, correct, ks) == pytest.approx(direct, abs=1e-12)
    assert pass_at_ks(scored, correct, ks).shape == (3, 50, 3)


def test_crossed_interval_by_hand() -> None:
    # Seeds × problems: [[1, 3], [2, 8]]; mean 3.5, seed means 2 and 5, problem means 1.5 and 5.5.
    # MS_S = 2·(1.5² + 1.5²)/1 = 9; MS_P = 2·(2² + 2²)/1 = 16; residuals ±1: MS_E = 4/1 = 4.
    # Half width √([t₁² · 9 + z² · (16 − 4)]/4), t₁ = 12.7062, z = 1.95996: √([1453.03 + 46.10]/4) = 19.359.
    (interval,) = crossed_intervals(np.array([[[1.0], [3.0]], [[2.0], [8.0]]]), 0.95)
    assert interval.estimate == pytest.approx(3.5)
    assert (interval.low, interval.high) == pytest.approx((3.5 - 19.359, 3.5 + 19.359), abs=2e-3)
    # Each seed twice: MS_S = 2·(4 · 1.5²)/3 = 6; MS_P = 4·(2² + 2²)/1 = 32; MS_E = 8/3. Detectable, with
    # t₃ + t₃(.8) = 3.18245 + .97847 and z + z(.8) = 1.95996 + .84162: √([17.3132 · 6 + 7.84885 · 29.3333]/8) = 6.4625.
    (size,) = crossed_detectable(np.array([[[1.0], [3.0]], [[2.0], [8.0]]] * 2), 0.95)
    assert size == pytest.approx(6.4625, abs=1e-3)


def test_one_seed_or_one_problem_gives_no_interval_over_seeds() -> None:
    assert crossed_intervals(np.zeros((1, 9, 2)), 0.95) == ()
    assert crossed_intervals(np.zeros((0, 9, 2)), 0.95) == ()
    assert crossed_intervals(np.zeros((3, 1, 2)), 0.95) == ()
    assert crossed_detectable(np.zeros((1, 9, 2)), 0.95) == ()


def crossed(
    seeds: int, problems: int, of_seeds: float, of_problems: float, rest: float, draws: int
) -> np.ndarray:
    """Repetitions (last axis) of y_sp = a_s + b_p + e_sp around 0, with these standard deviations."""
    rng = np.random.default_rng(seeds)
    return (
        of_seeds * rng.normal(size=(seeds, 1, draws))
        + of_problems * rng.normal(size=(1, problems, draws))
        + rest * rng.normal(size=(seeds, problems, draws))
    )


def coverage(intervals: tuple, truth: float = 0.0) -> float:
    return float(np.mean([interval.low <= truth <= interval.high for interval in intervals]))


DRAWS = 2000
TOLERANCE = 3 * sqrt(0.05 * 0.95 / DRAWS)  # three standard errors of a coverage of 95 %


@pytest.mark.parametrize("seeds", [2, 3, 5, 10])
@pytest.mark.parametrize(
    ("of_seeds", "of_problems", "rest"), [(0.05, 0.3, 0.2), (0.2, 0.3, 0.1), (0.01, 0.4, 0.2), (0.0, 0.3, 0.3)]
)  # fmt: skip
def test_intervals_over_seeds_cover_at_least_as_often_as_they_say(
    seeds: int, of_seeds: float, of_problems: float, rest: float
) -> None:
    values = crossed(seeds, 40, of_seeds, of_problems, rest, DRAWS)
    assert coverage(crossed_intervals(values, 0.95)) >= 0.95 - TOLERANCE


@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_where_seeds_dominate_the_coverage_is_what_it_says(seeds: int) -> None:
    found = coverage(crossed_intervals(crossed(seeds, 40, 0.3, 0.0, 0.05, DRAWS), 0.95))
    assert found == pytest.approx(0.95, abs=TOLERANCE + 0.005)


def test_the_bootstrap_over_problems_covers_given_the_models_but_not_other_seeds() -> None:
    draws_BP = problem_draws(60, 500, np.random.default_rng(0))
    given_models = crossed(2, 60, 0.0, 0.3, 0.1, DRAWS).mean(axis=0)
    assert coverage(bootstrap_mean(given_models, draws_BP, 0.95)) == pytest.approx(0.94, abs=0.02)
    other_seeds = crossed(2, 60, 0.2, 0.3, 0.1, DRAWS).mean(axis=0)
    assert coverage(bootstrap_mean(other_seeds, draws_BP, 0.95)) < 0.6


def test_two_seeds_that_happen_to_agree_promise_no_more_than_the_same_models() -> None:
    draws_BP = problem_draws(40, 2000, np.random.default_rng(0))
    agreeing = crossed(2, 40, 0.0, 0.3, 0.1, 50)
    agreeing -= agreeing.mean(axis=1, keepdims=True)  # both seeds have the same mean: nothing between them
    over_problems = bootstrap_mean(agreeing.mean(axis=0), draws_BP, 0.95)
    for wide, narrow in zip(crossed_intervals(agreeing, 0.95), over_problems, strict=True):
        assert wide.high - wide.low >= 0.95 * (narrow.high - narrow.low)


def test_one_problem_has_no_interval() -> None:
    draws_BP = problem_draws(1, 100, np.random.default_rng(0))
    (interval,) = bootstrap_mean(np.array([[0.25]]), draws_BP, 0.95)
    assert interval.estimate == 0.25
    assert np.isnan([interval.low, interval.high]).all()
    assert interval.sign == 0


def test_of_few_seeds_no_detectable_difference_is_told() -> None:
    assert crossed_detectable(crossed(3, 40, 0.1, 0.3, 0.1, 2), 0.95) == ()


@pytest.mark.parametrize("seeds", [4, 8])
def test_the_detectable_difference_is_found_about_four_times_in_five(seeds: int) -> None:
    values = crossed(seeds, 60, 0.15, 0.3, 0.1, DRAWS)
    size = float(np.mean(crossed_detectable(values, 0.95)))
    found = np.mean([interval.sign > 0 for interval in crossed_intervals(values + size, 0.95)])
    assert 0.7 <= found <= 0.95


def test_the_samples_ratio_covers_the_ratio_that_counts_are_drawn_from() -> None:
    # The first arm at k = 4 with odds that make its pass@4 the other arm's pass@8: p' with 1 − (1−p')⁴ = 1 − (1−p)⁸.
    rng = np.random.default_rng(3)
    n, problems, repetitions = 32, 80, 60
    draws_BP = problem_draws(problems, 300, rng)
    grid = np.arange(1, n + 1)
    hits = 0
    for _ in range(repetitions):
        p = rng.beta(1, 6, problems)
        better = 1 - (1 - p) ** 2
        full = np.full(problems, n)
        target = pass_at_ks(full, rng.binomial(n, better), (4,))[:, 0]
        curve = pass_at_ks(full, rng.binomial(n, p), grid.tolist())
        ratio = samples_ratio(target, grid, curve, 4, draws_BP, 0.95)
        hits += ratio.low <= 2.0 <= ratio.high
    assert hits >= 0.88 * repetitions
