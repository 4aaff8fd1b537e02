"""What notebooks show of an estimator."""

import math

import pytest

from maxrl.errors import InputError
from maxrl.experiments.notebooks.estimator_view import (
    advantage_rows,
    noise_rows,
    signal_to_noise,
    view_estimator,
    with_references,
)
from maxrl.experiments.notebooks.toy import gradient_noise
from maxrl.objectives import ESTIMATORS, effective_weight, second_moment, utility

NEEDS = {"pass_at_k": 5, "mmpo": 4}
"""Estimators that groups may be too small for, and the rollouts they need."""


@pytest.mark.parametrize("n", [1, 2, 16])
@pytest.mark.parametrize("name", list(ESTIMATORS))
def test_every_estimator_is_shown_or_refused_in_a_sentence(name: str, n: int) -> None:
    if n < NEEDS.get(name, 1):
        with pytest.raises(InputError, match=f"needs at least {NEEDS[name]} rollouts per group, but N = {n}"):
            view_estimator(name, "", n)
        return
    shown = view_estimator(name, "", n)
    assert len(noise_rows(shown.exact, gradient_noise(shown.exact, 0.1), 0.1)) == 8
    assert len(advantage_rows(shown.exact, 0.1)) == n + 1
    memory = name in ("hybrid", "adaptive_switch", "curve_rl")
    assert any("has memory" in remark for remark in shown.remarks) == memory
    assert any("whole batch" in remark for remark in shown.remarks) == (name == "success_weighted")


@pytest.mark.parametrize(
    ("name", "options", "n", "says"),
    [
        ("maxrl", "", 16, "Order T = 15: w(p) = (1 − (1 − p)^15)/p"),
        ("maxrl", "order=4", 8, "J(p) = Σ pass@k/k for k = 1 … 4"),
        ("rloo", "", 8, "Order T = 1"),
        ("maxrl", "", 2, "plain reinforcement learning"),
        ("maxrl", "", 1, "No signal at all"),
        ("grpo", " eps=0.0 ", 8, "No truncation order"),
    ],
)
def test_the_objective_in_words(name: str, options: str, n: int, says: str) -> None:
    assert says in view_estimator(name, options, n).objective


def test_memory_is_shown_at_its_beginning() -> None:
    shown = view_estimator("hybrid", "first=rloo", 8)
    assert shown.exact.target_order() == 1
    assert "where it is rloo" in shown.remarks[0]


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("maxlr", "", "did you mean 'maxrl'"),
        ("maxrl", "ordr=3", "did you mean 'order'"),
        ("maxrl", "order=", "must read name"),
        ("maxrl", "order=64", "needs at least 64 rollouts per group, but N = 16"),
    ],
)
def test_what_cannot_be_shown(name: str, options: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        view_estimator(name, options, 16)


def test_figures_at_a_pass_rate() -> None:
    shown = view_estimator("grpo", "", 8)
    rows = dict(map(tuple, noise_rows(shown.exact, gradient_noise(shown.exact, 0.2), 0.2)))
    assert rows["effective weight w(p)"] == f"{effective_weight('grpo', 0.2, 8):.4f}"
    assert rows["utility J(p)"] == f"{utility('grpo', 0.2, 8):.4f}"
    assert rows["second moment E(Σ A²)"] == f"{second_moment('grpo', 0.2, 8):.4f}"
    silent = view_estimator("maxrl", "", 1).exact
    assert ["groups until signal = noise", "never"] in noise_rows(silent, gradient_noise(silent, 0.2), 0.2)


def test_the_advantage_table() -> None:
    rows = advantage_rows(view_estimator("maxrl", "", 4).exact, 0.25)
    assert [row["K"] for row in rows] == [0, 1, 2, 3, 4]
    assert [row["chance"] for row in rows] == pytest.approx(
        [math.comb(4, k) * 0.25**k * 0.75 ** (4 - k) for k in range(5)]
    )
    assert (rows[1]["A of a success"], rows[1]["A of a failure"]) == (3, -1)
    assert rows[0]["A of a success"] is None
    assert rows[4]["A of a failure"] is None
    many = advantage_rows(view_estimator("maxrl", "", 1024).exact, 0.3)
    assert sum(float(str(row["chance"])) for row in many) == pytest.approx(1, rel=1e-9)


def test_signal_to_noise_beside_references() -> None:
    shown = view_estimator("dr_grpo", "", 8)
    exacts = with_references(shown, 8)
    assert list(exacts) == ["dr_grpo", "maxrl", "grpo", "rloo"]
    assert list(with_references(view_estimator("rloo", "", 8), 8)) == ["rloo", "maxrl", "grpo"]
    rates = [0.05, 0.5]
    # A constant factor changes neither: Dr. GRPO is RLOO times (N − 1)/N.
    assert signal_to_noise(exacts["dr_grpo"], rates) == pytest.approx(signal_to_noise(exacts["rloo"], rates))
