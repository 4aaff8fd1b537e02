"""Weights, utilities, moments and orders: by hand, exact at the ends, and of the user's own functions."""

import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from maxrl.errors import InputError
from maxrl.objectives import (
    ESTIMATORS,
    GRPO,
    RLOO,
    CurveRL,
    DrGRPO,
    EstimatorWithMemory,
    Hybrid,
    MaxRL,
    Reinforce,
    SuccessWeighted,
    advantage_mass,
    analyse,
    effective_weight,
    order_weight,
    second_moment,
    target_order,
    utility,
)

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
            found = estimator(rewards)
            return found[0] if isinstance(estimator, EstimatorWithMemory) else found

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
        with pytest.raises(InputError, match="as many finite advantages, but returned shape"):
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
        with pytest.raises(InputError, match="p must be a pass rate between 0 and 1, got 3/2"):
            effective_weight("maxrl", Fraction(3, 2), 4)
        for p in (-0.5, 1.5, Fraction(3, 2), Fraction(-1, 3), float("nan")):
            with pytest.raises(InputError, match="between 0 and 1"):
                effective_weight("maxrl", p, 4)
        with pytest.raises(InputError, match="between 0 and 1"):
            effective_weight("grpo", Fraction(3, 2), 4)


class TestUtility:
    def test_by_hand(self) -> None:
        # N = 2: MaxRL's pairs are (0, 0), (1, −1), (0, 0), d = 1, 1, U = 0, ½, 1, J = ½·2p(1−p) + p² = p.
        assert utility(MaxRL(), Fraction(2, 7), 2) == Fraction(2, 7)
        # N = 3, w = 2 − p: J = 2p − p²/2.
        assert utility(MaxRL(), Fraction(2, 7), 3) == Fraction(4, 7) - Fraction(2, 49)

    @pytest.mark.parametrize("n", [2, 16, 2048])
    def test_from_nothing_to_the_harmonic_number(self, n: int) -> None:
        assert utility(MaxRL(), 0.0, n) == 0.0
        assert utility(MaxRL(), 1.0, n) == pytest.approx(sum(1 / k for k in range(1, n)), rel=1e-11)

    @pytest.mark.parametrize("p", [1e-9, 1e-3, 0.3, 0.999])
    def test_large_groups_keep_their_digits(self, p: float) -> None:
        passes = sum(-math.expm1(k * math.log1p(-p)) / k for k in range(1, 2048))
        assert utility(MaxRL(), p, 2048) == pytest.approx(passes, rel=1e-11)


class TestMoments:
    def test_by_hand(self) -> None:
        # N = 2, one success with probability 2p(1−p): advantages 1 and −1.
        p = Fraction(1, 5)
        assert second_moment(MaxRL(), p, 2) == 2 * 2 * p * (1 - p)
        assert advantage_mass(MaxRL(), p, 2) == 2 * p * (1 - p)
        # r/r̂ is 2, 0 with one success and 1, 1 with two.
        bare = MaxRL(control_variate=False)
        assert second_moment(bare, p, 2) == 4 * 2 * p * (1 - p) + 2 * p**2
        assert advantage_mass(bare, p, 2) == 2 * p * (1 - p) + p**2

    def test_irrational_ones_are_floats(self) -> None:
        for quantity in (utility, second_moment, advantage_mass):
            found = quantity(GRPO(), Fraction(1, 2), 4)
            assert isinstance(found, float)
            assert found == quantity(GRPO(), 0.5, 4)

    @pytest.mark.parametrize("n", [64, 2048])
    def test_large_groups_keep_their_digits(self, n: int) -> None:
        p = torch.tensor([0.0, 1e-12, 1e-3, 0.3, 0.999, 1.0], dtype=torch.float64)
        close = {"rtol": 1e-11, "atol": 1e-13}
        torch.testing.assert_close(second_moment(Reinforce(), p, n), n * p, **close)
        torch.testing.assert_close(second_moment(DrGRPO(), p, n), (n - 1) * p * (1 - p), **close)
        torch.testing.assert_close(advantage_mass(RLOO(), p, n), 2 * p * (1 - p), **close)
        alive = -torch.expm1(n * torch.log1p(-p))
        torch.testing.assert_close(advantage_mass(MaxRL(), p, n), 2 * (alive - p), rtol=1e-9, atol=1e-13)

    def test_many_at_once(self) -> None:
        p = [[0.0, 0.1], [0.5, 1.0]]
        for quantity in (utility, second_moment, advantage_mass):
            found = quantity("maxrl", np.array(p), 8)
            assert (found.shape, found.dtype) == ((2, 2), torch.float64)
            assert found[0, 1].item() == pytest.approx(quantity("maxrl", 0.1, 8), rel=1e-14)


