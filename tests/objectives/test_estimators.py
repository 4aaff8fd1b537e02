"""Values derived by hand, and the edges of each estimator."""

from fractions import Fraction
from typing import Any

import pytest
import torch
from torch import Tensor

from maxrl.errors import InputError, RewardError
from maxrl.objectives import GRPO, RLOO, DrGRPO, Estimator, MaxRL, PowerWeight, Reinforce, TailRL

NAN = float("nan")


def exact(estimator: Estimator, rewards: list[list[Any]], expected: list[list[float]]) -> None:
    assert estimator(torch.tensor(rewards, dtype=torch.float64)).tolist() == expected


class TestMaxRL:
    def test_one_success_of_four(self) -> None:
        # r̂ = 1/4: (1 − 1/4)/(1/4) = 3, (0 − 1/4)/(1/4) = −1. An ε in the divisor would leave 2.99999.
        exact(MaxRL(), [[1, 0, 0, 0]], [[3.0, -1.0, -1.0, -1.0]])
        assert MaxRL()([[1, 0, 0, 0]]).tolist() == [[3.0, -1.0, -1.0, -1.0]]

    @pytest.mark.parametrize("n", [3, 7, 128, 1000, 4096])
    def test_a_lone_success_gets_exactly_the_number_of_failures(self, n: int) -> None:
        # (1 − 1/n)/(1/n) = n − 1, in float32 too, where 1/n itself is not exact.
        assert MaxRL()([[1] + [0] * (n - 1)]).tolist() == [[float(n - 1)] + [-1.0] * (n - 1)]

    def test_several_groups(self) -> None:
        # r̂ = 2/3: (1 − 2/3)/(2/3) = 1/2. All right, all wrong: 0.
        exact(MaxRL(), [[1, 1, 0], [1, 1, 1], [0, 0, 0]], [[0.5, 0.5, -1.0], [0.0] * 3, [0.0] * 3])

    def test_without_success_it_may_penalize(self) -> None:
        exact(MaxRL(no_success="penalize"), [[1, 0], [0, 0], [1, 1]], [[1.0, -1.0], [-1.0, -1.0], [0.0, 0.0]])

    def test_without_control_variate(self) -> None:
        # r/r̂: 1/(1/4) = 4; 1/(1/2) = 2; all right 1; all wrong 0.
        exact(
            MaxRL(control_variate=False),
            [[1, 0, 0, 0], [1, 1, 0, 0], [1, 1, 1, 1], [0, 0, 0, 0]],
            [[4.0, 0.0, 0.0, 0.0], [2.0, 2.0, 0.0, 0.0], [1.0] * 4, [0.0] * 4],
        )

    def test_graded_rewards_take_the_formula_as_it_is(self) -> None:
        # r̂ = (1 + .5 + 0 + .5)/4 = .5: (1 − .5)/.5 = 1, 0, −1, 0; without control variate 2, 1, 0, 1.
        exact(MaxRL(), [[1, 0.5, 0, 0.5]], [[1.0, 0.0, -1.0, 0.0]])
        exact(MaxRL(control_variate=False), [[1, 0.5, 0, 0.5]], [[2.0, 1.0, 0.0, 1.0]])
        # No ceiling at 1: r̂ = 10, (30 − 10)/10 = 2.
        exact(MaxRL(), [[30, 0, 0]], [[2.0, -1.0, -1.0]])

    def test_one_rollout(self) -> None:
        # (r − r)/r = 0 as published, w_0. The others are REINFORCE then, w_1.
        exact(MaxRL(), [[1], [0], [0.3]], [[0.0], [0.0], [0.0]])
        exact(MaxRL(no_success="penalize"), [[1], [0]], [[0.0], [-1.0]])
        exact(MaxRL(control_variate=False), [[1], [0]], [[1.0], [0.0]])

    def test_missing_rollouts_leave_the_mean(self) -> None:
        # Two of three there: r̂ = 1/2, not 1/3. One there: nothing to compare it with. None there: nothing.
        exact(MaxRL(), [[1, NAN, 0], [1, NAN, NAN], [NAN] * 3], [[1.0, 0.0, -1.0], [0.0] * 3, [0.0] * 3])
        exact(MaxRL(no_success="penalize"), [[0, NAN, 0], [NAN] * 3], [[-1.0, 0.0, -1.0], [0.0] * 3])

    @pytest.mark.parametrize(
        "estimator", [MaxRL(), MaxRL(no_success="penalize"), MaxRL(control_variate=False)], ids=repr
    )
    def test_negative_rewards_are_refused_with_the_remedies(self, estimator: MaxRL) -> None:
        with pytest.raises(RewardError) as caught:
            estimator([[1.0, -1.5, 0.0]])
        message = str(caught.value)
        for part in ("-1.5", "correctness_threshold=τ", "[0, 1]", "grpo", "rloo", "dr_grpo"):
            assert part in message
        with pytest.raises(RewardError, match="negative"):
            estimator([1.0, -1e-9], group_ids=[0, 1])

    def test_a_masked_negative_reward_is_not_there(self) -> None:
        assert MaxRL()([[1.0, -1.0, 0.0]], [[True, False, True]]).tolist() == [[1.0, 0.0, -1.0]]
        assert MaxRL()([[1.0, -0.0]]).tolist() == [[1.0, -1.0]]  # minus zero is not negative

    @pytest.mark.usefixtures("as_users_run_it")
    def test_wrong_options_are_refused(self) -> None:
        with pytest.raises(InputError, match=r"unknown no_success 'penalise'; did you mean 'penalize'\?"):
            MaxRL(no_success="penalise")  # type: ignore[arg-type]
        with pytest.raises(InputError, match="control_variate must be True or False"):
            MaxRL(control_variate="no")  # type: ignore[arg-type]
        with pytest.raises(InputError, match="cannot go with control_variate=False"):
            MaxRL(no_success="penalize", control_variate=False)

    def test_orders_and_formulas(self) -> None:
        assert MaxRL().target_order(8) == 7
        assert MaxRL(no_success="penalize").target_order(8) == 8
        assert MaxRL(control_variate=False).target_order(8) == 8
        assert MaxRL().formula == "(r − r̂) / r̂, 0 when K = 0"
        assert MaxRL(no_success="penalize").formula == "(r − r̂) / r̂, −1 when K = 0"
        assert MaxRL(control_variate=False).formula == "r / r̂, 0 when K = 0"


