"""E[ĝ] = w(p)·∇p, by summing over every group there is, in exact fractions.

A policy over a few answers has rational probabilities, so the score functions ∇log π of a softmax, e_j − q,
are rational too, and with them every term of

    E[ĝ] = Σ over groups (y_1 … y_N) of Π π(y_i) · (1/N) Σ_i A_i ∇log π(y_i).

The test is equality of fractions, not closeness; only GRPO, whose σ̂ is irrational, and power weights are compared in
floating point. The table in docs/estimators.md is made of the rows that are tested here (`python -m
tests.exact.test_expectations` writes it).
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import product
from math import comb, prod
from pathlib import Path

import pytest
import torch
from torch import Tensor

from maxrl.objectives import (
    ESTIMATORS,
    GRPO,
    MMPO,
    RLOO,
    AdaptiveSwitch,
    CurveRL,
    DrGRPO,
    Estimator,
    Hybrid,
    MaxRL,
    PassAtK,
    PowerWeight,
    Reinforce,
    SuccessWeighted,
    TailRL,
    effective_weight,
    order_weight,
)

GROUP_SIZES = range(1, 8)

Weight = Callable[[Fraction, int], Fraction]


def w(p: Fraction, order: int) -> Fraction:
    """w_T(p) as its geometric sum."""
    return sum(((1 - p) ** k for k in range(order)), Fraction(0))


def passes(p: Fraction, least: int, largest: int) -> Fraction:
    """Σ k(1−p)^{k−1}: the gradients of pass@k for k from `least` to `largest`, over ∇p."""
    return sum((k * (1 - p) ** (k - 1) for k in range(least, largest + 1)), Fraction(0))


@dataclass(frozen=True)
class Declared:
    """An estimator and what docs/estimators.md says that it optimises."""

    estimator: Estimator
    says: str
    """Its weight, in the words of the table."""
    weight: Weight | None = None
    """The same as a function of p and N; None where it is irrational or has no closed form."""
    memory: str = ""
    """For the estimator that one with memory is after some state: its name and that state."""
    shown: bool = True
    """In the table; what differs from another row by a number alone is not."""


STATE = {"pass_rates": [[0.25, 0.5, 0.5], [0.75]]}

# One row per estimator and form.
ROWS = [
    Declared(MaxRL(), "w_(N−1)", lambda p, n: w(p, n - 1)),
    Declared(MaxRL(control_variate=False), "w_N", lambda p, n: w(p, n)),
    Declared(MaxRL(no_success="penalize"), "w_N", lambda p, n: w(p, n)),
    *[
        Declared(
            MaxRL(order=order),
            f"w_{order}",
            lambda p, n, order=order: w(p, min(order, n)) if n > 1 else Fraction(0),
            shown=order == 4,
        )
        for order in (1, 2, 4, 7)
    ],
    *[
        Declared(
            MaxRL(order=order, control_variate=False),
            f"w_{order}",
            lambda p, n, order=order: w(p, min(order, n)),
            shown=order == 3,
        )
        for order in (1, 3, 7)
    ],
    Declared(RLOO(), "1", lambda p, n: Fraction(n > 1)),
    Declared(DrGRPO(), "(N−1)/N", lambda p, n: Fraction(n - 1, n)),
    Declared(Reinforce(), "1", lambda p, n: Fraction(1)),
    *[
        Declared(
            PassAtK(k=k),
            "k(1−p)^(k−1), k = 4",
            lambda p, n, k=k: passes(p, min(k, n - 1), min(k, n - 1)) if n > 1 else Fraction(0),
            shown=k == 4,
        )
        for k in (1, 2, 4)
    ],
    *[
        Declared(
            MMPO(order=order),
            "Σ_(k≤4) k(1−p)^(k−1)",
            lambda p, n, order=order: passes(p, 1, min(order, n)) if n > 1 else Fraction(0),
            shown=order == 4,
        )
        for order in (1, 4, 7)
    ],
    Declared(TailRL(), "w_(N−1), for every threshold", lambda p, n: w(p, n - 1)),
    Declared(SuccessWeighted(scope="group"), "w_N", lambda p, n: w(p, n)),
    Declared(
        CurveRL().given(), "w_(N−1)/N", lambda p, n: w(p, n - 1) / n, memory="curve_rl at the beginning"
    ),
    Declared(CurveRL().given(STATE), "f/F, smoothed", None, memory="curve_rl after ¼ ½ ½ ¾"),
    Declared(PowerWeight(), "about p^(−3/4)"),
    Declared(PowerWeight(q=1.0), "w_(N−1)", shown=False),
    Declared(GRPO(), "about 1/√(p(1−p))"),
    Declared(GRPO(ddof=0, eps=1e-6), "about 1/√(p(1−p))"),
    Declared(GRPO(eps=0.0), "about 1/√(p(1−p))", shown=False),
]
DECLARED = [(row.estimator, row.weight) for row in ROWS if row.weight is not None]
ALL = [row.estimator for row in ROWS]


@dataclass(frozen=True)
class Policy:
    """Probabilities of the answers, and which of them are right; the parameters are the logits."""

    probabilities: tuple[Fraction, ...]
    right: frozenset[int]

    @property
    def p(self) -> Fraction:
        return sum((self.probabilities[j] for j in self.right), Fraction(0))

    def score(self, answer: int) -> list[Fraction]:
        """∇ log softmax: e_answer − q."""
        return [(j == answer) - q for j, q in enumerate(self.probabilities)]

    @property
    def gradient_of_p(self) -> list[Fraction]:
        """∂p/∂z_j = q_j·(1[j right] − p)."""
        return [q * ((j in self.right) - self.p) for j, q in enumerate(self.probabilities)]

    def groups(self, n: int) -> Iterator[tuple[tuple[int, ...], Fraction]]:
        for answers in product(range(len(self.probabilities)), repeat=n):
            yield answers, prod((self.probabilities[a] for a in answers), start=Fraction(1))


def policy(*probabilities: str, right: set[int]) -> Policy:
    return Policy(tuple(map(Fraction, probabilities)), frozenset(right))


POLICIES = [
    policy("1/20", "19/20", right={0}),
    policy("2/3", "1/3", right={0}),
    policy("1/2", "1/3", "1/6", right={2}),
    policy("1/20", "1/4", "7/10", right={0, 2}),
]


def expected_gradient(
    on: Policy, n: int, advantages: Callable[[tuple[int, ...]], list[Fraction]]
) -> list[Fraction]:
    pull = [Fraction(0)] * len(on.probabilities)  # on each answer; its score is the same in every group
    for answers, probability in on.groups(n):
        for answer, advantage in zip(answers, advantages(answers), strict=True):
            pull[answer] += probability * advantage / n
    scores = [on.score(answer) for answer in range(len(pull))]
    return [
        sum((f * s for f, s in zip(pull, column, strict=True)), Fraction(0))
        for column in zip(*scores, strict=True)
    ]


def by_pair(estimator: Estimator, on: Policy, n: int) -> Callable[[tuple[int, ...]], list[Fraction]]:
    pairs = [estimator.binary_advantages(k, n) for k in range(n + 1)]

    def advantages(answers: tuple[int, ...]) -> list[Fraction]:
        hits = [a in on.right for a in answers]
        success, failure = pairs[sum(hits)]
        return [Fraction(success if hit else failure) for hit in hits]

    return advantages


def called_gradient(estimator: Estimator, on: Policy, n: int) -> Tensor:
    """E[ĝ] with the advantages of the tensor call, on all groups at once, in float64."""
    q = torch.tensor([float(q) for q in on.probabilities], dtype=torch.float64)
    answers = torch.tensor(list(product(range(len(q)), repeat=n)))
    scores = torch.eye(len(q), dtype=torch.float64)[answers] - q
    right = torch.tensor([float(j in on.right) for j in range(len(q))], dtype=torch.float64)
    advantages_GN = estimator(right[answers])
    return (q[answers].prod(1)[:, None] * ((advantages_GN[..., None] * scores).mean(1))).sum(0)


def label(value: object) -> str | None:
    if isinstance(value, Policy):
        return "/".join(map(str, value.probabilities)).replace("/", "_")
    return repr(value) if isinstance(value, Estimator) else None


@pytest.mark.parametrize("on", POLICIES, ids=label)
@pytest.mark.parametrize(("estimator", "weight"), DECLARED, ids=label)
def test_expected_gradient_is_the_declared_weight_times_the_gradient_of_p(
    estimator: Estimator, weight: Weight, on: Policy
) -> None:
    for n in GROUP_SIZES:
        declared = [weight(on.p, n) * g for g in on.gradient_of_p]
        assert expected_gradient(on, n, by_pair(estimator, on, n)) == declared


@pytest.mark.parametrize("estimator", ALL, ids=label)
@pytest.mark.parametrize("on", POLICIES, ids=label)
def test_expected_gradient_of_the_call_is_the_effective_weight_times_the_gradient_of_p(
    estimator: Estimator, on: Policy
) -> None:
    for n in GROUP_SIZES:
        weight = effective_weight(estimator, float(on.p), n)
        expected = [weight * float(g) for g in on.gradient_of_p]
        assert called_gradient(estimator, on, n).tolist() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(("estimator", "weight"), DECLARED, ids=label)
def test_effective_weight_of_a_fraction_is_the_declared_fraction(
    estimator: Estimator, weight: Weight
) -> None:
    for p in (Fraction(0), Fraction(1, 20), Fraction(2, 3), Fraction(1)):
        for n in GROUP_SIZES:
            exact = effective_weight(estimator, p, n)
            assert isinstance(exact, Fraction)
            assert exact == weight(p, n)


@pytest.mark.parametrize(("estimator", "weight"), DECLARED, ids=label)
def test_target_order_is_the_order_of_the_declared_weight(estimator: Estimator, weight: Weight) -> None:
    p = Fraction(1, 3)
    for n in GROUP_SIZES:
        order = estimator.target_order(n)
        if order is None:  # then it is no order's weight: neither below nor above n
            assert n == 1 or all(weight(p, n) != w(p, t) for t in range(n + 2))
        else:
            assert weight(p, n) == w(p, order)


@pytest.mark.parametrize("estimator", ALL, ids=label)
def test_every_binary_group_gets_the_pair(estimator: Estimator) -> None:
    for n in GROUP_SIZES:
        rewards_GN = torch.tensor(list(product([0.0, 1.0], repeat=n)), dtype=torch.float64)
        for rewards, advantages in zip(rewards_GN.tolist(), estimator(rewards_GN).tolist(), strict=True):
            success, failure = estimator.binary_advantages(int(sum(rewards)), n)
            expected = [float(success if r else failure) for r in rewards]
            if isinstance(success, Fraction):  # whole numbers divided once: rounded once, so equal to the bit
                assert advantages == expected
            else:
                assert advantages == pytest.approx(expected, abs=1e-13)


def test_no_estimator_is_left_out() -> None:
    """Those that choose between others are exactly what they chose."""
    switches = {"hybrid", "adaptive_switch"}
    assert {e.name for e in ALL} | switches == set(ESTIMATORS)
    assert Hybrid().given({"step": 199}) == GRPO()
    assert Hybrid().given({"step": 200}) == MaxRL()
    assert AdaptiveSwitch().given({"above": False}) == GRPO()
    assert AdaptiveSwitch().given({"above": True}) == MaxRL()


def test_the_rational_ones_are_fractions() -> None:
    for row in ROWS:
        rational = not isinstance(row.estimator, (GRPO, PowerWeight))
        assert isinstance(effective_weight(row.estimator, Fraction(1, 3), 4), Fraction) == rational


@pytest.mark.parametrize("on", POLICIES, ids=label)
def test_a_state_gives_fractions_too(on: Policy) -> None:
    """CurveRL has no closed form after a state; its expected gradient is the exact weight's, in fractions."""
    estimator = CurveRL().given(STATE)
    for n in GROUP_SIZES:
        weight = effective_weight(estimator, on.p, n)
        assert expected_gradient(on, n, by_pair(estimator, on, n)) == [weight * g for g in on.gradient_of_p]


