"""Effective weights: the published values, exactness at the ends, and callables of the user's own."""

import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from maxrl.errors import InputError
from maxrl.objectives import ESTIMATORS, GRPO, RLOO, DrGRPO, MaxRL, Reinforce, effective_weight, order_weight

FULL_ORDER = [MaxRL(no_success="penalize"), MaxRL(control_variate=False)]


class TestOrderWeight:
    def test_published_values(self) -> None:
        # (1 − .95^7)/.05 = (1 − .698337)/.05
        assert order_weight(0.05, 7) == pytest.approx(6.0333, abs=5e-5)
        assert order_weight(0.05, 8) == pytest.approx(6.7316, abs=5e-5)
        assert order_weight(0.05, 15) == pytest.approx(10.73418, abs=5e-6)
        assert order_weight(0.05, 16) == pytest.approx(11.19747, abs=5e-6)
        assert order_weight(0.01, 3) == pytest.approx(2.970, abs=5e-4)
        assert order_weight(0.01, 4) == pytest.approx(3.940, abs=5e-4)

    def test_small_orders_by_hand(self) -> None:
        # w_0 = 0, w_1 = 1, w_2 = 2 − p, w_3 = 3 − 3p + p²
        p = Fraction(2, 7)
        assert [order_weight(p, t) for t in range(4)] == [0, 1, 2 - p, 3 - 3 * p + p**2]
        for t in range(4):
            assert order_weight(float(p), t) == pytest.approx(float(order_weight(p, t)), rel=1e-15)

    def test_ends(self) -> None:
        assert [order_weight(0.0, t) for t in (0, 1, 16)] == [0.0, 1.0, 16.0]
        assert [order_weight(1.0, t) for t in (0, 1, 16, math.inf)] == [0.0, 1.0, 1.0, 1.0]
        assert [order_weight(Fraction(0), t) for t in (0, 1, 16)] == [0, 1, 16]
        assert [order_weight(Fraction(1), t) for t in (0, 1, 16, math.inf)] == [0, 1, 1, 1]

    def test_infinite_order_is_maximum_likelihood(self) -> None:
        assert order_weight(0.25, math.inf) == 4.0
        assert order_weight(0.0, math.inf) == math.inf
        assert order_weight(Fraction(3, 7), math.inf) == Fraction(7, 3)
        with pytest.raises(InputError, match="infinite, which no Fraction is"):
            order_weight(Fraction(0), math.inf)

    @pytest.mark.parametrize("p", [1e-300, 1e-17, 1e-12, 1e-8, 1e-3])
    def test_digits_near_zero(self, p: float) -> None:
        # (1 − (1−p)^T)/p as written is 0/p below 1e-16; the truth is exact in fractions.
        truth = 100 if p < 1e-20 else float(order_weight(Fraction(p), 100))
        assert order_weight(p, 100) == pytest.approx(truth, rel=1e-14)

    def test_many_at_once(self) -> None:
        p = [0.0, 0.05, 1.0]
        expected = torch.tensor([order_weight(x, 16) for x in p], dtype=torch.float64)
        for given in (p, np.array(p), torch.tensor(p, dtype=torch.float64)):
            assert torch.equal(order_weight(given, 16), expected)
        assert isinstance(order_weight(0, 4), float)

    @pytest.mark.parametrize("order", [-1, 1.5, "2", None, float("nan"), -math.inf])
    @pytest.mark.usefixtures("as_users_run_it")
    def test_wrong_orders(self, order: Any) -> None:
        with pytest.raises(InputError, match="order must be an integer of at least 0"):
            order_weight(0.5, order)

    @pytest.mark.parametrize("p", [-0.1, 1.5, Fraction(-1, 2), Fraction(3, 2), float("nan"), "half"])
    def test_wrong_pass_rates(self, p: Any) -> None:
        with pytest.raises(InputError, match="p must be"):
            order_weight(p, 3)


