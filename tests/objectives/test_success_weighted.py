"""Reward-weighted regression: the published example, and what it is on 0/1 rewards."""

import math
from itertools import product
from typing import Any

import pytest
import torch

from maxrl.errors import InputError, RewardError
from maxrl.objectives import GRPO, MaxRL, SuccessWeighted

NAN = float("nan")

PUBLISHED = [28.6, 28.0, -4.5, 5.0, 25.1]
"""Rewards of the guide's five samples of code: an iterator, error handling, a syntax error, a type mismatch, a struct."""


def test_the_published_example() -> None:
    # e^8.6 = 5431.66, e^8 = 2980.96, e^5.1 = 164.02: of their sum 8576.64 they are .633, .348, .019.
    weights = (SuccessWeighted(threshold=20.0)([PUBLISHED])[0] / 5).tolist()
    assert [round(weight, 3) for weight in weights] == [0.633, 0.348, 0.0, 0.0, 0.019]
    scores = GRPO(ddof=0, eps=0.0)([PUBLISHED])[0].tolist()
    assert [round(score, 3) for score in scores] == [0.894, 0.850, -1.539, -0.841, 0.636]


def test_the_published_statistics() -> None:
    rewards = torch.tensor([[*PUBLISHED, NAN]])
    found = SuccessWeighted(threshold=20.0).statistics(rewards)
    assert {name: found[name] for name in ("n_correct", "n_total", "correctness_rate")} == {
        "n_correct": 3.0,
        "n_total": 5.0,
        "correctness_rate": 0.6,
    }
    assert found["avg_correct_reward"] == pytest.approx((28.6 + 28.0 + 25.1) / 3, rel=1e-6)
    nothing = SuccessWeighted().statistics(torch.tensor([[NAN, NAN]]))
    assert nothing["n_total"] == 0
    assert math.isnan(nothing["correctness_rate"])
    assert math.isnan(nothing["avg_correct_reward"])


def test_the_loss_is_the_guides() -> None:
    """(1/n) Σ A log π = Σ w log π / Σ w, over the whole batch, without what is missing."""
    rewards = torch.tensor([[21.0, 22.0, 3.0], [NAN, 20.0, 23.5]], dtype=torch.float64)
    logprobs = torch.tensor([[-1.0, -2.0, -3.0], [-4.0, -5.0, -6.0]], dtype=torch.float64)
    weights = {1.0: -1.0, 2.0: -2.0, 3.5: -6.0}  # what is above the threshold of 20, and its log π
    total = sum(math.exp(excess / 2) for excess in weights)
    expected = sum(math.exp(excess / 2) * logprob for excess, logprob in weights.items()) / total
    advantages = SuccessWeighted(threshold=20.0, temperature=2.0)(rewards)
    assert float((advantages * logprobs).sum() / 5) == pytest.approx(expected, rel=1e-12)


def test_normalized_by_hand() -> None:
    # Successes 21, 25: mean 23, standard deviation 2, so e^{−1}, e^{1} over their number 2; times the 4 rollouts.
    advantages = SuccessWeighted(threshold=20.0, normalized=True)([[21.0, 25.0, 4.0, 20.0]])[0].tolist()
    assert advantages == pytest.approx([4 * math.exp(-1) / 2, 4 * math.e / 2, 0.0, 0.0])
    # At temperature 2 the exponents are halved; a spread of nothing counts as 1e-6.
    halved = SuccessWeighted(threshold=20.0, temperature=2.0, normalized=True)([[21.0, 25.0, 4.0, 20.0]])
    assert halved[0, 1].item() == pytest.approx(4 * math.exp(0.5) / 2)
    close = torch.tensor([[0.9, 0.9002]], dtype=torch.float64)
    assert SuccessWeighted(normalized=True)(close)[0].tolist() == pytest.approx([math.exp(-1), math.e])
    assert SuccessWeighted(normalized=True)([[0.9] * 7]).tolist() == [[1.0] * 7]


def test_a_batch_pools_its_groups_and_a_group_does_not() -> None:
    rewards = [[1, 0, 0, 0], [1, 1, 1, 0]]
    assert SuccessWeighted()(rewards).tolist() == [[2.0, 0, 0, 0], [2.0, 2.0, 2.0, 0]]
    alone = SuccessWeighted(scope="group")
    torch.testing.assert_close(alone(rewards), MaxRL(control_variate=False)(rewards))


@pytest.mark.parametrize("scope", ["batch", "group"])
@pytest.mark.parametrize("normalized", [False, True])
@pytest.mark.parametrize("threshold", [-1.0, -0.25, 0.0, 0.5, 1.0, 7.0])
@pytest.mark.parametrize("temperature", [0.5, 3.0])
def test_every_binary_group_gets_the_pair(
    scope: Any, normalized: bool, threshold: float, temperature: float
) -> None:
    estimator = SuccessWeighted(threshold, temperature, normalized, scope)
    for rewards in product([0.0, 1.0], repeat=4):
        success, failure = estimator.binary_advantages(int(sum(rewards)), 4)
        expected = [float(success if reward else failure) for reward in rewards]
        found = estimator(torch.tensor([rewards], dtype=torch.float64))[0].tolist()
        assert found == pytest.approx(expected, rel=1e-12)


def test_large_rewards_do_not_overflow() -> None:
    advantages = SuccessWeighted(threshold=0.0, temperature=0.01)([[9000.0, 8999.99, 10.0]])
    assert advantages[0].tolist() == pytest.approx([3 / (1 + math.exp(-1)), 3 / (1 + math.e), 0.0], abs=2e-2)
    assert SuccessWeighted(threshold=-5e4)([[-4e4, 3e4]]).tolist() == [[0.0, 2.0]]


def test_the_coldest_takes_the_best_alone() -> None:
    assert SuccessWeighted(temperature=1e-6)([[1.0, 0.0, 0.9]]).tolist() == [[3.0, 0.0, 0.0]]


def test_what_is_too_cold_says_so() -> None:
    cold = SuccessWeighted(threshold=-1.0, temperature=0.001, normalized=True)
    with pytest.raises(RewardError, match=r"beyond all numbers at temperature=0.001: raise the temperature"):
        cold([[0.0, 1.0]])
    with pytest.raises(RewardError, match="raise the temperature"):
        cold.binary_advantages(1, 2)


def test_the_order() -> None:
    assert SuccessWeighted(scope="group").target_order(8) == 8
    assert SuccessWeighted().target_order(8) is None
    assert SuccessWeighted(threshold=1.0, scope="group").target_order(8) == 0
    assert SuccessWeighted(threshold=-0.5, scope="group").target_order(8) is None


@pytest.mark.usefixtures("as_users_run_it")
@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"threshold": NAN}, "threshold must be a number, got nan"),
        ({"threshold": "20"}, "threshold must be a number, got '20'"),
        ({"threshold": True}, "threshold must be a number, got True"),
        ({"temperature": 0.0}, "temperature must be a number of at least 1e-6, got 0.0"),
        ({"temperature": math.inf}, "temperature must be a number of at least 1e-6, got inf"),
        ({"temperature": "hot"}, "temperature must be a number of at least 1e-6, got 'hot'"),
        ({"scope": "prompt"}, r"unknown scope 'prompt' \(known: batch, group\)"),
        ({"normalized": 1}, "normalized must be True or False, got 1"),
    ],
)
def test_options_that_cannot_be(options: dict[str, Any], match: str) -> None:
    with pytest.raises(InputError, match=match):
        SuccessWeighted(**options)
