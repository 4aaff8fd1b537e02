"""What a comparison's counts say: pass@k, paired differences, sample ratios, each with an interval.

Array suffixes: `S` seeds, `P` problems, `K` values of k, `B` bootstrap resamples.

Every interval is a percentile bootstrap over *problems*: whole problems are drawn with replacement, and
each keeps its unbiased pass@k. Samples within a problem are never redrawn (that estimates
1 − (1 − c/n)^k, which is too low). Arms share the draws, so differences are paired. The intervals say
how much depends on which problems were asked; they say nothing about training seeds.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf, nan
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from maxrl.errors import InputError
from maxrl.evaluation.records import Evaluation, ProblemCounts
from maxrl.experiments.records import Comparison, RunRecord
from maxrl.objectives import pass_at_k

Array = NDArray[np.float64]

RESAMPLES = 2000
HISTOGRAM_LABELS = ("0", *(f"{10 * i}–{10 * i + 10}" for i in range(10)), "100")
"""Pass rates in %: never solved, ten bins open at 0 and at 100, always solved."""


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


# ---------------------------------------------------------------------------------------------------------
# Pure functions on arrays
# ---------------------------------------------------------------------------------------------------------


def pass_at_ks(scored: NDArray[np.int64], correct: NDArray[np.int64], ks: Sequence[int]) -> Array:
    """Unbiased pass@k of each problem for each k: counts of shape (…) → (…, K). Needs scored ≥ max(ks)."""
    return np.asarray(pass_at_k(scored[..., None], correct[..., None], np.array(ks)), dtype=np.float64)


def problem_draws(problems: int, resamples: int, rng: np.random.Generator) -> Array:
    """How often each problem occurs in each resample of all problems: (B, P)."""
    draws = rng.multinomial(problems, np.full(problems, 1 / problems), size=resamples)
    return draws.astype(np.float64)


def bootstrap_mean(values_PK: Array, draws_BP: Array, confidence: float) -> tuple[Interval, ...]:
    """Mean over problems of each column, with its percentile interval."""
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
    target_P: Array, grid_K: NDArray[np.int64], curve_PK: Array, k: int, draws_BP: Array, confidence: float
) -> Interval:
    """How many times k samples of the other arm reach the first arm's pass@k.

    `target_P` is the first arm's pass@k of each problem, `curve_PK` the other's at the `grid_K` of samples.
    The estimate and the bounds are `inf` where all samples do not reach it, 0 where one sample exceeds it;
    NaN where the first arm solves nothing at all.
    """
    target, problems = float(target_P.mean()), len(target_P)
    if target == 0:
        return Interval(nan, nan, nan)
    estimate = samples_needed(grid_K, curve_PK.mean(axis=0)[None], np.array([target]))[0] / k
    curves_BK, targets_B = draws_BP @ curve_PK / problems, draws_BP @ target_P / problems
    tail = (1 - confidence) / 2
    low, high = np.quantile(
        samples_needed(grid_K, curves_BK, targets_B) / k,
        [tail, 1 - tail],
        method="inverted_cdf",  # takes one of the values: there is nothing between a number and infinity
    )
    return Interval(float(estimate), float(low), float(high))


def pass_rate_histogram(rates: Array) -> Array:
    """Share of problems per bin of `HISTOGRAM_LABELS`, for pass rates of any shape."""
    inner = np.clip((rates * 10 - 1e-9).astype(int), 0, 9) + 1
    bins = np.where(rates <= 0, 0, np.where(rates >= 1, 11, inner))
    return np.bincount(bins.ravel(), minlength=12) / rates.size


# ---------------------------------------------------------------------------------------------------------
# A comparison, counted
# ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class ArmResult:
    """One arm (or the warm start), averaged over its finished seeds, on the problems all runs share."""

    name: str
    seeds: tuple[int, ...]
    """Empty for the warm start."""
    scored_SP: NDArray[np.int64]
    correct_SP: NDArray[np.int64]
    values_SPK: Array
    """Unbiased pass@k of each seed and problem, at the k's asked for."""
    pass_at_k: tuple[Interval, ...]
    coverage: Interval
    """Share of problems with at least one success among all their samples."""
    greedy: Interval | None
    """Over the problems whose greedy completion has a verdict in every seed; None where there are none."""
    greedy_by_seed: tuple[float, ...]
    curve: tuple[Interval, ...]
    """pass@k at `Analysis.curve_ks`."""
    histogram: tuple[float, ...]

    @property
    def by_seed(self) -> tuple[tuple[float, ...], ...]:
        """pass@k of each seed: seeds × k's."""
        return tuple(tuple(float(v) for v in row) for row in self.values_SPK.mean(axis=1))

    @property
    def coverage_by_seed(self) -> tuple[float, ...]:
        """Coverage of each seed."""
        return tuple(float(v) for v in (self.correct_SP > 0).mean(axis=1))

    @property
    def samples(self) -> tuple[int, int]:
        """Fewest and most scored samples per problem."""
        return int(self.scored_SP.min()), int(self.scored_SP.max())


