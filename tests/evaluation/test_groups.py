"""Expected groups against enumerated subsets, and without bias in fractions."""

import math
from fractions import Fraction
from itertools import combinations, pairwise, product

import numpy as np
import pytest
import torch

from maxrl.errors import InputError
from maxrl.evaluation import ProblemCounts
from maxrl.evaluation.groups import (
    advantage_masses,
    expect_groups,
    hard_prompts,
    least_rollouts_for,
    mean_pass_rate,
    rate_histogram,
    rollouts_to_live,
    success_chances,
)
from maxrl.objectives import Estimator, as_estimator

NAMES = ("maxrl", "maxrl(order=2)", "grpo", "reinforce", "tail_rl", "curve_rl", "hybrid", "adaptive_switch")


def counts(*pairs: tuple[int, int]) -> list[ProblemCounts]:
    """Problems from (n, c)."""
    return [ProblemCounts(id=str(i), scored=n, correct=c) for i, (n, c) in enumerate(pairs)]


@pytest.mark.parametrize("n", range(1, 8))
def test_chances_are_those_of_all_subsets(n: int) -> None:
    for correct, rollouts in product(range(n + 1), range(1, n + 1)):
        groups = list(combinations([1] * correct + [0] * (n - correct), rollouts))
        shares = [sum(sum(group) == k for group in groups) / len(groups) for k in range(rollouts + 1)]
        assert success_chances(n, correct, rollouts) == pytest.approx(shares, abs=1e-14)


@pytest.mark.parametrize(
    ("n", "correct", "rollouts"), [(2048, 700, 1024), (2048, 3, 2000), (4096, 4090, 64), (4096, 2048, 2048)]
)
def test_chances_keep_their_digits_where_coefficients_overflow(n: int, correct: int, rollouts: int) -> None:
    exact = [
        float(Fraction(math.comb(correct, k) * math.comb(n - correct, rollouts - k), math.comb(n, rollouts)))
        for k in range(rollouts + 1)
    ]
    found = success_chances(n, correct, rollouts)
    assert found == pytest.approx(exact, rel=1e-10, abs=1e-200)
    assert found.sum() == pytest.approx(1, abs=1e-14)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("rollouts", [2, 3, 5])
def test_masses_are_those_of_the_estimators_own_advantages(name: str, rollouts: int) -> None:
    estimator = as_estimator(name)
    rewards = torch.tril(torch.ones(rollouts + 1, rollouts, dtype=torch.float64), -1)  # K = 0 … N successes
    out = estimator(rewards) if isinstance(estimator, Estimator) else estimator(rewards)[0]
    assert advantage_masses(estimator, rollouts) == pytest.approx(out.abs().mean(dim=1).tolist(), abs=1e-12)


def test_a_mass_does_not_cancel() -> None:
    # Successes −1, failures −2: mean size (2·1 + 1·2)/3 with two successes of three.
    masses = advantage_masses(as_estimator(lambda rewards_GN: rewards_GN - 2), 3)
    assert masses == pytest.approx([2, 5 / 3, 4 / 3, 1])


@pytest.mark.parametrize("p", [Fraction(0), Fraction(1, 20), Fraction(1, 3), Fraction(9, 10), Fraction(1)])
@pytest.mark.parametrize(("n", "rollouts"), [(2, 2), (5, 2), (5, 3), (6, 5), (6, 6), (9, 4)])
def test_everything_is_unbiased(p: Fraction, n: int, rollouts: int) -> None:
    def binomial(size: int, k: int) -> Fraction:
        return math.comb(size, k) * p**k * (1 - p) ** (size - k)

    estimators = {name: as_estimator(name) for name in NAMES}
    found = [expect_groups(counts((n, c)), rollouts, estimators) for c in range(n + 1)]
    weights = [float(binomial(n, c)) for c in range(n + 1)]
    dead, mastered = float((1 - p) ** rollouts), float(p**rollouts)
    assert np.dot(weights, [groups.dead for groups in found]) == pytest.approx(dead, abs=1e-14)
    assert np.dot(weights, [groups.mastered for groups in found]) == pytest.approx(mastered, abs=1e-14)
    assert np.dot(weights, [groups.live for groups in found]) == pytest.approx(1 - dead - mastered, abs=1e-14)
    for name, estimator in estimators.items():
        masses = advantage_masses(estimator, rollouts)
        true = sum(float(binomial(rollouts, k)) * masses[k] for k in range(rollouts + 1))
        signals = [groups.signal[name] or 0.0 for groups in found]
        assert np.dot(weights, signals) == pytest.approx(true, abs=1e-13), name