class TestGRPO:
    def test_by_hand(self) -> None:
        # [1,0,0,0]: r̂ = 1/4, Σ(r − r̂)² = 9/16 + 3/16 = 3/4.
        # ddof 1: σ̂ = √(.75/3) = .5: .75/.5 = 1.5, −.25/.5 = −.5. ddof 0: σ̂ = √(.75/4) = √3/4: √3, −1/√3.
        exact(GRPO(eps=0.0), [[1, 0, 0, 0]], [[1.5, -0.5, -0.5, -0.5]])
        got = GRPO(ddof=0, eps=0.0)(torch.tensor([[1, 0, 0, 0]]).double())
        assert got[0].tolist() == pytest.approx([3**0.5, *[-(3**-0.5)] * 3], rel=1e-15)

    def test_eps_stands_beside_the_deviation(self) -> None:
        # .75/(.5 + .25) = 1, −.25/.75 = −1/3; the default: .75/.5001.
        got = GRPO(eps=0.25)(torch.tensor([[1, 0, 0, 0]]).double())
        assert got[0].tolist() == pytest.approx([1.0, *[-1 / 3] * 3], rel=1e-15)
        assert GRPO()(torch.tensor([[1, 0, 0, 0]]).double())[0, 0].item() == pytest.approx(
            0.75 / 0.5001, rel=1e-15
        )

    def test_a_lone_success_of_128_loses_what_eps_takes(self) -> None:
        # σ̂ = √(1/128·127/128·128/127) = 1/√128 = .0884 against ε = 1e-4: .11 %.
        full, taken = (GRPO(eps=e)([[1.0] + [0.0] * 127])[0, 0].item() for e in (0.0, 1e-4))
        assert 1 - taken / full == pytest.approx(1e-4 / (128**-0.5 + 1e-4), rel=1e-3)

    def test_real_rewards(self) -> None:
        # [3, −1, 1]: r̂ = 1, σ̂ = √((4 + 4)/2) = 2: 1, −1, 0.
        exact(GRPO(eps=0.0), [[3, -1, 1]], [[1.0, -1.0, 0.0]])

    def test_groups_without_spread(self) -> None:
        exact(GRPO(), [[1, 1, 1], [0, 0, 0], [1, NAN, NAN], [NAN] * 3], [[0.0] * 3] * 4)
        exact(GRPO(eps=0.0), [[0.1, 0.1, 0.1], [0.1, NAN, 0.1], [1, NAN, NAN]], [[0.0] * 3] * 3)
        exact(GRPO(ddof=0), [[1, NAN, NAN]], [[0.0] * 3])

    @pytest.mark.usefixtures("as_users_run_it")
    @pytest.mark.parametrize("options", [{"ddof": 2}, {"ddof": True}, {"ddof": "1"}])
    def test_wrong_ddof(self, options: dict[str, Any]) -> None:
        with pytest.raises(InputError, match="ddof must be 0 or 1"):
            GRPO(**options)

    @pytest.mark.usefixtures("as_users_run_it")
    @pytest.mark.parametrize("eps", [-1e-6, NAN, float("inf"), "1e-4", None])
    def test_wrong_eps(self, eps: Any) -> None:
        with pytest.raises(InputError, match="eps must be a number of at least 0"):
            GRPO(eps=eps)

    def test_order_and_formula(self) -> None:
        assert GRPO().target_order(8) is None
        assert GRPO().formula == "(r − r̂) / (σ̂ + 0.0001), σ̂ with divisor N − 1"


