"""What a comparison's counts say: pass@k, paired differences, sample ratios, each with an interval.

Array suffixes: `S` seeds, `P` problems, `K` values of k, `B` bootstrap resamples.

Arms share the draws of `intervals`, so differences are paired. Intervals over problems say how much depends on which
problems were asked, for these trained models; those over seeds and problems (`Difference.over_seeds`) hold for training
anew, too.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import nan

import numpy as np
from numpy.typing import NDArray

from maxrl.errors import InputError
from maxrl.evaluation.records import Evaluation, ProblemCounts
from maxrl.experiments.intervals import (
    Array,
    Interval,
    bootstrap_mean,
    crossed_detectable,
    crossed_intervals,
    detectable_difference,
    pass_at_ks,
    problem_draws,
    sample_grid,
    samples_ratio,
)
from maxrl.experiments.records import Comparison, RunRecord

RESAMPLES = 2000
HISTOGRAM_LABELS = ("0", *(f"{10 * i}–{10 * i + 10}" for i in range(10)), "100")
"""Pass rates in %: never solved, ten bins open at 0 and at 100, always solved."""


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
    seeds: tuple[int | str, ...]
    """Empty for the warm start. Text where numbers do not tell runs apart."""
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
    seeds: tuple[int | str, ...]
    """Seeds that both finished; empty where they share none, and each is averaged over its own."""
    pass_at_k: tuple[Interval, ...]
    """Over problems, for these trained models."""
    by_seed: tuple[tuple[float, ...], ...]
    detectable: tuple[float, ...]
    """Smallest true difference found 4 times in 5, per k."""
    over_seeds: tuple[Interval, ...] = ()
    """Over problems and training seeds (`crossed_intervals`); empty with fewer than two seeds that both finished."""
    detectable_over_seeds: tuple[float, ...] = ()


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
    before: ArmResult | None
    """Of a comparison always there; runs may have been made without."""
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
    asked, (ks, kept) = ks, usable_ks(ks, {i: min(row[i].scored for row in rows) for i in ids})
    draws_BP = problem_draws(len(kept), resamples, np.random.default_rng(seed))
    measure = Measure(ks, curve_grid(ks), draws_BP, comparison.before.confidence)

    def result(name: str, evaluations: Sequence[Evaluation], seeds: tuple[int, ...] = ()) -> ArmResult:
        return measure.arm(name, seeds, *_counts(evaluations, kept))

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
        curve_ks=measure.curve_ks,
        confidence=measure.confidence,
        problems=len(kept),
        left_out=len(ids) - len(kept),
        dropped_ks=tuple(k for k in asked if k not in ks),
        before=before,
        arms=tuple(arms),
        unfinished=tuple(n for n in comparison.arms if not comparison.of(n)),
        differences=tuple(measure.difference(a, b) for a, b in pairs),
        gains=tuple(measure.difference(a, before) for a in arms),
        ratios=tuple(measure.ratio(a, b) for a, b in pairs),
    )


def curve_grid(ks: Sequence[int]) -> tuple[int, ...]:
    """The k's at which a curve is drawn: those asked for, and about 48 from 1 to the largest."""
    return tuple(sorted({*ks, *np.geomspace(1, max(ks), 48).round().astype(int).tolist()}))


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


def usable_ks(ks: tuple[int, ...], fewest: dict[str, int]) -> tuple[tuple[int, ...], list[str]]:
    """The k's to report and the problems with enough verdicts for all of them, from each problem's fewest
    verdicts. A k that would cost more than a tenth of the problems is dropped, not the problems.
    """
    for top in reversed(ks):
        kept = [i for i, scored in fewest.items() if scored >= top]
        if len(kept) >= 0.9 * len(fewest) or (top == ks[0] and kept):
            return tuple(k for k in ks if k <= top), kept
    raise InputError("no problem has enough verdicts in every evaluation: look at the verifier's errors")


def _counts(
    evaluations: Sequence[Evaluation], ids: list[str]
) -> tuple[NDArray[np.int64], NDArray[np.int64], Array]:
    """Verdicts, successes and greedy success (NaN where unknown) of each evaluation and problem."""
    by_id = [{p.id: p for p in evaluation.problems} for evaluation in evaluations]
    rows: list[list[ProblemCounts]] = [[row[i] for i in ids] for row in by_id]
    return (
        np.array([[p.scored for p in row] for row in rows], dtype=np.int64),
        np.array([[p.correct for p in row] for row in rows], dtype=np.int64),
        np.array([[nan if (g := p.greedy_success) is None else float(g) for p in row] for row in rows]),
    )