class TestTargetOrder:
    @pytest.mark.parametrize("n", [2, 9, 1024])
    def test_found_in_advantages_of_any_kind(self, n: int) -> None:
        assert target_order("maxrl", n) == n - 1
        assert target_order("maxrl(order=2)", n) == 2
        assert target_order("power_weight(q=1.0)", n) == n - 1  # its pair is in floating point
        assert target_order(lambda rewards_GN: 3 * rewards_GN, n) is None
        assert target_order(lambda rewards_GN: 0 * rewards_GN, n) == 0

    def test_of_a_function(self) -> None:
        def maxrl_in_one_line(rewards_GN: Tensor) -> Tensor:
            return (rewards_GN / rewards_GN.mean(1, keepdim=True) - 1).nan_to_num()

        assert [target_order(maxrl_in_one_line, n) for n in (1, 2, 8)] == [0, 1, 7]

    def test_one_wrong_group_is_no_order(self) -> None:
        def spoiled(rewards_GN: Tensor) -> Tensor:
            return RLOO()(rewards_GN) * (1 + 1e-7 * (rewards_GN.sum(1, keepdim=True) == 5))

        assert target_order(RLOO(), 6) == target_order(spoiled, 4) == 1
        assert target_order(spoiled, 6) is None

    def test_a_weight_that_falls_or_grows_too_large_has_none(self) -> None:
        assert target_order(lambda rewards_GN: -rewards_GN, 4) is None
        assert target_order(lambda rewards_GN: 5 * rewards_GN, 4) is None
        assert target_order(lambda rewards_GN: 5 * rewards_GN, 5) is None
        assert target_order(lambda rewards_GN: 1e18 * rewards_GN, 4) is None


class TestState:
    def test_of_an_estimator_with_memory(self) -> None:
        p = Fraction(1, 20)
        hybrid = Hybrid(first=RLOO(), then=MaxRL(), steps=200)
        for quantity in (effective_weight, utility, second_moment, advantage_mass):
            assert quantity(hybrid, p, 8) == quantity(RLOO(), p, 8)
            assert quantity(hybrid, p, 8, state={"step": 199}) == quantity(RLOO(), p, 8)
            assert quantity(hybrid, p, 8, state={"step": 200}) == quantity(MaxRL(), p, 8)
        assert target_order(hybrid, 8) == 1
        assert target_order(hybrid, 8, state={"step": 200}) == 7
        assert target_order("adaptive_switch(below=rloo)", 8, state={"above": True}) == 7

    def test_the_reference_of_curve_rl(self) -> None:
        # N = 2, bins ⌊3r̂⌋; only K = 1 counts, with f/F = 2/3 after 0.2 (bin 0), ½, ½ (bin 1): d = ⅔(½, ½).
        state = {"pass_rates": [[0.2], [0.5, 0.5]]}
        assert effective_weight(CurveRL(), Fraction(1, 7), 2, state=state) == Fraction(1, 3)
        assert effective_weight(CurveRL(), Fraction(1, 7), 2) == Fraction(1, 2)

    @pytest.mark.usefixtures("as_users_run_it")
    def test_wrong_states(self) -> None:
        for without in ("maxrl", MaxRL(), Reinforce().__call__):
            with pytest.raises(InputError, match=r"has no memory.*state=\{'step': 1\}: leave it out"):
                effective_weight(without, 0.5, 4, state={"step": 1})
        for wrong in ({"above": True}, {}, [1]):
            with pytest.raises(InputError, match="is no state of estimator 'hybrid'"):
                utility("hybrid", 0.5, 4, state=wrong)  # type: ignore[arg-type]


def whitened(rewards_GN: Tensor) -> Tensor:
    """Centred on the batch, missing rollouts apart."""
    return rewards_GN - rewards_GN.nanmean()