@dataclass(frozen=True, kw_only=True)
class Difference:
    """First arm minus another (or the warm start), paired over problems and over the seeds both finished."""

    first: str
    other: str
    seeds: tuple[int, ...]
    """Seeds that both finished; empty where they share none, and each is averaged over its own."""
    pass_at_k: tuple[Interval, ...]
    by_seed: tuple[tuple[float, ...], ...]
    detectable: tuple[float, ...]
    """Smallest true difference found 4 times in 5, per k."""


@dataclass(frozen=True, kw_only=True)
class SamplesRatio:
    """How many times as many samples `other` needs for the pass@k that `first` has at k."""

    first: str
    other: str
    limit: int
    """Samples of the other arm that are there to look at (n)."""
    by_k: tuple[Interval, ...]


@dataclass(frozen=True, kw_only=True)
class Analysis:
    """Every number of the report."""

    ks: tuple[int, ...]
    curve_ks: tuple[int, ...]
    confidence: float
    problems: int
    left_out: int
    """Problems with fewer than max(ks) verdicts in some evaluation; in no number of the report."""
    dropped_ks: tuple[int, ...]
    """k's that were asked for, but that too few problems have enough verdicts for."""
    before: ArmResult
    arms: tuple[ArmResult, ...]
    """Arms with at least one finished run, in the comparison's order."""
    unfinished: tuple[str, ...]
    differences: tuple[Difference, ...]
    """First arm against each other arm."""
    gains: tuple[Difference, ...]
    """Each arm against the warm start."""
    ratios: tuple[SamplesRatio, ...]


def analyse(comparison: Comparison, *, resamples: int = RESAMPLES, seed: int = 0) -> Analysis:
    """Compute every number of the report; the same comparison gives the same numbers."""
    ks, ids = _checked(comparison)
    finished = [run for run in comparison.runs if run.status == "done"]
    evaluations = [comparison.before, *(_evaluation(run) for run in finished)]
    rows = [{p.id: p for p in evaluation.problems} for evaluation in evaluations]
    asked, (ks, kept) = ks, _usable(ks, {i: min(row[i].scored for row in rows) for i in ids})
    confidence = comparison.before.confidence
    draws_BP = problem_draws(len(kept), resamples, np.random.default_rng(seed))
    curve_ks = tuple(sorted({*ks, *np.geomspace(1, max(ks), 48).round().astype(int).tolist()}))

    def result(name: str, evaluations: Sequence[Evaluation], seeds: tuple[int, ...] = ()) -> ArmResult:
        return _arm(name, seeds, evaluations, kept, ks, curve_ks, draws_BP, confidence)

    arms = [
        result(name, [_evaluation(r) for r in runs], tuple(r.seed for r in runs))
        for name in comparison.arms
        if (runs := comparison.of(name))
    ]
    before = result("warm start", [comparison.before])
    leads = [a for a in arms if a.name == comparison.arms[0]]
    pairs = [(lead, other) for lead in leads for other in arms if other is not lead]
    return Analysis(
        ks=ks,
        curve_ks=curve_ks,
        confidence=confidence,
        problems=len(kept),
        left_out=len(ids) - len(kept),
        dropped_ks=tuple(k for k in asked if k not in ks),
        before=before,
        arms=tuple(arms),
        unfinished=tuple(n for n in comparison.arms if not comparison.of(n)),
        differences=tuple(_difference(a, b, draws_BP, confidence) for a, b in pairs),
        gains=tuple(_difference(a, before, draws_BP, confidence) for a in arms),
        ratios=tuple(_ratio(a, b, ks, draws_BP, confidence) for a, b in pairs),
    )


