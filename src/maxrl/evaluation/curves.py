"""pass@k over a set of problems, with bootstrap intervals over problems."""

from collections.abc import Sequence

import numpy as np

from maxrl.errors import InputError
from maxrl.evaluation.records import PassAtK, ProblemCounts
from maxrl.objectives import pass_at_k


def default_ks(samples: int) -> list[int]:
    """Powers of two up to the number of samples, and that number itself: 1, 2, 4, …, samples."""
    ks = [2**exponent for exponent in range(samples.bit_length()) if 2**exponent < samples]
    return [*ks, samples]


def pass_curve(
    problems: Sequence[ProblemCounts],
    ks: Sequence[int],
    *,
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> tuple[PassAtK, ...]:
    """The unbiased estimate of pass@k for each k, averaged over problems, with a percentile bootstrap interval.

    Only problems are resampled. Resampling the completions of a problem with replacement would bias pass@k low
    (its expectation is 1 − (1 − c/n)^k), so the interval covers the choice of problems and, through it, the
    draw of completions.

    A problem with fewer than k scored completions (its verifier failed on some) is left out at that k; a k that
    no problem can serve is left out of the curve.

    Args:
        problems: verdict counts, one entry per problem.
        ks: numbers of samples, each at least 1.
        confidence: level of the interval, between 0 and 1.
        resamples: bootstrap resamples.
        seed: of the resampling.

    Raises:
        InputError: no problems, a k below 1, or a confidence outside (0, 1).
    """
    if not problems:
        raise InputError("pass@k needs at least one problem")
    if not 0 < confidence < 1:
        raise InputError(f"confidence must lie between 0 and 1, but is {confidence}")
    if any(k < 1 for k in ks):
        raise InputError(f"every k must be at least 1, but got {list(ks)}")
    scored = np.array([problem.scored for problem in problems])
    correct = np.array([problem.correct for problem in problems])
    tail = (1 - confidence) / 2
    curve: list[PassAtK] = []
    for k in sorted(set(ks)):
        usable = scored >= k
        if not usable.any():
            continue
        values = np.asarray(pass_at_k(scored[usable], correct[usable], k), dtype=np.float64)
        draws = np.random.default_rng(seed).integers(len(values), size=(resamples, len(values)))
        low, high = np.quantile(values[draws].mean(axis=1), [tail, 1 - tail])
        curve.append(PassAtK(k=k, estimate=float(values.mean()), low=float(low), high=float(high)))
    return tuple(curve)
