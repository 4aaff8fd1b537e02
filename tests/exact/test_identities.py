"""Utility, second moment, advantage mass and order: what they must be by definition, for every estimator."""

from fractions import Fraction
from itertools import product
from math import prod

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from maxrl.objectives import (
    ESTIMATORS,
    GRPO,
    AdaptiveSwitch,
    CurveRL,
    Estimator,
    EstimatorWithMemory,
    ExactAnalysis,
    Hybrid,
    MaxRL,
    PassAtK,
    PowerWeight,
    SuccessWeighted,
    advantage_mass,
    analyse,
    effective_weight,
    get_estimator,
    second_moment,
    target_order,
    utility,
)
from maxrl.objectives.memory import State

# Every estimator by name, the default beside other forms; those with memory at their beginning and later.
FORMS: list[tuple[Estimator | EstimatorWithMemory, State | None]] = [
    *((get_estimator(name), None) for name in ESTIMATORS),
    (MaxRL(no_success="penalize"), None),
    (MaxRL(control_variate=False), None),
    *((MaxRL(order=order, control_variate=cv), None) for order in (1, 3, 7) for cv in (True, False)),
    (PassAtK(k=1), None),
    (PowerWeight(q=1.0), None),
    (GRPO(ddof=0, eps=1e-6), None),
    (SuccessWeighted(scope="group"), None),
    (SuccessWeighted(scope="group", threshold=-0.5), None),
    (CurveRL(), {"pass_rates": [[0.25, 0.5, 0.5], [0.75]]}),
    (Hybrid(), {"step": 200}),
    (AdaptiveSwitch(), {"above": True}),
]
every_form = pytest.mark.parametrize(("estimator", "state"), FORMS, ids=repr)

PASS_RATES = [Fraction(0), Fraction(1, 20), Fraction(2, 3), Fraction(1)]

eighths = st.integers(-16, 16).map(lambda i: Fraction(i, 8))
fixed = settings(derandomize=True, deadline=None, max_examples=30, database=None)


# An estimator that nobody has thought of.
any_pairs = st.lists(st.tuples(eighths, eighths), min_size=2, max_size=7)


def from_pairs(pairs: list[tuple[Fraction, Fraction]]) -> ExactAnalysis:
    """With 0 for the kind that a group does not hold."""
    (_, dead), *between, (mastered, _) = pairs
    return ExactAnalysis(((Fraction(0), dead), *between, (mastered, Fraction(0))))


def in_fractions(exact: ExactAnalysis) -> ExactAnalysis:
    """Floating-point advantages as the fractions that they are."""
    return ExactAnalysis(tuple((Fraction(success), Fraction(failure)) for success, failure in exact.pairs))


def assert_derivative_is_the_weight(exact: ExactAnalysis) -> None:
    """J is a polynomial of degree n: n + 1 values say exactly what its derivative is at those places."""
    places = [Fraction(i, exact.n) for i in range(exact.n + 1)]
    values = [exact.utility(p) for p in places]
    assert values[0] == 0
    gaps = [prod((x - y for y in places if y != x), start=Fraction(1)) for x in places]
    for x, own_gap, own_value in zip(places, gaps, values, strict=True):
        slope = Fraction(0)
        for y, gap, value in zip(places, gaps, values, strict=True):
            if y != x:
                slope += (own_value + own_gap / gap * value) / (x - y)
        assert slope == exact.effective_weight(x)


@every_form
def test_the_derivative_of_the_utility_is_the_weight(
    estimator: Estimator | EstimatorWithMemory, state: State | None
) -> None:
    for n in range(1, 7):
        assert_derivative_is_the_weight(in_fractions(analyse(estimator, n, state=state)))


@fixed
@given(pairs=any_pairs)
def test_the_derivative_of_any_utility_is_the_weight(pairs: list[tuple[Fraction, Fraction]]) -> None:
    assert_derivative_is_the_weight(from_pairs(pairs))