def _evaluation(run: RunRecord) -> Evaluation:
    if run.evaluation is None:
        raise InputError(f"run {run.folder} is done but has no evaluation: evaluate it, or mark it failed")
    return run.evaluation


def _checked(comparison: Comparison) -> tuple[tuple[int, ...], list[str]]:
    """The k's and problem ids that all evaluations share; InputError where they differ."""
    strangers = sorted({run.estimator for run in comparison.runs} - set(comparison.arms))
    if strangers:
        raise InputError(f"runs of {', '.join(strangers)}, which the comparison does not list among its arms")
    done = [(f"run {run.folder}", _evaluation(run)) for run in comparison.runs if run.status == "done"]
    evaluations = [("the warm start", comparison.before), *done]
    ids = sorted(problem.id for problem in comparison.before.problems)
    ks = tuple(sorted({entry.k for _, evaluation in evaluations for entry in evaluation.pass_at_k}))
    if not ks or not ids:
        raise InputError("the warm start's evaluation has no problems or no k: nothing can be compared")
    for who, evaluation in evaluations:
        theirs = [problem.id for problem in evaluation.problems]
        if len(set(theirs)) != len(theirs):
            raise InputError(f"the evaluation of {who} names a problem twice")
        if odd := sorted(set(theirs) ^ set(ids)):
            raise InputError(
                f"{who} was evaluated on other problems than the warm start ({len(odd)} in one but not in "
                f"both, e.g. '{odd[0]}'): evaluate all of them on the same ones"
            )
        # An evaluation leaves out a k that none of its problems has enough verdicts for; any other gap is
        # a difference in what was asked.
        most = max(problem.scored for problem in evaluation.problems)
        if missing := {k for k in ks if k <= most} - {entry.k for entry in evaluation.pass_at_k}:
            raise InputError(f"{who} was not evaluated at k = {sorted(missing)}, as others were")
    return ks, ids


def _usable(ks: tuple[int, ...], fewest: dict[str, int]) -> tuple[tuple[int, ...], list[str]]:
    """The k's to report and the problems with enough verdicts for all of them, from each problem's fewest
    verdicts. A k that would cost more than a tenth of the problems is dropped, not the problems.
    """
    for top in reversed(ks):
        kept = [i for i, scored in fewest.items() if scored >= top]
        if len(kept) >= 0.9 * len(fewest) or (top == ks[0] and kept):
            return tuple(k for k in ks if k <= top), kept
    raise InputError("no problem has enough verdicts in every evaluation: look at the verifier's errors")


