"""Statistics of a comparison: golden values with their arithmetic, pairing, bounds, refusals."""

from collections.abc import Mapping
from dataclasses import replace
from math import inf, isnan, sqrt

import numpy as np
import pytest

from maxrl.errors import InputError
from maxrl.evaluation.records import Evaluation, PassAtK, ProblemCounts
from maxrl.experiments.intervals import (
    Interval,
    bootstrap_mean,
    detectable_difference,
    pass_at_ks,
    problem_draws,
    sample_grid,
    samples_needed,
    samples_ratio,
)
from maxrl.experiments.records import Comparison, RunRecord
from maxrl.experiments.statistics import analyse, pass_rate_histogram


def an_evaluation(
    counts: Mapping[str, int],
    n: int = 8,
    ks: tuple[int, ...] = (1, 2),
    greedy: Mapping[str, bool] | None = None,
) -> Evaluation:
    problems = tuple(
        ProblemCounts(id=i, scored=n, correct=c, greedy_success=(greedy or {}).get(i))
        for i, c in counts.items()
    )
    curve = tuple(PassAtK(k=k, estimate=0.0, low=0.0, high=0.0) for k in ks)
    return Evaluation(
        problems=problems,
        pass_at_k=curve,
        greedy_accuracy=None,
        confidence=0.95,
        completion_tokens=1,
        seconds=1.0,
    )


def a_run(estimator: str, seed: int, counts: Mapping[str, int], **options: object) -> RunRecord:
    return RunRecord(
        estimator=estimator,
        seed=seed,
        folder=f"{estimator}-{seed}",
        status="done",
        evaluation=an_evaluation(counts, **options),
    )


def a_comparison(*runs: RunRecord, before: Evaluation | None = None) -> Comparison:
    return Comparison(
        title="t",
        command="c",
        settings={},
        arms=tuple(dict.fromkeys(run.estimator for run in runs)) or ("maxrl",),
        before=before or an_evaluation({"a": 1, "b": 1}),
        runs=runs,
        seconds=1.0,
    )


# --- pure functions ---------------------------------------------------------------------------------------


def test_pass_at_ks_of_each_problem() -> None:
    values = pass_at_ks(np.array([4, 4]), np.array([1, 2]), (1, 2, 4))
    # c = 1: 1/4; 1 − C(3,2)/C(4,2) = 1 − 3/6; 1.  c = 2: 2/4; 1 − C(2,2)/C(4,2) = 1 − 1/6; 1.
    assert values == pytest.approx(np.array([[1 / 4, 1 / 2, 1], [1 / 2, 5 / 6, 1]]))


def test_samples_within_a_problem_are_never_redrawn() -> None:
    # One success in 32: pass@32 is 1 in every resample of problems; redrawing the samples gives
    # 1 − (31/32)^32 = .638 on average.
    evaluation = an_evaluation({f"p{i}": 1 for i in range(50)}, n=32, ks=(32,))
    result = analyse(a_comparison(before=evaluation)).before
    assert result.pass_at_k[0] == Interval(1.0, 1.0, 1.0)


def test_the_mean_is_unbiased_over_draws_of_the_samples() -> None:
    rng = np.random.default_rng(0)
    p, n, k = 0.1, 16, 8
    correct = rng.binomial(n, p, size=20_000)
    mean = pass_at_ks(np.full_like(correct, n), correct, (k,)).mean()
    assert mean == pytest.approx(1 - (1 - p) ** k, abs=0.01)  # .570; 1 − (1 − c/n)^k would average .52


def test_problem_draws_count_problems() -> None:
    draws = problem_draws(7, 300, np.random.default_rng(0))
    assert draws.shape == (300, 7)
    assert (draws.sum(axis=1) == 7).all()
    assert draws.mean(axis=0) == pytest.approx(np.ones(7), abs=0.25)
    assert (draws == problem_draws(7, 300, np.random.default_rng(0))).all()


def test_bootstrap_mean_by_hand() -> None:
    draws = np.array([[2.0, 0.0], [1.0, 1.0], [0.0, 2.0]])
    values = np.array([[0.0, 4.0], [1.0, 4.0]])
    # First column: resampled means 0, 1/2, 1; their quartiles are 1/4 and 3/4. Second: always 4.
    assert bootstrap_mean(values, draws, confidence=0.5) == (Interval(0.5, 0.25, 0.75), Interval(4, 4, 4))


def test_bootstrap_interval_is_as_wide_as_theory_says() -> None:
    rng = np.random.default_rng(1)
    values = rng.normal(size=(200, 1))
    interval = bootstrap_mean(values, problem_draws(200, 4000, rng), 0.95)[0]
    # ± 1.96 · s/√P
    assert interval.high - interval.low == pytest.approx(2 * 1.96 * values.std() / sqrt(200), rel=0.05)