@pytest.mark.parametrize("others", [[[1, 0, 0]], [[1, 1, 1], [0, 0, 1]], [[0, 0, 0]]])
@pytest.mark.parametrize("n", [1, 3, 5])
def test_success_weights_over_a_batch_given_the_other_groups(others: list[list[int]], n: int) -> None:
    """w(p) = E[(N + R)/(k + 1 + M)] with M successes among the R rollouts of the others."""
    hits, there = sum(map(sum, others)), 3 * len(others)
    p = Fraction(2, 7)
    expected = sum(
        comb(n - 1, k) * p**k * (1 - p) ** (n - 1 - k) * Fraction(n + there, k + 1 + hits) for k in range(n)
    )
    found = effective_weight(SuccessWeighted(), float(p), n, batch=others)
    assert found == pytest.approx(float(expected), rel=1e-12)


def test_tail_rl_climbs_the_likelihood_of_every_threshold() -> None:
    """E[ĝ] = ∫ w_(N−1)(P(r > t))·∇P(r > t) dt: a sum over the gaps between the rewards that there are."""
    q = torch.tensor([0.2, 0.3, 0.4, 0.1], dtype=torch.float64)
    rewards = torch.tensor([-1.0, 0.5, 0.5, 3.0], dtype=torch.float64)
    for n in (2, 3, 5):
        answers = torch.tensor(list(product(range(4), repeat=n)))
        scores = torch.eye(4, dtype=torch.float64)[answers] - q
        advantages_GN = TailRL()(rewards[answers])
        found = (q[answers].prod(1)[:, None] * (advantages_GN[..., None] * scores).mean(1)).sum(0)
        expected = torch.zeros(4, dtype=torch.float64)
        for low, high in ((-1.0, 0.5), (0.5, 3.0)):
            above = (rewards > low).double()
            p = float(q @ above)
            expected += (high - low) * order_weight(p, n - 1) * q * (above - p)
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