def test_values_by_hand() -> None:
    # Of 4 samples with one success, C(3,2) = 3 of C(4,2) = 6 pairs hold none, none holds two.
    groups = expect_groups(
        counts((4, 1)), 2, {"maxrl": as_estimator("maxrl"), "grpo": as_estimator("grpo(eps=0.0)")}
    )
    assert (groups.dead, groups.live, groups.mastered) == pytest.approx((0.5, 0.5, 0))
    # A pair with one success: MaxRL (1 − ½)/½ and −1; GRPO ±½/σ̂, σ̂² = ½.
    assert groups.signal == pytest.approx({"maxrl": 0.5, "grpo": 0.5 * 0.5**0.5})
    assert groups.live_error is None
    # Live 0, ½ and ⅔ (c = 2: one of 6 pairs is dead, one mastered). Mean 7/18; deviations −7, 2, 5 eighteenths.
    groups = expect_groups(counts((4, 0), (4, 1), (4, 2)), 2)
    assert (groups.dead, groups.live, groups.mastered) == pytest.approx(
        ((1 + 1 / 2 + 1 / 6) / 3, 7 / 18, 1 / 18)
    )
    assert groups.live_error == pytest.approx(math.sqrt((49 + 4 + 25) / 18**2 / 2 / 3))
    assert groups.signal == {}


def test_the_mass_of_maxrl_is_the_known_formula() -> None:
    # 2((1 − (1−p)^N) − p) at N = 2 and p = ½ is ½; unbiased from n = 2: c = 0, 1, 2 with ¼, ½, ¼.
    maxrl = {"maxrl": as_estimator("maxrl")}
    masses = [expect_groups(counts((2, c)), 2, maxrl).signal["maxrl"] for c in range(3)]
    assert masses == [0, 1, 0]


def test_an_estimator_that_needs_more_rollouts_has_no_signal() -> None:
    estimators = {name: as_estimator(name) for name in ("maxrl(order=4)", "maxrl")}
    few, enough = (expect_groups(counts((8, 3)), n, estimators).signal for n in (3, 4))
    assert few["maxrl(order=4)"] is None
    assert few["maxrl"] is not None
    assert enough["maxrl(order=4)"] is not None


def test_prompts_with_too_few_verdicts_are_left_out() -> None:
    groups = expect_groups(counts((3, 3), (4, 0)), 4)
    assert (groups.prompts, groups.dead) == (1, 1)
    assert expect_groups(counts((3, 3), (4, 0)), 3).prompts == 2


def test_groups_that_the_samples_cannot_tell_are_refused() -> None:
    with pytest.raises(
        InputError, match=r"groups of 8 .* from 4 verdicts a prompt.*--eval_samples 8 or more.* up to 4$"
    ):
        expect_groups(counts((4, 1), (3, 1)), 8)
    with pytest.raises(InputError, match="at least 2 rollouts, but N is 1"):
        expect_groups(counts((4, 1)), 1)


@pytest.mark.parametrize("live", [0.1, 0.3, 0.45, 0.5, 0.66])
def test_the_least_n_for_a_share_of_live_groups(live: float) -> None:
    problems = counts((24, 0), (24, 1), (24, 2), (24, 5), (24, 24), (24, 23))
    scanned = [n for n in range(2, 25) if expect_groups(problems, n).live >= live]
    assert least_rollouts_for(problems, live) == (scanned[0] if scanned else None)


def test_no_n_makes_more_groups_live_than_have_both_outcomes() -> None:
    assert least_rollouts_for(counts((24, 0), (24, 12)), 0.51) is None