class TestBatch:
    OTHERS = ([[1, 0, 0]], [[1, 1], [0, 1]], [[0, 0, 0, 0, None], [1, 1, None, None, 1]], [[None, None]])

    @pytest.mark.parametrize("others", OTHERS, ids=str)
    @pytest.mark.parametrize("n", [1, 3, 4])
    def test_by_calling_whole_batches(self, n: int, others: list[list[Any]]) -> None:
        """Each group of 0/1 rewards in turn, in one flat batch with the others."""
        flat = [(group, reward) for group, row in enumerate(others, start=1) for reward in row]
        for estimator in (SuccessWeighted(), SuccessWeighted(normalized=True)):
            pairs = []
            for k in range(n + 1):
                rewards = [1.0] * k + [0.0] * (n - k) + [reward for _, reward in flat]
                ids = [0] * n + [group for group, _ in flat]
                advantages = estimator(np.array(rewards, dtype=float), group_ids=ids)[:n].tolist()
                pairs.append((advantages[0] if k else 0.0, advantages[-1] if k < n else 0.0))
            found = analyse(estimator, n, batch=others).pairs
            assert [x for pair in found for x in pair] == pytest.approx([x for pair in pairs for x in pair])

    def test_a_function_sees_the_batch_and_nothing_else(self) -> None:
        # With R rollouts of which M succeed in the others, r − (K + M)/(N + R): d = 1 − 1/(N + R), whatever M.
        assert effective_weight(whitened, 0.3, 4) == pytest.approx(3 / 4, rel=1e-14)
        assert effective_weight(whitened, 0.3, 4, batch=[[1, 0, 0, 1]]) == pytest.approx(7 / 8, rel=1e-14)
        assert effective_weight(whitened, 0.3, 4, batch=[[1, None], [1, 1]]) == pytest.approx(
            6 / 7, rel=1e-14
        )
        assert advantage_mass(whitened, 0.0, 2, batch=[[1, 1]]) == 0.5

    def test_only_who_looks_at_it_is_changed(self) -> None:
        batch = [[1, 0], [0, 0]]
        for estimator in ("maxrl", "grpo", "success_weighted(scope='group')"):
            for quantity in (effective_weight, utility, second_moment, advantage_mass):
                expected = quantity(estimator, 0.2, 5)
                assert quantity(estimator, 0.2, 5, batch=batch) == pytest.approx(expected, rel=1e-12)
        assert target_order("success_weighted", 5) == 5
        assert target_order("success_weighted", 5, batch=batch) is None
        assert isinstance(effective_weight("maxrl", Fraction(1, 2), 4, batch=batch), float)

    def test_together_with_a_state(self) -> None:
        hybrid = Hybrid(first=RLOO(), then=SuccessWeighted())
        assert effective_weight(hybrid, 0.0, 4, batch=[[1, 0, 0, 0]]) == 1.0
        assert effective_weight(hybrid, 0.0, 4, state={"step": 200}, batch=[[1, 0, 0, 0]]) == 4.0

    def test_wrong_batches(self) -> None:
        for wrong in ([1, 0, 0], 1, [], [[[1]]]):
            with pytest.raises(InputError, match="batch holds the rewards of the other groups, one row each"):
                effective_weight("maxrl", 0.5, 4, batch=wrong)
        with pytest.raises(InputError, match="batch cannot be read"):
            effective_weight("maxrl", 0.5, 4, batch=[[1], [1, 0]])
        with pytest.raises(InputError, match="infinite rewards"):
            effective_weight("maxrl", 0.5, 4, batch=[[math.inf, 0]])


def test_the_estimator_is_asked_once_for_each_number_of_successes() -> None:
    asked: list[int] = []

    def counted(rewards_GN: Tensor) -> Tensor:
        asked.append(int(rewards_GN.sum()))
        return rewards_GN

    exact = analyse(counted, 5)
    assert asked == [0, 1, 2, 3, 4, 5]
    exact.utility([0.1, 0.2])
    exact.second_moment(0.5)
    exact.target_order()
    assert (len(asked), exact.n) == (6, 5)
    utility(counted, [0.1, 0.2, 0.3], 5)
    assert len(asked) == 12