def trl_1_16(rewards_R: Tensor, num_generations: int) -> Tensor:
    """TRL 1.16's operations, in its order (sum_then_normalize, scale_rewards="group"), restated."""
    grouped = rewards_R.view(-1, num_generations)
    mean = torch.nanmean(grouped, dim=1).repeat_interleave(num_generations, dim=0)
    kept_mean = torch.nanmean(grouped, dim=1, keepdim=True)
    variance = torch.nanmean((grouped - kept_mean) ** 2, dim=1, keepdim=True)
    valid = torch.sum(~torch.isnan(grouped), dim=1, keepdim=True)
    correction = valid / (valid - 1)
    variance *= torch.where(valid > 1, correction, torch.full_like(correction, NAN))
    std = torch.sqrt(variance).squeeze(1).repeat_interleave(num_generations, dim=0)
    return torch.nan_to_num((rewards_R - mean) / (std + 1e-4), nan=0.0)


@pytest.mark.parametrize("n", [2, 3, 4, 7, 8, 16, 31, 64, 128, 300])
@pytest.mark.parametrize("kind", ["binary", "graded", "real", "tenths"])
def test_grpo_is_trl_to_the_bit(n: int, kind: str) -> None:
    source = torch.Generator().manual_seed(n)
    uniform = torch.rand(64, n, generator=source)
    rewards = {
        "binary": (uniform < torch.linspace(0, 1, 64)[:, None]).float(),
        "graded": uniform,
        "real": 40 * uniform - 17,
        "tenths": (uniform * 2).floor() / 10,  # groups whose mean is not a float
    }[kind]
    rewards[0] = 0.1
    missing = torch.rand(64, n, generator=source) < 0.2
    missing[1, :] = True
    missing[2, :] = torch.arange(n) > 0  # a single rollout left
    for given in (rewards, rewards.masked_fill(missing, NAN)):
        expected = trl_1_16(given.flatten(), n).view(64, n)
        assert torch.equal(GRPO()(given), expected)
        ids = torch.arange(64).repeat_interleave(n)
        assert torch.equal(GRPO()(given.flatten(), group_ids=ids).view(64, n), expected)


class TestLinearEstimators:
    def test_rloo(self) -> None:
        # Against the mean of the others: 1 − 0 = 1, 0 − 1/3. [3, −1, 1]: 3 − 0, −1 − 2, 1 − 1.
        exact(RLOO(), [[1, 0, 0, 0]], [[1.0, -1 / 3, -1 / 3, -1 / 3]])
        exact(RLOO(), [[3, -1, 1]], [[3.0, -3.0, 0.0]])

    def test_dr_grpo(self) -> None:
        exact(DrGRPO(), [[1, 0, 0, 0], [1, 1, 0, 0]], [[0.75, -0.25, -0.25, -0.25], [0.5, 0.5, -0.5, -0.5]])
        exact(DrGRPO(), [[3, -1, 1]], [[2.0, -2.0, 0.0]])

    def test_reinforce(self) -> None:
        exact(Reinforce(), [[1, 0, NAN], [-2, 0.5, 3]], [[1.0, 0.0, 0.0], [-2.0, 0.5, 3.0]])

    def test_one_rollout(self) -> None:
        exact(RLOO(), [[5], [0]], [[0.0], [0.0]])
        exact(DrGRPO(), [[5], [0]], [[0.0], [0.0]])
        exact(Reinforce(), [[5], [0]], [[5.0], [0.0]])

    def test_missing_rollouts(self) -> None:
        # Three of four there: others' means 0, 1/2, 1/2; r̂ = 1/3.
        exact(RLOO(), [[1, 0, NAN, 0], [NAN, 1, NAN, NAN]], [[1.0, -0.5, 0.0, -0.5], [0.0] * 4])
        exact(DrGRPO(), [[1, 0, NAN, 0]], [[2 / 3, -1 / 3, 0.0, -1 / 3]])

    def test_orders_and_formulas(self) -> None:
        assert [RLOO().target_order(n) for n in (1, 2, 8)] == [0, 1, 1]
        assert [Reinforce().target_order(n) for n in (1, 8)] == [1, 1]
        assert DrGRPO().target_order(8) is None
        assert (RLOO().formula, DrGRPO().formula, Reinforce().formula) == ("N/(N−1) · (r − r̂)", "r − r̂", "r")


