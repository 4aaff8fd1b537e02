"""The mixin in a real tinker-cookbook: its builder, its groups, its own advantages. Run by `make test-integrations`."""

import asyncio
import pickle
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import tinker
import torch
from tests.integrations.batches import BATCHES, batches, expected
from tinker_cookbook.completers import TokensWithLogprobs
from tinker_cookbook.rl.data_processing import compute_advantages
from tinker_cookbook.rl.types import EnvGroupBuilder, Trajectory, TrajectoryGroup, Transition

from maxrl.integrations.tinker import MaxRLRewards


class Builder(EnvGroupBuilder):
    """Rewards its trajectories by their steps, and some more for the group."""

    def __init__(self, extra: Sequence[float] = ()) -> None:
        self.extra = list(extra)

    async def make_envs(self) -> list[Any]:
        return []

    async def compute_group_rewards(
        self, trajectory_group: list[Trajectory], env_group: Sequence[Any]
    ) -> Any:
        return [(reward, {"own": reward}) for reward in self.extra or [0.0] * len(trajectory_group)]


class Ours(MaxRLRewards, Builder):
    """With the mixin before it."""


class Lower(MaxRLRewards, Builder):
    maxrl_estimator = "rloo"


class Graded(MaxRLRewards, Builder):
    maxrl_correctness_threshold = 0.5


def trajectory(*rewards: float) -> Trajectory:
    empty = tinker.ModelInput.empty()
    steps = [
        Transition(
            ob=empty,
            ac=TokensWithLogprobs(tokens=[1], maybe_logprobs=[0.0]),
            reward=reward,
            episode_done=True,
        )
        for reward in rewards
    ]
    return Trajectory(transitions=steps, final_ob=empty)


def advantages(builder: EnvGroupBuilder, trajectories: list[Trajectory]) -> torch.Tensor:
    """By the cookbook: rewards of the group, totals, advantages."""
    rewards = asyncio.run(builder.compute_group_rewards(trajectories, []))
    group = TrajectoryGroup(
        trajectories, [reward for reward, _ in rewards], [metrics for _, metrics in rewards]
    )
    return compute_advantages([group])[0]


@pytest.mark.parametrize(("builder", "name"), [(Ours(), "maxrl"), (Lower(), "rloo")])
def test_on_a_thousand_batches_the_cookbooks_advantages_are_ours(builder: EnvGroupBuilder, name: str) -> None:
    for batch in batches(BATCHES):
        wanted = expected(batch, name)[:, 0]
        for uid in dict.fromkeys(batch.uids.tolist()):
            rows = np.flatnonzero(batch.uids == uid)
            found = advantages(builder, [trajectory(float(batch.rewards_B[row])) for row in rows])
            torch.testing.assert_close(found, wanted[rows], rtol=1e-6, atol=1e-6)


def test_what_the_cookbook_does_itself_and_ours_beside_it() -> None:
    rewards = [trajectory(1.0), trajectory(0.0), trajectory(0.0), trajectory(0.0)]
    assert advantages(Builder(), rewards).tolist() == [0.75, -0.25, -0.25, -0.25]
    assert advantages(Ours(), rewards).tolist() == [3, -1, -1, -1]


def test_a_threshold_makes_successes_of_graded_rewards() -> None:
    rewards = [trajectory(0.75), trajectory(-1.0), trajectory(0.25), trajectory(0.25)]
    assert advantages(Graded(), rewards).tolist() == [3, -1, -1, -1]
    with pytest.raises(Exception, match="correctness_threshold"):
        advantages(Ours(), rewards)


def test_rewards_of_steps_and_of_the_builder_itself_count_and_the_raw_one_is_kept() -> None:
    builder = Ours(extra=[0.5, 0.0])
    trajectories = [trajectory(0.25, 0.25), trajectory(0.0, 0.0)]
    assert advantages(builder, trajectories).tolist() == [1, -1]
    metrics = [metrics for _, metrics in asyncio.run(builder.compute_group_rewards(trajectories, []))]
    assert metrics == [{"own": 0.5, "reward/raw": 1.0}, {"own": 0.0, "reward/raw": 0.0}]


def test_a_builder_with_the_mixin_can_be_sent_to_workers() -> None:
    assert isinstance(pickle.loads(pickle.dumps(Ours())), Ours)
