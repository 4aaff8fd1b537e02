"""Estimates with intervals from counts: pure functions on arrays.

Array suffixes: `S` seeds, `P` problems, `K` values of k, `B` bootstrap resamples.

Two kinds of interval. The percentile bootstrap over *problems* draws whole problems with replacement, each with its
unbiased pass@k; samples within a problem are never redrawn (that estimates 1 − (1 − c/n)^k, which is too low). It holds
for the models that were trained. `crossed_intervals` is for the method: other problems *and* other training seeds.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from math import atan, cos, inf, nan, pi, sin, sqrt, tan
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from maxrl.objectives import pass_at_k

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Interval:
    """An estimate and its bootstrap interval. NaN where there is nothing to estimate."""

    estimate: float
    low: float
    high: float

    @property
    def sign(self) -> int:
        """1 or −1 where the whole interval lies on that side of 0, else 0: cannot be told apart."""
        return int(self.low > 0) - int(self.high < 0)


def pass_at_ks(scored: NDArray[np.int64], correct: NDArray[np.int64], ks: Sequence[int]) -> Array:
    """Unbiased pass@k of each problem for each k: counts of shape (…) → (…, K). Needs scored ≥ max(ks)."""
    # Computed once for each pair of counts: hundreds of problems share a few dozen of them.
    most = int(scored.max(initial=0)) + 1
    pairs, places = np.unique(scored.ravel() * most + correct.ravel(), return_inverse=True)
    values = np.asarray(pass_at_k((pairs // most)[:, None], (pairs % most)[:, None], np.array(ks)))
    return values.astype(np.float64)[places].reshape(*scored.shape, len(ks))


def problem_draws(problems: int, resamples: int, rng: np.random.Generator) -> Array:
    """How often each problem occurs in each resample of all problems: (B, P)."""
    draws = rng.multinomial(problems, np.full(problems, 1 / problems), size=resamples)
    return draws.astype(np.float64)


def bootstrap_mean(values_PK: Array, draws_BP: Array, confidence: float) -> tuple[Interval, ...]:
    """Mean over problems of each column, with its percentile interval; NaN bounds for a single problem."""
    if len(values_PK) < 2:
        return tuple(Interval(float(value), nan, nan) for value in values_PK.mean(axis=0))
    tail = (1 - confidence) / 2
    means_BK = draws_BP @ values_PK / draws_BP.sum(axis=1, keepdims=True)
    low_K, high_K = np.quantile(means_BK, [tail, 1 - tail], axis=0)
    return tuple(
        Interval(float(m), float(lo), float(hi))
        for m, lo, hi in zip(values_PK.mean(axis=0), low_K, high_K, strict=True)
    )


def detectable_difference(differences_P: Array, confidence: float, power: float = 0.8) -> float:
    """The true mean difference that a paired comparison on as many problems would find in `power` of all
    repetitions: (z_{1−α/2} + z_power) · s/√P. NaN for a single problem.
    """
    if len(differences_P) < 2:
        return nan
    z = NormalDist().inv_cdf
    error = float(differences_P.std(ddof=1)) / len(differences_P) ** 0.5
    return (z((1 + confidence) / 2) + z(power)) * error


def sample_grid(limit: int) -> NDArray[np.int64]:
    """Numbers of samples 1, 2, …, `limit` to read a curve at; above 128 in steps of about a hundredth."""
    steps = np.geomspace(128, limit, max(2, int(100 * np.log(limit / 128)))) if limit > 128 else np.empty(0)
    return np.unique(np.concatenate([np.arange(1, min(limit, 128) + 1), steps.round().astype(np.int64)]))


def samples_needed(grid_K: NDArray[np.int64], curves_BK: Array, targets_B: Array) -> Array:
    """At how many samples pass@k curves first reach their targets: (K,), (B, K), (B,) → (B,).

    Between two points of the grid a curve is taken as linear in log k. `inf` where the target lies above the
    whole curve, 0 where it lies below pass@1 (less than one sample would do).
    """
    reached_BK = curves_BK >= targets_B[:, None] - 1e-12
    at = reached_BK.argmax(axis=1)
    before = np.maximum(at - 1, 0)
    rows = np.arange(len(targets_B))
    low_B, high_B = curves_BK[rows, before], curves_BK[rows, at]
    share_B = np.clip((targets_B - low_B) / np.where(high_B > low_B, high_B - low_B, 1.0), 0.0, 1.0)
    needed_B = np.exp((1 - share_B) * np.log(grid_K[before]) + share_B * np.log(grid_K[at]))
    needed_B = np.where(targets_B < curves_BK[:, 0] - 1e-12, 0.0, needed_B)
    return np.where(reached_BK[:, -1], needed_B, inf)


def samples_ratio(
    target_P: Array,
    grid_K: NDArray[np.int64],
    curve_PK: Array,
    k: int,
    draws_BP: Array,
    confidence: float,
    curves_BK: Array | None = None,
) -> Interval:
    """How many times k samples of the other arm reach the first arm's pass@k.

    `target_P` is the first arm's pass@k of each problem, `curve_PK` the other's at the `grid_K` of samples.
    The estimate and the bounds are `inf` where all samples do not reach it, 0 where one sample exceeds it;
    NaN where the first arm solves nothing at all. `curves_BK` are the means of `curve_PK` in each resample, for callers
    that ask for several k.
    """
    target, problems = float(target_P.mean()), len(target_P)
    if target == 0:
        return Interval(nan, nan, nan)
    estimate = samples_needed(grid_K, curve_PK.mean(axis=0)[None], np.array([target]))[0] / k
    if curves_BK is None:
        curves_BK = draws_BP @ curve_PK / problems
    targets_B = draws_BP @ target_P / problems
    tail = (1 - confidence) / 2
    low, high = np.quantile(
        samples_needed(grid_K, curves_BK, targets_B) / k,
        [tail, 1 - tail],
        method="inverted_cdf",  # takes one of the values: there is nothing between a number and infinity
    )
    return Interval(float(estimate), float(low), float(high))


# ---------------------------------------------------------------------------------------------------------
# Seeds and problems
# ---------------------------------------------------------------------------------------------------------


FEW_SEEDS = 4
"""With fewer, how much training seeds vary is hardly known."""


def crossed_intervals(values_SPK: Array, confidence: float) -> tuple[Interval, ...]:
    """Mean over seeds and problems with an interval that covers both: for other training seeds, on other problems.

    Every seed is measured on the same problems, so that the value of seed s on problem p is, in each column,

        y_sp = μ + a_s + b_p + e_sp,    Var ȳ = σ_a²/S + σ_b²/P + σ_e²/(SP)

    (random effects, crossed). With the mean squares MS_S between seeds, MS_P between problems and MS_E of what is left,
    (MS_S + MS_P − MS_E)/(SP) estimates Var ȳ without bias (Cornfield and Tukey 1956, Annals of Mathematical
    Statistics 27, 907–949). The part that rests on seeds has S − 1 degrees of freedom, so that the half width is

        √( [t²_{S−1} · MS_S + z² · max(MS_P − MS_E, 0)] / (SP) ),

    each variance with its own quantile, which errs on the side of covering too often (Banerjee 1961, Sankhyā A 23,
    359–378). With two seeds t is 12.7: such an interval is mostly very wide, because two runs say next to nothing about
    how much runs vary; where they happen to agree, it would be narrower than for these models alone, z²·MS_P/(SP), which
    it never is allowed to be.

    Args:
        values_SPK: paired differences (or pass@k) of each seed and problem; at least two of both.
        confidence: level, between 0 and 1.

    Returns:
        One interval per column; none where there are fewer than two seeds or problems.
    """
    seeds, problems, _ = values_SPK.shape
    if seeds < 2 or problems < 2:
        return ()
    half_K = _crossed_width(values_SPK, (1 + confidence) / 2, 0.0)
    return tuple(
        Interval(float(mean), float(mean - half), float(mean + half))
        for mean, half in zip(values_SPK.mean(axis=(0, 1)), half_K, strict=True)
    )


def crossed_detectable(values_SPK: Array, confidence: float, power: float = 0.8) -> tuple[float, ...]:
    """The true mean differences that as many seeds and problems would find in about `power` of all repetitions.

    As `crossed_intervals`, with the quantile of `power` added to each of its quantiles; none where there are fewer than
    `FEW_SEEDS`, of which the variance between seeds cannot be estimated well enough (with two, sizes found so are found
    3 times in 5 instead of 4), or fewer than two problems.
    """
    seeds, problems, _ = values_SPK.shape
    if seeds < FEW_SEEDS or problems < 2:
        return ()
    return tuple(float(size) for size in _crossed_width(values_SPK, (1 + confidence) / 2, power))


def _crossed_width(values_SPK: Array, upper: float, power: float) -> Array:
    """The half width of `crossed_intervals` per column, with t and z at `upper`, plus those at `power`."""
    seeds, problems, _ = values_SPK.shape
    mean_K = values_SPK.mean(axis=(0, 1))
    by_seed_SK, by_problem_PK = values_SPK.mean(axis=1), values_SPK.mean(axis=0)
    rest_SPK = values_SPK - by_seed_SK[:, None] - by_problem_PK[None] + mean_K
    between_seeds_K = problems * ((by_seed_SK - mean_K) ** 2).sum(axis=0) / (seeds - 1)
    between_problems_K = seeds * ((by_problem_PK - mean_K) ** 2).sum(axis=0) / (problems - 1)
    rest_K = (rest_SPK**2).sum(axis=(0, 1)) / ((seeds - 1) * (problems - 1))
    t, z = t_quantile(upper, seeds - 1), NormalDist().inv_cdf(upper)
    if power:
        t, z = t + t_quantile(power, seeds - 1), z + NormalDist().inv_cdf(power)
    of_problems_K = np.maximum(between_problems_K - rest_K, 0.0)
    crossed_K = t**2 * between_seeds_K + z**2 * of_problems_K
    return np.sqrt(np.maximum(crossed_K, z**2 * between_problems_K) / (seeds * problems))


@cache
def t_quantile(share: float, freedom: int) -> float:
    """Quantile of Student's t: the value that a share of at least one half lies below, by bisection.

    >>> [round(t_quantile(0.975, freedom), 3) for freedom in (1, 2, 4, 9)]
    [12.706, 4.303, 2.776, 2.262]
    """
    if freedom == 1:
        return tan(pi * (share - 0.5))
    low, high = 0.0, 1.0
    while _t_share(high, freedom) < share:
        high *= 2
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if _t_share(middle, freedom) < share else (low, middle)
    return (low + high) / 2


def _t_share(t: float, freedom: int) -> float:
    """Distribution function at t ≥ 0, for whole degrees of freedom (Abramowitz and Stegun 26.7.3 and 26.7.4)."""
    angle = atan(t / sqrt(freedom))
    even = freedom % 2 == 0
    term = 1.0 if even else cos(angle)
    total = term if even or freedom > 1 else 0.0
    for j in range(2 if even else 3, freedom, 2):
        term *= cos(angle) ** 2 * (j - 1) / j
        total += term
    inside = sin(angle) * total if even else 2 / pi * (angle + sin(angle) * total)
    return 0.5 + inside / 2
