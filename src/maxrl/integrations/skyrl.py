"""SkyRL: our estimators under names that SkyRL leaves free, registered by a helper or by a main script of our own.

    python -m maxrl.integrations.skyrl trainer.algorithm.advantage_estimator=maxrl/maxrl …

is `python -m skyrl.train.entrypoints.main_base` with the estimators registered where it needs them: in the
driver, and by SkyRL's registry in the Ray task that trains. In an entry point of one's own call `register()` after Ray was
started. SkyRL has a `maxrl` of its own, which adds ε to the mean, takes a lone rollout's reward for its advantage, and
divides by negative means; ours are

    maxrl/NAME      for every estimator of `maxrl.objectives` without memory; options stand in the name,
                    maxrl/maxrl(order=16, correctness_threshold=0.5), which the main script registers as it is asked
                    for, and `register("maxrl(order=16)")` elsewhere

Tested with SkyRL 0.3.0.
"""

import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from torch import Tensor

from maxrl.integrations.outcome import OutcomeAdvantage
from maxrl.objectives import ESTIMATORS, Estimator

PREFIX = "maxrl/"


def compute_advantage(
    name: str, token_level_rewards: Tensor, response_mask: Tensor, index: Any, **_: Any
) -> tuple[Tensor, Tensor]:
    """An estimator as SkyRL calls it: (advantages, returns), both (rollouts, tokens); `index` has the prompts' ids."""
    advantages = OutcomeAdvantage(name)(token_level_rewards, response_mask, index)
    return advantages, advantages


def functions(*names: str) -> dict[str, Callable[..., tuple[Tensor, Tensor]]]:
    """Name in SkyRL → function, for every estimator without memory, or those that are named."""
    for name in names:
        OutcomeAdvantage(name)  # a mistake is to be seen here, not in the first step
    return {f"{PREFIX}{name}": partial(compute_advantage, name) for name in names or _WITHOUT_MEMORY}


_WITHOUT_MEMORY = tuple(name for name, kind in ESTIMATORS.items() if issubclass(kind, Estimator))


def register(*names: str) -> list[str]:
    """Register estimators with SkyRL (all without memory, or those named, with options); the names they have there.

    Raises:
        InputError: there is no such estimator or option.

    Where Ray runs already, SkyRL hands them to all of its processes; these need maxrl installed.
    """
    from skyrl.backends.skyrl_train.utils.ppo_utils import AdvantageEstimatorRegistry

    wanted = functions(*names)
    known = set(AdvantageEstimatorRegistry.list_available())
    for name, function in wanted.items():
        if name not in known:
            AdvantageEstimatorRegistry.register(name, function)
    return list(wanted)


def main(words: Sequence[str]) -> None:
    """SkyRL's own training, with our estimators; one with options is registered as it is asked for.

    Args:
        words: as of `skyrl.train.entrypoints.main_base`.
    """
    import ray
    from skyrl.backends.skyrl_train.utils.ppo_utils import AdvantageEstimatorRegistry
    from skyrl.train.config import SkyRLTrainConfig
    from skyrl.train.entrypoints.main_base import skyrl_entrypoint
    from skyrl.train.utils.utils import initialize_ray, validate_cfg

    register()
    asked = [word.partition("=")[2] for word in words if word.startswith(_OPTION)]
    register(*(name.removeprefix(PREFIX) for name in asked if name.startswith(PREFIX)))
    cfg = SkyRLTrainConfig.from_cli_overrides(list(words))
    validate_cfg(cfg)
    initialize_ray(cfg)
    AdvantageEstimatorRegistry.sync_with_actor()  # what was registered before there was Ray
    ray.get(skyrl_entrypoint.remote(cfg))


_OPTION = "trainer.algorithm.advantage_estimator="

if __name__ == "__main__":
    main(sys.argv[1:])