def test_power_weights_lie_between_plain_rl_and_maxrl() -> None:
    rewards = [[1.0, 0.0, 0.0, 0.5], [0.0, 0.0, 0.0, 0.0], [1.0, 1.0, 0.0, 1.0]]
    torch.testing.assert_close(PowerWeight(q=0.0)(rewards), DrGRPO()(rewards))
    torch.testing.assert_close(PowerWeight(q=1.0)(rewards), MaxRL()(rewards))
    # r̂ = 1/16 at N = 16: 1/r̂^¾ = 8, and r − r̂ = 15/16.
    assert float(PowerWeight()([[1.0] + [0.0] * 15])[0, 0]) == 7.5


DOCS = Path(__file__).parents[2] / "docs" / "estimators.md"
BEGIN, END = "<!-- from here on made by tests/exact/test_expectations.py -->", "<!-- until here -->"


def documented_order(estimator: Estimator) -> str:
    orders = [estimator.target_order(n) for n in (8, 9)]
    if None in orders:
        return "none"
    return {(8, 9): "N", (7, 8): "N − 1"}.get((orders[0], orders[1]), str(orders[0]))  # type: ignore[arg-type]


def table() -> str:
    """The rows of this file as the table of the docs, with their exact weights at N = 8."""
    lines = [
        "| estimator | A | E[ĝ]/∇p | order | w(.05) | w(.5) | w(.95) |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in ROWS:
        if not row.shown:
            continue
        called = row.memory
        if not called:
            options = re.sub(r"^\w+\(|\)$", "", repr(row.estimator))
            defaults = re.sub(r"^\w+\(|\)$", "", repr(type(row.estimator)())).split(", ")
            given = [option for option in options.split(", ") if option not in defaults]
            called = row.estimator.name + (f"({', '.join(given)})" if given else "")
        weights = [f"{float(effective_weight(row.estimator, p, 8)):.4f}" for p in (0.05, 0.5, 0.95)]
        cells = [f"`{called}`", row.estimator.formula, row.says, documented_order(row.estimator), *weights]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def test_the_table_in_the_docs_is_this_one() -> None:
    written = DOCS.read_text().split(BEGIN)[1].split(END)[0].strip()
    assert written == table(), "python -m tests.exact.test_expectations writes it anew"


if __name__ == "__main__":
    before, after = DOCS.read_text().split(BEGIN)[0], DOCS.read_text().split(END)[1]
    DOCS.write_text(f"{before}{BEGIN}\n\n{table()}\n\n{END}{after}")
