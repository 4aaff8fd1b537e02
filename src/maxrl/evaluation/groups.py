"""What groups of N rollouts to expect of a model, from c successes in n samples of each prompt.

N of a prompt's n samples, drawn without replacement, hold K ~ Hypergeometric(n, c, N) successes. Averaged over what the n
samples may turn out to be, that is a group of N fresh rollouts, K ~ Binomial(N, p): the mean of anything over this K is an
unbiased estimate of its mean over groups in training, for every N ≤ n and for none above. The rate c/n put into the
binomial formula would be biased: (1 − c/n)^N is too high on average, and 1 for ever where c = 0.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from statistics import median

import numpy as np
from numpy.typing import NDArray

from maxrl.errors import InputError
from maxrl.evaluation.records import ProblemCounts
from maxrl.objectives import AnyEstimator, analyse

Array = NDArray[np.float64]

HARD_BELOW = 0.5
"""A prompt is hard where it fails more often than it succeeds."""

CONFIDENCE = 0.95
"""Of the upper bound on the pass rate of a prompt that never succeeded."""

_BINS_ABOVE_HALF = 4
"""Bins of pass rates between 1/2 and 1; the last one ends below 1."""


@dataclass(frozen=True, kw_only=True)
class RateBin:
    """Prompts whose measured pass rate is at least `low` and below `high`, or exactly both where they are equal."""

    low: float
    high: float
    prompts: int


@dataclass(frozen=True, kw_only=True)
class ExpectedGroups:
    """The groups to expect of N rollouts: shares that add up to 1, and the signal of estimators."""

    rollouts: int
    """N."""
    prompts: int
    """Prompts with verdicts on at least N samples; others are left out."""
    dead: float
    """Share of groups without any success."""
    live: float
    """Share of groups with successes and failures."""
    mastered: float
    """Share of groups without any failure."""
    live_error: float | None
    """Standard error of `live` over prompts; None of a single one."""
    signal: Mapping[str, float | None] = field(default_factory=dict[str, float | None])
    """Expected mean |A| of a rollout, by estimator; None where the estimator needs more than N rollouts."""


@dataclass(frozen=True, kw_only=True)
class HardPrompts:
    """The prompts with a measured pass rate below 1/2, and the N that their median one needs to be live."""

    prompts: int
    median: float | None
    """Median of their pass rates; None where there are none."""
    rollouts_to_live: int | None
    """Least N at which a prompt of that rate is live at least every second time; None where the rate is 0."""
    never_in: int | None = None
    """Where the median is 0: the samples in which such a prompt never succeeded (of several numbers the least)."""
    at_most: float | None = None
    """Where the median is 0: the pass rate that such a prompt has at most, with `CONFIDENCE`."""
    at_least: int | None = None
    """Where the median is 0: the N that it therefore takes at least."""


def success_chances(scored: int, correct: int, rollouts: int) -> Array:
    """P(K = k) for k = 0 … N successes among N of the n samples, of which c succeeded.

    C(c, k)·C(n−c, N−k)/C(n, N), from the quotients of neighbours: the coefficients themselves would overflow.

    Args:
        scored: n.
        correct: c, at most n.
        rollouts: N, from 1 to n.

    Returns:
        N + 1 chances that add up to 1.
    """
    least, most = max(0, rollouts - (scored - correct)), min(correct, rollouts)
    k = np.arange(least, most, dtype=np.float64)
    quotients = (correct - k) * (rollouts - k) / ((k + 1) * (scored - correct - rollouts + k + 1))
    logarithms = np.concatenate([[0.0], np.cumsum(np.log(quotients))])
    weights = np.exp(logarithms - logarithms.max())
    chances = np.zeros(rollouts + 1)
    chances[least : most + 1] = weights / weights.sum()
    return chances


def advantage_masses(estimator: AnyEstimator, rollouts: int) -> Array:
    """Mean |A| over the rollouts of a group with K = 0 … N successes, from the estimator's pair.

    An estimator with memory counts as it is before its first batch; one whose sums go over a batch, as if the group were it.
    """
    return np.array([float(mass) for mass in analyse(estimator, rollouts).masses])


def expect_groups(
    problems: Sequence[ProblemCounts], rollouts: int, estimators: Mapping[str, AnyEstimator] | None = None
) -> ExpectedGroups:
    """The groups to expect when each prompt is given `rollouts` rollouts, unbiased.

    Args:
        problems: verdict counts, one entry per prompt.
        rollouts: N, at least 2 and at most the verdicts on a prompt; prompts with fewer are left out.
        estimators: whose signal is wanted, by name.

    Raises:
        InputError: N is below 2, or above the verdicts on every prompt.
    """
    if rollouts < 2:
        raise InputError(f"a group has at least 2 rollouts, but N is {rollouts}")
    usable = [problem for problem in problems if problem.scored >= rollouts]
    if not usable:
        most = max((problem.scored for problem in problems), default=0)
        raise InputError(
            f"groups of {rollouts} rollouts cannot be estimated from {most} verdicts a prompt: draw more samples "
            f"(--eval_samples {rollouts} or more), or ask for N up to {most}"
        )
    kinds = {
        counts: success_chances(*counts, rollouts)
        for counts in {(problem.scored, problem.correct) for problem in usable}
    }
    chances_PK = np.array([kinds[problem.scored, problem.correct] for problem in usable])
    live_P = chances_PK[:, 1:-1].sum(axis=1)
    mean_K = chances_PK.mean(axis=0)
    return ExpectedGroups(
        rollouts=rollouts,
        prompts=len(usable),
        dead=float(mean_K[0]),
        live=float(live_P.mean()),
        mastered=float(mean_K[-1]),
        live_error=_standard_error(live_P),
        signal={
            name: float(mean_K @ advantage_masses(it, rollouts)) if it.least_rollouts <= rollouts else None
            for name, it in (estimators or {}).items()
        },
    )


def least_rollouts_for(problems: Sequence[ProblemCounts], live: float) -> int | None:
    """The least N at which that share of groups is expected to be live; None where there is none.

    N goes up to the fewest verdicts on a prompt, so that every N is asked about the same prompts. Over these the share
    grows with N: each prompt's chance of a dead and of a mastered group falls.

    Raises:
        InputError: a prompt with less than 2 verdicts.
    """
    low, high = 2, min(problem.scored for problem in problems)
    if expect_groups(problems, high).live < live:
        return None
    while low < high:
        middle = (low + high) // 2
        if expect_groups(problems, middle).live < live:
            low = middle + 1
        else:
            high = middle
    return low


def mean_pass_rate(problems: Sequence[ProblemCounts]) -> tuple[float, float | None]:
    """pass@1, and its standard error over prompts (None of a single one)."""
    rates = np.array(_rates(problems))
    return float(rates.mean()), _standard_error(rates)


def rate_histogram(problems: Sequence[ProblemCounts]) -> tuple[RateBin, ...]:
    """How many prompts have which pass rate: 0 exactly, then bins that halve towards 0 and towards 1, then 1 exactly.

    Halving, because a prompt of half the rate takes twice the N to be live. The lowest bin holds a single success.
    """
    rates = _rates(problems)
    halvings = max(1, math.ceil(math.log2(max(problem.scored for problem in problems))))
    below = [2.0**-exponent for exponent in range(halvings, 0, -1)]
    above = [1 - 2.0**-exponent for exponent in range(2, min(halvings, _BINS_ABOVE_HALF) + 1)]
    return (
        RateBin(low=0, high=0, prompts=rates.count(0)),
        *(
            RateBin(low=low, high=high, prompts=sum(low <= rate < high for rate in rates))
            for low, high in pairwise([*below, *above, 1.0])
        ),
        RateBin(low=1, high=1, prompts=rates.count(1)),
    )


def rollouts_to_live(rate: float) -> int:
    """The least N with P(live) = 1 − (1−p)^N − p^N ≥ 1/2, for a pass rate p strictly between 0 and 1.

    >>> rollouts_to_live(0.5), rollouts_to_live(0.1), rollouts_to_live(0.01)
    (2, 7, 69)
    """
    rarer = min(rate, 1 - rate)
    rollouts = max(2, math.ceil(math.log(0.5) / math.log1p(-rarer)))  # no smaller N has (1−p)^N ≤ 1/2
    while 1 - (1 - rate) ** rollouts - rate**rollouts < 0.5:
        rollouts += 1
    return rollouts


def hard_prompts(problems: Sequence[ProblemCounts]) -> HardPrompts:
    """The prompts that fail more often than they succeed, and when their median one becomes live.

    Where that one never succeeded in n samples, all that is known is that its rate is at most 1 − .05^(1/n) with 95 %
    confidence (Clopper and Pearson; about 3/n).
    """
    hard = [problem for problem in problems if problem.scored and _rate(problem) < HARD_BELOW]
    if not hard:
        return HardPrompts(prompts=0, median=None, rollouts_to_live=None)
    middle = median(map(_rate, hard))
    if middle > 0:
        return HardPrompts(prompts=len(hard), median=middle, rollouts_to_live=rollouts_to_live(middle))
    samples = min(problem.scored for problem in hard if not problem.correct)
    at_most = 1 - (1 - CONFIDENCE) ** (1 / samples)
    return HardPrompts(
        prompts=len(hard),
        median=0.0,
        rollouts_to_live=None,
        never_in=samples,
        at_most=at_most,
        at_least=rollouts_to_live(min(at_most, HARD_BELOW)),
    )


def _rate(problem: ProblemCounts) -> float:
    return problem.correct / problem.scored


def _rates(problems: Sequence[ProblemCounts]) -> list[float]:
    """Measured pass rates; a prompt without any verdict has none."""
    rates = [_rate(problem) for problem in problems if problem.scored]
    if not rates:
        raise InputError(
            "no sample of any prompt has a verdict (the verifier failed on it, or overlong=drop left it out): there is no "
            "pass rate to measure"
        )
    return rates


def _standard_error(values: Array) -> float | None:
    return float(values.std(ddof=1)) / math.sqrt(len(values)) if len(values) > 1 else None