@pytest.mark.parametrize("control_variate", [True, False])
@pytest.mark.parametrize("order", [1, 2, 5, 7])
def test_the_utility_of_an_order_is_a_sum_of_pass_at_k(order: int, control_variate: bool) -> None:
    for n in range(2, 8):
        for p in PASS_RATES:
            passes = [1 - (1 - p) ** k for k in range(1, min(order, n) + 1)]
            expected = sum((passed / k for k, passed in enumerate(passes, start=1)), Fraction(0))
            assert utility(MaxRL(order=order, control_variate=control_variate), p, n) == expected


@pytest.mark.parametrize("k", [1, 2, 5])
def test_the_utility_of_pass_at_k_is_pass_at_k(k: int) -> None:
    for p in PASS_RATES:
        assert utility(PassAtK(k=k), p, 6) == 1 - (1 - p) ** k


@every_form
def test_moments_by_enumeration_of_every_group(
    estimator: Estimator | EstimatorWithMemory, state: State | None
) -> None:
    """Σ over the 2^N groups of Π p^r (1−p)^(1−r) · ΣA² and · mean|A|, with the advantages of the call.

    One group a call, so that an estimator which looks at the whole batch sees the group alone.
    """
    met = estimator.given(state) if isinstance(estimator, EstimatorWithMemory) else estimator
    for n in range(1, 7):
        groups = torch.tensor(list(product([0.0, 1.0], repeat=n)), dtype=torch.float64)
        advantages = torch.cat([met(group[None]) for group in groups])
        for p in map(float, PASS_RATES):
            chance = (groups * p + (1 - groups) * (1 - p)).prod(dim=1)
            second = float((chance * (advantages**2).sum(dim=1)).sum())
            mass = float((chance * advantages.abs().mean(dim=1)).sum())
            assert second_moment(estimator, p, n, state=state) == pytest.approx(second, rel=1e-12, abs=1e-13)
            assert advantage_mass(estimator, p, n, state=state) == pytest.approx(mass, rel=1e-12, abs=1e-13)


@fixed
@given(pairs=any_pairs, p=st.fractions(0, 1, max_denominator=20))
def test_moments_of_any_pairs_by_enumeration_in_fractions(
    pairs: list[tuple[Fraction, Fraction]], p: Fraction
) -> None:
    exact = from_pairs(pairs)
    second, mass = Fraction(0), Fraction(0)
    for group in product([0, 1], repeat=exact.n):
        chance = prod((p if reward else 1 - p for reward in group), start=Fraction(1))
        success, failure = exact.pairs[sum(group)]
        advantages = [Fraction(success if reward else failure) for reward in group]
        second += chance * sum(a * a for a in advantages)
        mass += chance * sum(map(abs, advantages)) / exact.n
    assert exact.second_moment(p) == second
    assert exact.advantage_mass(p) == mass


@every_form
def test_the_order_found_is_the_order_declared(
    estimator: Estimator | EstimatorWithMemory, state: State | None
) -> None:
    """One that pools the batch declares none, and there is none once other groups are there."""
    pools = isinstance(estimator, SuccessWeighted) and estimator.scope == "batch"
    met = estimator.given(state) if isinstance(estimator, EstimatorWithMemory) else estimator
    for n in range(1, 8):
        found = target_order(estimator, n, state=state, batch=[[1, 0, 0]] if pools else None)
        declared = met.target_order(n)
        if n == 1 and declared is None:  # what has no order may still be silent on a single rollout
            assert found in (0, None)
        else:
            assert found == declared


@every_form
def test_an_order_is_found_only_where_the_weight_is_that_order(
    estimator: Estimator | EstimatorWithMemory, state: State | None
) -> None:
    for n in range(1, 8):
        order = target_order(estimator, n, state=state)
        for p in (Fraction(1, 3), Fraction(4, 5)):
            weight = float(effective_weight(estimator, p, n, state=state))
            sums = [float(sum(((1 - p) ** k for k in range(t)), Fraction(0))) for t in range(n + 1)]
            assert [t for t, it in enumerate(sums) if weight == pytest.approx(it, rel=1e-9, abs=1e-12)] == (
                [] if order is None else [order]
            )