class TestEffectiveWeight:
    def test_practical_maxrl_is_one_order_below_n(self) -> None:
        assert effective_weight(MaxRL(), 0.05, 8) == pytest.approx(6.0333, abs=5e-5)
        assert effective_weight(MaxRL(), 0.05, 16) == pytest.approx(10.73418, abs=5e-6)
        assert effective_weight(MaxRL(), 0.01, 4) == pytest.approx(2.970, abs=5e-4)
        assert effective_weight(MaxRL(), 0.3, 2) == pytest.approx(1.0, rel=1e-15)  # plain RL
        assert effective_weight(MaxRL(), 0.3, 1) == 0.0

    @pytest.mark.parametrize("estimator", FULL_ORDER, ids=repr)
    def test_the_other_forms_reach_order_n(self, estimator: MaxRL) -> None:
        assert effective_weight(estimator, 0.05, 8) == pytest.approx(6.7316, abs=5e-5)
        assert effective_weight(estimator, 0.05, 16) == pytest.approx(11.19747, abs=5e-6)
        assert effective_weight(estimator, 0.01, 4) == pytest.approx(3.940, abs=5e-4)
        assert effective_weight(estimator, 0.3, 1) == pytest.approx(1.0, rel=1e-15)

    def test_grpo_by_hand(self) -> None:
        # n = 2: the only mixed group is one of each, σ̂ = √(½·½·2) = 1/√2, advantages ±1/√2, so
        # w = Σ_k P(k)·(a_s(k+1) − a_f(k)) = (1−p)·(1/√2 − 0) + p·(0 + 1/√2) = 1/√2 for every p.
        for p in (0.0, 0.3, 1.0):
            assert effective_weight(GRPO(eps=0.0), p, 2) == pytest.approx(0.5**0.5, rel=1e-15)
        # n = 3: a_s(1) = (2/3)/√(1/3), a_f(1) = −half of it, a_s(2) and a_f(2) mirrored; with s = 1/√3
        # k = 0: 2s; k = 1: s + s = 2s; k = 2: 2s.
        assert effective_weight(GRPO(eps=0.0), 0.2, 3) == pytest.approx(2 / 3**0.5, rel=1e-15)

    def test_grpo_is_about_one_over_the_deviation_and_rises_again(self) -> None:
        p = torch.tensor([0.1, 0.3, 0.5, 0.7, 0.9], dtype=torch.float64)
        weights = effective_weight(GRPO(), p, 500)
        torch.testing.assert_close(weights, (p * (1 - p)) ** -0.5, rtol=0.01, atol=0)
        assert weights[-1] == pytest.approx(weights[0].item(), rel=1e-12)

    def test_a_fraction_stays_exact_where_the_estimator_is_rational(self) -> None:
        assert effective_weight(MaxRL(), Fraction(1, 20), 16) == order_weight(Fraction(1, 20), 15)
        assert effective_weight(DrGRPO(), Fraction(1, 3), 8) == Fraction(7, 8)
        inexact = effective_weight(GRPO(), Fraction(1, 2), 8)
        assert isinstance(inexact, float)
        assert inexact == effective_weight(GRPO(), 0.5, 8)

    @pytest.mark.parametrize("n", [64, 2048])
    def test_large_groups_keep_their_digits(self, n: int) -> None:
        p = torch.tensor([0.0, 1e-12, 1e-3, 0.3, 0.999, 1.0], dtype=torch.float64)
        torch.testing.assert_close(
            effective_weight(MaxRL(), p, n), order_weight(p, n - 1), rtol=1e-11, atol=0
        )
        torch.testing.assert_close(effective_weight(RLOO(), p, n), order_weight(p, 1), rtol=1e-11, atol=0)

    def test_many_at_once(self) -> None:
        p = [[0.0, 0.1], [0.5, 1.0]]
        for given in (p, np.array(p), torch.tensor(p, dtype=torch.float64)):
            weights = effective_weight("grpo", given, 8)
            assert (weights.shape, weights.dtype) == ((2, 2), torch.float64)
            assert weights[0, 1].item() == pytest.approx(effective_weight("grpo", 0.1, 8), rel=1e-14)
        assert effective_weight("max_rl", [], 8).shape == (0,)

    def test_scalars_of_any_kind_give_a_float(self) -> None:
        for p in (1, np.float64(1), torch.tensor(1.0)):
            assert isinstance(effective_weight(Reinforce(), p, 3), float)

    @pytest.mark.parametrize("estimator", [*(cls() for cls in ESTIMATORS.values()), *FULL_ORDER], ids=repr)
    def test_a_callable_is_measured(self, estimator: Any) -> None:
        def anonymous(rewards: Tensor) -> Tensor:
            return estimator(rewards)

        for n in (1, 2, 7):
            for p in (0.0, 0.05, 0.6, 1.0):
                measured = effective_weight(anonymous, p, n)
                assert measured == pytest.approx(effective_weight(estimator, p, n), rel=1e-12)
        assert isinstance(effective_weight(anonymous, Fraction(1, 2), 4), float)

    def test_a_callable_by_hand(self) -> None:
        # A = r² − r̂²: a_s(K) − a_f(K') = 1 − ((k+1)/n)² + (k/n)²; n = 2: k = 0: 3/4, k = 1: 1/4.
        def squared(rewards: Tensor) -> Any:
            return (rewards**2 - rewards.mean(1, keepdim=True) ** 2).numpy()

        assert effective_weight(squared, 0.25, 2) == pytest.approx(0.75 * 0.75 + 0.25 * 0.25, rel=1e-15)

    def test_a_callable_sees_one_group_at_a_time_in_float64(self) -> None:
        seen: list[Tensor] = []

        def batch_whitened(rewards: Tensor) -> Tensor:
            seen.append(rewards)
            return rewards - rewards.mean()

        assert effective_weight(batch_whitened, 0.3, 4) == pytest.approx(0.75, rel=1e-14)
        assert [s.tolist() for s in seen] == [[[1.0] * k + [0.0] * (4 - k)] for k in range(5)]
        assert {s.dtype for s in seen} == {torch.float64}

    def test_callables_without_a_weight_are_refused(self) -> None:
        with pytest.raises(InputError, match="as many finite advantages; for 0 successes"):
            effective_weight(lambda r: r.mean(), 0.5, 4)
        with pytest.raises(InputError, match="as many finite advantages"):
            effective_weight(lambda r: r / 0, 0.5, 4)
        with pytest.raises(InputError, match="advantages must be numbers"):
            effective_weight(lambda r: "none", 0.5, 4)
        with pytest.raises(InputError, match="treats equal rewards of a group unequally"):
            effective_weight(lambda r: r * torch.arange(4), 0.5, 4)

    @pytest.mark.usefixtures("as_users_run_it")
    def test_wrong_input(self) -> None:
        with pytest.raises(InputError, match="n must be an integer of at least 1, got 0"):
            effective_weight("maxrl", 0.5, 0)
        with pytest.raises(InputError, match="unknown estimator 'maxr'"):
            effective_weight("maxr", 0.5, 4)
        for p in (-0.5, 1.5, Fraction(3, 2), Fraction(-1, 3), float("nan")):
            with pytest.raises(InputError, match="between 0 and 1"):
                effective_weight("maxrl", p, 4)
        with pytest.raises(InputError, match="between 0 and 1"):
            effective_weight("grpo", Fraction(3, 2), 4)