def test_detectable_difference_by_hand() -> None:
    # Mean .2, squared deviations .04, 0, .04, 0; s = √(.08/3) = .16330; s/√4 = .081650;
    # × (z.975 + z.8 = 1.959964 + .841621) = .228748
    differences = np.array([0.0, 0.2, 0.4, 0.2])
    assert detectable_difference(differences, 0.95) == pytest.approx(0.228748, abs=1e-6)
    assert isnan(detectable_difference(np.array([0.1]), 0.95))


@pytest.mark.parametrize(
    ("target", "needed"),
    [
        (0.1, 0.0),  # below pass@1
        (0.2, 1.0),
        (0.3, sqrt(2)),  # halfway between k = 1 and k = 2 in log k
        (0.4, 2.0),  # the first of the two that reach it
        (0.45, sqrt(3 * 4)),
        (0.5, 4.0),
        (0.51, inf),
    ],
)
def test_samples_needed(target: float, needed: float) -> None:
    curve = np.array([[0.2, 0.4, 0.4, 0.5]])
    assert samples_needed(np.arange(1, 5), curve, np.array([target]))[0] == pytest.approx(needed)


def test_samples_needed_on_a_curve_of_one_sample() -> None:
    curves, targets = np.full((3, 1), 0.5), np.array([0.4, 0.5, 0.6])
    assert samples_needed(np.array([1]), curves, targets).tolist() == [0.0, 1.0, inf]


def test_the_grid_of_samples_is_whole_and_fine() -> None:
    assert sample_grid(64).tolist() == list(range(1, 65))
    assert sample_grid(1).tolist() == [1]
    assert sample_grid(129).tolist() == list(range(1, 130))
    grid = sample_grid(2048)
    assert (grid[0], grid[-1], len(grid)) == (1, 2048, len(set(grid.tolist())))
    assert (np.diff(grid) <= 1 + 0.011 * grid[:-1]).all()


def test_samples_ratio_known_exactly() -> None:
    # The other arm solves each problem in 1 of 8 samples: pass@k' = k'/8. The first in 2 of 8: pass@1 = 2/8,
    # so twice as many; pass@2 = 1 − C(6,2)/C(8,2) = 13/28, between 3/8 and 4/8 at (13/28 − 3/8)·8 = 5/7.
    problems = 5
    n, first, other = (np.full(problems, v) for v in (8, 2, 1))
    target = pass_at_ks(n, first, (1, 2))
    curve = pass_at_ks(n, other, range(1, 9))
    draws = problem_draws(problems, 100, np.random.default_rng(0))
    grid = np.arange(1, 9)
    at_1 = samples_ratio(target[:, 0], grid, curve, 1, draws, 0.95)
    at_2 = samples_ratio(target[:, 1], grid, curve, 2, draws, 0.95)
    assert (at_1.estimate, at_1.low, at_1.high) == pytest.approx((2, 2, 2))
    assert at_2.estimate == pytest.approx(3 * (4 / 3) ** (5 / 7) / 2)


def test_samples_ratio_beyond_the_samples_and_of_nothing() -> None:
    # Half of the problems are hopeless for the other arm, whose pass@2 is 1/2 at best: 1 is never reached.
    # A target of 1/2 is reached with 2 samples, in resamples with at least as many good problems; with 8 or
    # more good ones of 10 pass@1 is .4, and 2^(1/4) samples do; where most are hopeless 2 are not enough.
    curve = np.array([[0.5, 1.0]] * 5 + [[0.0, 0.0]] * 5)
    grid, draws = np.array([1, 2]), problem_draws(10, 500, np.random.default_rng(0))
    assert samples_ratio(np.ones(10), grid, curve, 1, draws, 0.95) == Interval(inf, inf, inf)
    half = samples_ratio(np.full(10, 0.5), grid, curve, 1, draws, 0.95)
    assert (half.estimate, half.low, half.high) == pytest.approx((2, 2 ** (1 / 4), inf))
    assert isnan(samples_ratio(np.zeros(10), grid, curve, 1, draws, 0.95).estimate)


def test_the_ratio_of_an_arm_with_itself_is_one() -> None:
    rng = np.random.default_rng(3)
    n, c = np.full(40, 16), rng.integers(0, 2, 40)  # c ≤ 1, so that the curve rises up to its end
    curve = pass_at_ks(n, c, range(1, 17))
    draws = problem_draws(40, 300, rng)
    for k in (1, 2, 4, 8, 16):
        ratio = samples_ratio(curve[:, k - 1], np.arange(1, 17), curve, k, draws, 0.95)
        assert (ratio.estimate, ratio.low, ratio.high) == pytest.approx((1, 1, 1))


