"""slime: rewards of a rollout batch → what its GRPO takes for advantages, by its option for post-processing rewards.

    --custom-reward-post-process-path maxrl.integrations.slime.post_process_rewards
    --advantage-estimator grpo

slime hands over all samples of a batch and takes back two lists of floats, the raw rewards (logged) and the processed ones
(used as they are, for every token). Options come from the environment, since slime's parser knows only its own:

    MAXRL_ESTIMATOR="maxrl(order=16)"     default maxrl
    MAXRL_CORRECTNESS_THRESHOLD=0.5       rewards of at least so much are a success; by default rewards are taken as they are

and that of the process which post-processes: on a Ray cluster that runs already, give them in the job's runtime environment
(`ray job submit --runtime-env-json '{"env_vars": {"MAXRL_ESTIMATOR": "…"}}'`). What is used is logged once.

Tested against the documented signature; slime itself needs Megatron and a GPU.
"""

import functools
import logging
import math
import os
from collections.abc import Sequence
from typing import Any

import torch

from maxrl.errors import InputError
from maxrl.integrations.outcome import checked_threshold, successes
from maxrl.objectives import Estimator, as_estimator

logger = logging.getLogger(__name__)


def post_process_rewards(args: Any, samples: Sequence[Any]) -> tuple[list[float], list[float]]:
    """(raw rewards, advantages), each one float per sample, in the samples' order.

    Args:
        args: slime's; `reward_key` is respected where samples' rewards are mappings.
        samples: each with `reward` (None or NaN: missing, left out of its group) and `group_index`.

    Raises:
        InputError: a sample has no group, or the estimator has memory, which this function cannot keep.
        RewardError: rewards that the estimator is not defined on.
    """
    key = getattr(args, "reward_key", None)
    values = [sample.reward[key] if key else sample.reward for sample in samples]
    raw = [math.nan if value is None else float(value) for value in values]
    groups = [sample.group_index for sample in samples]
    if any(group is None for group in groups):
        raise InputError("samples have no group_index: which of them answer the same prompt is not known")
    name = os.environ.get("MAXRL_ESTIMATOR", "maxrl")
    estimator = as_estimator(name)
    if not isinstance(estimator, Estimator):
        raise InputError(
            f"{estimator.name} has memory, which slime does not keep: choose an estimator without"
        )
    threshold = checked_threshold(os.environ.get("MAXRL_CORRECTNESS_THRESHOLD") or None)
    rewards = successes(torch.tensor(raw, dtype=torch.float64), threshold)
    _say_once(f"{name}, correctness_threshold {threshold}")
    return raw, estimator(rewards, group_ids=groups).tolist()


@functools.cache
def _say_once(what: str) -> None:
    # Whoever set the variables in another process than this one is to see it.
    logger.warning("slime trains with maxrl's %s", what)
