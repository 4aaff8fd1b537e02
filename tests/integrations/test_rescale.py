"""The reward that an engine's centring turns into our advantage, checked against what engines do."""

import numpy as np
import pytest
import torch
from tests.integrations.batches import BATCHES, batches, expected

from maxrl.errors import InputError, RewardError
from maxrl.integrations.rescale import rescaled_rewards

CENTRED = ("maxrl", "rloo", "grpo", "dr_grpo", "tail_rl", "power_weight")


def centre(rewards: torch.Tensor, uids: np.ndarray) -> torch.Tensor:
    """What such an engine does: each reward less the mean of its prompt."""
    result = rewards.clone()
    for uid in dict.fromkeys(uids.tolist()):
        rows = torch.tensor(np.flatnonzero(uids == uid))
        result[rows] -= rewards[rows].mean()
    return result


def test_on_a_thousand_batches_centring_gives_the_advantage() -> None:
    for count, batch in enumerate(batches(BATCHES)):
        name = CENTRED[count % len(CENTRED)]
        rescaled = rescaled_rewards(batch.rewards_B, batch.uids, estimator=name)
        found = centre(rescaled.double(), batch.uids).float()
        wanted = expected(batch, name)[:, 0]  # the first token is always one of the response
        torch.testing.assert_close(found, wanted, rtol=1e-6, atol=1e-6)


def test_for_maxrl_it_is_the_reward_in_units_of_the_groups_mean() -> None:
    rewards = [[1.0, 0.0, 0.0, 0.0], [0.5, 0.25, 0.25, 0.0], [0.0] * 4, [1.0] * 4]
    found = rescaled_rewards(rewards)
    assert found[0].tolist() == [4, 0, 0, 0]
    assert found[1].tolist() == [2, 1, 1, 0]
    assert found[2].tolist() == [0] * 4
    assert found[3].tolist() == [1] * 4  # what an engine logs does not fall as prompts are mastered


def test_it_reaches_n_and_a_clip_below_that_cuts_the_rarest_success() -> None:
    rewards = np.zeros((1, 128))
    rewards[0, 0] = 1
    assert rescaled_rewards(rewards).max() == 128
    clipped = rescaled_rewards(rewards).clamp(-10, 10)
    assert (clipped - clipped.mean()).max() < 10 < 127


def test_a_missing_rollout_is_left_out_of_its_group() -> None:
    assert rescaled_rewards([[1.0, 0.0, None]])[0].tolist() == [2, 0, 0]


@pytest.mark.parametrize("name", ["reinforce", "maxrl(control_variate=False)", "maxrl(order=2)"])
@pytest.mark.parametrize("rewards", [[1.0, 0.0, 0.0], [0.0] * 3, [1.0] * 3, [1e-5, 2e-5, 0.0]])
def test_advantages_that_centring_would_change_are_refused_whatever_the_batch(
    name: str, rewards: list[float]
) -> None:
    with pytest.raises(InputError, match="do not sum to zero"):
        rescaled_rewards([rewards], estimator=name)


def test_what_cannot_be_a_function_of_rewards_is_refused() -> None:
    with pytest.raises(InputError, match="has memory"):
        rescaled_rewards([[1.0, 0.0]], estimator="hybrid(steps=1)")
    with pytest.raises(RewardError):
        rescaled_rewards([[1.0, -1.0, 0.0, 0.0]])
    assert rescaled_rewards([[]]).shape == (1, 0)