def test_histogram_bins_close_on_the_right() -> None:
    rates = np.array([0.0, 0.1, 0.11, 0.95, 1.0, 1.0])
    # 0 | (0, .1] | (.1, .2] | … | (.9, 1) | 1
    assert pass_rate_histogram(rates) * 6 == pytest.approx([1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 1, 2])
    assert pass_rate_histogram(np.array([[7 / 10, 3 / 10]])) * 2 == pytest.approx(
        [0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0]
    )


@pytest.mark.parametrize(
    ("low", "high", "sign"), [(0.1, 0.2, 1), (-0.2, -0.1, -1), (-0.1, 0.1, 0), (0, 0.1, 0)]
)
def test_sign(low: float, high: float, sign: int) -> None:
    assert Interval((low + high) / 2, low, high).sign == sign


# --- a comparison -----------------------------------------------------------------------------------------


def test_numbers_of_a_small_comparison() -> None:
    comparison = a_comparison(
        a_run("maxrl", 0, {"a": 8, "b": 4}, greedy={"a": True, "b": False}),
        a_run("maxrl", 1, {"a": 4, "b": 0}, greedy={"a": True, "b": True}),
        a_run("grpo", 0, {"a": 4, "b": 4}),
        a_run("grpo", 1, {"a": 4, "b": 2}),
        before=an_evaluation({"a": 2, "b": 0}),
    )
    result = analyse(comparison)
    maxrl, grpo = result.arms
    # pass@1: seed 0 (8/8 + 4/8)/2 = .75, seed 1 (4/8 + 0)/2 = .25; grpo: .5 and (4/8 + 2/8)/2 = .375
    assert maxrl.by_seed[0][0] == 0.75
    assert maxrl.by_seed[1][0] == 0.25
    assert maxrl.pass_at_k[0].estimate == 0.5
    assert grpo.pass_at_k[0].estimate == 0.4375
    # coverage: a is solved in both seeds, b in one of two: (1 + 1/2)/2
    assert maxrl.coverage.estimate == 0.75
    # greedy: a in both seeds, b in one of two
    assert maxrl.greedy is not None
    assert maxrl.greedy.estimate == 0.75
    assert maxrl.greedy_by_seed == (0.5, 1.0)
    assert grpo.greedy is None
    # differences per problem, seeds averaged: a (8+4)/16 − (4+4)/16 = .25, b (4+0)/16 − (4+2)/16 = −.125
    difference = result.differences[0]
    assert difference.pass_at_k[0].estimate == pytest.approx(0.0625)
    assert difference.pass_at_k[0].low == pytest.approx(-0.125)  # both draws are b
    assert difference.pass_at_k[0].high == pytest.approx(0.25)  # both draws are a
    assert [seed[0] for seed in difference.by_seed] == pytest.approx([0.25, -0.125])
    # against the warm start's (2/8 + 0)/2 = .125
    assert result.gains[0].pass_at_k[0].estimate == pytest.approx(0.375)


def test_problems_are_matched_by_id_whatever_their_order() -> None:
    counts = {f"p{i}": i % 9 for i in range(40)}
    shuffled = dict(sorted(counts.items(), key=lambda item: hash(item[1] * 7 % 5)))
    assert list(shuffled) != list(counts)
    comparison = a_comparison(
        a_run("maxrl", 0, counts),
        a_run("grpo", 0, shuffled),
        before=an_evaluation(dict(reversed(counts.items()))),
    )
    result = analyse(comparison)
    assert result.differences[0].pass_at_k == (Interval(0, 0, 0), Interval(0, 0, 0))
    assert result.differences[0].detectable == (0, 0)


def test_pairing_is_by_problem_not_by_rank() -> None:
    comparison = a_comparison(a_run("maxrl", 0, {"a": 8, "b": 0}), a_run("grpo", 0, {"b": 8, "a": 0}))
    difference = analyse(comparison).differences[0]
    assert difference.pass_at_k[0] == Interval(0, -1, 1)  # +1 on a, −1 on b; two draws of either
    # s = √2, √P = √2: (1.959964 + .841621) · 1
    assert difference.detectable[0] == pytest.approx(2.801585, abs=1e-6)


def test_only_seeds_that_both_finished_are_compared() -> None:
    comparison = a_comparison(
        a_run("maxrl", 0, {"a": 8, "b": 8}),
        a_run("maxrl", 1, {"a": 4, "b": 4}),
        a_run("grpo", 1, {"a": 2, "b": 2}),
        a_run("grpo", 2, {"a": 0, "b": 0}),
    )
    difference = analyse(comparison).differences[0]
    assert difference.seeds == (1,)
    assert difference.pass_at_k[0].estimate == 0.25  # 4/8 − 2/8


def test_arms_without_a_common_seed_are_compared_over_problems() -> None:
    comparison = a_comparison(a_run("maxrl", 0, {"a": 8, "b": 4}), a_run("grpo", 1, {"a": 4, "b": 4}))
    difference = analyse(comparison).differences[0]
    assert (difference.seeds, difference.by_seed) == ((), ())
    assert difference.pass_at_k[0].estimate == 0.25