@dataclass(frozen=True)
class Measure:
    """How counts become results, the same for all arms that are compared: with the same draws they are paired."""

    ks: tuple[int, ...]
    curve_ks: tuple[int, ...]
    draws_BP: Array
    confidence: float

    def arm(
        self,
        name: str,
        seeds: tuple[int | str, ...],
        scored_SP: NDArray[np.int64],
        correct_SP: NDArray[np.int64],
        greedy_SP: Array,
    ) -> ArmResult:
        """An arm from its counts, which must have `max(ks)` verdicts on every problem; greedy is NaN where unknown."""
        values = pass_at_ks(scored_SP, correct_SP, self.ks)
        curve_PK = pass_at_ks(scored_SP, correct_SP, self.curve_ks).mean(axis=0)
        greedy, greedy_by_seed = self._greedy(greedy_SP)
        solved_P = (correct_SP > 0).mean(axis=0)
        return ArmResult(
            name=name,
            seeds=seeds,
            scored_SP=scored_SP,
            correct_SP=correct_SP,
            values_SPK=values,
            pass_at_k=bootstrap_mean(values.mean(axis=0), self.draws_BP, self.confidence),
            coverage=bootstrap_mean(solved_P[:, None], self.draws_BP, self.confidence)[0],
            greedy=greedy,
            greedy_by_seed=greedy_by_seed,
            curve=bootstrap_mean(curve_PK, self.draws_BP, self.confidence),
            histogram=tuple(float(v) for v in pass_rate_histogram(correct_SP / scored_SP)),
        )

    def _greedy(self, greedy_SP: Array) -> tuple[Interval | None, tuple[float, ...]]:
        """Mean greedy success, over seeds and by seed, on the problems with a verdict in every seed."""
        known_P = np.isfinite(greedy_SP).all(axis=0)
        greedy_SP, draws_BP = greedy_SP[:, known_P], self.draws_BP[:, known_P]
        if not draws_BP.sum(axis=1).all():  # none known, or so few that a resample misses them all
            return None, ()
        interval = bootstrap_mean(greedy_SP.mean(axis=0)[:, None], draws_BP, self.confidence)[0]
        return interval, tuple(float(v) for v in greedy_SP.mean(axis=1))

    def difference(self, first: ArmResult, other: ArmResult) -> Difference:
        """First minus other, on the same problems in the same order."""
        seeds, mine, theirs = _shared(first, other)
        first_SPK, other_SPK = first.values_SPK[mine], other.values_SPK[theirs]
        mean_PK = first_SPK.mean(axis=0) - other_SPK.mean(axis=0)
        paired_SPK = first_SPK - other_SPK if seeds else np.empty((0, *mean_PK.shape))
        return Difference(
            first=first.name,
            other=other.name,
            seeds=seeds,
            pass_at_k=bootstrap_mean(mean_PK, self.draws_BP, self.confidence),
            by_seed=tuple(tuple(float(v) for v in row) for row in paired_SPK.mean(axis=1)),
            detectable=tuple(detectable_difference(column, self.confidence) for column in mean_PK.T),
            over_seeds=crossed_intervals(paired_SPK, self.confidence),
            detectable_over_seeds=crossed_detectable(paired_SPK, self.confidence),
        )

    def ratio(self, first: ArmResult, other: ArmResult) -> SamplesRatio:
        """How many times as many samples other needs for the pass@k of first."""
        _, mine, theirs = _shared(first, other)
        limit = int(other.scored_SP[theirs].min())
        grid = sample_grid(limit)
        curve_SPK = pass_at_ks(other.scored_SP[theirs], other.correct_SP[theirs], grid.tolist())
        target_PK = first.values_SPK[mine].mean(axis=0)
        curve_PK = curve_SPK.mean(axis=0)
        curves_BK = self.draws_BP @ curve_PK / len(curve_PK)
        ratios = (
            samples_ratio(target_PK[:, i], grid, curve_PK, k, self.draws_BP, self.confidence, curves_BK)
            for i, k in enumerate(self.ks)
        )
        return SamplesRatio(first=first.name, other=other.name, limit=limit, by_k=tuple(ratios))


def _shared(first: ArmResult, other: ArmResult) -> tuple[tuple[int | str, ...], list[int], list[int]]:
    """Seeds both finished, and their rows in each; all rows of each where they share none."""
    seeds = tuple(s for s in first.seeds if s in other.seeds)
    if not other.seeds:  # the warm start stands against every seed
        return first.seeds, list(range(len(first.seeds))), [0] * len(first.seeds)
    if not seeds:
        return (), list(range(len(first.seeds))), list(range(len(other.seeds)))
    return seeds, [first.seeds.index(s) for s in seeds], [other.seeds.index(s) for s in seeds]