def test_the_least_n_is_about_the_same_prompts_at_every_n() -> None:
    # From N = 11 on only the five that are nearly always live would count.
    few = [(10, 0)] * 20
    assert least_rollouts_for(counts(*[(64, 30)] * 5, *few), 0.5) is None
    problems = counts(*[(64, 30)] * 5, (12, 0), (10, 0), (40, 1))
    assert least_rollouts_for(problems, 0.6) == next(
        n for n in range(2, 11) if expect_groups(problems, n).live >= 0.6
    )
    with pytest.raises(InputError, match="at least 2 rollouts"):
        least_rollouts_for(counts((64, 30), (1, 1)), 0.5)


def test_pass_at_1_with_its_error() -> None:
    # Rates ¼ and ¾: mean ½, standard deviation √⅛, over √2.
    assert mean_pass_rate(counts((4, 1), (4, 3), (0, 0))) == pytest.approx((0.5, 0.25))
    assert mean_pass_rate(counts((4, 1))) == (0.25, None)
    with pytest.raises(InputError, match="no sample of any prompt has a verdict"):
        mean_pass_rate(counts((0, 0)))


def test_the_histogram_by_hand() -> None:
    bins = rate_histogram(counts((8, 0), (8, 0), (8, 1), (8, 2), (8, 3), (8, 4), (8, 6), (8, 7), (8, 8)))
    assert [(bin_.low, bin_.high, bin_.prompts) for bin_ in bins] == [
        (0, 0, 2), (1 / 8, 1 / 4, 1), (1 / 4, 1 / 2, 2), (1 / 2, 3 / 4, 1), (3 / 4, 7 / 8, 1), (7 / 8, 1, 1), (1, 1, 1),
    ]  # fmt: skip


@pytest.mark.parametrize("n", [1, 2, 3, 5, 48, 64, 100])
def test_the_histogram_holds_every_rate_once(n: int) -> None:
    bins = rate_histogram(counts(*((n, c) for c in range(n + 1))))
    assert sum(bin_.prompts for bin_ in bins) == n + 1
    assert (bins[0].prompts, bins[-1].prompts) == (1, 1)
    inner = bins[1:-1]
    assert all(one.high == other.low for one, other in pairwise(inner))
    assert inner[0].low <= 1 / n < 2 * inner[0].high
    assert inner[-1].high == 1


@pytest.mark.parametrize(
    "p", [Fraction(1, 500), Fraction(1, 64), Fraction(1, 10), Fraction(3, 10), Fraction(1, 2), Fraction(3, 4)]
)
def test_rollouts_to_live_is_the_least_there_is(p: Fraction) -> None:
    n = next(n for n in range(1, 10_000) if 1 - (1 - p) ** n - p**n >= Fraction(1, 2))
    assert rollouts_to_live(float(p)) == n


def test_hard_prompts_fail_more_often_than_they_succeed() -> None:
    hard = hard_prompts(counts((10, 1), (10, 4), (10, 2), (10, 5), (10, 10), (0, 0)))  # ½ is not hard
    assert (hard.prompts, hard.median, hard.never_in, hard.at_most) == (3, 0.2, None, None)
    # 1 − .8^3 − .2^3 = .48, 1 − .8^4 − .2^4 = .5888
    assert hard.rollouts_to_live == 4


def test_a_median_that_never_succeeded_is_bounded() -> None:
    hard = hard_prompts(counts((64, 0), (64, 0), (60, 0), (64, 3)))
    assert (hard.prompts, hard.median, hard.rollouts_to_live, hard.never_in) == (4, 0, None, 60)
    assert hard.at_most is not None
    assert (1 - hard.at_most) ** 60 == pytest.approx(0.05)
    assert hard.at_most == pytest.approx(3 / 60, rel=0.05)  # the rule of three
    # p = .0487: 1 − .9513^14 = .503
    assert hard.at_least == 14


def test_a_bound_above_one_half_asks_for_no_more_than_a_pair() -> None:
    assert hard_prompts(counts((2, 0))).at_least == 2


def test_without_hard_prompts_there_is_nothing_to_reach() -> None:
    hard = hard_prompts(counts((4, 2), (4, 4)))
    assert (hard.prompts, hard.median, hard.rollouts_to_live, hard.never_in) == (0, None, None, None)