def with_scored(evaluation: Evaluation, scored: Mapping[str, int]) -> Evaluation:
    problems = (replace(p, scored=scored.get(p.id, p.scored), correct=0) for p in evaluation.problems)
    return replace(evaluation, problems=tuple(problems))


def test_a_few_problems_with_too_few_verdicts_are_left_out_everywhere() -> None:
    counts = {f"p{i:02}": 4 for i in range(20)}
    run = a_run("maxrl", 0, counts, ks=(1, 8))
    assert run.evaluation is not None
    run = replace(run, evaluation=with_scored(run.evaluation, {"p03": 7}))
    result = analyse(a_comparison(run, before=an_evaluation(counts, ks=(1, 8))))
    assert (result.ks, result.problems, result.left_out, result.dropped_ks) == ((1, 8), 19, 1, ())
    assert result.before.scored_SP.shape == (1, 19)


def test_a_k_that_would_cost_many_problems_is_dropped_instead() -> None:
    counts = {f"p{i:02}": 4 for i in range(20)}
    run = a_run("maxrl", 0, counts, ks=(1, 8))
    assert run.evaluation is not None
    run = replace(run, evaluation=with_scored(run.evaluation, {f"p{i:02}": 7 for i in range(3)}))
    result = analyse(a_comparison(run, before=an_evaluation(counts, ks=(1, 8))))
    assert (result.ks, result.problems, result.left_out, result.dropped_ks) == ((1,), 20, 0, (8,))


def test_an_evaluation_may_lack_a_k_it_has_no_verdicts_for() -> None:
    run = a_run("maxrl", 0, {"a": 1, "b": 2}, n=4, ks=(1,))
    result = analyse(a_comparison(run, before=an_evaluation({"a": 1, "b": 1}, ks=(1, 8))))
    assert (result.ks, result.dropped_ks) == ((1,), (8,))


def test_no_finished_run_is_no_error() -> None:
    failed = RunRecord(estimator="maxrl", seed=0, folder="f", status="failed", error="e")
    result = analyse(a_comparison(failed))
    assert (result.arms, result.unfinished, result.differences) == ((), ("maxrl",), ())


def test_nothing_is_compared_with_a_first_arm_that_did_not_finish() -> None:
    failed = RunRecord(estimator="maxrl", seed=0, folder="f", status="failed", error="e")
    done = [a_run(name, 0, {"a": 1, "b": 1}) for name in ("grpo", "rloo")]
    result = analyse(a_comparison(failed, *done))
    assert result.differences == result.ratios == ()
    assert len(result.gains) == 2


@pytest.mark.parametrize(
    ("run", "message"),
    [
        (a_run("maxrl", 0, {"a": 1, "c": 1}), "run maxrl-0 was evaluated on other problems .* e.g. 'b'"),
        (a_run("maxrl", 0, {"a": 1}), "other problems"),
        (a_run("maxrl", 0, {"a": 1, "b": 1}, ks=(1,)), r"run maxrl-0 was not evaluated at k = \[2\]"),
        (a_run("maxrl", 0, {"a": 1, "b": 1}, ks=(1, 2, 4)), r"warm start was not evaluated at k = \[4\]"),
        (replace(a_run("maxrl", 0, {}), evaluation=None), "done but has no evaluation"),
        (a_run("maxrl", 0, {"a": 0, "b": 0}, n=0, ks=()), "no problem has enough verdicts"),
    ],
)
def test_evaluations_that_cannot_be_compared_are_refused(run: RunRecord, message: str) -> None:
    with pytest.raises(InputError, match=message):
        analyse(a_comparison(run))


def test_unknown_arms_doubled_problems_and_empty_evaluations_are_refused() -> None:
    run = a_run("maxrl", 0, {"a": 1, "b": 1})
    with pytest.raises(InputError, match="runs of maxrl, which"):
        analyse(replace(a_comparison(run), arms=("grpo",)))
    assert run.evaluation is not None
    doubled = replace(run.evaluation, problems=run.evaluation.problems * 2)
    with pytest.raises(InputError, match="names a problem twice"):
        analyse(a_comparison(replace(run, evaluation=doubled)))
    with pytest.raises(InputError, match="no problems or no k"):
        analyse(a_comparison(before=an_evaluation({})))


def test_the_same_seed_gives_the_same_intervals_and_another_gives_others() -> None:
    rng = np.random.default_rng(0)
    before = an_evaluation({f"p{i}": int(c) for i, c in enumerate(rng.integers(0, 9, 50))})
    first, again, other = (analyse(a_comparison(before=before), seed=s).before for s in (0, 0, 1))
    assert first.pass_at_k == again.pass_at_k
    assert first.pass_at_k != other.pass_at_k