def _arm(
    name: str,
    seeds: tuple[int, ...],
    evaluations: Sequence[Evaluation],
    ids: list[str],
    ks: tuple[int, ...],
    curve_ks: tuple[int, ...],
    draws_BP: Array,
    confidence: float,
) -> ArmResult:
    by_id = [{p.id: p for p in evaluation.problems} for evaluation in evaluations]
    rows: list[list[ProblemCounts]] = [[row[i] for i in ids] for row in by_id]
    scored = np.array([[p.scored for p in row] for row in rows], dtype=np.int64)
    correct = np.array([[p.correct for p in row] for row in rows], dtype=np.int64)
    values = pass_at_ks(scored, correct, ks)
    greedy, greedy_by_seed = _greedy(rows, draws_BP, confidence)
    solved_P = (correct > 0).mean(axis=0)
    return ArmResult(
        name=name,
        seeds=seeds,
        scored_SP=scored,
        correct_SP=correct,
        values_SPK=values,
        pass_at_k=bootstrap_mean(values.mean(axis=0), draws_BP, confidence),
        coverage=bootstrap_mean(solved_P[:, None], draws_BP, confidence)[0],
        greedy=greedy,
        greedy_by_seed=greedy_by_seed,
        curve=bootstrap_mean(pass_at_ks(scored, correct, curve_ks).mean(axis=0), draws_BP, confidence),
        histogram=tuple(float(v) for v in pass_rate_histogram(correct / scored)),
    )


def _greedy(
    rows: list[list[ProblemCounts]], draws_BP: Array, confidence: float
) -> tuple[Interval | None, tuple[float, ...]]:
    """Mean greedy success, over seeds and by seed, on the problems with a verdict in every seed."""
    greedy_SP = np.array(
        [[nan if (g := p.greedy_success) is None else float(g) for p in row] for row in rows]
    )
    known_P = np.isfinite(greedy_SP).all(axis=0)
    greedy_SP, draws_BP = greedy_SP[:, known_P], draws_BP[:, known_P]
    if not draws_BP.sum(axis=1).all():  # none known, or so few that a resample misses them all
        return None, ()
    interval = bootstrap_mean(greedy_SP.mean(axis=0)[:, None], draws_BP, confidence)[0]
    return interval, tuple(float(v) for v in greedy_SP.mean(axis=1))


def _shared(first: ArmResult, other: ArmResult) -> tuple[tuple[int, ...], list[int], list[int]]:
    """Seeds both finished, and their rows in each; all rows of each where they share none."""
    seeds = tuple(s for s in first.seeds if s in other.seeds)
    if not other.seeds:  # the warm start stands against every seed
        return first.seeds, list(range(len(first.seeds))), [0] * len(first.seeds)
    if not seeds:
        return (), list(range(len(first.seeds))), list(range(len(other.seeds)))
    return seeds, [first.seeds.index(s) for s in seeds], [other.seeds.index(s) for s in seeds]


def _difference(first: ArmResult, other: ArmResult, draws_BP: Array, confidence: float) -> Difference:
    seeds, mine, theirs = _shared(first, other)
    first_SPK, other_SPK = first.values_SPK[mine], other.values_SPK[theirs]
    mean_PK = first_SPK.mean(axis=0) - other_SPK.mean(axis=0)
    by_seed_SK = (first_SPK - other_SPK).mean(axis=1) if seeds else np.empty((0, mean_PK.shape[1]))
    return Difference(
        first=first.name,
        other=other.name,
        seeds=seeds,
        pass_at_k=bootstrap_mean(mean_PK, draws_BP, confidence),
        by_seed=tuple(tuple(float(v) for v in row) for row in by_seed_SK),
        detectable=tuple(detectable_difference(column, confidence) for column in mean_PK.T),
    )


def _ratio(
    first: ArmResult, other: ArmResult, ks: tuple[int, ...], draws_BP: Array, confidence: float
) -> SamplesRatio:
    _, mine, theirs = _shared(first, other)
    limit = int(other.scored_SP[theirs].min())
    grid = sample_grid(limit)
    curve_SPK = pass_at_ks(other.scored_SP[theirs], other.correct_SP[theirs], grid.tolist())
    target_PK = first.values_SPK[mine].mean(axis=0)
    curve_PK = curve_SPK.mean(axis=0)
    ratios = (
        samples_ratio(target_PK[:, i], grid, curve_PK, k, draws_BP, confidence) for i, k in enumerate(ks)
    )
    return SamplesRatio(first=first.name, other=other.name, limit=limit, by_k=tuple(ratios))
