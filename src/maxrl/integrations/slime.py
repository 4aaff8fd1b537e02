"""slime: rewards of a rollout batch → what its GRPO takes for advantages, by its option for post-processing rewards.

    --custom-reward-post-process-path maxrl.integrations.slime.post_process_rewards
    --advantage-estimator grpo

slime hands over all samples of a batch and takes back two lists of floats, the raw rewards (logged) and the processed ones
(used as they are, for every token). Options come from the environment, since slime's parser knows only its own:

    MAXRL_ESTIMATOR="maxrl(order=16)"     default maxrl
    MAXRL_CORRECTNESS_THRESHOLD=0.5       rewards of at least so much are a success; by default rewards are taken as they are

Tested against the documented signature; slime itself needs Megatron and a GPU.
"""

import os
from collections.abc import Sequence
from typing import Any

import torch

from maxrl.errors import InputError
from maxrl.objectives import Estimator, as_estimator


def post_process_rewards(args: Any, samples: Sequence[Any]) -> tuple[list[float], list[float]]:
    """(raw rewards, advantages), each one float per sample, in the samples' order.

    Args:
        args: slime's; `reward_key` is respected where samples' rewards are mappings.
        samples: each with `reward` and `group_index`, by which groups are formed.

    Raises:
        InputError: a sample has no group, or the estimator has memory, which this function cannot keep.
        RewardError: rewards that the estimator is not defined on.
    """
    key = getattr(args, "reward_key", None)
    raw = [float(sample.reward[key] if key else sample.reward) for sample in samples]
    groups = [sample.group_index for sample in samples]
    if any(group is None for group in groups):
        raise InputError("samples have no group_index: which of them answer the same prompt is not known")
    estimator = as_estimator(os.environ.get("MAXRL_ESTIMATOR", "maxrl"))
    if not isinstance(estimator, Estimator):
        raise InputError(
            f"{estimator.name} has memory, which slime does not keep: choose an estimator without"
        )
    rewards = torch.tensor(raw, dtype=torch.float64)
    if threshold := os.environ.get("MAXRL_CORRECTNESS_THRESHOLD"):
        rewards = (rewards >= float(threshold)).double()
    return raw, estimator(rewards, group_ids=groups).tolist()
