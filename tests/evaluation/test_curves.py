"""pass@k curves: the estimate by hand, the interval by what it must do."""

import math
from collections.abc import Sequence

import numpy as np
import pytest

from maxrl.errors import InputError
from maxrl.evaluation import PassAtK, ProblemCounts, default_ks, pass_curve


def problems(*counts: tuple[int, int]) -> list[ProblemCounts]:
    """Problems of (scored, correct) completions."""
    return [ProblemCounts(id=str(i), scored=n, correct=c) for i, (n, c) in enumerate(counts)]


def width(entry: PassAtK) -> float:
    return entry.high - entry.low


@pytest.mark.parametrize(
    ("samples", "ks"),
    [
        (1, [1]),
        (2, [1, 2]),
        (3, [1, 2, 3]),
        (8, [1, 2, 4, 8]),
        (9, [1, 2, 4, 8, 9]),
        (100, [1, 2, 4, 8, 16, 32, 64, 100]),
    ],
)
def test_powers_of_two_and_the_number_itself(samples: int, ks: list[int]) -> None:
    assert default_ks(samples) == ks


def test_estimates_by_hand() -> None:
    # n = 4; pass@k = 1 − C(4−c, k)/C(4, k):
    #   c      k=1    k=2            k=3            k=4
    #   1      1/4    1 − 3/6 = 1/2  1 − 1/4 = 3/4  1
    #   2      2/4    1 − 1/6 = 5/6  1              1
    #   0      0      0              0              0
    #   4      1      1              1              1
    #   mean   7/16   7/12           11/16          3/4
    curve = pass_curve(problems((4, 1), (4, 2), (4, 0), (4, 4)), [4, 1, 2, 3, 2])
    assert [entry.k for entry in curve] == [1, 2, 3, 4]  # sorted, each once
    assert [entry.estimate for entry in curve] == pytest.approx([7 / 16, 7 / 12, 11 / 16, 3 / 4])
    assert all(entry.low <= entry.estimate <= entry.high for entry in curve)


def test_the_interval_is_the_percentiles_of_resampled_means() -> None:
    # Two problems, pass@1 of 0 and 1: a resample's mean is 0, 1/2, 1 with probability 1/4, 1/2, 1/4. Quantiles at
    # .025 and .975 are 0 and 1, at .3 and .7 they are 1/2; 2000 resamples do not blur a gap of 5 % (5 sigma).
    pair = problems((2, 0), (2, 2))
    assert pass_curve(pair, [1]) == (PassAtK(k=1, estimate=0.5, low=0.0, high=1.0),)
    assert pass_curve(pair, [1], confidence=0.4) == (PassAtK(k=1, estimate=0.5, low=0.5, high=0.5),)


def test_problems_that_are_all_alike_leave_no_doubt() -> None:
    for entry in pass_curve(problems(*[(8, 3)] * 10), [1, 2, 8]):
        assert width(entry) == pytest.approx(0, abs=1e-12)


def test_more_problems_narrow_the_interval() -> None:
    few, many = ([(8, c) for c in range(9)] * times for times in (2, 32))
    [narrow], [wide] = pass_curve(problems(*many), [1]), pass_curve(problems(*few), [1])
    assert narrow.estimate == pytest.approx(wide.estimate)
    # Sixteen times the problems: a quarter of the width, up to the noise of 2000 resamples.
    assert width(narrow) / width(wide) == pytest.approx(1 / 4, rel=0.15)


def test_a_higher_confidence_widens_the_interval() -> None:
    some = problems(*[(8, c) for c in range(9)] * 4)
    widths = [width(pass_curve(some, [1], confidence=level)[0]) for level in (0.5, 0.8, 0.95, 0.99)]
    assert widths == sorted(set(widths))


def test_the_seed_decides_the_resamples() -> None:
    some = problems(*[(8, c) for c in range(9)] * 3)
    assert pass_curve(some, [1, 2], seed=1) == pass_curve(some, [1, 2], seed=1)
    assert pass_curve(some, [1, 2], seed=1) != pass_curve(some, [1, 2], seed=2)


def test_resampling_leaves_the_global_random_state_alone() -> None:
    before = np.random.get_state()[1].tolist()
    pass_curve(problems((2, 0), (2, 2)), [1])
    assert np.random.get_state()[1].tolist() == before


def test_a_problem_with_too_few_verdicts_is_left_out_at_that_k() -> None:
    # k = 3 is served by the second problem alone: 1 − C(2, 3)/C(4, 3) = 1; k = 2 by both: (1 + 5/6)/2.
    curve = pass_curve(problems((2, 1), (4, 2)), [1, 2, 3, 5])
    assert [entry.k for entry in curve] == [1, 2, 3]  # nobody has 5
    assert [entry.estimate for entry in curve] == pytest.approx([1 / 2, 11 / 12, 1])
    assert pass_curve(problems((0, 0)), [1]) == ()


def test_the_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    # Pass rates uniform on [0, 1]: the truth is E[p] = 1/2 at k = 1 and E[1 − (1−p)^4] = 1 − 1/5 at k = 4.
    rng = np.random.default_rng(0)
    repeats = 250
    truths = {1: 1 / 2, 4: 4 / 5}
    covered = dict.fromkeys(truths, 0)
    for repeat in range(repeats):
        correct: Sequence[int] = rng.binomial(8, rng.uniform(size=60)).tolist()
        for entry in pass_curve(problems(*((8, c) for c in correct)), [1, 4], resamples=400, seed=repeat):
            covered[entry.k] += entry.low <= truths[entry.k] <= entry.high
    # A share of .95 over 250 repeats has a standard deviation of .014; percentile intervals run a little short.
    for k, count in covered.items():
        assert 0.90 <= count / repeats <= 0.985, (k, count / repeats)


@pytest.mark.parametrize(
    ("counts", "ks", "confidence", "says"),
    [
        ([], [1], 0.95, "at least one problem"),
        ([(4, 1)], [0, 1], 0.95, "every k must be at least 1"),
        ([(4, 1)], [1], 0.0, "confidence must lie between 0 and 1, but is 0.0"),
        ([(4, 1)], [1], 1.0, "confidence must lie between 0 and 1, but is 1.0"),
        ([(4, 1)], [1], math.nan, "confidence must lie between 0 and 1, but is nan"),
    ],
)
def test_what_has_no_curve_is_refused(
    counts: list[tuple[int, int]], ks: list[int], confidence: float, says: str
) -> None:
    with pytest.raises(InputError, match=says):
        pass_curve(problems(*counts), ks, confidence=confidence)