@pytest.mark.parametrize("estimator", [MaxRL(), RLOO(), DrGRPO(), GRPO()], ids=repr)
def test_what_the_dtype_cannot_hold_is_said(estimator: Estimator) -> None:
    # Finite rewards whose float32 sum is not: without the check they would come back as NaN.
    with pytest.raises(RewardError, match=r"torch\.float32 cannot hold; rescale"):
        estimator([[3e38, 3e38, 3e38, 0.0]])


class TestBinaryAdvantages:
    def test_values(self) -> None:
        assert MaxRL().binary_advantages(1, 4) == (3, -1)
        assert MaxRL(control_variate=False).binary_advantages(3, 4) == (Fraction(4, 3), 0)
        assert RLOO().binary_advantages(1, 4) == (1, Fraction(-1, 3))
        assert DrGRPO().binary_advantages(1, 4) == (Fraction(3, 4), Fraction(-1, 4))
        assert Reinforce().binary_advantages(1, 4) == (1, 0)
        assert GRPO(eps=0.0).binary_advantages(1, 4) == (1.5, -0.5)

    def test_the_entry_of_an_absent_kind_is_zero(self) -> None:
        assert MaxRL(no_success="penalize").binary_advantages(0, 4) == (0, -1)
        assert Reinforce().binary_advantages(0, 4) == (0, 0)
        assert MaxRL().binary_advantages(4, 4) == (0, 0)

    @pytest.mark.usefixtures("as_users_run_it")
    @pytest.mark.parametrize(("k", "n"), [(-1, 4), (5, 4), (0, 0), (1.0, 4), (1, 4.0), (True, 4)])
    def test_impossible_counts_are_refused(self, k: Any, n: Any) -> None:
        with pytest.raises(InputError):
            MaxRL().binary_advantages(k, n)


class TestPowerWeight:
    def test_only_groups_with_success_have_a_mean_to_divide_by(self) -> None:
        exact(
            PowerWeight(q=0.5),
            [[1, 0, 0, 0], [0, 0, 0, 0], [1, 1, 1, 1]],
            [[1.5, -0.5, -0.5, -0.5], [0.0] * 4, [0.0] * 4],
        )

    def test_what_it_is_not_defined_on(self) -> None:
        with pytest.raises(
            RewardError, match=r"negative rewards \(got -1\): .*correctness_threshold.*tail_rl"
        ):
            PowerWeight()([[1.0, -1.0]])
        for q in (-0.1, 1.5, NAN):
            with pytest.raises(InputError, match=r"q must be a number from 0 \(plain RL\) to 1"):
                PowerWeight(q=q)

    def test_an_order_only_where_it_is_maxrl(self) -> None:
        assert [PowerWeight(q=1.0).target_order(n) for n in (1, 2, 8)] == [0, 1, 7]
        assert PowerWeight().target_order(8) is None


class TestTailRL:
    def test_by_hand(self) -> None:
        # Gaps 1 and 2 above the lowest, of which 2 and 1 rollouts have more: 3·(1/2), 3·(1/2 + 2/1), less the mean of 3.
        exact(TailRL(), [[0.0, 1.0, 3.0], [3.0, 0.0, 1.0]], [[-3.0, -1.5, 4.5], [4.5, -3.0, -1.5]])

    def test_binary_rewards_make_it_maxrl_and_two_rollouts_rloo(self) -> None:
        rewards = [[1, 0, 0, 1, 0, 0, 0], [0] * 7, [1] * 7]
        assert torch.equal(TailRL()(rewards), MaxRL()(rewards))
        assert torch.equal(TailRL()([[-2.5, 4.0]]), RLOO()([[-2.5, 4.0]]))

    def test_a_shift_changes_nothing_and_a_scale_scales(self) -> None:
        rewards = torch.tensor([[0.5, -1.0, 2.0, 2.0, 0.25]])
        torch.testing.assert_close(TailRL()(rewards + 7), TailRL()(rewards))
        torch.testing.assert_close(TailRL()(rewards * 3), TailRL()(rewards) * 3)
